"""What each product's driver does about people: calls to its API, its configuration, and its client's own sign-in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import httpx
import pytest

from labs.controlplanes import Context, ListedUser, Machine, Rule, SignInFilter
from labs.controlplanes.base import interactive
from labs.controlplanes.headscale import identity as headscale
from labs.controlplanes.headscale import policy
from labs.controlplanes.headscale.driver import Headscale
from labs.controlplanes.netbird.driver import NetBird
from labs.engine import ExecResult
from labs.engine.fake import FakeEngine
from labs.errors import ControlPlaneProblem, NotReady, Refused
from labs.journal import Journal
from labs.model import Access, Container, Person, Settings
from labs.timing import FakeClock
from tests.fake_control_plane import runs_everything

ANNA = Person("anna", "Anna Example", "anna@corp.test", ("company",))
ADDRESS = IPv4Address("10.1.0.2")
NETBIRD = Access("management", 80, "http://management", {"control-plane": "management"})
WITH_PROVIDER = Access(
    "management", 80, "http://management", {}, {"management": "management"}, "keycloak", "http://keycloak:8080"
)


@dataclass
class Server:
    """Answers by method and path, in turn where there are several, and keeps what it was asked."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        what = f"{request.method} {request.url.path}"
        body = request.content.decode()
        self.asked.append((what, json.loads(body) if body.startswith(("{", "[")) else body))
        found = self.answers.get(what, {})
        if isinstance(found, list) and found and isinstance(found[0], httpx.Response):
            found = found.pop(0)
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)

    @property
    def changes(self) -> list[str]:
        return [what for what, _ in self.asked if not what.startswith("GET")]

    def body(self, what: str) -> Any:
        return next(body for asked, body in self.asked if asked == what)


def context(server: Server, access: Access, engine: FakeEngine | None = None) -> Context:
    clock = FakeClock()
    names = ("management", "keycloak", "headscale")
    services = {name: Machine(name, name, {"control": ADDRESS}) for name in names}
    return Context(
        engine or FakeEngine(runs_everything),
        clock,
        Journal(clock.now),
        services,
        "control",
        access,
        {"KEYCLOAK_ADMIN_PASSWORD": "k", "person anna": "secret"},
        httpx.MockTransport(server),
    )


def user(name: str, **others: Any) -> dict[str, Any]:
    known = {
        "id": name,
        "name": name,
        "email": f"{name}@corp.test",
        "role": "user",
        "auto_groups": [],
        "is_blocked": False,
    }
    return {**known, "pending_approval": False, **others}


def test_netbird_without_a_provider_is_set_up_in_one_call() -> None:
    server = Server({"POST /api/setup": {"personal_access_token": "nbp_1"}})
    credentials = NetBird(context(server, NETBIRD)).bootstrap()
    assert credentials["access-token"] == "nbp_1"
    assert server.changes == ["POST /api/setup"]


def test_netbird_that_returns_no_token_says_what_it_needs() -> None:
    with pytest.raises(ControlPlaneProblem, match="no access token") as problem:
        NetBird(context(Server({"POST /api/setup": {}}), NETBIRD)).bootstrap()
    assert "NB_SETUP_PAT_ENABLED" in problem.value.hint


def test_netbird_with_a_provider_is_made_by_a_sign_in_and_knows_the_provider() -> None:
    login = '<form method="post" action="/oauth2/auth/local/login"><input name="login"><input name="password"></form>'
    server = Server(
        {
            "GET /oauth2/auth/local": httpx.Response(200, text=login),
            "POST /oauth2/auth/local/login": httpx.Response(
                303, headers={"location": "http://localhost:53000/?code=c"}
            ),
            "POST /oauth2/token": {"access_token": "jwt"},
            "GET /api/users/current": {"id": "o-1"},
            "POST /api/users/o-1/tokens": {"plain_token": "nbp_2"},
            "POST /realms/master/protocol/openid-connect/token": {"access_token": "t"},
            "GET /admin/realms/company/clients": [{"clientId": "mesh", "secret": "cs"}],
        }
    )
    credentials = NetBird(context(server, WITH_PROVIDER)).bootstrap()
    assert credentials["access-token"] == "nbp_2"
    assert "create_pat" not in server.body("POST /api/setup"), "the sign-in makes the account, so that it has a domain"
    assert server.body("POST /api/identity-providers") == {
        "type": "oidc",
        "name": "company",
        "issuer": "http://keycloak:8080/realms/company",
        "client_id": "mesh",
        "client_secret": "cs",
    }


