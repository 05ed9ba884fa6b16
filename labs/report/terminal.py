"""Results as text for a terminal; from results only."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from labs.results import (
    ClaimsResult,
    ComparisonResult,
    Difference,
    LabRun,
    Measurement,
    Outcome,
    Part,
    Phase,
    ScenarioResult,
    StackComparison,
    StackFigures,
    StepResult,
    Verdict,
    unit_of,
)

_MIB = 1 << 20
_WIDTH = 118
_MARKS = {Outcome.PASSED: "✓", Outcome.FAILED: "✗", Outcome.ERROR: "!", Outcome.NOT_RUN: "-"}
_VERDICTS = {Verdict.SUPPORTED: "✓", Verdict.CONTRADICTED: "✗", Verdict.INCONCLUSIVE: "?"}
_ROLES = (("services", "service"), ("peers", "peer"), ("helpers", "host"))


def step_line(step: StepResult) -> str:
    """One step with its evidence, and the diagnosis when it did not pass."""
    lines = [f"  {_MARKS[step.outcome]} {step.text} ({step.took_s:.1f} s)"]
    lines += [f"      {evidence}" for evidence in step.evidence]
    if step.diagnosis:
        lines.append(f"      {step.outcome}, layer {step.diagnosis.layer}: {step.diagnosis.seen}")
    return "\n".join(lines)


def scenario_table(scenarios: Sequence[ScenarioResult]) -> str:
    """Scenario by topology: outcome, time, and what an operator had to do."""
    table = _table("Scenario", "Topology", "Outcome", "Took", "Operator's actions by scope")
    for result in scenarios:
        actions = ", ".join(f"{scope} {count}" for scope, count in result.burden.items())
        table.add_row(result.scenario, result.topology, result.outcome, f"{result.took_s:.1f} s", actions or "none")
    return _text("\nThe same scenario on each", table)


def comparison(result: ComparisonResult) -> str:
    """Containers and memory of each stack side by side, then every container."""
    stacks = result.stacks
    totals = _table("", *(stack.topology for stack in stacks), numbers=True)
    for heading, _ in _ROLES:
        totals.add_row(f"containers: {heading}", *(str(getattr(stack, heading)) for stack in stacks))
    for heading, role in _ROLES[:2]:
        for label, field in (("anonymous + shared", "footprint_bytes"), ("working set", "working_set_bytes")):
            totals.add_row(f"{label}: {heading}", *(_mib(stack.total(role, field)) for stack in stacks))
    parts = _table("Topology", "Container", "Role", "Anonymous", "Shared", "Working set", numbers=3)
    for stack in stacks:
        _add_containers(parts, stack)
    env = result.environment
    sources = ", ".join(sorted({facts.source for facts in env.images.values()}))
    notes = (
        f"MiB, one reading of each container when all peers had joined, from {stacks[0].backend}; images: {sources}.\n"
        f"{env.engine} {env.engine_version}, cgroup v{env.cgroup_version}, {env.cpus} CPUs, kernel {env.kernel}.\n"
        "One reading shows the size of things; it does not show a difference between stacks."
    )
    return _text("\nContainers and memory", totals, "", parts, notes)


def compared(result: StackComparison) -> str:
    """Topologies side by side: what there is to look after, then memory by phase with what the test over labs says."""
    burdens = {burden.topology: burden for burden in result.burdens}
    counts = _table("To look after", *burdens, numbers=True)
    counts.add_row("services", *(str(len(burden.services)) for burden in burdens.values()))
    for name in ("published_ports", "secrets", "volumes", "config_files", "config_lines", "settings"):
        counts.add_row(name.replace("_", " "), *(str(getattr(burden, name)) for burden in burdens.values()))
    memory = _table("Services, MiB", *burdens, "", numbers=True)
    figures = {(figure.topology, figure.phase, figure.part): figure.values for figure in result.figures}
    for phase, part in dict.fromkeys((figure.phase, figure.part) for figure in result.figures):
        values = (figures[topology, phase, part] for topology in burdens)
        ends = f" {phase} {part}"
        found = [_difference(difference) for key, difference in result.differences.items() if key.endswith(ends)]
        memory.add_row(
            f"{part}, {phase}", *(_mib(statistics.median(v)) if v else "unknown" for v in values), *found[:1]
        )
        for more in found[1:]:
            memory.add_row("", *("" for _ in burdens), more)
    labs = ", ".join(
        f"{len(figures[topology, *first])} labs of {topology}"
        for first in [(result.figures[0].phase, result.figures[0].part)]
        for topology in burdens
    )
    notes = [f"{result.peers} peers; medians of {labs}, from {', '.join(result.sources)}."]
    notes += [
        f"{topology}: {service} is a stand-in for {what}."
        for topology, burden in burdens.items()
        for service, what in burden.stand_ins.items()
    ]
    notes += [f"Compared although unlike: {text}" for text in result.mixed]
    return _text("", counts, memory, "\n".join(notes))


def _difference(found: Difference) -> str:
    return str(found.finding) + ("" if found.p is None else f", p = {found.p:.3f}")


def verdicts(result: ClaimsResult) -> str:
    """Each claim with its verdict; one alone with its evidence."""
    alone = len(result.claims) == 1
    lines = []
    for claim in result.claims:
        lines.append(f"{_VERDICTS[claim.verdict]} {claim.verdict:<13} {claim.id}: {claim.says}")
        if alone:
            lines += [f"    {sentence}" for sentence in claim.evidence]
            lines += [f"    supported if {claim.supported_if}", f"    contradicted if {claim.contradicted_if}"]
            lines += [f"    {claim.reason}", f"    not shown: {claim.not_shown}"]
        if claim.decide_with:
            lines.append(f"    to decide: {claim.decide_with}")
    sources = ", ".join(result.sources) or "nothing: there are no results of this machine and these versions"
    return "\n".join(["", *lines, "", f"From {sources}."])


def measurement(result: Measurement) -> str:
    """What was measured: for each topology and number of peers the median over its labs, and their range."""
    table = _table("Topology", "Peers", "Labs", "Phase", "Anonymous + shared", "Working set", "Range", numbers=3)
    for topology, peers in map(unit_of, result.wanted):
        runs = result.valid(topology, peers)
        for phase in result.definition.phases:
            footprint = _per_lab(runs, phase, Part.FOOTPRINT)
            working_set = _per_lab(runs, phase, Part.WORKING_SET)
            reach = f"{_mib(min(working_set))} to {_mib(max(working_set))}" if working_set else ""
            medians = (_mib(statistics.median(v)) if v else "unknown" for v in (footprint, working_set))
            table.add_row(topology, str(peers), str(len(runs)), phase, *medians, reach)
    invalid = [run for run in result.runs if run.invalid]
    notes = f"MiB of the services together, median over the labs, from {result.definition.backend}; boot is its peak."
    lines = [f"! {run.topology}, run {run.number} does not count: {'; '.join(run.invalid)}" for run in invalid]
    return _text("", table, "\n".join([notes, *lines]))


def _per_lab(runs: Iterable[LabRun], phase: Phase, part: Part) -> list[float]:
    return [figure for run in runs if (figure := run.figure(phase, part)) is not None]


def _add_containers(table: Table, stack: StackFigures) -> None:
    for container in stack.containers:
        figures = (container.anonymous_bytes, container.shared_bytes, container.working_set_bytes)
        table.add_row(stack.topology, container.name, container.role, *map(_mib, figures))


def _mib(size_bytes: float | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / _MIB:.1f}"


def _table(*headings: str, numbers: bool | int = 0) -> Table:
    """`numbers` True: all columns but the first hold numbers; N: the last N do."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    first_number = 1 if numbers is True else len(headings) - numbers
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right" if position >= first_number else "left", no_wrap=True)
    return table


def _text(*parts: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=_WIDTH, highlight=False, markup=False)
    for part in parts:
        console.print(part)
    stream = console.file
    text = stream.getvalue() if isinstance(stream, io.StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines())


def outcome_lines(result: ScenarioResult) -> Iterable[str]:
    """A scenario step by step."""
    return (step_line(step) for step in result.steps)
