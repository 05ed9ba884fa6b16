"""Prefixes that collide with nothing: no host route, no network of the engine, no other lab."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from pathlib import Path

from labs.errors import EnvironmentProblem, UsageError

# Private, because Tailscale's client trusts plain HTTP only there, and far from 100.64.0.0/10, the overlay.
# Docker's own pools (172.17-31, 192.168) are left to Docker; the low half of 10/8 to people's networks.
_POOL = IPv4Network("10.128.0.0/9")
# Public to everybody's rules (an exit node forwards it), and nobody's: RFC 2544 set it aside for benchmarks.
_PUBLIC_POOL = IPv4Network("198.18.0.0/15")
_LENGTH = 24
REACH_VARIABLE = "MESH_LABS_REACH"
_ROUTES = Path("/proc/net/route")


def allocate(taken: Iterable[IPv4Network], choose: random.Random, *, public: bool = False) -> IPv4Network:
    """A free /24, private unless `public`. Random, so that labs started at the same moment seldom want the same one.

    Raises EnvironmentProblem when the pool is exhausted.
    """
    pool = _PUBLIC_POOL if public else _POOL
    used = [network for network in taken if network.overlaps(pool)]
    total = 1 << (_LENGTH - pool.prefixlen)
    start = choose.randrange(total)
    for step in range(total):
        candidate = IPv4Network((int(pool.network_address) + ((start + step) % total << (32 - _LENGTH)), _LENGTH))
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise EnvironmentProblem(f"No free /{_LENGTH} is left in {pool}", hint="inv list, and inv down what is not needed")


def host_routes(table: str | None = None) -> tuple[IPv4Network, ...]:
    """The prefixes this host routes, default route left out; nothing where the kernel has no such table.

    Format of /proc/net/route: tab-separated, destination in column 2 and mask in column 8, both
    hexadecimal in host byte order.
    """
    if table is None:
        if not _ROUTES.exists():
            return ()
        table = _ROUTES.read_text()
    rows = (line.split("\t") for line in table.splitlines()[1:])
    routes = (IPv4Network((_dotted(row[1]), _dotted(row[7]))) for row in rows if len(row) > 7)
    return tuple(route for route in routes if route.prefixlen > 0)


def is_routed(prefix: IPv4Network, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this host has a route of its own to a lab's network, as it has to every bridge of an engine beside it.

    A prefix is chosen apart from all routes there were, so one that is there now is the network's. MESH_LABS_REACH
    decides instead when it says `direct` or `exec`. Raises UsageError for any other word.
    """
    match environment.get(REACH_VARIABLE, ""):
        case "":
            return prefix in host_routes()
        case "direct" | "exec" as word:
            return word == "direct"
        case word:
            raise UsageError(f"{REACH_VARIABLE} is '{word}'", hint="direct, exec, or leave it unset")


def _dotted(hexadecimal: str) -> str:
    return socket.inet_ntoa(struct.pack("=L", int(hexadecimal, 16)))
