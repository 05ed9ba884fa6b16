"""Which engine is chosen, against small servers on unix sockets and loopback ports."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from labs.engine.paths import EnginePaths
from labs.engine.private import PrivateEngine
from labs.engine.select import Endpoint, choose, data_folder, ping
from labs.errors import EngineUnavailable, UsageError
from tests.fake_system import FakeSystem

Serve = Callable[..., Path]


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True


def handler(version: str, status: int = 200) -> type[BaseHTTPRequestHandler]:
    class Engine(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Api-Version", version)
            self.end_headers()
            self.wfile.write(b'{"DockerRootDir": "/var/lib/docker"}' if self.path.endswith("/info") else b"OK")

        def address_string(self) -> str:
            return "test"

        def log_message(self, *_: object) -> None:
            pass

    return Engine


@pytest.fixture
def tmp_path(short_path: Path) -> Path:
    """Sockets lie in it."""
    return short_path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Something that answers as an engine does, at a socket of this name."""
    servers: list[tuple[socketserver.BaseServer, threading.Thread]] = []

    def start(name: str, version: str = "1.41", status: int = 200) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        server = _Unix(str(path), handler(version, status))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return path

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def system() -> FakeSystem:
    return FakeSystem()


@pytest.fixture
def pick(tmp_path: Path, system: FakeSystem) -> Callable[..., Endpoint]:
    """`choose` with nothing of this machine's: no engine, no settings, an empty home."""

    def call(explicit: str | None = None, start: bool = False, **environment: str) -> Endpoint:
        private = PrivateEngine(
            EnginePaths(tmp_path / "p/data", tmp_path / "p/run"), system, environment.get("MESH_LABS_ENGINE") == "never"
        )
        return choose(
            explicit,
            start,
            environment=environment,
            home=tmp_path,
            private=private,
            default_socket=tmp_path / "default.sock",
        )

    return call


