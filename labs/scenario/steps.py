"""What each verb of a scenario does on a lab."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatchmethod
from ipaddress import IPv4Address

from labs.controlplanes import Machine, Route
from labs.errors import ProbeProblem
from labs.lab import Lab
from labs.results import Diagnosis, Layer
from labs.scenario.diagnosis import why_reachable, why_unreachable
from labs.scenario.loader import Scenario
from labs.scenario.probe import Attempt, callers, fetch
from labs.scenario.schema import Action, Expect, PublishRoute, WithdrawRoute
from labs.timing import HOLD_S

_PAUSE_S = 0.1  # between two probes: short against every time that is measured with them
Pair = tuple[str, str]


class StepFailed(Exception):
    """The product did not do what the file says."""

    def __init__(self, diagnosis: Diagnosis, evidence: tuple[str, ...]) -> None:
        super().__init__(diagnosis.seen)
        self.diagnosis = diagnosis
        self.evidence = evidence


@dataclass
class Actor:
    """Carries out the steps of one scenario. `success_s` is how long a pair's slowest success took, `held_s` how
    long its shortest negative held: the second must be at least twice the first for the negative to mean much."""

    scenario: Scenario
    lab: Lab
    success_s: dict[Pair, float] = field(default_factory=dict)
    held_s: dict[Pair, float] = field(default_factory=dict)

    @singledispatchmethod
    def do(self, action: Action) -> tuple[str, ...]:
        """Carry out one step and return its evidence. Raises StepFailed, or LabsError when it could not be tried."""
        raise NotImplementedError(type(action).__name__)

    @do.register
    def _(self, action: PublishRoute) -> tuple[str, ...]:
        before = len(self.lab.journal.entries)
        self.lab.control_plane.publish_route(self._route(action.network, action.via, action.consumers))
        return self._did(before)

    @do.register
    def _(self, action: WithdrawRoute) -> tuple[str, ...]:
        before = len(self.lab.journal.entries)
        self.lab.control_plane.withdraw_route(self._route(action.network, action.via))
        return self._did(before)

    @do.register
    def _(self, action: Expect) -> tuple[str, ...]:
        return self._reached(action) if action.reachable else self._not_reached(action)

    def _reached(self, expect: Expect) -> tuple[str, ...]:
        begin_s = self.lab.clock.now()
        attempt, tries = self._fetch(expect), 1
        while not attempt.reached and self.lab.clock.now() - begin_s < expect.within:
            self.lab.clock.wait(_PAUSE_S)
            attempt, tries = self._fetch(expect), tries + 1
        took_s = self.lab.clock.now() - begin_s
        if not attempt.reached:
            seen = f"unreachable for {took_s:.1f} s in {tries} probes, last: {attempt.why}"
            raise StepFailed(self._unreachable(expect), (seen,))
        caller = self._callers(expect).get(attempt.nonce)
        evidence = (
            f"{expect.source} got an answer after {took_s:.1f} s ({tries} probes)",
            f"{expect.target}'s log shows the caller {caller} ({self._owner(caller)})",
        )
        self._check_caller(expect, caller, evidence)
        self._note_success(expect, took_s)
        return evidence

    def _not_reached(self, expect: Expect) -> tuple[str, ...]:
        pair = (expect.source, expect.target)
        contact_s = self.success_s.get(pair, self.lab.control_plane.first_contact_s)
        hold_s = expect.holds or max(HOLD_S, 2 * contact_s)
        begin_s = self.lab.clock.now()
        attempt = self._fetch(expect)
        while attempt.reached and self.lab.clock.now() - begin_s < expect.within:
            self.lab.clock.wait(_PAUSE_S)
            attempt = self._fetch(expect)
        waited_s = self.lab.clock.now() - begin_s
        attempts = [attempt]
        while not attempt.reached and attempt.started_s - attempts[0].started_s < hold_s:
            self.lab.clock.wait(_PAUSE_S)
            attempt = self._fetch(expect)
            attempts.append(attempt)
        held_s = attempt.started_s - attempts[0].started_s
        seen = self._callers(expect)
        arrived = [seen[tried.nonce] for tried in attempts if tried.nonce in seen]
        if attempt.reached or arrived:
            how = "answered" if attempt.reached else f"not answered, yet {expect.target} saw {arrived[0]} calling"
            raise StepFailed(self._reachable(expect), (f"reachable after {waited_s + held_s:.1f} s: {how}",))
        self.held_s[pair] = min(held_s, self.held_s.get(pair, held_s))
        return (
            f"{len(attempts)} probes over {held_s:.1f} s, none answered, last: {attempt.why}",
            f"{expect.target}'s log shows none of them",
        )

    def _note_success(self, expect: Expect, took_s: float) -> None:
        """An earlier negative that held for less than twice this time may have been mere slowness."""
        pair = (expect.source, expect.target)
        self.success_s[pair] = max(took_s, self.success_s.get(pair, 0.0))
        held_s = self.held_s.get(pair)
        if held_s is not None and held_s < 2 * took_s:
            raise ProbeProblem(
                f"An earlier negative held for {held_s:.1f} s, and a success took {took_s:.1f} s",
                where=f"{expect.source} to {expect.target}",
                why="a negative shorter than twice a success may have been mere slowness",
                hint="give it more time: holds: 20s",
            )

    def _check_caller(self, expect: Expect, caller: IPv4Address | None, evidence: tuple[str, ...]) -> None:
        if caller is None:
            seen = f"an answer came, but {expect.target}'s log does not show the request: another server answered"
            raise StepFailed(Diagnosis(layer=Layer.TARGET, seen=seen), evidence)
        if expect.seen_as and caller not in self.lab.machine(expect.seen_as).addresses.values():
            seen = f"{expect.target} saw {caller} ({self._owner(caller)}) calling, not {expect.seen_as}"
            raise StepFailed(Diagnosis(layer=Layer.ROUTE, seen=seen), evidence)

    def _fetch(self, expect: Expect) -> Attempt:
        return fetch(self.lab.engine, self.lab.clock, self.lab.machine(expect.source), self._address(expect.target))

    def _callers(self, expect: Expect) -> dict[str, IPv4Address]:
        return callers(self.lab.engine, self.lab.machine(expect.target))

    def _unreachable(self, expect: Expect) -> Diagnosis:
        source, target = self.lab.machine(expect.source), self.lab.machine(expect.target)
        return why_unreachable(self.lab, source, target, self._address(expect.target))

    def _reachable(self, expect: Expect) -> Diagnosis:
        return why_reachable(self.lab, self.lab.machine(expect.source), self._address(expect.target))

    def _address(self, target: str) -> IPv4Address:
        (network,) = self.scenario.spec.hosts[target].networks
        return self.lab.machine(target).addresses[network]

    def _owner(self, address: IPv4Address | None) -> str:
        owners = [name for name, member in self.lab.members.items() if address in member.machine.addresses.values()]
        return owners[0] if owners else "no machine of this lab"

    def _route(self, network: str, via: str, consumers: tuple[str, ...] = ()) -> Route:
        machines: tuple[Machine, ...] = tuple(self.lab.machine(name) for name in consumers)
        return Route(network, self.lab.networks[network], self.lab.machine(via), machines)

    def _did(self, before: int) -> tuple[str, ...]:
        return tuple(f"{entry.kind} on {entry.subject}: {entry.action}" for entry in self.lab.journal.entries[before:])
