"""What a build needs of the host: Go, a C compiler for cgo, Maven, and Debian's package tools."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from labs.errors import ImageProblem, NoSpace
from labs.images.catalogue import Artifact, Binary, RecipeSpec

_LAST_LINES = 12
_FULL = ("no space left on device", "have enough free space")  # the kernel's words, and apt's
_MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"


class Toolchain(Protocol):
    """The host's tools. All raise ImageProblem saying what to install, NoSpace when the disk is full."""

    def check(self, spec: RecipeSpec, module_folder: Path | None) -> str:
        """Make sure everything is there before anything is built; the Go version, or '' when nothing is compiled."""

    def compile(self, binary: Binary, module_folder: Path, target: Path, on_line: Callable[[str], None]) -> None: ...

    def package(self, name: str, folder: Path) -> tuple[str, BinaryIO]:
        """A Debian package's version and the tar of its files; `folder` is for its download."""

    def artifact(self, artifact: Artifact, folder: Path) -> Path:
        """An archive from Maven Central in `folder`, which is what the recipe says it is."""

    def prepare(self, script: str, root: Path) -> None:
        """Run a recipe's own shell script in its unpacked root file system."""

    def applets(self, busybox: Path) -> Sequence[str]:
        """The names a busybox answers to."""


class HostToolchain:
    """The real tools, found on PATH."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(os.environ if environment is None else environment)

    def check(self, spec: RecipeSpec, module_folder: Path | None) -> str:
        for tool in ("apt-get", "dpkg-deb"):
            if not self._which(tool):
                raise ImageProblem(
                    "Images can be built on Debian and Ubuntu only",
                    why=f"{tool} is not there",
                    hint="build them on such a machine, or use an engine that has them",
                )
        if spec.artifacts and not self._which("mvn"):
            self._install("Maven", "maven")
        if module_folder is None:
            return ""
        if any(binary.cgo for binary in spec.binaries) and not self._which("gcc"):
            self._install("A C compiler", "gcc", "libc6-dev")
        return self._go_version(module_folder)

    def compile(self, binary: Binary, module_folder: Path, target: Path, on_line: Callable[[str], None]) -> None:
        flags = ["-trimpath", "-mod=readonly", "-buildvcs=false", "-v", f"-ldflags=-s -w {binary.ldflags}".rstrip()]
        environment = {
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "",
            "GOWORK": "off",
            "CGO_ENABLED": "1" if binary.cgo else "0",
        }
        argv = ["go", "build", *flags, "-o", str(target), binary.package]
        lines: list[str] = []
        with subprocess.Popen(
            argv, cwd=module_folder, env={**self._environment, **environment}, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                for line in process.stderr or ():
                    lines.append(line.rstrip())
                    on_line(lines[-1])
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise _failure(f"{binary.package} did not compile", lines)

    def package(self, name: str, folder: Path) -> tuple[str, BinaryIO]:
        argv = ["apt-get", "-o", "APT::Sandbox::User=root", "download", name]
        result = self._run(argv, folder)
        if result.returncode != 0 and os.geteuid() == 0:
            self._run(["apt-get", "update"], folder)
            result = self._run(argv, folder)
        found = sorted(folder.glob(f"{name}_*.deb"))
        if result.returncode != 0 or not found:
            raise _failure(f"Debian's package {name} could not be downloaded", _text(result).splitlines())
        version = _text(self._run(["dpkg-deb", "--field", str(found[0]), "Version"], folder)).strip()
        return version, io.BytesIO(self._run(["dpkg-deb", "--fsys-tarfile", str(found[0])], folder).stdout)

    def artifact(self, artifact: Artifact, folder: Path) -> Path:
        _, name, version, kind = artifact.coordinates.split(":")
        target = folder / f"{name}-{version}.{kind}"
        argv = ["mvn", "-q", "-B", _MAVEN_COPY, f"-Dartifact={artifact.coordinates}", f"-DoutputDirectory={folder}"]
        result = self._run(argv, folder)
        if result.returncode != 0 or not target.is_file():
            raise _failure(f"{artifact.coordinates} could not be downloaded", _text(result).splitlines())
        with target.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != artifact.sha256:
            raise ImageProblem(
                f"{artifact.coordinates} is not what the recipe says",
                why=f"its sha256 is {found}, not {artifact.sha256}",
                hint="remove it from Maven's local repository (~/.m2) and try again",
            )
        return target

    def prepare(self, script: str, root: Path) -> None:
        result = self._run(["sh", "-eu", "-c", script], root)
        if result.returncode != 0:
            raise _failure("The recipe's own preparation failed", _text(result).splitlines())

    def applets(self, busybox: Path) -> Sequence[str]:
        return _text(self._run([str(busybox), "--list"], busybox.parent)).split()

    def _go_version(self, module_folder: Path) -> str:
        wanted = re.search(r"^go (\S+)$", (module_folder / "go.mod").read_text(), re.MULTILINE)
        needed = wanted[1] if wanted else "1.21"
        if not self._which("go"):
            raise ImageProblem("Go is not installed", hint=f"install Go {needed} or later: https://go.dev/dl")
        found = _text(self._run(["go", "env", "GOVERSION"], module_folder)).strip()
        if _numbers(found) < _numbers(needed):
            raise ImageProblem(
                f"Go {needed} or later is needed", why=f"{found} is installed", hint="install it: https://go.dev/dl"
            )
        return found

    def _install(self, what: str, *packages: str) -> None:
        """Debian's packages, on the same terms as the private engine: as root, and unless it is refused."""
        if os.geteuid() != 0 or self._environment.get("MESH_LABS_ENGINE") == "never":
            raise ImageProblem(f"{what} is needed", hint=f"apt-get install {' '.join(packages)}")
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        result = self._run(install, Path("/"))
        if result.returncode != 0:
            self._run(["apt-get", "update", "-qq"], Path("/"))
            result = self._run(install, Path("/"))
        if result.returncode != 0:
            raise _failure(f"{packages[0]} could not be installed", _text(result).splitlines())

    def _which(self, tool: str) -> str | None:
        return shutil.which(tool, path=self._environment.get("PATH", ""))

    def _run(self, argv: Sequence[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
        environment = {**self._environment, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, check=False)


def _text(result: subprocess.CompletedProcess[bytes]) -> str:
    return (result.stdout if result.returncode == 0 else result.stdout + result.stderr).decode(errors="replace")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _failure(what: str, lines: Sequence[str]) -> ImageProblem | NoSpace:
    words = "\n".join(lines[-_LAST_LINES:])
    if any(sign in words.lower() for sign in _FULL):
        return NoSpace(what, why="no space left on device", hint="inv doctor shows the disks")
    return ImageProblem(what, why=words)
