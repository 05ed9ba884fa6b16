"""Somebody signs in at a machine: the client's own command, the URL among what it prints, and the pages behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from labs.controlplanes import Context, Machine
from labs.controlplanes.base import interactive
from labs.controlplanes.headscale.driver import Headscale
from labs.controlplanes.identity import Login, LoginRefused
from labs.controlplanes.netbird.driver import NetBird
from labs.engine import ExecResult
from labs.engine.fake import FakeEngine
from labs.errors import ControlPlaneProblem, Interrupted, LabsError, NotReady, Refused
from labs.model import Container, Peer, Person
from tests.unit.test_identity_drivers import ANNA, HEADSCALE, NETBIRD, WITH_PROVIDER, Server, context

TAILSCALE = (
    "Warning: see https://tailscale.com/s/ethtool\nTo authenticate, visit:\n\n\thttp://10.1.0.2:8080/register/key-1\n"
)


@dataclass
class Client:
    """A client's log as it grows with each look at it."""

    logs: list[str]
    ran: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, _: Container, argv: tuple[str, ...]) -> ExecResult:
        self.ran.append(argv)
        if argv[0] != "cat":
            return ExecResult(0, "", "")
        return ExecResult(0, self.logs.pop(0) if len(self.logs) > 1 else self.logs[0], "")


class Desk:
    """Somebody at a machine: what the client logs, and what the operator's journal says afterwards."""

    def __init__(self, *logs: str) -> None:
        self.client = Client(list(logs))
        engine = FakeEngine(self.client)
        engine.add_image("x:1")
        self.machine = Machine("laptop", engine.create(Container("laptop", "x:1"), "laptop", {}, {}), {})
        engine.start(self.machine.container_id)
        self.context = context(Server(), NETBIRD, engine)
        self.visited: list[str] = []

    def sign_in(self, visit: Callable[[str], object] = lambda _: None) -> None:
        def seen(url: str) -> None:
            self.visited.append(url)
            visit(url)

        interactive(self.context, self.machine, ["tailscale", "up", "--hostname=laptop"], seen, 5)

    @property
    def journal(self) -> list[str]:
        return [entry.action for entry in self.context.journal.entries]

    @property
    def killed(self) -> bool:
        return "kill" in " ".join(self.client.ran[-1])


def test_the_url_of_the_sign_in_is_visited_and_the_command_is_the_operators() -> None:
    desk = Desk("", TAILSCALE, f"{TAILSCALE}Success.\nended with 0\n")
    desk.sign_in()
    assert desk.visited == ["http://10.1.0.2:8080/register/key-1"]
    assert desk.journal == ["tailscale up --hostname=laptop"]
    assert desk.client.ran[0][-3:] == ("tailscale", "up", "--hostname=laptop")
    assert not desk.killed


NETBIRD_UP = """Please do the SSO login in your browser. See https://docs.netbird.io/how-to for help.
If your browser did not open automatically, use this URL to log in:

https://netbird.test/oauth2/device?user_code=AB-CD&prompt=login
"""


def test_netbirds_device_page_is_told_from_its_documentation() -> None:
    desk = Desk(NETBIRD_UP, f"{NETBIRD_UP}Connected\nended with 0\n")
    desk.sign_in()
    assert desk.visited == ["https://netbird.test/oauth2/device?user_code=AB-CD&prompt=login"]


@pytest.mark.parametrize("text", ["Success.\nended with 0\n", "see https://tailscale.com/s/key\nended with 0\n"])
def test_a_client_that_asks_for_nobody_sends_nobody_anywhere(text: str) -> None:
    desk = Desk(text)
    desk.sign_in()
    assert (desk.visited, desk.journal) == ([], ["tailscale up --hostname=laptop"])


@pytest.mark.parametrize(
    ("logs", "words"),
    [
        ([TAILSCALE, f"{TAILSCALE}user pending approval\nended with 1\n"], "user pending approval"),
        (["backend error: bad --login-server\nended with 1\n"], "bad --login-server"),
    ],
    ids=["after the sign-in", "before anybody was asked"],
)
def test_a_client_that_ends_with_an_error_was_refused(logs: list[str], words: str) -> None:
    desk = Desk(*logs)
    with pytest.raises(Refused, match="`tailscale up` ended with exit code 1") as refused:
        desk.sign_in()
    assert words in refused.value.why
    assert "ended with" not in refused.value.why
    assert desk.journal == []


