"""From stored results to what a page shows: rows and series, no text layout."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from labs.results import (
    ClaimsResult,
    Finding,
    LabRun,
    Measurement,
    Part,
    Phase,
    RepeatResult,
    Slope,
    StackComparison,
    Verdict,
    slope,
)

MIB = 1 << 20
_DECIMALS = 1
# A cell that names more pairs than this is taller than what it tells.
_MOST_PAIRS = 1


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the side-by-side table: a value for each topology, and where on the page each one's samples are."""

    what: str
    values: tuple[str, ...]
    finding: str = ""
    anchors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Raw:
    """The sweeps behind one figure: for each lab its values in MiB, one a sweep."""

    anchor: str
    title: str
    labs: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Actions:
    """How often the operator had to act in one scenario, and by scope."""

    total: int
    by_scope: str


@dataclass(frozen=True, slots=True)
class Growth:
    """How one figure grows with peers on one topology; points are (peers, value)."""

    topology: str
    what: str
    unit: str
    points: tuple[tuple[int, float], ...]
    line: Slope | None


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that a page shows."""

    claims: ClaimsResult
    counts: dict[Verdict, int]
    comparison: StackComparison | None
    topologies: tuple[str, ...]
    rows: tuple[Row, ...]
    raw: tuple[Raw, ...]
    growth: tuple[Growth, ...]
    by_container: dict[str, dict[str, float]]
    timelines: dict[str, LabRun]
    actions: dict[str, dict[str, Actions]]
    invalid: tuple[str, ...]
    deviations: dict[str, tuple[str, ...]]
    drift: tuple[Row, ...]
    stand_ins: dict[str, dict[str, str]]

    @property
    def products(self) -> tuple[str, ...]:
        """Those whose operators' actions are told."""
        return tuple(sorted({product for by in self.actions.values() for product in by}))


def gather(
    claims: ClaimsResult,
    comparison: StackComparison | None,
    measurements: Sequence[tuple[str, Measurement]],
    repeats: Sequence[tuple[str, RepeatResult]],
) -> ReportData:
    """Everything by topology, in the order of the comparison."""
    topologies = tuple(dict.fromkeys(figure.topology for figure in comparison.figures)) if comparison else ()
    counts = Counter(claim.verdict for claim in claims.claims)
    known = dict(measurements)
    runs = {topology: _runs(comparison, known, topology) for topology in topologies} if comparison else {}
    return ReportData(
        claims=claims,
        counts={verdict: counts[verdict] for verdict in Verdict},
        comparison=comparison,
        topologies=topologies,
        rows=tuple(_rows(comparison, topologies, runs)) if comparison else (),
        raw=tuple(_raw(comparison, runs)) if comparison else (),
        growth=tuple(_growth(measurements)),
        by_container=_by_container(runs),
        timelines={topology: found[0] for topology, found in runs.items() if found},
        actions=_actions(repeats),
        invalid=tuple(
            f"{name}: {run.topology}, {run.peers} peers, run {run.number}: {'; '.join(run.invalid)}"
            for name, measured in measurements
            for run in measured.runs
            if run.invalid
        ),
        deviations={topology: said for _, measured in measurements for topology, said in measured.deviations.items()},
        drift=tuple(_drift(runs, comparison)) if comparison else (),
        stand_ins={b.topology: b.stand_ins for b in comparison.burdens if b.stand_ins} if comparison else {},
    )


def anchor(topology: str, phase: Phase, part: Part) -> str:
    return f"raw-{topology}-{phase}-{part}"


def _runs(comparison: StackComparison, known: dict[str, Measurement], topology: str) -> tuple[LabRun, ...]:
    source = next(figure.source for figure in comparison.figures if figure.topology == topology)
    return known[source].valid(topology, comparison.peers)


def _rows(comparison: StackComparison, topologies: Sequence[str], runs: dict[str, tuple[LabRun, ...]]) -> Iterable[Row]:
    burdens = {burden.topology: burden for burden in comparison.burdens}
    found = [burdens[topology] for topology in topologies]
    yield Row("services", tuple(str(len(burden.services)) for burden in found))
    for name in ("published_ports", "secrets", "volumes", "config_files", "config_lines", "settings"):
        yield Row(name.replace("_", " "), tuple(str(getattr(burden, name)) for burden in found))
    sizes = [round(sum(burden.image_bytes.values()) / MIB) for burden in found]
    yield Row("images of the services, MiB", tuple(map(str, sizes)))
    figures = {(f.topology, f.phase, f.part): f.values for f in comparison.figures}
    for phase in comparison.definition.phases:
        for part in (Part.FOOTPRINT, Part.WORKING_SET):
            yield Row(
                f"{_called(part)}, {phase}{' (peak)' if phase is Phase.BOOT else ''}, MiB",
                tuple(_spread(figures.get((topology, phase, part), ())) for topology in topologies),
                "; ".join(_findings(comparison, phase, part)),
                tuple(anchor(topology, phase, part) for topology in topologies),
            )
    each_peer = [
        [value for run in runs[topology] if (value := _memory(run, "peer", run.peers))] for topology in topologies
    ]
    yield Row("each peer, anonymous + shared, joined, MiB", tuple(_spread(values, unit=1) for values in each_peer))
    for what, values in _times(runs):
        if not any(values.values()):
            continue  # its phase was not measured
        yield Row(what, tuple(_numbers(values[topology]) for topology in topologies))
    for what, values in _outside(runs):
        yield Row(what, tuple(_numbers(values[topology]) for topology in topologies))


