"""One attempt to reach a web server, with evidence from both ends.

The consumer's end is what it got back; the server's end is the server's own access log, where each
attempt shows by a number used once. A probe that could not run raises ProbeProblem: it says
nothing about reachability.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from ipaddress import IPv4Address

from labs.controlplanes import Machine
from labs.engine import Engine, ExecResult
from labs.errors import ProbeProblem
from labs.timing import PROBE_S, Clock

_ACCESS_LOG = "/srv/access.log"
# busybox `timeout` counts whole seconds, so a shell does it: TERM is ours and gives 143, a crash gives another code.
_FETCH = 'wget -q -O - "$0" & p=$!; (sleep "$1"; kill "$p") 2>/dev/null & wait "$p"'
_TERMINATED = 143
_REFUSALS = ("can't connect", "unreachable", "no route", "timed out", "refused", "reset", "error getting response")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one probe showed. `nonce` is the number by which the server's log knows it."""

    reached: bool
    why: str
    nonce: str
    started_s: float
    took_s: float


def fetch(engine: Engine, clock: Clock, consumer: Machine, address: IPv4Address) -> Attempt:
    """GET http://ADDRESS/ from `consumer`, at most PROBE_S long. Raises ProbeProblem when that could not be tried."""
    nonce = secrets.token_hex(8)
    url = f"http://{address}/cgi-bin/whoami?{nonce}"
    started_s = clock.now()
    result = engine.exec(consumer.container_id, ["sh", "-c", _FETCH, url, f"{PROBE_S:g}"])
    took_s = clock.now() - started_s
    reached = result.ok and nonce in result.stdout
    return Attempt(
        reached=reached,
        why="answered" if reached else _why(result, consumer, url),
        nonce=nonce,
        started_s=started_s,
        took_s=took_s,
    )


def _why(result: ExecResult, consumer: Machine, url: str) -> str:
    """Why the target could not be reached. Raises ProbeProblem for anything but a network's own no."""
    words = result.stderr.strip() or result.stdout.strip()
    if result.exit_code == _TERMINATED:
        return f"no answer within {PROBE_S:g} s"
    if result.exit_code == 1 and any(refusal in words.lower() for refusal in _REFUSALS):
        return words.splitlines()[-1]
    raise ProbeProblem(
        f"A probe could not run: exit code {result.exit_code}",
        where=f"{consumer.name}: wget {url}",
        why=words[-300:],
        hint=f"inv exec {consumer.name} -- wget -q -O - {url}",
    )


def callers(engine: Engine, server: Machine) -> dict[str, IPv4Address]:
    """Whom the server saw calling, by the number each call carried. Raises ProbeProblem."""
    result = engine.exec(server.container_id, ["cat", _ACCESS_LOG])
    if not result.ok and "No such file" not in result.stderr:
        raise ProbeProblem(
            "The server's access log cannot be read", where=f"{server.name}: {_ACCESS_LOG}", why=result.stderr.strip()
        )
    lines = (line.partition(" ") for line in result.stdout.splitlines())
    return {nonce: IPv4Address(caller.strip("[]").removeprefix("::ffff:")) for caller, _, nonce in lines if nonce}
