"""Headscale's people: its one provider in the configuration, and a browser for the sign-in.

Format of the `oidc` section: https://headscale.net/stable/ref/oidc/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labs.controlplanes.base import Context, ListedUser, Machine, SignInFilter, interactive
from labs.controlplanes.headscale import client
from labs.controlplanes.identity import Login
from labs.model import Peer, Person, Settings


def sign_in(context: Context, peer: Peer, machine: Machine, person: Person, timeout_s: float) -> None:
    """The client shows a URL of the server, which leads to the provider and back to a page that asks for consent.

    Without a provider its page tells what an administrator has to type, and asks the person nothing.
    """
    login = Login(person.name, context.secrets.get(f"person {person.name}", ""))
    argv = client.sign_in(context, machine, context.joins, peer.name, timeout_s)
    interactive(context, machine, argv, lambda url: context.browser().sign_in(url, login), timeout_s)


def listed_user(user: Mapping[str, Any]) -> ListedUser:
    return ListedUser(
        id=user["id"],
        name=user["name"],
        email=user["email"],
        called=user["displayName"],
        source=user["providerId"] or "here",
    )


def filtering(document: dict[str, Any], allowed: SignInFilter) -> None:
    document["oidc"] |= {
        "allowed_domains": list(allowed.domains),
        "allowed_users": list(allowed.emails),
        "allowed_groups": list(allowed.groups),
        "email_verified_required": allowed.verified,
    }


def with_second(document: dict[str, Any], issuer: str) -> None:
    """What somebody would try: the one provider's section made into a list of two. There is no documented way."""
    document["oidc"] = [document["oidc"], {**document["oidc"], "issuer": issuer}]


def switched(document: dict[str, Any], issuer: str) -> None:
    """One provider, whatever was tried before."""
    before = document["oidc"]
    document["oidc"] = {**(before[0] if isinstance(before, list) else before), "issuer": issuer}


def settings_environment(settings: Settings) -> dict[str, str]:
    """Settings as variables that override the configuration's `oidc` section."""
    said = {"PKCE_ENABLED": settings.pkce, "USE_EXPIRY_FROM_TOKEN": settings.expiry_from_token}
    return {f"HEADSCALE_OIDC_{key}": str(value).lower() for key, value in said.items() if value is not None}
