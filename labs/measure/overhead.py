"""What the engine itself uses, outside of all containers, on a Linux host: see proc(5)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# /proc/PID/comm holds 15 characters. All engines of the host are counted together: shims do not say whose they are.
_NAMES = frozenset({"dockerd", "containerd", "containerd-shim", "docker-proxy"})
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class EngineUse:
    """CPU time since they started, and anonymous memory, of dockerd, containerd, shims and port proxies."""

    processes: int
    cpu_s: float
    anonymous_bytes: int


def engine_use(proc: Path = Path("/proc")) -> EngineUse:
    """All engine processes that can be read; those that end meanwhile are left out."""
    found = [use for entry in proc.iterdir() if entry.name.isdigit() and (use := _use(entry))]
    return EngineUse(len(found), sum(cpu_s for cpu_s, _ in found), sum(memory for _, memory in found))


def _use(process: Path) -> tuple[float, int] | None:
    try:
        if (process / "comm").read_text().strip() not in _NAMES:
            return None
        # The name in brackets may hold blanks; utime and stime are the 12th and 13th field after it.
        ticks = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
        anonymous = re.search(r"^RssAnon:\s+(\d+) kB$", (process / "status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return sum(map(int, ticks)) / _TICKS_PER_S, int(anonymous[1]) << 10 if anonymous else 0
