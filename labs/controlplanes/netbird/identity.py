"""NetBird's people: users with a password of its own, providers registered by API, and the client's device flow.

API: https://docs.netbird.io/api/resources/users and /identity-providers
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from labs.controlplanes.base import Context, ListedUser, Machine, command, interactive
from labs.controlplanes.identity import Login
from labs.controlplanes.identity.keycloak import CLIENT, FIRST_REALM
from labs.controlplanes.netbird import client
from labs.errors import ControlPlaneProblem
from labs.journal import Scope
from labs.model import Peer, Person

LOCAL_CONNECTOR = "Email"  # what its sign-in page calls the users of its own
_WAITS_AT = "http://localhost:53000/"


def sign_in(context: Context, peer: Peer, machine: Machine, login: Login, timeout_s: float) -> None:
    """The client shows a URL of the device flow; one that is registered already has to leave first."""
    if client.registered(context, machine):
        command(context, machine, ["netbird", "deregister"], Scope.PEER)
    argv = client.sign_in(context.joins, peer.name, timeout_s)
    interactive(context, machine, argv, lambda url: context.browser().sign_in(url, login), timeout_s)


def listed_user(user: Mapping[str, Any]) -> ListedUser:
    return ListedUser(
        id=user["id"],
        name=user["name"],
        email=user["email"],
        called=user["name"],
        source=user.get("idp_id") or "here",
        pending=user["pending_approval"],
    )


def provider_body(context: Context, realm: str) -> dict[str, object]:
    """The body that registers a realm; it knows NetBird by the client that the first realm has too."""
    return {
        "type": "oidc",
        "name": realm,
        "issuer": context.issuer(realm),
        "client_id": CLIENT,
        "client_secret": context.keycloak().client_secret(),
    }


def owner_token(context: Context, owner: Person, password: str) -> str:
    """Where only the provider knows people: the first one who signs in owns the account. An access token of theirs.

    Authorization code with PKCE (RFC 7636), as the dashboard does it.
    """
    context.keycloak().add_person(FIRST_REALM, owner, password)
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "client_id": CLIENT,
        "redirect_uri": _WAITS_AT,
        "response_type": "code",
        "scope": "openid profile email",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    browser = context.browser()
    at = f"{context.issuer(FIRST_REALM)}/protocol/openid-connect"
    page = browser.sign_in(f"{at}/auth?{urlencode(asked)}", Login(owner.name, password))
    codes = parse_qs(urlsplit(page.url).query).get("code")
    if not codes:
        raise ControlPlaneProblem("The owner's sign-in ended without a code", where=page.url, why=page.text[:400])
    form = {
        "grant_type": "authorization_code",
        "client_id": CLIENT,
        "code": codes[0],
        "redirect_uri": _WAITS_AT,
        "code_verifier": verifier,
    }
    return str(browser.post(f"{at}/token", form)["access_token"])
