"""The checks that say a service serves. Standard library only: they are asked many times while a lab starts."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from ipaddress import IPv4Address

from labs.model import Ready

# Opens a stream to an address and a port, with a timeout in seconds; see labs.controlplanes.reach.
Dial = Callable[[str, int, float], socket.socket]

_TIMEOUT_S = 2.0
# RFC 9113: the client preface, an empty SETTINGS frame, and the type byte of the server's own SETTINGS.
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_HTTP2_SETTINGS = 4


def serves(dial: Dial, address: IPv4Address, ready: Ready) -> str:
    """Ask a service whether it serves: an empty text when it does, else what was seen instead."""
    check = {"grpc": _speaks_http2, "tcp": _accepts}.get(ready.kind, _answers_http)
    try:
        seen = check(dial, str(address), ready)
    except (OSError, http.client.HTTPException) as error:
        seen = str(error) or type(error).__name__
    return f"{ready.kind} on port {ready.port}: {seen}" if seen else ""


def _answers_http(dial: Dial, address: str, ready: Ready) -> str:
    connection = http.client.HTTPConnection(address, ready.port)
    try:
        connection.sock = dial(address, ready.port, _TIMEOUT_S)
        connection.request("GET", ready.path)
        status = connection.getresponse().status
    finally:
        connection.close()
    return "" if status == 200 else f"GET {ready.path} answers {status}"


def _accepts(dial: Dial, address: str, ready: Ready) -> str:
    dial(address, ready.port, _TIMEOUT_S).close()
    return ""


def _speaks_http2(dial: Dial, address: str, ready: Ready) -> str:
    """gRPC has no health endpoint everywhere, but every server of it opens with an HTTP/2 SETTINGS frame."""
    with dial(address, ready.port, _TIMEOUT_S) as connection:
        connection.sendall(_HTTP2_HELLO)
        header = connection.recv(9, socket.MSG_WAITALL)
    return "" if len(header) == 9 and header[3] == _HTTP2_SETTINGS else f"{header!r} is no SETTINGS frame"
