"""Reading the facts that `labs.doctor` judges. It looks only: nothing is started, installed or written."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import labs
from labs import resources
from labs.doctor.checks import Disk, EngineFacts, Facts
from labs.engine import Engine
from labs.engine.host import HostSystem, System
from labs.engine.paths import EnginePaths
from labs.engine.private import PrivateState, private_engine
from labs.engine.select import DEFAULT_SOCKET, Endpoint, data_folder, look
from labs.errors import LabsError
from labs.images import Source, Sourcing, catalogue, sourcing, status
from labs.images.builder import cache_folder
from labs.lab.plan import needs_of, topologies


def find_engine(
    environment: Mapping[str, str], home: Path, system: System, default_socket: Path = DEFAULT_SOCKET
) -> tuple[Endpoint | None, EngineFacts]:
    """The engine that answers, or the facts about why none does."""
    try:
        found, passed = look(None, environment, home, default_socket)
        private = private_engine(environment, system)
        if not found and system.is_root() and (seen := private.status()).state is PrivateState.RUNNING:
            found = Endpoint(seen.endpoint, "the private engine")
    except LabsError as error:
        problem = "; ".join(part for part in (error.what, error.where, error.why) if part)
        return None, EngineFacts(None, problem=problem, todo=error.hint)
    if found:
        return found, EngineFacts(None, source=found.source)
    obstacle, todo = _obstacle(system, private.never)
    problem = "; ".join(["none answers", *([obstacle] if obstacle else []), *(passed if obstacle else [])])
    return None, EngineFacts(None, problem=problem, todo=todo, startable=not obstacle)


def observe(environment: Mapping[str, str], engine: Engine | None, found: Endpoint | None, facts: EngineFacts) -> Facts:
    """The whole machine. `engine` is the one at `found`, None when there is none. Raises EngineProblem of `engine`."""
    system = HostSystem()
    info = engine.info() if engine else None
    never = environment.get("MESH_LABS_ENGINE") == "never"
    wanted = sourcing(environment, Path.cwd())
    apt = bool(system.which("apt-get") and system.which("dpkg-deb"))
    return Facts(
        python=sys.version_info[:3],
        engine=EngineFacts(info, facts.source, facts.problem, facts.todo, facts.startable),
        root=system.is_root(),
        tun=Path("/dev/net/tun").is_char_device(),
        kernel=platform.release(),
        cgroups=cgroups_mounted(Path("/proc/self/mountinfo").read_text()),
        memory_available_bytes=memory_available_bytes(Path("/proc/meminfo").read_text()),
        disks=_disks(environment, found, local=info is None or info.local),
        go=_go_version(environment),
        go_needed=_go_needed(),
        gcc=bool(system.which("gcc")),
        apt=apt,
        may_install=system.is_root() and apt and not never,
        images_to_build=_to_build(engine, wanted),
        ip_forward=_switch(Path("/proc/sys/net/ipv4/ip_forward")),
        bridge_filter=_switch(Path("/proc/sys/net/bridge/bridge-nf-call-iptables")),
        clock=datetime.now(UTC),
        newest_file=datetime.fromtimestamp(Path(labs.__file__).stat().st_mtime, UTC),
        needed={name: needed for name in topologies() if (needed := needs_of(name).needed)},
        may_pull=wanted.source is Source.AUTO,
    )


def _to_build(engine: Engine | None, wanted: Sourcing) -> tuple[str, ...]:
    if wanted.source in (Source.PULL, Source.LOAD):
        return ()
    return tuple(r.name for r in catalogue().values() if status(engine, r, wanted).where == "absent")


def cgroups_mounted(mountinfo: str) -> bool:
    """Whether dockerd finds control groups: version 2 at its usual place, or version 1's `devices`."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        if kind == "cgroup2" and before.split()[4] == "/sys/fs/cgroup":
            return True
        if kind == "cgroup" and "devices" in re.split(r"[ ,]", options):
            return True
    return False


def memory_available_bytes(meminfo: str) -> int | None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _obstacle(system: System, never: bool) -> tuple[str, str]:
    """Why the toolkit could not start an engine of its own, and what to do; empty when it could."""
    if never:
        return "MESH_LABS_ENGINE=never", "set DOCKER_HOST to an engine that runs, or unset MESH_LABS_ENGINE"
    if not system.is_root():
        return "not root", "run as root, or start Docker and set DOCKER_HOST to an engine you may use"
    if not system.which("dockerd") and not system.is_debian():
        return "neither Debian nor Ubuntu", "install Docker Engine 20.10 or later and start it, or set DOCKER_HOST"
    return "", ""


def _disks(environment: Mapping[str, str], found: Endpoint | None, local: bool) -> tuple[Disk, ...]:
    places = {"cache": cache_folder(environment)}
    if local:
        places["engine"] = data_folder(found.url) if found else EnginePaths.of(environment).data
    return tuple(Disk(purpose, path, _free_bytes(path)) for purpose, path in places.items())


def _free_bytes(path: Path) -> int:
    """Free space where `path` is, or would be."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def _go_version(environment: Mapping[str, str]) -> str | None:
    if not shutil.which("go", path=environment.get("PATH")):
        return None
    # Without this Go may download another version of itself.
    local = {**environment, "GOTOOLCHAIN": "local"}
    answer = subprocess.run(["go", "env", "GOVERSION"], env=local, cwd="/", capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def _go_needed() -> str:
    """The newest Go that a recipe's module asks for."""
    files = (resources.path("compose") / "images" / "modules").glob("*/go.mod")
    wanted = re.findall(r"^go (\S+)$", "\n".join(file.read_text() for file in files), re.MULTILINE)
    return max(wanted, key=lambda version: [int(part) for part in version.split(".")], default="1.21")


def _switch(file: Path) -> bool | None:
    return file.read_text().strip() == "1" if file.exists() else None


def current() -> tuple[Mapping[str, str], Path, System]:
    """This process's environment, home folder and machine."""
    return os.environ, Path.home(), HostSystem()
