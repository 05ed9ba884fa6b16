"""The clock, waiting for a condition, and every timeout by name.

Waits poll reads and never repeat a change. The clock can be stopped from another thread, which
ends all waits at once: that is how Ctrl-C reaches every worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from labs.errors import Interrupted, NotReady

# Each limit is generous: a slow machine may need it, a healthy one never gets near. Observed values
# are medians on two cores with warm caches.
SERVICE_READY_S = 240.0  # first starts create databases; observed 0.3 to 1.0 s, Keycloak some 20 s
DAEMON_READY_S = 30.0  # the client daemon's socket; observed 0.2 s
JOIN_S = 60.0  # login, key exchange, first network map; observed 0.5 s (NetBird) to 2 s (Tailscale)
PEERS_LISTED_S = 60.0  # the control plane shows a joined peer as connected; observed 0.1 s
HOST_READY_S = 20.0  # a web server in a helper container; observed 0.1 s
RESETTLE_S = 90.0  # clients find a control plane again that was away; observed 10 s (Tailscale)
ROUTE_S = 30.0  # a route change to every consumer; observed 0.2 to 1 s
REGISTRY_ANSWER_S = 30.0  # a registry's first answer where a pull is wanted; Docker Hub takes 1 to 2 s
REGISTRY_TRY_S = 5.0  # the same where a build may follow: a network that drops packets must not cost more
POLL_S = 0.02  # short against everything that is waited for, longer than a read takes

SIGN_IN_S = 90.0  # somebody signs in at a provider; observed 2 s (Headscale) to 7 s (NetBird's client asks every 5 s)
SIGN_IN_POLL_S = 0.2  # reading what a client printed costs an exec

PROBE_S = 0.5  # one probe: a SYN that is lost is repeated after 1 s, so a longer probe would hide a leak's start
LOOKUP_S = 4.0  # one name: a resolver that must ask a server beyond the tunnel may set the tunnel up first
# The first packet between two peers sets their tunnel up; a negative before it must outlast that twice over.
TAILSCALE_FIRST_CONTACT_S = 2.0  # observed 1.2 s
NETBIRD_FIRST_CONTACT_S = 6.5  # lazy connections: observed 1.2 to 1.8 s, and 6.4 s when the first handshake was lost
COUNTED_S = 5.0  # a relay's counter shows what it has carried; observed at once
HOLD_S = 3.0  # how long a negative must hold: leaks of up to one second's delay show several times over

_Seen = TypeVar("_Seen")


class Clock(Protocol):
    """Seconds on a monotonic scale, and waiting that can be cut short."""

    def now(self) -> float: ...

    def wait(self, seconds: float) -> None:
        """Raises Interrupted as soon as the clock is stopped."""


class SystemClock:
    """The machine's monotonic clock."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Interrupted("Stopped while waiting")

    def stop(self) -> None:
        """End every wait, now and from now on, with Interrupted."""
        self._stopped.set()


class FakeClock:
    """A clock for tests: waiting moves it on and takes no time."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds


def until(
    clock: Clock,
    read: Callable[[], _Seen],
    good: Callable[[_Seen], bool],
    *,
    what: str,
    timeout_s: float,
    where: str = "",
    hint: str = "",
    show: Callable[[_Seen], str] = str,
    poll_s: float = POLL_S,
) -> _Seen:
    """Read until `good`, and return what was read. Raises NotReady with what was last seen."""
    deadline = clock.now() + timeout_s
    while True:
        seen = read()
        if good(seen):
            return seen
        if clock.now() >= deadline:
            raise NotReady(
                f"{what} did not come about within {timeout_s:g} s",
                where=where,
                why=f"last seen: {show(seen)}",
                hint=hint,
            )
        clock.wait(poll_s)
