"""Starting a lab with its progress shown: what `up`, `demo` and the scenario runs have in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from labs.commands.common import Output
from labs.engine import Engine
from labs.images import ImageEvent
from labs.lab import Lab
from labs.lab.start import start as begin
from labs.lab.up import Step
from labs.model import Inventory

_STILL_GOING_S = 10.0


def start(engine: Engine, topology: str, name: str, inventory: Inventory, out: Output, *, keep: bool = False) -> Lab:
    """The lab that is asked for, with progress on `out`."""
    progress = Progress(out)
    lab, new = begin(engine, topology, name, inventory, progress.step, progress.image, keep=keep)
    if not new:
        out.line(f"Lab {name} is there already.")
    return lab


class Progress:
    """One line for each thing that happens; long work on an image shows again that it goes on."""

    def __init__(self, out: Output, now: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._now = now
        self._lock = threading.Lock()
        self._last: dict[str, tuple[str, float]] = {}

    def step(self, step: Step) -> None:
        with self._lock:
            self._out.line(f"{step.at_s:6.1f} s  {step.subject} {step.what}")

    def image(self, event: ImageEvent) -> None:
        with self._lock:
            phase, said_s = self._last.get(event.image, ("", 0.0))
            if phase != event.phase or self._now() - said_s >= _STILL_GOING_S:
                self._out.line(f"image {event.image}: {event.phase} {event.detail}")
                self._last[event.image] = (event.phase, self._now())
