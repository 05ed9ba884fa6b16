"""NetBird's management service, and its own client."""

from labs.controlplanes.netbird.driver import NetBird

__all__ = ["NetBird"]
