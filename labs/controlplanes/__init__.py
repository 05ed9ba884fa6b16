"""Two control planes, one vocabulary: what an operator wants, in words both products understand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from labs.controlplanes.base import (
    Ability,
    Approvals,
    Audit,
    Context,
    ControlPlane,
    Enrolment,
    Expiry,
    ListedPeer,
    ListedUser,
    LocalUsers,
    Machine,
    Path,
    PeerStatus,
    Resource,
    Resources,
    Route,
    Routes,
    Rule,
    SignInFilter,
    SignInFilters,
    UserApproval,
    succeeded,
)
from labs.controlplanes.reach import DIRECT, Reach, Through
from labs.errors import UsageError
from labs.model import Access, Product, Settings

if TYPE_CHECKING:
    from labs.controlplanes.headscale import Headscale
    from labs.controlplanes.netbird import NetBird

__all__ = [
    "DIRECT",
    "Ability",
    "Approvals",
    "Audit",
    "Context",
    "ControlPlane",
    "Enrolment",
    "Expiry",
    "ListedPeer",
    "ListedUser",
    "LocalUsers",
    "Machine",
    "Path",
    "PeerStatus",
    "Reach",
    "Resource",
    "Resources",
    "Route",
    "Routes",
    "Rule",
    "SignInFilter",
    "SignInFilters",
    "Through",
    "UserApproval",
    "actions",
    "control_plane",
    "lacking",
    "lacks",
    "service_environment",
    "succeeded",
]


SIGNAL, RELAY = "signal", "relay"


def control_plane(product: Product, context: Context) -> ControlPlane:
    """The driver for `product` on a lab's running services."""
    return _driver(product)(context)


def lacks(product: Product, access: Access) -> Mapping[Ability, str]:
    """What a product does not have, in this shape of it, and in one sentence why."""
    missing = dict(_driver(product).lacks)
    if access.provider is None:
        missing[Ability.PROVIDER] = "no identity provider runs in this topology"
    for part, ability in ((SIGNAL, Ability.SIGNAL), (RELAY, Ability.RELAY)):
        if part not in access.parts:
            missing.setdefault(ability, f"the {part} service runs inside {access.api} in this topology")
    if access.signs_in == "provider":
        missing.setdefault(Ability.LOCAL_USERS, "all users are the provider's in this topology")
    return missing


def lacking(plane: ControlPlane, ability: Ability) -> UsageError:
    """The error for asking a product what it does not have."""
    return UsageError(f"{plane.product} has no {ability}", why=plane.lacks.get(ability, ""))


def actions(product: Product) -> Mapping[str, tuple[str, ...]]:
    """What an operator of a product does for each verb, as the journal records it: KIND SCOPE ACTION."""
    if product is Product.HEADSCALE:
        from labs.controlplanes.headscale.actions import ACTIONS  # noqa: PLC0415
    else:
        from labs.controlplanes.netbird.actions import ACTIONS  # noqa: PLC0415
    return ACTIONS


def service_environment(product: Product, settings: Settings) -> Mapping[str, Mapping[str, str]]:
    """What settings mean for a product's services: variables by service."""
    return _driver(product).service_environment(settings)


def _driver(product: Product) -> type[Headscale] | type[NetBird]:
    # One product's driver must not cost the other's lab its import.
    if product is Product.HEADSCALE:
        from labs.controlplanes.headscale import Headscale  # noqa: PLC0415

        return Headscale
    from labs.controlplanes.netbird import NetBird  # noqa: PLC0415

    return NetBird
