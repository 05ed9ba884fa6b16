"""The exec stream: frames, and output that arrives together with the HTTP headers."""

from __future__ import annotations

import socket

import pytest

from labs.engine.stream import Connection, read_ahead, read_all, split

HEADERS = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\n"
OUT = b"\x01\x00\x00\x00\x00\x00\x00\x05hello"
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


def test_what_is_incomplete_is_left_over() -> None:
    assert split(OUT + ERR[:4]) == ([(1, b"hello")], ERR[:4])
