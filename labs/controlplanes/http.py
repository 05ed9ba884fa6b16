"""A control plane's REST API, and the checks that say a service serves."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

import httpx

from labs.errors import ControlPlaneProblem
from labs.journal import Journal, Kind, Scope
from labs.model import Ready

_TIMEOUT_S = 30.0
_CHECK_TIMEOUT_S = 2.0
# RFC 9113: the client preface, an empty SETTINGS frame, and the type byte of the server's own SETTINGS.
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_HTTP2_SETTINGS = 4


class Api:
    """JSON over HTTP with one journal entry for each call that changes something."""

    def __init__(self, base_url: str, journal: Journal, transport: httpx.BaseTransport | None = None) -> None:
        # No connection is kept: on a lab's own network a new one costs 0.1 ms, and a lab is a value nobody closes.
        self._client = httpx.Client(
            base_url=base_url,
            transport=transport,
            timeout=_TIMEOUT_S,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._journal = journal

    def authorize(self, header: str) -> None:
        """Send this Authorization header from now on."""
        self._client.headers["Authorization"] = header

    def get(self, path: str) -> Any:
        """The answer's JSON. Raises ControlPlaneProblem."""
        return self._send("GET", path, None)

    def change(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        scope: Scope,
        subject: str,
        *,
        lab_only: bool = False,
    ) -> Any:
        """A call that changes something, recorded once the server has accepted it. Raises ControlPlaneProblem."""
        answer = self._send(method, path, body)
        self._journal.record(Kind.API, scope, subject, f"{method} {path}", lab_only=lab_only)
        return answer

    def _send(self, method: str, path: str, body: Mapping[str, object] | None) -> Any:
        try:
            response = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise ControlPlaneProblem(
                f"{method} {path} got no answer", where=str(self._client.base_url), why=str(error)
            ) from error
        if response.status_code >= 400:
            raise ControlPlaneProblem(
                f"{method} {path} was refused with {response.status_code}",
                where=str(self._client.base_url),
                why=response.text.strip()[:400],
            )
        return response.json() if response.content else None


def serves(address: IPv4Address, ready: Ready) -> str:
    """Ask a service whether it serves: an empty text when it does, else what was seen instead."""
    if ready.kind == "grpc":
        return _speaks_http2(address, ready.port)
    try:
        response = httpx.get(f"http://{address}:{ready.port}{ready.path}", timeout=_CHECK_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        return f"GET {ready.path} on port {ready.port}: {error}"
    return "" if response.status_code == 200 else f"GET {ready.path} on port {ready.port}: {response.status_code}"


def _speaks_http2(address: IPv4Address, port: int) -> str:
    """gRPC has no health endpoint everywhere, but every server of it opens with an HTTP/2 SETTINGS frame."""
    try:
        with socket.create_connection((str(address), port), timeout=_CHECK_TIMEOUT_S) as connection:
            connection.sendall(_HTTP2_HELLO)
            header = connection.recv(9, socket.MSG_WAITALL)
    except OSError as error:
        return f"HTTP/2 on port {port}: {error}"
    is_settings = len(header) == 9 and header[3] == _HTTP2_SETTINGS
    return "" if is_settings else f"HTTP/2 on port {port}: {header!r} is no SETTINGS frame"
