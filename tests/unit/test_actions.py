"""What `inv check --dry` says an operator does is what the journals of real runs hold."""

from __future__ import annotations

import re

import pytest

from labs import resources
from labs.controlplanes import actions
from labs.lab.plan import product_of
from labs.model import Product
from labs.results import RepeatedScenario, RepeatResult, load
from labs.scenario import SUFFIX, read
from labs.scenario.dry import plan_lines
from labs.scenario.schema import Step

RECORDED = resources.path("compose").parent / "docs" / "results"
SCENARIOS = [one for name in ("scenarios", "people") for one in load(RepeatResult, RECORDED / f"{name}.json").scenarios]


# What the recorded runs did not contain: the first of two routers withdrawn.
NOT_RECORDED = {"api route DELETE /api/networks/{id}/routers/{id}"}


def pattern(action: str) -> str:
    """An action with {…} where anything may stand."""
    return "(?:.*)".join(re.escape(part) for part in re.split(r"\{\w+\}", action))


@pytest.mark.parametrize("recorded", SCENARIOS, ids=lambda one: f"{one.scenario}-{one.topology}")
def test_every_recorded_action_was_announced(recorded: RepeatedScenario) -> None:
    known = actions(product_of(recorded.topology))
    scenario = read(resources.path("scenarios") / f"{recorded.scenario}{SUFFIX}")
    announced = {pattern(action) for step in scenario.spec.steps for action in known.get(step.acts, ())}
    unannounced = [said for said in recorded.actions if not any(re.fullmatch(one, said) for one in announced)]
    assert unannounced == []


@pytest.mark.parametrize("product", Product)
def test_every_announced_action_is_taken_somewhere(product: Product) -> None:
    """Nothing is announced that no recorded run has ever done."""
    taken = [said for one in SCENARIOS if product_of(one.topology) is product for said in one.actions]
    idle = {action for known in actions(product).values() for action in known} - {
        action
        for known in actions(product).values()
        for action in known
        if any(re.fullmatch(pattern(action), said) for said in taken)
    }
    assert idle <= NOT_RECORDED


@pytest.mark.parametrize("product", Product)
def test_verbs_are_words_of_the_language(product: Product) -> None:
    assert {verb.replace("-", "_") for verb in actions(product)} <= set(Step.model_fields)


def test_a_scenario_that_does_not_apply_says_why() -> None:
    scenario = read(resources.path("scenarios") / f"audit-trail{SUFFIX}")
    assert list(plan_lines(scenario, Product.HEADSCALE, "headscale")) == [
        "audit-trail on headscale: The audit trail shows who joined and what was changed",
        "  not applicable: Headscale keeps no audit trail",
    ]
