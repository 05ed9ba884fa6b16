"""A lab reached through its own helper: HTTP, TLS and readiness over a stream that is no connection of this process."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest

from labs.controlplanes import DIRECT, Reach, Through
from labs.controlplanes.http import Api, counter_sum
from labs.controlplanes.identity import Browser
from labs.controlplanes.ready import serves
from labs.engine.fake import FakeEngine
from labs.errors import ControlPlaneProblem, EngineUnavailable, Refused
from labs.journal import Journal, Scope
from labs.model import Container, Ready
from labs.timing import FakeClock
from tests.fake_relay import FakeRelay

PEM = Path(__file__).parents[1] / "data" / "server.pem"
HERE = IPv4Address("127.0.0.1")
SOON_S = 10.0


class Service(http.server.BaseHTTPRequestHandler):
    """What the lab's services answer: JSON, metrics, a cookie and a long page."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = {
            "/metrics": b'# HELP x\nrelay_sent_total{peer="a"} 3\nrelay_sent_total{peer="b"} 4\n',
            "/page": b"<p>" + b"long " * 100_000 + b"</p>",
        }
        body = found.get(self.path, b'{"path": "%s"}' % self.path.encode())
        self._answer(404 if self.path == "/absent" else 200, body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self._answer(201, body if body.startswith(b"{") else b'{"posted": "%s"}' % body)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Set-Cookie", "one=1; Path=/")
        self.send_header("Set-Cookie", "two=2; Path=/")
        self.send_header("X-Asked", self.headers.get("host", ""))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Tests print nothing."""


@contextmanager
def serving(tls: bool = False) -> Iterator[int]:
    with http.server.ThreadingHTTPServer((str(HERE), 0), Service) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(PEM)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.handle_error = lambda *_: None  # type: ignore[method-assign] - a client that refuses is no error
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@contextmanager
def silent() -> Iterator[int]:
    """Accepts and says nothing."""
    with socket.create_server((str(HERE), 0)) as listening:
        yield listening.getsockname()[1]


def closed() -> int:
    with socket.create_server((str(HERE), 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


class Helped:
    """A lab's helper, and the way through it."""

    def __init__(self) -> None:
        self.relay = FakeRelay()
        self.engine = FakeEngine(on_pipe=self.relay)
        self.engine.add_image("toolbox:1")
        self.container = self.engine.create(Container("way_in", "toolbox:1"), "way_in", {}, {})
        self.engine.start(self.container)
        self.reach = Through(self.engine, self.container)


@pytest.fixture
def helped() -> Helped:
    return Helped()


@pytest.fixture(params=["direct", "through"])
def reach(request: pytest.FixtureRequest, helped: Helped) -> Reach:
    return DIRECT if request.param == "direct" else helped.reach


def api(reach: Reach, port: int) -> Api:
    return Api(f"http://{HERE}:{port}", Journal(FakeClock().now), reach.transport())


def test_an_api_is_asked_either_way(reach: Reach) -> None:
    with serving() as port:
        asked = api(reach, port)
        assert asked.get("/api/v1/node?name=a%20b") == {"path": "/api/v1/node?name=a%20b"}
        body = {"long": "x" * 300_000}
        assert asked.change("POST", "/api", body, Scope.LAB, "it") == body
        with pytest.raises(Refused, match="refused with 404"):
            asked.get("/absent")
        assert counter_sum(f"http://{HERE}:{port}/metrics", ("relay_sent_total",), reach.transport()) == 7


def test_headers_come_and_go_as_they_are(reach: Reach) -> None:
    with serving() as port, httpx.Client(transport=reach.transport()) as client:
        answer = client.get(f"http://{HERE}:{port}/page")
        assert answer.headers.get_list("set-cookie") == ["one=1; Path=/", "two=2; Path=/"]
        assert answer.headers["x-asked"] == f"{HERE}:{port}"
        assert len(answer.text) == len("<p></p>") + len("long ") * 100_000


def test_a_browser_checks_the_labs_own_certificate(reach: Reach) -> None:
    with serving(tls=True) as port:
        browser = Browser({"id.lab.test": HERE}, reach.transport(cert()))
        assert browser.post(f"https://id.lab.test:{port}/token", {"code": "c"}) == {"posted": "code=c"}


def test_nobody_elses_certificate_will_do(reach: Reach) -> None:
    with serving(tls=True) as port:
        for names, authority in (({"id.lab.test": HERE}, ""), ({"another.lab.test": HERE}, cert())):
            browser = Browser(names, reach.transport(authority))
            with pytest.raises(ControlPlaneProblem, match="not accepted") as problem:
                browser.post(f"https://{next(iter(names))}:{port}/token", {})
            assert "certificate verify failed" in problem.value.why


def cert() -> str:
    _, begin, rest = PEM.read_text().partition("-----BEGIN CERTIFICATE-----")
    return begin + rest


@pytest.mark.parametrize("kind", ["http", "tcp", "grpc"])
def test_whether_a_service_serves(reach: Reach, kind: str) -> None:
    for dial in (reach.dial, reach.dial_once_open):
        assert "refused" in serves(dial, HERE, Ready(kind, closed(), "/"))
    with serving() as port:
        seen = serves(reach.dial, HERE, Ready(kind, port, "/health"))
        assert seen == "" if kind != "grpc" else "is no SETTINGS frame" in seen
        assert serves(reach.dial, HERE, Ready("http", port, "/absent")).endswith("GET /absent answers 404")


def test_timeouts_hold(reach: Reach) -> None:
    with silent() as port, httpx.Client(transport=reach.transport(), timeout=0.2) as client:
        with pytest.raises(httpx.TransportError, match="timed out"):
            client.get(f"http://{HERE}:{port}/")
        with pytest.raises(httpx.TransportError, match="timed out"):
            client.get(f"https://{HERE}:{port}/")


def test_every_stream_ends(helped: Helped) -> None:
    with serving() as port, silent() as deaf:
        api(helped.reach, port).get("/")
        with pytest.raises(ControlPlaneProblem, match="got no answer"):
            api(helped.reach, closed()).get("/")
        with httpx.Client(transport=helped.reach.transport(), timeout=0.1) as client, pytest.raises(httpx.HTTPError):
            client.get(f"http://{HERE}:{deaf}/")
        helped.reach.dial(str(HERE), port, 1.0).close()
        for _ in range(4):
            helped.relay.ended.get(timeout=SOON_S)


def test_the_helpers_own_trouble(helped: Helped) -> None:
    helped.engine.stop(helped.container)
    assert serves(helped.reach.dial, HERE, Ready("tcp", 80, "")) == "tcp on port 80: container is not running"
    helped.engine.fail_on["pipe"] = EngineUnavailable("The container engine does not answer")
    with pytest.raises(EngineUnavailable):
        serves(helped.reach.dial, HERE, Ready("tcp", 80, ""))


def test_a_command_that_ends_at_once() -> None:
    engine = FakeEngine()
    engine.add_image("toolbox:1")
    container = engine.create(Container("way_in", "toolbox:1"), "way_in", {}, {})
    engine.start(container)
    with pytest.raises(ConnectionError, match="ended before there was a connection"):
        Through(engine, container).dial("10.1.2.3", 80, 1.0)
    assert engine.calls[-1][1].endswith("dial 10.1.2.3 80 1 0")
