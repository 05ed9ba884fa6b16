"""Keycloak's admin API, from a transport without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from labs.controlplanes.identity import Keycloak
from labs.errors import ControlPlaneProblem, Refused
from labs.model import Person

ANNA = Person("anna", "Anna Example", "anna@corp.test", ("company",), ("staff",), verified=False)
CLIENT = {
    "id": "c-1",
    "clientId": "mesh",
    "secret": "s",
    "redirectUris": ["http://hs/oidc/callback"],
    "protocolMappers": [{"id": "m-1", "name": "groups"}],
}


class Server:
    """Answers by method and path, and keeps what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, Any]] = []
        self.logins: list[dict[str, list[str]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/realms/master/protocol/openid-connect/token":
            self.logins.append(parse_qs(request.content.decode()))
            return httpx.Response(200, json={"access_token": f"t-{len(self.logins)}"})
        assert request.headers["authorization"] == f"Bearer t-{len(self.logins)}"
        what = f"{request.method} {request.url.path.removeprefix('/admin/realms')}"
        self.asked.append((what, request.url.query.decode(), json.loads(request.content) if request.content else None))
        found = self.answers.get(what)
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)

    @property
    def keycloak(self) -> Keycloak:
        return Keycloak("http://keycloak:8080", "admin-secret", httpx.MockTransport(self))


def test_a_second_realm_knows_the_product_by_the_first_ones_client() -> None:
    server = Server(**{"GET /company/clients": [CLIENT]})
    server.keycloak.add_realm("partner")
    (what, query, _), (made, _, body) = server.asked
    assert (what, query, made) == ("GET /company/clients", "clientId=mesh", "POST ")
    assert body["realm"] == "partner"
    (client,) = body["clients"]
    assert client == {
        "clientId": "mesh",
        "secret": "s",
        "redirectUris": ["http://hs/oidc/callback"],
        "protocolMappers": [{"name": "groups"}],
    }, "everything but the ids, which are unique over all realms"


@pytest.mark.parametrize("known", [[], [{"name": "staff"}]], ids=["a new group", "a group that is there"])
def test_a_persons_groups_are_there_first(known: list[dict[str, str]]) -> None:
    server = Server(**{"GET /company/groups": known})
    server.keycloak.add_person("company", ANNA, "secret")
    assert [what for what, _, _ in server.asked] == [
        "GET /company/groups",
        *([] if known else ["POST /company/groups"]),
        "POST /company/users",
    ]
    assert server.asked[-1][2] == {
        "username": "anna",
        "enabled": True,
        "credentials": [{"type": "password", "value": "secret", "temporary": False}],
        "groups": ["/staff"],
        "email": "anna@corp.test",
        "emailVerified": False,
        "firstName": "Anna",
        "lastName": "Example",
    }


def test_a_person_changes_and_the_rest_stays() -> None:
    server = Server(**{"GET /company/users": [{"id": "u-1", "username": "anna", "enabled": True}]})
    server.keycloak.change_person("company", ANNA)
    what, _, body = server.asked[-1]
    assert what == "PUT /company/users/u-1"
    assert (body["enabled"], body["email"], body["emailVerified"]) == (True, "anna@corp.test", False)


def test_nobody_of_that_name() -> None:
    with pytest.raises(ControlPlaneProblem, match="nobody of that name"):
        Server(**{"GET /company/users": []}).keycloak.change_person("company", ANNA)


def test_tokens_and_secrets() -> None:
    server = Server(**{"GET /company/clients": [CLIENT]})
    server.keycloak.set_token_lifetime("company", 20.4)
    assert server.asked[-1][2] == {"realm": "company", "accessTokenLifespan": 20}
    assert server.keycloak.client_secret() == "s"


def test_a_no_carries_its_words() -> None:
    server = Server(**{"POST ": httpx.Response(409, text="Conflict detected")})
    server.answers["GET /company/clients"] = [CLIENT]
    with pytest.raises(ControlPlaneProblem, match="refused with 409") as problem:
        server.keycloak.add_realm("partner")
    assert problem.value.why == "Conflict detected"


def test_each_question_brings_a_token_of_its_own() -> None:
    server = Server(**{"GET /company/clients": [CLIENT]})
    server.keycloak.add_realm("partner")
    server.keycloak.client_secret()
    assert len(server.logins) == len(server.asked) == 3
    assert server.logins[0] == {
        "grant_type": ["password"],
        "client_id": ["admin-cli"],
        "username": ["admin"],
        "password": ["admin-secret"],
    }


def test_a_realm_for_the_lab_asks_for_no_tls() -> None:
    server = Server(**{"GET /company/clients": [{**CLIENT, "protocolMappers": []}]})
    server.keycloak.add_realm("partner")
    body = server.asked[-1][2]
    assert (body["enabled"], body["sslRequired"]) == (True, "none")
    assert body["clients"][0]["protocolMappers"] == []


def test_a_person_without_groups_makes_none_and_one_with_a_single_name_has_it_twice() -> None:
    server = Server()
    server.keycloak.add_person("partner", Person("lena", "Lena", "lena@corp.test"), "secret")
    ((what, _, body),) = server.asked
    assert what == "POST /partner/users"
    assert (body["groups"], body["firstName"], body["lastName"]) == ([], "Lena", "Lena")


Call = Callable[[Keycloak], object]
CALLS: list[tuple[str, Call]] = [
    ("GET /company/clients", lambda keycloak: keycloak.add_realm("partner")),
    ("PUT /company", lambda keycloak: keycloak.set_token_lifetime("company", 20)),
    ("GET /company/clients", lambda keycloak: keycloak.client_secret()),
    ("POST /company/users", lambda keycloak: keycloak.add_person("company", Person("a", "A B", "a@b.c"), "secret")),
    ("GET /company/users", lambda keycloak: keycloak.change_person("company", ANNA)),
]


@pytest.mark.parametrize(("what", "call"), CALLS)
def test_every_no_says_what_was_asked_and_tells_no_password(what: str, call: Call) -> None:
    server = Server(**{what: httpx.Response(403, text="Forbidden " * 100)})
    with pytest.raises(ControlPlaneProblem) as problem:
        call(server.keycloak)
    method, path = what.split(" ")
    assert problem.value.what == f"Keycloak: {method} /admin/realms{path} was refused with 403"
    assert len(problem.value.why) <= 400
    assert "secret" not in str(problem.value)


def test_a_wrong_administrator_is_told_before_anything_is_asked() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(401, json={"error_description": "Invalid user credentials"})

    with pytest.raises(ControlPlaneProblem, match="openid-connect/token was refused with 401") as problem:
        Keycloak("http://keycloak:8080", "wrong", httpx.MockTransport(answer)).client_secret()
    assert "Invalid user credentials" in problem.value.why
    assert len(asked) == 1


def test_no_answer_is_no_refusal() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(ControlPlaneProblem, match="got no answer") as problem:
        Keycloak("http://keycloak:8080", "admin-secret", httpx.MockTransport(away)).client_secret()
    assert not isinstance(problem.value, Refused)
    assert problem.value.why == "connection refused"
