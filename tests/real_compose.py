"""The real Compose, built once from its Go module, and what it is asked by tests."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labs.images.builder import cache_folder
from labs.images.catalogue import Binary
from labs.images.toolchain import HostToolchain

VERSION = "v5.5.0"
# Needs Go as new as this go.mod says, and once the Go modules that it names.
_MODULE = Path(__file__).parent / "modules" / "compose"
_PACKAGE = "github.com/docker/compose/v5/cmd"
_VERSION_FLAG = f"-X github.com/docker/compose/v5/internal.Version={VERSION}"
_CONFIG_S = 30.0  # reading a file; observed 0.1 s


def binary() -> Path:
    """The program, from the toolkit's cache folder; whoever comes first builds it. Raises ImageProblem."""
    target = cache_folder(os.environ) / "tools" / f"docker-compose-{VERSION}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(".docker-compose.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_file():
            made = target.with_name(".docker-compose.new")
            command = Binary(package=_PACKAGE, path="/docker-compose", ldflags=_VERSION_FLAG)
            HostToolchain().compile(command, _MODULE, made, lambda _: None)
            made.rename(target)
    return target


@dataclass(frozen=True)
class Reader:
    """Compose as a reader of files: it asks no engine. `home` is an empty folder, in place of the user's own."""

    program: Path
    home: Path

    def config(self, folder: Path, variables: Mapping[str, str]) -> dict[str, Any]:
        """What Compose makes of a folder's file. Fails when it refuses the file, or warns of anything.

        In YAML: its JSON has no `x-` keys of services.
        """
        done = self.run(folder, variables, ["config"])
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        read: dict[str, Any] = yaml.safe_load(done.stdout)
        return read

    def run(self, folder: Path, variables: Mapping[str, str], words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        argv = [str(self.program), "-f", str(folder / "compose.yaml"), *words]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), **variables}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=_CONFIG_S)
