"""Keycloak's admin API, from a transport without a network."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from labs.controlplanes.identity import Keycloak
from labs.errors import ControlPlaneProblem
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

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json={"access_token": "t"})
        assert request.headers["authorization"] == "Bearer t"
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
