"""How a lab's addresses are reached: directly, or through a container that stands on the lab's own network.

Docker Desktop's, a rootless engine's and a remote engine's container addresses mean nothing on this machine. What
always leads there is the engine's API, so a command in a helper container connects, and its standard input and
output are the stream.
"""

from __future__ import annotations

import http.client
import math
import socket
import ssl
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from labs.controlplanes.ready import Dial
from labs.engine import Engine
from labs.errors import EngineProblem, EngineUnavailable

# An exec of its own comes before every connection; observed 0.06 s, and longer on a busy machine.
_EXEC_S = 20.0
# busybox nc connects, says so with an empty line, and becomes two copiers; whichever ends takes the other along.
# They are dd, because busybox cat keeps what comes from a socket until there is more (sendfile).
# Before that the port is tried up to $4 times: here a try takes a millisecond, with an exec for each 60.
_RELAY = """n=0; until [ $n -ge "$4" ] || nc -w 1 "$1" "$2" -e true 2>/dev/null; do n=$((n+1)); sleep 0.05; done
exec 3<&0 4>&1 2>&1; exec nc -w "$3" "$1" "$2" -e sh -c '
echo >&4; exec 2>/dev/null; (exec 4>&-; dd bs=65536 <&3; kill $$) & exec dd bs=65536 >&4'"""
_PAUSE_S = 0.05  # as in _RELAY
# A browser and an administrator are values that nobody closes, so no connection is kept; a new one costs 0.1 ms.
_NONE_KEPT = httpx.Limits(max_keepalive_connections=0)
_PORTS = {"http": 80, "https": 443}


class Reach(Protocol):
    """The way to a lab's addresses."""

    def dial(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """A stream to a port; `timeout_s` is its timeout too. Raises OSError, and EngineUnavailable."""

    def dial_once_open(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """The same for whoever will ask again: where asking is dear, `timeout_s` is spent on a port that is closed."""

    def transport(self, authority: str = "") -> httpx.BaseTransport:
        """For HTTP clients. Of certificates it trusts those of `authority` (PEM), and nobody's without one."""


@dataclass(frozen=True, slots=True)
class Direct:
    """This machine has a route to the lab's addresses."""

    def dial(self, address: str, port: int, timeout_s: float) -> socket.socket:
        return socket.create_connection((address, port), timeout=timeout_s)

    dial_once_open = dial

    def transport(self, authority: str = "") -> httpx.BaseTransport:
        return httpx.HTTPTransport(verify=_trusting(authority), limits=_NONE_KEPT)


DIRECT = Direct()


@dataclass(frozen=True, slots=True)
class Through:
    """A container on the lab's network connects; it has busybox."""

    engine: Engine = field(repr=False)
    container_id: str

    def dial(self, address: str, port: int, timeout_s: float) -> socket.socket:
        return self._dial(address, port, timeout_s, tries=0)

    def dial_once_open(self, address: str, port: int, timeout_s: float) -> socket.socket:
        return self._dial(address, port, timeout_s, tries=int(timeout_s / _PAUSE_S))

    def _dial(self, address: str, port: int, timeout_s: float, tries: int) -> socket.socket:
        argv = ["sh", "-c", _RELAY, "dial", address, str(port), str(math.ceil(timeout_s)), str(tries)]
        try:
            stream = self.engine.pipe(self.container_id, argv)
        except EngineUnavailable:
            raise
        except EngineProblem as problem:
            raise ConnectionError(problem.why or problem.what) from problem
        try:
            stream.settimeout(timeout_s + _EXEC_S)
            _await_connection(stream)
            stream.settimeout(timeout_s)
        except BaseException:
            stream.close()
            raise
        return stream

    def transport(self, authority: str = "") -> httpx.BaseTransport:
        return Dialled(self.dial, _trusting(authority))


class Dialled(httpx.BaseTransport):
    """HTTP/1.1 over streams from `dial`, one for each request; answers are read to their end."""

    def __init__(self, dial: Dial, tls: ssl.SSLContext) -> None:
        self._dial = dial
        self._tls = tls

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        connection = http.client.HTTPConnection(request.url.host)
        try:
            connection.sock = self._stream(request)
            connection.putrequest(
                request.method, request.url.raw_path.decode(), skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.multi_items():
                connection.putheader(name, value)
            connection.endheaders(request.read())
            answer = connection.getresponse()
            return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise httpx.TransportError(str(error) or type(error).__name__, request=request) from error
        finally:
            connection.close()

    def _stream(self, request: httpx.Request) -> socket.socket:
        """Connected, and for https with the certificate checked."""
        url, waits_s = request.url, request.extensions["timeout"]
        stream = self._dial(url.host, url.port or _PORTS[url.scheme], waits_s["connect"])
        try:
            stream.settimeout(waits_s["read"])
            if url.scheme == "https":
                name = request.extensions.get("sni_hostname", url.host)
                stream = self._tls.wrap_socket(stream, server_hostname=name)
        except BaseException:
            stream.close()
            raise
        return stream


def _await_connection(stream: socket.socket) -> None:
    """An empty line says that there is a connection, anything else why not. Nothing beyond the line is read."""
    words = bytearray()
    while (byte := stream.recv(1)) not in (b"", b"\n"):
        words += byte
    if words or not byte:
        raise ConnectionError(words.decode(errors="replace") or "the stream ended before there was a connection")


def _trusting(authority: str) -> ssl.SSLContext:
    """The system's own authorities are not among them: none of them knows a lab's names, and loading takes 30 ms."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority:
        context.load_verify_locations(cadata=authority)
    return context