def _called(part: Part) -> str:
    return "anonymous + shared" if part is Part.FOOTPRINT else str(part).replace("-", " ")


def _findings(comparison: StackComparison, phase: Phase, part: Part) -> Iterable[str]:
    """What is found of two stacks; of more, which pairs do not differ."""
    pairs = comparison.differences.items()
    chosen = [(key.split()[:2], found) for key, found in pairs if key.endswith(f" {phase} {part}")]
    if len(chosen) == 1:
        found = chosen[0][1]
        yield str(found.finding) + ("" if found.p is None else f", p = {found.p:.3f}")
        return
    alike = [(names, found) for names, found in chosen if found.finding is not Finding.DIFFERENT]
    if not alike:
        yield f"all {len(chosen)} pairs differ"
    elif len({found.finding for _, found in alike}) == 1 and len(alike) == len(chosen):
        yield f"{alike[0][1].finding}, all {len(chosen)} pairs"
    elif len(alike) <= _MOST_PAIRS:
        yield "all pairs differ but " + ", ".join(f"{first} and {second}" for (first, second), _ in alike)
    else:
        yield f"{len(chosen) - len(alike)} of {len(chosen)} pairs differ"


def _times(runs: dict[str, tuple[LabRun, ...]]) -> Iterable[tuple[str, dict[str, list[float]]]]:
    yield "from nothing to serving, s", {name: [run.serves_s for run in found] for name, found in runs.items()}
    yield (
        "from nothing to the first ping, s",
        {name: [run.first_ping_s for run in found if run.first_ping_s] for name, found in runs.items()},
    )
    yield (
        "one peer's join, s",
        {name: [seconds for run in found for seconds in run.joins_s.values()] for name, found in runs.items()},
    )
    yield (
        "a route's withdrawal reaches all, s",
        {name: [run.route_change_s for run in found if run.route_change_s] for name, found in runs.items()},
    )
    yield (
        "from an outage's end to a route change at all peers, s",
        {name: [run.recovery_s for run in found if run.recovery_s] for name, found in runs.items()},
    )
    yield (
        "CPU of the services while idle, ms a second",
        {name: list(_cpu(found, Phase.IDLE)) for name, found in runs.items()},
    )
    yield (
        "CPU of the services under load, ms a second",
        {name: list(_cpu(found, Phase.LOAD)) for name, found in runs.items()},
    )


def _outside(runs: dict[str, tuple[LabRun, ...]]) -> Iterable[tuple[str, dict[str, list[float]]]]:
    """What is in no container: the engine itself, and the toolkit that watches."""
    idle = {name: [window for run in found if (window := run.window(Phase.IDLE))] for name, found in runs.items()}
    memory = {
        name: [window.engine_anonymous_bytes / MIB for window in found if window.engine_anonymous_bytes is not None]
        for name, found in idle.items()
    }
    observer = {
        name: [window.observer_cpu_s * 1000 / window.at_s[-1] for window in found if len(window.at_s) > 1]
        for name, found in idle.items()
    }
    yield "outside: the engine's own processes, anonymous, MiB", memory
    yield "outside: the observer's CPU, ms a second", observer


def _cpu(runs: Iterable[LabRun], phase: Phase) -> Iterable[float]:
    for run in runs:
        window = run.window(phase)
        if window and window.at_s and (used_s := window.cpu_s()) is not None:
            yield used_s * 1000 / (window.at_s[-1] - window.at_s[0])


def _raw(comparison: StackComparison, runs: dict[str, tuple[LabRun, ...]]) -> Iterable[Raw]:
    for phase in comparison.definition.phases:
        for part in (Part.FOOTPRINT, Part.WORKING_SET):
            for topology, found in runs.items():
                labs = [(run, run.window(phase)) for run in found]
                yield Raw(
                    anchor(topology, phase, part),
                    f"{topology}, {phase}, {_called(part)}: MiB of the services at each sweep",
                    tuple(
                        (f"lab {run.number}", tuple(_mib(value) for value in window.sums(part)))
                        for run, window in labs
                        if window
                    ),
                )


