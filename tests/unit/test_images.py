"""Images: recipes, the builder with a toolchain by hand, the cache, and what goes wrong."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from labs.engine.fake import FakeEngine
from labs.errors import FileProblem, ImageProblem, NoSpace, UsageError
from labs.images import Source, Sourcing, catalogue, ensure, image_facts, rebuild, recipe, status
from labs.images.builder import Cache, build
from labs.images.catalogue import Artifact, Binary, Recipe, RecipeSpec
from labs.images.events import ImageEvent
from labs.images.rootfs import RootFs
from labs.images.toolchain import HostToolchain
from labs.yamlsource import parse, validated

QUIET: Callable[[ImageEvent], None] = lambda _: None  # noqa: E731


RELEASE = {"app-1.0/bin/run": b"run", "app-1.0/built/plain": b"plain"}


class FakeToolchain:
    """Packages with one file each, binaries that hold their package's name, one release, and one way to prepare it."""

    def __init__(self, fail: BaseException | None = None) -> None:
        self.fail = fail
        self.compiled: list[str] = []
        self.prepared: list[str] = []

    def check(self, spec: RecipeSpec, module_folder: Path | None) -> str:
        return "go1.26.8" if module_folder else ""

    def compile(self, binary: Binary, module_folder: Path, target: Path, on_line: Callable[[str], None]) -> None:
        if self.fail:
            raise self.fail
        self.compiled.append(binary.package)
        on_line("go: downloading something")
        on_line(binary.package)
        target.write_bytes(binary.package.encode())

    def package(self, name: str, folder: Path) -> tuple[str, BinaryIO]:
        files = {
            "busybox": {"./bin/busybox": b"box", "./usr/share/doc/busybox/copyright": b"c"},
            "libc6": {"./lib/x86_64-linux-gnu/libc.so.6": b"libc", "./etc/ld.so.conf.d/x.conf": b""},
            "ca-certificates": {
                "./usr/share/ca-certificates/mozilla/B.crt": b"B\n",
                "./usr/share/ca-certificates/mozilla/A.crt": b"A\n",
            },
        }
        return "1.0", package(files[name])

    def artifact(self, artifact: Artifact, folder: Path) -> Path:
        (folder / "release.tar.gz").write_bytes(gzip.compress(package(RELEASE).read()))
        return folder / "release.tar.gz"

    def prepare(self, script: str, root: Path) -> None:
        self.prepared.append(script)
        (root / "opt/app/built/index").write_bytes(b"from " + str(root).encode())
        (root / "opt/app/built/plain").unlink()
        (root / "opt/app/stray").touch()

    def applets(self, busybox: Path) -> Sequence[str]:
        assert busybox.read_bytes() == b"box"
        return ["sh", "wget", "busybox"]


def package(files: dict[str, bytes]) -> BinaryIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o755
            info.mtime = 1234567890
            archive.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return buffer


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("MESH_LABS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MESH_LABS_IMAGES", raising=False)
    return Cache(tmp_path / "cache")


@pytest.fixture
def headscale() -> Recipe:
    return recipe("headscale")


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_every_recipe_is_pinned_and_fills_its_own_variable() -> None:
    recipes = catalogue().values()
    assert len({found.spec.variable for found in recipes}) == len(recipes)
    for found in recipes:
        assert found.name == found.file.stem
        assert found.reference.startswith(f"mesh-labs/{found.name}:{found.spec.version}-")
        assert found.official.rpartition(":")[2] not in ("", "latest", found.official)


def test_every_image_variable_of_a_topology_has_a_recipe() -> None:
    from labs.compose import needs
    from labs.lab.plan import topologies, topology_folder

    wanted = {v for t in topologies() for v in needs(topology_folder(t)).variables if v.endswith("_IMAGE")}
    assert wanted <= {found.spec.variable for found in catalogue().values()}


def test_official_references_agree_with_the_compose_files() -> None:
    from labs.compose import needs
    from labs.lab.plan import topologies, topology_folder

    official = {found.spec.variable: found.spec.official for found in catalogue().values()}
    for topology in topologies():
        for variable, default in needs(topology_folder(topology)).variables.items():
            assert official.get(variable, default) == default


def test_an_unknown_image_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError) as refused:
        recipe("headscal")
    assert refused.value.hint == "did you mean headscale?"


def test_a_bad_recipe_says_where(tmp_path: Path) -> None:
    text = "name: x\nversion: '1'\nvariable: X_IMAGE\nbinarys: []\n"
    with pytest.raises(FileProblem) as refused:
        validated(parse(text, "x.yaml"), RecipeSpec)
    assert refused.value.where == "x.yaml:4:1 binarys"
    assert refused.value.hint == "did you mean binaries?"


