"""A running lab, found again from labels alone: who is in it, where, and how to ask its control plane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network

from labs.controlplanes import DIRECT, Context, ControlPlane, Machine, Reach, Through, control_plane
from labs.engine import ContainerInfo, Engine, NetworkInfo, State
from labs.errors import LabConflict, NotFound, UsageError
from labs.journal import Journal
from labs.lab import labels
from labs.lab.files import LabFiles, records
from labs.lab.plan import access_of
from labs.model import Product, Ready, Role
from labs.timing import Clock
from labs.words import nearest

WEB = "-web"  # what the name of a peer's web server ends in
WAY_IN = "way_in"  # the helper on the control network; no peer or host can be called that
_GONE = "only its files are here: the engine was replaced, or the lab removed by other means"


@dataclass(frozen=True, slots=True)
class Member:
    """One container of a lab. `ready` is set for services, `user` for peers, `serves` for hosts."""

    machine: Machine
    role: Role
    state: State
    image: str
    user: str = ""
    serves: str = ""
    stand_in: str = ""
    ready: Ready | None = None

    @property
    def name(self) -> str:
        return self.machine.name


@dataclass(frozen=True)
class Lab:
    """A lab by name. `networks` maps lab network names to their prefixes."""

    name: str
    run_id: str
    topology: str
    product: Product
    control: str
    owner: str
    settings: str
    created: str
    expires: str
    engine: Engine = field(compare=False, repr=False)
    clock: Clock = field(compare=False, repr=False)
    members: Mapping[str, Member]
    networks: Mapping[str, IPv4Network]

    def with_role(self, role: Role) -> tuple[Member, ...]:
        return tuple(member for member in self.members.values() if member.role is role)

    def member(self, name: str) -> Member:
        """Raises UsageError with the nearest name there is."""
        if name not in self.members:
            raise UsageError(
                f"Lab {self.name} has no container called {name}", hint=nearest(name, self.members, "inv status")
            )
        return self.members[name]

    def machine(self, name: str) -> Machine:
        return self.member(name).machine

    @cached_property
    def files(self) -> LabFiles:
        return LabFiles.of(self.run_id)

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.clock.now, self.files.journal)

    @cached_property
    def control_plane(self) -> ControlPlane:
        """The product's driver, with the credentials of `up`. Raises NotFound when this machine has none."""
        driver = control_plane(self.product, self.context)
        credentials = self.files.credentials()
        if credentials is None:
            raise NotFound(
                "This machine has no credentials for the lab",
                where=str(self.files.folder),
                why="they are kept only where the lab was started",
                hint=f"inv down {self.name}, then inv up again",
            )
        driver.resume(credentials)
        return driver

    @property
    def reach(self) -> Reach:
        """The way that `up` found: through the helper where it started one."""
        if WAY_IN in self.members:
            return Through(self.engine, self.machine(WAY_IN).container_id)
        return DIRECT

    @property
    def context(self) -> Context:
        services = {member.name: member.machine for member in self.with_role(Role.SERVICE)}
        secrets = self.files.credentials() or {}
        access = access_of(self.topology)
        return Context(self.engine, self.clock, self.journal, services, self.control, access, secrets, self.reach)


@dataclass(frozen=True, slots=True)
class Remains:
    """What has a lab's name and is no lab: `why` says what it is instead. `inv down` removes it."""

    name: str
    containers: int
    why: str


def find(engine: Engine, name: str, clock: Clock) -> Lab:
    """The lab called `name`. Raises UsageError naming the nearest lab there is, LabConflict for what is no lab."""
    marks = {labels.LAB: name}
    containers, networks = engine.containers(marks), engine.networks(marks)
    if not containers:
        raise _absent(engine, name)
    return _assemble(engine, clock, containers, networks)


def find_all(engine: Engine, clock: Clock) -> tuple[Lab, ...]:
    """Every lab on the engine, by name; half-made and half-removed ones too, as long as one container is left."""
    return survey(engine, clock)[0]


