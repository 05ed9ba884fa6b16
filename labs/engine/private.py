"""The toolkit's own Docker Engine, for machines where none answers: install, start, recover, stop, remove.

Everything it has lies below two folders, and every process it has names one of them in its
arguments. So it is recognised without trusting a pid file, and no other engine is ever touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from labs.engine.host import API_MINIMUM, HostSystem, Process, System
from labs.engine.install import install
from labs.engine.paths import MARK, EnginePaths, last_words, own_folder, remedy
from labs.errors import EngineProblem, EngineUnavailable, Leftovers, NotReady, UsageError
from labs.timing import POLL_S, until

LAB_LABEL = "org.mesh-labs.lab"

READY_S = 60.0  # dockerd sets up storage, containerd and iptables first; observed 0.7 s
REVIVE_S = 10.0  # a dockerd that lives but does not answer may only be slow, and ending it ends its labs
STOP_S = 45.0  # dockerd gives its containers 15 s, one after another on a busy machine; observed 0.2 s
PING_S = 5.0  # a dockerd that hangs is one that does not answer; observed 1 ms
REQUEST_S = 30.0  # removing a container on a busy machine; observed 0.2 s
END_S = 10.0  # a process after SIGTERM, and once more after SIGKILL; observed below 0.1 s

Tell = Callable[[str], None]


class PrivateState(StrEnum):
    """`stale`: not serving, yet processes or files of an earlier run are there. `start` and `stop` recover it."""

    RUNNING = "running"
    STOPPED = "stopped"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class PrivateStatus:
    """`pid` is dockerd's, None without one; `endpoint` is where it serves or would serve."""

    state: PrivateState
    pid: int | None
    endpoint: str


