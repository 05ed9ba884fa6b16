"""Which stored results count here: the newest of this machine and these versions, or all of a named folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labs.claims import Evidence
from labs.errors import FileProblem, UsageError
from labs.images import catalogue
from labs.results import EnvironmentFacts, Measurement, RepeatedScenario, RepeatResult, load


@dataclass(frozen=True)
class Stored:
    """Results by file name, newest first, all of one environment; `environment` is the newest one's."""

    environment: EnvironmentFacts | None
    repeats: tuple[tuple[str, RepeatResult], ...]
    measurements: tuple[tuple[str, Measurement], ...]

    @property
    def evidence(self) -> Evidence:
        scenarios: dict[tuple[str, str], tuple[RepeatedScenario, str]] = {}
        for name, result in self.repeats:
            for ran in result.scenarios:
                scenarios.setdefault((ran.scenario, ran.topology), (ran, name))
        return Evidence(scenarios, tuple((measured, name) for name, measured in self.measurements))

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(name for name, _ in (*self.repeats, *self.measurements))


def stored(folder: Path, here: EnvironmentFacts | None) -> Stored:
    """The results in `folder`. With `here`, those of that machine and with its images; else all, if they are alike.

    Raises UsageError when a folder without `here` holds results of several machines.
    """
    repeats, measurements = _read(folder)
    if here:
        repeats = [(name, result) for name, result in repeats if _alike(result.environment, here)]
        measurements = [(name, result) for name, result in measurements if _alike(result.environment, here)]
    environments = [m.environment for _, m in measurements] + [r.environment for _, r in repeats]
    if len({environment.machine for environment in environments}) > 1:
        raise UsageError("These results are of several machines", where=str(folder), hint="put each in a folder")
    return Stored(environments[0] if environments else None, tuple(repeats), tuple(measurements))


def _read(folder: Path) -> tuple[list[tuple[str, RepeatResult]], list[tuple[str, Measurement]]]:
    """Newest first, by what they say themselves: a checkout gives all files one date. Other files are passed over."""
    repeats, measurements = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            measurements.append((path.name, load(Measurement, path)))
            continue
        except FileProblem:
            pass
        try:
            repeats.append((path.name, load(RepeatResult, path)))
        except FileProblem:
            continue
    repeats.sort(key=lambda entry: entry[1].created, reverse=True)
    measurements.sort(key=lambda entry: entry[1].created, reverse=True)
    return repeats, measurements


def _alike(one: EnvironmentFacts, here: EnvironmentFacts) -> bool:
    """The same machine and engine, and images that a lab may run now: a built one's reference has its recipe's hash."""
    current = {name for recipe in catalogue().values() for name in (recipe.reference, recipe.official)}
    return one.machine == here.machine and one.images.keys() <= current
