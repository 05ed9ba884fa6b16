"""What one container uses at one moment, by two backends behind one Protocol.

Both read the kernel's accounting: directly on a Linux host, or through the engine's statistics. Names differ
between cgroup v1 and v2 (kernel, Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst):

    meaning             v1 memory.stat          v2 memory.stat
    anonymous           total_rss               anon
    shared              total_shmem             shmem
    file mapped         total_mapped_file       file_mapped
    active file         total_active_file       active_file
    inactive file       total_inactive_file     inactive_file
    kernel, all         memory.kmem.usage...    kernel
    slab, sockets       -, memory.kmem.tcp...   slab, sock
    swap                total_swap              memory.swap.current

Working set is usage minus inactive file, as `docker stats` defines it. It depends on who read a file first: page
cache of a binary is charged to the container that touched it before the others. Anonymous and shared memory do not.
The engine's statistics on cgroup v1 leave shared memory out; there it is unknown, not 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from labs.engine import Engine
from labs.errors import EngineProblem, NotFound, UsageError

_ROOT = Path("/sys/fs/cgroup")
_V1_NAMES = {
    "anonymous_bytes": "total_rss",
    "shared_bytes": "total_shmem",
    "file_mapped_bytes": "total_mapped_file",
    "active_file_bytes": "total_active_file",
    "inactive_file_bytes": "total_inactive_file",
    "swap_bytes": "total_swap",
}
_V2_NAMES = {
    "anonymous_bytes": "anon",
    "shared_bytes": "shmem",
    "file_mapped_bytes": "file_mapped",
    "active_file_bytes": "active_file",
    "inactive_file_bytes": "inactive_file",
    "slab_bytes": "slab",
    "socket_bytes": "sock",
    "kernel_bytes": "kernel",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One container at one moment; None where the backend does not know. Times and traffic count from its start."""

    usage_bytes: int | None = None
    anonymous_bytes: int | None = None
    shared_bytes: int | None = None
    file_mapped_bytes: int | None = None
    active_file_bytes: int | None = None
    inactive_file_bytes: int | None = None
    slab_bytes: int | None = None
    socket_bytes: int | None = None
    kernel_bytes: int | None = None
    swap_bytes: int | None = None
    cpu_ns: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None
    pids: int | None = None

    @property
    def working_set_bytes(self) -> int | None:
        if self.usage_bytes is None or self.inactive_file_bytes is None:
            return None
        return self.usage_bytes - self.inactive_file_bytes


class Sampler(Protocol):
    """Reads running containers. `backend` names the method in results; figures of two never mix."""

    @property
    def backend(self) -> str: ...

    def read(self, container_id: str) -> Reading:
        """Raises NotFound for a container that does not run."""

    def pss_bytes(self, container_id: str) -> int | None:
        """Proportional set size of all its processes: shared pages split among their users. None where unknown."""


