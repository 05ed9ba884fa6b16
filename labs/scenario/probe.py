"""One attempt to reach something or to look up a name, with evidence from both ends.

The consumer's end is what it got back; the server's end is the server's own access log, where each
attempt shows by a number used once. A probe that could not run raises ProbeProblem: it says
nothing about reachability.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from labs.controlplanes import Machine
from labs.engine import Engine, ExecResult
from labs.errors import ProbeProblem
from labs.timing import LOOKUP_S, PROBE_S, Clock

_ACCESS_LOG = "/srv/access.log"
# busybox `timeout` counts whole seconds, so a shell does it: TERM is ours and gives 143, a crash gives another code.
# The watchdog must hold none of the command's pipes, or reading them would last as long as it sleeps.
_LIMITED = 'l=$1; shift; "$@" & p=$!; (sleep "$l"; kill "$p") >/dev/null 2>&1 & wait "$p"'
_TERMINATED = 143
# A negative is 1; of iputils' ping, which the official Tailscale image has, also 2: no route, or no such name.
_NEGATIVE = (1, 2)
_REFUSALS = ("can't connect", "unreachable", "no route", "timed out", "refused", "reset")
# busybox has one word for a name that means nothing; iputils passes on what musl says.
_UNKNOWN = ("bad address", "does not resolve", "no usable address", "try again", "non-recoverable error")
_SPEAKS = ("error getting response", "bad header", "server returned error")  # somebody answered the connection
_PINGED = re.compile(r"PING \S+ \((\S+?)\)")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one probe showed. `nonce` is the number by which a web server's log knows it."""

    reached: bool
    why: str
    nonce: str
    started_s: float
    took_s: float


@dataclass(frozen=True, slots=True)
class Probe:
    """What to ask: `by` http, tcp or ping, at an address and, but for ping, a port."""

    address: IPv4Address
    by: str = "http"
    port: int = 80

    def attempt(self, engine: Engine, clock: Clock, consumer: Machine) -> Attempt:
        """One try of at most PROBE_S. Raises ProbeProblem when it could not be made."""
        nonce = secrets.token_hex(8)
        argv = (
            ["ping", "-c", "1", str(self.address)] if self.by == "ping" else ["wget", "-q", "-O", "-", self._url(nonce)]
        )
        started_s = clock.now()
        result = _limited(engine, consumer, argv, PROBE_S)
        reached = self._reached(result)
        return Attempt(
            reached=reached,
            why="answered" if reached else _why(result, consumer, argv, PROBE_S, self._refused),
            nonce=nonce,
            started_s=started_s,
            took_s=clock.now() - started_s,
        )

    def _url(self, nonce: str) -> str:
        port = "" if self.port == 80 else f":{self.port}"
        return f"http://{self.address}{port}/cgi-bin/whoami?{nonce}"

    def _reached(self, result: ExecResult) -> bool:
        if self.by == "tcp":
            return result.ok or any(word in result.stderr.lower() for word in _SPEAKS)
        # Whoever answered, the target's own log says whether it was the target: an engine under load may lose output.
        return result.ok

    def _refused(self, result: ExecResult) -> bool:
        """Whether a failure is the network's own no."""
        words = result.stderr.lower()
        if self.by == "ping":
            return "packets transmitted" in result.stdout or "unreachable" in words
        return any(refusal in words for refusal in (*_REFUSALS, *_SPEAKS))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name meant: an address, or None and the resolver's words."""

    address: IPv4Address | None
    why: str


def look_up(engine: Engine, consumer: Machine, name: str) -> Answer:
    """Ask for a name as any program on the consumer asks: by the C library, so resolv.conf and its search list count.

    ping is the one program that every image has and that prints what the library answered. Raises
    ProbeProblem when that could not be tried.
    """
    # It has to end by itself: what it has printed into a pipe is lost when it is killed.
    argv = ["ping", "-c", "1", "-W", "1", name]
    result = _limited(engine, consumer, argv, LOOKUP_S)
    if found := _PINGED.match(result.stdout):
        return Answer(IPv4Address(found[1]), "answered")
    return Answer(None, _why(result, consumer, argv, LOOKUP_S, _unknown))


def _unknown(result: ExecResult) -> bool:
    return any(words in result.stderr.lower() for words in _UNKNOWN)


def callers(engine: Engine, server: Machine) -> dict[str, IPv4Address]:
    """Whom the server saw calling, by the number each call carried. Raises ProbeProblem."""
    result = engine.exec(server.container_id, ["cat", _ACCESS_LOG])
    if not result.ok and "No such file" not in result.stderr:
        raise ProbeProblem(
            "The server's access log cannot be read", where=f"{server.name}: {_ACCESS_LOG}", why=result.stderr.strip()
        )
    lines = (line.partition(" ") for line in result.stdout.splitlines())
    return {nonce: IPv4Address(caller.strip("[]").removeprefix("::ffff:")) for caller, _, nonce in lines if nonce}


def _limited(engine: Engine, consumer: Machine, argv: list[str], limit_s: float) -> ExecResult:
    return engine.exec(consumer.container_id, ["sh", "-c", _LIMITED, "sh", f"{limit_s:g}", *argv])


def _why(
    result: ExecResult, consumer: Machine, argv: list[str], limit_s: float, refused: Callable[[ExecResult], bool]
) -> str:
    """Why there was no answer. Raises ProbeProblem for anything but a network's own no."""
    words = result.stderr.strip() or result.stdout.strip()
    if result.exit_code == _TERMINATED:
        return f"no answer within {limit_s:g} s"
    if result.exit_code in _NEGATIVE and refused(result):
        return words.splitlines()[-1]
    command = " ".join(argv)
    raise ProbeProblem(
        f"A probe could not run: exit code {result.exit_code}",
        where=f"{consumer.name}: {command}",
        why=words[-300:],
        hint=f"inv exec {consumer.name} -- {command}",
    )
