"""Keycloak's people, groups and realms by its admin API. A realm is an issuer of its own: one provider of several.

API: https://www.keycloak.org/docs-api/latest/rest-api/index.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from labs.errors import ControlPlaneProblem
from labs.model import Person

KEYCLOAK_PORT = 8080
_TIMEOUT_S = 60.0
# The realm that a topology's own files bring; further ones are made after its image.
FIRST_REALM = "company"
# What the realms of all topologies call the product.
CLIENT = "mesh"


class Keycloak:
    """One server, asked as its administrator."""

    def __init__(self, base_url: str, password: str, transport: httpx.BaseTransport) -> None:
        self._client = httpx.Client(base_url=base_url, transport=transport, timeout=_TIMEOUT_S, trust_env=False)
        self._password = password

    def add_realm(self, realm: str) -> None:
        """A second issuer that knows the product by the same client as the first one does."""
        found = self._send("GET", f"/{FIRST_REALM}/clients", params={"clientId": CLIENT})
        client = _without_id(found[0])
        client["protocolMappers"] = [_without_id(mapper) for mapper in client.get("protocolMappers", ())]
        self._send("POST", "", json={"realm": realm, "enabled": True, "sslRequired": "none", "clients": [client]})

    def set_token_lifetime(self, realm: str, lasts_s: float) -> None:
        self._send("PUT", f"/{realm}", json={"realm": realm, "accessTokenLifespan": round(lasts_s)})

    def client_secret(self) -> str:
        found = self._send("GET", f"/{FIRST_REALM}/clients", params={"clientId": CLIENT})
        return str(found[0]["secret"])

    def add_person(self, realm: str, person: Person, password: str) -> None:
        for group in person.groups:
            self._ensure_group(realm, group)
        body = {
            "username": person.name,
            "enabled": True,
            "credentials": [{"type": "password", "value": password, "temporary": False}],
            "groups": [f"/{group}" for group in person.groups],
            **_profile(person),
        }
        self._send("POST", f"/{realm}/users", json=body)

    def change_person(self, realm: str, person: Person) -> None:
        """Name, e-mail and whether that is verified become what `person` says."""
        known = self._person(realm, person.name)
        self._send("PUT", f"/{realm}/users/{known['id']}", json={**known, **_profile(person)})

    def _person(self, realm: str, name: str) -> Mapping[str, Any]:
        found: list[dict[str, Any]] = self._send("GET", f"/{realm}/users", params={"username": name, "exact": "true"})
        if not found:
            raise ControlPlaneProblem(f"Keycloak's realm {realm} has nobody of that name", where=name)
        return found[0]

    def _ensure_group(self, realm: str, group: str) -> None:
        known = self._send("GET", f"/{realm}/groups", params={"search": group, "exact": "true"})
        if not known:
            self._send("POST", f"/{realm}/groups", json={"name": group})

    def _send(self, method: str, path: str, **arguments: Any) -> Any:
        """Its tokens last a minute, so each question brings a new one."""
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": self._password}
        token = self._answer("POST", "/realms/master/protocol/openid-connect/token", data=form)["access_token"]
        header = {"Authorization": f"Bearer {token}"}
        return self._answer(method, f"/admin/realms{path}", headers=header, **arguments)

    def _answer(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise ControlPlaneProblem(f"Keycloak: {method} {path} got no answer", why=str(error)) from error
        if response.status_code >= 400:
            raise ControlPlaneProblem(
                f"Keycloak: {method} {path} was refused with {response.status_code}", why=response.text[:400]
            )
        return response.json() if response.content else None


def _without_id(representation: Mapping[str, Any]) -> dict[str, Any]:
    """Ids are unique over all realms."""
    return {key: value for key, value in representation.items() if key != "id"}


def _profile(person: Person) -> dict[str, object]:
    first, _, last = person.called.partition(" ")
    return {
        "email": person.email,
        "emailVerified": person.verified,
        "firstName": first,
        "lastName": last or first,
    }
