"""One scenario from nothing to nothing: a fresh lab, the steps, what is kept of a failure, removal."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from labs.engine import Engine
from labs.lab import Lab, labels
from labs.lab.removal import remove
from labs.lab.start import start
from labs.model import Product
from labs.results import Outcome, Phases, ScenarioResult, StepResult
from labs.scenario.artefacts import collect
from labs.scenario.loader import Scenario
from labs.scenario.runner import run
from labs.timing import SystemClock

Say = Callable[[str], None]


@dataclass
class Trial:
    """How scenarios are tried: where failures' artefacts go (None: nowhere), whether a failed lab is kept, what is
    skipped. `say` gets a line for each thing that happens.

    Scenarios whose files say `shares-lab: true` and that need the same lab get the same one, until one of them does
    not pass; `close` removes what is still shared.
    """

    engine: Engine
    say: Say = lambda _: None
    artefacts: Path | None = None
    keep_on_failure: bool = False
    skip: frozenset[int] = frozenset()
    clock: SystemClock = field(default_factory=SystemClock)
    shared: dict[str, Lab] = field(default_factory=dict)

    def run(self, scenario: Scenario, topology: str) -> ScenarioResult:
        """Try a scenario, on a lab of its own unless it may share one.

        Raises what starting the lab raises, and Leftovers.
        """
        key = f"{topology} {scenario.inventory}"
        if scenario.spec.shares_lab and key in self.shared:
            return self._run_shared(scenario, key)
        name = f"{scenario.name[:14].rstrip('-')}-{topology[:9].rstrip('-')}-{secrets.token_hex(2)}"
        begin_s = self.clock.now()
        kept = False
        try:
            lab = self._start(scenario, topology, name)
            started_s = self.clock.now()
            result = run(scenario, lab, lambda _: None, self.skip)
            kept = self._look_at_failure(lab, result)
            if scenario.spec.shares_lab and result.outcome is Outcome.PASSED:
                self.shared[key], kept = lab, True
            ended_s = self.clock.now()
        finally:
            if not kept:
                remove(self.engine, {labels.LAB: name})
        return result.model_copy(
            update={"phases": _phases(result.steps, started_s - begin_s, self.clock.now() - ended_s)}
        )

    def close(self) -> None:
        """Remove the labs that scenarios shared. Raises Leftovers."""
        while self.shared:
            _, lab = self.shared.popitem()
            remove(self.engine, {labels.LAB: lab.name})

    def _run_shared(self, scenario: Scenario, key: str) -> ScenarioResult:
        """On a lab that another scenario left; one that fails leaves it to nobody."""
        lab = self.shared[key]
        self.say(f"on the lab {lab.name}, which it shares")
        result = run(scenario, lab, lambda _: None, self.skip)
        if result.outcome is not Outcome.PASSED:
            del self.shared[key]
            if not self._look_at_failure(lab, result):
                remove(self.engine, {labels.LAB: lab.name})
        return result.model_copy(update={"phases": _phases(result.steps, 0.0, 0.0)})

    def _start(self, scenario: Scenario, topology: str, name: str) -> Lab:
        lab, _ = start(
            self.engine,
            topology,
            name,
            scenario.inventory,
            lambda step: self.say(f"{step.at_s:6.1f} s  {step.subject} {step.what}"),
            lambda event: self.say(f"image {event.image}: {event.phase} {event.detail}"),
        )
        return lab

    def _look_at_failure(self, lab: Lab, result: ScenarioResult) -> bool:
        """Keep what a failure leaves, and say how to get at it. True when the lab itself is kept."""
        if result.outcome is Outcome.PASSED:
            return False
        if self.artefacts is not None:
            self.say(f"artefacts: {collect(lab, result, self.artefacts / lab.name)}")
        if self.keep_on_failure:
            self.say(f"the lab is kept: inv status {lab.name}, inv shell PEER --name {lab.name}, inv down {lab.name}")
        return self.keep_on_failure


def topology_for(scenario: Scenario, asked: str, product: Product) -> str:
    """The topology a scenario runs on where `asked` was asked for: its own choice stands in for the default only."""
    return scenario.topology(product) if asked == str(product) else asked


def _phases(steps: tuple[StepResult, ...], start_s: float, teardown_s: float) -> Phases:
    asking = [step for step in steps if step.text.startswith(("expect", "observe"))]
    return Phases(
        start_s=round(start_s, 3),
        intents_s=round(sum(step.took_s for step in steps) - sum(step.took_s for step in asking), 3),
        expectations_s=round(sum(step.took_s for step in asking), 3),
        holds_s=round(sum(step.held_s for step in steps), 3),
        teardown_s=round(teardown_s, 3),
    )
