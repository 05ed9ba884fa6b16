"""A control plane's REST API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from labs.errors import ControlPlaneProblem, Refused
from labs.journal import Journal, Kind, Scope

_TIMEOUT_S = 30.0


class Api:
    """JSON over HTTP with one journal entry for each call that changes something."""

    def __init__(self, base_url: str, journal: Journal, transport: httpx.BaseTransport) -> None:
        self._client = httpx.Client(base_url=base_url, transport=transport, timeout=_TIMEOUT_S, trust_env=False)
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
            raise Refused(
                f"{method} {path} was refused with {response.status_code}",
                where=str(self._client.base_url),
                why=response.text.strip()[:400],
            )
        return response.json() if response.content else None


def counter_sum(url: str, names: tuple[str, ...], transport: httpx.BaseTransport) -> int:
    """The sum of some Prometheus counters, over all their labels; 0 for one that has not counted anything yet, which
    OpenTelemetry leaves out. Raises ControlPlaneProblem when the page holds no metrics of that service at all."""
    try:
        with httpx.Client(transport=transport, timeout=_TIMEOUT_S, trust_env=False) as client:
            text = client.get(url).raise_for_status().text
    except httpx.HTTPError as error:
        raise ControlPlaneProblem("A service's metrics could not be read", where=url, why=str(error)) from error
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    found = [float(value) for name, _, value in lines if name.partition("{")[0] in names]
    service = names[0].partition("_")[0]
    if not any(name.startswith(service) for name, _, _ in lines):
        raise ControlPlaneProblem("The service counts no such thing", where=url, why=f"looked for {', '.join(names)}")
    return int(sum(found))
