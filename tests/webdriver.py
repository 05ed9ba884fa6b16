"""Chromium through its WebDriver (W3C), as far as a sign-in needs it: open, look, type, press."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx

from labs.timing import SystemClock, until

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id, as the specification has it
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=900,1200",  # pictures show the whole of a page, its button too
)
# When the page came that is there now, or null while it is still coming. Asking for an element that was on the page
# before is no substitute: while that page is replaced, the driver answers with one of several errors.
_CAME = "return document.readyState === 'complete' ? performance.timeOrigin : null"
_READY_S = 30.0


@dataclass(frozen=True)
class Chromium:
    """One browser window. What is looked for is a CSS selector."""

    client: httpx.Client
    session: str

    def open(self, url: str) -> None:
        self._call("POST", "url", {"url": url})

    @property
    def url(self) -> str:
        return str(self._call("GET", "url"))

    @property
    def text(self) -> str:
        (body,) = self.find("body")
        return str(self._call("GET", f"element/{body}/text"))

    def find(self, selector: str) -> list[str]:
        found = self._call("POST", "elements", {"using": "css selector", "value": selector})
        return [element[_ELEMENT] for element in found]

    def type(self, element: str, words: str) -> None:
        self._call("POST", f"element/{element}/value", {"text": words})

    def press(self, element: str) -> None:
        """Press what leads to another page, and return once there is one: a click returns before that."""
        here, before = self.url, self._came()
        self._call("POST", f"element/{element}/click", {})
        until(
            SystemClock(),
            self._came,
            lambda now: now not in (None, before),
            what="Another page",
            timeout_s=_READY_S,
            where=here,
        )

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._call("GET", "screenshot")))

    def _came(self) -> float | None:
        found: float | None = self._call("POST", "execute/sync", {"script": _CAME, "args": []})
        return found

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = self.client.request(method, f"/session/{self.session}/{path}", json=body)
        found = answer.json()["value"]
        assert answer.is_success, found
        return found


@contextmanager
def chromium(names: Mapping[str, IPv4Address], folder: Path) -> Iterator[Chromium]:
    """A browser that knows the lab's names. Ends the browser and its driver, whatever happens."""
    program = shutil.which("chromedriver")
    assert program, "this test needs a browser: apt-get install chromium chromium-driver"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rules = ",".join(f"MAP {name} {address}" for name, address in names.items())
    options = {"args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}", f"--host-resolver-rules={rules}"]}
    limits = httpx.Limits(max_keepalive_connections=0)
    driver = subprocess.Popen([program, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with (
        driver,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False, limits=limits) as client,
    ):
        try:
            until(SystemClock(), lambda: _answers(client), bool, what="The WebDriver", timeout_s=_READY_S)
            wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
            session = client.post("/session", json=wanted).raise_for_status().json()["value"]["sessionId"]
            try:
                yield Chromium(client, session)
            finally:
                client.delete(f"/session/{session}")  # a driver that is told to end leaves its browser running
        finally:
            driver.terminate()


def _answers(client: httpx.Client) -> bool:
    try:
        return bool(client.get("/status").json()["value"]["ready"])
    except httpx.TransportError:
        return False
