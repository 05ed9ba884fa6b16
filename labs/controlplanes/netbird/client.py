"""NetBird's client in a container: how it is started, asked and told."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from labs.controlplanes.base import Context, Machine, Path, PeerStatus
from labs.model import Container, Peer, Settings
from labs.timing import DAEMON_READY_S, JOIN_S

KEY_PATH = "/run/mesh-labs/setup-key"


def container(peer: Peer, image: str, settings: Settings) -> Container:
    lazy = {None: {}, True: {"NB_LAZY_CONN": "on"}, False: {"NB_LAZY_CONN": "off"}}[settings.lazy_connections]
    return Container(
        name=peer.name,
        image=image,
        entrypoint=("netbird",),
        command=("service", "run"),
        environment={
            "NB_LOG_FILE": "console",
            # Two choices that would otherwise depend on the host and on chance: the WireGuard datapath,
            # and which of two relay transports wins a race.
            "NB_WG_KERNEL_DISABLED": "true",
            "NB_RELAY_TRANSPORT": "ws",
            # The lab's networks have no gateway that could map a port.
            "NB_DISABLE_NAT_MAPPER": "true",
            **lazy,
        },
        cap_drop=("ALL",),
        # The client itself needs no NET_RAW; busybox's ping does.
        cap_add=("NET_ADMIN", "NET_RAW"),
        devices=("/dev/net/tun",),
        security_opt=("no-new-privileges",),
        # Docker mounts /proc/sys read-only, so what a router needs is set from outside, on every peer alike.
        sysctls={
            "net.ipv4.ip_forward": "1",
            "net.ipv4.conf.all.src_valid_mark": "1",
            "net.ipv4.conf.all.rp_filter": "2",
        },
    )


# `up` without settings keeps those there are.
RECONNECT = (("netbird", "down"), ("timeout", f"{JOIN_S:.0f}", "netbird", "up"))


def wait_for_daemon(context: Context, machine: Machine) -> None:
    live = "netbird status --check live >/dev/null 2>&1"
    context.wait_inside(machine, live, what="An answer from NetBird's daemon", timeout_s=DAEMON_READY_S)


def up(management_url: str, hostname: str, timeout_s: float) -> list[str]:
    """The client itself would try for a long time; `timeout` counts whole seconds."""
    return [
        "timeout",
        f"{timeout_s:.0f}",
        "netbird",
        "up",
        f"--management-url={management_url}",
        f"--setup-key-file={KEY_PATH}",
        f"--hostname={hostname}",
    ]


def sign_in(management_url: str, hostname: str, timeout_s: float) -> list[str]:
    limited = ["timeout", f"{timeout_s:.0f}", "netbird", "up", "--no-browser"]
    return [*limited, f"--management-url={management_url}", f"--hostname={hostname}"]


def registered(context: Context, machine: Machine) -> bool:
    """Whether the control plane knows this client, as far as the client can tell."""
    return str(_status(context, machine)["daemonStatus"]) in ("Connected", "Connecting")


def status(context: Context, machine: Machine) -> PeerStatus:
    seen = _status(context, machine)
    address = seen.get("netbirdIp") or ""
    others = seen["peers"].get("details") or ()
    offered = [route for peer in others for route in peer.get("networks") or ()]
    return PeerStatus(
        connected=seen["daemonStatus"] == "Connected" and seen["management"]["connected"],
        address=IPv4Interface(address).ip if address else None,
        routes=tuple(IPv4Network(route) for route in offered if _is_prefix(route)),
        knows=tuple(IPv4Interface(peer["netbirdIp"]).ip for peer in others),
    )


def path(context: Context, machine: Machine, address: IPv4Address) -> Path:
    """A connection may be lazy: a ping makes it before the client is asked what kind it is."""
    context.engine.exec(machine.container_id, ["ping", "-c", "1", "-W", "1", str(address)])
    for peer in _status(context, machine)["peers"].get("details") or ():
        if IPv4Interface(peer["netbirdIp"]).ip == address and peer["status"] == "Connected":
            return {"P2P": Path.DIRECT, "Relayed": Path.RELAYED}.get(peer["connectionType"], Path.NONE)
    return Path.NONE


def network_offered(context: Context, machine: Machine, name: str) -> bool:
    """Whether a network or route of this name is there to be selected."""
    listed = context.run(machine.container_id, ["netbird", "networks", "list"], where=machine.name)
    return f"- ID: {name}\n" in listed


def _status(context: Context, machine: Machine) -> dict[str, Any]:
    argv = ["netbird", "status", "--json"]
    status: dict[str, Any] = json.loads(context.run(machine.container_id, argv, where=machine.name))
    return status


def _is_prefix(route: str) -> bool:
    """A resource may be a domain, or IPv6."""
    address, _, length = route.partition("/")
    try:
        IPv4Address(address)
    except ValueError:
        return False
    return length.isdigit()
