"""Headscale, and the stock Tailscale client."""

from labs.controlplanes.headscale.driver import Headscale

__all__ = ["Headscale"]
