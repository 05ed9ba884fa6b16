"""What a scenario would do, told without an engine."""

from __future__ import annotations

from collections.abc import Iterator

from labs.controlplanes import actions
from labs.model import Product
from labs.scenario.loader import Scenario


def plan_lines(scenario: Scenario, product: Product, topology: str) -> Iterator[str]:
    """Who takes part, each step, and under it the journal entries it can bring: KIND SCOPE ACTION."""
    yield f"{scenario.name} on {topology}: {scenario.spec.title}"
    if why := scenario.not_applicable(topology):
        yield f"  not applicable: {why}"
        return
    yield from _members(scenario)
    known = actions(product)
    for number, step in enumerate(scenario.spec.steps, 1):
        yield f"  {number:2}. {step.text}"
        yield from (f"        {action}" for action in known.get(step.acts, ()))


def _members(scenario: Scenario) -> Iterator[str]:
    inventory = scenario.inventory
    for lan in inventory.networks:
        kind = "public" if lan.public else "private"
        yield f"  network {lan.name}: {kind}" + (f", gateway {lan.gateway}" if lan.gateway else "")
    for peer in inventory.peers:
        serves = f", serves {', '.join(map(str, peer.ports))}" if peer.ports else ""
        later = "" if peer.joins else ", joins later"
        yield f"  peer {peer.name}: user {peer.user}, on {', '.join(('the underlay', *peer.networks))}{serves}{later}"
    for host in inventory.hosts:
        places = ", ".join(f"{network} .{offset}" for network, offset in host.places)
        yield f"  host {host.name}: {places}" + (f", serves {host.serves}" if host.serves else "")
