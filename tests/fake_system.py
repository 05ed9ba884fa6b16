"""A machine for the private engine's tests: processes, mounts and programs in memory, time that costs nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from labs.engine.host import Answer, Outcome, Process


class FakeSystem:
    """`on_spawn` and `on_signal` let a test decide what a program does; else it starts, and ends when asked to."""

    def __init__(self) -> None:
        self.time = 0.0
        self.root = True
        self.debian = True
        self.programs = {"dockerd", "iptables"}
        self.table: dict[int, Process] = {}
        self.mounted: list[Path] = []
        self.busy_mounts: set[Path] = set()
        self.serving = False
        self.answers: dict[str, Answer] = {}
        self.outcomes: list[Outcome] = []
        self.ran: list[tuple[str, ...]] = []
        self.spawned: list[tuple[str, ...]] = []
        self.sent: list[tuple[int, signal.Signals]] = []
        self.asked: list[str] = []
        self.on_run: Callable[[Sequence[str]], None] = lambda _: None
        self.on_spawn: Callable[[Sequence[str], Path], None] = self._serve
        self.on_signal: Callable[[Process, signal.Signals], None] = self.gone
        self._next_pid = 1000

    def add(self, *argv: str, parent: int = 1) -> Process:
        self._next_pid += 1
        self.table[self._next_pid] = Process(self._next_pid, parent, argv)
        return self.table[self._next_pid]

    def gone(self, process: Process, _: signal.Signals = signal.SIGKILL) -> None:
        self.table.pop(process.pid, None)
        if "--data-root" in process.argv:
            self.serving = False

    def _serve(self, argv: Sequence[str], _: Path) -> None:
        self.add(*argv)
        self.serving = True

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds

    def is_root(self) -> bool:
        return self.root

    def is_debian(self) -> bool:
        return self.debian

    def which(self, program: str) -> str | None:
        return f"/usr/sbin/{program}" if program in self.programs else None

    def run(self, argv: Sequence[str]) -> Outcome:
        self.ran.append(tuple(argv))
        self.on_run(argv)
        return self.outcomes.pop(0) if self.outcomes else Outcome(0, "")

    def spawn(self, argv: Sequence[str], log: Path) -> None:
        self.spawned.append(tuple(argv))
        self.on_spawn(argv, log)

    def processes(self) -> Sequence[Process]:
        return list(self.table.values())

    def send(self, process: Process, number: signal.Signals) -> None:
        if self.table.get(process.pid) == process:
            self.sent.append((process.pid, number))
            self.on_signal(process, number)

    def mounts(self) -> Sequence[Path]:
        return list(self.mounted)

    def unmount(self, mount: Path) -> None:
        if mount not in self.busy_mounts:
            self.mounted.remove(mount)

    def request(self, unix_socket: Path, method: str, path: str, timeout_s: float) -> Answer:
        assert timeout_s > 0
        if not self.serving:
            raise ConnectionRefusedError(f"nothing serves at {unix_socket}")
        if path == "/_ping":
            return Answer(200, "1.41", b"OK")
        word = f"{method} {path.partition('?')[0]}"
        self.asked.append(word)
        return self.answers.get(word, Answer(200, "1.41", b"[]"))
