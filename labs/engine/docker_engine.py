"""The Engine Protocol over the Docker SDK's low-level client (Engine API 1.41 or later)."""

from __future__ import annotations

import fcntl
import io
import os
import socket
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import docker
import requests
from docker.errors import APIError

from labs.engine import docker_images, pulling, stream
from labs.engine.protocol import (
    ContainerInfo,
    EngineInfo,
    ExecResult,
    ImageInfo,
    NetworkInfo,
    OnPull,
    State,
    VolumeInfo,
)
from labs.engine.terminal import run_on_terminal
from labs.engine.translation import translated
from labs.errors import EngineUnavailable, NotFound
from labs.model import Attachment, Container, File, Network

# Many threads share the client while a lab starts; each may hold a connection in a long exec.
_CONNECTIONS = 64
# Stops may be slow on a loaded machine; every other call answers far sooner.
_API_TIMEOUT_S = 120
# The engine describes itself in the kernel's words, and images in Go's.
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
# What Docker sets in every network namespace of its own, and Podman when it is told to: low ports are free, and a
# network without IPv6 has none.
_DOCKERS_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv6.conf.all.disable_ipv6": "1"}
_PODMAN_STATES = {"configured": "created", "initialized": "created", "stopped": "exited", "stopping": "exited"}


class DockerEngine:
    """A Docker Engine at `endpoint` (unix:///… or tcp://…). Raises EngineUnavailable when nothing answers."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        _knock(endpoint)
        with translated(endpoint):
            self._api = docker.APIClient(
                base_url=endpoint,
                version="auto",
                timeout=_API_TIMEOUT_S,
                num_pools=4,
                max_pool_size=_CONNECTIONS,
            )

    @cached_property
    def _podman(self) -> bool:
        with translated(self.endpoint):
            parts = self._api.version().get("Components") or ()
        return any(part["Name"] == "Podman Engine" for part in parts)

    def info(self) -> EngineInfo:
        with translated(self.endpoint):
            info = self._api.info()
        rootless = info.get("Rootless") or any("rootless" in option for option in info.get("SecurityOptions") or ())
        cgroup_version = int(info.get("CgroupVersion", "1").removeprefix("v"))
        return EngineInfo(
            endpoint=self.endpoint,
            version=info["ServerVersion"],
            api_version=self._api.api_version,
            cgroup_version=cgroup_version,
            storage_driver=info["Driver"],
            kernel=info["KernelVersion"],
            os=info["OperatingSystem"],
            cpus=info["NCPU"],
            memory_bytes=info["MemTotal"],
            rootless=rootless,
            local=self._shares_kernel(info["KernelVersion"], info["Name"]),
            architecture=_GO_ARCHITECTURES.get(info["Architecture"], info["Architecture"]),
            product="Podman" if self._podman else "Docker Engine",
            clock=info.get("SystemTime") or "",
            # Rootless Podman claims to limit memory where it cannot.
            counts_memory=info.get("MemoryLimit", True) and not (rootless and cgroup_version == 1),
        )

    def image(self, reference: str) -> ImageInfo:
        with translated(reference):
            found = self._api.inspect_image(reference)  # type: ignore[no-untyped-call]
        digests = found.get("RepoDigests") or ()
        return ImageInfo(
            id=found["Id"],
            reference=reference,
            size_bytes=found["Size"],
            labels=found["Config"].get("Labels") or {},
            digest=digests[0].partition("@")[2] if digests else None,
        )

    def images(self, labels: Mapping[str, str]) -> tuple[ImageInfo, ...]:
        with translated("images"):
            found = self._api.images(filters=_label_filter(labels))
        tags = (tag for entry in found for tag in entry.get("RepoTags") or ())
        # An image that lost its name to a newer one is listed as <none>.
        return tuple(self.image(tag) for tag in tags if not tag.startswith("<none>"))

    def import_image(self, root: BinaryIO, reference: str, changes: Sequence[str]) -> ImageInfo:
        docker_images.import_root(self._api, root, reference, changes)
        return self.image(reference)

    def pull_image(self, reference: str, on_progress: OnPull, answer_s: float) -> ImageInfo:
        docker_images.pull(self._api, reference, on_progress, answer_s)
        # An image for one processor only is pulled whatever it is for, and would say so when it is started: too late.
        wanted, found = self.info().architecture, self._architecture(reference)
        if found not in ("", wanted):
            self.remove_image(reference)
            raise pulling.problem(f"no matching manifest for {wanted}: the image is for {found}", reference)
        return self.image(reference)

    def _architecture(self, reference: str) -> str:
        with translated(reference):
            return str(self._api.inspect_image(reference)["Architecture"])  # type: ignore[no-untyped-call]

    def tag_image(self, reference: str, name: str) -> None:
        repository, _, tag = name.rpartition(":")
        with translated(reference):
            self._api.tag(reference, repository, tag)

    def save_images(self, references: Sequence[str]) -> Iterator[bytes]:
        return docker_images.save(self._api, references)

    def load_images(self, pieces: Iterable[bytes]) -> None:
        docker_images.load(self._api, pieces)

    def remove_image(self, reference: str) -> None:
        with translated(reference):
            self._api.remove_image(reference)

    def create_network(self, network: Network, name: str, labels: Mapping[str, str]) -> NetworkInfo:
        # Addresses that the engine hands out come from the upper half, so that a fixed one is never taken already.
        *_, upper = network.subnet.subnets()
        pool = docker.types.IPAMPool(
            subnet=str(network.subnet), iprange=str(upper), gateway=str(network.subnet.network_address + 1)
        )
        options = {"com.docker.network.bridge.enable_ip_masquerade": "false"} if network.transit else {}
        # Podman always masquerades but on internal networks, and on those it lets foreign addresses cross the bridge.
        internal = self._podman or not network.transit
        with self._firewall_turn(), translated(f"network {network.name} ({network.subnet})"):
            made = self._api.create_network(
                name,
                driver="bridge",
                options=options,
                ipam=docker.types.IPAMConfig(pool_configs=[pool]),
                internal=internal,
                labels=dict(labels),
                check_duplicate=True,
            )
        return NetworkInfo(id=made["Id"], name=name, labels=dict(labels), subnets=(network.subnet,))

    def networks(self, labels: Mapping[str, str] | None = None) -> tuple[NetworkInfo, ...]:
        with translated("networks"):
            found = self._api.networks(filters=_label_filter(labels) if labels is not None else None)
        return tuple(_network_info(entry) for entry in found)

    def remove_network(self, network_id: str) -> None:
        with self._firewall_turn(), translated(network_id), _gone_is_fine():
            self._api.remove_network(network_id)

    @contextmanager
    def _firewall_turn(self) -> Iterator[None]:
        """One change of networks at a time on a local engine. It runs several iptables for each, side by side when
        asked side by side, and with nftables beneath one of them may then find its rule's place gone
        ("RULE_INSERT failed"). The lock is on the folder of the engine's socket, so all processes share it."""
        address = urlsplit(self.endpoint)
        if address.scheme not in ("unix", "http+unix"):
            yield
            return
        try:
            folder = os.open(Path(address.path).parent, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            # The engine went away with its folder; asking it says so.
            yield
            return
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def create_volume(self, name: str, labels: Mapping[str, str]) -> VolumeInfo:
        with translated(f"volume {name}"):
            self._api.create_volume(name, labels=dict(labels))
        return VolumeInfo(name=name, labels=dict(labels))

    def volumes(self, labels: Mapping[str, str]) -> tuple[VolumeInfo, ...]:
        with translated("volumes"):
            found = self._api.volumes(filters=_label_filter(labels))["Volumes"] or ()
        return tuple(VolumeInfo(entry["Name"], entry.get("Labels") or {}) for entry in found)

    def remove_volume(self, name: str) -> None:
        with translated(f"volume {name}"), _gone_is_fine():
            self._api.remove_volume(name)

    def create(self, container: Container, name: str, networks: Mapping[str, str], volumes: Mapping[str, str]) -> str:
        with translated(f"container {name} from {container.image}"):
            defaults = _DOCKERS_SYSCTLS if self._podman and not container.shares_network_of else {}
            body = _create_body(container, networks, volumes, defaults)
            made: str = self._api.create_container_from_config(body, name)["Id"]  # type: ignore[no-untyped-call]
        try:
            for attachment in container.attachments[1:]:
                self.connect(made, networks[attachment.network], attachment)
            if container.files:
                self.copy_in(made, container.files)
        except BaseException:
            self.remove(made)
            raise
        return made

    def connect(self, container_id: str, network_id: str, attachment: Attachment) -> None:
        with translated(f"network {attachment.network}"):
            self._api.connect_container_to_network(
                container_id,
                network_id,
                ipv4_address=str(attachment.address) if attachment.address else None,
                aliases=list(attachment.aliases),
            )

    def disconnect(self, container_id: str, network_id: str) -> None:
        with translated(f"network {network_id}"):
            self._api.disconnect_container_from_network(container_id, network_id)

    def start(self, container_id: str) -> None:
        with translated(f"container {container_id[:12]}"):
            self._api.start(container_id)

    def stop(self, container_id: str, grace_s: int = 10) -> None:
        with translated(f"container {container_id[:12]}"):
            self._api.stop(container_id, timeout=grace_s)

    def pause(self, container_id: str) -> None:
        with translated(f"container {container_id[:12]}"):
            self._api.pause(container_id)

    def unpause(self, container_id: str) -> None:
        with translated(f"container {container_id[:12]}"):
            self._api.unpause(container_id)

    def remove(self, container_id: str) -> None:
        with translated(f"container {container_id[:12]}"), _gone_is_fine():
            self._api.remove_container(container_id, force=True, v=True)

    def exec(self, container_id: str, argv: Sequence[str], stdin: bytes = b"") -> ExecResult:
        with translated(f"container {container_id[:12]}: {argv[0]}"):
            run = self._api.exec_create(container_id, list(argv), stdin=bool(stdin))["Id"]
            try:
                with stream.opened(self._api, run, tty=False) as connection:
                    # A command need not read its input to the end, nor need the engine live so long.
                    with suppress(BrokenPipeError):
                        if stdin:
                            connection.socket.sendall(stdin)
                            connection.socket.shutdown(socket.SHUT_WR)
                    stdout, stderr = stream.read_all(connection)
            except APIError as error:
                # Some engines answer the start with the runtime's refusal, others with its exit code.
                if "executable file not found" in str(error) or "no such file" in str(error):
                    return ExecResult(127, "", str(error.explanation))
                raise
            code = self._api.exec_inspect(run)["ExitCode"]
        return ExecResult(code, stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    def pipe(self, container_id: str, argv: Sequence[str]) -> socket.socket:
        with translated(f"container {container_id[:12]}: {argv[0]}"):
            run = self._api.exec_create(container_id, list(argv), stdin=True)["Id"]
            return stream.piped(self._api, run)

    def interactive(self, container_id: str, argv: Sequence[str]) -> int:
        with translated(f"container {container_id[:12]}: {argv[0]}"):
            return run_on_terminal(self._api, container_id, argv)

    def copy_in(self, container_id: str, files: Iterable[File]) -> None:
        with translated(f"container {container_id[:12]}"):
            self._api.put_archive(container_id, "/", _archive(files))

    def copy_out(self, container_id: str, path: str) -> bytes:
        with translated(f"container {container_id[:12]}: {path}"):
            chunks, _ = self._api.get_archive(container_id, path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                member = archive.next()
                content = archive.extractfile(member) if member else None
                if content is None:
                    raise NotFound("The container has no such file", where=f"{container_id[:12]}: {path}")
                return content.read()

    def logs(self, container_id: str, tail: int | None = None) -> str:
        with translated(f"container {container_id[:12]}"):
            text: bytes = self._api.logs(container_id, tail=tail if tail is not None else "all")
        return text.decode(errors="replace")

    def follow_logs(self, container_id: str) -> Iterator[str]:
        with translated(f"container {container_id[:12]}"):
            chunks = self._api.logs(container_id, stream=True, follow=True)
        with translated(f"container {container_id[:12]}"):
            yield from _lines(chunks)

    def inspect(self, container_id: str) -> ContainerInfo:
        with translated(f"container {container_id[:12]}"):
            found = self._api.inspect_container(container_id)
        state = found["State"]
        return ContainerInfo(
            id=found["Id"],
            name=found["Name"].lstrip("/"),
            image=found["Config"]["Image"],
            labels=found["Config"].get("Labels") or {},
            state=_state(state["Status"]),
            addresses=_addresses(found),
            pid=state["Pid"],
            exit_code=state["ExitCode"] if _state(state["Status"]) in (State.EXITED, State.DEAD) else None,
            started_at=state["StartedAt"],
            oom_killed=state["OOMKilled"],
            restarts=found["RestartCount"],
        )

    def containers(self, labels: Mapping[str, str]) -> tuple[ContainerInfo, ...]:
        with translated("containers"):
            found = self._api.containers(all=True, filters=_label_filter(labels))
        return tuple(
            ContainerInfo(
                id=entry["Id"],
                name=entry["Names"][0].lstrip("/"),
                image=entry["Image"],
                labels=entry["Labels"],
                state=_state(entry["State"]),
                addresses=_addresses(entry),
            )
            for entry in found
        )

    def stats(self, container_id: str) -> Mapping[str, object]:
        document: dict[str, object] = {}
        # Podman answers with nothing at all.
        with translated(f"container {container_id[:12]}"), suppress(requests.exceptions.JSONDecodeError):
            document = self._api.stats(container_id, stream=False, one_shot=True)
        if not document.get("memory_stats"):
            raise NotFound("A container that does not run has no statistics", where=container_id[:12])
        return document

    def close(self) -> None:
        self._api.close()

    def _shares_kernel(self, kernel: str, host: str) -> bool:
        """A unix socket may lead into a virtual machine, or to a machine elsewhere that has the same kernel."""
        import platform  # noqa: PLC0415 - only this rare call needs it

        here = (platform.release(), platform.node())
        return urlsplit(self.endpoint).scheme in ("unix", "http+unix") and here == (kernel, host)


def _create_body(
    container: Container, networks: Mapping[str, str], volumes: Mapping[str, str], defaults: Mapping[str, str]
) -> dict[str, Any]:
    """The Engine API's ContainerCreate body. Before API 1.44 it takes one network; the others are connected later.

    `defaults` are sysctls for what the container does not say itself.
    """
    first = container.attachments[0] if container.attachments else None
    host = {
        "Binds": [f"{volumes[mount.volume]}:{mount.target}" for mount in container.volumes],
        "CapAdd": container.cap_add,
        "CapDrop": container.cap_drop,
        "Dns": [str(address) for address in container.dns],
        "DnsOptions": container.dns_options,
        "Devices": [_device(device) for device in container.devices],
        "Memory": container.mem_limit_bytes or 0,
        "NetworkMode": _network_mode(container, networks),
        "ReadonlyRootfs": container.read_only,
        "SecurityOpt": container.security_opt,
        "Sysctls": {**defaults, **container.sysctls},
        "Tmpfs": dict(container.tmpfs),
    }
    return {
        "Image": container.image,
        "Cmd": container.command,
        "Entrypoint": container.entrypoint,
        "Env": [f"{key}={value}" for key, value in container.environment.items()],
        "Hostname": container.hostname or "",
        "User": container.user or "",
        "Labels": dict(container.labels),
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": {networks[first.network]: _endpoint(first)} if first else {}},
    }


def _network_mode(container: Container, networks: Mapping[str, str]) -> str:
    if container.shares_network_of:
        return f"container:{container.shares_network_of}"
    return networks[container.attachments[0].network] if container.attachments else "none"


def _device(path: str) -> dict[str, str]:
    """PATH or HOST:CONTAINER[:PERMISSIONS], as Compose writes it."""
    on_host, _, rest = path.partition(":")
    in_container, _, permissions = rest.partition(":")
    return {
        "PathOnHost": on_host,
        "PathInContainer": in_container or on_host,
        "CgroupPermissions": permissions or "rwm",
    }


def _endpoint(attachment: Attachment) -> dict[str, Any]:
    address = {"IPv4Address": str(attachment.address)} if attachment.address else {}
    return {"IPAMConfig": address, "Aliases": attachment.aliases}


def _network_info(entry: Mapping[str, Any]) -> NetworkInfo:
    pools = (entry.get("IPAM") or {}).get("Config") or ()
    subnets = (pool.get("Subnet", "") for pool in pools)
    return NetworkInfo(
        id=entry["Id"],
        name=entry["Name"],
        labels=entry.get("Labels") or {},
        subnets=tuple(IPv4Network(subnet) for subnet in subnets if "." in subnet),
    )


def _addresses(entry: Mapping[str, Any]) -> dict[str, IPv4Address]:
    networks = (entry.get("NetworkSettings") or {}).get("Networks") or {}
    return {name: IPv4Address(end["IPAddress"]) for name, end in networks.items() if end.get("IPAddress")}


def _state(word: str) -> State:
    """Podman has words of its own for states that Docker does not tell apart."""
    return State(_PODMAN_STATES.get(word, word))


def _label_filter(labels: Mapping[str, str]) -> dict[str, list[str]]:
    return {"label": [f"{key}={value}" if value else key for key, value in labels.items()]}


def _archive(files: Iterable[File]) -> bytes:
    """A tar of files alone: the engine makes missing parents and leaves existing folders as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in files:
            entry = tarfile.TarInfo(str(PurePosixPath(file.path).relative_to("/")))
            entry.size = len(file.content)
            entry.mode = file.mode
            archive.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
    if rest:
        yield rest.decode(errors="replace")


def _knock(endpoint: str) -> None:
    """Say plainly why a unix socket cannot be used; the SDK's own error hides it and leaks the socket."""
    address = urlsplit(endpoint)
    if address.scheme not in ("unix", "http+unix"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        try:
            knocking.connect(address.path)
        except OSError as error:
            raise EngineUnavailable(
                "The container engine does not answer",
                where=endpoint,
                why=error.strerror or str(error),
                hint="inv engine.status, or inv doctor",
            ) from error


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Two removals may race (two shells, an engine that cleans up itself); the aim is reached either way."""
    try:
        yield
    except APIError as error:
        in_progress = error.status_code == 409 and "already in progress" in str(error)
        if error.status_code != 404 and not in_progress:
            raise
