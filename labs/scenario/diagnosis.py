"""Which layer broke: asked from the target back to the operator, the first bad answer is the diagnosis."""

from __future__ import annotations

from ipaddress import IPv4Address

from labs.controlplanes import ListedPeer, Machine
from labs.lab import Lab
from labs.results import Diagnosis, Layer
from labs.scenario.probe import fetch


def why_unreachable(lab: Lab, source: Machine, target: Machine, address: IPv4Address) -> Diagnosis:
    """Why `source` gets no answer from `address` of `target`."""
    own = fetch(lab.engine, lab.clock, target, address)
    if not own.reached:
        return Diagnosis(layer=Layer.TARGET, seen=f"{target.name} does not answer on its own network: {own.why}")
    listed = lab.control_plane.listed()
    if offline := [peer.name for peer in listed if not peer.online]:
        return Diagnosis(layer=Layer.CONTROL_PLANE, seen=f"not connected: {', '.join(offline)}")
    router = _router(listed, address)
    if router is None:
        return Diagnosis(layer=Layer.CONTROL_PLANE, seen=f"no peer serves a route to {address}")
    status = lab.control_plane.status(source)
    if not any(address in route for route in status.routes):
        return Diagnosis(layer=Layer.ROUTE, seen=f"{source.name} has no route to {address}")
    if not _pings(lab, source, router):
        return Diagnosis(layer=Layer.TUNNEL, seen=f"{source.name} gets no ping from {router.name} ({router.address})")
    return Diagnosis(layer=Layer.FIREWALL, seen=f"route and tunnel to {router.name} are there; something drops packets")


def why_reachable(lab: Lab, source: Machine, address: IPv4Address) -> Diagnosis:
    """Why `source` still reaches `address` though it should not."""
    router = _router(lab.control_plane.listed(), address)
    if router is not None:
        return Diagnosis(layer=Layer.CONTROL_PLANE, seen=f"{router.name} still serves a route to {address}")
    if any(address in route for route in lab.control_plane.status(source).routes):
        return Diagnosis(layer=Layer.ROUTE, seen=f"{source.name} still has a route to {address}")
    return Diagnosis(layer=Layer.FIREWALL, seen="no route is offered, yet packets pass: a path outside the overlay")


def _router(listed: tuple[ListedPeer, ...], address: IPv4Address) -> ListedPeer | None:
    return next((peer for peer in listed if any(address in route for route in peer.routes)), None)


def _pings(lab: Lab, source: Machine, router: ListedPeer) -> bool:
    return lab.engine.exec(source.container_id, ["ping", "-c", "1", "-W", "2", str(router.address)]).ok
