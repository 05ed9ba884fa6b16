"""What each product's driver does about people: calls to its API, its configuration, and its policy."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import yaml

from labs.controlplanes import Context, ListedUser, Machine, Rule, SignInFilter
from labs.controlplanes.headscale import identity as headscale
from labs.controlplanes.headscale import policy
from labs.controlplanes.headscale.driver import Headscale
from labs.controlplanes.identity import Login
from labs.controlplanes.identity.people import populate
from labs.controlplanes.netbird import identity as netbird
from labs.controlplanes.netbird.driver import NetBird
from labs.engine.fake import FakeEngine
from labs.errors import ControlPlaneProblem, Refused
from labs.journal import Journal, Kind, Scope
from labs.model import Access, Container, File, Inventory, Person, Provider, Settings
from labs.timing import FakeClock
from tests.fake_control_plane import Answering, runs_everything

ANNA = Person("anna", "Anna Example", "anna@corp.test", ("company",))
ADDRESS = IPv4Address("10.1.0.2")
HEADSCALE = Access("headscale", 8080, "http://{headscale}:8080", {"control-plane": "headscale"})
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
        Answering(server),
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


def test_where_all_people_are_the_providers_the_owner_comes_from_there() -> None:
    """Nobody sets the server up: whoever signs in first owns the account, and there is nothing to register."""
    access = replace(
        WITH_PROVIDER, joins="https://netbird.test", issuers="https://id.netbird.test", signs_in="provider"
    )
    names = {"netbird.test": "management", "id.netbird.test": "keycloak"}
    login = '<form method="post" action="/login"><input name="username"><input type="password" name="password"></form>'
    realm = "/realms/company/protocol/openid-connect"
    server = Server(
        {
            "POST /realms/master/protocol/openid-connect/token": {"access_token": "t"},
            f"GET {realm}/auth": httpx.Response(200, text=login),
            "POST /login": httpx.Response(303, headers={"location": "http://localhost:53000/?code=c"}),
            f"POST {realm}/token": {"access_token": "jwt"},
            "GET /api/users/current": {"id": "o-1"},
            "POST /api/users/o-1/tokens": {"plain_token": "nbp_3"},
        }
    )
    made = context(server, replace(access, names=names))
    credentials = NetBird(made).bootstrap()
    assert credentials["access-token"] == "nbp_3"
    owner = server.body("POST /admin/realms/company/users")
    assert (owner["username"], owner["email"]) == ("owner", credentials["owner-email"])
    assert parse_qs(server.body("POST /login"))["username"] == ["owner"]
    assert [change for change in server.changes if change.startswith("POST /api")] == ["POST /api/users/o-1/tokens"]
    assert [entry.action for entry in made.journal.entries] == ["POST /api/users/o-1/tokens"]


def test_a_code_is_good_only_for_whoever_asked_for_it() -> None:
    """The challenge of the request is the hash of the verifier that comes with the code (RFC 7636, section 4.6)."""
    login = '<form method="post" action="/login"><input name="login"><input name="password"></form>'
    asked: list[httpx.Request] = []
    server = Server(
        {
            "GET /oauth2/auth/local": httpx.Response(200, text=login),
            "POST /login": httpx.Response(303, headers={"location": "http://localhost:53000/?code=c"}),
            "POST /oauth2/token": {"access_token": "jwt"},
        }
    )

    def noted(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return server(request)

    made = replace(context(server, NETBIRD), reach=Answering(noted))
    assert netbird.access_token(made, netbird.own_door(made), Login("owner@lab.test", "secret")) == "jwt"
    request, exchange = parse_qs(asked[0].url.query.decode()), parse_qs(asked[-1].content.decode())
    digest = hashlib.sha256(exchange["code_verifier"][0].encode()).digest()
    assert request["code_challenge"] == [base64.urlsafe_b64encode(digest).decode().rstrip("=")]
    assert (request["client_id"], request["redirect_uri"]) == (exchange["client_id"], exchange["redirect_uri"])
    assert exchange["code"] == ["c"]


def test_a_sign_in_that_ends_without_a_code_says_where() -> None:
    login = '<form method="post" action="/login"><input name="login"><input name="password"></form>'
    server = Server(
        {
            "GET /oauth2/auth/local": httpx.Response(200, text=login),
            "POST /login": httpx.Response(200, text="<p>Welcome</p>"),
        }
    )
    made = context(server, NETBIRD)
    with pytest.raises(ControlPlaneProblem, match="ended without a code") as problem:
        netbird.access_token(made, netbird.own_door(made), Login("owner@lab.test", "secret"))
    assert (problem.value.where, problem.value.why) == ("http://management/login", "Welcome")


def test_a_persons_group_is_made_once_and_keeps_what_the_user_had() -> None:
    server = Server(
        {
            "GET /api/users": [user("anna", auto_groups=["g-0"], role="admin")],
            "GET /api/groups": [{"id": "g-2", "name": "bob"}],
            "POST /api/groups": {"id": "g-1", "name": "anna@corp.test"},
            "POST /api/policies": {"id": "p"},
        }
    )
    made = context(server, WITH_PROVIDER)
    NetBird(made).allow(Rule("anna@corp.test", "bob", (80,)))
    assert server.changes == ["POST /api/groups", "PUT /api/users/anna", "POST /api/policies"]
    assert server.body("PUT /api/users/anna") == {"role": "admin", "auto_groups": ["g-0", "g-1"], "is_blocked": False}
    (rule,) = server.body("POST /api/policies")["rules"]
    assert (rule["sources"], rule["destinations"], rule["ports"]) == (["g-1"], ["g-2"], ["80"])
    assert {entry.scope for entry in made.journal.entries} == {Scope.POLICY}


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


def test_a_group_that_netbird_has_met_is_admitted() -> None:
    server = Server(
        {
            "GET /api/accounts": [{"id": "a", "settings": {}}],
            "GET /api/groups": [{"id": "g-1", "name": "staff"}, {"id": "g-2", "name": "bob"}],
            "POST /api/policies": {"id": "p"},
        }
    )
    NetBird(context(server, WITH_PROVIDER)).allow_provider_group("staff", "bob")
    (rule,) = server.body("POST /api/policies")["rules"]
    assert (rule["sources"], rule["destinations"]) == (["g-1"], ["g-2"])


def test_users_as_netbird_lists_them() -> None:
    server = Server(
        {"GET /api/users": [user("u-1", idp_id="company", pending_approval=True) | {"name": "Anna Example"}]}
    )
    server.answers["GET /api/users"].append(user("u-2"))
    assert NetBird(context(server, NETBIRD)).users() == (
        ListedUser("u-1", "Anna Example", "u-1@corp.test", "Anna Example", "company", pending=True),
        ListedUser("u-2", "u-2", "u-2@corp.test", "u-2", "here"),
    )


def test_a_users_peers_go_with_the_user_at_netbird() -> None:
    server = Server()
    NetBird(context(server, NETBIRD)).remove_user_with_peers(ListedUser("u-1", "anna", "", ""))
    assert server.changes == ["DELETE /api/users/u-1"]


@pytest.mark.parametrize(("keeps", "accounts"), [("product", ["POST /api/users"]), ("provider", [])])
def test_a_user_of_the_providers_is_only_a_group_and_a_key(keeps: str, accounts: list[str]) -> None:
    server = Server({"POST /api/groups": {"id": "g-1"}, "POST /api/setup-keys": {"key": "k"}})
    NetBird(context(server, replace(WITH_PROVIDER, signs_in=keeps))).add_user("alice")
    assert server.changes == ["POST /api/groups", *accounts, "POST /api/setup-keys"]
    assert server.body("POST /api/setup-keys")["auto_groups"] == ["g-1"]


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
    Headscale(context(server, HEADSCALE)).remove_user_with_peers(ListedUser("7", "anna", "", ""))
    assert server.changes == ["DELETE /api/v1/node/1", "DELETE /api/v1/user/7"]


def test_users_as_headscale_lists_them() -> None:
    of_provider = {"id": "7", "name": "anna", "email": "anna@corp.test", "displayName": "Anna Example"}
    own = {"id": "8", "name": "bob", "email": "", "displayName": "", "providerId": ""}
    issuer = "http://keycloak:8080/realms/company/u-1"
    server = Server({"GET /api/v1/user": {"users": [{**of_provider, "providerId": issuer}, own]}})
    assert Headscale(context(server, HEADSCALE)).users() == (
        ListedUser("7", "anna", "anna@corp.test", "Anna Example", issuer),
        ListedUser("8", "bob", "", "", "here"),
    )


def test_a_group_of_the_providers_that_headscales_policy_does_not_define_is_refused_in_its_own_words() -> None:
    server = Server({"GET /api/v1/policy": {"policy": '{"grants": []}'}})
    server.answers["PUT /api/v1/policy"] = httpx.Response(500, text='{"message": "group not defined: group:staff"}')
    made = context(server, HEADSCALE)
    with pytest.raises(Refused, match="PUT /api/v1/policy was refused with 500") as refused:
        Headscale(made).allow_provider_group("staff", "bob")
    assert "group not defined" in refused.value.why
    sent = json.loads(server.body("PUT /api/v1/policy")["policy"])
    assert sent == {"grants": [{"src": ["group:staff"], "dst": ["bob@"], "ip": ["*"]}]}
    assert made.journal.entries == (), "what was refused is no action"


CONFIG = "/etc/headscale/config.yaml"
BEFORE = b"# by hand\noidc:\n  issuer: http://keycloak:8080/realms/company\n  client_id: mesh\n"
Change = Callable[[Headscale], None]


class EndsAtOnce(FakeEngine):
    """No container stays up; `tried` are the configurations they were started with."""

    def __init__(self) -> None:
        super().__init__(runs_everything)
        self.tried: list[bytes] = []

    def start(self, container_id: str) -> None:
        super().start(container_id)
        self.tried.append(self.files(container_id)[CONFIG].content)
        super().stop(container_id)

    def logs(self, container_id: str, tail: int | None = None) -> str:
        return "FTL unmarshalling config"


@pytest.mark.parametrize(
    ("change", "oidc"),
    [
        (
            lambda plane: plane.add_provider("partner"),
            [
                {"issuer": "http://keycloak:8080/realms/company", "client_id": "mesh"},
                {"issuer": "http://keycloak:8080/realms/partner", "client_id": "mesh"},
            ],
        ),
        (
            lambda plane: plane.switch_provider("partner"),
            {"issuer": "http://keycloak:8080/realms/partner", "client_id": "mesh"},
        ),
    ],
    ids=["a second provider", "another provider"],
)
def test_headscale_that_does_not_start_gets_its_old_configuration_back(change: Change, oidc: object) -> None:
    engine = EndsAtOnce()
    engine.add_image("x:1")
    container = engine.create(Container("headscale", "x:1", files=(File(CONFIG, BEFORE),)), "headscale", {}, {})
    made = context(Server(), replace(HEADSCALE, issuers="http://keycloak:8080"), engine)
    services = {**made.services, "headscale": Machine("headscale", container, {"control": ADDRESS})}
    made = replace(made, services=services)
    with pytest.raises(Refused, match="headscale does not start") as refused:
        change(Headscale(made))
    assert refused.value.why == "FTL unmarshalling config"
    assert yaml.safe_load(engine.tried[0])["oidc"] == oidc
    assert engine.tried[1:] == [BEFORE], "to the letter, comments included"
    assert engine.files(container)[CONFIG].content == BEFORE
    assert [entry.kind for entry in made.journal.entries] == [Kind.EDIT, Kind.RESTART] * 2, "and that costs too"


def test_where_headscales_clients_join() -> None:
    assert context(Server(), HEADSCALE).joins == "http://10.1.0.2:8080"


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


def test_people_are_put_where_they_are_known_before_anybody_signs_in() -> None:
    """Further realms are made after the first, each once, with their settings, and then the people."""
    server = Server(
        {
            "POST /realms/master/protocol/openid-connect/token": {"access_token": "t"},
            "GET /admin/realms/company/clients": [{"id": "c-1", "clientId": "mesh", "secret": "cs"}],
        }
    )
    people = (replace(ANNA, at=("company", "partner")), Person("lena", "Lena Example", "lena@corp.test"))
    providers = (Provider("company", 20.0), Provider("idle"))
    populate(context(server, WITH_PROVIDER), Inventory(people=people, providers=providers))
    admin = [what.replace("/admin/realms", "") for what in server.changes if "/admin/" in what]
    assert admin == ["PUT /company", "POST ", "POST ", "POST /company/users", "POST /partner/users"]
    made = [body["realm"] for what, body in server.asked if what == "POST /admin/realms"]
    assert made == ["idle", "partner"]
    assert server.body("PUT /admin/realms/company")["accessTokenLifespan"] == 20
