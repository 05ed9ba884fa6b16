"""A command in a container on the user's own terminal, the way `docker exec -it` does it."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from labs.engine import stream


def run_on_terminal(api: Any, container_id: str, argv: Sequence[str]) -> int:
    """Run `argv` with stdin and stdout joined to ours; return its exit code. Without a terminal, no tty is made."""
    on_tty = sys.stdin.isatty() and sys.stdout.isatty()
    run = api.exec_create(container_id, list(argv), stdin=True, tty=on_tty)["Id"]
    with stream.opened(api, run, tty=on_tty) as connection:
        if on_tty:
            with _raw_terminal(), _resizing(api, run):
                _join(connection, multiplexed=False)
        else:
            _join(connection, multiplexed=True)
    code: int = api.exec_inspect(run)["ExitCode"]
    return code


def _join(opened: stream.Connection, *, multiplexed: bool) -> None:
    stdin = sys.stdin.fileno()
    connection = opened.socket
    pending = _write(opened.ahead, multiplexed=multiplexed)
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        # epoll refuses regular files; a file is always readable, so it is sent at once.
        if _pollable(stdin):
            selector.register(stdin, selectors.EVENT_READ)
        else:
            _send_all(connection, stdin)
        while True:
            for key, _ in selector.select():
                if key.fileobj is connection:
                    data = connection.recv(65536)
                    if not data:
                        return
                    pending = _write(pending + data, multiplexed=multiplexed)
                elif chunk := os.read(stdin, 65536):
                    connection.sendall(chunk)
                else:
                    selector.unregister(stdin)
                    connection.shutdown(socket.SHUT_WR)


def _pollable(descriptor: int) -> bool:
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(descriptor, selectors.EVENT_READ)
        except PermissionError:
            return False
    return True


def _send_all(connection: socket.socket, descriptor: int) -> None:
    while chunk := os.read(descriptor, 65536):
        connection.sendall(chunk)
    connection.shutdown(socket.SHUT_WR)


def _write(data: bytes, *, multiplexed: bool) -> bytes:
    """Pass output on and return what is incomplete. Without a tty the engine frames it: stream, padding, length."""
    if not multiplexed:
        os.write(sys.stdout.fileno(), data)
        return b""
    frames, rest = stream.split(data)
    for number, payload in frames:
        os.write(sys.stderr.fileno() if number == stream.STDERR else sys.stdout.fileno(), payload)
    return rest


@contextmanager
def _raw_terminal() -> Iterator[None]:
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _resizing(api: Any, run: str) -> Iterator[None]:
    def resize(*_: object) -> None:
        size = shutil.get_terminal_size()
        api.exec_resize(run, height=size.lines, width=size.columns)

    resize()
    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
