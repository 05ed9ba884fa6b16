"""A container engine in memory, for tests: the same rules as a real one, no processes.

`tests/engine_compliance.py` runs against this and against a real engine, so what a unit test
sees here is what a lab sees there. Commands are answered by `on_exec`; everything that was asked
for is in `calls`, in order.
"""

from __future__ import annotations

import io
import itertools
import json
import socket
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, BinaryIO, TypeVar

from labs.engine.protocol import (
    ContainerInfo,
    EngineInfo,
    ExecResult,
    ImageInfo,
    NetworkInfo,
    OnPull,
    PullProgress,
    State,
    VolumeInfo,
)
from labs.engine.pulling import registry_of
from labs.errors import AddressInUse, EngineProblem, NotFound, RegistryUnreachable
from labs.model import Attachment, Container, File, Network

_Thing = TypeVar("_Thing")

OnExec = Callable[[Container, tuple[str, ...]], ExecResult]
OnPipe = Callable[[Container, tuple[str, ...], socket.socket], None]


@dataclass
class _Made:
    """A container as the fake keeps it."""

    info: ContainerInfo
    spec: Container
    places: dict[str, Attachment] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    inputs: list[bytes] = field(default_factory=list)


def _not_found(container: Container, argv: tuple[str, ...]) -> ExecResult:
    return ExecResult(127, "", f"{container.name}: {argv[0]}: not found")