def test_a_persons_group_reaches_all_of_the_persons_users() -> None:
    server = Server(
        {
            "GET /api/users": [
                user("old", email="anna@corp.test", auto_groups=["g-1"]),
                user("new", email="anna@corp.test"),
            ],
            "GET /api/groups": [{"id": "g-1", "name": "anna@corp.test"}, {"id": "g-2", "name": "bob"}],
            "POST /api/policies": {"id": "p"},
        }
    )
    plane = NetBird(context(server, WITH_PROVIDER))
    plane.allow(Rule("anna@corp.test", "bob"))
    assert server.changes == ["PUT /api/users/new", "POST /api/policies"]
    assert server.body("PUT /api/users/new")["auto_groups"] == ["g-1"]
    with pytest.raises(ControlPlaneProblem, match="no user with that e-mail"):
        plane.allow(Rule("otto@corp.test", "bob"))


def test_whoever_waits_is_approved_and_nobody_else() -> None:
    server = Server({"GET /api/users": [user("bob"), user("anna", pending_approval=True)]})
    plane = NetBird(context(server, WITH_PROVIDER))
    plane.approve_user(ANNA)
    assert server.changes == ["POST /api/users/anna/approve"]
    with pytest.raises(ControlPlaneProblem, match="waits for approval"):
        plane.approve_user(Person("bob", "Bob", "bob@corp.test"))


def test_an_invitation_is_accepted_by_the_person_not_by_the_operator() -> None:
    server = Server({"POST /api/users/invites": {"invite_token": "nbi_1"}})
    made = context(server, NETBIRD)
    NetBird(made).invite_user(ANNA)
    assert server.changes == ["POST /api/users/invites", "POST /api/users/invites/nbi_1/accept"]
    assert [entry.action for entry in made.journal.entries] == ["POST /api/users/invites"]


def test_a_switch_adds_the_new_provider_before_the_old_one_goes() -> None:
    server = Server(
        {
            "POST /realms/master/protocol/openid-connect/token": {"access_token": "t"},
            "GET /admin/realms/company/clients": [{"clientId": "mesh", "secret": "cs"}],
            "GET /api/identity-providers": [{"id": "i-1", "name": "company"}],
        }
    )
    NetBird(context(server, WITH_PROVIDER)).switch_provider("partner")
    assert [change for change in server.changes if "identity" in change] == [
        "POST /api/identity-providers",
        "DELETE /api/identity-providers/i-1",
    ]


def test_a_group_that_netbird_has_not_met_is_refused() -> None:
    server = Server({"GET /api/accounts": [{"id": "a", "settings": {"extra": {"user_approval_required": True}}}]})
    server.answers["GET /api/groups"] = []
    with pytest.raises(Refused, match="no such group"):
        NetBird(context(server, WITH_PROVIDER)).allow_provider_group("staff", "bob")
    settings = server.body("PUT /api/accounts/a")["settings"]
    assert settings["jwt_groups_enabled"] is True
    assert settings["extra"] == {"user_approval_required": True}, "PUT replaces everything"


def test_users_approval_is_a_setting_among_others() -> None:
    known = {"lazy_connection_enabled": True, "extra": {"peer_approval_enabled": False, "user_approval_required": True}}
    server = Server({"GET /api/accounts": [{"id": "a", "settings": known}]})
    NetBird(context(server, NETBIRD)).configure(Settings(user_approval=False))
    assert server.body("PUT /api/accounts/a")["settings"] == {
        "lazy_connection_enabled": True,
        "extra": {"peer_approval_enabled": False, "user_approval_required": False},
    }


