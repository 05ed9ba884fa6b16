"""Registries on loopback: a real one in a container, filled with what is built here, and one that says what is wanted.

The real one is Debian's docker-registry, made into an image by the project's own recipes and started by
testcontainers. Its usual images cannot be had without a registry, the reaper's neither: the labels of its
containers and `with` clean up instead. Everything runs on an engine of the tests' own, so that no
official name ever appears on an engine that somebody else uses.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import pytest

from labs.engine.docker_engine import DockerEngine
from labs.engine.host import HostSystem
from labs.engine.paths import EnginePaths
from labs.engine.private import PrivateEngine
from labs.images import Recipe, Source, Sourcing, recipe
from labs.images.builder import Cache, build, cache_folder
from labs.images.catalogue import RecipeSpec
from labs.images.toolchain import HostToolchain
from labs.timing import SystemClock, until
from labs.yamlsource import load, validated

DATA = Path(__file__).parents[1] / "data"
USER, PASSWORD = "tester", "insecure-lab-only"
# bcrypt, as docker-registry wants it.
HTPASSWD = f"{USER}:$2b$05$4s4fbo0KjzPHM5Rey9r5TuFhgLqOspt92RAgYSZTwTiD0BMQ/EO8y\n"

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


@contextmanager
def private_engine() -> Iterator[str]:
    """A second private engine, and its endpoint; nothing of it is left afterwards. Its path has to be short."""
    folder = Path(tempfile.mkdtemp(prefix="ml-")).resolve()
    engine = PrivateEngine(EnginePaths.of({"MESH_LABS_ENGINE_DIR": str(folder)}), HostSystem())
    try:
        yield engine.start(lambda _: None)
    finally:
        engine.stop(purge=True)
        shutil.rmtree(folder)


def inv(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command as a person types it, on the engine that `environment` names."""
    argv = [sys.executable, "-m", "labs.commands.cli", *words]
    return subprocess.run(
        argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=600
    )


def archive(wanted: Recipe) -> Path:
    """The recipe's root file system, built unless the cache has it."""
    cache = Cache(cache_folder(os.environ))
    with cache.locked(wanted):
        if cache.ingredients(wanted) is None:
            build(wanted, cache, HostToolchain(), lambda _: None)
    return cache.archive(wanted)


def own_recipe(name: str) -> Recipe:
    file = DATA / f"{name}.yaml"
    return Recipe(validated(load(file), RecipeSpec), file)


@dataclass(frozen=True)
class Registry:
    """A real registry at `host` (127.0.0.1:PORT)."""

    host: str
    engine: DockerEngine

    def push(self, official: str, content: Recipe, **login: str) -> str:
        """Push what this recipe makes where a mirror has `official`, without our labels; returns its digest."""
        reference = Sourcing(Source.PULL, self.host).pulled_from(official)
        with archive(content).open("rb") as root:
            self.engine.import_image(root, reference, content.spec.configuration)
        repository, _, tag = reference.rpartition(":")
        api = docker.APIClient(base_url=self.engine.endpoint)
        try:
            told = api.push(repository, tag, stream=True, decode=True, auth_config=login or None)
            ends = [entry["aux"] for entry in told if "aux" in entry]
        finally:
            api.close()
        self.engine.remove_image(reference)
        return str(ends[0]["Digest"])


@contextmanager
def registry(engine: DockerEngine, *, htpasswd: str = "") -> Iterator[Registry]:
    """Debian's registry on a free port of the loopback interface; with `htpasswd` it wants a login."""
    from testcontainers.core.container import DockerContainer

    host = f"127.0.0.1:{free_port()}"
    made = own_recipe("registry")
    with archive(made).open("rb") as root:
        engine.import_image(root, made.reference, made.spec.configuration)
    # testcontainers finds its engine in the environment, and nowhere else.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        patch.setenv("DOCKER_HOST", engine.endpoint)
        container = DockerContainer(made.reference, network_mode="host").with_env("REGISTRY_HTTP_ADDR", host)
        if htpasswd:
            container.with_envs(
                REGISTRY_AUTH="htpasswd",
                REGISTRY_AUTH_HTPASSWD_REALM="test",
                REGISTRY_AUTH_HTPASSWD_PATH="/etc/htpasswd",
            ).with_copy_into_container(htpasswd.encode(), "/etc/htpasswd")
        container.start()
    try:
        until(SystemClock(), lambda: answers(host), bool, what="The registry's answer", timeout_s=20)
        yield Registry(host, engine)
    finally:
        container.stop()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def answers(host: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{host}/v2/", timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Says:
    """One answer of a fake registry."""

    status: int = 200
    body: bytes = b"{}"
    kind: str = "application/json"


@dataclass
class FakeRegistry:
    """Answers by path; what it has no answer for is unknown to it. `asked` has the paths in order."""

    answers: Mapping[str, Says]
    asked: list[str] = field(default_factory=list)
    host: str = ""


@contextmanager
def fake_registry(answers: Mapping[str, Says]) -> Iterator[FakeRegistry]:
    """A registry that says what a test wants it to say."""
    fake = FakeRegistry({"/v2/": Says(), **answers})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.asked.append(self.path)
            unknown = Says(404, error("MANIFEST_UNKNOWN", "manifest unknown"))
            said = fake.answers.get(self.path, unknown)
            self.send_response(said.status)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Content-Type", said.kind)
            self.send_header("Content-Length", str(len(said.body)))
            self.send_header("Docker-Content-Digest", digest(said.body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(said.body)

        do_HEAD = do_GET  # noqa: N815 - the base class's name

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    fake.host = f"127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def mute_registry() -> Iterator[str]:
    """A registry that takes a call and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        calls: list[socket.socket] = []

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    calls.append(listening.accept()[0])

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for call in calls:
                call.close()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, "detail": None}]}).encode()


def manifest_list(name: str, tag: str, *platforms: tuple[str, str]) -> dict[str, Says]:
    """A list of manifests for these systems and processors, by its tag and by its digest."""
    entries = [
        {
            "mediaType": MANIFEST,
            "size": 2,
            "digest": digest(b"{}"),
            "platform": {"os": system, "architecture": processor},
        }
        for system, processor in platforms
    ]
    document = {"schemaVersion": 2, "mediaType": MANIFEST_LIST, "manifests": entries}
    said = Says(body=json.dumps(document).encode(), kind=MANIFEST_LIST)
    return {f"/v2/{name}/manifests/{tag}": said, f"/v2/{name}/manifests/{digest(said.body)}": said}


def single_image(name: str, tag: str, processor: str, layer: bytes) -> dict[str, Says]:
    """An image of one manifest, for one processor; `layer` is a tar."""
    config = json.dumps(
        {
            "architecture": processor,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    ).encode()
    kinds = ("application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar")
    parts = [
        {"mediaType": kind, "size": len(blob), "digest": digest(blob)}
        for kind, blob in zip(kinds, (config, layer), strict=True)
    ]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
    manifest = Says(body=json.dumps(document).encode(), kind=MANIFEST)
    blobs = {
        f"/v2/{name}/blobs/{digest(blob)}": Says(body=blob, kind="application/octet-stream") for blob in (config, layer)
    }
    return {f"/v2/{name}/manifests/{tag}": manifest, f"/v2/{name}/manifests/{digest(manifest.body)}": manifest, **blobs}


def official(names: Sequence[str]) -> dict[str, Recipe]:
    """What to push where, so that labs find all their images: official references, and what each is made of."""
    found = {recipe(name).official: recipe(name) for name in names if name != "toolbox"}
    return {**found, recipe("toolbox").official: own_recipe("busybox")}
