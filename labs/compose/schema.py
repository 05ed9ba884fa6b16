"""The subset of the Compose Specification that topologies are written in, as pydantic models.

Short and long forms are both read and come out alike. Whatever is not here is refused by name, but
for the `x-` keys that the specification lets anyone add: those are nobody's to read.
"""

from __future__ import annotations

import re
import shlex
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from labs.model import Port

_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"(\d+)([bkmg])?b?", re.IGNORECASE)
_PORT = re.compile(r"(?:(?:(?P<ip>[\d.]+):)?(?P<published>\d*):)?(?P<target>\d+)(?:/(?P<protocol>tcp|udp))?")
LOOPBACK = "127.0.0.1"
_MODE = re.compile(r"0o?([0-7]{1,4})")
_ADDRESS = re.compile(r"\S+ \.(\d{1,3})")
CONFIG_MODE, SECRET_MODE = 0o644, 0o600


def _words(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


def _pairs(value: Any) -> Any:
    """A map, or a list of KEY=VALUE."""
    if not isinstance(value, list):
        return value
    for item in value:
        if not isinstance(item, str) or "=" not in item:
            raise ValueError(f"{item!r} has no value; nothing is taken over from the caller's environment")
    _once([item.split("=", 1)[0] for item in value])
    return dict(item.split("=", 1) for item in value)


def _once(words: list[Any]) -> None:
    for word in words:
        if words.count(word) > 1:
            raise ValueError(f"{word} is there twice")


def _size(value: Any) -> Any:
    found = _SIZE.fullmatch(str(value))
    if not found:
        raise ValueError("a size is a number with b, k, m or g, as in 750m")
    return int(found[1]) * _UNITS[(found[2] or "b").lower()]


def _port(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = _PORT.fullmatch(value)
    if not found:
        raise ValueError("a port is [[ADDRESS:][PUBLISHED]:]TARGET[/udp]")
    return {
        "target": found["target"],
        "published": found["published"],
        "host_ip": found["ip"] or LOOPBACK,
        "protocol": found["protocol"] or "tcp",
    }


def _volume(value: Any) -> Any:
    if isinstance(value, str):
        name, _, target = value.partition(":")
        if ":" in target:
            raise ValueError(f"{value!r} has an access mode, which is not read: a volume is NAME:/PATH")
        if not target:
            raise ValueError(f"a volume is NAME:/PATH, not {value!r}: one without a name could not be counted")
        value = {"source": name, "target": target}
    if isinstance(value, dict):
        if value.get("type") == "bind" or str(value.get("source", "")).startswith((".", "/", "~")):
            raise ValueError("bind mounts are not read: use a named volume, or `configs` for a file")
        if value.get("type") == "tmpfs":
            raise ValueError("a tmpfs has a key of its own in the service: tmpfs: [/PATH]")
    return value


def _reference(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


def _places(value: Any) -> Any:
    """[a, b], or a map whose values may be empty."""
    if isinstance(value, list):
        _once(value)
        return {name: {} for name in value}
    return {name: place or {} for name, place in value.items()} if isinstance(value, dict) else value


def _tmpfs(value: Any) -> Any:
    items = [value] if isinstance(value, str) else value
    return (
        {path: options for path, _, options in (str(item).partition(":") for item in items)}
        if isinstance(items, list)
        else items
    )


def _empty(value: Any) -> Any:
    return {} if value is None else value


def _mode(value: Any) -> Any:
    """A decimal number would mean something else to Compose than to whoever wrote it."""
    found = _MODE.fullmatch(str(value))
    if not found:
        raise ValueError("a mode is octal and says so, as in 0644")
    return int(found[1], 8)


def _published(value: Any) -> Any:
    return value or None


def _address(value: str) -> str:
    found = _ADDRESS.fullmatch(value)
    if not found or not 2 <= int(found[1]) <= 126:
        raise ValueError("an address is NETWORK .N, from .2 to .126; the rest is the engine's")
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Pairs = Annotated[dict[str, str], BeforeValidator(_pairs)]
Mode = Annotated[int, BeforeValidator(_mode)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Absolute = Annotated[str, Field(pattern="^/")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Section(_Model):
    """A part of the Compose Specification's own, where anyone may add `x-` keys; x-lab has to be where we read it."""

    @model_validator(mode="before")
    @classmethod
    def _without_extensions(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if key == "x-lab" or not key.startswith("x-")}


class FileReference(_Section):
    source: str
    target: str | None = None
    mode: Mode | None = None


class VolumeReference(_Section):
    type: Literal["volume"] = "volume"
    source: str
    target: Absolute


class PortSpec(_Section):
    target: PortNumber
    published: Annotated[PortNumber | None, BeforeValidator(_published)] = None
    host_ip: IPv4Address = IPv4Address(LOOPBACK)
    protocol: Literal["tcp", "udp"] = "tcp"

    @property
    def port(self) -> Port:
        return Port(self.target, self.protocol, self.published, str(self.host_ip))


class Dependency(_Section):
    """A lab starts a service once those serve that are to be service_healthy; service_started orders nothing there."""

    condition: Literal["service_started", "service_healthy"] = "service_started"


class Place(_Section):
    aliases: tuple[str, ...] = ()
    ipv4_address: IPv4Address | None = None


class ReadyCheck(_Model):
    """http: PORT with a path, or grpc: PORT, or tcp: PORT."""

    http: PortNumber | None = None
    grpc: PortNumber | None = None
    tcp: PortNumber | None = None
    path: Absolute | None = None

    @model_validator(mode="after")
    def _one(self) -> ReadyCheck:
        if [self.http, self.grpc, self.tcp].count(None) != 2:
            raise ValueError("a service is ready by one check: http, grpc or tcp")
        if self.http is None and self.path is not None:
            raise ValueError("path belongs to http: another check asks for no path")
        return self

    @property
    def check(self) -> tuple[str, int]:
        """Its kind and port."""
        kinds = {"http": self.http, "grpc": self.grpc, "tcp": self.tcp}
        return next((kind, port) for kind, port in kinds.items() if port is not None)


class ServiceExtension(_Model):
    """`only` names environment keys that just the lab needs; they are left out of an operator's counts."""

    ready: ReadyCheck | None = None
    only: tuple[str, ...] = ()
    stand_in: Annotated[str | None, Field(alias="stand-in")] = None


class Healthcheck(_Section):
    """Read so that files stay valid, and never run by a lab: a check in the container disturbs what is measured."""

    test: Words = ()
    interval: str = ""
    timeout: str = ""
    retries: int = 0
    start_period: str = ""
    disable: bool = False


class ServiceSpec(_Section):
    image: Annotated[str, Field(min_length=1)]
    command: Words | None = None
    entrypoint: Words | None = None
    environment: Pairs = {}
    configs: tuple[Annotated[FileReference, BeforeValidator(_reference)], ...] = ()
    secrets: tuple[Annotated[FileReference, BeforeValidator(_reference)], ...] = ()
    volumes: tuple[Annotated[VolumeReference, BeforeValidator(_volume)], ...] = ()
    tmpfs: Annotated[dict[str, str], BeforeValidator(_tmpfs)] = {}
    networks: Annotated[dict[str, Place], BeforeValidator(_places), Field(min_length=1)]
    ports: tuple[Annotated[PortSpec, BeforeValidator(_port)], ...] = ()
    depends_on: Annotated[dict[str, Dependency], BeforeValidator(_places)] = {}
    healthcheck: Healthcheck | None = None
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    sysctls: Pairs = {}
    read_only: bool = False
    security_opt: tuple[str, ...] = ()
    user: str | None = None
    mem_limit: Annotated[int | None, BeforeValidator(_size)] = None
    labels: Pairs = {}
    hostname: str | None = None
    lab: Annotated[ServiceExtension, Field(alias="x-lab")] = ServiceExtension()


class SubnetSpec(_Section):
    subnet: IPv4Network


class IpamSpec(_Section):
    config: Annotated[tuple[SubnetSpec, ...], Field(min_length=1, max_length=1)]


class NetworkSpec(_Section):
    """`internal` and `driver_opts` are valid for real Compose; a lab decides both itself."""

    ipam: IpamSpec
    internal: bool = False
    driver_opts: Pairs = {}


class VolumeSpec(_Section):
    """A named volume; no options."""


class FileSpec(_Section):
    """`file` lies beside the Compose file; `content` is the text itself, with its variables filled in."""

    file: Annotated[str, Field(min_length=1)] | None = None
    content: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> FileSpec:
        if (self.file is None) == (self.content is None):
            raise ValueError("what it holds is in a file or in content")
        return self


class AuthoritySpec(_Model):
    """The certificate that peers have to trust: a file of a service."""

    service: str
    file: Absolute


class AccessSpec(_Model):
    """How the lab and its peers speak to the services: see labs.model.Access."""

    api: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*:\d+$")]
    joins: Annotated[str, Field(pattern="^https?://")]
    parts: dict[Literal["control-plane", "signal", "relay"], str]
    provider: str | None = None
    issuers: Annotated[str, Field(pattern="^https?://")] | None = None
    signs_in: Annotated[Literal["product", "provider"], Field(alias="signs-in")] = "product"
    authority: AuthoritySpec | None = None

    @model_validator(mode="after")
    def _provided(self) -> AccessSpec:
        if (self.provider is None) != (self.issuers is None):
            raise ValueError("a provider has issuers: the URL that its realms are below")
        if self.signs_in == "provider" and self.provider is None:
            raise ValueError("signs-in: provider needs a provider")
        return self


class NeededSpec(_Model):
    """What the services take of the machine, as measured, and rounded up."""

    memory: Annotated[int, BeforeValidator(_size)]
    disk: Annotated[int, BeforeValidator(_size)]


class TopologyExtension(_Model):
    """What the lab fills in: variables for prefixes (NETWORK), addresses (NETWORK .N) and secrets (how to make one).

    `variants` are the same topology with other values for some of its variables, each by the word its name ends in.
    """

    product: Literal["headscale", "netbird"]
    control: str
    subnets: dict[str, str] = {}
    addresses: dict[str, Annotated[str, AfterValidator(_address)]] = {}
    secrets: dict[str, Literal["token", "base64-32"]] = {}
    access: AccessSpec | None = None
    needed: NeededSpec | None = None
    variants: dict[str, dict[str, str]] = {}


class ComposeSpec(_Section):
    name: str
    services: Annotated[dict[str, ServiceSpec], Field(min_length=1)]
    networks: dict[str, NetworkSpec]
    volumes: dict[str, Annotated[VolumeSpec, BeforeValidator(_empty)]] = {}
    configs: dict[str, FileSpec] = {}
    secrets: dict[str, FileSpec] = {}
    lab: Annotated[TopologyExtension, Field(alias="x-lab")]