def test_the_hash_changes_with_recipe_and_modules(tmp_path: Path, headscale: Recipe) -> None:
    folder = tmp_path / "modules" / "headscale"
    folder.mkdir(parents=True)
    for name in ("go.mod", "go.sum"):
        (folder / name).write_text("1")
    file = tmp_path / "headscale.yaml"
    file.write_text("1")
    first = Recipe(headscale.spec, file).hash
    assert Recipe(headscale.spec, file).hash == first
    seen = {first}
    for changed in (file, folder / "go.mod", folder / "go.sum"):
        changed.write_text("2")
        seen.add(Recipe(headscale.spec, file).hash)
    assert len(seen) == 4


def test_the_same_ingredients_give_the_same_bytes(tmp_path: Path) -> None:
    for number, order in enumerate((("a", "b"), ("b", "a"))):
        root = RootFs()
        for name in order:
            root.add(f"/opt/{name}", name.encode(), 0o644)
        root.add_package(FakeToolchain().package("libc6", tmp_path)[1])
        root.write(tmp_path / f"{number}.tar")
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()


def test_a_root_file_system_is_merged_and_lean(tmp_path: Path) -> None:
    root = RootFs()
    for name in ("busybox", "libc6", "ca-certificates"):
        root.add_package(FakeToolchain().package(name, tmp_path)[1])
    root.write(tmp_path / "root.tar")
    found = names(tmp_path / "root.tar")
    assert {"bin", "usr/bin/busybox", "usr/lib/x86_64-linux-gnu/libc.so.6", "tmp", "etc/passwd"} <= set(found)
    assert not [name for name in found if "copyright" in name or "ld.so.conf.d" in name]
    assert root.content("/etc/ssl/certs/ca-certificates.crt") == b"A\nB\n"


def test_an_image_is_built_once_and_then_comes_from_the_cache(cache: Cache, headscale: Recipe) -> None:
    tools, engine = FakeToolchain(), FakeEngine()
    assert status(None, headscale).where == "absent"
    assert ensure(engine, ["HEADSCALE_IMAGE"], QUIET, tools) == {"HEADSCALE_IMAGE": headscale.reference}
    assert tools.compiled == ["github.com/juanfont/headscale/cmd/headscale"]
    assert "ko-app/headscale" in names(cache.archive(headscale))
    assert (status(engine, headscale).where, status(None, headscale).where) == ("engine", "cache")

    another = FakeEngine()
    ensure(another, ["HEADSCALE_IMAGE"], QUIET, tools)
    ensure(another, ["HEADSCALE_IMAGE"], QUIET, tools)
    assert len(tools.compiled) == 1
    assert [call for call in another.calls if call[0] == "import_image"] == [("import_image", headscale.reference)]

    rebuild(another, [headscale], QUIET, tools)
    assert len(tools.compiled) == 2


def test_provenance_travels_with_the_image(cache: Cache, headscale: Recipe) -> None:
    engine = FakeEngine()
    ensure(engine, ["HEADSCALE_IMAGE"], QUIET, FakeToolchain())
    image = engine.image(headscale.reference)
    facts = image_facts(image)
    assert (facts.source, facts.version, facts.official) == ("build", "0.29.3", "headscale/headscale:0.29.3")
    assert image.labels["org.mesh-labs.go"] == "go1.26.8"
    assert image.labels["org.mesh-labs.packages"] == "ca-certificates=1.0"
    assert image.labels["org.mesh-labs.modules"].startswith("github.com/juanfont/headscale@v0.29.3=h1:")


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), ImageProblem("it did not compile")])
def test_a_build_that_does_not_finish_leaves_nothing(cache: Cache, headscale: Recipe, problem: BaseException) -> None:
    with pytest.raises(type(problem)):
        build(headscale, cache, FakeToolchain(problem), QUIET)
    assert list(cache.folder.iterdir()) == []
    assert cache.ingredients(headscale) is None


def test_what_a_killed_build_left_is_swept_away(cache: Cache, headscale: Recipe) -> None:
    gone = cache.folder / ".build-999999999-x"
    own = cache.folder / f".build-{os.getpid()}-y"
    gone.mkdir(parents=True)
    own.mkdir()
    build(headscale, cache, FakeToolchain(), QUIET)
    assert not gone.exists()
    assert own.exists()


def test_an_archive_without_its_notes_is_not_trusted(cache: Cache, headscale: Recipe) -> None:
    build(headscale, cache, FakeToolchain(), QUIET)
    cache.archive(headscale).with_suffix(".json").unlink()
    assert cache.ingredients(headscale) is None


def test_a_full_disk_is_named(cache: Cache, headscale: Recipe) -> None:
    with pytest.raises(NoSpace) as refused:
        build(headscale, cache, FakeToolchain(OSError(errno.ENOSPC, "No space left on device")), QUIET)
    assert refused.value.where == str(cache.folder)
    assert "MESH_LABS_CACHE" in refused.value.hint


