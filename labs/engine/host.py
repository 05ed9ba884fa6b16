"""What the private engine needs of the machine: processes, mounts, programs, and HTTP to its socket."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

API_MINIMUM = "1.41"

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # missing from PATH in many a root shell


@dataclass(frozen=True, slots=True)
class Process:
    """A process with arguments: no zombie and no thread of the kernel's. It stays the same when its parent ends."""

    pid: int
    parent: int = field(compare=False)
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `api_version` is the engine's own, empty when it names none."""

    status: int
    api_version: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended, with stdout and stderr as one text."""

    code: int
    output: str


class System(Protocol):
    """The machine. Its clock is a `labs.timing.Clock`."""

    def now(self) -> float: ...

    def wait(self, seconds: float) -> None: ...

    def is_root(self) -> bool: ...

    def is_debian(self) -> bool:
        """Whether this is Debian or one of its descendants, such as Ubuntu."""

    def which(self, program: str) -> str | None: ...

    def run(self, argv: Sequence[str]) -> Outcome:
        """Run a program to its end, also on Ctrl-C: then it is asked to stop, and waited for."""

    def spawn(self, argv: Sequence[str], log: Path) -> None:
        """Start a program that outlives this one, in its own session, its output in `log`."""

    def processes(self) -> Sequence[Process]: ...

    def send(self, process: Process, number: signal.Signals) -> None:
        """Signal this very process; nothing when it is gone, or its number belongs to another by now."""

    def mounts(self) -> Sequence[Path]:
        """Mount points in the order they were mounted."""

    def unmount(self, mount: Path) -> None: ...

    def request(self, unix_socket: Path, method: str, path: str, timeout_s: float) -> Answer:
        """One HTTP request. Raises OSError when nothing serves there, or not in time."""


class HostSystem:
    """This machine."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def is_root(self) -> bool:
        return os.geteuid() == 0

    def is_debian(self) -> bool:
        release = Path("/etc/os-release")
        text = release.read_text() if release.exists() else ""
        names = re.findall(r"^ID(?:_LIKE)?=(.*)$", text, re.MULTILINE)
        return "debian" in re.split(r"[\s\"']+", " ".join(names)) and bool(self.which("apt-get"))

    def which(self, program: str) -> str | None:
        return shutil.which(program, path=_search_path())

    def run(self, argv: Sequence[str]) -> Outcome:
        environment = {**os.environ, "PATH": _search_path(), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        # A process group of its own: Ctrl-C reaches it once and from here, never amid unpacking a package.
        with subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        ) as child:
            try:
                output, _ = child.communicate()
            except KeyboardInterrupt:
                child.send_signal(signal.SIGINT)
                child.communicate()
                raise
        return Outcome(child.returncode, output.decode(errors="replace"))

    def spawn(self, argv: Sequence[str], log: Path) -> None:
        # setsid leaves at once, so the program is nobody's child here: no zombie, nothing to wait for.
        with log.open("wb") as output:
            subprocess.run(
                ["setsid", "--fork", *argv],
                env={**os.environ, "PATH": _search_path()},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=True,
            )

    def processes(self) -> Sequence[Process]:
        found = (read_process(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [process for process in found if process]

    def send(self, process: Process, number: signal.Signals) -> None:
        now = read_process(process.pid)
        if not now or now.argv != process.argv:
            return
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return

    def mounts(self) -> Sequence[Path]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[4])) for line in lines]

    def unmount(self, mount: Path) -> None:
        self.run(("umount", "--lazy", str(mount)))

    def request(self, unix_socket: Path, method: str, path: str, timeout_s: float) -> Answer:
        return ask(UnixConnection(str(unix_socket), timeout_s), method, path)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(connection: http.client.HTTPConnection, method: str, path: str) -> Answer:
    """One request; closes the connection. Raises OSError, also for an answer that is not HTTP."""
    with closing(connection):
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return Answer(response.status, response.headers.get("Api-Version", ""), response.read())
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP answer: {type(error).__name__}") from error


def read_process(pid: int) -> Process | None:
    """The process with this number; None when it is gone, a zombie, or the kernel's."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes()
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    if not argv:
        return None
    # The program's name, in parentheses, may hold spaces and parentheses itself.
    parent = int(stat.rpartition(")")[2].split()[1])
    return Process(pid, parent, tuple(os.fsdecode(argv).rstrip("\0").split("\0")))


def _search_path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
