"""From stored results to the value of a named observation, or the reason why there is none."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatchmethod

from labs.claims.ledger import Actions, Answer, Counted, Differs, Measured, Passed, Wanted
from labs.claims.predicate import Value
from labs.results import Finding, LabRun, Measurement, Outcome, Part, Phase, RepeatedScenario, compare

_MIB = 1 << 20


class Missing(Exception):
    """There is no such observation; the text says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """A value, and in one sentence where it comes from."""

    value: Value
    evidence: str


@dataclass(frozen=True)
class Evidence:
    """What was run, each with the name of its file: scenarios by name and topology, measurements newest first.

    `topologies` and `scenarios_known` are all there are, so that what cannot be run yet is told from what was not.
    """

    scenarios: Mapping[tuple[str, str], tuple[RepeatedScenario, str]] = field(default_factory=dict)
    measurements: tuple[tuple[Measurement, str], ...] = ()

    @singledispatchmethod
    def find(self, wanted: Wanted) -> Found:
        """Raises Missing."""
        raise NotImplementedError(type(wanted).__name__)

    @find.register
    def _(self, wanted: Answer) -> Found:
        ran, source = self._scenario(wanted.scenario, wanted.on)
        answers = ran.observations.get(wanted.answer, ())
        if not answers:
            raise Missing(f"{wanted.scenario} on {wanted.on} does not answer {wanted.answer}")
        if len(set(answers)) > 1:
            raise Missing(f"{wanted.answer} on {wanted.on}: yes {sum(answers)} times of {len(answers)}")
        said = "yes" if answers[0] else "no"
        text = f"{wanted.scenario} on {wanted.on}: {wanted.answer}: {said}, {len(answers)} of {len(answers)} runs"
        return Found(answers[0], f"{text} ({source})")

    @find.register
    def _(self, wanted: Passed) -> Found:
        ran, source = self._scenario(wanted.passed, wanted.on)
        return Found(True, f"{wanted.passed} on {wanted.on} passed in {len(ran.outcomes)} runs ({source})")

    @find.register
    def _(self, wanted: Actions) -> Found:
        ran, source = self._scenario(wanted.actions, wanted.on)
        chosen = [
            action
            for action in map(str.split, ran.actions)
            if wanted.kind in (None, action[0]) and wanted.scope in (None, action[1])
        ]
        what = " ".join(word for word in (wanted.kind, wanted.scope) if word)
        return Found(len(chosen), f"{wanted.actions} on {wanted.on}: {len(chosen)} {what} actions ({source})")

    @find.register
    def _(self, wanted: Counted) -> Found:
        for measured, source in self.measurements:
            for burden in measured.burdens:
                if burden.topology == wanted.on and (runs := measured.valid(wanted.on)):
                    value = _services(runs) if wanted.counted == "services" else None
                    if wanted.counted == "image_mib":
                        value = round(sum(burden.image_bytes.values()) / _MIB)
                    if value is None:
                        value = getattr(burden, wanted.counted)
                    return Found(value, f"{wanted.on}: {value} {wanted.counted.replace('_', ' ')} ({source})")
        raise Missing(f"{wanted.on} was not measured")

    @find.register
    def _(self, wanted: Measured) -> Found:
        figures, source = self._figures(wanted.measured, (wanted.on,), wanted.phase, wanted.peers)
        mib = round(statistics.median(figures[wanted.on]) / _MIB, 1)
        labs = len(figures[wanted.on])
        what = f"{mib} MiB {wanted.measured} of the services, {wanted.phase}, {wanted.peers} peers"
        return Found(mib, f"{wanted.on}: {what}, median of {labs} labs ({source})")

    @find.register
    def _(self, wanted: Differs) -> Found:
        figures, source = self._figures(wanted.difference, wanted.between, wanted.phase, wanted.peers)
        first, second = wanted.between
        found = compare(figures[first], figures[second])
        if found.finding is Finding.TOO_FEW or found.p is None:
            raise Missing(f"too few labs to compare {first} and {second}: {source}")
        more = found.medians[0] > found.medians[1]
        value = 0 if found.finding is Finding.NOT_SHOWN else 1 if more else -1
        means = " against ".join(f"{median / _MIB:.1f}" for median in found.medians)
        labs = f"{len(figures[first])} and {len(figures[second])} labs"
        return Found(
            value, f"{first} against {second}: {found.finding}, {means} MiB, p = {found.p:.3f}, {labs} ({source})"
        )

    def _scenario(self, scenario: str, topology: str) -> tuple[RepeatedScenario, str]:
        if (scenario, topology) not in self.scenarios:
            raise Missing(f"{scenario} was not run on {topology}")
        ran, source = self.scenarios[scenario, topology]
        if bad := [outcome for outcome in ran.outcomes if outcome is not Outcome.PASSED]:
            raise Missing(f"{scenario} on {topology} ended with {bad[0]} in {len(bad)} of {len(ran.outcomes)} runs")
        return ran, source

    def _figures(
        self, part: Part, topologies: tuple[str, ...], phase: Phase, peers: int
    ) -> tuple[dict[str, list[float]], str]:
        """One value for each lab, all from one measurement: figures of two are not mixed."""
        for measured, source in self.measurements:
            figures = {
                topology: [
                    value for run in measured.valid(topology, peers) if (value := run.figure(phase, part)) is not None
                ]
                for topology in topologies
            }
            if all(figures.values()):
                return figures, source
        raise Missing(f"{' and '.join(topologies)} were not measured with {peers} peers, {phase}")


def _services(runs: tuple[LabRun, ...]) -> int | None:
    """Service containers that ran in every window of every lab; None when labs differ."""
    counts = {sum(series.role == "service" for series in window.containers) for run in runs for window in run.windows}
    return counts.pop() if len(counts) == 1 else None