def test_two_builders_do_the_work_once(cache: Cache) -> None:
    tools = FakeToolchain()
    engines = [FakeEngine(), FakeEngine()]
    builders = [threading.Thread(target=ensure, args=(e, ["HEADSCALE_IMAGE"], QUIET, tools)) for e in engines]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(tools.compiled) == 1
    assert all(any(call[0] == "import_image" for call in engine.calls) for engine in engines)


def test_progress_names_image_and_phase(cache: Cache, headscale: Recipe) -> None:
    events: list[ImageEvent] = []
    ensure(FakeEngine(), ["HEADSCALE_IMAGE"], events.append, FakeToolchain(), Sourcing(Source.BUILD))
    assert [event.phase for event in events] == [
        "packing",
        "compiling",
        "compiling",
        "compiling",
        "packing",
        "loading",
        "ready",
    ]
    assert {event.image for event in events} == {"headscale"}


def executable(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def module(headscale: Recipe) -> Path:
    folder = headscale.module_folder
    assert folder is not None
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    for name in ("apt-get", "dpkg-deb"):
        executable(folder, name, "exit 0")
    return folder


def host(tools: Path, **environment: str) -> HostToolchain:
    return HostToolchain({"PATH": f"{tools}", **environment})


def test_no_debian_tools(tmp_path: Path, headscale: Recipe, module: Path) -> None:
    with pytest.raises(ImageProblem, match="Debian and Ubuntu only"):
        host(tmp_path).check(headscale.spec, module)


def test_no_go(tools: Path, headscale: Recipe, module: Path) -> None:
    with pytest.raises(ImageProblem, match="Go is not installed") as refused:
        host(tools).check(headscale.spec, module)
    assert "install Go 1.2" in refused.value.hint


def test_an_old_go(tools: Path, headscale: Recipe, module: Path) -> None:
    executable(tools, "go", "echo go1.19.8")
    with pytest.raises(ImageProblem, match="or later is needed") as refused:
        host(tools).check(headscale.spec, module)
    assert refused.value.why == "go1.19.8 is installed"


def test_no_compiler_and_no_leave_to_install_one(tools: Path, headscale: Recipe, module: Path) -> None:
    executable(tools, "go", "echo go1.30.0")
    needs_c = headscale.spec.model_copy(update={"binaries": (Binary(package="x", path="/x", cgo=True),)})
    with pytest.raises(ImageProblem, match="C compiler") as refused:
        host(tools, MESH_LABS_ENGINE="never").check(needs_c, module)
    assert refused.value.hint == "apt-get install gcc libc6-dev"


def test_a_compile_error_shows_gos_last_words(tools: Path, headscale: Recipe, module: Path, tmp_path: Path) -> None:
    executable(tools, "go", "echo 'x.go:1: undefined: y' >&2; exit 1")
    with pytest.raises(ImageProblem, match="did not compile") as refused:
        host(tools).compile(headscale.spec.binaries[0], module, tmp_path / "out", lambda _: None)
    assert refused.value.why == "x.go:1: undefined: y"


def test_a_compiler_that_meets_a_full_disk(tools: Path, headscale: Recipe, module: Path, tmp_path: Path) -> None:
    executable(tools, "go", "echo 'write /tmp/x: no space left on device' >&2; exit 1")
    with pytest.raises(NoSpace):
        host(tools).compile(headscale.spec.binaries[0], module, tmp_path / "out", lambda _: None)


@pytest.mark.parametrize("words", ["You don't have enough free space in /x/.", "write error: No space left on device"])
def test_a_download_that_meets_a_full_disk(tools: Path, tmp_path: Path, words: str) -> None:
    executable(tools, "apt-get", f'echo "E: {words}" >&2; exit 100')
    with pytest.raises(NoSpace, match="package x could not be downloaded"):
        host(tools).package("x", tmp_path)


def test_a_package_that_is_not_to_be_had(tools: Path, tmp_path: Path) -> None:
    executable(tools, "apt-get", "echo 'E: Unable to locate package x' >&2; exit 100")
    with pytest.raises(ImageProblem, match="could not be downloaded") as refused:
        host(tools).package("x", tmp_path)
    assert "Unable to locate" in refused.value.why


def test_the_notes_beside_an_archive_are_json(cache: Cache, headscale: Recipe) -> None:
    build(headscale, cache, FakeToolchain(), QUIET)
    notes = json.loads(cache.archive(headscale).with_suffix(".json").read_text())
    assert set(notes) == {"go", "modules", "packages", "artifacts"}


def test_a_recipe_is_a_value(headscale: Recipe) -> None:
    assert replace(headscale) == headscale
