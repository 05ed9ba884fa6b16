"""Labs whose addresses cannot be reached from here.

Each command runs in a network namespace of its own. It has no interface but a loopback that is down, so there is
nothing it could reach directly; the engine's unix socket is a file, and works from everywhere.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.controlplanes import Through
from labs.engine import Engine
from labs.lab import Lab, find
from labs.lab.addresses import REACH_VARIABLE
from labs.lab.health import problems
from labs.lab.lab import WAY_IN
from labs.timing import SystemClock, until
from tests.live.test_lab_life import docker_inspect

pytestmark = pytest.mark.live

_LIMIT_S = 600
_STREAMS_END_S = 10.0
_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()
except OSError as error:
    print(error.strerror)
else:
    print("connected")
"""


def apart(*argv: str, reach: str = "") -> subprocess.CompletedProcess[str]:
    """A Python program in a network namespace of its own, and what it printed."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    environment = {name: value for name, value in os.environ.items() if name != REACH_VARIABLE}
    return subprocess.run(
        [*unshare, sys.executable, *argv],
        env={**environment, **({REACH_VARIABLE: reach} if reach else {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
    )


def ok(*words: str, reach: str = "") -> str:
    done = apart("-m", "labs.commands.cli", *words, reach=reach)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def document(*words: str) -> Any:
    return json.loads(ok(*words, "--json"))


@pytest.fixture(autouse=True, scope="module")
def _can_be_done(engine: Engine) -> None:
    if not shutil.which("unshare") or not engine.info().endpoint.startswith("unix:"):
        pytest.skip("needs unshare (util-linux), and an engine at a unix socket")


@pytest.fixture(scope="module")
def lab(engine: Engine) -> Iterator[Lab]:
    name = f"t-apart-{secrets.token_hex(3)}"
    shown = document("up", "headscale", "--name", name, "--peers", "1")
    assert shown["healthy"]
    yield find(engine, name, SystemClock())
    ok("down", name)
    assert name not in {entry["name"] for entry in document("list")}


def test_no_address_of_the_lab_is_reached_directly(lab: Lab) -> None:
    address = str(lab.context.address("headscale"))
    assert apart("-c", _CONNECT, address, "8080").stdout == "Network is unreachable\n"
    assert list(lab.machine(WAY_IN).addresses) == ["control"]
    assert lab.reach == Through(lab.engine, lab.machine(WAY_IN).container_id)


def test_later_commands_go_the_same_way(lab: Lab) -> None:
    """Also where there would be a route, as in this process: a lab's helper is used as long as it is there."""
    assert document("status", lab.name)["healthy"]
    (peer,) = document("peers", lab.name)
    assert (peer["name"], peer["online"], peer["connected"]) == ("peer-1", True, True)
    assert problems(lab) == ()
    assert [peer.name for peer in lab.control_plane.listed()] == ["peer-1"]


def test_no_stream_outlives_its_use(lab: Lab) -> None:
    helper = lab.machine(WAY_IN).container_id
    address = str(lab.context.address("headscale"))
    for _ in range(3):
        lab.reach.dial(address, 8080, 2.0).close()
    with pytest.raises(ConnectionError, match="refused"):
        lab.reach.dial(address, 1, 2.0)
    with pytest.raises(ConnectionError, match=r"timed out|unreachable|No route"):
        lab.reach.dial(str(lab.networks["control"][77]), 80, 1.0)

    def left() -> tuple[object, str]:
        ran = lab.engine.exec(helper, ["pidof", "nc", "dd"])
        return docker_inspect(lab.engine, helper)["ExecIDs"], ran.stdout

    until(SystemClock(), left, lambda seen: seen == (None, ""), what="Every stream's end", timeout_s=_STREAMS_END_S)


@pytest.mark.parametrize(
    ("scenario", "topologies", "reach"),
    [
        ("subnet-routes", "headscale,netbird", ""),
        ("subnet-routes", "headscale", "exec"),
        ("dns-names", "headscale-proxy", ""),
        ("ask-local-users", "netbird-quickstart", ""),  # people sign in over TLS
    ],
)
def test_scenarios(scenario: str, topologies: str, reach: str, tmp_path: Path) -> None:
    where = ["--results", str(tmp_path / "results"), "--artefacts", str(tmp_path / "artefacts")]
    ok("check", scenario, "--labs", topologies, *where, reach=reach)
    results = [json.loads(file.read_text()) for file in sorted((tmp_path / "results").glob("*.json"))]
    assert {(result["topology"], result["outcome"]) for result in results} == {
        (topology, "passed") for topology in topologies.split(",")
    }
