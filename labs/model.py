"""Networks, services, peers and hosts as frozen values that know nothing about Docker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network


class Product(StrEnum):
    """Which control plane a topology runs."""

    HEADSCALE = "headscale"
    NETBIRD = "netbird"


class Role(StrEnum):
    """What a container is for. Services are what an operator runs; the rest is the lab's own."""

    SERVICE = "service"
    PEER = "peer"
    HOST = "host"
    HELPER = "helper"


@dataclass(frozen=True, slots=True)
class Network:
    """A network to create. `transit` networks carry addresses that are not their own (exit traffic)."""

    name: str
    subnet: IPv4Network
    transit: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's place on one network; `address` None lets the engine choose."""

    network: str
    address: IPv4Address | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file to copy into a container before it starts. `path` is absolute; `mode` as for chmod."""

    path: str
    content: bytes = field(repr=False)
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class VolumeMount:
    volume: str
    target: str


@dataclass(frozen=True, slots=True)
class Container:
    """All that an engine needs to make one container, with networks and volumes by their lab names.

    `shares_network_of` is the id of a running container whose network namespace it enters instead of networks.
    """

    name: str
    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    hostname: str | None = None
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    files: tuple[File, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    shares_network_of: str | None = None
    dns: tuple[IPv4Address, ...] = ()
    dns_options: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    read_only: bool = False
    mem_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """The check that says a service serves: `kind` is http (GET `path` answers 200), grpc (HTTP/2 SETTINGS) or tcp (it
    accepts a connection)."""

    kind: str
    port: int
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Port:
    """A port the operator publishes: host `published` (None: the engine's choice) to container `target`."""

    target: int
    protocol: str = "tcp"
    published: int | None = None
    host_ip: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Service:
    """One container of a topology, and when it serves. It starts once those it `waits_for` serve; `stand_in` names the
    real thing it stands for."""

    container: Container
    ready: Ready | None = None
    ports: tuple[Port, ...] = ()
    waits_for: tuple[str, ...] = ()
    stand_in: str | None = None

    @property
    def name(self) -> str:
        return self.container.name


@dataclass(frozen=True, slots=True)
class Access:
    """How a topology is spoken to.

    `api` is the service with the administrator's API and `api_port` where that answers; `joins` the URL that peers
    are given, in which {SERVICE} stands for that service's address; `parts` the service behind each part of the
    product; `names` the service behind each name on the network. `provider` is the identity provider's service, and
    `issuers` the URL that its realms are below; `signs_in` says who holds the people: the product itself, or the
    provider alone.
    `authority` is the service and its file with the certificate that peers have to trust.
    """

    api: str
    api_port: int
    joins: str
    parts: Mapping[str, str]
    names: Mapping[str, str] = field(default_factory=dict)
    provider: str | None = None
    issuers: str = ""
    signs_in: str = "product"
    authority: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Needed:
    """What a topology's services take of the machine, peers left out: `memory_bytes` while they run, `disk_bytes` with
    their images."""

    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Topology:
    """What an operator runs: the services, their networks and named volumes. `control` is where peers attach."""

    name: str
    product: Product
    services: tuple[Service, ...]
    networks: tuple[Network, ...]
    volumes: tuple[str, ...] = ()
    control: str = "control"
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def service(self, name: str) -> Service:
        """The service called `name`; KeyError when there is none."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Lan:
    """A network of a scenario. `public` ones take public addresses, which exit nodes forward to; `gateway` is the
    host that the others on it send everything else to, and makes it carry transit traffic."""

    name: str
    public: bool = False
    gateway: str | None = None

    @property
    def transit(self) -> bool:
        return self.public or self.gateway is not None


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who signs in. `at` are the identity providers that know the person; with none of them it is the
    product's own user. `called` is the name that people read, `groups` are those at the providers."""

    name: str
    called: str
    email: str
    at: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Provider:
    """An identity provider, an issuer of its own. `tokens_last_s` is how long it says that a sign-in is good for; None
    leaves it at the provider's default."""

    name: str
    tokens_last_s: float | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """A machine that runs the product's own client. `networks` are the LANs it stands on besides the underlay,
    `ports` where a web server answers beside the client; with `joins` False it is enrolled later. `resolver` is the
    host that the machine itself asks for names. Without a `user` somebody signs in there."""

    name: str
    user: str
    networks: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    joins: bool = True
    resolver: str | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A machine without an agent: on each network of `places` at that offset within its prefix.

    `serves` is http (on `ports`), dns (the `records`, name to host) or nothing; `forwards` makes it a router.
    """

    name: str
    places: tuple[tuple[str, int], ...]
    serves: str | None = None
    ports: tuple[int, ...] = (80,)
    forwards: bool = False
    records: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What a lab sets otherwise than the product does by itself; None leaves it as it is.

    `failover_probe_s`: how often Headscale probes routers that stand by for each other. `pkce`: whether Headscale sends
    a challenge; `expiry_from_token`: whether its peers expire with the token that signed them in. `lazy_connections`:
    whether NetBird's peers connect only once there is traffic. `user_approval`: whether whoever signs in for the first
    time waits for an administrator of NetBird.
    """

    failover_probe_s: float | None = None
    lazy_connections: bool | None = None
    pkce: bool | None = None
    expiry_from_token: bool | None = None
    user_approval: bool | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """Who takes part besides the control plane, LANs, peers and hosts, and how the product is set."""

    networks: tuple[Lan, ...] = ()
    peers: tuple[Peer, ...] = ()
    hosts: tuple[Host, ...] = ()
    settings: Settings = Settings()
    people: tuple[Person, ...] = ()
    providers: tuple[Provider, ...] = ()

    @property
    def needs_toolbox(self) -> bool:
        """Whether anybody is, or has beside it, a plain machine with a web server."""
        return any(host.serves != "dns" for host in self.hosts) or any(peer.ports for peer in self.peers)

    def gateway(self, lan: Lan) -> Host | None:
        """The host that leads out of a network."""
        return next((host for host in self.hosts if host.name == lan.gateway), None)
