"""`inv doctor` on this machine as it is, and with all taken away that a namespace of mounts can hide."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from labs.engine import Engine
from labs.engine.select import NAMED

pytestmark = pytest.mark.live

# Seen by the process alone: no tun device, no control groups, and a small disk.
HIDDEN = """
mount --make-rprivate /
grep -o ' /sys/fs/cgroup[^ ]*' /proc/self/mountinfo | sort -r | xargs -n 1 umount --lazy
mount -t tmpfs tmpfs /dev/net
mount -t tmpfs -o size=64M tmpfs "$MESH_LABS_CACHE"
PATH=/nonexistent exec "$0" -m labs.commands.cli doctor --json
"""


def levels(document: str) -> Mapping[str, str]:
    return {check["name"]: check["level"] for check in json.loads(document)["checks"]}


def test_this_machine_can_run_labs(engine: Engine) -> None:
    argv = [sys.executable, "-m", "labs.commands.cli", "doctor", "--json", "--engine", engine.endpoint]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["can_run"] is True


def test_a_machine_that_lacks_almost_everything(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "MESH_LABS_CACHE": str(tmp_path),
        "MESH_LABS_ENGINE": "never",
        NAMED: f"unix://{tmp_path}/dead.sock",
    }
    argv = ["unshare", "--mount", "sh", "-eu", "-c", HIDDEN, sys.executable]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stderr.startswith("This machine cannot run a lab yet\n")
    failed = {name for name, level in levels(done.stdout).items() if level == "fail"}
    assert failed == {"engine", "cgroups", "tun", "disk: cache", "go", "gcc", "apt"}