@dataclass(frozen=True, slots=True)
class PrivateEngine:
    """One private engine. Several processes may use it at once: changes hold a lock of the kernel's.

    With `never`, `start` refuses. Every method needs root and raises EngineUnavailable without it.
    """

    paths: EnginePaths
    system: System
    never: bool = False

    def status(self) -> PrivateStatus:
        self._require_root()
        daemon = self._daemon()
        pid = daemon.pid if daemon else None
        if daemon and self._answers():
            state = PrivateState.RUNNING
        elif self._processes() or self.paths.pid_file.exists() or self.paths.socket.exists():
            state = PrivateState.STALE
        else:
            state = PrivateState.STOPPED
        return PrivateStatus(state, pid, self.paths.endpoint)

    def start(self, on_event: Tell) -> str:
        """Make it serve, installing and recovering what that takes, and return its endpoint.

        Raises EngineUnavailable where it may not or cannot be had, NotReady with dockerd's last words
        when it does not serve, UsageError when a folder of its name holds something else.
        """
        self._require_root()
        if self._serves():
            return self.paths.endpoint
        if self.never:
            raise EngineUnavailable(
                "No container engine may be started",
                why="MESH_LABS_ENGINE=never",
                hint="set DOCKER_HOST to an engine that runs, or unset MESH_LABS_ENGINE",
            )
        with self._locked():
            self._recover(on_event)
            if not self._serves():
                install(self.system, on_event)
                self._launch(on_event)
        return self.paths.endpoint

    def stop(self, force: bool = False, purge: bool = False) -> None:
        """End it and what it left running; `purge` removes its containers, networks, images and files as well.

        Nothing happens where it does not run. Raises UsageError while a lab runs on it, unless
        `force` or `purge`; Leftovers when something is still there afterwards.
        """
        self._require_root()
        if self.status().state is PrivateState.STOPPED and not (purge and self._folders()):
            return
        with self._locked():
            if self._serves():
                if not (force or purge):
                    self._refuse_while_labs_run()
                if purge:
                    self._remove_contents()
            self._end_all()
            if purge:
                self._purge()

    # -- who is ours

    def _processes(self) -> tuple[Process, ...]:
        return tuple(process for process in self.system.processes() if self._kind(process))

    def _kind(self, process: Process) -> str:
        """dockerd, containerd or shim when it is this engine's; else empty. A zombie has no arguments."""
        arguments = process.argv
        pairs = set(pairwise(arguments))
        if ("--data-root", str(self.paths.data)) in pairs:
            return "dockerd"
        if ("--config", str(self.paths.exec_root / "containerd/containerd.toml")) in pairs:
            return "containerd"
        ours = (
            ("-namespace", self.paths.namespace),
            ("-address", str(self.paths.exec_root / "containerd/containerd.sock")),
        )
        return "shim" if any(pair in pairs for pair in ours) else ""

    def _daemon(self) -> Process | None:
        return next((process for process in self._processes() if self._kind(process) == "dockerd"), None)

    def _answers(self) -> bool:
        try:
            return self.system.request(self.paths.socket, "GET", "/_ping", PING_S).status == 200
        except OSError:
            return False

    def _serves(self) -> bool:
        return bool(self._daemon()) and self._answers()

    def _folders(self) -> tuple[Path, ...]:
        return tuple(folder for folder in (self.paths.data, self.paths.run) if folder.exists())

    def _require_root(self) -> None:
        if not self.system.is_root():
            raise EngineUnavailable(
                "The private engine needs root",
                hint="run it as root, or start Docker and set DOCKER_HOST to an engine you may use",
            )

    # -- starting

    def _recover(self, on_event: Tell) -> None:
        """End and clear what an earlier run left, unless it turns out to serve after all."""
        if self._daemon() and self._comes_alive():
            return
        if self.status().state is PrivateState.STALE:
            on_event("clearing up after a private engine that was cut off")
        self._end_all()

    def _comes_alive(self) -> bool:
        deadline = self.system.now() + REVIVE_S
        while self._daemon() and self.system.now() < deadline:
            if self._answers():
                return True
            self.system.wait(0.1)
        return False

    def _launch(self, on_event: Tell) -> None:
        self.paths.own()
        # The machine's own daemon.json could open a port, or contradict an option given here.
        settings = self.paths.run / "daemon.json"
        settings.write_text("{}\n")
        on_event(f"starting the private engine in {self.paths.run}")
        try:
            self.system.spawn(self._command(settings), self.paths.log)
            self._await_ready()
        except BaseException:
            self._end_all()
            raise

    def _command(self, settings: Path) -> tuple[str, ...]:
        paths = self.paths
        return (
            self.system.which("dockerd") or "dockerd",
            *("--data-root", str(paths.data)),
            *("--exec-root", str(paths.exec_root)),
            *("--pidfile", str(paths.pid_file)),
            *("--host", paths.endpoint),
            *("--group", "root"),
            *("--config-file", str(settings)),
            *("--containerd-namespace", paths.namespace),
            *("--containerd-plugins-namespace", f"{paths.namespace}-plugins"),
            "--bridge=none",
        )

    def _await_ready(self) -> None:
        seen = until(
            self.system,
            self._progress,
            lambda state: state != "runs",
            what="The private engine",
            timeout_s=READY_S,
            where=str(self.paths.log),
            show=lambda _: f"dockerd runs and does not answer\n{last_words(self.paths.log)}",
        )
        if seen == "gone":
            words = last_words(self.paths.log)
            raise NotReady(
                "The private engine ended while it started",
                where=str(self.paths.log),
                why=words,
                hint=remedy(words),
            )

    def _progress(self) -> str:
        if self._answers():
            return "answers"
        if self._daemon():
            return "runs"
        # Amid its exec a process shows no arguments for an instant, so one look does not tell.
        self.system.wait(POLL_S)
        return "runs" if self._daemon() else "gone"

    # -- stopping

    def _refuse_while_labs_run(self) -> None:
        labs = sorted({str(one["Labels"][LAB_LABEL]) for one in self._list("/containers/json", {"label": [LAB_LABEL]})})
        if labs:
            raise UsageError(
                f"The private engine still runs {', '.join(labs)}",
                where=self.paths.endpoint,
                hint="inv down NAME removes a lab; inv engine.stop --force stops the engine under it",
            )

    def _remove_contents(self) -> None:
        """Containers and networks go first and in order: dockerd leaves the bridges of networks behind."""
        for one in self._list("/containers/json", {}, everything=True):
            self._call("DELETE", f"/containers/{one['Id']}?force=1&v=1")
        for one in self._list("/networks", {"type": ["custom"]}):
            self._call("DELETE", f"/networks/{one['Id']}")

    def _list(self, path: str, filters: Mapping[str, Sequence[str]], everything: bool = False) -> list[dict[str, Any]]:
        query = f"{path}?filters={quote(json.dumps(filters))}{'&all=1' if everything else ''}"
        found: list[dict[str, Any]] = json.loads(self._call("GET", query))
        return found

    def _call(self, method: str, path: str) -> bytes:
        answer = self.system.request(self.paths.socket, method, f"/v{API_MINIMUM}{path}", REQUEST_S)
        if answer.status >= 400 and answer.status != 404:
            raise EngineProblem(
                f"The private engine refused {method} {path.partition('?')[0]}",
                where=self.paths.endpoint,
                why=answer.body.decode(errors="replace").strip(),
            )
        return answer.body

    def _end_all(self) -> None:
        """End dockerd, then what outlived it, and clear the files that say it runs."""
        self._end([process for process in self._processes() if self._kind(process) == "dockerd"], STOP_S)
        shims = [process for process in self._processes() if self._kind(process) == "shim"]
        # A shim's containers would outlive it and belong to nobody.
        for process in _below(shims, self.system.processes()):
            self.system.send(process, signal.SIGKILL)
        self._end(self._processes(), END_S)
        for file in (self.paths.pid_file, self.paths.containerd_pid_file, self.paths.socket):
            file.unlink(missing_ok=True)

    def _end(self, processes: Sequence[Process], patience_s: float) -> None:
        for number, limit_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, END_S)):
            for process in processes:
                self.system.send(process, number)
            deadline = self.system.now() + limit_s
            while (left := set(processes) & set(self.system.processes())) and self.system.now() < deadline:
                self.system.wait(0.05)
            if not left:
                return
            processes = sorted(left, key=lambda process: process.pid)
        names = ", ".join(f"{process.argv[0]} (pid {process.pid})" for process in processes)
        raise Leftovers("Processes of the private engine do not end", where=names)

    def _purge(self) -> None:
        for folder in self._folders():
            if not (folder / MARK).exists():
                raise UsageError(
                    f"{folder} was not made by mesh-labs", hint="look at it, and remove it yourself if it may go"
                )
        for mount in reversed(self._mounts()):
            self.system.unmount(mount)
        if not self._mounts():
            for folder in self._folders():
                shutil.rmtree(folder)
            self._remove_parent()
        left = [*(f"mounted {mount}" for mount in self._mounts()), *map(str, self._folders())]
        left += [f"{process.argv[0]} (pid {process.pid})" for process in self._processes()]
        if left:
            raise Leftovers("Parts of the private engine could not be removed", where=", ".join(left))

    def _remove_parent(self) -> None:
        """The folder above is the toolkit's own too, when it has its name and holds nothing else."""
        parent = self.paths.data.parent
        if parent.name == "mesh-labs" and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()

    def _mounts(self) -> list[Path]:
        folders = (self.paths.data, self.paths.run)
        return [one for one in self.system.mounts() if any(one.is_relative_to(folder) for folder in folders)]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time. The file goes with `purge`, so a waiter makes sure it got the one that is there."""
        while True:
            own_folder(self.paths.run)
            path = self.paths.run / "lock"
            with path.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    yield
                    return


def private_engine(environment: Mapping[str, str] | None = None, system: System | None = None) -> PrivateEngine:
    """The private engine that this environment names. Raises UsageError for an unknown MESH_LABS_ENGINE."""
    environment = os.environ if environment is None else environment
    word = environment.get("MESH_LABS_ENGINE", "")
    if word not in ("", "never"):
        raise UsageError(f"MESH_LABS_ENGINE={word} means nothing", hint="unset it, or set it to never")
    return PrivateEngine(EnginePaths.of(environment), system or HostSystem(), word == "never")


def _below(roots: Sequence[Process], everything: Sequence[Process]) -> list[Process]:
    """All descendants of `roots`."""
    found: list[Process] = []
    pids = {process.pid for process in roots}
    while layer := [one for one in everything if one.parent in pids and one not in found]:
        found += layer
        pids = {process.pid for process in layer}
    return found
