"""The ledger: predicates, what feeds them, and that a wrong observation flips a verdict and a missing one opens it."""

from __future__ import annotations

import itertools

import pytest

from labs.claims import Claim, Evidence, judge, ledger
from labs.claims.evidence import Found, Missing
from labs.claims.ledger import Answer, Counted, Differs, Wanted
from labs.claims.predicate import Value, parse
from labs.claims.verdict import scenario_of, topologies_of
from labs.commands.check import scenario_files
from labs.errors import FileProblem, UsageError
from labs.lab.plan import topologies
from labs.results import Outcome, RepeatedScenario, Verdict
from labs.scenario import SUFFIX, read
from labs.scenario.schema import Observe

LEDGER = ledger()
SCENARIOS = {file.name.removesuffix(SUFFIX): read(file) for file in scenario_files("")}
# From the article's claims, as they are numbered and named where the project began.
CLAIMS = 29


class Given(Evidence):
    """Observations of the test's choice; those left out are missing."""

    def __init__(self, values: dict[Wanted, Value]) -> None:
        super().__init__()
        object.__setattr__(self, "values", values)

    def find(self, wanted: Wanted) -> Found:  # type: ignore[override]
        try:
            return Found(self.values[wanted], "given")  # type: ignore[attr-defined]
        except KeyError:
            raise Missing("not given") from None


def verdict(name: str, values: dict[str, Value]) -> Verdict:
    claim = LEDGER[name]
    given = {claim.observations[key]: value for key, value in values.items()}
    return judge(name, claim, Given(given), topologies(), SCENARIOS).verdict


def candidates(wanted: Wanted) -> tuple[Value, ...]:
    """Values that an observation may have."""
    match wanted:
        case Answer():
            return (True, False)
        case Differs():
            return (-1, 0, 1)
        case Counted():
            return (0, 1, 2, 3, 4, 5, 8)
        case _ if scenario_of(wanted) and "kind" not in wanted.model_fields_set:
            return (True,) if "passed" in wanted.model_fields_set else (0, 1, 5)
        case _ if scenario_of(wanted):
            return (0, 1, 5)
        case _:
            return (10.0, 700.0, 1500.0, 3000.0, 9000.0)


def supporting(claim: Claim) -> dict[str, Value]:
    """The first values for which a claim is supported."""
    names = list(claim.observations)
    for values in itertools.product(*(candidates(claim.observations[name]) for name in names)):
        given = dict(zip(names, values, strict=True))
        if claim.supported.holds(given):
            return given
    raise AssertionError("no observation supports it")


def test_every_claim_is_there() -> None:
    assert len(LEDGER) == CLAIMS


@pytest.mark.parametrize("name", LEDGER)
def test_a_claim_can_be_supported_and_a_wrong_observation_flips_it(name: str) -> None:
    claim = LEDGER[name]
    good = supporting(claim)
    assert verdict(name, good) is Verdict.SUPPORTED
    flipped = {
        key
        for key, wanted in claim.observations.items()
        for value in candidates(wanted)
        if verdict(name, {**good, key: value}) is Verdict.CONTRADICTED
    }
    assert flipped


@pytest.mark.parametrize("name", LEDGER)
def test_a_missing_observation_makes_it_inconclusive(name: str) -> None:
    good = supporting(LEDGER[name])
    for key in good:
        assert verdict(name, {other: value for other, value in good.items() if other != key}) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("name", LEDGER)
def test_both_predicates_never_hold_at_once(name: str) -> None:
    claim = LEDGER[name]
    names = list(claim.observations)
    several = itertools.product(*(candidates(claim.observations[key]) for key in names))
    for values in itertools.islice(several, 4000):
        given = dict(zip(names, values, strict=True))
        try:
            assert not (claim.supported.holds(given) and claim.contradicted.holds(given)), given
        except ZeroDivisionError:
            continue


@pytest.mark.parametrize("name", LEDGER)
def test_questions_are_asked_by_the_scenarios_that_are_there(name: str) -> None:
    """A slip of the pen in a question would leave a claim open for ever."""
    for wanted in LEDGER[name].observations.values():
        scenario = SCENARIOS.get(scenario_of(wanted) or "")
        if isinstance(wanted, Answer) and scenario:
            asked = {step.action.question for step in scenario.spec.steps if isinstance(step.action, Observe)}
            assert wanted.answer in asked


def test_what_decides_an_open_claim() -> None:
    known = judge("netbird-routes", LEDGER["netbird-routes"], Evidence(), topologies(), SCENARIOS)
    assert known.decide_with == "inv claims netbird-routes --run"
    other = judge("netbird-routes", LEDGER["netbird-routes"], Evidence(), (), ())
    assert other.decide_with is not None
    assert "which this version does not have" in other.decide_with


def ran(outcome: Outcome = Outcome.PASSED, answers: tuple[bool, ...] = (True,)) -> Evidence:
    scenario = RepeatedScenario(
        scenario="ask-route-models",
        topology="netbird",
        outcomes=(outcome,),
        took_s=(1.0,),
        phases=(),
        observations={"a-route-reaches-a-lan": answers},
        actions=("api route POST /x", "command peer netbird up"),
    )
    return Evidence({("ask-route-models", "netbird"): (scenario, "file.json")})


def test_from_a_scenario_to_a_verdict() -> None:
    claim = LEDGER["netbird-routes"]

    def found(evidence: Evidence) -> Verdict:
        return judge("netbird-routes", claim, evidence, topologies(), SCENARIOS).verdict

    assert found(ran()) is Verdict.SUPPORTED
    assert found(ran(answers=(False, False))) is Verdict.CONTRADICTED
    assert found(ran(answers=(True, False))) is Verdict.INCONCLUSIVE
    assert found(ran(Outcome.FAILED)) is Verdict.INCONCLUSIVE
    assert found(ran(Outcome.ERROR, answers=(False,))) is Verdict.INCONCLUSIVE


def test_a_row_that_contradicts_itself_is_refused() -> None:
    claim = Claim.model_validate({**LEDGER["netbird-routes"].model_dump(), "contradicted_if": "route"})
    with pytest.raises(UsageError, match="says both"):
        judge("netbird-routes", claim, ran(), topologies(), SCENARIOS)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a and not b", True),
        ("a and b or 4 <= n <= 5", True),
        ("n / 2 > 2", False),
        ("n + 1 == 5 and n - 1 == 3 and n * 2 == 8", True),
        ("n != 4", False),
    ],
)
def test_predicates(text: str, holds: bool) -> None:
    assert parse(text).holds({"a": True, "b": False, "n": 4}) is holds


@pytest.mark.parametrize("text", ["a.b", "f(a)", "a if b else c", "[a]", "'a'", "a and", "a ** 2", "-a", "a in b"])
def test_other_expressions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"predicate has no|no expression"):
        parse(text)


def test_a_predicate_that_speaks_of_nothing_is_refused(tmp_path: object) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "ledger.yaml"
    file.write_text(
        "x:\n  says: a\n  kind: measure\n  reason: b\n  not_shown: c\n"
        "  observations: {one: {passed: keys, on: netbird}}\n  supported_if: two\n  contradicted_if: not one\n"
    )
    with pytest.raises(FileProblem, match="there is no observation two"):
        ledger(file)


def test_observations_name_their_topologies() -> None:
    assert topologies_of(LEDGER["headscale-leaner"].observations["memory"]) == ("headscale", "netbird")
