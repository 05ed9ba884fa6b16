"""A control plane in memory, and a mesh whose traffic it decides: what unit tests run labs and scenarios on."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

import httpx

from labs.controlplanes import Ability, Context, ListedPeer, ListedUser, Machine, Path, PeerStatus, Route, Rule
from labs.engine import ExecResult
from labs.errors import ControlPlaneProblem, Refused
from labs.journal import Kind, Scope
from labs.model import Container, Peer, Person, Product, Settings
from labs.timing import JOIN_S


@dataclass(frozen=True)
class Answering:
    """A Reach whose HTTP is answered by a function; there is nothing else to connect to."""

    answer: Callable[[httpx.Request], httpx.Response]

    def dial(self, address: str, port: int, timeout_s: float) -> socket.socket:
        raise ConnectionRefusedError(f"nothing listens on {address}:{port}")

    dial_once_open = dial

    def transport(self, authority: str = "") -> httpx.BaseTransport:
        return httpx.MockTransport(self.answer)


@dataclass
class FakeControlPlane:
    """Grants everything at once and keeps what it granted. `relayed` are the pairs that have no direct path."""

    context: Context
    product: Product = Product.HEADSCALE
    api_service: str = "headscale"
    first_contact_s: float = 1.0
    resettle_s: float = 1.0
    peer_domain: str = "mesh.test"
    parts: Mapping[str, str] = field(default_factory=lambda: {"control-plane": "headscale"})
    lacks: Mapping[Ability, str] = field(default_factory=dict)
    made_users: list[str] = field(default_factory=list)
    keys: dict[str, bool] = field(default_factory=dict)
    peers: dict[str, ListedPeer] = field(default_factory=dict)
    routes: dict[IPv4Network, Route] = field(default_factory=dict)
    exits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    leaves_by: dict[str, str] = field(default_factory=dict)
    records: dict[str, IPv4Address] = field(default_factory=dict)
    resolvers: dict[str, IPv4Address] = field(default_factory=dict)
    rules: list[Rule] | None = None
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    paths: dict[tuple[str, str], Path] = field(default_factory=dict)
    relayed: int = 0
    credentials: Mapping[str, str] = field(default_factory=dict)
    people: dict[str, ListedUser] = field(default_factory=dict)
    providers: tuple[str, ...] = ("company",)
    local: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)
    api_away: bool = False

    def bootstrap(self) -> Mapping[str, str]:
        return {"key": "secret"}

    def resume(self, credentials: Mapping[str, str]) -> None:
        self.credentials = credentials

    def add_user(self, user: str) -> None:
        self.made_users.append(user)

    def make_key(self, name: str, user: str, *, one_off: bool, lasts_s: float) -> None:
        self.keys[name] = one_off
        self._record(Kind.API, Scope.USER, user, "key")

    def peer_container(self, peer: Peer, image: str, settings: Settings) -> Container:
        return Container(peer.name, image)

    def reconnect(self, machine: Machine) -> None:
        self._record(Kind.COMMAND, Scope.PEER, machine.name, "reconnect")

    def wait_for_daemon(self, peer: Machine) -> None:
        self.context.wait_inside(peer, "true", what="The daemon", timeout_s=1)

    def join(self, peer: Peer, machine: Machine, key: str = "", timeout_s: float = JOIN_S) -> None:
        if key and key not in self.keys:
            raise Refused("refused", where=peer.name, why="invalid key")
        if key and self.keys[key]:
            del self.keys[key]
        address = IPv4Address("100.64.0.1") + len(self.peers)
        self.peers[peer.name] = ListedPeer(str(len(self.peers)), peer.name, address, online=True)

    def configure(self, settings: Settings) -> None:
        self._record(Kind.EDIT, Scope.LAB, "settings", "configure")

    def listed(self) -> tuple[ListedPeer, ...]:
        served = {route.via.name: prefix for prefix, route in self.routes.items()}
        return tuple(
            replace(peer, routes=(served[name],) if name in served else ()) for name, peer in self.peers.items()
        )

    def status(self, machine: Machine) -> PeerStatus:
        routes = tuple(
            prefix for prefix, route in self.routes.items() if machine.name in [one.name for one in route.consumers]
        )
        own = self.peers.get(machine.name)
        others = tuple(peer.address for name, peer in self.peers.items() if name != machine.name)
        return PeerStatus(own is not None, own.address if own else None, routes, others)

    def remove_peer(self, peer: str) -> None:
        del self.peers[self._key(peer)]

    def rename_peer(self, peer: str, name: str) -> None:
        self.peers[self._key(peer)] = replace(self.peers[self._key(peer)], name=name)

    def expire_peer(self, peer: str) -> None:
        self.peers[self._key(peer)] = replace(self.peers[self._key(peer)], expired=True)

    def publish_route(self, route: Route) -> None:
        self.routes[route.prefix] = route
        self._record(Kind.API, Scope.ROUTE, route.name, "publish")

    def withdraw_route(self, route: Route) -> None:
        self.routes.pop(route.prefix, None)
        self._record(Kind.API, Scope.ROUTE, route.name, "withdraw")

    def offer_exit(self, via: Machine, consumers: Iterable[Machine]) -> None:
        self.exits[via.name] = tuple(consumer.name for consumer in consumers)

    def withdraw_exit(self, via: Machine) -> None:
        del self.exits[via.name]

    def exit_offered(self, on: Machine, via: Machine) -> bool:
        return on.name in self.exits.get(via.name, ())

    def choose_exit(self, on: Machine, via: Machine, *, lan_access: bool) -> None:
        self.leaves_by[on.name] = via.name

    def leave_exit(self, on: Machine) -> None:
        del self.leaves_by[on.name]

    def set_record(self, name: str, address: IPv4Address) -> None:
        self.records[name] = address

    def remove_record(self, name: str) -> None:
        del self.records[name]

    def split_dns(self, domain: str, server: IPv4Address) -> None:
        self.resolvers[domain] = server

    def drop_split_dns(self, domain: str) -> None:
        del self.resolvers[domain]

    def deny_all(self) -> None:
        self.rules = []

    def allow(self, rule: Rule) -> None:
        self.rules = [*(self.rules or ()), rule]

    def revoke(self, rule: Rule) -> None:
        self.rules = [kept for kept in self.rules or () if kept != rule]

    def allow_exit(self, source: str, via: str) -> None:
        self.allow(Rule(source, via))

    def set_group(self, name: str, users: Iterable[str]) -> None:
        self.groups[name] = tuple(users)

    def sign_in(self, peer: Peer, machine: Machine, person: Person, provider: str, timeout_s: float) -> None:
        """Another provider makes another user of the same person; the peer is the newest one's from then on."""
        if self.api_away:
            raise ControlPlaneProblem("no answer", where=peer.name)
        if not person.at and person.name not in self.local:
            raise Refused("turned away", why=f"{person.name} is no user with a password")
        if person.at and provider not in self.providers:
            raise Refused("turned away", why=f"{provider} is not known")
        user = f"{person.name} at {provider or 'home'}"
        self.people.setdefault(user, ListedUser(user, person.name, person.email, person.called, provider))
        if person.name in self.pending:
            self.people[user] = replace(self.people[user], pending=True)
            raise Refused("pending", why="wait for an administrator")
        self.join(peer, machine)
        self.peers[peer.name] = replace(self.peers[peer.name], owner=user)

    def users(self) -> tuple[ListedUser, ...]:
        return (*(ListedUser(user, user, "", user) for user in self.made_users), *self.people.values())

    def remove_user(self, user: ListedUser) -> None:
        if any(peer.owner == user.id for peer in self.peers.values()):
            raise Refused("user not empty")
        self.people.pop(user.id, None)

    def remove_user_with_peers(self, user: ListedUser) -> None:
        self.peers = {name: peer for name, peer in self.peers.items() if peer.owner != user.id}
        self.remove_user(user)

    def add_local_user(self, person: Person) -> None:
        self.local.add(person.name)
        self._record(Kind.API, Scope.USER, person.name, "local user")

    def invite_user(self, person: Person) -> None:
        self.local.add(person.name)
        self._record(Kind.API, Scope.USER, person.name, "invite")

    def approve_user(self, person: Person) -> None:
        self.pending.discard(person.name)
        self.people = {key: replace(user, pending=False) for key, user in self.people.items()}

    def add_provider(self, provider: str) -> None:
        self.providers = (*self.providers, provider)

    def switch_provider(self, provider: str) -> None:
        self.providers = (provider,)

    def allow_provider_group(self, group: str, target: str) -> None:
        raise Refused("group not defined", why=f"group:{group}")

    def path(self, source: Machine, target: Machine) -> Path:
        return self.paths.get((source.name, target.name), Path.DIRECT)

    def relayed_bytes(self) -> int:
        return self.relayed

    def events(self) -> tuple[str, ...]:
        return tuple(f"{entry.action} by owner" for entry in self.context.journal.entries)

    def _key(self, name: str) -> str:
        return next(key for key, peer in self.peers.items() if peer.name == name)

    def _record(self, kind: Kind, scope: Scope, subject: str, action: str) -> None:
        self.context.journal.record(kind, scope, subject, action)


OK = ExecResult(0, "", "")


def runs_everything(container: Container, argv: tuple[str, ...]) -> ExecResult:
    """Answers every command with success."""
    return OK