@pytest.mark.parametrize(
    ("log", "what"),
    [("connecting", "A URL from `tailscale up`"), (TAILSCALE, "The end of `tailscale up`")],
    ids=["no URL", "no end"],
)
def test_a_client_that_goes_on_for_ever_is_ended(log: str, what: str) -> None:
    desk = Desk(log)
    with pytest.raises(NotReady, match=what) as problem:
        desk.sign_in()
    assert desk.killed
    assert (problem.value.where, desk.journal) == ("laptop", [])
    assert log.strip().splitlines()[-1].strip() in problem.value.why


@pytest.mark.parametrize(
    "problem", [LoginRefused("turned away"), ControlPlaneProblem("a page did not come"), Interrupted("stopped")]
)
def test_whatever_ends_a_visit_leaves_no_command_waiting(problem: LabsError) -> None:
    desk = Desk(TAILSCALE)

    def ended(_: str) -> None:
        raise problem

    with pytest.raises(type(problem)) as raised:
        desk.sign_in(ended)
    assert raised.value is problem
    assert desk.killed
    assert desk.journal == []


LOGIN = '<form method="post" action="/login"><input name="{name}"><input type="password" name="password"></form>'
CHOICE = '<a href="/local">Continue with Email</a> <a href="/at/company">Continue with company</a>'
DEVICE = "use this URL to log in:\nhttp://management/oauth2/device?user_code=AB-CD\n"


@dataclass
class NetBirdClient:
    """The client's own commands: whether it is registered, and a log that has its URL and then its end."""

    status: str
    ran: list[str] = field(default_factory=list)
    looks: int = 0

    def __call__(self, _: Container, argv: tuple[str, ...]) -> ExecResult:
        self.ran.append(" ".join(argv))
        if argv[:2] == ("netbird", "status"):
            return ExecResult(0, json.dumps({"daemonStatus": self.status}), "")
        if argv[0] != "cat":
            return ExecResult(0, "", "")
        self.looks += 1
        return ExecResult(0, DEVICE if self.looks == 1 else f"{DEVICE}Connected\nended with 0\n", "")


def at_netbird(status: str) -> tuple[NetBird, Machine, NetBirdClient, Server, Context]:
    client = NetBirdClient(status)
    engine = FakeEngine(client)
    engine.add_image("x:1")
    machine = Machine("laptop", engine.create(Container("laptop", "x:1"), "laptop", {}, {}), {})
    engine.start(machine.container_id)
    server = Server(
        {
            "GET /oauth2/device": httpx.Response(200, text=CHOICE),
            "GET /at/company": httpx.Response(200, text=LOGIN.format(name="username")),
            "GET /local": httpx.Response(200, text=LOGIN.format(name="login")),
            "POST /login": httpx.Response(200, text="<p>You can close this</p>"),
            "GET /api/peers": [{"id": "p-1", "name": "laptop"}],
            "POST /api/users": {"id": "u-1", "password": "shown once"},
            "POST /api/users/invites": {"invite_token": "nbi_1"},
        }
    )
    made = context(server, WITH_PROVIDER, engine)
    return NetBird(made), machine, client, server, made


def typed(server: Server) -> dict[str, list[str]]:
    return parse_qs(server.body("POST /login"))


def test_a_person_of_a_provider_chooses_it_and_signs_in_by_name() -> None:
    plane, machine, client, server, made = at_netbird("NeedsLogin")
    plane.sign_in(Peer("laptop", ""), machine, ANNA, "company", 5)
    assert typed(server) == {"username": ["anna"], "password": ["secret"]}
    assert "GET /at/company" in [what for what, _ in server.asked]
    (up,) = [entry.action for entry in made.journal.entries]
    assert up == "timeout 5 netbird up --no-browser --management-url=http://management --hostname=laptop"
    assert not any(ran.startswith("netbird down") for ran in client.ran)
    assert "secret" not in " ".join(client.ran)


