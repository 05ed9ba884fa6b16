"""Sets of images in one file: there and back, and every way in which a file can be something else."""

from __future__ import annotations

import errno
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from labs.engine.fake import FakeEngine
from labs.errors import EngineUnavailable, FileProblem, ImageProblem, NoSpace
from labs.images import Source, Sourcing, ensure, image_facts, recipe, sets
from tests.unit.test_images import QUIET, FakeToolchain

HEADSCALE, TAILSCALE = recipe("headscale"), recipe("tailscale")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESH_LABS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Full(FakeEngine):
    """Both kinds of image: one that was built, and one that was pulled."""

    def __init__(self) -> None:
        super().__init__()
        self.offer(TAILSCALE.official)
        ensure(self, ["HEADSCALE_IMAGE"], QUIET, FakeToolchain(), Sourcing(Source.BUILD))
        ensure(self, ["TAILSCALE_IMAGE"], QUIET, FakeToolchain(), Sourcing(Source.PULL))

    @property
    def references(self) -> dict[str, str]:
        return {"headscale": HEADSCALE.reference, "tailscale": TAILSCALE.official}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    engine = Full()
    target = tmp_path / "labs.tar"
    sets.write(engine, engine.references, ["headscale"], target, QUIET)
    return target


def test_there_and_back(file: Path, tmp_path: Path) -> None:
    engine = FakeEngine()
    for _ in range(2):
        found = sets.read(engine, file, QUIET)
        assert (found.topologies, set(found.images)) == (("headscale",), {"headscale", "tailscale"})
        assert found.strangers == ()
    built = image_facts(engine.image(HEADSCALE.reference))
    assert (built.source, built.version) == ("build", "0.29.3")
    assert engine.image(HEADSCALE.reference).labels["org.mesh-labs.recipe"] == HEADSCALE.hash
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "labs.tar"]


def test_a_carried_image_keeps_the_digest_it_was_pulled_with(file: Path) -> None:
    engine = FakeEngine()
    said = sets.read(engine, file, QUIET).images["tailscale"]
    assert engine.image(TAILSCALE.official).digest is None
    facts = image_facts(engine.image(TAILSCALE.official))
    assert (facts.source, facts.digest) == ("load", said.digest)
    assert said.digest


def test_the_file_is_one_that_the_engine_itself_takes(file: Path) -> None:
    with tarfile.open(file) as tar:
        assert tar.getnames()[0] == "set.json"
        assert "manifest.json" in tar.getnames()
    engine = FakeEngine()
    engine.load_images([file.read_bytes()])
    assert engine.image(HEADSCALE.reference)


@pytest.mark.parametrize("kept", [0, 100, 512, 2000, -600])
def test_a_file_that_was_cut_short_is_refused_before_the_engine_sees_it(file: Path, kept: int) -> None:
    """Also one that ends within its last member: only the end mark may be missing."""
    whole = file.read_bytes()
    file.write_bytes(whole[: kept if kept >= 0 else whole.index(b"manifest.json") - kept])
    engine = FakeEngine()
    with pytest.raises(FileProblem, match="no whole set") as refused:
        sets.read(engine, file, QUIET)
    assert refused.value.where == str(file)
    assert not [call for call in engine.calls if call[0] == "load_images"]


def test_files_that_are_something_else(tmp_path: Path, file: Path) -> None:
    engine = Full()
    text, plain, missing = tmp_path / "notes.txt", tmp_path / "docker-save.tar", tmp_path / "none.tar"
    text.write_text("images\n" * 500)
    plain.write_bytes(b"".join(engine.save_images([HEADSCALE.reference])))
    for other in (text, plain):
        with pytest.raises(FileProblem, match="no whole set"):
            sets.read(engine, other, QUIET)
    with pytest.raises(FileProblem, match="cannot be read") as refused:
        sets.read(engine, missing, QUIET)
    assert refused.value.why == "No such file or directory"


def test_a_set_of_a_format_that_is_not_known(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"toolkit"', b'"toolkat"', 1))
    with pytest.raises(FileProblem, match="no whole set") as refused:
        sets.read(FakeEngine(), file, QUIET)
    assert "another version" in refused.value.why


def test_a_set_that_lacks_one_of_its_images(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"RepoTags": ["tailscale', b'"RepoTags": ["failscale', 1))
    with pytest.raises(FileProblem) as refused:
        sets.read(FakeEngine(), file, QUIET)
    assert refused.value.why == f"it lacks {TAILSCALE.official}"


def test_a_set_for_another_processor(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"architecture": "amd64"', b'"architecture": "arm64"', 1))
    with pytest.raises(ImageProblem, match="These images are for arm64, and the engine runs on amd64"):
        sets.read(FakeEngine(), file, QUIET)


def test_images_of_another_version_are_named(file: Path) -> None:
    old = HEADSCALE.reference.encode()
    file.write_bytes(file.read_bytes().replace(old, old[:-4] + b"0000"))
    assert sets.read(FakeEngine(), file, QUIET).strangers == ("headscale",)


class Failing(Full):
    """An engine whose archive ends with an error after its first piece."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def save_images(self, references: Sequence[str]) -> Iterator[bytes]:
        yield b"some of it"
        raise self._error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), NoSpace),
        (OSError(errno.EIO, "Input/output error"), FileProblem),
        (EngineUnavailable("gone"), EngineUnavailable),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=str,
)
def test_a_set_that_cannot_be_written_leaves_the_old_one(
    file: Path, tmp_path: Path, error: BaseException, kind: type[BaseException]
) -> None:
    before = file.read_bytes()
    engine = Failing(error)
    with pytest.raises(kind):
        sets.write(engine, engine.references, ["headscale"], file, QUIET)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "labs.tar"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    engine = Full()
    with pytest.raises(FileProblem, match="cannot be written"):
        sets.write(engine, engine.references, ["headscale"], tmp_path / "no" / "labs.tar", QUIET)
