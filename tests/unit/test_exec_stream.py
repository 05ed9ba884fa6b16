"""The exec stream: frames, and output that arrives together with the HTTP headers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from labs.engine.stream import Connection, _pass_on, read_ahead, read_all, split

HEADERS = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\n"
OUT = b"\x01\x00\x00\x00\x00\x00\x00\x05hello"
SOON_S = 10.0
ERR = b"\x02\x00\x00\x00\x00\x00\x00\x03bad"


@pytest.mark.parametrize(
    ("early", "late"),
    [
        (b"", OUT + ERR),
        (OUT + ERR, b""),
        (OUT[:3], OUT[3:] + ERR),
        (OUT, ERR),
    ],
    ids=["after the headers", "with the headers", "a frame in two pieces", "half and half"],
)
def test_nothing_is_lost_however_the_output_arrives(early: bytes, late: bytes) -> None:
    engine, client = socket.socketpair()
    with engine, client, client.makefile("rb") as reader:
        engine.sendall(HEADERS + early)
        while reader.readline() != b"\r\n":
            pass
        ahead = read_ahead(reader, client)  # type: ignore[arg-type]
        assert ahead == early
        engine.sendall(late)
        engine.shutdown(socket.SHUT_WR)
        assert read_all(Connection(client, ahead)) == (b"hello", b"bad")


@contextmanager
def piped(ahead: bytes) -> Iterator[tuple[socket.socket, socket.socket, threading.Thread]]:
    """The engine's end and the user's end of a stream, and the thread between."""
    engine, connection = socket.socketpair()
    ours, theirs = socket.socketpair()
    with ExitStack() as stack:
        stack.enter_context(connection)
        stack.enter_context(theirs)
        closing = stack.pop_all()
    between = threading.Thread(target=_pass_on, args=(Connection(connection, ahead), theirs, closing))
    between.start()
    with engine, ours:
        yield engine, ours, between
    between.join(SOON_S)
    assert not between.is_alive()


@pytest.mark.parametrize(("early", "late"), [(b"", OUT + ERR + OUT), (OUT + ERR + OUT[:9], OUT[9:])])
def test_a_stream_is_stdout_alone_and_ends_with_the_command(early: bytes, late: bytes) -> None:
    with piped(early) as (engine, ours, _):
        ours.sendall(b"input")
        assert engine.recv(100) == b"input"
        engine.sendall(late)
        assert ours.recv(10, socket.MSG_WAITALL) == b"hellohello"
        engine.close()
        assert ours.recv(1) == b""


def test_whoever_leaves_ends_the_commands_input() -> None:
    with piped(b"") as (engine, ours, between):
        ours.close()
        assert engine.recv(1) == b""
        between.join(SOON_S)
        assert not between.is_alive()


def test_what_is_incomplete_is_left_over() -> None:
    assert split(OUT + ERR[:4]) == ([(1, b"hello")], ERR[:4])
