"""From a Compose file to a topology."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from labs.compose.interpolation import defaults, interpolated
from labs.compose.schema import CONFIG_MODE, SECRET_MODE, ComposeSpec, FileReference, FileSpec, ServiceSpec
from labs.model import Attachment, Container, File, Network, Product, Ready, Service, Topology, VolumeMount
from labs.words import nearest
from labs.yamlsource import KeyPath, Source, load, validated

_FILE_NAME = "compose.yaml"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a lab has to fill in before it reads the file: variable -> network, (network, offset), or kind of secret."""

    product: Product
    control: str
    subnets: Mapping[str, str]
    addresses: Mapping[str, tuple[str, int]]
    secrets: Mapping[str, str]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OperatorCounts:
    """What an operator has to run and keep: real things of the file, the lab's own left out."""

    services: int
    ports: int
    secrets: int
    volumes: int
    config_files: int
    config_lines: int
    settings: int


def needs(folder: Path) -> Needs:
    """Raises FileProblem."""
    source = load(folder / _FILE_NAME)
    spec = _spec(source, {})
    places = {variable: place.split(" .") for variable, place in spec.lab.addresses.items()}
    return Needs(
        product=Product(spec.lab.product),
        control=spec.lab.control,
        subnets=spec.lab.subnets,
        addresses={variable: (network, int(offset)) for variable, (network, offset) in places.items()},
        secrets=spec.lab.secrets,
        variables=defaults(source),
    )


def read(folder: Path, variables: Mapping[str, str]) -> Topology:
    """The topology in `folder` with these variables. Raises FileProblem with file, line, column and key path."""
    source = load(folder / _FILE_NAME)
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


def count(folder: Path) -> OperatorCounts:
    """What the file asks of an operator. Lines are those that are neither empty nor a comment."""
    source = load(folder / _FILE_NAME)
    spec = _spec(source, {})
    files = [folder / reference.file for reference in (*spec.configs.values(), *spec.secrets.values())]
    services = spec.services.values()
    return OperatorCounts(
        services=len(spec.services),
        ports=sum(len(service.ports) for service in services),
        secrets=len(spec.lab.secrets) + len(spec.secrets),
        volumes=len(spec.volumes),
        config_files=len(files),
        config_lines=sum(_lines(path) for path in files),
        settings=sum(len(service.environment.keys() - set(service.lab.only)) for service in services),
    )


def _spec(source: Source, variables: Mapping[str, str]) -> ComposeSpec:
    filled = interpolated(source, variables)
    spec = validated(filled, ComposeSpec)
    _check(filled, spec)
    return spec


def _check(source: Source, spec: ComposeSpec) -> None:
    """Names that have to exist."""
    for name in spec.services:
        for path, word, valid, kind in _references(spec, name):
            _known(source, ("services", name, *path), word, valid, kind)
    _known(source, ("x-lab", "control"), spec.lab.control, spec.networks, "network")
    places = {variable: place.split(" .")[0] for variable, place in spec.lab.addresses.items()}
    for key, mentioned in (("subnets", spec.lab.subnets), ("addresses", places)):
        for variable, network in mentioned.items():
            _known(source, ("x-lab", key, variable), network, spec.networks, "network")


def _references(spec: ComposeSpec, name: str) -> Iterator[tuple[KeyPath, str, Iterable[str], str]]:
    """Every name that one service mentions: where, the name, the names there are, and what they are."""
    service = spec.services[name]
    yield from ((("networks", network), network, spec.networks, "network") for network in service.networks)
    lists: list[tuple[str, list[str], Iterable[str], str]] = [
        ("depends_on", list(service.depends_on), spec.services, "service"),
        ("volumes", [volume.source for volume in service.volumes], spec.volumes, "volume"),
        ("configs", [config.source for config in service.configs], spec.configs, "config"),
        ("secrets", [secret.source for secret in service.secrets], spec.secrets, "secret"),
    ]
    for key, words, valid, kind in lists:
        yield from (((key, number), word, valid, kind) for number, word in enumerate(words))
    yield from ((("x-lab", "only"), key, service.environment, "environment key") for key in service.lab.only)


def _known(source: Source, path: KeyPath, name: str, valid: Iterable[str], kind: str) -> None:
    names = list(valid)
    if name not in names:
        raise source.problem(f"There is no {kind} called {name}", path, hint=nearest(name, names))


def _service(source: Source, spec: ComposeSpec, folder: Path, name: str) -> Service:
    service = spec.services[name]
    path: KeyPath = ("services", name)
    files = [
        *_files(source, (*path, "configs"), folder, service.configs, spec.configs, "/", CONFIG_MODE),
        *_files(source, (*path, "secrets"), folder, service.secrets, spec.secrets, "/run/secrets/", SECRET_MODE),
    ]
    return Service(
        container=replace(_container(name, service), files=tuple(files)),
        ready=_ready(service),
        ports=service.ports,
        depends_on=service.depends_on,
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
    return Ready("http", check.http, check.path) if check.http is not None else Ready("grpc", check.grpc or 0)


def _files(
    source: Source,
    path: KeyPath,
    folder: Path,
    references: Iterable[FileReference],
    known: Mapping[str, FileSpec],
    base: str,
    mode: int,
) -> Iterable[File]:
    for number, reference in enumerate(references):
        origin = folder / known[reference.source].file
        try:
            content = origin.read_bytes()
        except OSError as error:
            raise source.problem(
                f"The file of {reference.source} cannot be read",
                (*path, number),
                why=f"{origin.name}: {error.strerror}",
            ) from error
        yield File(reference.target or base + reference.source, content, reference.mode or mode)


def _lines(path: Path) -> int:
    return sum(1 for line in path.read_text().splitlines() if not re.fullmatch(r"\s*(#.*|//.*)?", line))