def test_headscale_deletes_a_users_nodes_before_the_user() -> None:
    nodes = [
        {"id": "1", "givenName": "laptop", "user": {"id": "7"}},
        {"id": "2", "givenName": "other", "user": {"id": "8"}},
    ]
    server = Server({"GET /api/v1/node": {"nodes": nodes}})
    access = Access("headscale", 8080, "http://{headscale}:8080", {})
    Headscale(context(server, access)).remove_user_with_peers(ListedUser("7", "anna", "", ""))
    assert server.changes == ["DELETE /api/v1/node/1", "DELETE /api/v1/user/7"]


def test_where_headscales_clients_join() -> None:
    assert context(Server(), Access("headscale", 8080, "http://{headscale}:8080", {})).joins == "http://10.1.0.2:8080"


def test_headscales_configuration() -> None:
    document: dict[str, Any] = {"oidc": {"issuer": "http://idp/a", "client_id": "mesh"}}
    headscale.filtering(document, SignInFilter(("corp.test",), ("anna@corp.test",), ("staff",), verified=False))
    assert document["oidc"]["allowed_domains"] == ["corp.test"]
    assert document["oidc"]["allowed_users"] == ["anna@corp.test"]
    assert document["oidc"]["email_verified_required"] is False
    headscale.with_second(document, "http://idp/b")
    assert [section["issuer"] for section in document["oidc"]] == ["http://idp/a", "http://idp/b"]
    headscale.switched(document, "http://idp/c")
    assert (document["oidc"]["issuer"], document["oidc"]["client_id"]) == ("http://idp/c", "mesh")


def test_headscales_settings_as_environment() -> None:
    assert headscale.settings_environment(Settings(pkce=False, expiry_from_token=True)) == {
        "HEADSCALE_OIDC_PKCE_ENABLED": "false",
        "HEADSCALE_OIDC_USE_EXPIRY_FROM_TOKEN": "true",
    }
    assert headscale.settings_environment(Settings()) == {}


def test_people_are_named_by_address_in_headscales_policy() -> None:
    (grant,) = policy.allowing({}, Rule("anna@corp.test", "bob"))["grants"]
    assert (grant["src"], grant["dst"]) == (["anna@corp.test"], ["bob@"])
    (grant,) = policy.allowing_group({}, "staff", "bob")["grants"]
    assert grant["src"] == ["group:staff"]


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


def signed_in(client: Client, visit: Callable[[str], object]) -> Context:
    engine = FakeEngine(client)
    engine.add_image("x:1")
    container = engine.create(Container("laptop", "x:1"), "laptop", {}, {})
    engine.start(container)
    made = context(Server(), NETBIRD, engine)
    interactive(made, Machine("laptop", container, {}), ["tailscale", "up"], visit, 5)
    return made


def test_the_url_of_the_sign_in_is_visited_and_the_command_is_the_operators() -> None:
    visited: list[str] = []
    made = signed_in(Client(["", TAILSCALE, f"{TAILSCALE}Success.\nended with 0\n"]), visited.append)
    assert visited == ["http://10.1.0.2:8080/register/key-1"]
    assert [entry.action for entry in made.journal.entries] == ["tailscale up"]


def test_a_client_that_ends_with_an_error_was_refused() -> None:
    with pytest.raises(Refused, match="exit code 1") as refused:
        signed_in(Client([TAILSCALE, f"{TAILSCALE}user pending approval\nended with 1\n"]), lambda _: None)
    assert "user pending approval" in refused.value.why


def test_a_client_that_never_shows_a_url_is_ended() -> None:
    client = Client(["connecting"])
    with pytest.raises(NotReady, match="A URL from `tailscale up`"):
        signed_in(client, lambda _: None)
    assert "kill" in " ".join(client.ran[-1])


def test_whoever_is_turned_away_leaves_no_command_waiting() -> None:
    client = Client([TAILSCALE])

    def turned_away(_: str) -> None:
        raise Refused("turned away")

    with pytest.raises(Refused, match="turned away"):
        signed_in(client, turned_away)
    assert "kill" in " ".join(client.ran[-1])
