"""NetBird's client in a container: how it is started, asked and told."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from labs.controlplanes.base import Context, Machine, PeerStatus
from labs.model import Container, Peer
from labs.timing import DAEMON_READY_S

KEY_PATH = "/run/mesh-labs/setup-key"


def container(peer: Peer, image: str) -> Container:
    return Container(
        name=peer.name,
        image=image,
        entrypoint=("netbird",),
        command=("service", "run"),
        hostname=peer.name,
        environment={
            "NB_LOG_FILE": "console",
            # Two choices that would otherwise depend on the host and on chance: the WireGuard datapath,
            # and which of two relay transports wins a race.
            "NB_WG_KERNEL_DISABLED": "true",
            "NB_RELAY_TRANSPORT": "ws",
            # The lab's networks have no gateway that could map a port.
            "NB_DISABLE_NAT_MAPPER": "true",
        },
        cap_drop=("ALL",),
        cap_add=("NET_ADMIN",),
        devices=("/dev/net/tun",),
        security_opt=("no-new-privileges",),
        # Docker mounts /proc/sys read-only, so what a router needs is set from outside, on every peer alike.
        sysctls={
            "net.ipv4.ip_forward": "1",
            "net.ipv4.conf.all.src_valid_mark": "1",
            "net.ipv4.conf.all.rp_filter": "2",
        },
    )


def wait_for_daemon(context: Context, machine: Machine) -> None:
    live = "netbird status --check live >/dev/null 2>&1"
    context.wait_inside(machine, live, what="An answer from NetBird's daemon", timeout_s=DAEMON_READY_S)


def up(management_url: str, hostname: str) -> list[str]:
    return [
        "netbird",
        "up",
        f"--management-url={management_url}",
        f"--setup-key-file={KEY_PATH}",
        f"--hostname={hostname}",
    ]


def status(context: Context, machine: Machine) -> PeerStatus:
    seen = json.loads(context.run(machine.container_id, ["netbird", "status", "--json"], where=machine.name))
    address = seen.get("netbirdIp") or ""
    offered = [route for peer in (seen["peers"].get("details") or ()) for route in peer.get("networks") or ()]
    return PeerStatus(
        connected=seen["daemonStatus"] == "Connected" and seen["management"]["connected"],
        address=IPv4Interface(address).ip if address else None,
        routes=tuple(IPv4Network(route) for route in offered if _is_prefix(route)),
    )


def _is_prefix(route: str) -> bool:
    """A resource may be a domain, or IPv6."""
    address, _, length = route.partition("/")
    try:
        IPv4Address(address)
    except ValueError:
        return False
    return length.isdigit()