def survey(engine: Engine, clock: Clock) -> tuple[tuple[Lab, ...], tuple[Remains, ...]]:
    """Every lab on the engine, and all that is left of others: another version's, networks alone, files alone."""
    marks = {labels.LAB: ""}
    networks = engine.networks(marks)
    groups: dict[str, list[ContainerInfo]] = {network.labels[labels.LAB]: [] for network in networks}
    for container in engine.containers(marks):
        groups.setdefault(container.labels[labels.LAB], []).append(container)
    labs, remains = [], []
    for name in sorted(groups):
        try:
            own = [network for network in networks if network.labels[labels.LAB] == name]
            labs.append(_assemble(engine, clock, groups[name], own))
        except LabConflict as conflict:
            remains.append(Remains(name, len(groups[name]), conflict.why))
    gone = {record.name for record in records() if record.engine == engine.endpoint} - set(groups)
    return tuple(labs), (*remains, *(Remains(name, 0, _GONE) for name in sorted(gone)))


def _absent(engine: Engine, name: str) -> UsageError:
    """That there is no such lab; this machine's own files may tell where it is, or was."""
    for record in records():
        if record.name == name and record.engine == engine.endpoint:
            what = f"Lab {name} is no longer on the engine"
            return UsageError(what, where=engine.endpoint, why=_GONE, hint=f"inv down {name} removes its files")
        if record.name == name:
            what = f"There is no lab called {name} on this engine"
            hint = f"it was started on another one: --engine {record.engine}"
            return UsageError(what, where=engine.endpoint, hint=hint)
    names = {thing.labels[labels.LAB] for thing in engine.containers({labels.LAB: ""})}
    return UsageError(f"There is no lab called {name}", hint=nearest(name, names, "inv list, or inv up TOPOLOGY"))


def _assemble(
    engine: Engine, clock: Clock, containers: Sequence[ContainerInfo], networks: Sequence[NetworkInfo]
) -> Lab:
    """Raises LabConflict when the labels are not those that this version writes."""
    name = next(marks[labels.LAB] for marks in [thing.labels for thing in containers or networks])
    if not containers:
        raise LabConflict(f"Lab {name} is only half there", why="only its networks are left", hint=f"inv down {name}")
    try:
        return _read(engine, clock, containers, networks)
    except (KeyError, ValueError) as problem:
        lacking = f"no label {problem.args[0]}" if isinstance(problem, KeyError) else str(problem)
        raise LabConflict(
            f"Lab {name} was made by another version of mesh-labs",
            why=f"another version's: {lacking}",
            hint=f"use that version, or inv down {name}",
        ) from problem


def _read(engine: Engine, clock: Clock, containers: Iterable[ContainerInfo], networks: Iterable[NetworkInfo]) -> Lab:
    containers = sorted(containers, key=lambda container: container.labels[labels.NAME])
    lab_names = {network.name: network.labels[labels.NAME] for network in networks}
    marks = containers[0].labels
    return Lab(
        name=marks[labels.LAB],
        run_id=marks[labels.RUN],
        topology=marks[labels.TOPOLOGY],
        product=Product(marks[labels.PRODUCT]),
        control=marks[labels.CONTROL],
        owner=marks[labels.OWNER],
        settings=marks[labels.SETTINGS],
        created=marks[labels.CREATED],
        expires=marks[labels.EXPIRES],
        engine=engine,
        clock=clock,
        members={member.name: member for member in (_member(container, lab_names) for container in containers)},
        networks={network.labels[labels.NAME]: network.subnets[0] for network in networks if network.subnets},
    )


def _member(container: ContainerInfo, lab_names: Mapping[str, str]) -> Member:
    marks = container.labels
    addresses = {lab_names.get(network, network): address for network, address in container.addresses.items()}
    return Member(
        machine=Machine(marks[labels.NAME], container.id, addresses),
        role=Role(marks[labels.ROLE]),
        state=container.state,
        image=container.image,
        user=marks.get(labels.USER, ""),
        serves=marks.get(labels.SERVES, ""),
        stand_in=marks.get(labels.STAND_IN, ""),
        ready=parse_ready(marks.get(labels.READY, "")),
    )


def format_ready(ready: Ready | None) -> str:
    return f"{ready.kind}:{ready.port}:{ready.path}" if ready else ""


def parse_ready(text: str) -> Ready | None:
    """What format_ready wrote into a label."""
    if not text:
        return None
    kind, port, path = text.split(":", 2)
    return Ready(kind, int(port), path)
