"""One container's memory at one moment, by two backends behind one Protocol.

Both read the kernel's memory controller: directly on a Linux host, or through the engine's
statistics. Names differ between cgroup v1 and v2 (kernel, Documentation/admin-guide/cgroup-v1/memory.rst
and cgroup-v2.rst):

    meaning             v1 memory.stat          v2 memory.stat
    anonymous           total_rss               anon
    shared              total_shmem             shmem
    inactive file       total_inactive_file     inactive_file

Working set is usage minus inactive file, as `docker stats` defines it. The engine's statistics on
cgroup v1 leave shared memory out; there it is unknown, not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from labs.engine import Engine
from labs.errors import EngineProblem, NotFound

_V1_ROOT = Path("/sys/fs/cgroup/memory")
_V2_ROOT = Path("/sys/fs/cgroup")
_V1_NAMES = {"anonymous": "total_rss", "shared": "total_shmem", "inactive_file": "total_inactive_file"}
_V2_NAMES = {"anonymous": "anon", "shared": "shmem", "inactive_file": "inactive_file"}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; None where the backend does not know."""

    usage_bytes: int | None
    anonymous_bytes: int | None
    shared_bytes: int | None
    inactive_file_bytes: int | None

    @property
    def working_set_bytes(self) -> int | None:
        if self.usage_bytes is None or self.inactive_file_bytes is None:
            return None
        return self.usage_bytes - self.inactive_file_bytes


class Sampler(Protocol):
    """Reads a running container's memory. `backend` names the method in results; figures of two never mix."""

    @property
    def backend(self) -> str: ...

    def memory(self, container_id: str) -> Memory:
        """Raises NotFound for a container that does not run."""


class EngineSampler:
    """The engine's own statistics: works wherever the engine does."""

    backend = "engine statistics"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def memory(self, container_id: str) -> Memory:
        document = self._engine.stats(container_id)["memory_stats"]
        if not isinstance(document, Mapping) or not isinstance(document.get("stats"), Mapping):
            raise EngineProblem("The engine's statistics hold no memory figures", where=container_id[:12])
        return _from_stat(document["stats"], document.get("usage"))


class CgroupSampler:
    """The kernel's files, for an engine on this host. `proc` and the roots are parameters for tests."""

    backend = "cgroup files"

    def __init__(self, engine: Engine, proc: Path = Path("/proc"), v1: Path = _V1_ROOT, v2: Path = _V2_ROOT) -> None:
        self._engine = engine
        self._proc = proc
        self._v1 = v1
        self._v2 = v2

    def memory(self, container_id: str) -> Memory:
        pid = self._engine.inspect(container_id).pid
        if not pid:
            raise NotFound("A container that does not run has no memory figures", where=container_id[:12])
        folder, usage = self._folder(pid)
        try:
            lines = (folder / "memory.stat").read_text().splitlines()
            in_use = int((folder / usage).read_text())
        except OSError as error:
            raise NotFound(
                "The container's memory figures cannot be read", where=str(folder), why=error.strerror or str(error)
            ) from error
        return _from_stat({key: int(value) for key, value in (line.split() for line in lines)}, in_use)

    def _folder(self, pid: int) -> tuple[Path, str]:
        """The container's cgroup folder and the name of its usage file. Line format: ID:CONTROLLERS:PATH."""
        try:
            lines = (self._proc / str(pid) / "cgroup").read_text().splitlines()
        except OSError as error:
            raise NotFound("The container stopped while it was measured", where=f"pid {pid}") from error
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                return self._v1 / path.lstrip("/"), "memory.usage_in_bytes"
        path = lines[-1].split(":", 2)[2]
        return self._v2 / path.lstrip("/"), "memory.current"


def choose_sampler(engine: Engine) -> Sampler:
    """The kernel's files where this process shares the engine's kernel, else the engine's statistics."""
    return CgroupSampler(engine) if engine.info().local else EngineSampler(engine)


def _from_stat(stat: Mapping[str, object], usage: object) -> Memory:
    names = _V2_NAMES if "anon" in stat else _V1_NAMES

    def value(meaning: str) -> int | None:
        found = stat.get(names[meaning])
        return found if isinstance(found, int) else None

    return Memory(
        usage_bytes=usage if isinstance(usage, int) else None,
        anonymous_bytes=value("anonymous"),
        shared_bytes=value("shared"),
        inactive_file_bytes=value("inactive_file"),
    )
