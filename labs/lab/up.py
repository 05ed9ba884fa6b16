"""From a topology and an inventory to a running lab: everything that can happen at once does.

Services, peers and hosts are made side by side. A peer's container starts while the control plane
does; only joining waits for the administrator's credentials. When anything fails, or the user
stops it, all that this run made is removed again.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeVar

from labs.controlplanes import (
    DIRECT,
    Context,
    ControlPlane,
    Machine,
    Reach,
    Through,
    control_plane,
    service_environment,
)
from labs.controlplanes.identity.people import populate
from labs.controlplanes.ready import Dial, serves
from labs.engine import Engine, NetworkInfo, State
from labs.engine.waiting import wait_inside
from labs.errors import AddressInUse, Interrupted, LabsError, NotReady
from labs.images import ensure
from labs.journal import Journal
from labs.lab import labels
from labs.lab.addresses import allocate, host_routes, is_routed
from labs.lab.files import LabFiles
from labs.lab.lab import WAY_IN, WEB, Lab, find, format_ready
from labs.lab.plan import TOOLBOX_VARIABLE, Plan
from labs.lab.removal import remove
from labs.lab.transit import route_out
from labs.model import (
    Attachment,
    Container,
    File,
    Host,
    Inventory,
    Lan,
    Network,
    Peer,
    Person,
    Product,
    Ready,
    Role,
    Service,
    Settings,
    Topology,
)
from labs.timing import HOST_READY_S, PEERS_LISTED_S, SERVICE_READY_S, SystemClock, until

# More than the machine has cores: nearly all of the time is spent waiting for the engine and the products.
_WORKERS = 16
_LIFETIME = timedelta(days=1)
_ABANDON_POLL_S = 0.2
_UPPER_HALF = 128
_LAST = -2  # the last address but the broadcast one: no peer of a hundred gets there
# One web server for each port, or none; the container lives until it is removed.
_SERVE = 'for port; do httpd -p "$port" -h /srv/www || exit 1; done; trap "exit 0" TERM; sleep 2147483647 & wait'
_TRUSTED = "/etc/ssl/certs/mesh-labs-authority.pem"
_COREFILE = "/etc/coredns/Corefile"
_CORE = """. {{
  hosts {{
    {records}
  }}
  errors
  log
}}
"""

_Result = TypeVar("_Result")


def _password() -> str:
    """One that every rule about letters, digits and signs admits."""
    return f"{secrets.token_urlsafe(18)}aA1!"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that has happened to a part of the lab, for whoever shows progress."""

    subject: str
    what: str
    at_s: float


OnStep = Callable[[Step], None]


def up(
    plan: Plan,
    engine: Engine,
    clock: SystemClock,
    on_step: OnStep,
    *,
    keep: bool = False,
    drive: Callable[[Product, Context], ControlPlane] = control_plane,
    check: Callable[[Dial, IPv4Address, Ready], str] = serves,
    settle_people: Callable[[Context, Inventory], None] = populate,
    routed: Callable[[IPv4Network], bool] = is_routed,
) -> Lab:
    """Start a lab and return it when every service serves and the control plane lists every peer as connected.

    `drive`, `check`, `settle_people` and `routed` are the seams for tests: the control plane's driver, asking whether
    a service serves, making people known to their provider, and whether this host reaches a network directly.
    On any failure, KeyboardInterrupt included, removes what it made, unless `keep`. Raises what went
    wrong: NotReady, ControlPlaneProblem, EngineProblem, Interrupted; Leftovers when removing failed too.
    """
    run = _Run(plan, engine, clock, on_step, drive, check, settle_people, routed)
    try:
        run.build()
    except BaseException as problem:
        run.abandon(keep=keep)
        if isinstance(problem, KeyboardInterrupt):
            kept = f"what was made is kept: inv down {plan.name}" if keep else "what was made is removed again"
            raise Interrupted(f"Stopped while lab {plan.name} was starting", why=kept) from problem
        raise
    return find(engine, plan.name, clock)


