"""Two labs of each kind, started at the same moment by four processes, each pass the scenario."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

SCENARIO = Path(__file__).parents[2] / "scenarios" / "subnet-routes.scenario.yaml"


def test_two_labs_of_each_kind_at_once(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(SCENARIO)]
    shells = [
        subprocess.Popen(
            [*argv, "--lab", topology], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for topology in ("headscale", "netbird", "headscale", "netbird")
    ]
    outputs = [shell.communicate()[0] for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0, 0, 0], "\n".join(outputs)
