"""People in scenarios, on a control plane in memory: who they are, what they own, and what refuses them."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import httpx
import pytest

from labs.controlplanes import Context, ListedPeer, ListedUser, Rule
from labs.engine import State
from labs.engine.fake import FakeEngine
from labs.errors import ControlPlaneProblem
from labs.journal import Journal
from labs.lab import Lab, Member
from labs.lab.lab import Machine
from labs.model import Container, Network, Product, Role
from labs.results import Layer, Outcome, ScenarioResult, StepResult
from labs.scenario import Scenario, run
from labs.scenario.loader import read_text
from labs.timing import FakeClock
from tests.fake_control_plane import Answering, FakeControlPlane, runs_everything
from tests.unit.test_scenario_runner import UNDERLAY

HEAD = """
title: t
people: {anna: {at: [company, partner]}, otto: {at: [elsewhere]}, lena: {}}
peers: {laptop: {}, server: {user: bob}, tablet: {user: bob, joins: later}}
steps:
"""


ACCESS_LOG = "GET /realms/company/protocol/openid-connect/auth?client_id=mesh{more} HTTP/1.1 200"


class LoggingEngine(FakeEngine):
    """Every container has printed `printed`."""

    printed = ""

    def logs(self, container_id: str, tail: int | None = None) -> str:
        return self.printed


class Keycloak:
    """The provider's administration: one person, and what it was told about that one."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json={"access_token": "t"})
        if request.method == "PUT":
            self.told.append((request.url.path.removeprefix("/admin/realms"), json.loads(request.content)))
        return httpx.Response(200, json=[{"id": "u-1", "username": "anna"}])


class TownLab(Lab):
    """A lab whose provider is `keycloak`, asked without a network."""

    keycloak: Keycloak | None = None

    @property
    def context(self) -> Context:
        found = super().context
        reach = Answering(self.keycloak) if self.keycloak else found.reach
        return replace(found, secrets={"KEYCLOAK_ADMIN_PASSWORD": "k"}, reach=reach)


