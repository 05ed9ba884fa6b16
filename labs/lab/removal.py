"""Taking a lab away: everything that carries its label, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from labs.engine import ContainerInfo, Engine, NetworkInfo, VolumeInfo
from labs.errors import EngineProblem, EngineUnavailable, Leftovers
from labs.lab import labels
from labs.lab.files import LabFiles, records
from labs.timing import SystemClock

_WORKERS = 8
# Networks can be removed once the engine has let go of the last endpoint, a moment after the container.
_PASSES = 6
_SETTLE_S = 0.1  # before the second pass, twice that before the third, and so on


@dataclass(frozen=True, slots=True)
class Removed:
    """How many things were found and removed; `files` are those of labs that the engine did not have any more."""

    containers: int
    networks: int
    volumes: int
    files: int = 0

    @property
    def anything(self) -> bool:
        return bool(self.containers or self.networks or self.volumes or self.files)


def remove(engine: Engine, marks: Mapping[str, str]) -> Removed:
    """Remove all containers, networks and volumes with these labels, and the files of their runs.

    For a lab's name the files go too that it left of an engine that is no longer the one at this endpoint.
    Says so only after listing again: raises Leftovers naming what is still there, and EngineUnavailable with what to
    do once there is an engine again.
    """
    try:
        return _remove(engine, marks)
    except EngineUnavailable as gone:
        raise EngineUnavailable(
            "The container engine does not answer, so what is on it is still there",
            where=engine.endpoint,
            why=gone.why,
            hint=f"once it answers again: inv down {marks.get(labels.LAB) or '--all'}",
        ) from gone


def _remove(engine: Engine, marks: Mapping[str, str]) -> Removed:
    runs: set[str] = set()
    first = _list(engine, marks)
    found = first
    problems: list[str] = []
    for number in range(_PASSES):
        # The engine takes a container's place off its networks a moment after the container is gone.
        SystemClock().wait(_SETTLE_S * number)
        runs |= {thing.labels.get(labels.RUN, "") for thing in found.all}
        if not found.all:
            break
        problems = _remove_once(engine, found)
        found = _list(engine, marks)
    if found.all:
        names = ", ".join(thing.name for thing in found.all)
        raise Leftovers(
            "Not everything could be removed", where=names, why="; ".join(problems), hint="run the same command again"
        )
    own = {record.run_id for record in records() if record.engine == engine.endpoint and _named(record.name, marks)}
    for run in filter(str.isalnum, runs | own):
        LabFiles.of(run).remove()
    return Removed(len(first.containers), len(first.networks), len(first.volumes), len(own - runs))


def _named(name: str, marks: Mapping[str, str]) -> bool:
    return marks.get(labels.LAB) in ("", name)


class _Found(NamedTuple):
    containers: tuple[ContainerInfo, ...]
    networks: tuple[NetworkInfo, ...]
    volumes: tuple[VolumeInfo, ...]

    @property
    def all(self) -> tuple[ContainerInfo | NetworkInfo | VolumeInfo, ...]:
        return (*self.containers, *self.networks, *self.volumes)


def _list(engine: Engine, marks: Mapping[str, str]) -> _Found:
    return _Found(engine.containers(marks), engine.networks(marks), engine.volumes(marks))


def _remove_once(engine: Engine, found: _Found) -> list[str]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        problems = [*pool.map(lambda container: _try(engine.remove, container.id), found.containers)]
        problems += pool.map(lambda network: _try(engine.remove_network, network.id), found.networks)
        problems += pool.map(lambda volume: _try(engine.remove_volume, volume.name), found.volumes)
    return [problem for problem in problems if problem]


def _try(remove: Callable[[str], None], subject: str) -> str:
    try:
        remove(subject)
    except EngineProblem as problem:
        return problem.why or problem.what
    return ""
