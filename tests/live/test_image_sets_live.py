"""A set carried from one engine to another that has no network: saved, checked, loaded, and a lab from it alone."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labs.engine import Engine
from labs.engine.docker_engine import DockerEngine
from labs.images import recipe, sets
from tests.live.registries import inv, private_engine

pytestmark = pytest.mark.live

TOPOLOGY = "headscale"
NAMES = ("coredns", "headscale", "tailscale", "toolbox")


@pytest.fixture(scope="module")
def saved(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("set") / "labs.tar"
    done = inv("images.save", str(file), "--topologies", TOPOLOGY, "--images", "build")
    assert done.returncode == 0, done.stderr
    assert f"4 images of {TOPOLOGY};" in done.stdout
    assert [path.name for path in file.parent.iterdir()] == ["labs.tar"]
    assert engine
    return file


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with private_engine() as url:
        yield url


def test_from_nothing_to_a_lab(saved: Path, endpoint: str) -> None:
    """In the order of a user's day, with no registry, no cache and no way to build."""
    where = {"DOCKER_HOST": endpoint, "MESH_LABS_CACHE": "/nonexistent", "MESH_LABS_IMAGES": "load"}
    name = f"t-set-{secrets.token_hex(2)}"
    missing = inv("images.check", TOPOLOGY, **where)
    assert missing.returncode == 3
    assert missing.stderr.startswith("4 of 4 images are missing\n  where: coredns, headscale, tailscale, toolbox\n")
    early = inv("up", TOPOLOGY, "--name", name, **where)
    assert early.returncode == 3
    assert "headscale, tailscale" in early.stderr
    assert "inv images.load FILE" in early.stderr
    for _ in range(2):
        done = inv("images.load", str(saved), **where)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"4 images of {TOPOLOGY} are in the engine." in done.stdout
    assert inv("images.check", TOPOLOGY, **where).returncode == 0
    up = inv("up", TOPOLOGY, "--name", name, **where)
    assert up.returncode == 0, up.stderr
    assert inv("down", name, **where).returncode == 0
    own = DockerEngine(endpoint)
    labels = own.image(recipe("headscale").reference).labels
    own.close()
    assert (labels["org.mesh-labs.source"], labels["org.mesh-labs.recipe"]) == ("build", recipe("headscale").hash)


def test_docker_itself_takes_the_file(saved: Path, endpoint: str) -> None:
    """Where the toolkit is not, or not yet."""
    own = DockerEngine(endpoint)
    try:
        with saved.open("rb") as whole:
            own.load_images(iter(lambda: whole.read(1 << 20), b""))
        assert own.image(recipe("tailscale").reference)
    finally:
        own.close()


def test_a_copy_that_was_cut_short(saved: Path, endpoint: str, tmp_path: Path) -> None:
    short = tmp_path / "short.tar"
    with saved.open("rb") as whole:
        short.write_bytes(whole.read(saved.stat().st_size // 2))
    done = inv("images.load", str(short), DOCKER_HOST=endpoint)
    assert done.returncode == 2
    assert done.stderr.startswith(f"This is no whole set of images\n  where: {short}\n")


def test_a_set_of_another_versions_recipes(saved: Path, endpoint: str, tmp_path: Path) -> None:
    here, file = recipe("headscale").reference, tmp_path / "other.tar"
    assert inv("images.load", str(saved), DOCKER_HOST=endpoint).returncode == 0
    own = DockerEngine(endpoint)
    own.tag_image(here, other := f"{here[:-4]}0000")
    references = {name: recipe(name).reference for name in NAMES} | {"headscale": other}
    sets.write(own, references, [TOPOLOGY], file, lambda _: None)
    own.close()
    done = inv("images.load", str(file), DOCKER_HOST=endpoint)
    assert done.returncode == 3
    assert done.stderr.startswith("1 of the set's 4 images are not those that this version runs\n")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, engine: Engine) -> None:
    assert engine
    with small_disk(tmp_path) as folder:
        done = inv("images.save", str(folder / "labs.tar"), "--topologies", TOPOLOGY, "--images", "build")
        assert list(folder.iterdir()) == []
    assert done.returncode == 3
    assert done.stderr.startswith(f"No space is left for the set\n  where: {folder}\n")