class EngineSampler:
    """The engine's own statistics: works wherever the engine does."""

    backend = "engine statistics"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self, container_id: str) -> Reading:
        document = self._engine.stats(container_id)
        memory = _section(document, "memory_stats")
        stat = _section(memory, "stats")
        if not stat:
            raise EngineProblem("The engine's statistics hold no memory figures", where=container_id[:12])
        networks = [entry for entry in _section(document, "networks").values() if isinstance(entry, Mapping)]
        return Reading(
            usage_bytes=_number(memory, "usage"),
            cpu_ns=_number(_section(_section(document, "cpu_stats"), "cpu_usage"), "total_usage"),
            received_bytes=_sum(_number(entry, "rx_bytes") for entry in networks) if networks else None,
            sent_bytes=_sum(_number(entry, "tx_bytes") for entry in networks) if networks else None,
            pids=_number(_section(document, "pids_stats"), "current"),
            **_from_stat(stat),
        )

    def pss_bytes(self, container_id: str) -> int | None:  # noqa: ARG002 - the engine does not tell
        return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the kernel accounts for a container: controller to folder; version 2 has one folder for all."""

    pid: int
    version: int
    folders: Mapping[str, Path]


@dataclass
class CgroupSampler:
    """The kernel's files, for an engine on this host. `proc` and `root` are parameters for tests."""

    engine: Engine
    proc: Path = Path("/proc")
    root: Path = _ROOT
    backend: str = field(default="cgroup files", init=False)
    _places: dict[str, _Place] = field(default_factory=dict, init=False)

    def read(self, container_id: str) -> Reading:
        if container_id in self._places:
            # It may run anew since it was last read, with another process and other folders.
            with suppress(OSError):
                return self._reading(self._places[container_id])
            del self._places[container_id]
        try:
            return self._reading(self._place(container_id))
        except OSError as error:
            self._places.pop(container_id, None)
            raise NotFound(
                "The container stopped while it was measured",
                where=container_id[:12],
                why=error.strerror or str(error),
            ) from error

    def _reading(self, place: _Place) -> Reading:
        counters = self._v1(place) if place.version == 1 else self._v2(place)
        received, sent = self._traffic(place.pid)
        return Reading(received_bytes=received, sent_bytes=sent, **counters)

    def pss_bytes(self, container_id: str) -> int | None:
        place = self._place(container_id)
        try:
            pids = (place.folders["memory"] / "cgroup.procs").read_text().split()
            texts = [(self.proc / pid / "smaps_rollup").read_text() for pid in pids]
        except OSError:  # another user's processes, or one that has just ended
            return None
        found = [re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE) for text in texts]
        return _sum(int(match[1]) << 10 if match else None for match in found)

    def _v1(self, place: _Place) -> dict[str, int | None]:
        memory = place.folders["memory"]
        return {
            "usage_bytes": int((memory / "memory.usage_in_bytes").read_text()),
            **_from_stat(_pairs(memory / "memory.stat")),
            "kernel_bytes": _optional(memory / "memory.kmem.usage_in_bytes"),
            "socket_bytes": _optional(memory / "memory.kmem.tcp.usage_in_bytes"),
            "cpu_ns": _optional_in(place, "cpuacct", "cpuacct.usage"),
            "pids": _optional_in(place, "pids", "pids.current"),
        }

    def _v2(self, place: _Place) -> dict[str, int | None]:
        folder = place.folders["memory"]
        used_us = _pairs(folder / "cpu.stat").get("usage_usec")
        return {
            "usage_bytes": int((folder / "memory.current").read_text()),
            **_from_stat(_pairs(folder / "memory.stat")),
            "swap_bytes": _optional(folder / "memory.swap.current"),
            "cpu_ns": None if used_us is None else used_us * 1000,
            "pids": _optional(folder / "pids.current"),
        }

    def _traffic(self, pid: int) -> tuple[int, int]:
        """Received and sent on all interfaces but loopback. Columns: kernel, fs/proc docs, net/dev."""
        received = sent = 0
        for line in (self.proc / str(pid) / "net" / "dev").read_text().splitlines()[2:]:
            name, _, numbers = line.partition(":")
            if name.strip() != "lo":
                columns = numbers.split()
                received += int(columns[0])
                sent += int(columns[8])
        return received, sent

    def _place(self, container_id: str) -> _Place:
        """Looked up once: it stays the same while the container runs. Line format: ID:CONTROLLERS:PATH."""
        if container_id in self._places:
            return self._places[container_id]
        pid = self.engine.inspect(container_id).pid
        if not pid:
            raise NotFound("A container that does not run has no figures", where=container_id[:12])
        try:
            lines = (self.proc / str(pid) / "cgroup").read_text().splitlines()
        except OSError as error:
            raise NotFound("The container stopped while it was measured", where=container_id[:12]) from error
        folders = {}
        for line in lines:
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                folders[controller] = self.root / controllers / path.lstrip("/")
        version = 1 if "memory" in folders else 2
        if version == 2:
            folders = {"memory": self.root / lines[-1].split(":", 2)[2].lstrip("/")}
        place = _Place(pid, version, folders)
        self._places[container_id] = place
        return place


def choose_sampler(engine: Engine, backend: str | None = None) -> Sampler:
    """The kernel's files where this process shares the engine's kernel, else the engine's statistics.

    `backend` cgroup or engine decides otherwise. Raises UsageError when the kernel's files are asked for and the engine
    runs on another kernel, EngineProblem when it counts no memory by container: what could be read is others' or zero.
    """
    info = engine.info()
    if not info.counts_memory:
        raise EngineProblem(
            "This engine counts no memory by container, so nothing can be measured on it",
            where=info.endpoint,
            why="a rootless engine on cgroup v1 has no control groups" if info.rootless else "no memory controller",
            hint="inv check runs scenarios without figures; docs/engines.md says which engines count",
        )
    if backend == "cgroup" and not info.local:
        raise UsageError(
            "The kernel's files are those of another machine",
            where=info.endpoint,
            hint="--backend engine reads the engine's statistics",
        )
    return EngineSampler(engine) if backend == "engine" or not info.local else CgroupSampler(engine)


def _from_stat(stat: Mapping[str, object]) -> dict[str, int | None]:
    names = _V2_NAMES if "anon" in stat else _V1_NAMES
    return {meaning: _number(stat, name) for meaning, name in names.items()}


def _pairs(path: Path) -> dict[str, int]:
    return {key: int(value) for key, _, value in (line.partition(" ") for line in path.read_text().splitlines())}


def _optional(path: Path) -> int | None:
    """A number that not every kernel keeps."""
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return None


def _optional_in(place: _Place, controller: str, name: str) -> int | None:
    folder = place.folders.get(controller)
    return _optional(folder / name) if folder else None


def _section(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def _number(document: Mapping[str, object], key: str) -> int | None:
    found = document.get(key)
    return found if isinstance(found, int) else None


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum; None when one of them is unknown."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
