"""What the toolkit asks of a container engine, and the plain values it gets back.

Ids are the engine's own. Nothing is found by name: every listing takes labels, and an empty
label value matches any value of that key. Methods raise the EngineProblem branch of
`labs.errors`, a pull ImageProblem as well, and nothing of the SDK's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import BinaryIO, Protocol, runtime_checkable

from labs.model import Attachment, Container, File, Network


class State(StrEnum):
    """A container's state, in the engine's words."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Which engine answers, in values a result can store. `local` tells whether it shares this host's kernel;
    `architecture` is its processor in Go's word, as images have it: amd64, arm64;
    `clock` is its machine's time when it answered, as ISO 8601, empty where it does not say. `counts_memory` tells
    whether each container has a control group with a memory controller: without it none is limited or measured."""

    endpoint: str
    version: str
    api_version: str
    cgroup_version: int
    storage_driver: str
    kernel: str
    os: str
    cpus: int
    memory_bytes: int
    rootless: bool
    local: bool
    architecture: str = ""
    product: str = "Docker Engine"
    clock: str = ""
    counts_memory: bool = True


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """One image as the engine has it; `digest` is the repository digest when it was pulled, else None."""

    id: str
    reference: str
    size_bytes: int
    labels: Mapping[str, str]
    digest: str | None


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is. A layer's size counts from when its download begins; a layer that was here already is done."""

    layers: int
    layers_done: int
    here_bytes: int
    size_bytes: int


OnPull = Callable[[PullProgress], None]


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    id: str
    name: str
    labels: Mapping[str, str]
    subnets: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """One container. `addresses` maps the engine's network name to the address there; it is empty until started."""

    id: str
    name: str
    image: str
    labels: Mapping[str, str]
    state: State
    addresses: Mapping[str, IPv4Address]
    pid: int = 0
    exit_code: int | None = None
    started_at: str = ""
    oom_killed: bool = False
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command inside a container ended: 126 could not be executed, 127 not found, 128+N killed by signal N."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


@runtime_checkable
class Engine(Protocol):
    """One container engine. Safe to call from several threads."""

    @property
    def endpoint(self) -> str:
        """Where it answers: unix:///… or tcp://…"""

    def info(self) -> EngineInfo: ...

    def image(self, reference: str) -> ImageInfo:
        """The image called `reference`. Raises NotFound."""

    def images(self, labels: Mapping[str, str]) -> tuple[ImageInfo, ...]: ...

    def import_image(self, root: BinaryIO, reference: str, changes: Sequence[str]) -> ImageInfo:
        """Make an image of one layer from a tar stream of its root file system.

        `changes` are Dockerfile instructions (ENTRYPOINT, CMD, ENV, LABEL, USER, WORKDIR, EXPOSE,
        VOLUME). Raises NoSpace when the engine's disk is full.
        """

    def pull_image(self, reference: str, on_progress: OnPull, answer_s: float) -> ImageInfo:
        """Pull `reference` (with a tag), with the login that Docker's own configuration on this side has.

        `answer_s` is how long the registry may take to answer at all. Raises RegistryUnreachable, ImageProblem
        (denied, rate limit, unknown, another processor), NoSpace.
        """

    def tag_image(self, reference: str, name: str) -> None:
        """Give an image another name, with a tag. Raises NotFound."""

    def save_images(self, references: Sequence[str]) -> Iterator[bytes]:
        """These images as one tar, in pieces, as `docker save` writes it. Raises NotFound, NoSpace."""

    def load_images(self, pieces: Iterable[bytes]) -> None:
        """Take in what `save_images` gave; images that are there already stay. Raises NoSpace."""

    def remove_image(self, reference: str) -> None:
        """Raises NotFound, or EngineProblem while a container uses it."""

    def create_network(self, network: Network, name: str, labels: Mapping[str, str]) -> NetworkInfo:
        """Make a bridge with this subnet: internal, or for `transit` an ordinary bridge that never masquerades.

        The engine hands out addresses from the upper half only; the lower half is for fixed ones.
        Raises AddressInUse when another network has some of these addresses.
        """

    def networks(self, labels: Mapping[str, str] | None = None) -> tuple[NetworkInfo, ...]:
        """Networks with all these labels; None lists every network, to see which addresses are taken."""

    def remove_network(self, network_id: str) -> None: ...

    def create_volume(self, name: str, labels: Mapping[str, str]) -> VolumeInfo: ...

    def volumes(self, labels: Mapping[str, str]) -> tuple[VolumeInfo, ...]: ...

    def remove_volume(self, name: str) -> None: ...

    def create(self, container: Container, name: str, networks: Mapping[str, str], volumes: Mapping[str, str]) -> str:
        """Create a container called `name` and attach and fill it; return its id. It is not started.

        `networks` maps lab network names to network ids, `volumes` lab volume names to engine
        volume names. When a step fails, the half-made container is removed before the error rises.
        """

    def connect(self, container_id: str, network_id: str, attachment: Attachment) -> None: ...

    def disconnect(self, container_id: str, network_id: str) -> None: ...

    def start(self, container_id: str) -> None: ...

    def stop(self, container_id: str, grace_s: int = 10) -> None: ...

    def pause(self, container_id: str) -> None: ...

    def unpause(self, container_id: str) -> None: ...

    def remove(self, container_id: str) -> None:
        """Kill and remove a container with its anonymous volumes; no error when it is gone already."""

    def exec(self, container_id: str, argv: Sequence[str], stdin: bytes = b"") -> ExecResult:
        """Run a command to its end, `stdin` as its whole input.

        A command that cannot be executed gives exit code 126 or 127, no exception.
        """

    def pipe(self, container_id: str, argv: Sequence[str]) -> socket.socket:
        """Start a command and return a stream that is its standard input and output; the caller closes it.

        It ends when the command does; closing it, or its writing side, ends the command's input and the stream.
        What the command writes to standard error is dropped. Raises EngineProblem unless the container runs.
        """

    def interactive(self, container_id: str, argv: Sequence[str]) -> int:
        """Run a command on the user's own terminal (or pipes) and return its exit code."""

    def copy_in(self, container_id: str, files: Iterable[File]) -> None:
        """Write files, making their parent folders; owner root."""

    def copy_out(self, container_id: str, path: str) -> bytes:
        """The content of one file, whether the container runs or not. Raises NotFound."""

    def logs(self, container_id: str, tail: int | None = None) -> str: ...

    def follow_logs(self, container_id: str) -> Iterator[str]:
        """Lines as they come, until the container stops."""

    def inspect(self, container_id: str) -> ContainerInfo: ...

    def containers(self, labels: Mapping[str, str]) -> tuple[ContainerInfo, ...]:
        """All containers, running or not, that carry every one of these labels."""

    def stats(self, container_id: str) -> Mapping[str, object]:
        """The engine's raw stats document, one shot, uninterpreted. Raises NotFound unless the container runs."""

    def close(self) -> None: ...
