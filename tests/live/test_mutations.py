"""A scenario whose intent is broken fails, at the step that shows it, and its diagnosis names the layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.engine import Engine
from labs.results import MutationResult, Outcome, save
from labs.scenario import Trial
from tests.mutations import Case, cases

pytestmark = [pytest.mark.live, pytest.mark.mutation]

CASES = [
    pytest.param(case, id=case.name, marks=[pytest.mark.smoke] if case.mutation.smoke else [])
    for case in cases(Path(__file__).parent.parent / "mutations.yaml")
]


@pytest.mark.parametrize("case", CASES)
def test_a_broken_intent_is_noticed(case: Case, engine: Engine, request: pytest.FixtureRequest) -> None:
    result = Trial(engine, skip=case.skip).run(case.scenario, case.scenario.topology(case.product))
    failed = next((step for step in result.steps if step.outcome in (Outcome.FAILED, Outcome.ERROR)), None)
    seen = failed.diagnosis.seen if failed and failed.diagnosis else "every step passed"
    step, *layers = case.fails or (None,)
    observed = [step.observation for step in result.steps if step.observation]
    mutated = MutationResult(
        scenario=case.scenario.name,
        topology=result.topology,
        mutation=case.mutation.text,
        expected_step=step,
        expected_layers=tuple(layers),
        expected_answers=case.mutation.answers,
        answers={observation.question: observation.answer for observation in observed},
        step=failed.number if failed else None,
        outcome=result.outcome,
        layer=failed.diagnosis.layer if failed and failed.diagnosis else None,
        seen=seen,
        took_s=result.took_s,
    )
    if folder := request.config.getoption("--scenario-results"):
        save(mutated, Path(folder) / f"{case.name}.json")
    # One that could not be asked notices nothing.
    assert mutated.noticed, f"{mutated.outcome} at {mutated.step}, layer {mutated.layer}: {seen}; {mutated.answers}"
