"""Which engine to use: the first one that was named, or that is found."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labs.engine.host import API_MINIMUM, UnixConnection, ask
from labs.engine.private import PrivateEngine, PrivateState, private_engine
from labs.errors import EngineUnavailable, UsageError

DEFAULT_SOCKET = Path("/var/run/docker.sock")
NAMED = "MESH_LABS_ENGINE_NAMED"  # what --engine says, so that it reaches every child: an endpoint or a name
PRIVATE = "private"  # the name of the toolkit's own engine, where a Docker context's could stand

_PING_S = 5.0  # an engine on this machine answers in 1 ms, one elsewhere within a round trip


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An engine that answers: `url` is unix:///… or tcp://…, `source` says in words why it was chosen."""

    url: str
    source: str

    def __str__(self) -> str:
        return f"{self.url} ({self.source})"


def choose(
    explicit: str | None = None,
    start: bool = True,
    on_event: Callable[[str], None] = lambda _: None,
    *,
    environment: Mapping[str, str] | None = None,
    home: Path | None = None,
    private: PrivateEngine | None = None,
    default_socket: Path = DEFAULT_SOCKET,
) -> Endpoint:
    """The engine to use, after it has answered; where there is none, `start` lets the private one be started.

    An engine that was named (`explicit` or --engine, DOCKER_HOST, a Docker context) is used or is an error, never
    replaced by another. `explicit` is an endpoint, the name of a Docker context, or PRIVATE.
    Raises EngineUnavailable, UsageError, and what `PrivateEngine.start` raises.
    """
    environment = os.environ if environment is None else environment
    found, passed = look(explicit, environment, home or Path.home(), default_socket)
    return found or _private(private or private_engine(environment), start, on_event, passed)


def look(
    explicit: str | None, environment: Mapping[str, str], home: Path, default_socket: Path = DEFAULT_SOCKET
) -> tuple[Endpoint | None, list[str]]:
    """The engine that was named, or that answers at a usual place, and why the places before it were passed over.

    None: the private engine was named, or nothing was and nothing answers. Raises as `choose`, and never starts
    anything.
    """
    if private_named(explicit, environment):
        return None, []
    named = _named(explicit, environment, home, default_socket)
    if named:
        check(named)
        return named, []
    passed: list[str] = []
    for candidate in _default_sockets(environment, default_socket):
        try:
            version = ping(candidate.url)
        except OSError as error:
            passed.append(f"{candidate.url}: {_reason(error)}")
            continue
        _require_version(version, candidate)
        return candidate, passed
    return None, passed


def private_named(explicit: str | None, environment: Mapping[str, str]) -> bool:
    """Whether the private engine was asked for, so that no other one comes into question."""
    return (explicit or environment.get(NAMED)) == PRIVATE


def check(endpoint: Endpoint) -> None:
    """Raises EngineUnavailable when nothing answers there or it is too old, UsageError when it cannot be spoken to."""
    try:
        version = ping(endpoint.url)
    except OSError as error:
        raise EngineUnavailable(
            "The container engine does not answer",
            where=str(endpoint),
            why=_reason(error),
            hint="start that engine, or name another one with --engine",
        ) from error
    _require_version(version, endpoint)


def ping(url: str) -> str:
    """The API version of the engine at `url`. Raises OSError when none answers, UsageError for an unusable url."""
    answer = ask(_connection(url), "GET", "/_ping")
    if answer.status != 200 or not answer.api_version:
        raise ConnectionError(f"something answers that is not a Docker Engine (HTTP {answer.status})")
    return answer.api_version


def data_folder(url: str) -> Path:
    """Where the engine keeps images and containers, on its own machine. Raises OSError when it does not say."""
    answer = ask(_connection(url), "GET", f"/v{API_MINIMUM}/info")
    if answer.status != 200:
        raise ConnectionError(f"the engine does not describe itself (HTTP {answer.status})")
    return Path(json.loads(answer.body)["DockerRootDir"])


def _connection(url: str) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _unusable(url, str(error)) from error
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return UnixConnection(parts.path, _PING_S)
    if parts.scheme in ("tcp", "http") and host:
        return http.client.HTTPConnection(host, port or 2375, timeout=_PING_S)
    raise _unusable(url, "unix:///path and tcp://host:port are")


