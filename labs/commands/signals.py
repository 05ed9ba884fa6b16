"""Being stopped: Ctrl-C, SIGTERM and SIGHUP all unwind the same way, once."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType, TracebackType
from typing import Any

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
        for number in _STOPPING:
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