@dataclass
class _Run:
    """One `up`: what is under way, and what waits for what. A task only waits for tasks submitted before it."""

    plan: Plan
    engine: Engine
    clock: SystemClock
    on_step: OnStep
    drive: Callable[[Product, Context], ControlPlane]
    check: Callable[[Dial, IPv4Address, Ready], str]
    settle_people: Callable[[Context, Inventory], None]
    routed: Callable[[IPv4Network], bool]
    run_id: str = field(default_factory=lambda: secrets.token_hex(4))
    networks: dict[str, NetworkInfo] = field(default_factory=dict)
    tasks: list[Future[Any]] = field(default_factory=list)
    services: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    tuned_environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="up")
        self.begin_s = self.clock.now()
        self.files = LabFiles.of(self.run_id)
        self.created = datetime.now(UTC).replace(microsecond=0)

    def build(self) -> None:
        self.files.create(self.plan.name, self.engine.endpoint)
        journal = Journal(self.clock.now, self.files.journal)
        topology = self._allocate()
        self.services = tuple(service.name for service in topology.services)
        self.reach = self._go(self._way)
        peers, hosts = self.plan.inventory.peers, self.plan.inventory.hosts
        self.tuned_environment = service_environment(topology.product, self.plan.inventory.settings)
        self.secrets = {**topology.secrets, **{f"person {person.name}": _password() for person in self._people}}
        services: dict[str, Future[Machine]] = {}
        for name in TopologicalSorter({one.name: one.waits_for for one in topology.services}).static_order():
            service = topology.service(name)
            first = [services[other] for other in service.waits_for]
            services[name] = self._go(self._service, service, topology, first)
        driver = self.drive(topology.product, self._context(journal, {}))
        plane = self._go(self._bootstrap, self._spoken_to(services, driver.api_service), journal)
        trusted = self._go(self._authority, services)
        users = {user: self._go(self._user, user, plane) for user in sorted({peer.user for peer in peers} - {""})}
        for peer in peers:
            self._go(self._peer, peer, driver, plane, users.get(peer.user), trusted)
        for host in hosts:
            self._go(self._host, host)
        self._finish()
        self._peers_listed(plane.result())
        self.pool.shutdown()

    def abandon(self, *, keep: bool) -> None:
        """End every task, and unless `keep` remove what this run made. A task may sit in a long command
        inside a container; removing the container is what ends it."""
        self.clock.stop()
        self.pool.shutdown(wait=keep, cancel_futures=True)
        if keep:
            return
        marks = {labels.RUN: self.run_id, labels.LAB: self.plan.name}
        while any(task.running() for task in self.tasks):
            with suppress(LabsError):
                remove(self.engine, marks)
            wait(self.tasks, timeout=_ABANDON_POLL_S)
        remove(self.engine, marks)
        self.files.remove()

    def _allocate(self) -> Topology:
        """Give every network a prefix of its own, the control plane's first: its configuration names addresses."""
        subnets = {name: self._network(name) for name in self.plan.control_networks}
        topology = self.plan.topology(subnets)
        for lan in self.plan.inventory.networks:
            self._network(lan.name, public=lan.public, transit=lan.transit)
        for name in topology.volumes:
            self.engine.create_volume(self._engine_name(name), self._labels(name))
        return topology

    def _network(self, name: str, *, public: bool = False, transit: bool = False) -> IPv4Network:
        """Another lab may take the same prefix between looking and asking; the engine decides who was first."""
        taken = [subnet for network in self.engine.networks() for subnet in network.subnets] + list(host_routes())
        while True:
            subnet = allocate(taken, random.SystemRandom(), public=public)
            network = Network(name, subnet, transit)
            try:
                made = self.engine.create_network(network, self._engine_name(name), self._labels(name))
            except AddressInUse:
                taken.append(subnet)
                continue
            self.networks[name] = made
            return subnet

    def _way(self) -> Reach:
        """To the control network from here: a helper that stands on it is started only where there is no route."""
        subnet = self.networks[self.plan.control].subnets[0]
        if self.routed(subnet):
            return DIRECT
        image = (
            self.plan.images.get(TOOLBOX_VARIABLE)
            or ensure(self.engine, [TOOLBOX_VARIABLE], lambda event: self._say(f"image {event.image}", event.phase))[
                TOOLBOX_VARIABLE
            ]
        )
        spec = Container(
            name=WAY_IN,
            image=image,
            command=("sh", "-c", _SERVE),
            attachments=(Attachment(self.plan.control, subnet[_LAST]),),
            cap_drop=("ALL",),
            security_opt=("no-new-privileges",),
        )
        machine = self._start(spec, {labels.ROLE: Role.HELPER})
        # Podman makes a network's bridge, and with it the route, when the first container starts there.
        if self.routed(subnet):
            self.engine.remove(machine.container_id)
            return DIRECT
        self._say("control network", "is reached through a helper")
        return Through(self.engine, machine.container_id)

    def _service(self, service: Service, topology: Topology, first: Iterable[Future[Machine]]) -> Machine:
        for other in first:
            other.result()
        spec = service.container
        places = tuple(
            place if place.address else replace(self._place(service.name, place.network), aliases=place.aliases)
            for place in spec.attachments
        )
        tuned = self.tuned_environment.get(service.name, {})
        spec = replace(spec, attachments=places, environment={**spec.environment, **tuned})
        marks = {
            labels.ROLE: Role.SERVICE,
            labels.READY: format_ready(service.ready),
            labels.STAND_IN: service.stand_in or "",
        }
        machine = self._start(spec, marks, volumes=topology.volumes)
        if service.ready is not None:
            self._serving(machine, machine.addresses[topology.control], service.ready)
        self._say(service.name, "serves")
        return machine

    def _spoken_to(self, services: Mapping[str, Future[Machine]], api_service: str) -> dict[str, Future[Machine]]:
        """Those that an administrator speaks to, in person or on the way. The others come up meanwhile."""
        access = self.plan.access
        named = {api_service, access.provider, access.authority[0] if access.authority else None}
        return {name: machine for name, machine in services.items() if name in named}

    def _bootstrap(self, services: Mapping[str, Future[Machine]], journal: Journal) -> ControlPlane:
        machines = {name: machine.result() for name, machine in services.items()}
        context = self._context(journal, machines, self.reach.result())
        plane = self.drive(self.plan.product, context)
        inventory = self.plan.inventory
        self.files.write_credentials({**self.secrets, **plane.bootstrap()})
        if inventory.settings.user_approval is not None:
            plane.configure(Settings(user_approval=inventory.settings.user_approval))
        self._say("control plane", "has an administrator")
        if self.plan.access.provider is not None:
            self.settle_people(context, inventory)
            self._say(self.plan.access.provider, f"knows {len(inventory.people)} people")
        return plane

    def _authority(self, services: Mapping[str, Future[Machine]]) -> tuple[File, ...]:
        """The certificate that peers trust, as a file among the system's own."""
        authority = self.plan.access.authority
        if authority is None:
            return ()
        machine = services[authority[0]].result()
        return (File(_TRUSTED, self.engine.copy_out(machine.container_id, authority[1])),)

    @property
    def _people(self) -> tuple[Person, ...]:
        return self.plan.inventory.people

    def _context(self, journal: Journal, services: Mapping[str, Machine], reach: Reach = DIRECT) -> Context:
        access = self.plan.access
        return Context(self.engine, self.clock, journal, services, self.plan.control, access, self.secrets, reach)

    def _user(self, user: str, plane: Future[ControlPlane]) -> None:
        plane.result().add_user(user)

    def _peer(
        self,
        peer: Peer,
        driver: ControlPlane,
        plane: Future[ControlPlane],
        user: Future[None] | None,
        trusted: Future[tuple[File, ...]],
    ) -> None:
        spec = driver.peer_container(peer, self.plan.client_image, self.plan.inventory.settings)
        places = tuple(self._place(peer.name, network) for network in (self.plan.control, *peer.networks))
        # Docker would say ndots:0, and no machine outside of Docker does: short names would skip the search list.
        dns = (self._address_of(peer.resolver),) if peer.resolver else ()
        files = (*spec.files, *trusted.result())
        spec = replace(spec, attachments=places, dns=dns, dns_options=("ndots:1",), files=files)
        machine = self._start(spec, {labels.ROLE: Role.PEER, labels.USER: peer.user})
        self._route_out(machine, peer.networks)
        if peer.ports:
            self._web_server(f"{peer.name}{WEB}", peer.ports, shares_network_of=machine.container_id)
        driver.wait_for_daemon(machine)
        if not peer.joins:
            self._say(peer.name, "waits to join")
            return
        if user is not None:
            user.result()
        plane.result().join(peer, machine)
        self._say(peer.name, "joined")

    def _host(self, host: Host) -> None:
        networks = tuple(network for network, _ in host.places)
        if host.serves == "dns":
            machine = self._dns_server(host)
        else:
            ports = host.ports if host.serves == "http" else ()
            machine = self._web_server(host.name, ports, attachments=self._places(host), role=Role.HOST, host=host)
        self._route_out(machine, networks)
        self._say(host.name, f"serves {host.serves}" if host.serves else "runs")

    def _web_server(
        self,
        name: str,
        ports: tuple[int, ...],
        *,
        attachments: tuple[Attachment, ...] = (),
        shares_network_of: str | None = None,
        role: Role = Role.HELPER,
        host: Host | None = None,
    ) -> Machine:
        """A plain machine from the toolbox image, or a web server in a peer's network namespace."""
        transit = any(lan.transit and lan.name in {place.network for place in attachments} for lan in self._lans)
        spec = Container(
            name=name,
            image=self.plan.toolbox_image,
            command=("sh", "-c", _SERVE, "httpd", *map(str, ports)),
            files=self.plan.toolbox_files,
            attachments=attachments,
            shares_network_of=shares_network_of,
            cap_drop=("ALL",),
            # Only what stands on transit networks has routes to set.
            cap_add=("NET_ADMIN",) if transit else (),
            sysctls={"net.ipv4.ip_forward": "1"} if host and host.forwards else {},
            security_opt=("no-new-privileges",),
        )
        machine = self._start(spec, {labels.ROLE: role, labels.SERVES: "http" if ports else ""})
        if ports:
            what = f"The web server of {name}"
            test = " && ".join(f"wget -q -O /dev/null http://127.0.0.1:{port}/" for port in ports)
            wait_inside(self.engine, machine.container_id, test, what=what, where=name, timeout_s=HOST_READY_S)
        return machine

    def _dns_server(self, host: Host) -> Machine:
        records = [f"{self._address_of(target)} {name}" for name, target in host.records]
        spec = Container(
            name=host.name,
            image=self.plan.dns_image,
            command=("-conf", _COREFILE),
            files=(File(_COREFILE, _CORE.format(records="\n    ".join(records)).encode()),),
            attachments=self._places(host),
            cap_drop=("ALL",),
            # The official image's binary carries this capability, and does not start without it. Its user is not root
            # and gains none by it here, so port 53 has to be open to everybody (as current engines have it).
            cap_add=("NET_BIND_SERVICE",),
            sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
            security_opt=("no-new-privileges",),
        )
        machine = self._start(spec, {labels.ROLE: Role.HOST, labels.SERVES: "dns"})
        until(
            self.clock,
            lambda: self.engine.logs(machine.container_id),
            lambda log: "CoreDNS-" in log,
            what=f"The DNS server of {host.name}",
            timeout_s=HOST_READY_S,
            where=host.name,
        )
        return machine

    @property
    def _lans(self) -> tuple[Lan, ...]:
        return self.plan.inventory.networks

    def _address_of(self, host: str) -> IPv4Address:
        """Where a host stands on its first network; known before it runs."""
        network, offset = next(other.places[0] for other in self.plan.inventory.hosts if other.name == host)
        return self.networks[network].subnets[0][offset]

    def _places(self, host: Host) -> tuple[Attachment, ...]:
        return tuple(Attachment(name, self.networks[name].subnets[0][offset]) for name, offset in host.places)

    def _place(self, name: str, network: str) -> Attachment:
        """A fixed address in the network's upper half, so that a restart does not change it."""
        inventory = self.plan.inventory
        members = (*self.services, *(peer.name for peer in inventory.peers))
        address = self.networks[network].subnets[0][_UPPER_HALF + members.index(name)]
        return Attachment(network, address)

    def _route_out(self, machine: Machine, networks: Iterable[str]) -> None:
        prefixes = {name: network.subnets[0] for name, network in self.networks.items()}
        route_out(self.engine, machine, networks, self.plan.inventory, prefixes)

    def _start(self, spec: Container, marks: Mapping[str, str], volumes: Iterable[str] = ()) -> Machine:
        self.clock.wait(0)
        spec = replace(spec, labels={**spec.labels, **self._labels(spec.name), **{k: v for k, v in marks.items() if v}})
        networks = {name: network.id for name, network in self.networks.items()}
        names = {name: self._engine_name(name) for name in volumes}
        container_id = self.engine.create(spec, self._engine_name(spec.name), networks, names)
        self.clock.wait(0)
        self.engine.start(container_id)
        lab_names = {network.name: name for name, network in self.networks.items()}
        found = {} if spec.shares_network_of else self.engine.inspect(container_id).addresses
        self.clock.wait(0)
        return Machine(spec.name, container_id, {lab_names[name]: address for name, address in found.items()})

    def _peers_listed(self, plane: ControlPlane) -> None:
        expected = {peer.name for peer in self.plan.inventory.peers if peer.joins}
        until(
            self.clock,
            lambda: {peer.name for peer in plane.listed() if peer.online},
            expected.issubset,
            what="Every peer connected to the control plane",
            timeout_s=PEERS_LISTED_S,
            show=lambda seen: f"missing {', '.join(sorted(expected - seen))}",
            hint="inv peers",
        )

    def _finish(self) -> None:
        """Wait for every task, but no longer than the first failure."""
        done, _ = wait(self.tasks, return_when=FIRST_EXCEPTION)
        failures = [problem for task in self.tasks if task in done and (problem := task.exception())]
        # Those that waited for the one that failed failed with it; the first one submitted is the cause.
        if failures:
            raise failures[0]

    def _serving(self, machine: Machine, address: IPv4Address, ready: Ready) -> None:
        """Wait until a service serves; when it does not, or ends, its last words go into the error."""
        dial = self.reach.result().dial_once_open

        def wrong() -> str:
            seen = self.check(dial, address, ready)
            if seen and self.engine.inspect(machine.container_id).state is not State.RUNNING:
                raise NotReady(f"The service {machine.name} ended", where=machine.name, why=seen)
            return seen

        try:
            until(
                self.clock,
                wrong,
                lambda seen: not seen,
                what=f"The service {machine.name}",
                timeout_s=SERVICE_READY_S,
                where=machine.name,
            )
        except NotReady as problem:
            problem.why += "\n" + self.engine.logs(machine.container_id, tail=5)
            raise

    def _go(self, task: Callable[..., _Result], *arguments: object) -> Future[_Result]:
        future = self.pool.submit(task, *arguments)
        self.tasks.append(future)
        return future

    def _say(self, subject: str, what: str) -> None:
        self.on_step(Step(subject, what, self.clock.now() - self.begin_s))

    def _engine_name(self, name: str) -> str:
        return f"mesh-labs-{self.plan.name}-{name}"

    def _labels(self, name: str) -> dict[str, str]:
        return {
            labels.LAB: self.plan.name,
            labels.RUN: self.run_id,
            labels.NAME: name,
            labels.TOPOLOGY: self.plan.topology_name,
            labels.PRODUCT: self.plan.product,
            labels.CONTROL: self.plan.control,
            labels.OWNER: self.plan.owner,
            labels.SETTINGS: self.plan.settings,
            labels.CREATED: self.created.isoformat(),
            labels.EXPIRES: (self.created + _LIFETIME).isoformat(),
        }
