"""The Protocols both products are driven through, one for each ability, and the values they exchange."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol, runtime_checkable

from labs.controlplanes.identity import Browser, Keycloak
from labs.controlplanes.identity.keycloak import KEYCLOAK_PORT
from labs.controlplanes.reach import DIRECT, Reach
from labs.controlplanes.ready import serves
from labs.engine import Engine, ExecResult, State
from labs.engine.waiting import wait_inside
from labs.errors import ControlPlaneProblem, LabsError, Refused
from labs.journal import Journal, Kind, Scope
from labs.model import Access, Container, File, Peer, Person, Product, Ready, Settings
from labs.timing import JOIN_S, SERVICE_READY_S, SIGN_IN_POLL_S, Clock, until


@dataclass(frozen=True, slots=True)
class Machine:
    """One running container of a lab: its lab name, engine id, and address on each lab network."""

    name: str
    container_id: str
    addresses: Mapping[str, IPv4Address]


NOWHERE = Access(api="", api_port=0, joins="", parts={})


@dataclass(frozen=True, slots=True)
class Context:
    """What a driver works with: `services` that run, how they are spoken to, and the network `control` of the peers.

    `secrets` are the topology's, by variable, and people's passwords.
    """

    engine: Engine
    clock: Clock
    journal: Journal
    services: Mapping[str, Machine]
    control: str = "control"
    access: Access = NOWHERE
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    reach: Reach = DIRECT

    def address(self, service: str) -> IPv4Address:
        """Where a service listens. Raises ControlPlaneProblem when it does not run."""
        machine = self.services.get(service)
        if machine is None or self.control not in machine.addresses:
            raise ControlPlaneProblem("A service of the control plane does not run", where=service, hint="inv status")
        return machine.addresses[self.control]

    @property
    def joins(self) -> str:
        """The URL that peers are given."""
        addresses = {name: self.address(name) for name in self.services if f"{{{name}}}" in self.access.joins}
        return self.access.joins.format_map(addresses)

    @property
    def authority(self) -> str:
        """The certificate that peers have to trust, as PEM; empty where there is none. Raises ControlPlaneProblem."""
        if self.access.authority is None:
            return ""
        service, file = self.access.authority
        if service not in self.services:
            raise ControlPlaneProblem("A service of the control plane does not run", where=service, hint="inv status")
        return self.engine.copy_out(self.services[service].container_id, file).decode()

    def browser(self) -> Browser:
        """A browser that knows the services by their names, and nothing of anybody."""
        names = {name: self.address(service) for name, service in self.access.names.items() if service in self.services}
        return Browser(names, self.reach.transport(self.authority))

    def keycloak(self) -> Keycloak:
        """The identity provider's administration. Raises ControlPlaneProblem where there is none."""
        if self.access.provider is None:
            raise ControlPlaneProblem("No identity provider runs in this topology")
        url = f"http://{self.address(self.access.provider)}:{KEYCLOAK_PORT}"
        return Keycloak(url, self.secrets["KEYCLOAK_ADMIN_PASSWORD"], self.reach.transport())

    def issuer(self, provider: str) -> str:
        """The URL that a provider, a realm, is known by to everybody."""
        return f"{self.access.issuers}/realms/{provider}"

    def run(self, container_id: str, argv: Sequence[str], *, where: str) -> str:
        """Run a command that must succeed, and return what it printed. Raises ControlPlaneProblem."""
        try:
            return succeeded(self.engine.exec(container_id, argv), argv, where)
        except Refused as no:
            # What only asks, or prepares, says nothing about what the product would admit.
            raise ControlPlaneProblem(no.what, where=where, why=no.why) from no

    def wait_inside(self, machine: Machine, test: str, *, what: str, timeout_s: float) -> None:
        """Return once a shell command succeeds in a machine. Raises NotReady."""
        wait_inside(self.engine, machine.container_id, test, what=what, where=machine.name, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class ListedPeer:
    """A peer as the control plane lists it: `address` in the overlay, `routes` it serves to others, `owner` the id of
    the user it belongs to."""

    id: str
    name: str
    address: IPv4Address
    online: bool
    routes: tuple[IPv4Network, ...] = ()
    expired: bool = False
    owner: str = ""


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user as the control plane lists it: `called` is the name that people read, `source` where it comes from.

    One that is `pending` waits for an administrator.
    """

    id: str
    name: str
    email: str
    called: str
    source: str = ""
    pending: bool = False

    def is_person(self, person: Person) -> bool:
        return person.email == self.email or person.name == self.name


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A peer as its own client sees it: whether it is connected, the prefixes it would send into the overlay,
    and the other peers it knows of."""

    connected: bool
    address: IPv4Address | None
    routes: tuple[IPv4Network, ...]
    knows: tuple[IPv4Address, ...] = ()


class Path(StrEnum):
    """How two peers' packets travel."""

    DIRECT = "direct"
    RELAYED = "relayed"
    NONE = "none"


class Ability(StrEnum):
    """What one product has and the other may lack. A driver that lacks one says why, in `lacks`."""

    APPROVALS = "approvals"
    RESOURCES = "resources"
    ROUTE_MODELS = "route models"
    SIGNAL = "signal service"
    RELAY = "relay service"
    AUDIT = "audit trail"
    EXPIRY = "expiry by the operator"
    PROVIDER = "identity provider"
    LOCAL_USERS = "users with a password"
    USER_APPROVAL = "approval of users"
    SIGN_IN_FILTERS = "filters for who signs in"


@dataclass(frozen=True, slots=True)
class Route:
    """A LAN called `name` with `prefix`, reached through the peer `via`, for the peers in `consumers`.

    `model` is network or route where the product has both ways.
    """

    name: str
    prefix: IPv4Network
    via: Machine
    consumers: tuple[Machine, ...] = ()
    model: str = "network"


@dataclass(frozen=True, slots=True)
class Rule:
    """Peers of `source` may open connections to peers of `target`, on TCP `ports` or with any traffic.

    Both are users or groups.
    """

    source: str
    target: str
    ports: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        ports = f" on {', '.join(map(str, self.ports))}" if self.ports else ""
        return f"{self.source} to {self.target}{ports}"


@dataclass(frozen=True, slots=True)
class Resource:
    """What a router makes reachable: `address` is an IPv4 address, a prefix, or a domain name."""

    name: str
    address: str
    via: Machine


class Enrolment(Protocol):
    """From an empty server to joined peers, and the life of a peer after that."""

    def bootstrap(self) -> Mapping[str, str]:
        """Take the empty server to administrator credentials, and return them for the lab's own files."""

    def resume(self, credentials: Mapping[str, str]) -> None:
        """Use the credentials of an earlier bootstrap."""

    def add_user(self, user: str) -> None:
        """Make a user, and what the user's peers need to join."""

    def make_key(self, name: str, user: str, *, one_off: bool, lasts_s: float) -> None:
        """Make a key called `name` that enrols peers of an existing user, once or often, until it expires."""

    def peer_container(self, peer: Peer, image: str, settings: Settings) -> Container:
        """The container a peer of this product runs in, with the least capabilities that work; not yet attached."""

    def wait_for_daemon(self, peer: Machine) -> None:
        """Return when the client's daemon takes commands. Raises NotReady."""

    def join(self, peer: Peer, machine: Machine, key: str = "", timeout_s: float = JOIN_S) -> None:
        """Enrol a peer whose daemon runs, by the user's own key or the one called `key`.

        Raises ControlPlaneProblem with the client's own words.
        """

    def reconnect(self, machine: Machine) -> None:
        """An enrolled peer leaves the mesh and comes back, by its own client. Raises ControlPlaneProblem."""

    def configure(self, settings: Settings) -> None:
        """Change what the product is set to while it runs, with whatever that costs; None leaves a setting as it is."""

    def listed(self) -> tuple[ListedPeer, ...]:
        """All peers the control plane knows, by its own API."""

    def status(self, machine: Machine) -> PeerStatus:
        """The client's own view."""

    def remove_peer(self, peer: str) -> None:
        """Delete the peer at the server."""

    def rename_peer(self, peer: str, name: str) -> None:
        """Give the peer another name at the server."""


class Routes(Protocol):
    """A LAN behind a router, for named consumers."""

    def publish_route(self, route: Route) -> None:
        """Make the prefix reachable through its router for its consumers, with all that the product needs for it."""

    def withdraw_route(self, route: Route) -> None:
        """Undo publish_route: the prefix is no longer offered to anybody through this router."""


@runtime_checkable
class Approvals(Protocol):
    """Routes in three steps: the router advertises, the server approves, the consumer accepts."""

    def advertise_routes(self, router: Machine, prefixes: Iterable[IPv4Network]) -> None: ...

    def approve_routes(self, router: Machine, prefixes: Iterable[IPv4Network]) -> None:
        """Approve exactly these; what was approved before and is not among them no longer is."""

    def accept_routes(self, consumer: Machine) -> None: ...

    def auto_approve(self, prefixes: Iterable[IPv4Network], user: str) -> None:
        """From now on what peers of `user` advertise within these prefixes needs no approval."""


@runtime_checkable
class Resources(Protocol):
    """Single addresses, prefixes and domains behind a routing peer, closed until a policy opens them."""

    def add_resource(self, resource: Resource) -> None: ...

    def allow_resource(self, name: str, source: str, ports: tuple[int, ...]) -> None:
        """Let peers of a user or group reach a resource, on these TCP ports or with any traffic."""

    def remove_resource(self, name: str) -> None: ...


class Exits(Protocol):
    """All other traffic leaves through a peer."""

    def offer_exit(self, via: Machine, consumers: Iterable[Machine]) -> None:
        """Let these peers leave through `via`; none does before it chooses to."""

    def withdraw_exit(self, via: Machine) -> None: ...

    def exit_offered(self, on: Machine, via: Machine) -> bool:
        """Whether the peer `on` could choose `via`, by its own client."""

    def choose_exit(self, on: Machine, via: Machine, *, lan_access: bool) -> None:
        """Raises NotReady when the exit is not offered."""

    def leave_exit(self, on: Machine) -> None: ...


class Names(Protocol):
    """Names for addresses, and who answers for a domain."""

    @property
    def peer_domain(self) -> str:
        """Peers are called NAME.peer_domain."""

    def set_record(self, name: str, address: IPv4Address) -> None:
        """`name`, fully qualified, means this address from now on, on every peer."""

    def remove_record(self, name: str) -> None: ...

    def split_dns(self, domain: str, server: IPv4Address) -> None:
        """Peers ask `server` about names in `domain`, and only about those."""

    def drop_split_dns(self, domain: str) -> None: ...


class Policy(Protocol):
    """Who may reach what. Both products admit everything between peers until told otherwise."""

    def deny_all(self) -> None:
        """Nothing is admitted any more but what `allow` admits."""

    def allow(self, rule: Rule) -> None: ...

    def revoke(self, rule: Rule) -> None:
        """Undo an `allow`."""

    def allow_exit(self, source: str, via: str) -> None:
        """Let peers of the user `source` leave through exits of the user `via`."""

    def set_group(self, name: str, users: Iterable[str]) -> None:
        """The group consists of the peers of these users, and no others."""


class Paths(Protocol):
    """Direct or relayed."""

    def path(self, source: Machine, target: Machine) -> Path:
        """How `source` reaches `target` now, by its own client; asking sends a packet so that there is a path."""

    def relayed_bytes(self) -> int:
        """What the relay has sent since it started, by its own counter or its container's interface."""


class Identity(Protocol):
    """People, and how they bring their machines in."""

    def sign_in(self, peer: Peer, machine: Machine, person: Person, provider: str, timeout_s: float) -> None:
        """Somebody signs in at `machine`, at the named provider or as the product's own user; again if need be.

        Raises Refused with what the person, or the client, was told.
        """

    def users(self) -> tuple[ListedUser, ...]: ...

    def remove_user(self, user: ListedUser) -> None: ...

    def remove_user_with_peers(self, user: ListedUser) -> None:
        """The user and all of its peers, with whatever the product needs for that."""

    def add_provider(self, provider: str) -> None:
        """From now on people sign in at this provider too. Raises Refused, with all as it was before."""

    def switch_provider(self, provider: str) -> None:
        """From now on people sign in at this provider, and at no other."""

    def allow_provider_group(self, group: str, target: str) -> None:
        """Let whoever is in a provider's group reach peers of `target`. Raises Refused."""


@runtime_checkable
class LocalUsers(Protocol):
    """Users whose password the product itself keeps."""

    def add_local_user(self, person: Person) -> None: ...

    def invite_user(self, person: Person) -> None:
        """An administrator invites, and the person accepts with a password of their own."""


@runtime_checkable
class UserApproval(Protocol):
    def approve_user(self, person: Person) -> None:
        """Whoever waits for an administrator does so no more."""


@dataclass(frozen=True, slots=True)
class SignInFilter:
    """Who may sign in: all that is said has to hold. `verified`: only with an e-mail address that is verified."""

    domains: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    verified: bool = True


@runtime_checkable
class SignInFilters(Protocol):
    def restrict_sign_in(self, allowed: SignInFilter) -> None: ...


@runtime_checkable
class Expiry(Protocol):
    def expire_peer(self, peer: str) -> None:
        """The peer has to be authorised anew."""


@runtime_checkable
class Audit(Protocol):
    def events(self) -> tuple[str, ...]:
        """What was changed and by whom, oldest first: ACTIVITY by INITIATOR."""


class ControlPlane(Enrolment, Routes, Exits, Names, Policy, Paths, Identity, Protocol):
    """Everything a scenario can ask of both products. What only one has is a Protocol of its own."""

    @property
    def product(self) -> Product: ...

    @property
    def lacks(self) -> Mapping[Ability, str]:
        """What the product does not have, and in one sentence why."""

    @property
    def parts(self) -> Mapping[str, str]:
        """The service behind each part: control-plane, and signal and relay where they are services of their own."""

    @property
    def api_service(self) -> str:
        """The service that an administrator speaks to."""

    @property
    def first_contact_s(self) -> float:
        """How long, at most, the first contact of two peers takes at the product's defaults."""

    @property
    def resettle_s(self) -> float:
        """How long, at most, clients take to find their control plane again after it was away."""


def command(context: Context, machine: Machine, argv: Sequence[str], scope: Scope) -> str:
    """Run an operator's command on a machine: in the journal once it has succeeded. Raises Refused."""
    output = succeeded(context.engine.exec(machine.container_id, argv), argv, machine.name)
    context.journal.record(Kind.COMMAND, scope, machine.name, " ".join(argv))
    return output


def command_with_secret(
    context: Context, machine: Machine, argv: Sequence[str], scope: Scope, path: str, secret: str
) -> None:
    """The same for a command that reads a secret from the file `path`, which is written first, for its owner only.

    The secret travels as standard input: it never stands among a command's arguments.
    """
    store = 'umask 077; mkdir -p "${0%/*}"; cat >"$0"; exec "$@"'
    result = context.engine.exec(machine.container_id, ["sh", "-c", store, path, *argv], secret.encode())
    succeeded(result, argv, machine.name)
    context.journal.record(Kind.COMMAND, scope, machine.name, " ".join(argv))


_INTERACTIVE = (
    'mkdir -p "${0%/*}"; : >"$0"; { "$@" & echo $! >"$0.pid"; wait $!; echo "ended with $?"; } >"$0" 2>&1 </dev/null &'
)
_LOG = "/run/mesh-labs/sign-in.log"
# Of what clients print, the URL where somebody signs in: Headscale's registration, or a device flow's page (RFC 8628).
_URL = re.compile(r"https?://\S+(?:/register/|/device\?)\S+")
_ENDED = re.compile(r"^ended with (\d+)$", re.MULTILINE)


def interactive(
    context: Context, machine: Machine, argv: Sequence[str], visit: Callable[[str], object], timeout_s: float
) -> None:
    """Run a command that shows a URL and waits for somebody to sign in there, which is what `visit` does.

    In the journal once it has succeeded. Raises Refused, and what `visit` raises; then the command is ended.
    """
    where = machine.name
    context.run(machine.container_id, ["sh", "-c", _INTERACTIVE, _LOG, *argv], where=where)

    def said() -> str:
        return context.run(machine.container_id, ["cat", _LOG], where=where)

    def wait_for(pattern: re.Pattern[str], what: str) -> str:
        return until(
            context.clock,
            said,
            lambda text: bool(pattern.search(text) or _ENDED.search(text)),
            what=what,
            timeout_s=timeout_s,
            where=where,
            show=lambda text: text.strip()[-400:],
            poll_s=SIGN_IN_POLL_S,
        )

    try:
        shown = _URL.search(wait_for(_URL, f"A URL from `{argv[0]} {argv[1]}`"))
        if shown:
            visit(shown[0])
        output = wait_for(_ENDED, f"The end of `{argv[0]} {argv[1]}`")
    except LabsError:
        context.engine.exec(machine.container_id, ["sh", "-c", 'kill "$(cat "$0.pid")"', _LOG])
        raise
    code = int(_ENDED.findall(output)[-1])
    succeeded(ExecResult(code, output.rpartition("ended with")[0], ""), argv, where)
    context.journal.record(Kind.COMMAND, Scope.PEER, machine.name, " ".join(argv))


def edit(context: Context, machine: Machine, path: str, content: str, scope: Scope, subject: str) -> None:
    """Replace a configuration file, as an operator edits it."""
    context.engine.copy_in(machine.container_id, [File(path, content.encode())])
    context.journal.record(Kind.EDIT, scope, subject, f"{machine.name}: {path}")


def sent_bytes(context: Context, machine: Machine) -> int:
    """What a container has sent on all its networks, by the engine's statistics. Raises ControlPlaneProblem."""
    networks = context.engine.stats(machine.container_id).get("networks")
    if not isinstance(networks, Mapping):
        raise ControlPlaneProblem("The engine counts no network traffic", where=machine.name)
    return sum(int(counters["tx_bytes"]) for counters in networks.values())


def restart(context: Context, machine: Machine, ready: Ready) -> None:
    """Restart a service and wait until it serves again. Raises NotReady, and Refused when it ends instead."""
    context.engine.stop(machine.container_id)
    context.engine.start(machine.container_id)
    context.journal.record(Kind.RESTART, Scope.LAB, machine.name, f"restart {machine.name}")

    def wrong() -> str:
        if context.engine.inspect(machine.container_id).state is not State.RUNNING:
            words = context.engine.logs(machine.container_id, tail=3).strip()
            raise Refused(f"The service {machine.name} does not start", where=machine.name, why=words[-400:])
        return serves(context.reach.dial_once_open, context.address(machine.name), ready)

    until(
        context.clock,
        wrong,
        lambda seen: not seen,
        what=f"The service {machine.name}",
        timeout_s=SERVICE_READY_S,
        where=machine.name,
    )


def succeeded(result: ExecResult, argv: Sequence[str], where: str) -> str:
    """The command's stdout. Raises Refused with its last words."""
    if not result.ok:
        words = (result.stderr.strip() or result.stdout.strip())[-400:]
        raise Refused(f"`{' '.join(argv[:2])}` ended with exit code {result.exit_code}", where=where, why=words)
    return result.stdout
