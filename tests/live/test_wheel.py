"""Installed from a wheel into an empty environment, the toolkit works from any folder, without this checkout.

pip fetches the dependencies from the index it is configured for: the newest versions that pyproject.toml allows.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest

import labs
from labs import resources
from labs.engine import Engine
from labs.images import ensure
from labs.lab import labels
from labs.lab.plan import image_variables
from labs.lab.removal import remove
from labs.scenario import read

pytestmark = pytest.mark.live

_ROOT = Path(labs.__file__).parent.parent
_SCENARIO = "subnet-routes.scenario.yaml"
_INSTALL_S = 300.0  # fourteen packages and what they need; observed 20 s
_COMMAND_S = 180.0  # a scenario on a fresh lab; observed 10 s


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel and its dependencies, and another folder to work in."""

    bin: Path
    folder: Path
    environment: dict[str, str]

    def run(self, *argv: str, timeout_s: float = _COMMAND_S) -> subprocess.CompletedProcess[str]:
        command = [str(self.bin / argv[0]), *argv[1:]]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def ok(self, *argv: str) -> str:
        done = self.run(*argv)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the project's own build backend, which ./inv has installed."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=_ROOT, check=True)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    place = tmp_path_factory.mktemp("installed")
    folder = place / "elsewhere"
    folder.mkdir()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "VIRTUAL"))}
    environment = {**inherited, "DOCKER_HOST": engine.info().endpoint, "MESH_LABS_STATE": str(place / "state")}
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
    made = Installed(place / "venv" / "bin", folder, environment)
    done = made.run("python", "-m", "pip", "install", "--quiet", "--no-input", str(wheel), timeout_s=_INSTALL_S)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    name = f"t-wheel-{secrets.token_hex(3)}"
    yield name
    remove(engine, {labels.LAB: name})


@pytest.fixture(scope="module", autouse=True)
def _images(engine: Engine) -> None:
    """Built before, so that no test measures a compiler."""
    inventory = read(resources.path("scenarios") / _SCENARIO).inventory
    ensure(engine, image_variables("headscale", inventory), lambda _: None)


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    info = f"mesh_labs-{labs.__version__}.dist-info"
    assert {name.split("/")[0] for name in files} == {"labs", info}
    for folder in ("compose", "scenarios"):
        beside = {f"labs/_data/{file.relative_to(_ROOT)}" for file in (_ROOT / folder).rglob("*") if file.is_file()}
        assert {name for name in files if name.startswith(f"labs/_data/{folder}/")} == beside
    assert "labs/py.typed" in files
    here = [path.encode() for path in (str(_ROOT), f"{Path.home()}/")]
    assert [name for name, content in files.items() if any(path in content for path in here)] == []
    said = Parser().parsestr(files[f"{info}/METADATA"].decode())
    assert (said["Name"], said["Version"], said["Requires-Python"]) == ("mesh-labs", labs.__version__, ">=3.11")
    assert files[f"{info}/entry_points.txt"].decode().split() == [
        *("[console_scripts]", "labs", "=", "labs.commands.cli:main"),
        *("[pytest11]", "mesh_labs", "=", "labs.pytest_plugin"),
    ]


def test_it_is_the_installed_one_that_runs(installed: Installed) -> None:
    where = installed.ok("python", "-c", "import labs; print(labs.__file__)")
    assert Path(where.strip()).is_relative_to(installed.bin.parent)
    assert labs.__version__ in installed.ok("labs", "--version")


def test_it_lists_what_the_checkout_lists(installed: Installed) -> None:
    for words in (("--list",), ("scenarios", "--json"), ("images",)):
        here = [sys.executable, "-m", "labs.commands.cli", *words]
        done = subprocess.run(here, capture_output=True, text=True, check=True, env=installed.environment)
        assert installed.ok("labs", *words) == done.stdout


def test_doctor(installed: Installed) -> None:
    assert "headscale" in installed.ok("labs", "doctor", "headscale", "--json")


def test_a_lab(installed: Installed, name: str) -> None:
    installed.ok("labs", "up", "headscale", "--peers", "1", "--name", name)
    assert "peer-1" in installed.ok("labs", "status", name)
    assert f"Lab {name}" in installed.ok("labs", "status", name)
    installed.ok("labs", "down", name)
    assert name not in installed.ok("labs", "list")


def test_a_scenario_of_the_wheel(installed: Installed) -> None:
    assert "1 passed" in installed.ok("labs", "check", "subnet-routes", "--labs", "headscale")


def test_a_scenario_of_the_users_own(installed: Installed) -> None:
    """By pytest itself, which finds the plugin through its entry point."""
    shutil.copy(resources.path("scenarios") / _SCENARIO, installed.folder / f"mine-{_SCENARIO}")
    assert "1 passed" in installed.ok("pytest", "--lab", "headscale", "-p", "no:cacheprovider", f"mine-{_SCENARIO}")


def test_the_tests_are_not_in_it(installed: Installed) -> None:
    done = installed.run("labs", "test")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("The tests are not installed\n")
    assert "./inv test in a checkout" in done.stderr
