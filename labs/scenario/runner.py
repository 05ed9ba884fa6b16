"""One function runs one scenario on one lab."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from labs.errors import LabsError, ProbeProblem
from labs.journal import burden
from labs.lab import Lab
from labs.results import Diagnosis, JournalEntry, Layer, Outcome, ScenarioResult, StepResult
from labs.scenario.diagnosis import StepFailed
from labs.scenario.loader import Scenario
from labs.scenario.schema import Step
from labs.scenario.steps import Actor

OnStep = Callable[[StepResult], None]


def run(scenario: Scenario, lab: Lab, on_step: OnStep, skip: frozenset[int] = frozenset()) -> ScenarioResult:
    """Run every step in order, up to the first that does not pass; the rest are listed as not run.

    `skip` leaves out steps by number: that is how it is tried whether a scenario notices when one is missing.

    A step fails when the product does not do what the file says; it errors when that could not be
    asked. Neither raises: the result says which.
    """
    actor = Actor(scenario, lab)
    journalled = len(lab.journal.entries)
    begin_s = lab.clock.now()
    steps: list[StepResult] = []
    for number, step in enumerate(scenario.spec.steps, 1):
        stopped = any(earlier.outcome in (Outcome.FAILED, Outcome.ERROR) for earlier in steps)
        result = _not_run(number, step) if stopped or number in skip else _run_step(actor, number, step)
        steps.append(result)
        on_step(result)
    entries = lab.journal.entries[journalled:]
    return ScenarioResult(
        scenario=scenario.name,
        title=scenario.spec.title,
        topology=lab.topology,
        product=lab.product,
        outcome=next((s.outcome for s in steps if s.outcome in (Outcome.FAILED, Outcome.ERROR)), Outcome.PASSED),
        took_s=round(lab.clock.now() - begin_s, 3),
        steps=tuple(steps),
        journal=tuple(JournalEntry(**asdict(entry)) for entry in entries),
        burden=burden(entries),
    )


def _run_step(actor: Actor, number: int, step: Step) -> StepResult:
    begin_s = actor.lab.clock.now()
    held_before_s = actor.asker.held_total_s
    diagnosis = None
    try:
        outcome, evidence = Outcome.PASSED, actor.carry_out(step.action)
    except StepFailed as failure:
        outcome, evidence, diagnosis = Outcome.FAILED, failure.evidence, failure.diagnosis
    except ProbeProblem as problem:
        outcome, evidence, diagnosis = Outcome.ERROR, (str(problem),), Diagnosis(layer=Layer.PROBE, seen=problem.what)
    except LabsError as problem:
        outcome, evidence = Outcome.ERROR, (str(problem),)
        diagnosis = Diagnosis(layer=Layer.CONTROL_PLANE, seen=problem.what)
    return StepResult(
        number=number,
        text=step.text,
        outcome=outcome,
        took_s=round(actor.lab.clock.now() - begin_s, 3),
        evidence=evidence,
        diagnosis=diagnosis,
        observation=actor.observation,
        held_s=round(actor.asker.held_total_s - held_before_s, 3),
    )


def _not_run(number: int, step: Step) -> StepResult:
    return StepResult(number=number, text=step.text, outcome=Outcome.NOT_RUN, took_s=0.0)
