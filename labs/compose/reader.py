"""From a Compose file to a topology."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath

from labs.compose.interpolation import defaults, interpolated
from labs.compose.schema import CONFIG_MODE, SECRET_MODE, AccessSpec, ComposeSpec, FileReference, FileSpec, ServiceSpec
from labs.compose.unread import UNREAD
from labs.model import (
    Access,
    Attachment,
    Container,
    File,
    Needed,
    Network,
    Product,
    Ready,
    Service,
    Topology,
    VolumeMount,
)
from labs.words import nearest
from labs.yamlsource import KeyPath, Source, load, validated

_FILE_NAME = "compose.yaml"
# Looked at before its values are there, a file has this for each variable that it requires: word and number.
_REQUIRED = "1"
_PLACEHOLDER = re.compile(r"\{(.*?)\}")
_COMMENT = re.compile(rb"\s*(#.*|//.*)?")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a lab has to fill in before it reads the file: variable -> network, (network, offset), or kind of secret.

    `variants` give some variables other values, by the variant's name; `needed` is None where the file does not say.
    """

    product: Product
    control: str
    subnets: Mapping[str, str]
    addresses: Mapping[str, tuple[str, int]]
    secrets: Mapping[str, str]
    variables: Mapping[str, str]
    variants: Mapping[str, Mapping[str, str]]
    needed: Needed | None


@dataclass(frozen=True, slots=True)
class OperatorCounts:
    """What an operator has to run and keep: real things of the file, what `x-lab` calls the lab's own left out.

    `images` has each service's, `ports` are those published, `config_lines` neither empty nor a comment, `settings` the
    services' environment. `lab_only` are the environment keys that are left out, by service, and `stand_ins` say what
    a service stands for.
    """

    images: Mapping[str, str]
    stand_ins: Mapping[str, str]
    lab_only: Mapping[str, tuple[str, ...]]
    ports: int
    secrets: int
    volumes: int
    config_files: int
    config_lines: int
    settings: int


def needs(folder: Path) -> Needs:
    """What the file in `folder` asks of a lab, and every variable it names with its default. Raises FileProblem."""
    source = _source(folder)
    spec = _spec(source, {}, required=_REQUIRED)
    places = {variable: place.split(" .") for variable, place in spec.lab.addresses.items()}
    return Needs(
        product=Product(spec.lab.product),
        control=spec.lab.control,
        subnets=spec.lab.subnets,
        addresses={variable: (network, int(offset)) for variable, (network, offset) in places.items()},
        secrets=spec.lab.secrets,
        variables=defaults(source),
        variants=spec.lab.variants,
        needed=Needed(spec.lab.needed.memory, spec.lab.needed.disk) if spec.lab.needed else None,
    )


def access(folder: Path) -> Access:
    """How a lab speaks to the topology in `folder`. Raises FileProblem when the file does not say."""
    source = _source(folder)
    spec = _spec(source, {}, required=_REQUIRED)
    said = spec.lab.access
    if said is None:
        raise source.problem(
            "Nothing says how the services are spoken to",
            ("x-lab",),
            hint="x-lab: {access: {api: SERVICE:PORT, joins: URL, parts: {control-plane: SERVICE}}}",
        )
    service, _, port = said.api.partition(":")
    places = [(name, place) for name, one in spec.services.items() for place in one.networks.values()]
    names = {alias: name for name, place in places for alias in place.aliases}
    return Access(
        api=service,
        api_port=int(port),
        joins=said.joins,
        parts={str(part): name for part, name in said.parts.items()},
        names={**names, **{name: name for name in spec.services}},
        provider=said.provider,
        issuers=said.issuers or "",
        signs_in=said.signs_in,
        authority=(said.authority.service, said.authority.file) if said.authority else None,
    )


def read(folder: Path, variables: Mapping[str, str]) -> Topology:
    """The topology in `folder` with these variables. Raises FileProblem with file, line, column and key path."""
    source = _source(folder)
    spec = _spec(source, variables)
    services = tuple(_service(source, spec, folder, name) for name in spec.services)
    return Topology(
        name=spec.name,
        product=Product(spec.lab.product),
        services=services,
        networks=tuple(Network(name, network.ipam.config[0].subnet) for name, network in spec.networks.items()),
        volumes=tuple(spec.volumes),
        control=spec.lab.control,
        secrets={name: variables[name] for name in spec.lab.secrets if name in variables},
    )


