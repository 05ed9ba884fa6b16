"""The helper container of a lab, in this process: what its command does, done with sockets."""

from __future__ import annotations

import queue
import selectors
import socket

from labs.model import Container


class FakeRelay:
    """FakeEngine's `on_pipe`: connects where the command's last arguments say. `ended` tells of streams that closed."""

    def __init__(self) -> None:
        self.ended: queue.Queue[tuple[str, ...]] = queue.Queue()

    def __call__(self, _: Container, argv: tuple[str, ...], stream: socket.socket) -> None:
        address, port, _timeout_s, _tries = argv[-4:]
        try:
            self._serve(stream, address, int(port))
        finally:
            self.ended.put((address, port))

    def _serve(self, stream: socket.socket, address: str, port: int) -> None:
        try:
            server = socket.create_connection((address, port))
        except OSError as error:
            stream.sendall(f"nc: can't connect to remote host ({address}): {error.strerror}\n".encode())
            return
        with server:
            stream.sendall(b"\n")
            _pass_on(stream, server)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Both ways until one side ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                if not (data := key.fileobj.recv(65536)):  # type: ignore[union-attr]
                    return
                key.data.sendall(data)
