"""A recipe made into a tar in the cache. Nothing has its final name before it is whole."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from labs.errors import NoSpace
from labs.images.catalogue import Preparation, Recipe
from labs.images.events import ImageEvent, OnImage
from labs.images.rootfs import RootFs
from labs.images.toolchain import Toolchain
from labs.images.truststore import truststore

_BUSYBOX = "usr/bin/busybox"
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_JAVA_CERTIFICATES = "etc/ssl/certs/java/cacerts"


def cache_folder(environment: Mapping[str, str]) -> Path:
    """MESH_LABS_CACHE, else mesh-labs in the user's XDG cache folder."""
    if chosen := environment.get("MESH_LABS_CACHE"):
        return Path(chosen)
    base = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/")) / ".cache"
    return Path(base) / "mesh-labs"


class Cache:
    """Built images as files: NAME-VERSION-HASH.tar, and beside it NAME-VERSION-HASH.json with the ingredients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "images"

    def archive(self, recipe: Recipe) -> Path:
        return self.folder / f"{recipe.name}-{recipe.spec.version}-{recipe.hash}.tar"

    def ingredients(self, recipe: Recipe) -> dict[str, str] | None:
        """What the cached archive was made of; None when it is not there."""
        notes = self.archive(recipe).with_suffix(".json")
        if not (notes.is_file() and self.archive(recipe).is_file()):
            return None
        found: dict[str, str] = json.loads(notes.read_text())
        return found

    def forget(self, recipe: Recipe) -> None:
        self.archive(recipe).with_suffix(".json").unlink(missing_ok=True)
        self.archive(recipe).unlink(missing_ok=True)

    @contextmanager
    def locked(self, recipe: Recipe) -> Iterator[None]:
        """One build of an image at a time, over all processes; the kernel frees a dead one's lock."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".{recipe.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def build(recipe: Recipe, cache: Cache, toolchain: Toolchain, on_event: OnImage) -> None:
    """Put the recipe's archive into the cache. The caller holds its lock. Raises ImageProblem or NoSpace."""
    cache.folder.mkdir(parents=True, exist_ok=True)
    _sweep(cache.folder)
    work = Path(tempfile.mkdtemp(prefix=f".build-{os.getpid()}-", dir=cache.folder))
    try:
        ingredients = _assemble(recipe, work, toolchain, on_event)
        target = cache.archive(recipe)
        (work / "notes").write_text(json.dumps(ingredients, indent=2) + "\n")
        (work / "root.tar").rename(target)
        (work / "notes").rename(target.with_suffix(".json"))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise NoSpace(
            f"No space is left to build {recipe.name}",
            where=str(cache.folder),
            hint="make room, or name another folder in MESH_LABS_CACHE",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _assemble(recipe: Recipe, work: Path, toolchain: Toolchain, on_event: OnImage) -> dict[str, str]:
    """Everything into WORK/root.tar; returns the ingredients for the image's labels."""
    spec = recipe.spec
    go_version = toolchain.check(spec, recipe.module_folder)
    root = RootFs(spec.keep, spec.omit)
    packages = _add_packages(recipe, root, work, toolchain, on_event)
    for artifact in spec.artifacts:
        on_event(ImageEvent(recipe.name, "packing", artifact.coordinates))
        with toolchain.artifact(artifact, work).open("rb") as archive:
            root.add_artifact(archive, artifact.path, artifact.owner.numbers)
    for number, binary in enumerate(spec.binaries):
        target = work / f"binary-{number}"
        _compile(recipe, number, target, toolchain, on_event)
        root.add(binary.path, target, 0o755)
    for folder in spec.folders:
        root.folder(folder.path, folder.mode, folder.owner.numbers)
    for file in spec.files:
        root.add(file.path, file.content.encode(), file.mode)
    for path in spec.cap_net_bind_service:
        root.let_bind_ports(path)
    if spec.prepare:
        _prepare(recipe.name, spec.prepare, root, work.resolve() / "root", toolchain, on_event)
    on_event(ImageEvent(recipe.name, "packing", "root file system"))
    root.write(work / "root.tar")
    artifacts = " ".join(f"{artifact.coordinates}=sha256:{artifact.sha256}" for artifact in spec.artifacts)
    return {"go": go_version, "modules": _modules(recipe), "packages": packages, "artifacts": artifacts}


def _add_packages(recipe: Recipe, root: RootFs, work: Path, toolchain: Toolchain, on_event: OnImage) -> str:
    packages = []
    for name in recipe.spec.packages:
        on_event(ImageEvent(recipe.name, "packing", name))
        version, archive = toolchain.package(name, work)
        root.add_package(archive)
        packages.append(f"{name}={version}")
    if "busybox" in recipe.spec.packages:
        _link_applets(root, work, toolchain)
    if "ca-certificates-java" in recipe.spec.packages:
        root.add(_JAVA_CERTIFICATES, truststore(root.content(_CERTIFICATES)), 0o644)
    return " ".join(packages)


def _prepare(
    image: str, preparation: Preparation, root: RootFs, unpacked: Path, toolchain: Toolchain, on_event: OnImage
) -> None:
    on_event(ImageEvent(image, "preparing", preparation.changes))
    root.unpack(unpacked)
    toolchain.prepare(preparation.script, unpacked)
    root.adopt(preparation.changes, unpacked)


def _compile(recipe: Recipe, number: int, target: Path, toolchain: Toolchain, on_event: OnImage) -> None:
    binary, folder = recipe.spec.binaries[number], recipe.module_folder
    if folder is None:
        raise NotADirectoryError(f"{recipe.name}: binaries need a module")
    compiled = 0

    def on_line(line: str) -> None:
        nonlocal compiled
        compiled += not line.startswith("go: ")
        on_event(ImageEvent(recipe.name, "compiling", f"{compiled} packages, {line.rsplit(' ', 1)[-1]}"))

    on_event(ImageEvent(recipe.name, "compiling", binary.package))
    toolchain.compile(binary, folder, target, on_line)


def _link_applets(root: RootFs, work: Path, toolchain: Toolchain) -> None:
    busybox = work / "busybox"
    busybox.write_bytes(root.content(_BUSYBOX))
    busybox.chmod(0o755)
    for applet in toolchain.applets(busybox):
        root.link(f"usr/bin/{applet}", "busybox")


def _modules(recipe: Recipe) -> str:
    """The modules the binaries come from, each with its version and go.sum's checksum of it."""
    if (folder := recipe.module_folder) is None:
        return ""
    packages = [binary.package for binary in recipe.spec.binaries]
    sums = [line.split() for line in (folder / "go.sum").read_text().splitlines()]
    required = (folder / "go.mod").read_text().split()
    return " ".join(
        f"{module}@{version}={checksum}"
        for module, version, checksum in sums
        if any(f"{package}/".startswith(f"{module}/") for package in packages) and version in required
    )


def _sweep(folder: Path) -> None:
    """What builds left behind whose process is gone: killed outright, or the machine stopped."""
    for work in folder.glob(".build-*"):
        pid = work.name.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(work, ignore_errors=True)
