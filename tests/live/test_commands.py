"""The commands as a person types them, each as a process of its own, on one lab."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.live, pytest.mark.smoke]


def inv(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "labs.commands.cli", *words]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=120)


def ok(*words: str, stdin: str = "") -> str:
    done = inv(*words, stdin=stdin)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def document(*words: str) -> Any:
    return json.loads(ok(*words, "--json"))


@pytest.fixture(scope="module", params=["headscale", "netbird"])
def lab(request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"t-cli-{request.param}-{secrets.token_hex(2)}"
    shown = document("up", request.param, "--name", name, "--peers", "2")
    assert (shown["name"], shown["healthy"]) == (name, True)
    yield name
    ok("down", name)
    assert name not in {entry["name"] for entry in document("list")}


def test_a_second_up_shows_the_status(lab: str) -> None:
    topology = lab.split("-")[2]
    done = inv("up", topology, "--name", lab, "--peers", "2")
    assert done.returncode == 0
    assert f"Lab {lab} is there already." in done.stdout
    assert f"Lab {lab}: {topology}, created " in done.stdout


def test_other_settings_are_refused(lab: str) -> None:
    done = inv("up", lab.split("-")[2], "--name", lab, "--peers", "1")
    assert (done.returncode, len(done.stdout.splitlines())) == (2, 1), "which engine, and nothing more"
    assert done.stdout.startswith("engine: ")
    assert done.stderr.startswith(f"A lab called {lab} has other settings\n")
    assert "--name NAME" in done.stderr


def test_status_and_list_agree(lab: str) -> None:
    status = document("status", lab)
    (listed,) = [entry for entry in document("list") if entry["name"] == lab]
    assert listed["containers"] == len(status["members"])
    assert listed["created"] == status["created"]
    assert {member["state"] for member in status["members"]} == {"running"}


def test_peers_as_both_ends_see_them(lab: str) -> None:
    peers = document("peers", lab)
    assert [peer["name"] for peer in sorted(peers, key=lambda peer: str(peer["name"]))] == ["peer-1", "peer-2"]
    assert all(peer["online"] and peer["connected"] for peer in peers)
    assert {peer["user"] for peer in peers} == {"alice"}


def test_exec_passes_output_input_and_exit_code_through(lab: str) -> None:
    assert ok("exec", "peer-1", "--name", lab, "--", "echo", "two  words") == "two  words\n"
    assert ok("exec", "peer-1", "--name", lab, "--", "cat", stdin="typed\n") == "typed\n"
    done = inv("exec", "peer-1", "--name", lab, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_shell_reads_commands(lab: str) -> None:
    # Containers have no host name of their own: Docker's resolver would answer for it.
    said = {peer: ok("exec", peer, "--name", lab, "--", "hostname") for peer in ("peer-1", "peer-2")}
    assert said["peer-1"] != said["peer-2"]
    assert ok("shell", "peer-2", "--name", lab, stdin="hostname\n") == said["peer-2"]


def test_logs(lab: str) -> None:
    service = "headscale" if "headscale" in lab else "management"
    assert len(ok("logs", service, "--name", lab, "--tail", "1").splitlines()) == 1
    assert len(ok("logs", service, "--name", lab).splitlines()) > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("exec", "peer-9", "--", "true"), "has no container called peer-9\n  try: did you mean peer-"),
        (("exec", "peer-1"), "No command was given"),
        (("logs", "nobody"), "has no container called nobody"),
    ],
)
def test_wrong_words_inside_a_lab(lab: str, words: tuple[str, ...], message: str) -> None:
    done = inv(words[0], words[1], "--name", lab, *words[2:])
    assert done.returncode == 2
    assert message in done.stderr


def test_a_lab_that_is_not_there() -> None:
    for command in ("status", "peers"):
        done = inv(command, "t-no-such-lab")
        assert done.returncode == 2
        assert done.stderr.startswith("There is no lab called t-no-such-lab\n")
    assert "nothing" in ok("down", "t-no-such-lab")


def test_a_topology_that_is_not_there() -> None:
    done = inv("up", "headscal")
    assert (done.returncode, done.stderr) == (
        2,
        "There is no topology called headscal\n  try: did you mean headscale?\n",
    )


def test_down_needs_to_be_told_which() -> None:
    done = inv("down")
    assert done.returncode == 2
    assert "--all" in done.stderr


def test_two_shells_start_the_same_lab() -> None:
    """One makes it; the other waits, and shows it."""
    name = f"t-twice-{secrets.token_hex(2)}"
    argv = [sys.executable, "-m", "labs.commands.cli", "up", "netbird", "--name", name, "--peers", "1"]
    shells = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [shell.communicate(timeout=120) for shell in shells]
    ok("down", name)
    assert [shell.returncode for shell in shells] == [0, 0], outputs
    assert sorted("is there already" in stdout for stdout, _ in outputs) == [False, True]
