"""NetBird's people: users with a password of its own, providers registered by API, and the client's device flow.

API: https://docs.netbird.io/api/resources/users and /identity-providers
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from labs.controlplanes.base import Context, ListedUser, Machine, interactive
from labs.controlplanes.identity import Login
from labs.controlplanes.identity.keycloak import CLIENT, FIRST_REALM
from labs.controlplanes.netbird import client
from labs.errors import ControlPlaneProblem
from labs.model import Peer

LOCAL_CONNECTOR = "Email"  # what its sign-in page calls the users of its own
_WAITS_AT = "http://localhost:53000/"


def sign_in(context: Context, peer: Peer, machine: Machine, login: Login, timeout_s: float) -> None:
    """The client shows a URL of the device flow."""
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


@dataclass(frozen=True, slots=True)
class Door:
    """Where people get their tokens: the two endpoints, and the client that asks."""

    authorize: str
    token: str
    client: str


def own_door(context: Context) -> Door:
    """NetBird's embedded provider, by the client that its command line is."""
    at = f"{context.joins}/oauth2"
    return Door(f"{at}/auth/local", f"{at}/token", "netbird-cli")


def provider_door(context: Context) -> Door:
    at = f"{context.issuer(FIRST_REALM)}/protocol/openid-connect"
    return Door(f"{at}/auth", f"{at}/token", CLIENT)


def access_token(context: Context, door: Door, login: Login) -> str:
    """Sign in and get an access token. Raises LoginRefused, and ControlPlaneProblem when there is no code.

    Authorization code with PKCE (RFC 7636), as the dashboard does it.
    """
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "client_id": door.client,
        "redirect_uri": _WAITS_AT,
        "response_type": "code",
        "scope": "openid profile email",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    browser = context.browser()
    page = browser.sign_in(f"{door.authorize}?{urlencode(asked)}", login)
    codes = parse_qs(urlsplit(page.url).query).get("code")
    if not codes:
        raise ControlPlaneProblem("A sign-in ended without a code", where=page.url, why=page.text[:400])
    form = {
        "grant_type": "authorization_code",
        "client_id": door.client,
        "code": codes[0],
        "redirect_uri": _WAITS_AT,
        "code_verifier": verifier,
    }
    return str(browser.post(door.token, form)["access_token"])
