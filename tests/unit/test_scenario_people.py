"""People in scenarios, on a control plane in memory: who they are, what they own, and what refuses them."""

from __future__ import annotations

import pytest

from labs.controlplanes import Context
from labs.engine import State
from labs.engine.fake import FakeEngine
from labs.journal import Journal
from labs.lab import Lab, Member
from labs.lab.lab import Machine
from labs.model import Container, Network, Product, Role
from labs.results import Layer, Outcome, ScenarioResult
from labs.scenario import Scenario, run
from labs.scenario.loader import read_text
from labs.timing import FakeClock
from tests.fake_control_plane import FakeControlPlane, runs_everything
from tests.unit.test_scenario_runner import UNDERLAY

HEAD = """
title: t
people: {anna: {at: [company, partner]}, otto: {at: [elsewhere]}}
peers: {laptop: {}, server: {user: bob}}
steps:
"""


class Town:
    """A lab with one machine for people, and one of bob's that joined by key."""

    def __init__(self) -> None:
        clock = FakeClock()
        engine = FakeEngine(runs_everything)
        engine.add_image("x:1")
        network = engine.create_network(Network("control", UNDERLAY), "control", {}).id
        members = {}
        for name in ("laptop", "server"):
            spec = Container(name, "x:1")
            container = engine.create(spec, name, {"control": network}, {})
            engine.start(container)
            machine = Machine(name, container, {"control": UNDERLAY[len(members) + 5]})
            members[name] = Member(machine, Role.PEER, State.RUNNING, "x:1", user="bob")
        journal = Journal(clock.now)
        self.plane = FakeControlPlane(Context(engine, clock, journal, {}))
        self.plane.made_users = ["bob"]
        self.lab = Lab(
            name="t",
            run_id="r",
            topology="headscale-oidc",
            product=Product.HEADSCALE,
            control="control",
            owner="o",
            settings="s",
            created="",
            expires="",
            engine=engine,
            clock=clock,
            members=members,
            networks={"control": UNDERLAY},
        )
        self.lab.__dict__["control_plane"] = self.plane
        self.lab.__dict__["journal"] = journal

    def run(self, *steps: str) -> ScenarioResult:
        first = "  - sign-in: {peer: laptop, person: anna, provider: company}\n"
        text = HEAD + first + "".join(f"  - {step}\n" for step in steps)
        return run(Scenario("t", read_text(text, "t").spec), self.lab, lambda _: None)


@pytest.fixture
def town() -> Town:
    return Town()


def last(result: ScenarioResult) -> tuple[Outcome, Layer | None]:
    ran = [step for step in result.steps if step.outcome is not Outcome.NOT_RUN]
    return ran[-1].outcome, ran[-1].diagnosis.layer if ran[-1].diagnosis else None


def test_whoever_signs_in_owns_the_machine(town: Town) -> None:
    result = town.run(
        "expect-user: {user: anna, accounts: 1, called: Anna Example, email: anna@example.test}",
        "expect-peer: {peer: laptop, owner: anna, address: kept}",
    )
    assert result.outcome is Outcome.PASSED, result.steps


@pytest.mark.parametrize(
    ("step", "ends"),
    [
        ("sign-in: {peer: laptop, person: otto}", (Outcome.FAILED, Layer.IDENTITY)),
        ("sign-in: {peer: laptop, person: otto, refused: true}", (Outcome.PASSED, None)),
        ("sign-in: {peer: laptop, person: anna, provider: company, refused: true}", (Outcome.FAILED, Layer.IDENTITY)),
        ("expect-user: {user: otto, accounts: 1}", (Outcome.FAILED, Layer.IDENTITY)),
        ("expect-user: {user: otto, accounts: 0}", (Outcome.PASSED, None)),
        ("expect-user: {user: anna, called: Anna Other}", (Outcome.FAILED, Layer.IDENTITY)),
        ("expect-user: {user: bob}", (Outcome.PASSED, None)),
        ("expect-peer: {peer: laptop, owner: bob}", (Outcome.FAILED, Layer.CONTROL_PLANE)),
        ("remove-user: {user: anna}", (Outcome.ERROR, Layer.CONTROL_PLANE)),
        ("allow-provider-group: {group: staff, to: bob}", (Outcome.ERROR, Layer.CONTROL_PLANE)),
    ],
)
def test_what_passes_and_what_does_not(town: Town, step: str, ends: tuple[Outcome, Layer | None]) -> None:
    assert last(town.run(step)) == ends


def test_an_attempt_that_is_refused_is_answered_and_one_that_could_not_be_made_is_an_error(town: Town) -> None:
    result = town.run("observe: {question: goes, attempt: {remove-user: {user: anna}}}")
    observation = result.steps[-1].observation
    assert observation is not None
    assert (observation.question, observation.answer) == ("goes", False)
    assert "user not empty" in " ".join(result.steps[-1].evidence)

    away = Town()
    away.plane.providers = ("company", "elsewhere")
    done = away.run("observe: {question: goes, attempt: {sign-in: {peer: laptop, person: otto}}}")
    assert done.steps[-1].observation is not None
    assert done.steps[-1].observation.answer is True
    away.plane.api_away = True
    assert last(away.run())[0] is Outcome.ERROR


def test_who_a_person_is_after_another_provider(town: Town) -> None:
    result = town.run(
        "switch-provider: {provider: partner}",
        "expect-peer: {peer: laptop, owner: anna}",
        "sign-in: {peer: laptop, person: anna, provider: partner}",
        "expect-user: {user: anna, accounts: 2}",
        "expect-peer: {peer: laptop, owner: anna}",
        "remove-former-self: {person: anna}",
        "expect-user: {user: anna, accounts: 1}",
    )
    assert result.outcome is Outcome.PASSED, [step for step in result.steps if step.diagnosis]
    assert set(town.plane.people) == {"anna at partner"}


def test_a_machine_that_stays_with_the_former_self(town: Town) -> None:
    original = town.plane.sign_in

    def as_before(*arguments: object) -> None:
        """The new user is made, and the machine stays with the old one."""
        kept = town.plane.peers.get("laptop")
        original(*arguments)  # type: ignore[arg-type]
        if kept is not None:
            town.plane.peers["laptop"] = kept

    town.plane.sign_in = as_before  # type: ignore[method-assign]
    result = town.run(
        "switch-provider: {provider: partner}",
        "sign-in: {peer: laptop, person: anna, provider: partner}",
        "expect-peer: {peer: laptop, owner: anna}",
    )
    assert last(result) == (Outcome.FAILED, Layer.CONTROL_PLANE)
    assert "owned by somebody else" in (result.steps[-1].diagnosis.seen if result.steps[-1].diagnosis else "")


def test_whoever_waits_is_let_in_by_an_administrator(town: Town) -> None:
    town.plane.pending = {"anna"}
    text = HEAD + "".join(
        f"  - {step}\n"
        for step in (
            "sign-in: {peer: laptop, person: anna, provider: company, refused: true}",
            "expect-user: {user: anna, pending: true}",
            "approve-user: {person: anna}",
            "expect-user: {user: anna, pending: false}",
            "sign-in: {peer: laptop, person: anna, provider: company}",
        )
    )
    result = run(Scenario("t", read_text(text, "t").spec), town.lab, lambda _: None)
    assert result.outcome is Outcome.PASSED, [step for step in result.steps if step.diagnosis]


def test_what_a_plane_cannot_do_is_said(town: Town) -> None:
    assert last(town.run("add-local-user: {person: otto}"))[0] is Outcome.ERROR
