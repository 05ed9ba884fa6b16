"""Planted false negatives: each would let a scenario pass, or fail for the wrong reason, if probes believed it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from labs.engine import Engine
from labs.lab import Lab
from labs.lab.start import start
from labs.model import Attachment, File
from labs.results import Layer, Outcome, StepResult
from labs.scenario import run
from labs.scenario.loader import Scenario, read_text
from tests.live.conftest import Planned

pytestmark = [pytest.mark.live, pytest.mark.smoke]

ROUTE = """
title: t
networks: {office: {}}
peers:
  laptop: {user: alice}
  router: {user: alice, networks: [office]}
hosts:
  printer: {networks: {office: .10}, serves: http}
steps:
  - expect: {from: laptop, to: printer, reachable: false}
  - publish-route: {network: office, via: router, for: [laptop]}
  - expect: {from: laptop, to: printer, reachable: true, within: 10s}
"""
NAME = """
title: t
networks: {office: {}}
peers:
  laptop: {user: alice}
hosts:
  printer: {networks: {office: .10}}
steps:
  - expect-name: {on: laptop, name: print.corp.test, means: printer}
"""


def first_step(scenario: Scenario, lab: Lab) -> StepResult:
    return run(scenario, lab, lambda _: None).steps[0]


@pytest.fixture
def lab_for(engine: Engine, planned: Planned) -> Callable[[str], tuple[Scenario, Lab]]:
    def made(text: str) -> tuple[Scenario, Lab]:
        scenario = read_text(text, "planted.scenario.yaml")
        plan = planned("headscale", inventory=scenario.inventory)
        lab, _ = start(engine, "headscale", plan.name, scenario.inventory, lambda _: None, lambda _: None)
        return scenario, lab

    return made


LabFor = Callable[[str], tuple[Scenario, Lab]]


def test_a_probe_binary_that_crashes_is_an_error(engine: Engine, lab_for: LabFor) -> None:
    """Debian's busybox wget did crash, with -T: a crash looks just like a target that does not answer."""
    scenario, lab = lab_for(ROUTE)
    crash = File("/usr/local/sbin/wget", b"#!/bin/sh\nkill -SEGV $$\n", 0o755)
    engine.copy_in(lab.machine("laptop").container_id, [crash])
    step = first_step(scenario, lab)
    assert step.outcome is Outcome.ERROR
    assert step.diagnosis
    assert step.diagnosis.layer is Layer.PROBE
    assert "exit code 139" in step.diagnosis.seen


def test_a_leak_that_needs_a_second_to_come_up_is_seen(engine: Engine, lab_for: LabFor) -> None:
    """The laptop is plugged into the office's LAN while the negative is being held."""
    scenario, lab = lab_for(ROUTE)
    office = next(network for network in engine.networks() if lab.networks["office"] in network.subnets)
    with later(1.0, lambda: engine.connect(lab.machine("laptop").container_id, office.id, Attachment("office"))):
        step = first_step(scenario, lab)
    assert step.outcome is Outcome.FAILED
    assert "reachable after" in step.evidence[0]
    assert step.diagnosis
    assert step.diagnosis.layer is Layer.FIREWALL, "no route is offered, yet packets pass"


def test_a_name_that_dockers_resolver_answers_is_not_the_overlays(engine: Engine, lab_for: LabFor) -> None:
    scenario, lab = lab_for(NAME)
    control = next(network for network in engine.networks() if lab.networks["control"] in network.subnets)
    service = lab.machine("headscale").container_id
    engine.disconnect(service, control.id)
    fixed = lab.networks["control"][2]
    engine.connect(service, control.id, Attachment("control", fixed, ("print.corp.test",)))
    step = first_step(scenario, lab)
    assert step.outcome is Outcome.FAILED
    assert step.diagnosis
    assert step.diagnosis.layer is Layer.DOCKER_NAME
    assert f"print.corp.test means {fixed}, where headscale stands on a container network" in step.diagnosis.seen


@contextmanager
def later(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()
