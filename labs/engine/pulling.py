"""A pull as the engine tells it: how far it is, and what its errors mean.

The engine passes on what a registry, the network or its own image store says, in words that differ between
Docker with its own store (20.10 on), Docker with containerd's, and Podman. They are told apart by these words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labs.engine.protocol import OnPull, PullProgress
from labs.errors import ImageProblem, LabsError, NoSpace, RegistryUnreachable

_INDEX = "docker.io"
_DONE = ("Pull complete", "Already exists")


@dataclass(frozen=True, slots=True)
class _Cause:
    """What happened when one of `signs` is among the engine's words; `what` and `hint` may name {registry}, {login}."""

    signs: tuple[str, ...]
    what: str
    hint: str = ""
    kind: type[LabsError] = ImageProblem


_UNREACHABLE = _Cause(
    (
        "dial tcp",
        "no such host",
        "connection refused",
        "connection reset",
        "i/o timeout",
        "tls handshake timeout",
        "network is unreachable",
        "no route to host",
        "server misbehaving",
        "client.timeout",
        "context deadline exceeded",
        "request canceled",
        "proxyconnect",
        "unexpected eof",
        ": eof",
        "500 internal server error",
        "502 bad gateway",
        "503 service unavailable",
        "504 gateway timeout",
    ),
    "The engine cannot reach {registry}",
    "--images build needs no registry; inv images.load FILE needs no network",
    RegistryUnreachable,
)
# In this order: "not found" is also among the words for what is denied, and for what fits no processor.
_CAUSES = (
    _Cause(("no space left on device",), "The engine's disk is full", "inv doctor shows the disks", NoSpace),
    _Cause(
        ("toomanyrequests", "too many requests", "pull rate limit", "http 429"),
        "{registry} lets nobody pull more from here for a while",
        "{login}, or name a mirror in MESH_LABS_MIRROR",
    ),
    _Cause(
        (
            "no matching manifest for",
            "no match for platform",
            "does not match the specified platform",
            "cannot be used on this platform",
            "no image found in manifest list for architecture",
            "no image found in image index for architecture",
        ),
        "There is no such image for this engine's processor",
        "--images build makes it from the product's sources",
    ),
    _Cause(
        ("x509:", "server gave http response to https client", "failed to verify certificate"),
        "The engine does not trust {registry}",
        "give the engine that registry's certificate, or list it among its insecure-registries",
    ),
    _Cause(
        (
            "pull access denied",
            "denied:",
            "unauthorized",
            "no basic auth credentials",
            "authentication required",
            "insufficient_scope",
            "authorization failed",
            "failed to authorize",
            "403 forbidden",
        ),
        "{registry} does not give us that image, or has none of that name",
        "{login}",
    ),
    _UNREACHABLE,
    _Cause(
        ("manifest unknown", "name unknown", "not known to registry", "not found"),
        "{registry} has no image of that name and tag",
        "inv images shows every reference that is asked for",
    ),
)
_OTHERWISE = _Cause((), "The image could not be pulled")


def registry_of(reference: str) -> str:
    """The host that a reference names; Docker Hub's, docker.io, when it names none."""
    first, slash, _ = reference.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else _INDEX


def problem(text: str, reference: str) -> LabsError:
    """What the engine said about a pull, as NoSpace, RegistryUnreachable or another ImageProblem."""
    words = text.lower()
    cause = next((cause for cause in _CAUSES if any(sign in words for sign in cause.signs)), _OTHERWISE)
    return _error(cause, text, reference)


def unreachable(reference: str, why: str) -> LabsError:
    return _error(_UNREACHABLE, why, reference)


def _error(cause: _Cause, why: str, reference: str) -> LabsError:
    registry = registry_of(reference)
    login = "docker login" if registry == _INDEX else f"docker login {registry}"
    what, hint = (words.format(registry=registry, login=login) for words in (cause.what, cause.hint))
    return cause.kind(what, where=reference, why=why, hint=hint)


def follow(lines: Iterable[bytes], reference: str, on_progress: OnPull) -> None:
    """Read a pull's messages to their end. Raises what `problem` makes of an error among them."""
    layers: dict[str, _Layer] = {}
    for line in lines:
        if not line.strip():
            continue
        message = json.loads(line)
        if error := message.get("error"):
            raise problem(str((message.get("errorDetail") or {}).get("message") or error), reference)
        if _noted(layers, message):
            on_progress(_progress(layers.values()))


class _Layer:
    """One layer's bytes; its size is known from when its download begins."""

    def __init__(self) -> None:
        self.here_bytes = 0
        self.size_bytes = 0
        self.done = False


def _noted(layers: dict[str, _Layer], message: Mapping[str, Any]) -> bool:
    """Whether the message was about a layer; the first one of a pull carries the tag as its id."""
    status, name = str(message.get("status", "")), message.get("id")
    if not name or status.startswith("Pulling from"):
        return False
    layer = layers.setdefault(name, _Layer())
    detail = message.get("progressDetail") or {}
    if status == "Downloading":
        layer.here_bytes = detail.get("current") or layer.here_bytes
        layer.size_bytes = detail.get("total") or layer.size_bytes
    elif status == "Download complete":
        layer.here_bytes = layer.size_bytes
    layer.done = layer.done or status in _DONE
    return True


def _progress(layers: Iterable[_Layer]) -> PullProgress:
    known = tuple(layers)
    return PullProgress(
        layers=len(known),
        layers_done=sum(layer.done for layer in known),
        here_bytes=sum(layer.here_bytes for layer in known),
        size_bytes=sum(layer.size_bytes for layer in known),
    )