def count(folder: Path, variables: Mapping[str, str] | None = None) -> OperatorCounts:
    """What the file asks of an operator; `variables` as for read, where images are not the defaults.

    Raises FileProblem.
    """
    source = _source(folder)
    spec = _spec(source, variables or {}, required=_REQUIRED)
    files = [_content(source, folder, "configs", name, config) for name, config in spec.configs.items()]
    services = spec.services.values()
    return OperatorCounts(
        images={name: service.image for name, service in spec.services.items()},
        stand_ins={name: service.lab.stand_in for name, service in spec.services.items() if service.lab.stand_in},
        lab_only={name: service.lab.only for name, service in spec.services.items() if service.lab.only},
        ports=sum(len(service.ports) for service in services),
        secrets=len(spec.lab.secrets) + len(spec.secrets),
        volumes=len(spec.volumes),
        config_files=len(files),
        config_lines=sum(_lines(content) for content in files),
        settings=sum(len(service.environment.keys() - set(service.lab.only)) for service in services),
    )


def _source(folder: Path) -> Source:
    """Every topology's file has the same name, so errors say whose it is."""
    return load(folder / _FILE_NAME, f"{folder.name}/{_FILE_NAME}")


def _spec(source: Source, variables: Mapping[str, str], *, required: str | None = None) -> ComposeSpec:
    filled = interpolated(source, variables, required=required)
    spec = validated(filled, ComposeSpec, UNREAD)
    _check(filled, spec)
    _check_variables(filled, spec, defaults(source))
    _check_addresses(filled, spec)
    _check_order(filled, spec)
    return spec


def _check(source: Source, spec: ComposeSpec) -> None:
    """Names that have to exist."""
    for name in spec.services:
        for path, word, valid, kind in _references(source, spec, name):
            _known(source, ("services", name, *path), word, valid, kind)
    _known(source, ("x-lab", "control"), spec.lab.control, spec.networks, "network")
    places = {variable: place.split(" .")[0] for variable, place in spec.lab.addresses.items()}
    for key, mentioned in (("subnets", spec.lab.subnets), ("addresses", places)):
        for variable, network in mentioned.items():
            _known(source, ("x-lab", key, variable), network, spec.networks, "network")
    if spec.lab.access is not None:
        _check_access(source, spec, spec.lab.access)


def _check_access(source: Source, spec: ComposeSpec, said: AccessSpec) -> None:
    """Every service that it speaks of is one of the file's."""
    path: KeyPath = ("x-lab", "access")
    mentioned = [((*path, "api"), said.api.partition(":")[0])]
    mentioned += [((*path, "parts", part), service) for part, service in said.parts.items()]
    mentioned += [((*path, "provider"), said.provider)] if said.provider else []
    mentioned += [((*path, "authority", "service"), said.authority.service)] if said.authority else []
    mentioned += [((*path, "joins"), service) for service in _PLACEHOLDER.findall(said.joins)]
    for where, service in mentioned:
        _known(source, where, service, spec.services, "service")


def _check_variables(source: Source, spec: ComposeSpec, variables: Mapping[str, str]) -> None:
    """A variable that the file does not read would be filled in for nothing; a prefix without one would collide."""
    for key in ("subnets", "addresses", "secrets"):
        for variable in getattr(spec.lab, key):
            _known(source, ("x-lab", key, variable), variable, variables, "variable in this file")
    for variant, values in spec.lab.variants.items():
        for variable in values:
            _known(source, ("x-lab", "variants", variant, variable), variable, variables, "variable in this file")
    for network in spec.networks.keys() - set(spec.lab.subnets.values()):
        raise source.problem(
            f"Nothing lets the lab choose the prefix of {network}",
            ("networks", network),
            hint=f"x-lab: {{subnets: {{VARIABLE: {network}}}}}, and that variable as its subnet",
        )


def _check_addresses(source: Source, spec: ComposeSpec) -> None:
    taken: dict[tuple[str, IPv4Address], str] = {}
    for name, service in spec.services.items():
        for network, place in service.networks.items():
            address, subnet = place.ipv4_address, spec.networks[network].ipam.config[0].subnet
            if address is None:
                continue
            path = ("services", name, "networks", network, "ipv4_address")
            if address not in subnet:
                raise source.problem(f"{address} is no address of {network}", path, why=f"its prefix is {subnet}")
            other = taken.setdefault((network, address), name)
            if other != name:
                raise source.problem(f"{name} has the address of {other}", path)