class FakeEngine:
    """An Engine without Docker. `fail_on` maps a method name to the error its next call raises.

    `on_pipe` is the command at the other end of a stream, in a thread of its own; without one it ends at once.
    """

    endpoint = "fake://"

    def __init__(self, on_exec: OnExec = _not_found, on_pipe: OnPipe = lambda *_: None) -> None:
        self.on_exec = on_exec
        self.on_pipe = on_pipe
        self.calls: list[tuple[str, str]] = []
        self.fail_on: dict[str, BaseException] = {}
        self._lock = threading.RLock()
        self._serial = itertools.count(1)
        self._images: dict[str, ImageInfo] = {}
        self._offered: dict[str, Mapping[str, str]] = {}
        self._networks: dict[str, NetworkInfo] = {}
        self._volumes: dict[str, VolumeInfo] = {}
        self._containers: dict[str, _Made] = {}

    def info(self) -> EngineInfo:
        return EngineInfo(
            endpoint=self.endpoint,
            version="0",
            api_version="1.41",
            cgroup_version=2,
            storage_driver="none",
            kernel="none",
            os="none",
            cpus=2,
            memory_bytes=8 << 30,
            rootless=False,
            local=False,
            architecture="amd64",
        )

    def image(self, reference: str) -> ImageInfo:
        with self._recorded("image", reference):
            return _known(self._images, reference)

    def images(self, labels: Mapping[str, str]) -> tuple[ImageInfo, ...]:
        with self._recorded("images", ""):
            return tuple(image for image in self._images.values() if _matches(image.labels, labels))

    def add_image(self, reference: str, labels: Mapping[str, str] | None = None) -> None:
        """Put an image in without a tar stream."""
        self._images[reference] = ImageInfo(self._id(), reference, 1, dict(labels or {}), None)

    def import_image(self, root: BinaryIO, reference: str, changes: Sequence[str]) -> ImageInfo:
        with self._recorded("import_image", reference):
            pairs = (line.removeprefix("LABEL ").partition("=") for line in changes if line.startswith("LABEL "))
            labels = {key: value.strip('"') for key, _, value in pairs}
            self._images[reference] = ImageInfo(self._id(), reference, len(root.read()), labels, None)
            return self._images[reference]

    def offer(self, reference: str, labels: Mapping[str, str] | None = None) -> None:
        """A registry has this image."""
        self._offered[reference] = labels or {}

    def pull_image(self, reference: str, on_progress: OnPull, answer_s: float) -> ImageInfo:
        with self._recorded("pull_image", f"{reference} {answer_s:g}"):
            if reference not in self._offered:
                raise RegistryUnreachable(f"The engine cannot reach {registry_of(reference)}", where=reference)
            on_progress(PullProgress(1, 1, 1, 1))
            digest = f"sha256:{self._id()}"
            self._images[reference] = ImageInfo(self._id(), reference, 1, self._offered[reference], digest)
            return self._images[reference]

    def tag_image(self, reference: str, name: str) -> None:
        with self._recorded("tag_image", f"{reference} {name}"):
            self._images[name] = replace(_known(self._images, reference), reference=name)

    def save_images(self, references: Sequence[str]) -> Iterator[bytes]:
        with self._recorded("save_images", " ".join(references)):
            yield _archive([_known(self._images, reference) for reference in references])

    def load_images(self, pieces: Iterable[bytes]) -> None:
        with self._recorded("load_images", ""):
            for image in _archived(b"".join(pieces)):
                self._images.setdefault(image.reference, image)

    def remove_image(self, reference: str) -> None:
        with self._recorded("remove_image", reference):
            _known(self._images, reference)
            if any(made.spec.image == reference for made in self._containers.values()):
                raise EngineProblem("The container engine refused", where=reference, why="image is in use")
            del self._images[reference]

    def create_network(self, network: Network, name: str, labels: Mapping[str, str]) -> NetworkInfo:
        with self._recorded("create_network", name):
            for other in self._networks.values():
                if any(network.subnet.overlaps(subnet) for subnet in other.subnets):
                    raise AddressInUse("These addresses belong to another network", where=str(network.subnet))
            made = NetworkInfo(self._id(), name, dict(labels), (network.subnet,))
            self._networks[made.id] = made
            return made

    def add_foreign_network(self, subnet: IPv4Network) -> None:
        """A network that no lab made, so that its addresses are taken."""
        made = NetworkInfo(self._id(), f"foreign-{subnet}", {}, (subnet,))
        self._networks[made.id] = made

    def networks(self, labels: Mapping[str, str] | None = None) -> tuple[NetworkInfo, ...]:
        with self._recorded("networks", ""):
            return tuple(n for n in self._networks.values() if labels is None or _matches(n.labels, labels))

    def remove_network(self, network_id: str) -> None:
        with self._recorded("remove_network", network_id):
            if any(network_id in made.places for made in self._containers.values()):
                raise EngineProblem("The container engine refused", where=network_id, why="has active endpoints")
            self._networks.pop(network_id, None)

    def create_volume(self, name: str, labels: Mapping[str, str]) -> VolumeInfo:
        with self._recorded("create_volume", name):
            self._volumes[name] = VolumeInfo(name, dict(labels))
            return self._volumes[name]

    def volumes(self, labels: Mapping[str, str]) -> tuple[VolumeInfo, ...]:
        with self._recorded("volumes", ""):
            return tuple(volume for volume in self._volumes.values() if _matches(volume.labels, labels))

    def remove_volume(self, name: str) -> None:
        with self._recorded("remove_volume", name):
            self._volumes.pop(name, None)

    def create(self, container: Container, name: str, networks: Mapping[str, str], volumes: Mapping[str, str]) -> str:
        with self._recorded("create", name):
            _known(self._images, container.image)
            if any(made.info.name == name for made in self._containers.values()):
                raise EngineProblem("The container engine refused", where=name, why="the name is in use")
            for mount in container.volumes:
                _known(self._volumes, volumes[mount.volume])
            info = ContainerInfo(self._id(), name, container.image, dict(container.labels), State.CREATED, {})
            made = _Made(info, container)
            for attachment in container.attachments:
                network = _known(self._networks, networks[attachment.network])
                made.places[network.id] = attachment
            made.files = {file.path: file for file in container.files}
            self._containers[info.id] = made
            return info.id

    def connect(self, container_id: str, network_id: str, attachment: Attachment) -> None:
        with self._recorded("connect", container_id):
            made = self._container(container_id)
            made.places[_known(self._networks, network_id).id] = attachment
            if made.info.state is State.RUNNING:
                made.info = replace(made.info, addresses=self._assign(made))

    def disconnect(self, container_id: str, network_id: str) -> None:
        with self._recorded("disconnect", container_id):
            made = self._container(container_id)
            if made.places.pop(network_id, None) is None:
                raise NotFound("The engine has no such thing", where=container_id)
            made.info = replace(made.info, addresses=self._assign(made))

    def start(self, container_id: str) -> None:
        with self._recorded("start", container_id):
            made = self._container(container_id)
            made.info = replace(made.info, state=State.RUNNING, addresses=self._assign(made), pid=1, exit_code=None)

    def stop(self, container_id: str, grace_s: int = 10) -> None:
        with self._recorded("stop", f"{container_id} {grace_s}"):
            made = self._container(container_id)
            made.info = replace(made.info, state=State.EXITED, addresses={}, pid=0, exit_code=0)

    def pause(self, container_id: str) -> None:
        with self._recorded("pause", container_id):
            made = self._running(container_id)
            made.info = replace(made.info, state=State.PAUSED)

    def unpause(self, container_id: str) -> None:
        with self._recorded("unpause", container_id):
            made = self._container(container_id)
            made.info = replace(made.info, state=State.RUNNING)

    def remove(self, container_id: str) -> None:
        with self._recorded("remove", container_id):
            self._containers.pop(container_id, None)

    def exec(self, container_id: str, argv: Sequence[str], stdin: bytes = b"") -> ExecResult:
        with self._recorded("exec", " ".join(argv)):
            made = self._running(container_id)
            made.inputs += [stdin] if stdin else []
        return self.on_exec(made.spec, tuple(argv))

    def pipe(self, container_id: str, argv: Sequence[str]) -> socket.socket:
        with self._recorded("pipe", " ".join(argv)):
            spec = self._running(container_id).spec
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve_pipe, args=(spec, tuple(argv), theirs), daemon=True).start()
        return ours

    def _serve_pipe(self, spec: Container, argv: tuple[str, ...], stream: socket.socket) -> None:
        with stream, suppress(ConnectionError):
            self.on_pipe(spec, argv, stream)

    def interactive(self, container_id: str, argv: Sequence[str]) -> int:
        return self.exec(container_id, argv).exit_code

    def copy_in(self, container_id: str, files: Iterable[File]) -> None:
        with self._recorded("copy_in", container_id):
            self._container(container_id).files.update({file.path: file for file in files})

    def copy_out(self, container_id: str, path: str) -> bytes:
        with self._recorded("copy_out", f"{container_id} {path}"):
            return _known(self._container(container_id).files, path).content

    def files(self, container_id: str) -> Mapping[str, File]:
        """What was copied into a container, by path."""
        return self._container(container_id).files

    def inputs(self, container_id: str) -> tuple[bytes, ...]:
        """What commands in a container were given as standard input."""
        return tuple(self._container(container_id).inputs)

    def relabel(self, container_id: str, labels: Mapping[str, str]) -> None:
        """Give a container other labels, as another version or another clock would have done."""
        made = self._container(container_id)
        made.info = replace(made.info, labels={**made.info.labels, **labels})

    def spec(self, container_id: str) -> Container:
        """The value a container was created from."""
        return self._container(container_id).spec

    def logs(self, container_id: str, tail: int | None = None) -> str:
        with self._recorded("logs", container_id):
            lines = self._container(container_id).log
        return "\n".join(lines if tail is None else lines[-tail:])

    def follow_logs(self, container_id: str) -> Iterator[str]:
        yield from self._container(container_id).log

    def inspect(self, container_id: str) -> ContainerInfo:
        with self._recorded("inspect", container_id):
            return self._container(container_id).info

    def containers(self, labels: Mapping[str, str]) -> tuple[ContainerInfo, ...]:
        with self._recorded("containers", ""):
            return tuple(m.info for m in self._containers.values() if _matches(m.info.labels, labels))

    def stats(self, container_id: str) -> Mapping[str, object]:
        with self._recorded("stats", container_id):
            if self._container(container_id).info.state is not State.RUNNING:
                raise NotFound("A container that does not run has no statistics", where=container_id)
            return {
                "memory_stats": {"usage": 3 << 20, "stats": {"anon": 1 << 20, "shmem": 0, "inactive_file": 1 << 20}}
            }

    def close(self) -> None:
        self.calls.append(("close", ""))

    def _recorded(self, method: str, subject: str) -> AbstractContextManager[Any]:
        """Note the call, raise what a test planted for it, and hand out the lock for the work itself."""
        with self._lock:
            self.calls.append((method, subject))
            planted = self.fail_on.pop(method, None)
        if planted is not None:
            raise planted
        return self._lock

    def _container(self, container_id: str) -> _Made:
        return _known(self._containers, container_id)

    def _running(self, container_id: str) -> _Made:
        made = self._container(container_id)
        if made.info.state is not State.RUNNING:
            raise EngineProblem("The container engine refused", where=container_id, why="container is not running")
        return made

    def _assign(self, made: _Made) -> dict[str, IPv4Address]:
        """Fixed addresses as asked for, others the first free one of the upper half."""
        given: dict[str, IPv4Address] = {}
        for network_id, attachment in made.places.items():
            network = self._networks[network_id]
            taken = {other.info.addresses.get(network.name) for other in self._containers.values() if other is not made}
            *_, upper = network.subnets[0].subnets()
            free = (ip for ip in upper.hosts() if ip not in taken)
            given[network.name] = attachment.address or next(free)
        return given

    def _id(self) -> str:
        return f"{next(self._serial):064x}"


def _archive(images: Sequence[ImageInfo]) -> bytes:
    """As `docker save` has it: what an image is, and one list of all. Digests do not travel."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for image in images:
            facts = {"id": image.id, "size": image.size_bytes, "labels": dict(image.labels)}
            _add(archive, f"{image.id}.json", facts)
        listed = [{"Config": f"{one.id}.json", "RepoTags": [one.reference], "Layers": []} for one in images]
        _add(archive, "manifest.json", listed)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, document: object) -> None:
    content = json.dumps(document).encode()
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _archived(content: bytes) -> Iterator[ImageInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        documents = {name: json.load(archive.extractfile(name) or io.BytesIO()) for name in archive.getnames()}
    for entry in documents["manifest.json"]:
        facts = documents[entry["Config"]]
        for reference in entry["RepoTags"]:
            yield ImageInfo(facts["id"], reference, facts["size"], facts["labels"], None)


def _matches(have: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(key in have and value in ("", have[key]) for key, value in wanted.items())


def _known(things: Mapping[str, _Thing], key: str) -> _Thing:
    if key not in things:
        raise NotFound("The engine has no such thing", where=key)
    return things[key]