def _growth(measurements: Sequence[tuple[str, Measurement]]) -> Iterable[Growth]:
    """From the newest measurement with several numbers of peers."""
    for _, measured in measurements:
        valid = [run for run in measured.runs if not run.invalid]
        if len({run.peers for run in valid}) < 2:
            continue
        for topology in dict.fromkeys(run.topology for run in valid):
            runs = [run for run in valid if run.topology == topology]
            for what, unit, points in _grown(runs):
                counts, values = [peers for peers, _ in points], [value for _, value in points]
                line = slope(counts, values) if len(set(counts)) > 1 else None
                yield Growth(topology, what, unit, tuple(points), line)
        return


def _grown(runs: Sequence[LabRun]) -> Iterable[tuple[str, str, list[tuple[int, float]]]]:
    def points(value: Callable[[LabRun], float | None]) -> list[tuple[int, float]]:
        return [(run.peers, found) for run in runs if (found := value(run)) is not None]

    yield "control plane, anonymous + shared", "MiB", points(lambda run: _memory(run, "service", 1))
    yield "each peer, anonymous + shared", "MiB", points(lambda run: _memory(run, "peer", run.peers))
    yield "control plane, CPU", "ms/s", points(lambda run: next(iter(_cpu([run], Phase.JOINED)), None))
    yield "one peer's join", "s", points(lambda run: statistics.median(run.joins_s.values()))
    yield "a route's withdrawal reaches all", "s", points(lambda run: run.route_change_s)


def _memory(run: LabRun, role: str, among: int) -> float | None:
    figure = run.figure(Phase.JOINED, Part.FOOTPRINT, role)
    return None if figure is None else figure / MIB / among


def _by_container(runs: dict[str, tuple[LabRun, ...]]) -> dict[str, dict[str, float]]:
    """Median footprint in MiB by "topology, phase" and service."""
    table: dict[str, dict[str, float]] = {}
    for topology, found in runs.items():
        gathered: dict[tuple[Phase, str], list[float]] = {}
        for window in (window for run in found for window in run.windows if window.phase is not Phase.BOOT):
            for series in window.containers:
                known = [value for value in series.values(Part.FOOTPRINT) if value is not None]
                if series.role == "service" and known:
                    gathered.setdefault((window.phase, series.name), []).append(statistics.median(known) / MIB)
        for (phase, name), values in gathered.items():
            table.setdefault(f"{topology}, {phase}", {})[name] = statistics.median(values)
    return table


def _actions(repeats: Sequence[tuple[str, RepeatResult]]) -> dict[str, dict[str, Actions]]:
    """The operator's actions by scenario and topology, for scenarios that ran on several and did not only ask."""
    table: dict[str, dict[str, Actions]] = {}
    for _, result in repeats:
        for ran in result.scenarios:
            words = [action.split(" ", 2) for action in ran.actions]
            scopes = Counter("restart" if kind == "restart" else scope for kind, scope, _ in words)
            said = ", ".join(f"{scope} {count}" for scope, count in sorted(scopes.items()))
            # Every topology is called after its product; a scenario runs on one of each.
            product = ran.topology.partition("-")[0]
            table.setdefault(ran.scenario, {}).setdefault(product, Actions(len(words), said))
    return {name: by for name, by in sorted(table.items()) if len(by) > 1 and any(one.total for one in by.values())}


def _drift(runs: dict[str, tuple[LabRun, ...]], comparison: StackComparison) -> Iterable[Row]:
    for phase in comparison.definition.phases:
        if phase in (Phase.BOOT, Phase.LOAD):
            continue
        found = []
        for labs in runs.values():
            windows = [window for run in labs if (window := run.window(phase))]
            moved = [value for window in windows if (value := window.drift(Part.FOOTPRINT)) is not None]
            found.append(_spread(moved, signed=True))
        yield Row(f"{phase}", tuple(found))


def _spread(values: Sequence[float], *, signed: bool = False, unit: int = MIB) -> str:
    """The median in MiB, and the range over the labs; `unit` is a MiB in that of the values."""
    if not values:
        return "unknown"
    sign = "+" if signed else ""
    low, middle, high = (
        f"{value / unit:{sign}.{_DECIMALS}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low} to {high})"


def _numbers(values: Sequence[float]) -> str:
    if not values:
        return "unknown"
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _mib(value: int | None) -> str:
    return "-" if value is None else f"{value / MIB:.2f}"
