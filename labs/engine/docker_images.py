"""Images in and out of a Docker Engine as streams: the SDK's helpers keep archives in memory, or wait without end."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import docker
import requests
from docker import auth
from docker.errors import DockerException

from labs.engine import pulling
from labs.engine.protocol import OnPull
from labs.engine.translation import problem, translated
from labs.errors import ImageProblem

# Silence of the engine while it is busy with one image. On a loaded machine a large layer takes a while to unpack.
_BUSY_S = 600
_CHUNK_BYTES = 1 << 20


def import_root(api: docker.APIClient, root: BinaryIO, reference: str, changes: Sequence[str]) -> None:
    """An image of one layer from the tar of its root file system."""
    with translated(reference):
        response = api.post(
            _url(api, "/images/create"),
            # The tag goes with the name: Podman takes no notice of the parameter `tag`.
            params={"fromSrc": "-", "repo": reference, "changes": list(changes)},
            data=root,
            headers={"Content-Type": "application/tar"},
            timeout=_BUSY_S,
        )
    _raise_for_stream(response, reference)


def pull(api: docker.APIClient, reference: str, on_progress: OnPull, answer_s: float) -> None:
    """Pull, and read what the engine says about it to the end. Raises as `Engine.pull_image`."""
    with translated(reference), _pulling(api, reference, answer_s) as response:
        if response.status_code >= 400:
            raise pulling.problem(_message(response), reference)
        pulling.follow(response.iter_lines(), reference, on_progress)


def save(api: docker.APIClient, references: Sequence[str]) -> Iterator[bytes]:
    """One archive of several images, in pieces."""
    where = ", ".join(references)
    with translated(where):
        names = {"names": list(references)}
        with api.get(_url(api, "/images/get"), params=names, stream=True, timeout=_BUSY_S) as response:
            if response.status_code >= 400:
                raise problem(_message(response), where, response.status_code)
            yield from response.iter_content(_CHUNK_BYTES)


def load(api: docker.APIClient, pieces: Iterable[bytes]) -> None:
    """Hand such an archive over."""
    where = "images"
    with translated(where):
        response = api.post(
            _url(api, "/images/load"),
            params={"quiet": "1"},
            data=iter(pieces),
            headers={"Content-Type": "application/x-tar"},
            timeout=_BUSY_S,
        )
    _raise_for_stream(response, where)


@contextmanager
def _pulling(api: docker.APIClient, reference: str, answer_s: float) -> Iterator[requests.Response]:
    """The engine's answer to the order, which begins only when the registry has answered."""
    repository, _, tag = reference.rpartition(":")
    login = _login(api, reference)
    try:
        response = api.post(
            _url(api, "/images/create"),
            params={"fromImage": repository, "tag": tag},
            headers={"X-Registry-Auth": login} if login else {},
            stream=True,
            timeout=(_BUSY_S, answer_s),
        )
    except requests.exceptions.ReadTimeout as error:
        raise pulling.unreachable(reference, f"no answer within {answer_s:g} s") from error
    with response:
        if (connection := response.raw.connection) and connection.sock:
            connection.sock.settimeout(_BUSY_S)
        yield response


def _login(api: docker.APIClient, reference: str) -> bytes | None:
    """What Docker's own configuration has for the registry: config.json, its credsStore and credHelpers."""
    registry = pulling.registry_of(reference)
    try:
        with warnings.catch_warnings():
            # The SDK warns of a helper that is not there, and then raises as well.
            warnings.filterwarnings("ignore", message="docker-credential-")
            header: bytes | None = auth.get_config_header(api, registry)
    except DockerException as error:
        raise ImageProblem(
            f"Docker's configuration gives no login for {registry}",
            where=reference,
            why=str(error),
            hint="docker login, or mend credsStore and credHelpers in config.json (~/.docker or $DOCKER_CONFIG)",
        ) from error
    return header


def _url(api: docker.APIClient, path: str) -> str:
    return f"{api.base_url}/v{api.api_version}{path}"


def _message(response: requests.Response) -> str:
    """The engine's own words in an error's answer."""
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[-500:]


def _raise_for_stream(response: requests.Response, where: str) -> None:
    if response.status_code >= 400 or '"error"' in response.text:
        raise problem(response.text.strip()[-500:], where)
