"""A measurement: fresh labs, each sampled in phases that are kept apart.

Everything a figure is made of is kept: one column for each part of each container, one row for each sweep.
"""

from __future__ import annotations

import statistics
from enum import StrEnum
from itertools import pairwise

from labs.results.schema import SCHEMA_VERSION, EnvironmentFacts, Model, ScenarioResult
from labs.results.statistics import Difference


class Phase(StrEnum):
    """What a lab does while it is sampled, in this order.

    boot: the services start, until the control plane serves. idle: it serves, and no peer has joined. joined: all
    peers have. after-scenarios: one scenario has run. load: routes, names and policy change, peers reconnect.
    """

    BOOT = "boot"
    IDLE = "idle"
    JOINED = "joined"
    AFTER = "after-scenarios"
    LOAD = "load"


class Part(StrEnum):
    """What is summed up: parts of memory in bytes. Footprint is anonymous + shared, which cannot be given back."""

    FOOTPRINT = "footprint"
    WORKING_SET = "working-set"
    ANONYMOUS = "anonymous"
    USAGE = "usage"


_COLUMNS = {
    Part.FOOTPRINT: ("anonymous_bytes", "shared_bytes"),
    Part.WORKING_SET: ("working_set_bytes",),
    Part.ANONYMOUS: ("anonymous_bytes",),
    Part.USAGE: ("usage_bytes",),
}


class Series(Model):
    """One container through one window: each column has a value for each sweep, null where unknown or not running.

    `pss_bytes` is read once, when the window has ended.
    """

    name: str
    role: str
    image: str
    columns: dict[str, tuple[int | None, ...]]
    pss_bytes: int | None = None

    def values(self, part: Part) -> tuple[int | None, ...]:
        """A part of memory at each sweep."""
        return tuple(map(_total, zip(*(self.columns[name] for name in _COLUMNS[part]), strict=True)))

    def grown(self, column: str) -> int | None:
        """By how much a counter grew through the window."""
        known = [value for value in self.columns[column] if value is not None]
        return known[-1] - known[0] if len(known) > 1 else None


class Window(Model):
    """One phase: sweeps at `at_s` seconds after it began, each taking `sweep_s`; it began `begin_s` into the run.

    `observer_cpu_s` is what the toolkit used meanwhile, `engine_cpu_s` dockerd, containerd and their shims, and
    `engine_anonymous_bytes` their memory at its end, outside of every container; null where they cannot be seen.
    """

    phase: Phase
    begin_s: float
    at_s: tuple[float, ...]
    sweep_s: tuple[float, ...]
    containers: tuple[Series, ...]
    observer_cpu_s: float
    engine_cpu_s: float | None
    engine_anonymous_bytes: int | None

    def total(self, part: Part, role: str = "service") -> float | None:
        """The stack: all containers of a role together. The median over the sweeps; the peak where it boots."""
        sums = self.sums(part, role)
        if self.phase is Phase.BOOT:
            return max((value for value in sums if value is not None), default=None)
        known = [value for value in sums if value is not None]
        return statistics.median(known) if known and len(known) == len(sums) else None

    def sums(self, part: Part, role: str = "service") -> tuple[int | None, ...]:
        """The same at each sweep; null when a container gave no figure. While booting those are not there yet."""
        members = [series.values(part) for series in self.containers if series.role == role]
        if self.phase is not Phase.BOOT:
            return tuple(map(_total, zip(*members, strict=True)))
        return tuple(sum(value or 0 for value in values) or None for values in zip(*members, strict=True))

    def drift(self, part: Part, role: str = "service") -> float | None:
        """The second half's median minus the first half's, in bytes: whether it was still moving."""
        known = [value for value in self.sums(part, role) if value is not None]
        half = len(known) // 2
        return statistics.median(known[-half:]) - statistics.median(known[:half]) if half else None

    def cpu_s(self, role: str = "service") -> float | None:
        """CPU time that the containers of a role used through the window."""
        grown = _total(tuple(s.grown("cpu_ns") for s in self.containers if s.role == role))
        return None if grown is None else grown / 1e9

    @property
    def widest_gap_s(self) -> float:
        return max((later - earlier for earlier, later in pairwise(self.at_s)), default=0.0)


