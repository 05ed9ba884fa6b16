"""A measurement from the command line on real labs: stored, stopped, gone on with, compared, and judged by."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labs.engine import Engine
from labs.lab import labels
from labs.results import Measurement, Part, Phase, load

pytestmark = [pytest.mark.live, pytest.mark.smoke]

QUICK = ("--phases", "boot,idle,joined", "--settle", "0.5", "--window", "2", "--peers", "2")


def argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "labs.commands.cli", *words]


def inv(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv(*words), cwd=folder, capture_output=True, text=True, check=False, timeout=240)


def test_measured_stopped_gone_on_with_and_judged_by(engine: Engine, tmp_path: Path) -> None:
    command = ("measure", "headscale,netbird", "--runs", "1", *QUICK)
    with subprocess.Popen(argv(*command), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as stopped:
        assert stopped.stdout is not None
        lines = iter(stopped.stdout)
        next(line for line in lines if line.startswith("netbird"))  # headscale's run is stored by now
        next(lines)  # and the first part of the next lab is there
        stopped.send_signal(signal.SIGTERM)
        stopped.stdout.read()
    assert stopped.returncode == 4
    assert not [found for found in engine.containers({labels.LAB: ""}) if found.labels[labels.LAB].startswith("m-")]
    (stored,) = (tmp_path / "results").iterdir()
    assert [run.topology for run in load(Measurement, stored).runs] == ["headscale"]

    done = inv(tmp_path, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on with" in done.stdout
    measured = load(Measurement, stored)
    assert [(run.topology, run.invalid) for run in measured.runs] == [("headscale", ()), ("netbird", ())]
    for run in measured.runs:
        assert [window.phase for window in run.windows] == [Phase.BOOT, Phase.IDLE, Phase.JOINED]
        footprint, working_set = (run.figure(Phase.JOINED, part) for part in (Part.FOOTPRINT, Part.WORKING_SET))
        assert footprint is not None
        assert working_set is not None
        assert 1 << 20 < footprint <= working_set
        assert set(run.joins_s) == {"laptop", "router"}
    assert str(tmp_path) not in stored.read_text()
    assert os.uname().nodename not in stored.read_text()

    compared = inv(tmp_path, "compare", "headscale,netbird")
    assert compared.returncode == 0, compared.stderr
    assert "too few runs" in compared.stdout
    claims = json.loads(inv(tmp_path, "claims", "headscale-leaner", "--json").stdout)
    assert [(claim["id"], claim["verdict"]) for claim in claims] == [("headscale-leaner", "inconclusive")]
    failing = inv(tmp_path, "claims", "headscale-leaner", "--fail-on", "inconclusive")
    assert failing.returncode == 6
    reported = inv(tmp_path, "report")
    assert reported.returncode == 0, reported.stderr
    assert {path.name for path in (tmp_path / "results" / "report").iterdir()} == {
        "claims.json",
        "report.html",
        "report.md",
    }


def test_what_a_claim_needs_is_run(tmp_path: Path) -> None:
    done = inv(tmp_path, "claims", "netbird-routes", "--run")
    assert done.returncode == 0, done.stderr
    assert "✓ supported     netbird-routes" in done.stdout
    again = inv(tmp_path, "claims", "netbird-routes", "--json")
    assert json.loads(again.stdout)[0]["observations"] == {"route": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("measure", "headscal"), "There is no topology 'headscal'\n  try: did you mean headscale"),
        (("measure", "headscale", "--runs", "11"), "11 runs cannot be made"),
        (("measure", "headscale", "--peers", "1"), "'1' peers cannot join"),
        (("measure", "headscale", "--phases", "idle,lode"), "There is no phase 'lode'\n  try: did you mean load"),
        (("compare", "headscale,netbird"), "There are no valid figures of headscale, netbird"),
        (("claims", "netbird-rout"), "There is no claim 'netbird-rout'\n  try: did you mean netbird-routes"),
        (("claims", "--fail-on", "no"), "There is no verdict 'no'"),
        (("claims", "--from", "nowhere"), "There is no folder nowhere"),
        (("report",), "There are no results to report"),
    ],
)
def test_wrong_words(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = inv(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
