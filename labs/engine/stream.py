"""The engine's exec streams: one connection that carries stdout and stderr in frames.

Frame (Engine API, "Attach to a container"): 1 byte stream (1 stdout, 2 stderr), 3 bytes padding,
4 bytes length, payload. With a tty there are no frames.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STDERR = 2
_HEADER_BYTES = 8


@contextmanager
def opened(api: Any, exec_id: str, *, tty: bool) -> Iterator[socket.socket]:
    """Start an exec and yield its connection; closed at the end, which the SDK leaves to the garbage collector."""
    wrapped = api.exec_start(exec_id, tty=tty, socket=True)
    try:
        yield getattr(wrapped, "_sock", wrapped)
    finally:
        wrapped._response.close()  # noqa: SLF001 - the SDK's only handle on the connection
        wrapped.close()


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole frames at the start of `data` as (stream, payload), and what is left over."""
    frames = []
    while len(data) >= _HEADER_BYTES:
        end = _HEADER_BYTES + int.from_bytes(data[4:_HEADER_BYTES], "big")
        if len(data) < end:
            break
        frames.append((data[0], data[_HEADER_BYTES:end]))
        data = data[end:]
    return frames, data


def read_all(stream: socket.socket) -> tuple[bytes, bytes]:
    """Everything a command without a tty printed, as (stdout, stderr)."""
    stream.settimeout(None)
    stdout, stderr, rest = bytearray(), bytearray(), b""
    while chunk := stream.recv(65536):
        frames, rest = split(rest + chunk)
        for number, payload in frames:
            (stderr if number == STDERR else stdout).extend(payload)
    return bytes(stdout), bytes(stderr)
