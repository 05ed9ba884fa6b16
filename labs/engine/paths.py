"""Where a private engine lives: its two folders, marked as its own, and what dockerd wrote there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from labs.errors import UsageError

MARK = ".mesh-labs-engine"

_LOG_LINES = 12
_SOCKET_BYTES = 107  # what the kernel's address of a unix socket holds
_LONGEST_SOCKET = "exec/containerd/containerd.sock.ttrpc"

# What dockerd says, in lower case, and what helps.
_REMEDIES = (
    (
        "cgroup",
        "mount the control groups: mount -t cgroup2 none /sys/fs/cgroup, or for version 1 the package cgroupfs-mount",
    ),
    ("no space left on device", "free some disk, or name a folder elsewhere with MESH_LABS_ENGINE_DIR"),
    ("iptables", "the kernel's packet filter cannot be used here; it needs CAP_NET_ADMIN and a kernel with netfilter"),
    ("operation not permitted", "root is not all of root here: run it outside of the container, or set DOCKER_HOST"),
)


@dataclass(frozen=True, slots=True)
class EnginePaths:
    """The two folders of a private engine. Both are its own: `stop(purge=True)` removes them."""

    data: Path
    run: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> EnginePaths:
        """/var/lib/mesh-labs/engine and /run/mesh-labs, or DIR/data and DIR/run for MESH_LABS_ENGINE_DIR=DIR."""
        if folder := environment.get("MESH_LABS_ENGINE_DIR"):
            base = Path(folder).resolve()
            return cls(base / "data", base / "run")
        return cls(Path("/var/lib/mesh-labs/engine").resolve(), Path("/run/mesh-labs").resolve())

    @property
    def socket(self) -> Path:
        return self.run / "docker.sock"

    @property
    def pid_file(self) -> Path:
        return self.run / "dockerd.pid"

    @property
    def log(self) -> Path:
        return self.run / "dockerd.log"

    @property
    def exec_root(self) -> Path:
        return self.run / "exec"

    @property
    def containerd_pid_file(self) -> Path:
        return self.exec_root / "containerd" / "containerd.pid"

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"

    @property
    def namespace(self) -> str:
        """Ours within containerd: dockerd joins a containerd of the machine's when one runs."""
        return f"mesh-labs-{sha256(os.fsencode(self.data)).hexdigest()[:8]}"

    def own(self) -> None:
        """Make both folders. Raises UsageError when they hold something else, or sockets there could not be named."""
        excess = len(os.fsencode(self.run / _LONGEST_SOCKET)) - _SOCKET_BYTES
        if excess > 0:
            raise UsageError(
                f"The path {self.run} is {excess} bytes too long for the engine's sockets",
                hint="name a shorter folder with MESH_LABS_ENGINE_DIR",
            )
        for folder in (self.data, self.run):
            own_folder(folder)


def own_folder(folder: Path) -> None:
    """Make a folder of mode 0700 and mark it as ours: whatever is not marked is never removed."""
    if folder.exists() and not (folder / MARK).exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} holds something else", hint="name another folder with MESH_LABS_ENGINE_DIR, or empty it"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / MARK).touch()


def last_words(log: Path) -> str:
    """The end of dockerd's log, or that there is none."""
    if not log.exists():
        return "dockerd wrote no log"
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(lines[-_LOG_LINES:]) or "dockerd wrote nothing to its log"


def remedy(words: str) -> str:
    """What to do about dockerd's last words; empty when they are not understood.

    Only lines that report a failure count: a healthy log mentions cgroups and iptables as well.
    """
    bad = [line.lower() for line in words.splitlines() if "level=info" not in line and "level=warning" not in line]
    return next((hint for sign, hint in _REMEDIES if any(sign in line for line in bad)), "")
