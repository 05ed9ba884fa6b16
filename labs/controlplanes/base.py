"""The Protocols both products are driven through, one for each ability, and the values they exchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Protocol

from labs.engine import Engine, ExecResult
from labs.engine.waiting import wait_inside
from labs.errors import ControlPlaneProblem
from labs.journal import Journal, Kind, Scope
from labs.model import Container, Peer, Product
from labs.timing import Clock

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Machine:
    """One running container of a lab: its lab name, engine id, and address on each lab network."""

    name: str
    container_id: str
    addresses: Mapping[str, IPv4Address]


@dataclass(frozen=True, slots=True)
class Context:
    """What a driver works with. `secrets` are the topology's; `control` is the network where peers attach.

    `transport` replaces the direct connection to the control plane where its address cannot be reached.
    """

    engine: Engine
    clock: Clock
    journal: Journal
    services: Mapping[str, Machine]
    control: str = "control"
    transport: httpx.BaseTransport | None = None

    def address(self, service: str) -> IPv4Address:
        """Where a service listens. Raises ControlPlaneProblem when it does not run."""
        machine = self.services.get(service)
        if machine is None or self.control not in machine.addresses:
            raise ControlPlaneProblem("A service of the control plane does not run", where=service, hint="inv status")
        return machine.addresses[self.control]

    def run(self, container_id: str, argv: Sequence[str], *, where: str) -> str:
        """Run a command that must succeed, and return what it printed. Raises ControlPlaneProblem."""
        return succeeded(self.engine.exec(container_id, argv), argv, where)

    def wait_inside(self, machine: Machine, test: str, *, what: str, timeout_s: float) -> None:
        """Return once a shell command succeeds in a machine. Raises NotReady."""
        wait_inside(self.engine, machine.container_id, test, what=what, where=machine.name, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class ListedPeer:
    """A peer as the control plane lists it: `address` in the overlay, `routes` it serves to others."""

    id: str
    name: str
    address: IPv4Address
    online: bool
    routes: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A peer as its own client sees it: whether it is connected, and the prefixes it would send into the overlay."""

    connected: bool
    address: IPv4Address | None
    routes: tuple[IPv4Network, ...]


class Enrolment(Protocol):
    """From an empty server to joined peers."""

    def bootstrap(self) -> Mapping[str, str]:
        """Take the empty server to administrator credentials, and return them for the lab's own files."""

    def resume(self, credentials: Mapping[str, str]) -> None:
        """Use the credentials of an earlier bootstrap."""

    def add_user(self, user: str) -> None:
        """Make a user, and what the user's peers need to join."""

    def peer_container(self, peer: Peer, image: str) -> Container:
        """The container a peer of this product runs in, with the least capabilities that work; not yet attached."""

    def wait_for_daemon(self, peer: Machine) -> None:
        """Return when the client's daemon takes commands. Raises NotReady."""

    def join(self, peer: Peer, machine: Machine) -> None:
        """Enrol a peer whose daemon runs. Raises ControlPlaneProblem with the client's own words."""

    def listed(self) -> tuple[ListedPeer, ...]:
        """All peers the control plane knows, by its own API."""

    def status(self, machine: Machine) -> PeerStatus:
        """The client's own view."""


@dataclass(frozen=True, slots=True)
class Route:
    """A LAN called `name` with `prefix`, reached through the peer `via`, for the peers in `consumers`."""

    name: str
    prefix: IPv4Network
    via: Machine
    consumers: tuple[Machine, ...] = ()


class Routes(Protocol):
    """A LAN behind a router, for named consumers."""

    def publish_route(self, route: Route) -> None:
        """Make the prefix reachable through its router for its consumers, with all that the product needs for it."""

    def withdraw_route(self, route: Route) -> None:
        """Undo publish_route: the prefix is no longer offered to anybody through this router."""


class ControlPlane(Enrolment, Routes, Protocol):
    """Everything a scenario can ask of a product."""

    @property
    def product(self) -> Product: ...

    @property
    def api_service(self) -> str:
        """The service that an administrator speaks to."""

    @property
    def first_contact_s(self) -> float:
        """How long, at most, the first contact of two peers takes at the product's defaults."""


def command(context: Context, machine: Machine, argv: Sequence[str], scope: Scope) -> str:
    """Run an operator's command on a machine: in the journal once it has succeeded. Raises ControlPlaneProblem."""
    output = context.run(machine.container_id, argv, where=machine.name)
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


def succeeded(result: ExecResult, argv: Sequence[str], where: str) -> str:
    """The command's stdout. Raises ControlPlaneProblem with its last words."""
    if not result.ok:
        words = (result.stderr.strip() or result.stdout.strip())[-400:]
        raise ControlPlaneProblem(
            f"`{' '.join(argv[:2])}` ended with exit code {result.exit_code}", where=where, why=words
        )
    return result.stdout
