"""What a look-up or a ping says in both of its dialects: busybox's, and iputils' of the official Tailscale image."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from labs.controlplanes import Machine
from labs.engine import ExecResult
from labs.engine.fake import FakeEngine
from labs.errors import ProbeProblem
from labs.model import Container
from labs.scenario.probe import Answer, Probe, look_up
from labs.timing import FakeClock

ADDRESS = IPv4Address("100.64.0.2")


def answering(result: ExecResult) -> tuple[FakeEngine, Machine]:
    engine = FakeEngine(on_exec=lambda container, argv: result)
    engine.add_image("client:1")
    made = engine.create(Container("laptop", "client:1"), "laptop", {}, {})
    engine.start(made)
    return engine, Machine("laptop", made, {})


@pytest.mark.parametrize(
    "said",
    ["PING desktop.lab (100.64.0.2): 56 data bytes\n", "PING desktop.lab (100.64.0.2) 56(84) bytes of data.\n"],
    ids=["busybox", "iputils"],
)
def test_a_name_that_means_an_address(said: str) -> None:
    """Whether the address answers the ping is another question."""
    assert look_up(*answering(ExecResult(1, said, "")), "desktop.lab") == Answer(ADDRESS, "answered")


@pytest.mark.parametrize(
    "result",
    [
        ExecResult(1, "", "ping: bad address 'desktop.lab'"),
        ExecResult(2, "", "ping: desktop.lab: Name does not resolve"),
        ExecResult(2, "", "ping: desktop.lab: Try again"),
    ],
    ids=lambda result: str(result.stderr),
)
def test_a_name_that_means_nothing(result: ExecResult) -> None:
    assert look_up(*answering(result), "desktop.lab") == Answer(None, result.stderr)


@pytest.mark.parametrize(
    "result",
    [
        ExecResult(1, "1 packets transmitted, 0 packets received, 100% packet loss", ""),
        ExecResult(1, "1 packets transmitted, 0 received, 100% packet loss, time 0ms", ""),
        ExecResult(1, "", "ping: sendto: Network unreachable"),
        ExecResult(2, "", "ping: connect: Network unreachable"),
        ExecResult(143, "", ""),
    ],
    ids=["busybox", "iputils", "busybox without a route", "iputils without a route", "out of time"],
)
def test_a_ping_that_is_not_answered(result: ExecResult) -> None:
    engine, laptop = answering(result)
    assert not Probe(ADDRESS, by="ping").attempt(engine, FakeClock(), laptop).reached


@pytest.mark.parametrize("result", [ExecResult(2, "", "ping: option requires an argument"), ExecResult(139, "", "")])
def test_a_ping_that_could_not_run(result: ExecResult) -> None:
    engine, laptop = answering(result)
    with pytest.raises(ProbeProblem):
        Probe(ADDRESS, by="ping").attempt(engine, FakeClock(), laptop)
    with pytest.raises(ProbeProblem):
        look_up(engine, laptop, "desktop.lab")
