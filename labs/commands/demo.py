"""The demonstration: one lab after the other, so that neither disturbs the other's figures."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from labs.commands.bringup import start
from labs.commands.common import Output
from labs.engine import Engine
from labs.lab import labels
from labs.lab.removal import remove
from labs.measure import Sampler, choose_sampler, environment, take
from labs.report.terminal import step_line
from labs.results import ComparisonResult, ScenarioResult, StackFigures
from labs.scenario import Scenario, read, run


def run_demo(engine: Engine, topologies: Sequence[str], file: Path, out: Output) -> ComparisonResult:
    """Run one scenario on a fresh lab of each topology; figures are taken when all peers have joined.

    Every lab is removed before the next one starts, whatever happens. Raises Leftovers when one is not gone.
    """
    scenario, sampler = read(file), choose_sampler(engine)
    stacks: list[StackFigures] = []
    scenarios: list[ScenarioResult] = []
    references: set[str] = set()
    for topology in topologies:
        name = f"demo-{topology}-{secrets.token_hex(2)}"
        out.line(f"\n{topology}: {scenario.spec.title}")
        try:
            stack, result = _one(engine, topology, name, scenario, sampler, out)
        finally:
            removed = remove(engine, {labels.LAB: name})
            out.line(f"removed {removed.containers} containers, {removed.networks} networks, {removed.volumes} volumes")
        stacks.append(stack)
        scenarios.append(result)
        references |= {container.image for container in stack.containers}
    return ComparisonResult(
        environment=environment(engine, references), stacks=tuple(stacks), scenarios=tuple(scenarios)
    )


def _one(
    engine: Engine, topology: str, name: str, scenario: Scenario, sampler: Sampler, out: Output
) -> tuple[StackFigures, ScenarioResult]:
    lab = start(engine, topology, name, scenario.inventory, out)
    stack = take(lab, sampler, "joined")
    return stack, run(scenario, lab, lambda step: out.line(step_line(step)))
