"""A second private engine on this machine: real processes, real mounts, and nothing left of it afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.engine.docker_engine import DockerEngine
from labs.engine.host import HostSystem, Process
from labs.engine.paths import EnginePaths
from labs.engine.private import LAB_LABEL, PrivateEngine, PrivateState
from labs.errors import UsageError
from labs.images import ensure
from labs.model import Container
from labs.timing import until

pytestmark = pytest.mark.live

SYSTEM = HostSystem()


def below(folder: Path) -> list[Process]:
    """The processes that name this folder in their arguments."""
    return [one for one in SYSTEM.processes() if any(word.startswith(str(folder)) for word in one.argv)]


def others(folder: Path) -> set[int]:
    """The engines of this machine that are not the test's."""
    mine = {process.pid for process in below(folder)}
    return {one.pid for one in SYSTEM.processes() if Path(one.argv[0]).name == "dockerd" and one.pid not in mine}


def left(folder: Path) -> list[object]:
    found: list[object] = list(below(folder))
    found += [mount for mount in SYSTEM.mounts() if mount.is_relative_to(folder)]
    found += list(folder.iterdir())
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """Its path is short, as sockets' must be."""
    path = Path(tempfile.mkdtemp(prefix="ml-")).resolve()
    before = others(path)
    yield path
    PrivateEngine(EnginePaths.of({"MESH_LABS_ENGINE_DIR": str(path)}), SYSTEM).stop(purge=True)
    assert left(path) == []
    assert before <= others(path)
    shutil.rmtree(path)


@pytest.fixture
def private(folder: Path) -> PrivateEngine:
    return PrivateEngine(EnginePaths.of({"MESH_LABS_ENGINE_DIR": str(folder)}), SYSTEM)


def quiet(_: object) -> None:
    pass


def workload(endpoint: str) -> str:
    """A container of a lab's that runs on the engine there; its id."""
    engine = DockerEngine(endpoint)
    try:
        image = ensure(engine, ["TOOLBOX_IMAGE"], quiet)["TOOLBOX_IMAGE"]
        spec = Container("workload", image, entrypoint=("sleep",), command=("4242",), labels={LAB_LABEL: "t-private"})
        made = engine.create(spec, "workload", {}, {})
        engine.start(made)
        return made
    finally:
        engine.close()


def kill(private: PrivateEngine) -> None:
    """End this engine's dockerd, and no other, with no chance to clean up."""
    daemons = [one for one in below(private.paths.data) if one.pid == private.status().pid]
    assert len(daemons) == 1
    SYSTEM.send(daemons[0], signal.SIGKILL)
    until(SYSTEM, lambda: daemons[0] in SYSTEM.processes(), lambda there: not there, what="dockerd's end", timeout_s=10)


def test_its_life(private: PrivateEngine, folder: Path) -> None:
    endpoint = private.start(quiet)
    first = private.status()
    assert (first.state, first.endpoint) == (PrivateState.RUNNING, endpoint)
    assert first.pid is not None
    assert os.getsid(first.pid) == first.pid
    facts = private.paths.socket.stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o007) == (0, 0, 0)
    assert private.start(quiet) == endpoint
    assert private.status().pid == first.pid
    private.stop()
    assert private.status().state is PrivateState.STOPPED
    assert below(folder) == []
    private.start(quiet)
    assert private.status().pid != first.pid
    private.stop(purge=True)
    assert left(folder) == []


def test_it_recovers_after_its_daemon_was_killed_under_a_running_lab(private: PrivateEngine, folder: Path) -> None:
    endpoint = private.start(quiet)
    made = workload(endpoint)
    with pytest.raises(UsageError, match="still runs t-private"):
        private.stop()
    kill(private)
    orphans = {process.pid for process in below(folder)}
    assert orphans
    assert private.status().state is PrivateState.STALE
    told: list[str] = []
    private.start(told.append)
    assert "clearing up after a private engine that was cut off" in told
    assert not orphans & {process.pid for process in SYSTEM.processes()}
    engine = DockerEngine(endpoint)
    assert engine.inspect(made).pid == 0
    engine.close()
    private.stop(purge=True)
    assert left(folder) == []
    assert not [one for one in SYSTEM.processes() if one.argv == ("sleep", "4242")]


def test_what_a_killed_engine_left_can_be_purged_without_starting_it(private: PrivateEngine, folder: Path) -> None:
    workload(private.start(quiet))
    kill(private)
    private.stop(purge=True)
    assert left(folder) == []


def test_two_shells_that_start_it_at_once_share_one(private: PrivateEngine, folder: Path) -> None:
    program = "from labs.engine.private import private_engine as p; print(p().start(lambda _: None))"
    environment = {**os.environ, "MESH_LABS_ENGINE_DIR": str(folder)}
    shells = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = {shell.communicate()[0].strip() for shell in shells}
    assert [shell.returncode for shell in shells] == [0, 0]
    assert answers == {private.paths.endpoint}
    assert len([one for one in below(folder) if Path(one.argv[0]).name == "dockerd"]) == 1