@pytest.mark.parametrize(
    ("make", "password"),
    [(NetBird.add_local_user, "shown once"), (NetBird.invite_user, "lena's own")],
    ids=["added", "invited"],
)
def test_a_user_of_netbirds_own_signs_in_by_address(make: Callable[[NetBird, Person], None], password: str) -> None:
    plane, machine, _, server, made = at_netbird("NeedsLogin")
    made.secrets["person lena"] = "lena's own"  # type: ignore[index]
    lena = Person("lena", "Lena Example", "lena@corp.test")
    make(plane, lena)
    plane.sign_in(Peer("laptop", ""), machine, lena, "", 5)
    assert typed(server) == {"login": ["lena@corp.test"], "password": [password]}


@pytest.mark.parametrize("status", ["Connected", "Connecting"])
def test_a_registration_ends_at_the_server_before_somebody_else_signs_in(status: str) -> None:
    plane, machine, _, server, made = at_netbird(status)
    plane.sign_in(Peer("laptop", ""), machine, ANNA, "company", 5)
    assert server.changes[0] == "DELETE /api/peers/p-1"
    assert [entry.action for entry in made.journal.entries][:2] == ["DELETE /api/peers/p-1", "netbird down"]


@pytest.mark.parametrize(
    ("preferences", "kept"),
    [
        ({"RouteAll": False, "AdvertiseRoutes": None}, []),
        (
            {"RouteAll": True, "AdvertiseRoutes": ["10.9.0.0/24", "10.8.0.0/24", "fd00::/64"]},
            ["--accept-routes", "--advertise-routes=10.8.0.0/24,10.9.0.0/24"],
        ),
    ],
    ids=["a new machine", "a router"],
)
def test_headscales_client_repeats_its_settings_and_asks_anew(preferences: dict[str, Any], kept: list[str]) -> None:
    def client(_: Container, argv: tuple[str, ...]) -> ExecResult:
        if argv[:2] == ("tailscale", "debug"):
            return ExecResult(0, json.dumps(preferences), "")
        return ExecResult(0, f"{TAILSCALE}ended with 0\n" if argv[0] == "cat" else "", "")

    engine = FakeEngine(client)
    engine.add_image("x:1")
    machine = Machine("laptop", engine.create(Container("laptop", "x:1"), "laptop", {}, {}), {})
    engine.start(machine.container_id)
    server = Server(
        {
            "GET /register/key-1": httpx.Response(302, headers={"location": "http://keycloak:8080/auth"}),
            "GET /auth": httpx.Response(200, text=LOGIN.format(name="username")),
            "POST /login": httpx.Response(200, text="<p>Signed in</p>"),
        }
    )
    made = context(server, HEADSCALE, engine)
    Headscale(made).sign_in(Peer("laptop", ""), machine, ANNA, "company", 5)
    assert typed(server)["username"] == ["anna"]
    (up,) = [entry.action for entry in made.journal.entries]
    assert up.split(" ") == [
        "tailscale",
        "up",
        "--login-server=http://10.1.0.2:8080",
        "--hostname=laptop",
        "--timeout=5s",
        "--force-reauth",
        *kept,
    ]


def test_headscale_without_a_provider_asks_nobody_and_signs_nobody_in() -> None:
    """Its page tells what an administrator has to type."""
    desk = Desk(TAILSCALE)
    server = Server({"GET /register/key-1": httpx.Response(200, text="<code>headscale auth register</code>")})
    browser = context(server, HEADSCALE).browser()
    with pytest.raises(LoginRefused, match="was not asked to sign in") as refused:
        desk.sign_in(lambda url: browser.sign_in(url, Login("anna", "")))
    assert refused.value.why == "headscale auth register"
    assert desk.journal == []


def test_a_daemon_that_is_dead_refuses_nobody() -> None:
    engine = FakeEngine(lambda *_: ExecResult(1, "", "failed to connect to local tailscaled"))
    engine.add_image("x:1")
    machine = Machine("laptop", engine.create(Container("laptop", "x:1"), "laptop", {}, {}), {})
    engine.start(machine.container_id)
    with pytest.raises(ControlPlaneProblem, match="`tailscale debug` ended") as problem:
        Headscale(context(Server(), HEADSCALE, engine)).sign_in(Peer("laptop", ""), machine, ANNA, "company", 5)
    assert not isinstance(problem.value, Refused)
