"""The scripted load: the same changes at the same seconds on every product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from labs.controlplanes import ControlPlane, Machine, Route, Rule
from labs.lab import Lab
from labs.model import Inventory

# Second in the window, and what happens. The policy is changed last: nothing takes a deny-all back.
LOAD = (
    (0.0, "publish a route"),
    (4.0, "set a record"),
    (8.0, "the first peer reconnects"),
    (12.0, "withdraw the route"),
    (16.0, "remove the record"),
    (20.0, "deny everything"),
    (24.0, "allow the user's peers each other"),
    (28.0, "the second peer reconnects"),
    (32.0, "end"),
)
_RECORD = "load.example.com"


@dataclass(frozen=True, slots=True)
class Workload:
    """The things that change: a route to the lab's first LAN through the peer that stands on it, for all others."""

    plane: ControlPlane
    route: Route
    first: Machine
    second: Machine
    user: str

    @classmethod
    def on(cls, lab: Lab, inventory: Inventory) -> Workload:
        lan = inventory.networks[0].name
        router = next(peer.name for peer in inventory.peers if lan in peer.networks)
        others = tuple(lab.machine(peer.name) for peer in inventory.peers if peer.name != router)
        route = Route(lan, lab.networks[lan], lab.machine(router), others)
        return cls(lab.control_plane, route, others[0], lab.machine(router), inventory.peers[0].user)

    def do(self, what: str) -> None:
        """One line of LOAD. KeyError for a word that is not there."""
        address = next(iter(self.second.addresses.values()))
        actions: dict[str, Callable[[], None]] = {
            "publish a route": partial(self.plane.publish_route, self.route),
            "set a record": partial(self.plane.set_record, _RECORD, address),
            "the first peer reconnects": partial(self.plane.reconnect, self.first),
            "withdraw the route": partial(self.plane.withdraw_route, self.route),
            "remove the record": partial(self.plane.remove_record, _RECORD),
            "deny everything": self.plane.deny_all,
            "allow the user's peers each other": partial(self.plane.allow, Rule(self.user, self.user)),
            "the second peer reconnects": partial(self.plane.reconnect, self.second),
            "end": lambda: None,
        }
        actions[what]()
