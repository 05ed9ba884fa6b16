"""The stock Tailscale client in a container: how it is started, asked and told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labs.controlplanes.base import Context, Machine, Path, PeerStatus
from labs.model import Container, Peer
from labs.timing import DAEMON_READY_S, JOIN_S

KEY_PATH = "/run/mesh-labs/auth-key"
_SOCKET = "/var/run/tailscale/tailscaled.sock"
_HTTP_DERP = "TS_DEBUG_USE_DERP_HTTP"


def container(peer: Peer, image: str, *, plain_http: bool) -> Container:
    # Where the lab's relay speaks plain HTTP, the stock client would insist on TLS.
    relay = {_HTTP_DERP: "true"} if plain_http else {}
    return Container(
        name=peer.name,
        image=image,
        entrypoint=("tailscaled",),
        command=("--tun=tailscale0", "--statedir=/var/lib/tailscale", "--no-logs-no-support"),
        environment={
            **relay,
            # The choice between iptables and nftables must not depend on the host.
            "TS_DEBUG_FIREWALL_MODE": "nftables",
        },
        cap_drop=("ALL",),
        cap_add=("NET_ADMIN", "NET_RAW"),
        devices=("/dev/net/tun",),
        security_opt=("no-new-privileges",),
        # Docker mounts /proc/sys read-only, so what a router needs is set from outside, on every peer alike.
        sysctls={
            "net.ipv4.ip_forward": "1",
            "net.ipv6.conf.all.disable_ipv6": "0",
            "net.ipv6.conf.all.forwarding": "1",
        },
    )


# `up` keeps the settings there are only when it is given no flag at all, not even its own time limit.
RECONNECT = (("tailscale", "down"), ("timeout", f"{JOIN_S:.0f}", "tailscale", "up"))


def wait_for_daemon(context: Context, machine: Machine) -> None:
    context.wait_inside(machine, f"[ -S {_SOCKET} ]", what="tailscaled's socket", timeout_s=DAEMON_READY_S)


def up(login_server: str, hostname: str, timeout_s: float) -> list[str]:
    return [
        "tailscale",
        "up",
        f"--login-server={login_server}",
        f"--auth-key=file:{KEY_PATH}",
        f"--hostname={hostname}",
        f"--timeout={timeout_s:g}s",
    ]


def sign_in(context: Context, machine: Machine, login_server: str, hostname: str, timeout_s: float) -> list[str]:
    """`up` without a key. It wants every setting repeated that is not the default, and asks anew only when told to."""
    argv = [
        "tailscale",
        "up",
        f"--login-server={login_server}",
        f"--hostname={hostname}",
        f"--timeout={timeout_s:g}s",
        "--force-reauth",
    ]
    if accepts_routes(context, machine):
        argv.append("--accept-routes")
    if offered := advertised(context, machine):
        argv.append("--advertise-routes=" + ",".join(map(str, sorted(offered))))
    return argv


def advertise(prefixes: Iterable[IPv4Network]) -> list[str]:
    return ["tailscale", "set", "--advertise-routes=" + ",".join(str(prefix) for prefix in sorted(prefixes))]


def accept_routes() -> list[str]:
    return ["tailscale", "set", "--accept-routes"]


def advertise_exit(offered: bool) -> list[str]:
    return ["tailscale", "set", f"--advertise-exit-node={str(offered).lower()}"]


def choose_exit(address: str, *, lan_access: bool) -> list[str]:
    """An empty address leaves the exit."""
    access = f"--exit-node-allow-lan-access={str(lan_access).lower()}"
    return ["tailscale", "set", f"--exit-node={address}", access]


def exit_offered(context: Context, machine: Machine, address: IPv4Address) -> bool:
    peers = (_status(context, machine).get("Peer") or {}).values()
    return any(peer.get("ExitNodeOption") and str(address) in peer["TailscaleIPs"] for peer in peers)


def path(context: Context, machine: Machine, address: IPv4Address) -> Path:
    """One disco ping: it goes the way that data would go."""
    argv = ["tailscale", "ping", "--c=1", "--timeout=2s", "--until-direct=false", str(address)]
    result = context.engine.exec(machine.container_id, argv)
    if " via " not in result.stdout:
        return Path.NONE
    return Path.RELAYED if " via DERP(" in result.stdout else Path.DIRECT


def accepts_routes(context: Context, machine: Machine) -> bool:
    return bool(_preferences(context, machine)["RouteAll"])


def advertised(context: Context, machine: Machine) -> tuple[IPv4Network, ...]:
    """IPv4 prefixes this peer advertises now."""
    routes = _preferences(context, machine)["AdvertiseRoutes"] or ()
    return tuple(IPv4Network(route) for route in routes if "." in route)


def status(context: Context, machine: Machine) -> PeerStatus:
    seen = _status(context, machine)
    own = [IPv4Address(address) for address in seen.get("TailscaleIPs") or () if "." in address]
    offered = [route for peer in (seen.get("Peer") or {}).values() for route in peer.get("PrimaryRoutes") or ()]
    accepted = offered if accepts_routes(context, machine) else []
    through_exit = ["0.0.0.0/0"] if seen.get("ExitNodeStatus") else []
    known = (ip for peer in (seen.get("Peer") or {}).values() for ip in peer["TailscaleIPs"] or ())
    return PeerStatus(
        connected=seen["BackendState"] == "Running",
        address=own[0] if own else None,
        routes=tuple(IPv4Network(route) for route in accepted + through_exit if "." in route),
        knows=tuple(IPv4Address(address) for address in known if "." in address),
    )


def _status(context: Context, machine: Machine) -> dict[str, Any]:
    argv = ["tailscale", "status", "--json"]
    status: dict[str, Any] = json.loads(context.run(machine.container_id, argv, where=machine.name))
    return status


def _preferences(context: Context, machine: Machine) -> dict[str, Any]:
    argv = ["tailscale", "debug", "prefs"]
    preferences: dict[str, Any] = json.loads(context.run(machine.container_id, argv, where=machine.name))
    return preferences
