"""Stacks side by side, from one measurement or several of the same kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from labs.errors import UsageError
from labs.results import (
    FEWEST_LABS,
    Burden,
    Difference,
    LabRun,
    Measurement,
    Part,
    Phase,
    StackComparison,
    StackFigure,
    compare,
)

Source = tuple[str, Measurement]
PARTS = (Part.FOOTPRINT, Part.WORKING_SET)


def side_by_side(
    topologies: Sequence[str], sources: Sequence[Source], peers: int | None, *, mixed: bool = False
) -> StackComparison:
    """Compare every two of the topologies in every phase. `sources` are newest first; `mixed` allows unlike ones.

    Raises UsageError when a topology was not measured, and when measurements differ in definition, backend or
    environment.
    """
    chosen = _chosen(topologies, sources, peers)
    first, *others = dict.fromkeys(name for name, _, _ in chosen.values())
    known = dict(sources)
    unlike = [text for name in others for text in differences(known[first], known[name])]
    if unlike and not mixed:
        raise UsageError(
            "These measurements may not be compared",
            where=", ".join((first, *others)),
            why="; ".join(unlike),
            hint="measure them together, or add --mixed and it will say so",
        )
    measured = known[first]
    count = peers or next(iter(chosen.values()))[1]
    figures = tuple(
        StackFigure(topology=topology, phase=phase, part=part, values=values(runs, phase, part), source=name)
        for topology, (name, _, runs) in chosen.items()
        for phase in measured.definition.phases
        for part in PARTS
    )
    return StackComparison(
        environment=measured.environment,
        definition=measured.definition,
        peers=count,
        sources=(first, *others),
        mixed=tuple(unlike),
        burdens=tuple(_burden(known[name], topology) for topology, (name, _, _) in chosen.items()),
        figures=figures,
        differences=_differences(topologies, figures),
    )


def values(runs: Sequence[LabRun], phase: Phase, part: Part, role: str = "service") -> tuple[float, ...]:
    """One for each lab that has it."""
    return tuple(figure for run in runs if (figure := run.figure(phase, part, role)) is not None)


def differences(one: Measurement, other: Measurement) -> list[str]:
    """Why two measurements may not be compared."""
    found = []
    if one.definition != other.definition:
        fields = (name for name in type(one.definition).model_fields)
        unlike = [name for name in fields if getattr(one.definition, name) != getattr(other.definition, name)]
        found.append(f"defined otherwise: {', '.join(unlike)}")
    if one.environment.machine != other.environment.machine:
        found.append("another machine or engine")
    if (here := _sources(one)) != (there := _sources(other)):
        found.append(f"images from elsewhere: {', '.join(here)}; {', '.join(there)}")
    return found


def _sources(measured: Measurement) -> list[str]:
    """Where the images came from: a product that was built here is not the one that was pulled."""
    return sorted({facts.source for facts in measured.environment.images.values()})


def _chosen(
    topologies: Sequence[str], sources: Sequence[Source], peers: int | None
) -> dict[str, tuple[str, int, tuple[LabRun, ...]]]:
    """The newest measurement with enough labs of all, else the newest that has them all, else the newest of each."""
    options = [_in(topologies, source, peers) for source in sources]
    whole = [option for option in options if len(option) == len(topologies)]
    enough = [option for option in whole if all(len(runs) >= FEWEST_LABS for _, _, runs in option.values())]
    if whole:
        return (enough or whole)[0]
    found = {topology: option[topology] for option in reversed(options) for topology in option}
    if missing := [topology for topology in topologies if topology not in found]:
        raise UsageError(
            f"There are no valid figures of {', '.join(missing)}" + (f" with {peers} peers" if peers else ""),
            hint=f"inv measure {','.join(topologies)}",
        )
    return {topology: found[topology] for topology in topologies}


def _in(topologies: Sequence[str], source: Source, peers: int | None) -> dict[str, tuple[str, int, tuple[LabRun, ...]]]:
    name, measured = source
    found = {}
    for topology in topologies:
        counts = Counter(run.peers for run in measured.valid(topology))
        count = peers or max(sorted(counts), key=counts.__getitem__, default=0)
        if runs := measured.valid(topology, count):
            found[topology] = (name, count, runs)
    return found


def _burden(measured: Measurement, topology: str) -> Burden:
    return next(burden for burden in measured.burdens if burden.topology == topology)


def _differences(topologies: Sequence[str], figures: Sequence[StackFigure]) -> dict[str, Difference]:
    found = {}
    known = {(figure.topology, figure.phase, figure.part): figure.values for figure in figures}
    for first, second in combinations(topologies, 2):
        for topology, phase, part in known:
            one, other = known[first, phase, part], known[second, phase, part]
            if topology == first and one and other:
                found[f"{first} {second} {phase} {part}"] = compare(one, other)
    return found