class Mark(Model):
    """Something that happened, for the timeline."""

    at_s: float
    what: str


class LabRun(Model):
    """One fresh lab from nothing to nothing. `invalid` says why its figures do not count; empty when they do.

    `serves_s`: from nothing until the control plane serves and every peer's client runs. `first_ping_s`: from
    nothing to the first ping between two peers, the windows in between left out. `joins_s`: each peer's join.
    `route_change_s`: from the operator's withdrawal of a route until no peer has it any more. `recovery_s`: the control
    plane was down for some seconds; from its start until a route published then is at every peer. Null: not tried.
    """

    number: int
    topology: str
    product: str
    peers: int
    began_at: str
    invalid: tuple[str, ...]
    serves_s: float
    first_ping_s: float | None
    joins_s: dict[str, float]
    route_change_s: float | None
    recovery_s: float | None = None
    windows: tuple[Window, ...]
    marks: tuple[Mark, ...]
    scenario: ScenarioResult | None
    load_1m_before: float
    load_1m_after: float
    datapath: str

    def window(self, phase: Phase) -> Window | None:
        return next((window for window in self.windows if window.phase is phase), None)

    def figure(self, phase: Phase, part: Part, role: str = "service") -> float | None:
        """One number for the lab: see Window.total."""
        window = self.window(phase)
        return window.total(part, role) if window else None


class Definition(Model):
    """What was to be done, the same for every lab of a measurement. Times in seconds."""

    phases: tuple[Phase, ...]
    settle_s: float
    window_s: float
    interval_s: float
    boot_interval_s: float
    backend: str
    scenario: str
    load: tuple[str, ...]


class Burden(Model):
    """What an operator has to look after, counted in the topology's own files and images.

    `config_lines` count neither blank lines nor comments; `image_bytes` are as the engine stores them.
    """

    topology: str
    services: tuple[str, ...]
    stand_ins: dict[str, str]
    published_ports: int
    secrets: int
    volumes: int
    config_files: int
    config_lines: int
    settings: int
    image_bytes: dict[str, int]


class Measurement(Model):
    """Some topologies, each with `runs` valid fresh labs at each number of peers; labs interleaved, one at a time."""

    schema_version: int = SCHEMA_VERSION
    id: str
    created: str
    definition: Definition
    environment: EnvironmentFacts
    deviations: dict[str, tuple[str, ...]]
    wanted: dict[str, int]
    burdens: tuple[Burden, ...]
    runs: tuple[LabRun, ...]

    def valid(self, topology: str, peers: int | None = None) -> tuple[LabRun, ...]:
        """The labs of a topology that count, at this number of peers."""
        runs = (run for run in self.runs if run.topology == topology and not run.invalid)
        return tuple(run for run in runs if peers is None or run.peers == peers)

    @property
    def complete(self) -> bool:
        return all(len(self.valid(*unit_of(key))) >= runs for key, runs in self.wanted.items())


def unit_key(topology: str, peers: int) -> str:
    """How a topology with so many peers is called in `wanted`."""
    return f"{topology} {peers}"


def unit_of(key: str) -> tuple[str, int]:
    topology, peers = key.rsplit(" ", 1)
    return topology, int(peers)


def _total(values: tuple[int | None, ...]) -> int | None:
    """The sum; null when one of them is unknown."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


class StackFigure(Model):
    """One part of one stack's services in one phase: a value for each lab, in bytes, and the file it is from."""

    topology: str
    phase: Phase
    part: Part
    values: tuple[float, ...]
    source: str


class StackComparison(Model):
    """Stacks side by side. `differences` by "FIRST SECOND PHASE PART"; `mixed` says what was unlike, if allowed."""

    environment: EnvironmentFacts
    definition: Definition
    peers: int
    sources: tuple[str, ...]
    mixed: tuple[str, ...]
    burdens: tuple[Burden, ...]
    figures: tuple[StackFigure, ...]
    differences: dict[str, Difference]
