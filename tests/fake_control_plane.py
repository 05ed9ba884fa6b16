"""A control plane in memory, and a mesh whose traffic it decides: what unit tests run labs and scenarios on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

from labs.controlplanes import Context, ListedPeer, Machine, PeerStatus, Route
from labs.engine import ExecResult
from labs.journal import Kind, Scope
from labs.model import Container, Peer, Product


@dataclass
class FakeControlPlane:
    """Grants everything at once and keeps what it granted."""

    context: Context
    product: Product = Product.HEADSCALE
    api_service: str = "headscale"
    first_contact_s: float = 1.0
    users: list[str] = field(default_factory=list)
    peers: dict[str, ListedPeer] = field(default_factory=dict)
    routes: dict[IPv4Network, Route] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict)

    def bootstrap(self) -> Mapping[str, str]:
        return {"key": "secret"}

    def resume(self, credentials: Mapping[str, str]) -> None:
        self.credentials = credentials

    def add_user(self, user: str) -> None:
        self.users.append(user)

    def peer_container(self, peer: Peer, image: str) -> Container:
        return Container(peer.name, image)

    def wait_for_daemon(self, peer: Machine) -> None:
        self.context.wait_inside(peer, "true", what="The daemon", timeout_s=1)

    def join(self, peer: Peer, machine: Machine) -> None:
        address = IPv4Address("100.64.0.1") + len(self.peers)
        self.peers[peer.name] = ListedPeer(str(len(self.peers)), peer.name, address, online=True)

    def listed(self) -> tuple[ListedPeer, ...]:
        served = {route.via.name: prefix for prefix, route in self.routes.items()}
        return tuple(
            replace(peer, routes=(served[peer.name],) if peer.name in served else ()) for peer in self.peers.values()
        )

    def status(self, machine: Machine) -> PeerStatus:
        routes = tuple(
            prefix for prefix, route in self.routes.items() if machine.name in [one.name for one in route.consumers]
        )
        return PeerStatus(connected=True, address=self.peers[machine.name].address, routes=routes)

    def publish_route(self, route: Route) -> None:
        self.routes[route.prefix] = route
        self.context.journal.record(Kind.API, Scope.ROUTE, route.name, "publish")

    def withdraw_route(self, route: Route) -> None:
        self.routes.pop(route.prefix, None)
        self.context.journal.record(Kind.API, Scope.ROUTE, route.name, "withdraw")


OK = ExecResult(0, "", "")


def runs_everything(container: Container, argv: tuple[str, ...]) -> ExecResult:
    """Answers every command with success."""
    return OK
