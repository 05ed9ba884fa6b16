"""The engine's exec streams: one connection that carries stdout and stderr in frames.

Frame (Engine API, "Attach to a container"): 1 byte stream (1 stdout, 2 stderr), 3 bytes padding,
4 bytes length, payload. With a tty there are no frames.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

STDERR = 2
_HEADER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Connection:
    """An exec's connection; `ahead` is what had come before anybody read from `socket`."""

    socket: socket.socket
    ahead: bytes


@contextmanager
def opened(api: Any, exec_id: str, *, tty: bool) -> Iterator[Connection]:
    """Start an exec and yield its connection; closed at the end, which the SDK leaves to the garbage collector."""
    wrapped = api.exec_start(exec_id, tty=tty, socket=True)
    response = wrapped._response  # noqa: SLF001 - the SDK's only handle on the connection
    try:
        connection = getattr(wrapped, "_sock", wrapped)
        yield Connection(connection, read_ahead(response.raw._fp.fp, connection))  # noqa: SLF001 - as above
    finally:
        response.close()
        wrapped.close()


def piped(api: Any, exec_id: str) -> socket.socket:
    """Start an exec and return a socket that is its stdin and stdout; a thread between takes the frames apart."""
    with ExitStack() as stack:
        connection = stack.enter_context(opened(api, exec_id, tty=False))
        ours, theirs = socket.socketpair()
        stack.enter_context(theirs)
        # A daemon: whoever forgets to close the stream must not keep the process from ending.
        arguments = (connection, theirs, stack.pop_all())
        threading.Thread(target=_pass_on, args=arguments, name=f"pipe {exec_id[:12]}", daemon=True).start()
    return ours


def _pass_on(opened: Connection, user: socket.socket, closing: ExitStack) -> None:
    """Both ways until one side ends; with the connection the engine ends the command's standard input."""
    # Whoever closed a side that something was still on its way to did not want it.
    with closing, suppress(ConnectionError), selectors.DefaultSelector() as selector:
        rest = _stdout(opened.ahead, user)
        for one in (opened.socket, user):
            selector.register(one, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if not (data := key.fileobj.recv(65536)):  # type: ignore[union-attr]
                    return
                if key.fileobj is user:
                    opened.socket.sendall(data)
                else:
                    rest = _stdout(rest + data, user)


def _stdout(data: bytes, user: socket.socket) -> bytes:
    """Hand over what came on stdout, and return what is incomplete."""
    frames, rest = split(data)
    user.sendall(b"".join(payload for number, payload in frames if number != STDERR))
    return rest


def read_ahead(reader: BufferedReader, connection: socket.socket) -> bytes:
    """What a reader of HTTP headers took off the connection beyond them.

    The SDK hands out the bare socket. When the engine is faster than this process (a short command, a busy machine),
    the command's output arrives together with the headers, lies in the reader's buffer, and would be lost.
    """
    connection.setblocking(False)
    try:
        return reader.read1(len(reader.peek()))
    finally:
        connection.setblocking(True)


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


def read_all(connection: Connection) -> tuple[bytes, bytes]:
    """Everything a command without a tty printed, as (stdout, stderr)."""
    stdout, stderr, rest = bytearray(), bytearray(), b""
    chunk = connection.ahead
    while chunk := chunk or connection.socket.recv(65536):
        frames, rest = split(rest + chunk)
        for number, payload in frames:
            (stderr if number == STDERR else stdout).extend(payload)
        chunk = b""
    return bytes(stdout), bytes(stderr)
