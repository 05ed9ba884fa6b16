"""Which layer broke: asked from the target back to the operator, the first bad answer is the diagnosis."""

from __future__ import annotations

from ipaddress import IPv4Address

from labs.controlplanes import ListedPeer, Machine, Path
from labs.lab import Lab
from labs.lab.lab import WEB
from labs.model import Role
from labs.results import Diagnosis, Layer
from labs.scenario.probe import Probe


class StepFailed(Exception):
    """The product did not do what the file says."""

    def __init__(self, diagnosis: Diagnosis, evidence: tuple[str, ...] = ()) -> None:
        super().__init__(diagnosis.seen)
        self.diagnosis = diagnosis
        self.evidence = evidence


def server_of(lab: Lab, target: str) -> Machine:
    """The container whose web server answers for a peer or host: a peer's runs beside its client."""
    member = lab.member(target)
    return lab.machine(f"{target}{WEB}") if member.role is Role.PEER else member.machine


def why_unreachable(lab: Lab, source: Machine, target: str, probe: Probe) -> Diagnosis:
    """Why `source` gets no answer from `target`."""
    member = lab.member(target)
    at_home = Probe(IPv4Address("127.0.0.1"), probe.by, probe.port) if member.role is Role.PEER else probe
    if probe.by != "ping":
        own = at_home.attempt(lab.engine, lab.clock, server_of(lab, target))
        if not own.reached:
            return _found(Layer.TARGET, f"{target} does not answer itself: {own.why}")
    listed = lab.control_plane.listed()
    if member.role is Role.PEER:
        return _why_peer_unreachable(lab, source, member.machine, probe, listed)
    return _why_host_unreachable(lab, source, probe, listed)


def _why_host_unreachable(lab: Lab, source: Machine, probe: Probe, listed: tuple[ListedPeer, ...]) -> Diagnosis:
    router = _router(listed, probe.address)
    if offline := _offline(listed, source.name, *([router.name] if router else ())):
        return _found(Layer.CONTROL_PLANE, f"not connected: {offline}")
    if router is None:
        return _found(Layer.CONTROL_PLANE, f"no peer serves a route to {probe.address}")
    if not any(probe.address in route for route in lab.control_plane.status(source).routes):
        return _found(Layer.ROUTE, f"{source.name} has no route to {probe.address}")
    if router.name in lab.members and not _tunnel(lab, source, lab.machine(router.name)):
        return _found(Layer.TUNNEL, f"{source.name} gets no answer from {router.name} ({router.address})")
    return _found(Layer.FIREWALL, f"route and tunnel to {router.name} are there; something drops packets")


def _why_peer_unreachable(
    lab: Lab, source: Machine, target: Machine, probe: Probe, listed: tuple[ListedPeer, ...]
) -> Diagnosis:
    if probe.address not in {peer.address for peer in listed}:
        return _found(Layer.CONTROL_PLANE, f"{target.name} is not listed")
    if offline := _offline(listed, source.name, target.name):
        return _found(Layer.CONTROL_PLANE, f"not connected: {offline}")
    if probe.address not in lab.control_plane.status(source).knows:
        return _found(Layer.POLICY, f"{source.name} is not told of {target.name}: no rule links them")
    if not _tunnel(lab, source, target):
        return _found(Layer.TUNNEL, f"{source.name} has no tunnel to {target.name} ({probe.address})")
    return _found(Layer.POLICY, f"the tunnel to {target.name} is there; no rule admits {probe.by} on port {probe.port}")


def why_reachable(lab: Lab, source: Machine, target: str, address: IPv4Address) -> Diagnosis:
    """Why `source` still reaches `address` of `target` though it should not."""
    listed = lab.control_plane.listed()
    if lab.member(target).role is Role.PEER:
        return _found(Layer.POLICY, f"a rule still admits {source.name} to {target}")
    router = _router(listed, address)
    if router is not None:
        return _found(Layer.CONTROL_PLANE, f"{router.name} still serves a route to {address}")
    if any(address in route for route in lab.control_plane.status(source).routes):
        return _found(Layer.ROUTE, f"{source.name} still has a route to {address}")
    return _found(Layer.FIREWALL, "no route is offered, yet packets pass: a path outside the overlay")


def why_name(lab: Lab, name: str, address: IPv4Address | None, why: str, wanted: str) -> Diagnosis:
    """Why a name does not mean what it should. Docker's own resolver answers with addresses of container networks."""
    if address is None:
        return _found(Layer.NAME, f"{name} means nothing: {why}")
    owners = [
        m.name for m in lab.members.values() if address in m.machine.addresses.values() and m.role is not Role.HOST
    ]
    if owners:
        seen = f"{name} means {address}, where {owners[0]} stands on a container network: the overlay did not answer"
        return _found(Layer.DOCKER_NAME, seen)
    return _found(Layer.NAME, f"{name} means {address}, not {wanted}")


def _router(listed: tuple[ListedPeer, ...], address: IPv4Address) -> ListedPeer | None:
    """Whoever serves the most specific route to an address; one that is online before one that is not."""
    serving = [
        (route.prefixlen, peer.online, peer.id, peer) for peer in listed for route in peer.routes if address in route
    ]
    return max(serving, default=(0, False, "", None))[3]


def _offline(listed: tuple[ListedPeer, ...], *names: str) -> str:
    return ", ".join(peer.name for peer in listed if peer.name in names and not peer.online)


def _tunnel(lab: Lab, source: Machine, target: Machine) -> bool:
    """Asked of the client: a policy that drops pings would hide a tunnel that is there."""
    return lab.control_plane.path(source, target) is not Path.NONE


def _found(layer: Layer, seen: str) -> Diagnosis:
    return Diagnosis(layer=layer, seen=seen)
