"""Two control planes, one vocabulary: what an operator wants, in words both products understand."""

from __future__ import annotations

from labs.controlplanes.base import (
    Context,
    ControlPlane,
    Enrolment,
    ListedPeer,
    Machine,
    PeerStatus,
    Route,
    Routes,
)
from labs.model import Product

__all__ = [
    "Context",
    "ControlPlane",
    "Enrolment",
    "ListedPeer",
    "Machine",
    "PeerStatus",
    "Route",
    "Routes",
    "control_plane",
]


def control_plane(product: Product, context: Context) -> ControlPlane:
    """The driver for `product` on a lab's running services."""
    # One product's driver must not cost the other's lab its import.
    if product is Product.HEADSCALE:
        from labs.controlplanes.headscale import Headscale  # noqa: PLC0415

        return Headscale(context)
    from labs.controlplanes.netbird import NetBird  # noqa: PLC0415

    return NetBird(context)
