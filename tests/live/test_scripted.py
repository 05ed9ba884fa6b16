"""Labs in Python: fixtures, verbs as methods, and the context manager; and labs that scenarios share."""

from __future__ import annotations

import pytest

from labs.engine import Engine
from labs.errors import UsageError
from labs.lab import labels
from labs.scenario import Trial
from labs.scenario.diagnosis import StepFailed
from labs.scenario.loader import read_text
from labs.scripted import HeadscaleLab, NetBirdLab, ScriptedLab

pytestmark = pytest.mark.live

ASKS = """
title: t
shares-lab: true
peers: {laptop: {user: alice}}
steps:
  - expect-peer: {peer: laptop, online: true}
"""


@pytest.mark.smoke
def test_a_printer_behind_a_router(lab: ScriptedLab) -> None:
    office = lab.network("office")
    printer = lab.host("printer", office, serves="http")
    router, laptop = lab.peer("router", office), lab.peer("laptop")
    assert not laptop.reaches(printer)
    lab.publish_route(office, via=router, for_=[laptop])
    reached = laptop.reaches(printer, within_s=10)
    assert reached.seen_as == router, reached.evidence
    lab.withdraw_route(office, via=router)
    lab.expect(laptop, printer, reachable=False, within="10s")
    with pytest.raises(StepFailed, match="no peer serves a route"):
        lab.expect(laptop, printer, reachable=True)


def test_a_context_manager_leaves_nothing(engine: Engine) -> None:
    with NetBirdLab(engine=engine) as lab:
        laptop, server = lab.peer("laptop"), lab.peer("server", user="bob", serves=[80, 8080])
        assert laptop.reaches(server, within_s=10)
        lab.deny_all()
        lab.allow("alice", "bob", ports=[8080])
        assert laptop.reaches(server, port=8080, within_s=10)
        assert not laptop.reaches(server)
        with pytest.raises(UsageError, match="comes too late"):
            lab.network("late")
    assert engine.containers({labels.LAB: lab.name}) == ()


def test_a_failure_inside_leaves_nothing_either(engine: Engine) -> None:
    lab = HeadscaleLab(engine=engine)
    lab.peer("laptop")

    def broken() -> None:
        with lab:
            assert lab.lab.machine("laptop")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert engine.networks({labels.LAB: lab.name}) == ()


def test_a_verb_that_is_not_there(engine: Engine) -> None:
    with HeadscaleLab(engine=engine) as lab, pytest.raises(AttributeError, match="did you mean publish_route"):
        lab.publish_rout("office")


def test_files_that_change_nothing_share_a_lab(engine: Engine) -> None:
    said: list[str] = []
    trial = Trial(engine, said.append)
    scenario = read_text(ASKS, "asks.scenario.yaml")
    try:
        first, second = trial.run(scenario, "headscale"), trial.run(scenario, "headscale")
        assert (first.outcome, second.outcome) == ("passed", "passed")
        (lab,) = trial.shared.values()
        assert said[-1] == f"on the lab {lab.name}, which it shares"
    finally:
        trial.close()
    assert engine.containers({labels.LAB: lab.name}) == ()
