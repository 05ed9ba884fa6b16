"""A NetBird account by its REST API: how it is set up, who its users are, and what they sign in with."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from labs.controlplanes.base import Context, ListedUser
from labs.controlplanes.http import Api
from labs.controlplanes.identity import Login
from labs.controlplanes.identity.keycloak import FIRST_REALM
from labs.controlplanes.netbird import identity
from labs.errors import ControlPlaneProblem
from labs.journal import Journal, Scope
from labs.model import Person, Settings

_MAIL_DOMAIN = "lab.test"
_CREDENTIALS_LAST_S = 7 * 24 * 3600
_INVITATION_LASTS_S = 3 * 24 * 3600


class Account:
    """Users, groups, keys and providers of one account, and the calls that change it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys: dict[str, str] = {}
        self._passwords: dict[str, str] = {}

    @cached_property
    def _api(self) -> Api:
        return Api(self._api_url, self._context.journal, self._context.reach.transport())

    @property
    def _api_url(self) -> str:
        """Behind the proxy where there is one: an administrator's calls need no certificate."""
        access = self._context.access
        return f"http://{self._context.address(access.api)}:{access.api_port}"

    @property
    def api_service(self) -> str:
        return self._context.access.api

    @property
    def parts(self) -> Mapping[str, str]:
        return self._context.access.parts

    @property
    def _keeps_people(self) -> bool:
        """Whether it has users of its own; else they are all the provider's."""
        return self._context.access.signs_in == "product"

    def bootstrap(self) -> Mapping[str, str]:
        email, password = f"owner@{_MAIL_DOMAIN}", f"{secrets.token_urlsafe(18)}aA1!"
        if self._context.access.provider is None:
            token = self._set_up(email, password, create_pat=True)
        else:
            token = self._first_sign_in(email, password)
        credentials = {"access-token": token, "owner-email": email, "owner-password": password}
        self.resume(credentials)
        if self._context.access.provider is not None and self._keeps_people:
            self.add_provider(FIRST_REALM)
        return credentials

    def _first_sign_in(self, email: str, password: str) -> str:
        """The first person who signs in owns the account; an access token makes the rest scriptable.

        Where a provider's people are to come, the account has to be made by a sign-in: one that the set-up made has no
        domain, and then everybody who comes from a provider gets an account of their own (0.77.1).
        """
        if self._keeps_people:
            self._set_up(email, password, create_pat=False)
            door, login = identity.own_door(self._context), Login(email, password)
        else:
            owner = Person("owner", "Olga Owner", email)
            self._context.keycloak().add_person(FIRST_REALM, owner, password)
            door, login = identity.provider_door(self._context), Login(owner.name, password)
        self._api.authorize(f"Bearer {identity.access_token(self._context, door, login)}")
        own = self._api.get("/api/users/current")["id"]
        asked = {"name": "lab", "expires_in": 7}
        return str(self._api.change("POST", f"/api/users/{own}/tokens", asked, Scope.LAB, "owner")["plain_token"])

    def _set_up(self, email: str, password: str, *, create_pat: bool) -> str:
        """The server's own first step, open until somebody has taken it; the access token, where one is asked for."""
        owner: dict[str, object] = {"email": email, "name": "Owner", "password": password}
        owner |= {"create_pat": True, "pat_expire_in": 7} if create_pat else {}
        token = self._api.change("POST", "/api/setup", owner, Scope.LAB, "owner").get("personal_access_token")
        if create_pat and not token:
            raise ControlPlaneProblem(
                "NetBird's setup returned no access token",
                where=self.api_service,
                hint="the management service needs NB_SETUP_PAT_ENABLED=true and version 0.70.5 or later",
            )
        return str(token or "")

    def resume(self, credentials: Mapping[str, str]) -> None:
        self._api.authorize(f"Token {credentials['access-token']}")

    def add_user(self, user: str) -> None:
        """A provider's users are the provider's to make: then a group and a key are all that NetBird has of one."""
        group = self._api.change("POST", "/api/groups", {"name": user}, Scope.USER, user)["id"]
        if self._keeps_people:
            self._add_account(user, user, f"{user}@{_MAIL_DOMAIN}", [group])
        self._make_key(user, group, one_off=False, lasts_s=_CREDENTIALS_LAST_S, subject=user)

    def _add_account(self, subject: str, called: str, email: str, groups: list[str]) -> Mapping[str, Any]:
        account = {"email": email, "name": called, "role": "user", "auto_groups": groups, "is_service_user": False}
        made: Mapping[str, Any] = self._api.change("POST", "/api/users", account, Scope.USER, subject)
        return made

    def make_key(self, name: str, user: str, *, one_off: bool, lasts_s: float) -> None:
        self._make_key(name, self._named("/api/groups", user), one_off=one_off, lasts_s=lasts_s, subject=user)

    def _make_key(self, name: str, group: str, *, one_off: bool, lasts_s: float, subject: str) -> None:
        key = {
            "name": name,
            "type": "one-off" if one_off else "reusable",
            "expires_in": math.ceil(lasts_s),
            "auto_groups": [group],
            "usage_limit": 1 if one_off else 0,
        }
        self._keys[name] = self._api.change("POST", "/api/setup-keys", key, Scope.USER, subject)["key"]

    def _key(self, name: str, user: str) -> str:
        """An earlier process may have made the user's key, and keys are shown once; then it takes another."""
        if name not in self._keys:
            self.make_key(name, user, one_off=False, lasts_s=_CREDENTIALS_LAST_S)
        return self._keys[name]

    def configure(self, settings: Settings) -> None:
        if settings.lazy_connections is not None:
            self._set_account({"lazy_connection_enabled": settings.lazy_connections}, "lazy connections")
        if settings.user_approval is not None:
            self._set_account({"extra": {"user_approval_required": settings.user_approval}}, "user approval")

    def _set_account(self, changed: Mapping[str, Any], subject: str) -> None:
        """PUT replaces all settings, so the whole of them is sent."""
        (account,) = self._api.get("/api/accounts")
        known = account["settings"]
        extra = {**(known.get("extra") or {}), **changed.get("extra", {})}
        body = {"settings": {**known, **changed, "extra": extra}}
        self._api.change("PUT", f"/api/accounts/{account['id']}", body, Scope.LAB, subject)

    def users(self) -> tuple[ListedUser, ...]:
        return tuple(identity.listed_user(user) for user in self._api.get("/api/users"))

    def remove_user(self, user: ListedUser) -> None:
        self._api.change("DELETE", f"/api/users/{user.id}", None, Scope.USER, user.name)

    def remove_user_with_peers(self, user: ListedUser) -> None:
        """A user's peers go with the user."""
        self.remove_user(user)

    def add_local_user(self, person: Person) -> None:
        """The server chooses the password and shows it once."""
        made = self._add_account(person.name, person.called, person.email, [])
        self._passwords[person.name] = str(made["password"])

    def invite_user(self, person: Person) -> None:
        body = {
            "email": person.email,
            "name": person.called,
            "role": "user",
            "auto_groups": [],
            "expires_in": _INVITATION_LASTS_S,
        }
        made = self._api.change("POST", "/api/users/invites", body, Scope.USER, person.name)
        self._passwords[person.name] = self._context.secrets[f"person {person.name}"]
        # The person's own call, not the operator's: anybody who has the token may make it.
        path = f"/api/users/invites/{made['invite_token']}/accept"
        Api(self._api_url, Journal(self._context.clock.now), self._context.reach.transport()).change(
            "POST", path, {"password": self._passwords[person.name]}, Scope.USER, person.name
        )

    def approve_user(self, person: Person) -> None:
        for user in self.users():
            if user.pending and user.is_person(person):
                self._api.change("POST", f"/api/users/{user.id}/approve", None, Scope.USER, person.name)
                return
        raise ControlPlaneProblem("Nobody of that name waits for approval", where=person.name)

    def add_provider(self, provider: str) -> None:
        body = identity.provider_body(self._context, provider)
        self._api.change("POST", "/api/identity-providers", body, Scope.LAB, provider)

    def switch_provider(self, provider: str) -> None:
        before = self._api.get("/api/identity-providers")
        self.add_provider(provider)
        for other in before:
            self._api.change("DELETE", f"/api/identity-providers/{other['id']}", None, Scope.LAB, other["name"])

    def _route(self, method: str, path: str, body: Mapping[str, object] | None, name: str) -> Any:
        return self._api.change(method, path, body, Scope.ROUTE, name)

    def _name(self, method: str, path: str, body: Mapping[str, object] | None, name: str) -> Any:
        return self._api.change(method, path, body, Scope.NAME, name)

    def _policy(self, method: str, path: str, body: Mapping[str, object] | None, name: str) -> Any:
        return self._api.change(method, path, body, Scope.POLICY, name)

    def _find(self, path: str, name: str) -> dict[str, Any] | None:
        things: list[dict[str, Any]] = self._api.get(path) or []
        return next((thing for thing in things if thing["name"] == name), None)

    def _named(self, path: str, name: str) -> str:
        found = self._find(path, name)
        if found is None:
            raise ControlPlaneProblem(f"GET {path} lists nothing of that name", where=name)
        return str(found["id"])
