"""Where images come from: who says so, in which order, and what is said wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.commands.common import use_images
from labs.errors import FileProblem, UsageError
from labs.images import Source, Sourcing, catalogue, sourcing


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mesh-labs.yaml").write_text("images:\n  source: pull\n  mirror: registry.example/hub\n")
    return tmp_path


def test_nobody_says_anything(tmp_path: Path) -> None:
    assert sourcing({}, tmp_path) == Sourcing(Source.AUTO, "")


def test_the_nearest_project_file_above_counts(project: Path) -> None:
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    assert sourcing({}, inner) == Sourcing(Source.PULL, "registry.example/hub")
    (project / "a" / "mesh-labs.yaml").write_text("images: {source: load}\n")
    assert sourcing({}, inner) == Sourcing(Source.LOAD, "")


def test_the_environment_comes_before_the_file(project: Path) -> None:
    environment = {"MESH_LABS_IMAGES": "build"}
    assert sourcing(environment, project) == Sourcing(Source.BUILD, "registry.example/hub")
    environment["MESH_LABS_MIRROR"] = "localhost:5000"
    assert sourcing(environment, project) == Sourcing(Source.BUILD, "localhost:5000")


def test_the_commands_word_comes_before_both(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_LABS_IMAGES", "build")
    use_images("")
    assert sourcing({"MESH_LABS_IMAGES": "build"}, project).source is Source.BUILD
    use_images("load")
    import os

    assert sourcing(os.environ, project).source is Source.LOAD
    with pytest.raises(UsageError, match="no image source 'pul'") as refused:
        use_images("pul")
    assert refused.value.hint == "did you mean pull?"


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ("images: {source: pul}", "1:10 images.source", "input should be 'auto', 'pull', 'build' or 'load', not 'pul'"),
        ("images:\n  mirror: https://x.example", "2:3 images.mirror", "a mirror is written without https://"),
        ("images:\n  mirror: hub/x", "2:3 images.mirror", "'hub' is none"),
        ("image: {}", "1:1 image", "there is no key image here"),
    ],
)
def test_a_file_that_says_something_else_is_shown_with_its_place(
    tmp_path: Path, text: str, where: str, why: str
) -> None:
    file = tmp_path / "mesh-labs.yaml"
    file.write_text(text + "\n")
    with pytest.raises(FileProblem) as refused:
        sourcing({}, tmp_path)
    assert refused.value.where == f"{file}:{where}"
    assert why in refused.value.why


@pytest.mark.parametrize(
    ("variable", "value"), [("MESH_LABS_IMAGES", "pul"), ("MESH_LABS_MIRROR", "http://registry.example")]
)
def test_an_environment_that_means_nothing(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(UsageError) as refused:
        sourcing({variable: value}, tmp_path)
    assert variable in refused.value.where


@pytest.mark.parametrize(
    ("official", "mirrored"),
    [
        ("netbirdio/relay:0.77.1", "registry.example/hub/netbirdio/relay:0.77.1"),
        ("caddy:2.11.9", "registry.example/hub/library/caddy:2.11.9"),
        ("quay.io/keycloak/keycloak:26.4.0", "registry.example/hub/keycloak/keycloak:26.4.0"),
    ],
)
def test_where_a_mirror_has_an_image(official: str, mirrored: str) -> None:
    assert Sourcing(Source.PULL, "registry.example/hub").pulled_from(official) == mirrored
    assert Sourcing(Source.PULL).pulled_from(official) == official


def test_no_two_images_share_a_place_in_a_mirror() -> None:
    mirror = Sourcing(Source.PULL, "registry.example")
    places = [mirror.pulled_from(found.official) for found in catalogue().values()]
    assert len(set(places)) == len(places)
