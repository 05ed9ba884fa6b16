"""What ends badly on a real machine: disks that fill up, engines that go away or are replaced, other versions' labs.

Each test has an engine, a state folder and disks of its own, so that nothing else on the machine notices.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from labs.engine import Engine
from labs.engine.host import HostSystem
from labs.engine.paths import EnginePaths
from labs.engine.private import PrivateEngine
from labs.engine.select import NAMED, PRIVATE
from labs.errors import NoSpace
from labs.images import recipe
from labs.images.builder import Cache, build
from labs.images.toolchain import HostToolchain
from labs.lab import labels
from labs.model import Container
from labs.timing import SystemClock, until

pytestmark = pytest.mark.live

PATIENCE_S = 150.0  # an end within this is no hang; observed 1 to 15 s


def inv_argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "labs.commands.cli", *words]


@dataclass(frozen=True)
class Machine:
    """A private engine of the test's own, and commands that know no other engine and no other labs."""

    private: PrivateEngine
    state: Path
    environment: Mapping[str, str]

    def inv(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = dict(self.environment)
        return subprocess.run(
            inv_argv(*words), capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=environment
        )

    def begin(self, *words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(inv_argv(*words), stdout=pipe, stderr=pipe, text=True, env=dict(self.environment))

    def listed(self) -> Any:
        return json.loads(self.inv("list", "--json").stdout)

    def journals(self) -> str:
        return "".join(file.read_text() for file in self.state.glob("labs/*/journal.jsonl"))

    def runs(self) -> list[Path]:
        return list((self.state / "labs").iterdir())


@pytest.fixture
def folder() -> Iterator[Path]:
    """Its path is short, as sockets' must be."""
    path = Path(tempfile.mkdtemp(prefix="ml-")).resolve()
    yield path
    shutil.rmtree(path)


def machine_in(folder: Path) -> Machine:
    kept = {key: value for key, value in os.environ.items() if key != "MESH_LABS_ENGINE"}
    own = {
        NAMED: PRIVATE,
        "MESH_LABS_ENGINE_DIR": str(folder / "e"),
        "MESH_LABS_STATE": str(folder / "state"),
        "PYTHONUNBUFFERED": "1",
    }
    private = PrivateEngine(EnginePaths.of(own), HostSystem())
    return Machine(private, folder / "state", {**kept, **own})


@pytest.fixture
def machine(folder: Path) -> Iterator[Machine]:
    made = machine_in(folder)
    made.private.start(lambda _: None)
    yield made
    made.private.stop(purge=True)


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    disk = folder / "e"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


# -- disks


def test_a_disk_that_is_full_while_an_image_is_built(small_disk: Path) -> None:
    cache, toolbox = Cache(small_disk), recipe("toolbox")
    with pytest.raises(NoSpace), cache.locked(toolbox):
        build(toolbox, cache, HostToolchain(), lambda _: None)
    assert [file.name for file in cache.folder.iterdir()] == [".toolbox.lock"]
    assert cache.ingredients(toolbox) is None

    resize(small_disk, "64M")
    with cache.locked(toolbox):
        build(toolbox, cache, HostToolchain(), lambda _: None)
    assert cache.ingredients(toolbox) is not None


def test_a_disk_that_is_full_while_an_image_is_put_into_the_engine(small_disk: Path, folder: Path) -> None:
    resize(small_disk, "48M")
    machine = machine_in(folder)
    machine.private.start(lambda _: None)
    try:
        done = machine.inv("images.build", "netbird-management")
        assert done.returncode == 3, done.stderr + done.stdout
        assert done.stderr.startswith("The engine's disk is full\n")
        resize(small_disk, "1G")
        done = machine.inv("images.build", "netbird-management")
        assert done.returncode == 0, done.stderr
    finally:
        machine.private.stop(purge=True)


# -- engines


def test_an_engine_that_stops_in_the_middle_of_an_up(machine: Machine) -> None:
    name = f"t-stop-{secrets.token_hex(2)}"
    with machine.begin("up", "netbird", "--name", name, "--peers", "1") as up:
        assert up.stdout is not None
        next(line for line in up.stdout if "serves" in line)
        machine.private.stop(force=True)
        _, errors = up.communicate(timeout=PATIENCE_S)
    assert up.returncode == 3, errors
    assert errors.startswith("The container engine does not answer, so what is on it is still there\n")
    assert f"try: once it answers again: inv down {name}" in errors

    refused = machine.inv("down", name)
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (3, "The private engine does not run")
    machine.private.start(lambda _: None)
    assert [row["name"] for row in machine.listed()] == [name]
    removed = machine.inv("down", name)
    assert removed.returncode == 0, removed.stderr
    assert "listed again, nothing is left" in removed.stdout
    assert (machine.listed(), machine.runs()) == ([], [])


def test_an_engine_that_stops_in_the_middle_of_a_scenario(machine: Machine) -> None:
    with machine.begin("check", "subnet-routes", "--labs", "headscale") as check:
        until(
            SystemClock(),
            machine.journals,
            lambda text: "approve" in text or check.poll() is not None,
            what="The first route",
            timeout_s=PATIENCE_S,
        )
        machine.private.stop(force=True)
        output, errors = check.communicate(timeout=PATIENCE_S)
    assert check.returncode == 3, output + errors
    assert "The container engine does not answer, so what is on it is still there" in output

    machine.private.start(lambda _: None)
    (left,) = machine.listed()
    assert f"once it answers again: inv down {left['name']}" in output
    assert machine.inv("down", left["name"]).returncode == 0
    assert (machine.listed(), machine.runs()) == ([], [])


def test_an_engine_that_was_replaced(machine: Machine) -> None:
    name = f"t-new-{secrets.token_hex(2)}"
    assert machine.inv("up", "headscale", "--name", name, "--peers", "0").returncode == 0
    machine.private.stop(purge=True)
    machine.private.start(lambda _: None)

    (row,) = machine.listed()
    assert (row["name"], row["containers"]) == (name, 0)
    assert "the engine was replaced" in row["note"]
    shown = machine.inv("status", name)
    assert (shown.returncode, shown.stderr.splitlines()[0]) == (2, f"Lab {name} is no longer on the engine")
    removed = machine.inv("down", name)
    assert removed.returncode == 0
    assert "Removed the files of 1 labs" in removed.stdout
    assert (machine.listed(), machine.runs()) == ([], [])


# -- versions


def test_a_lab_that_another_version_made(engine: Engine, toolbox: str) -> None:
    """It has the label of a lab, and not the others that this version writes."""
    name = f"t-other-{secrets.token_hex(2)}"
    made = engine.create(Container("x", toolbox, labels={labels.LAB: name}), f"mesh-labs-{name}", {}, {})
    environment = {**os.environ, NAMED: engine.endpoint}

    def inv(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            inv_argv(*words), capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=environment
        )

    try:
        (row,) = [row for row in json.loads(inv("list", "--json").stdout) if row["name"] == name]
        assert (row["containers"], row["topology"]) == (1, None)
        assert row["note"].startswith("another version's: no label org.mesh-labs.")
        shown = inv("status", name)
        assert shown.returncode == 2
        assert shown.stderr.startswith(f"Lab {name} was made by another version of mesh-labs\n")
        assert inv("up", "headscale", "--name", name).returncode == 2
        assert inv("down", name).returncode == 0
        assert name not in inv("list").stdout
    finally:
        engine.remove(made)


# -- naming an engine


@pytest.mark.smoke
@pytest.mark.parametrize("named", ["endpoint", "context"])
def test_an_engine_is_named_by_endpoint_or_by_docker_context(named: str, engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "contexts" / "meta" / sha256(b"lab-engine").hexdigest()
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": engine.endpoint}}}))
    environment = {**os.environ, "DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    environment.pop(NAMED, None)
    word = engine.endpoint if named == "endpoint" else "lab-engine"
    argv = inv_argv("down", "t-no-such-lab", "--engine", word)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    why = "as given" if named == "endpoint" else "Docker context lab-engine"
    assert done.stdout.startswith(f"engine: {engine.endpoint} ({why})\n")
