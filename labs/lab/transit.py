"""Routes of machines on transit networks: what leaves goes to the lab's gateway, never to the engine's bridge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network

from labs.controlplanes import Machine, succeeded
from labs.engine import Engine
from labs.model import Inventory


def route_out(
    engine: Engine, machine: Machine, on: Iterable[str], inventory: Inventory, prefixes: Mapping[str, IPv4Network]
) -> None:
    """Set the default route of a machine that stands on the networks `on`; a restart of it forgets that again."""
    stands_on = set(on)
    for lan in inventory.networks:
        if not lan.transit or lan.name not in stands_on:
            continue
        gateway = inventory.gateway(lan)
        if gateway is None or gateway.name == machine.name:
            argv = ["sh", "-c", "ip route del default 2>/dev/null; true"]
        else:
            address = prefixes[lan.name][dict(gateway.places)[lan.name]]
            argv = ["ip", "route", "replace", "default", "via", str(address)]
        succeeded(engine.exec(machine.container_id, argv), argv, machine.name)
