"""A claim's verdict, computed."""

from __future__ import annotations

from collections.abc import Collection

from labs.claims.evidence import Evidence, Missing
from labs.claims.ledger import Actions, Answer, Claim, Differs, Passed, Wanted
from labs.claims.predicate import Value, parse
from labs.errors import UsageError
from labs.results import ClaimVerdict, Verdict


def judge(
    name: str, claim: Claim, evidence: Evidence, topologies: Collection[str], scenarios: Collection[str]
) -> ClaimVerdict:
    """Supported or contradicted when that predicate alone holds and every observation is there; else inconclusive.

    `topologies` and `scenarios` are all that can be run. Raises UsageError when a row contradicts itself.
    """
    values: dict[str, Value] = {}
    sentences: list[str] = []
    missing: list[Wanted] = []
    for observation, wanted in claim.observations.items():
        try:
            found = evidence.find(wanted)
        except Missing as reason:
            missing.append(wanted)
            sentences.append(f"{observation} is missing: {reason}")
        else:
            values[observation] = found.value
            sentences.append(f"{observation} = {_shown(found.value)}: {found.evidence}")
    for result, expression in claim.derived.items():
        if all(part in values for part in parse(expression).names):
            values[result] = round(parse(expression).value(values), 2)
            sentences.append(f"{result} = {_shown(values[result])}: {expression}")
    return ClaimVerdict(
        id=name,
        says=claim.says,
        kind=claim.kind,
        verdict=Verdict.INCONCLUSIVE if missing else _verdict(name, claim, values),
        observations={known: values.get(known) for known in (*claim.observations, *claim.derived)},
        evidence=tuple(sentences),
        reason=claim.reason,
        supported_if=claim.supported_if,
        contradicted_if=claim.contradicted_if,
        conditions=_conditions(claim),
        not_shown=claim.not_shown,
        decide_with=_decide_with(name, missing, topologies, scenarios),
    )


def _verdict(name: str, claim: Claim, values: dict[str, Value]) -> Verdict:
    supported, contradicted = claim.supported.holds(values), claim.contradicted.holds(values)
    if supported and contradicted:
        raise UsageError(f"The ledger says both of {name}", why=f"with {values}", hint="mend its predicates")
    return Verdict.SUPPORTED if supported else Verdict.CONTRADICTED if contradicted else Verdict.INCONCLUSIVE


def topologies_of(wanted: Wanted) -> tuple[str, ...]:
    return wanted.between if isinstance(wanted, Differs) else (wanted.on,)


def scenario_of(wanted: Wanted) -> str | None:
    """The scenario an observation comes from; None for what is measured."""
    match wanted:
        case Answer():
            return wanted.scenario
        case Passed():
            return wanted.passed
        case Actions():
            return wanted.actions
        case _:
            return None


def _conditions(claim: Claim) -> tuple[str, ...]:
    """Where it was tried: versions and machine are the report's environment."""
    names = dict.fromkeys(name for wanted in claim.observations.values() for name in topologies_of(wanted))
    return (f"topologies: {', '.join(names)}",)


def _decide_with(
    name: str, missing: list[Wanted], topologies: Collection[str], scenarios: Collection[str]
) -> str | None:
    """The command that makes what is missing, or what there is not yet to make it with."""
    if not missing:
        return None
    lacking = [
        f"the topology {topology}"
        for wanted in missing
        for topology in topologies_of(wanted)
        if topology not in topologies
    ]
    lacking += [
        f"the scenario {found}" for wanted in missing if (found := scenario_of(wanted)) and found not in scenarios
    ]
    if lacking:
        return f"needs {', '.join(dict.fromkeys(lacking))}, which this version does not have"
    return f"inv claims {name} --run"


def _shown(value: Value) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:g}"
