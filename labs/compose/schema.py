"""The subset of the Compose Specification that topologies are written in, as pydantic models.

Short and long forms are both read and come out alike. Whatever is not here is refused by name.
"""

from __future__ import annotations

import re
import shlex
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from labs.model import Port

_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"(\d+)([bkmg])?b?", re.IGNORECASE)
_PORT = re.compile(r"(?:(?:(?P<ip>[\d.]+):)?(?P<published>\d*):)?(?P<target>\d+)(?:/(?P<protocol>tcp|udp))?")
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
    return dict(item.split("=", 1) for item in value)


def _size(value: Any) -> Any:
    found = _SIZE.fullmatch(str(value))
    if not found:
        raise ValueError("a size is a number with b, k, m or g, as in 750m")
    return int(found[1]) * _UNITS[(found[2] or "b").lower()]


def _port(value: Any) -> Any:
    if isinstance(value, dict):
        value = f"{value.get('host_ip', '127.0.0.1')}:{value.get('published', '')}:{value.get('target')}/" + (
            value.get("protocol", "tcp")
        )
    found = _PORT.fullmatch(str(value))
    if not found:
        raise ValueError("a port is [[ADDRESS:][PUBLISHED]:]TARGET[/udp]")
    published = int(found["published"]) if found["published"] else None
    return Port(int(found["target"]), found["protocol"] or "tcp", published, found["ip"] or "127.0.0.1")


def _volume(value: Any) -> Any:
    if isinstance(value, str):
        name, _, target = value.partition(":")
        value = {"type": "volume", "source": name, "target": target}
    if isinstance(value, dict) and (value.get("type", "volume") != "volume" or str(value.get("source"))[:1] in "./~"):
        raise ValueError("bind mounts are not read: use a named volume, or `configs` for a file")
    return value


def _reference(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


def _places(value: Any) -> Any:
    """networks: [a, b], or a map whose values may be empty."""
    if isinstance(value, list):
        return {name: {} for name in value}
    return {name: place or {} for name, place in value.items()} if isinstance(value, dict) else value


def _names(value: Any) -> Any:
    return list(value) if isinstance(value, dict) else value


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
    return int(str(value).removeprefix("0o"), 8)


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Pairs = Annotated[dict[str, str], BeforeValidator(_pairs)]
Mode = Annotated[int, BeforeValidator(_mode)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class FileReference(_Model):
    source: str
    target: str | None = None
    mode: Mode | None = None


class VolumeReference(_Model):
    type: Literal["volume"] = "volume"
    source: str
    target: Annotated[str, Field(pattern="^/")]


class Place(_Model):
    aliases: tuple[str, ...] = ()
    ipv4_address: IPv4Address | None = None


class ReadyCheck(_Model):
    """http: PORT with a path, or grpc: PORT."""

    http: int | None = None
    grpc: int | None = None
    path: str = "/"

    @model_validator(mode="after")
    def _one(self) -> ReadyCheck:
        if (self.http is None) == (self.grpc is None):
            raise ValueError("a service is ready by one check: http or grpc")
        return self


class ServiceExtension(_Model):
    """`only` names environment keys that just the lab needs; they are left out of an operator's counts."""

    ready: ReadyCheck | None = None
    only: tuple[str, ...] = ()
    stand_in: Annotated[str | None, Field(alias="stand-in")] = None


class Healthcheck(_Model):
    """Read so that files stay valid, and never run by a lab: a check in the container disturbs what is measured."""

    test: Words = ()
    interval: str = ""
    timeout: str = ""
    retries: int = 0
    start_period: str = ""
    disable: bool = False


class ServiceSpec(_Model):
    image: str
    command: Words | None = None
    entrypoint: Words | None = None
    environment: Pairs = {}
    configs: tuple[Annotated[FileReference, BeforeValidator(_reference)], ...] = ()
    secrets: tuple[Annotated[FileReference, BeforeValidator(_reference)], ...] = ()
    volumes: tuple[Annotated[VolumeReference, BeforeValidator(_volume)], ...] = ()
    tmpfs: Annotated[dict[str, str], BeforeValidator(_tmpfs)] = {}
    networks: Annotated[dict[str, Place], BeforeValidator(_places), Field(min_length=1)]
    ports: tuple[Annotated[Port, BeforeValidator(_port)], ...] = ()
    depends_on: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
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


class SubnetSpec(_Model):
    subnet: IPv4Network


class IpamSpec(_Model):
    config: Annotated[tuple[SubnetSpec, ...], Field(min_length=1, max_length=1)]


class NetworkSpec(_Model):
    """`internal` and `driver_opts` are valid for real Compose; a lab decides both itself."""

    ipam: IpamSpec
    internal: bool = False
    driver_opts: Pairs = {}


class VolumeSpec(_Model):
    """A named volume; no options."""


class FileSpec(_Model):
    file: str


class TopologyExtension(_Model):
    """What the lab fills in: variables for prefixes (NETWORK), addresses (NETWORK .N) and secrets (how to make one)."""

    product: Literal["headscale", "netbird"]
    control: str
    subnets: dict[str, str] = {}
    addresses: dict[str, Annotated[str, Field(pattern=r"^\S+ \.\d+$")]] = {}
    secrets: dict[str, Literal["token", "base64-32"]] = {}


class ComposeSpec(_Model):
    name: str
    services: Annotated[dict[str, ServiceSpec], Field(min_length=1)]
    networks: dict[str, NetworkSpec]
    volumes: dict[str, Annotated[VolumeSpec, BeforeValidator(_empty)]] = {}
    configs: dict[str, FileSpec] = {}
    secrets: dict[str, FileSpec] = {}
    lab: Annotated[TopologyExtension, Field(alias="x-lab")]
