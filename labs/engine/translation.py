"""What the SDK and the engine say went wrong, as this toolkit's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from docker.errors import APIError, DockerException

from labs.errors import AddressInUse, EngineProblem, EngineUnavailable, NoSpace, NotFound

# What engines say of addresses that another network has: Docker in two places, and Podman.
_TAKEN = ("Pool overlaps", "conflicts with network", "is already used on the host or by another config")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raises what `problem` makes of the engine's refusal, and EngineUnavailable when it does not answer."""
    try:
        yield
    except APIError as error:
        raise problem(str(error.explanation or error), where, error.status_code) from error
    except (requests.exceptions.RequestException, DockerException, ConnectionResetError) as error:
        raise EngineUnavailable(
            "The container engine does not answer",
            where=where,
            why=str(error),
            hint="inv engine.status, or inv doctor",
        ) from error


def problem(text: str, where: str, status: int | None = None) -> EngineProblem:
    """An error by the engine's own words and its HTTP status."""
    if any(sign in text for sign in _TAKEN):
        return AddressInUse("These addresses belong to another network", where=where, why=text)
    if "no space left on device" in text:
        return NoSpace("The engine's disk is full", where=where, why=text, hint="inv doctor shows the disks")
    if status == 404:
        return NotFound("The engine has no such thing", where=where, why=text)
    return EngineProblem("The container engine refused", where=where, why=text)
