"""A whole measurement: what is wanted, what is there already, and a file that is whole after every run."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labs.engine import Engine
from labs.errors import FileProblem, UsageError
from labs.images import ImageEvent, ensure
from labs.lab.plan import image_variables
from labs.measure.burden import burden, deviations
from labs.measure.figures import environment
from labs.measure.load import LOAD
from labs.measure.protocol import Measurer, Say, Unit, inventory, order
from labs.measure.sampler import Sampler, choose_sampler
from labs.results import Definition, Measurement, Phase, load, save, unit_key
from labs.scenario import Scenario

# Invalid runs are made up for, up to as many again as were wanted; a later command goes on.
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Order:
    """What the user asks for. `backend` is cgroup or engine; None chooses by where the engine runs."""

    topologies: tuple[str, ...]
    peers: tuple[int, ...]
    runs: int
    phases: tuple[Phase, ...]
    scenario: Scenario
    settle_s: float = 5.0
    window_s: float = 10.0
    interval_s: float = 0.5
    boot_interval_s: float = 0.1
    backend: str | None = None

    @property
    def units(self) -> tuple[Unit, ...]:
        return tuple(Unit(topology, peers) for peers in self.peers for topology in self.topologies)


def definition(asked: Order, sampler: Sampler) -> Definition:
    return Definition(
        phases=asked.phases,
        settle_s=asked.settle_s,
        window_s=asked.window_s,
        interval_s=asked.interval_s,
        boot_interval_s=asked.boot_interval_s,
        backend=sampler.backend,
        scenario=asked.scenario.name,
        load=tuple(f"{at_s:g} s: {what}" for at_s, what in LOAD) if Phase.LOAD in asked.phases else (),
    )


def measure(
    engine: Engine, asked: Order, folder: Path, out: Path | None, say: Say, on_image: Callable[[ImageEvent], None]
) -> tuple[Measurement, Path]:
    """Make all runs that are missing, saving after each; returns the measurement and its file.

    An unfinished one in `folder` (or `out`) of the same definition, versions and environment is gone on with.
    Raises UsageError when `out` is another measurement, and what starting a lab raises when it is no LabsError.
    """
    sampler = choose_sampler(engine, asked.backend)
    images = {
        topology: ensure(engine, image_variables(topology, inventory(asked.scenario, max(asked.peers))), on_image)
        for topology in asked.topologies
    }
    begun = _begun(engine, asked, sampler, images)
    path = out or folder / f"{begun.created.replace('-', '').replace(':', '').split('+')[0]}Z-{begun.id}.json"
    earlier = _earlier(begun, folder, out)
    if earlier:
        begun, path = earlier
        say(f"going on with {path.name}: {len(begun.runs)} runs are there")
    measurer = Measurer(engine, begun.definition, sampler, asked.scenario, images, say)
    measured = _carry_out(measurer, asked, begun, path, say)
    return measured, path


def _carry_out(measurer: Measurer, asked: Order, measured: Measurement, path: Path, say: Say) -> Measurement:
    for unit in order(asked.units, asked.runs * _ATTEMPTS):
        done = len(measured.valid(unit.topology, unit.peers))
        if done >= asked.runs:
            continue
        number = sum((run.topology, run.peers) == (unit.topology, unit.peers) for run in measured.runs) + 1
        say(f"{unit.topology}, {unit.peers} peers, run {number} ({done} of {asked.runs} valid)")
        made = measurer.run(unit, number)
        for reason in made.invalid:
            say(f"        ! does not count: {reason}")
        measured = measured.model_copy(update={"runs": (*measured.runs, made)})
        save(measured, path, indent=None)
    return measured


def _begun(engine: Engine, asked: Order, sampler: Sampler, images: Mapping[str, Mapping[str, str]]) -> Measurement:
    """Nothing measured yet."""
    return Measurement(
        id=secrets.token_hex(3),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        definition=definition(asked, sampler),
        environment=environment(engine, {image for known in images.values() for image in known.values()}),
        deviations={topology: deviations(engine, topology) for topology in asked.topologies},
        wanted={unit_key(unit.topology, unit.peers): asked.runs for unit in asked.units},
        burdens=tuple(burden(engine, topology, images[topology]) for topology in asked.topologies),
        runs=(),
    )


def _earlier(begun: Measurement, folder: Path, out: Path | None) -> tuple[Measurement, Path] | None:
    if out is not None:
        if not out.exists():
            return None
        found = load(Measurement, out)
        if not _same(found, begun):
            raise UsageError("That file holds another measurement", where=str(out), hint="name another --out")
        return found, out
    for path, found in stored(folder):
        if not found.complete and _same(found, begun):
            return found, path
    return None


def _same(one: Measurement, other: Measurement) -> bool:
    """Whether runs of one may be added to the other."""
    machines = one.environment.machine == other.environment.machine
    alike = (one.definition, one.wanted) == (other.definition, other.wanted)
    return machines and alike and one.environment.images == other.environment.images


def stored(folder: Path) -> Sequence[tuple[Path, Measurement]]:
    """The measurements in a folder, newest first; other files are passed over."""
    found = []
    for path in folder.glob("*.json"):
        try:
            found.append((path, load(Measurement, path)))
        except FileProblem:
            continue
    return sorted(found, key=lambda entry: entry[1].created, reverse=True)
