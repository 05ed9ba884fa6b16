"""Being stopped: Ctrl-C, SIGTERM and SIGHUP all unwind the same way, once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NOTE = b"\nstill removing what was made; one more Ctrl-C leaves the rest, which `inv down` removes later\n"


class Stoppable:
    """While entered, the first stop signal raises KeyboardInterrupt in the main thread, so cleanup runs.

    Later ones do not raise: CI systems send SIGINT and then SIGTERM, terminals send SIGHUP after a
    Ctrl-C, and either would cut cleanup short. Only a third Ctrl-C does, after the second has said
    so. Signals that were ignored when the process started (nohup, a background job) stay ignored.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._signals = 0

    def __enter__(self) -> Stoppable:
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1 or (number == signal.SIGINT and self._signals > 2):
            raise KeyboardInterrupt
        # Written straight to the descriptor: this may interrupt a print, and the terminal may be gone.
        with contextlib.suppress(OSError):
            os.write(2, _NOTE)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Stop signals that come meanwhile take effect at the end, so that a child that is being started is known by then.

    Children started inside heed SIGINT even where this process must not (a background job of a script): what is
    ignored is inherited, a handler is not.
    """
    came: list[int] = []
    held = [one for one in STOPPING if one is signal.SIGINT or signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda came_now, _: came.append(came_now)) for number in held}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)
