"""Reading a set of containers again and again, at fixed times, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType

from labs.errors import NotFound
from labs.measure.overhead import EngineUse, engine_use
from labs.measure.sampler import Reading, Sampler
from labs.results import Phase, Series, Window

_COLUMNS = (*asdict(Reading()), "working_set_bytes")


@dataclass(frozen=True, slots=True)
class Target:
    """A container to read, and how results call it."""

    container_id: str
    name: str
    role: str
    image: str


@dataclass
class Watch:
    """A window being sampled: `with Watch(...) as watch: ...`, and afterwards `watch.window()`.

    `targets` is asked before every sweep: containers may come while a lab boots. Sweeps are due at multiples of
    `interval_s`; one that comes late delays none of the later ones and is seen in `at_s`.
    """

    phase: Phase
    sampler: Sampler
    targets: Callable[[], tuple[Target, ...]]
    interval_s: float
    began_s: float
    local: bool
    _known: dict[str, Target] = field(default_factory=dict, init=False)
    _sweeps: list[Mapping[str, Reading | None]] = field(default_factory=list, init=False)
    _at_s: list[float] = field(default_factory=list, init=False)
    _sweep_s: list[float] = field(default_factory=list, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _failure: BaseException | None = field(default=None, init=False)

    def __enter__(self) -> Watch:
        self._begin_s = time.monotonic()
        self._cpu_before_s = time.process_time()
        self._engine_before = engine_use() if self.local else None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._cpu_s = time.process_time() - self._cpu_before_s
        self._engine_after = engine_use() if self.local else None
        if self._failure and error is None:
            raise self._failure

    def window(self) -> Window:
        """What was read. Proportional set sizes are read now, so that their cost is outside of the window."""
        before, after = self._engine_before, self._engine_after
        return Window(
            phase=self.phase,
            begin_s=round(self._begin_s - self.began_s, 3),
            at_s=tuple(self._at_s),
            sweep_s=tuple(self._sweep_s),
            containers=tuple(self._series(target) for target in self._known.values()),
            observer_cpu_s=round(self._cpu_s, 3),
            engine_cpu_s=_used(before, after),
            engine_anonymous_bytes=after.anonymous_bytes if after else None,
        )

    def _run(self) -> None:
        try:
            due_s = self._begin_s
            while not self._stop.wait(max(0.0, due_s - time.monotonic())):
                self._sweep()
                due_s += self.interval_s
        except BaseException as failure:  # noqa: BLE001 - it is raised where the window ends
            self._failure = failure

    def _sweep(self) -> None:
        began_s = time.monotonic()
        targets = self.targets()
        self._known |= {target.name: target for target in targets}
        self._sweeps.append({target.name: _read(self.sampler, target) for target in targets})
        self._at_s.append(round(began_s - self._begin_s, 4))
        self._sweep_s.append(round(time.monotonic() - began_s, 4))

    def _series(self, target: Target) -> Series:
        readings = [sweep.get(target.name) for sweep in self._sweeps]
        columns = {
            name: tuple(getattr(reading, name) if reading else None for reading in readings) for name in _COLUMNS
        }
        try:
            pss_bytes = self.sampler.pss_bytes(target.container_id) if self.phase is not Phase.BOOT else None
        except NotFound:
            pss_bytes = None
        return Series(name=target.name, role=target.role, image=target.image, columns=columns, pss_bytes=pss_bytes)


def _read(sampler: Sampler, target: Target) -> Reading | None:
    try:
        return sampler.read(target.container_id)
    except NotFound:
        return None


def _used(before: EngineUse | None, after: EngineUse | None) -> float | None:
    """CPU time between two looks; a shim that ended meanwhile took its own along."""
    return round(max(0.0, after.cpu_s - before.cpu_s), 3) if before and after else None