class Town:
    """A lab with one machine for people, one of bob's that joined by key, and a provider's service."""

    def __init__(self, *services: str) -> None:
        clock = FakeClock()
        engine = self.engine = LoggingEngine(runs_everything)
        engine.add_image("x:1")
        network = engine.create_network(Network("control", UNDERLAY), "control", {}).id
        members = {}
        for name in ("laptop", "server", "tablet", *services):
            spec = Container(name, "x:1")
            container = engine.create(spec, name, {"control": network}, {})
            engine.start(container)
            machine = Machine(name, container, {"control": UNDERLAY[len(members) + 5]})
            role = Role.SERVICE if name in services else Role.PEER
            members[name] = Member(machine, role, State.RUNNING, "x:1", user="bob")
        journal = Journal(clock.now)
        self.plane = FakeControlPlane(Context(engine, clock, journal, {}))
        self.plane.made_users = ["bob"]
        self.lab = TownLab(
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
        """The steps, once anna has signed in."""
        return self.run_only("sign-in: {peer: laptop, person: anna, provider: company}", *steps)

    def run_only(self, *steps: str) -> ScenarioResult:
        text = HEAD + "".join(f"  - {step}\n" for step in steps)
        return run(Scenario("t", read_text(text, "t").spec), self.lab, lambda _: None)


@pytest.fixture
def town() -> Town:
    return Town()


def last_step(result: ScenarioResult) -> StepResult:
    return [step for step in result.steps if step.outcome is not Outcome.NOT_RUN][-1]


def last(result: ScenarioResult) -> tuple[Outcome, Layer | None]:
    step = last_step(result)
    return step.outcome, step.diagnosis.layer if step.diagnosis else None


def seen(result: ScenarioResult) -> str:
    diagnosis = last_step(result).diagnosis
    return diagnosis.seen if diagnosis else ""


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


def test_an_attempt_that_succeeds_is_answered_too_and_was_made(town: Town) -> None:
    town.plane.providers = ("company", "elsewhere")
    result = town.run(
        "observe: {question: goes, attempt: {sign-in: {peer: laptop, person: otto}}}",
        "expect-peer: {peer: laptop, owner: otto}",
    )
    assert result.outcome is Outcome.PASSED
    assert [step.observation.answer for step in result.steps if step.observation] == [True]


@pytest.mark.parametrize(
    "step",
    [
        "sign-in: {peer: laptop, person: anna, provider: company}",
        "sign-in: {peer: laptop, person: anna, provider: company, refused: true}",
        "observe: {question: goes, attempt: {sign-in: {peer: laptop, person: anna, provider: company}}}",
    ],
    ids=["asked for", "to be refused", "attempted"],
)
def test_a_sign_in_that_could_not_be_tried_is_an_error_whatever_was_expected(town: Town, step: str) -> None:
    town.plane.api_away = True
    result = town.run_only(step)
    assert last(result) == (Outcome.ERROR, Layer.CONTROL_PLANE)
    assert last_step(result).observation is None


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
    assert "owned by somebody else" in seen(result)


def test_a_machine_at_another_address(town: Town) -> None:
    def moved() -> tuple[ListedPeer, ...]:
        return tuple(replace(peer, address=IPv4Address("100.64.9.9")) for peer in town.plane.peers.values())

    assert last(town.run("expect-peer: {peer: laptop, address: kept}"))[0] is Outcome.PASSED
    town.plane.listed = moved  # type: ignore[method-assign]
    result = town.run("expect-peer: {peer: laptop, owner: anna, address: kept}")
    assert last(result) == (Outcome.FAILED, Layer.CONTROL_PLANE)
    assert seen(result) == "laptop is listed, owned by anna, at another address"


def test_whoever_is_asked_about_is_found_among_several_owners_of_one_machine(town: Town) -> None:
    """A product may list a machine once for each of its owners."""
    town.plane.peers["as bob's"] = ListedPeer("9", "laptop", IPv4Address("100.64.0.9"), online=True, owner="bob")
    result = town.run("expect-peer: {peer: laptop, owner: anna}", "expect-peer: {peer: laptop, owner: bob}")
    assert result.outcome is Outcome.PASSED, seen(result)


def test_a_second_sign_in_of_the_same_user_leaves_a_person_as_it_was(town: Town) -> None:
    result = town.run(
        "sign-in: {peer: laptop, person: anna, provider: company}",
        "expect-user: {user: anna, accounts: 1}",
        "remove-former-self: {person: anna}",
        "expect-user: {user: anna, accounts: 1}",
        "expect-peer: {peer: laptop, owner: anna}",
    )
    assert result.outcome is Outcome.PASSED, seen(result)
    assert "0 users of anna's from before, and their peers, are gone" in result.steps[3].evidence


def test_a_former_self_goes_with_its_machines_and_nobody_elses(town: Town) -> None:
    for number, (name, owner) in enumerate((("left", "anna at company"), ("server", "bob")), 8):
        town.plane.peers[name] = ListedPeer(str(number), name, IPv4Address("100.64.0.1") + number, True, owner=owner)
    result = town.run(
        "switch-provider: {provider: partner}",
        "sign-in: {peer: laptop, person: anna, provider: partner}",
        "sign-in: {peer: laptop, person: anna, provider: partner}",
        "remove-former-self: {person: anna}",
    )
    assert result.outcome is Outcome.PASSED, seen(result)
    assert set(town.plane.people) == {"anna at partner"}
    assert set(town.plane.peers) == {"laptop", "server"}


def test_whoever_waits_is_let_in_by_an_administrator(town: Town) -> None:
    town.plane.pending = {"anna"}
    result = town.run_only(
        "sign-in: {peer: laptop, person: anna, provider: company, refused: true}",
        "expect-user: {user: anna, pending: true}",
        "approve-user: {person: anna}",
        "expect-user: {user: anna, pending: false}",
        "sign-in: {peer: laptop, person: anna, provider: company}",
    )
    assert result.outcome is Outcome.PASSED, seen(result)


@pytest.mark.parametrize("step", ["add-local-user: {person: lena}", "invite-user: {person: lena}"])
def test_the_products_own_users_sign_in_without_a_provider(town: Town, step: str) -> None:
    result = town.run_only(
        "sign-in: {peer: laptop, person: lena, refused: true}",
        step,
        "sign-in: {peer: laptop, person: lena}",
        "expect-peer: {peer: laptop, owner: lena}",
    )
    assert result.outcome is Outcome.PASSED, seen(result)
    assert result.burden == {"user": 1}
    assert set(town.plane.people) == {"lena at home"}


def test_rules_name_people_by_address_and_users_by_name(town: Town) -> None:
    assert town.run("allow: {from: anna, to: bob}").outcome is Outcome.PASSED
    assert town.plane.rules == [Rule("anna@example.test", "bob")]


def test_what_the_provider_says_of_a_person_changes_at_each_of_the_persons_providers() -> None:
    town = Town("keycloak")
    keycloak = Keycloak()
    town.lab.__dict__["keycloak"] = keycloak
    result = town.run(
        "change-person: {person: anna, email: anna@married.test}", "change-person: {person: anna, verified: false}"
    )
    assert result.outcome is Outcome.PASSED, seen(result)
    assert [where for where, _ in keycloak.told] == ["/company/users/u-1", "/partner/users/u-1"] * 2
    first, after = keycloak.told[0][1], keycloak.told[-1][1]
    assert (first["email"], first["emailVerified"], first["lastName"]) == ("anna@married.test", True, "Example")
    assert (after["email"], after["emailVerified"]) == ("anna@married.test", False), "one change does not undo another"
    assert result.journal == (), "it is no operator's action"


def test_without_a_provider_nobody_can_be_changed_there(town: Town) -> None:
    result = town.run("change-person: {person: anna, called: Anna Married}")
    assert last(result) == (Outcome.ERROR, Layer.CONTROL_PLANE)
    assert "does not run" in seen(result)


@pytest.mark.parametrize(
    ("methods", "step", "passes"),
    [
        (["&code_challenge_method=S256"], "{}", True),
        (["", "&code_challenge_method=S256"], "{}", True),
        (["&code_challenge_method=S256", ""], "{}", False),
        (["&code_challenge_method=S256", ""], "{method: none}", True),
        (["&code_challenge_method=plain"], "{method: plain}", True),
        ([], "{}", False),
        ([], "{method: none}", False),
    ],
)
def test_the_last_sign_in_of_the_providers_log_shows_the_challenge(
    methods: list[str], step: str, *, passes: bool
) -> None:
    town = Town("keycloak")
    town.engine.printed = "\n".join(["Listening", *(ACCESS_LOG.format(more=method) for method in methods)])
    expected = (Outcome.PASSED, None) if passes else (Outcome.FAILED, Layer.IDENTITY)
    assert last(town.run(f"expect-challenge: {step}")) == expected


def test_what_a_plane_cannot_do_is_said(town: Town) -> None:
    result = town.run("restrict-sign-in: {domains: [corp.test]}")
    assert last(result)[0] is Outcome.ERROR
    assert seen(result) == "headscale has no filters for who signs in"


def test_a_join_that_could_not_be_tried_is_an_error_whatever_was_expected(town: Town) -> None:
    def away(*_: object) -> None:
        raise ControlPlaneProblem("POST /api/setup-keys got no answer")

    town.plane.join = away  # type: ignore[method-assign]
    for step in ("join: {peer: tablet, refused: true}", "observe: {question: q, attempt: {join: {peer: tablet}}}"):
        result = town.run_only("sign-in: {peer: laptop, person: otto, refused: true}", step)
        assert last(result) == (Outcome.ERROR, Layer.CONTROL_PLANE)


def test_a_person_is_found_by_what_the_provider_says_now() -> None:
    town = Town("keycloak")
    town.lab.__dict__["keycloak"] = Keycloak()
    result = town.run(
        "change-person: {person: anna, email: anna@married.test}", "expect-user: {user: anna, accounts: 1}"
    )
    assert result.outcome is Outcome.PASSED
    town.plane.people = {
        key: replace(one, name="-", email="anna@married.test") for key, one in town.plane.people.items()
    }
    sign_in = "sign-in: {peer: laptop, person: anna, provider: company}"
    result = town.run_only(
        sign_in, "change-person: {person: anna, email: anna@married.test}", "expect-user: {user: anna, accounts: 1}"
    )
    assert result.outcome is Outcome.PASSED, seen(result)


def test_whose_a_peer_is_cannot_be_said_while_users_are_not_listed(town: Town) -> None:
    def away() -> tuple[ListedUser, ...]:
        raise ControlPlaneProblem("no answer")

    town.plane.users = away  # type: ignore[method-assign]
    town.plane.peers["server"] = ListedPeer("9", "server", IPv4Address("100.64.0.9"), online=True, owner="bob")
    text = "expect-peer: {peer: server, owner: bob, within: 1s}"
    refused = "sign-in: {peer: laptop, person: otto, refused: true}"
    assert last(town.run_only(refused, text)) == (Outcome.FAILED, Layer.CONTROL_PLANE)