def context(home: Path, name: str, host: str | None, current: bool = True) -> None:
    folder = home / ".docker/contexts/meta" / sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    endpoints = {"docker": {"Host": host}} if host else {}
    (folder / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": endpoints}))
    if current:
        (home / ".docker/config.json").write_text(json.dumps({"currentContext": name}))


def test_the_order(pick: Callable[..., Endpoint], serve: Serve, tmp_path: Path, system: FakeSystem) -> None:
    names = ("explicit", "host", "current", "named", "default", "rootless/docker")
    urls = {name: f"unix://{serve(f'{name}.sock')}" for name in names}
    context(tmp_path, "current", urls["current"])
    context(tmp_path, "named", urls["named"], current=False)
    runtime = str(tmp_path / "rootless")
    everything = {"DOCKER_HOST": urls["host"], "DOCKER_CONTEXT": "named", "XDG_RUNTIME_DIR": runtime}
    assert pick(urls["explicit"], **everything) == Endpoint(urls["explicit"], "as given")
    assert pick(**everything) == Endpoint(urls["host"], "DOCKER_HOST")
    del everything["DOCKER_HOST"]
    assert pick(**everything) == Endpoint(urls["named"], "Docker context named")
    del everything["DOCKER_CONTEXT"]
    assert pick(**everything) == Endpoint(urls["current"], "Docker context current")
    (tmp_path / ".docker/config.json").unlink()
    assert pick(**everything) == Endpoint(urls["default"], "the machine's engine")
    (tmp_path / "default.sock").unlink()
    assert pick(**everything) == Endpoint(urls["rootless/docker"], "your rootless engine")
    system.add("dockerd", "--data-root", str(tmp_path / "p/data"))
    system.serving = True
    assert pick() == Endpoint(f"unix://{tmp_path}/p/run/docker.sock", "the private engine")


def test_a_name_comes_before_everything_dockers(
    pick: Callable[..., Endpoint], serve: Serve, tmp_path: Path, system: FakeSystem
) -> None:
    url, other = (f"unix://{serve(name)}" for name in ("a.sock", "b.sock"))
    default = f"unix://{serve('default.sock')}"
    context(tmp_path, "work", url)
    docker = {"DOCKER_HOST": other, "DOCKER_CONTEXT": "elsewhere"}
    assert pick(**docker, MESH_LABS_ENGINE_NAMED=url) == Endpoint(url, "as given")
    assert pick(**docker, MESH_LABS_ENGINE_NAMED="work") == Endpoint(url, "Docker context work")
    assert pick(**docker, MESH_LABS_ENGINE_NAMED="default") == Endpoint(default, "Docker context default")
    assert pick(other, MESH_LABS_ENGINE_NAMED=url) == Endpoint(other, "as given")
    with pytest.raises(EngineUnavailable, match="context 'wrok' names no engine"):
        pick("wrok")


def test_the_private_engine_can_be_named(pick: Callable[..., Endpoint], serve: Serve, system: FakeSystem) -> None:
    serve("default.sock")
    with pytest.raises(EngineUnavailable, match="The private engine does not run"):
        pick("private")
    assert pick("private", start=True).source == "the private engine"
    assert pick(MESH_LABS_ENGINE_NAMED="private").source == "the private engine"
    assert pick().source == "the machine's engine"


@pytest.mark.parametrize("how", ["explicit", "DOCKER_HOST", "context"])
def test_a_named_engine_that_is_dead_is_never_replaced(
    how: str, pick: Callable[..., Endpoint], serve: Serve, tmp_path: Path, system: FakeSystem
) -> None:
    serve("default.sock")
    dead = f"unix://{tmp_path}/dead.sock"
    if how == "context":
        context(tmp_path, "work", dead)
    with pytest.raises(EngineUnavailable, match="does not answer") as caught:
        pick(dead if how == "explicit" else None, True, **({"DOCKER_HOST": dead} if how == "DOCKER_HOST" else {}))
    assert dead in caught.value.where
    assert caught.value.why == "No such file or directory"
    assert not system.spawned


def test_where_none_answers_the_private_one_is_started_if_allowed(
    pick: Callable[..., Endpoint], tmp_path: Path, system: FakeSystem
) -> None:
    (tmp_path / "default.sock").touch()
    with pytest.raises(EngineUnavailable, match="No container engine answers") as caught:
        pick()
    assert "default.sock: Connection refused" in caught.value.why
    assert not system.spawned
    assert pick(start=True).source == "the private engine"
    assert len(system.spawned) == 1


def test_never_is_an_error_that_says_so(pick: Callable[..., Endpoint], system: FakeSystem) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        pick(start=True, MESH_LABS_ENGINE="never")
    assert caught.value.why.startswith("MESH_LABS_ENGINE=never; ")
    assert not system.spawned


def test_an_engine_of_an_older_api_is_named_with_its_version(pick: Callable[..., Endpoint], serve: Serve) -> None:
    old = serve("old.sock", "1.40")
    with pytest.raises(EngineUnavailable, match=r"too old: it speaks API 1\.40"):
        pick(f"unix://{old}")
    assert pick(f"unix://{serve('new.sock', '1.100')}")


def test_something_else_that_answers_is_not_an_engine(serve: Serve) -> None:
    with pytest.raises(ConnectionError, match="not a Docker Engine"):
        ping(f"unix://{serve('other.sock', status=404)}")


def test_tcp(pick: Callable[..., Endpoint]) -> None:
    with _Tcp(("127.0.0.1", 0), handler("1.47")) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"tcp://127.0.0.1:{server.server_address[1]}"
        assert pick(DOCKER_HOST=url) == Endpoint(url, "DOCKER_HOST")
        server.shutdown()
        thread.join()


def test_the_engines_data_folder(serve: Serve) -> None:
    assert data_folder(f"unix://{serve('a.sock')}") == Path("/var/lib/docker")


@pytest.mark.parametrize("url", ["ssh://host", "tcp://host:port", "tcp://[::1", "unix://", "docker.sock", "npipe:////"])
def test_an_endpoint_that_cannot_be_used_is_a_usage_error(url: str, pick: Callable[..., Endpoint]) -> None:
    with pytest.raises(UsageError, match="is no endpoint that mesh-labs can use"):
        pick(DOCKER_HOST=url)


def test_tls_is_refused_rather_than_left_out(pick: Callable[..., Endpoint], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not speak TLS"):
        pick(DOCKER_HOST="tcp://127.0.0.1:2376", DOCKER_TLS_VERIFY="1")
    context(tmp_path, "tls", "tcp://127.0.0.1:2376")
    (tmp_path / ".docker/contexts/tls" / sha256(b"tls").hexdigest()).mkdir(parents=True)
    with pytest.raises(UsageError, match="Docker context 'tls'"):
        pick()


def test_a_context_without_an_engine_is_an_error(pick: Callable[..., Endpoint], tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="context 'gone' names no engine"):
        pick(DOCKER_CONTEXT="gone")
    context(tmp_path, "empty", None)
    with pytest.raises(EngineUnavailable, match="context 'empty' names no engine"):
        pick()


def test_the_default_context_names_nothing(pick: Callable[..., Endpoint], serve: Serve, tmp_path: Path) -> None:
    serve("default.sock")
    context(tmp_path, "default", f"unix://{tmp_path}/dead.sock")
    assert pick().source == "the machine's engine"


def test_settings_of_dockers_that_cannot_be_read_are_named(pick: Callable[..., Endpoint], tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text("{")
    with pytest.raises(EngineUnavailable, match="settings cannot be read"):
        pick()
    (tmp_path / "file").touch()
    with pytest.raises(EngineUnavailable, match="settings cannot be read"):
        pick(DOCKER_CONFIG=str(tmp_path / "file"))


def test_choosing_does_not_import_docker() -> None:
    program = (
        "import sys, labs.engine.select; print([m for m in ('docker', 'requests', 'pydantic') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