def _check_order(source: Source, spec: ComposeSpec) -> None:
    try:
        order = TopologicalSorter({name: tuple(service.depends_on) for name, service in spec.services.items()})
        order.prepare()
    except CycleError as error:
        names: list[str] = error.args[1]
        path = ("services", names[0], "depends_on")
        raise source.problem("Services wait for each other", path, why=" -> ".join(names)) from error


def _references(source: Source, spec: ComposeSpec, name: str) -> Iterator[tuple[KeyPath, str, Iterable[str], str]]:
    """Every name that one service mentions: where, the name, the names there are, and what they are."""
    service = spec.services[name]
    lists: list[tuple[KeyPath, Iterable[str], Iterable[str], str]] = [
        (("networks",), service.networks, spec.networks, "network"),
        (("depends_on",), service.depends_on, spec.services, "service"),
        (("volumes",), [volume.source for volume in service.volumes], spec.volumes, "volume"),
        (("configs",), [config.source for config in service.configs], spec.configs, "config"),
        (("secrets",), [secret.source for secret in service.secrets], spec.secrets, "secret"),
        (("x-lab", "only"), service.lab.only, service.environment, "environment key"),
    ]
    for key, words, valid, kind in lists:
        for number, word in enumerate(words):
            in_a_map = ("services", name, *key, word) in source.positions
            yield (*key, word if in_a_map else number), word, valid, kind


def _known(source: Source, path: KeyPath, name: str, valid: Iterable[str], kind: str) -> None:
    names = list(valid)
    if name not in names:
        raise source.problem(f"There is no {kind} called {name}", path, hint=nearest(name, names))


def _service(source: Source, spec: ComposeSpec, folder: Path, name: str) -> Service:
    service = spec.services[name]
    files = [
        *(_file(source, spec, folder, "configs", reference) for reference in service.configs),
        *(_file(source, spec, folder, "secrets", reference) for reference in service.secrets),
    ]
    return Service(
        container=replace(_container(name, service), files=tuple(files)),
        ready=_ready(service),
        ports=tuple(port.port for port in service.ports),
        waits_for=tuple(other for other, how in service.depends_on.items() if how.condition == "service_healthy"),
        stand_in=service.lab.stand_in,
    )


def _container(name: str, service: ServiceSpec) -> Container:
    """A service answers to its own name, as under real Compose, and to its aliases."""
    places = service.networks.items()
    return Container(
        name=name,
        image=service.image,
        command=service.command,
        entrypoint=service.entrypoint,
        hostname=service.hostname,
        user=service.user,
        environment=service.environment,
        labels=service.labels,
        attachments=tuple(Attachment(net, place.ipv4_address, (name, *place.aliases)) for net, place in places),
        volumes=tuple(VolumeMount(volume.source, volume.target) for volume in service.volumes),
        tmpfs=service.tmpfs,
        cap_add=service.cap_add,
        cap_drop=service.cap_drop,
        devices=service.devices,
        sysctls=service.sysctls,
        security_opt=service.security_opt,
        read_only=service.read_only,
        mem_limit_bytes=service.mem_limit,
    )


def _ready(service: ServiceSpec) -> Ready | None:
    check = service.lab.ready
    if check is None:
        return None
    kind, port = check.check
    return Ready(kind, port, check.path or "/")


def _file(source: Source, spec: ComposeSpec, folder: Path, kind: str, reference: FileReference) -> File:
    """`target` is a path of the container's, or a name in the place where Compose puts such files."""
    secret = kind == "secrets"
    known = (spec.secrets if secret else spec.configs)[reference.source]
    base = PurePosixPath("/run/secrets" if secret else "/")
    mode = SECRET_MODE if secret else CONFIG_MODE
    return File(
        path=str(base / (reference.target or reference.source)),
        content=_content(source, folder, kind, reference.source, known),
        mode=mode if reference.mode is None else reference.mode,
    )


def _content(source: Source, folder: Path, kind: str, name: str, spec: FileSpec) -> bytes:
    """What a config or secret holds. Raises FileProblem where the Compose file names its file."""
    if spec.file is None:
        return (spec.content or "").encode()
    path, file = (kind, name, "file"), spec.file
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        raise source.problem(f"{file} is not in the topology's folder", path, hint="put it beside compose.yaml")
    try:
        return (folder / file).read_bytes()
    except OSError as error:
        raise source.problem(f"{file} cannot be read", path, why=error.strerror or str(error)) from error


def _lines(content: bytes) -> int:
    return sum(1 for line in content.splitlines() if not _COMMENT.fullmatch(line))