def _unusable(url: str, why: str) -> UsageError:
    return UsageError(
        f"{url} is no endpoint that mesh-labs can use",
        why=why,
        hint="ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST brings a remote engine to unix:///tmp/engine.sock",
    )


def _named(explicit: str | None, environment: Mapping[str, str], home: Path, default_socket: Path) -> Endpoint | None:
    config = Path(environment.get("DOCKER_CONFIG") or home / ".docker")
    if asked := explicit or environment.get(NAMED):
        if "/" in asked or ":" in asked:
            return _without_tls(Endpoint(asked, "as given"), environment)
        return _context(asked, config) or Endpoint(f"unix://{default_socket}", "Docker context default")
    if host := environment.get("DOCKER_HOST"):
        return _without_tls(Endpoint(host, "DOCKER_HOST"), environment)
    settings = _read_json(config / "config.json") or {}
    return _context(environment.get("DOCKER_CONTEXT") or str(settings.get("currentContext") or "default"), config)


def _without_tls(endpoint: Endpoint, environment: Mapping[str, str]) -> Endpoint:
    if environment.get("DOCKER_TLS_VERIFY") and not endpoint.url.startswith("unix:"):
        raise _no_tls("DOCKER_TLS_VERIFY")
    return endpoint


def _context(name: str, config: Path) -> Endpoint | None:
    """The endpoint of a Docker context; None for the context `default`, which names no engine."""
    if name == "default":
        return None
    folder = sha256(name.encode()).hexdigest()
    file = config / "contexts" / "meta" / folder / "meta.json"
    endpoint = ((_read_json(file) or {}).get("Endpoints") or {}).get("docker") or {}
    if not endpoint.get("Host"):
        raise EngineUnavailable(
            f"The Docker context '{name}' names no engine",
            where=str(file),
            hint="docker context ls shows those there are; an endpoint is unix:///path or tcp://host:port",
        )
    if (config / "contexts" / "tls" / folder).exists() and not endpoint["Host"].startswith("unix:"):
        raise _no_tls(f"the Docker context '{name}'")
    return Endpoint(endpoint["Host"], f"Docker context {name}")


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise EngineUnavailable(
            "Docker's own settings cannot be read",
            where=str(file),
            why=str(error),
            hint="mend that file, or set DOCKER_HOST, which comes before it",
        ) from error
    return document if isinstance(document, dict) else None


def _default_sockets(environment: Mapping[str, str], default: Path) -> list[Endpoint]:
    found = [Endpoint(f"unix://{default}", "the machine's engine")]
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        found.append(Endpoint(f"unix://{runtime}/docker.sock", "your rootless engine"))
    return found


def _private(engine: PrivateEngine, start: bool, on_event: Callable[[str], None], passed: list[str]) -> Endpoint:
    try:
        status = engine.status()
        if status.state is not PrivateState.RUNNING:
            if not start:
                # Other places were looked at unless this very one was named.
                what = "No container engine answers" if passed else "The private engine does not run"
                raise EngineUnavailable(what, hint="inv engine.start starts one, or name another with --engine")
            engine.start(on_event)
    except EngineUnavailable as error:
        why = "; ".join(part for part in (error.why, *passed) if part)
        raise EngineUnavailable(error.what, where=error.where, why=why, hint=error.hint) from error
    return Endpoint(status.endpoint, "the private engine")


def _require_version(version: str, endpoint: Endpoint) -> None:
    if _number(version) < _number(API_MINIMUM):
        raise EngineUnavailable(
            f"The container engine is too old: it speaks API {version}",
            where=str(endpoint),
            why=f"API {API_MINIMUM} is the oldest that mesh-labs uses",
            hint="install Docker Engine 20.10 or later, or name another engine with --engine",
        )


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


def _no_tls(source: str) -> UsageError:
    return UsageError(
        f"mesh-labs does not speak TLS to an engine, as {source} asks",
        hint="ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST, then DOCKER_HOST=unix:///tmp/engine.sock",
    )


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
