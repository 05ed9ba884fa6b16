"""What each expectation asks: reads only, again and again, until it is so or its time is over."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatchmethod
from ipaddress import IPv4Address
from typing import TypeVar

from labs.controlplanes import Ability, Audit, ListedUser, Machine, Path, lacking
from labs.engine import State
from labs.errors import ControlPlaneProblem, ProbeProblem
from labs.lab import Lab
from labs.model import Person, Role
from labs.results import Diagnosis, Layer
from labs.scenario.diagnosis import StepFailed, server_of, why_name, why_reachable, why_unreachable
from labs.scenario.loader import Scenario
from labs.scenario.probe import Attempt, Probe, callers, look_up
from labs.scenario.verbs import (
    Expect,
    Expectation,
    ExpectChallenge,
    ExpectEvent,
    ExpectExit,
    ExpectName,
    ExpectPath,
    ExpectPeer,
    ExpectRoute,
    ExpectUser,
    Lasting,
)
from labs.timing import COUNTED_S, HOLD_S

_PAUSE_S = 0.1  # between two probes: short against every time that is measured with them
_PINGS = ["ping", "-c", "5", "-s", "1000", "-W", "1"]
_PINGED_BYTES = 5000  # half of what crosses a relay for them; more than what else a lab's relay sends meanwhile

_CHALLENGE = re.compile(r"[?&]code_challenge_method=(\w+)")

Asked = tuple[str, str, str, int]
Evidence = tuple[str, ...]
_Seen = TypeVar("_Seen")


@dataclass
class Asker:
    """Asks the expectations of one scenario. `success_s` is how long a probe's slowest success took, `held_s` how
    long its shortest negative held: the second must be at least twice the first for the negative to mean much.
    While `recovering` a success tells how long recovery took, which no earlier negative has to outlast."""

    scenario: Scenario
    lab: Lab
    success_s: dict[Asked, float] = field(default_factory=dict)
    held_s: dict[Asked, float] = field(default_factory=dict)
    addresses: dict[str, IPv4Address] = field(default_factory=dict)
    identities: dict[str, frozenset[str]] = field(default_factory=dict)
    ever: dict[str, frozenset[str]] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    recovering: bool = False
    held_total_s: float = 0.0

    @singledispatchmethod
    def ask(self, expectation: Expectation) -> Evidence:
        """The evidence that it is so. Raises StepFailed when it is not, LabsError when it could not be asked."""
        raise NotImplementedError(type(expectation).__name__)

    @ask.register
    def _(self, expect: Expect) -> Evidence:
        probe = Probe(self.address(expect.target, expect.source), expect.by, expect.port)
        return self._reached(expect, probe) if expect.reachable else self._not_reached(expect, probe)

    @ask.register
    def _(self, expect: ExpectName) -> Evidence:
        name = expect.name.replace("{domain}", self.lab.control_plane.peer_domain)
        machine = self.lab.machine(expect.on)
        wanted = None if expect.means == "nothing" else self.address(expect.means)
        answer, took_s = self._comes_about(
            expect,
            lambda: look_up(self.lab.engine, machine, name),
            lambda answer: answer.address == wanted,
            lambda answer: why_name(self.lab, name, answer.address, answer.why, expect.means),
            lasts=wanted is None,
        )
        meant = f"{answer.address} ({expect.means})" if answer.address else f"nothing: {answer.why}"
        return (f"on {expect.on}, {name} means {meant}, after {took_s:.1f} s",)

    @ask.register
    def _(self, expect: ExpectPath) -> Evidence:
        source, target = self.lab.machine(expect.source), self.lab.machine(expect.target)
        seen, took_s = self._comes_about(
            expect,
            lambda: self.lab.control_plane.path(source, target),
            lambda path: path == expect.path,
            lambda path: Diagnosis(layer=Layer.PATH, seen=f"{expect.source}'s client says {path}, not {expect.path}"),
        )
        evidence = f"{expect.source}'s client says {seen} after {took_s:.1f} s"
        return (evidence, self._relay_counted(source, expect.target)) if expect.path is Path.RELAYED else (evidence,)

    @ask.register
    def _(self, expect: ExpectRoute) -> Evidence:
        prefix, machine = self.lab.networks[expect.network], self.lab.machine(expect.on)
        routes, took_s = self._comes_about(
            expect,
            lambda: self.lab.control_plane.status(machine).routes,
            lambda routes: (prefix in routes) is expect.present,
            lambda routes: Diagnosis(layer=Layer.ROUTE, seen=f"{expect.on} has routes to {_listed(routes)}"),
            lasts=not expect.present,
        )
        return (f"after {took_s:.1f} s {expect.on} has routes to {_listed(routes)}",)

    @ask.register
    def _(self, expect: ExpectExit) -> Evidence:
        on, via = self.lab.machine(expect.on), self.lab.machine(expect.via)
        said = {True: "is offered", False: "is not offered"}
        offered, took_s = self._comes_about(
            expect,
            lambda: self.lab.control_plane.exit_offered(on, via),
            lambda offered: offered is expect.offered,
            lambda offered: Diagnosis(layer=Layer.CONTROL_PLANE, seen=f"{on.name} {said[offered]} {via.name}"),
            lasts=not expect.offered,
        )
        return (f"after {took_s:.1f} s {on.name} {said[offered]} {via.name} as an exit",)

    @ask.register
    def _(self, expect: ExpectPeer) -> Evidence:
        name = expect.called or expect.peer

        def described() -> str:
            try:
                found = [peer for peer in self.lab.control_plane.listed() if peer.name == name]
                # A machine may be listed once for each of its owners; the one that is asked about counts.
                owners = self.current_ids(expect.owner) if expect.owner else frozenset[str]()
            except ControlPlaneProblem as problem:
                return f"unknown: {problem.what}"
            if not found:
                return "not listed"
            peer = next((peer for peer in found if peer.owner in owners), found[0])
            return _said_of(
                peer.online if expect.online is not None else None,
                peer.expired if expect.expired is not None else None,
                (expect.owner if peer.owner in owners else "somebody else") if expect.owner else "",
                (peer.address == self.addresses.get(expect.peer)) if expect.address else None,
            )

        kept = True if expect.address else None
        wanted = _said_of(expect.online, expect.expired, expect.owner or "", kept) if expect.listed else "not listed"
        _, took_s = self._comes_about(
            expect,
            described,
            lambda seen: seen == wanted,
            lambda seen: Diagnosis(layer=Layer.CONTROL_PLANE, seen=f"{name} is {seen}"),
        )
        return (f"after {took_s:.1f} s the control plane says that {name} is {wanted}",)

    @ask.register
    def _(self, expect: ExpectUser) -> Evidence:
        def described() -> str:
            found = self.listed_users(expect.user)
            last = found[-1] if found else None
            return _said_of_user(
                len(found) if expect.accounts is not None else min(len(found), 1),
                last.called if last and expect.called is not None else None,
                last.email if last and expect.email is not None else None,
                last.pending if last and expect.pending is not None else None,
            )

        accounts = 1 if expect.accounts is None else expect.accounts
        wanted = _said_of_user(accounts, expect.called, expect.email, expect.pending)
        _, took_s = self._comes_about(
            expect,
            described,
            lambda seen: seen == wanted,
            lambda seen: Diagnosis(layer=Layer.IDENTITY, seen=f"the control plane has for {expect.user} {seen}"),
        )
        return (f"after {took_s:.1f} s the control plane has for {expect.user} {wanted}",)

    @ask.register
    def _(self, expect: ExpectChallenge) -> Evidence:
        provider = self.lab.machine(self.lab.context.access.provider or "")
        asked, took_s = self._comes_about(
            expect,
            lambda: _challenges(self.lab.engine.logs(provider.container_id)),
            lambda methods: bool(methods) and methods[-1] == expect.method,
            lambda methods: Diagnosis(
                layer=Layer.IDENTITY, seen=f"{provider.name}'s log shows challenges of: {_listed(tuple(methods))}"
            ),
        )
        return (f"after {took_s:.1f} s {provider.name}'s log shows {len(asked)} sign-ins, the last with {asked[-1]}",)

    @ask.register
    def _(self, expect: ExpectEvent) -> Evidence:
        plane = self.lab.control_plane
        if not isinstance(plane, Audit):
            raise lacking(plane, Ability.AUDIT)
        events, took_s = self._comes_about(
            expect,
            plane.events,
            lambda events: any(event.split(" ", 1)[0] == expect.event for event in events),
            lambda events: Diagnosis(layer=Layer.CONTROL_PLANE, seen=f"the trail ends with {_listed(events[-5:])}"),
        )
        found = next(event for event in events if event.split(" ", 1)[0] == expect.event)
        return (f"after {took_s:.1f} s the audit trail shows {found}",)

    def listed_users(self, name: str) -> tuple[ListedUser, ...]:
        """All that the control plane has for a person, or for a user of its own, in the order it made them."""
        users = self.lab.control_plane.users()
        if name in self.scenario.spec.people:
            # A product may know a changed person by what the provider says now, or still by what it said before.
            selves = [self.scenario.person(name), *([self.people[name]] if name in self.people else [])]
            return tuple(user for user in users if any(user.is_person(self_) for self_ in selves))
        return tuple(user for user in users if user.name == name)

    def note_sign_in(self, peer: str, person: str) -> None:
        """What a peer's address was when somebody first signed in there, and who the person has been since."""
        self.addresses.setdefault(peer, self.address(peer))
        known = self.identities.get(person, frozenset())
        ids = frozenset(user.id for user in self.listed_users(person))
        # A sign-in that brings a new user makes the person that one; another leaves it as it was.
        self.identities[person] = (ids - self.ever.get(person, frozenset())) or known
        self.ever[person] = ids | self.ever.get(person, frozenset())

    def current_ids(self, name: str) -> frozenset[str]:
        """The ids of the users that a name means now: a person's newest, or a user of the product's own."""
        return self.identities.get(name) or frozenset(user.id for user in self.listed_users(name))

    def address(self, name: str, source: str | None = None) -> IPv4Address:
        """A peer's overlay address; a host's where it stands, on the network it shares with `source` if there is one.

        Raises ProbeProblem for a peer that has no address.
        """
        member = self.lab.member(name)
        if member.role is Role.PEER:
            overlay = self.lab.control_plane.status(member.machine).address
            if overlay is None:
                raise ProbeProblem(f"{name} has no overlay address", where=name, hint=f"inv exec {name} -- ip addr")
            return overlay
        own = self.scenario.spec.peers[source].networks if source else ()
        return next(
            (address for network, address in member.machine.addresses.items() if network in own),
            next(iter(member.machine.addresses.values())),
        )

    def _comes_about(
        self,
        expect: Expectation,
        read: Callable[[], _Seen],
        good: Callable[[_Seen], bool],
        explain: Callable[[_Seen], Diagnosis],
        *,
        lasts: bool = False,
    ) -> tuple[_Seen, float]:
        """Read until `good`, for at most `within`; with `lasts` it must then stay so for the hold time."""
        begin_s = self.lab.clock.now()
        seen = read()
        while not good(seen) and self.lab.clock.now() - begin_s < expect.within:
            self.lab.clock.wait(_PAUSE_S)
            seen = read()
        came_s = self.lab.clock.now()
        hold_s = ((expect.holds if isinstance(expect, Lasting) else None) or HOLD_S) if lasts else 0.0
        while good(seen) and self.lab.clock.now() - came_s < hold_s:
            self.lab.clock.wait(_PAUSE_S)
            seen = read()
        self.held_total_s += self.lab.clock.now() - came_s
        if not good(seen):
            raise StepFailed(explain(seen), (f"not so after {self.lab.clock.now() - begin_s:.1f} s",))
        return seen, came_s - begin_s

    def _relay_counted(self, source: Machine, target: str) -> str:
        """The relay's own counter must grow while the pair talks: the client's word alone proves nothing."""
        plane, clock = self.lab.control_plane, self.lab.clock
        before = plane.relayed_bytes()
        pings = self.lab.engine.exec(source.container_id, [*_PINGS, str(self.address(target))])
        begin_s = clock.now()
        while (grown := plane.relayed_bytes() - before) < _PINGED_BYTES and clock.now() - begin_s < COUNTED_S:
            clock.wait(_PAUSE_S)
        if grown < _PINGED_BYTES:
            seen = f"{source.name} and {target} talked, and the relay sent only {grown} bytes meanwhile"
            raise StepFailed(Diagnosis(layer=Layer.PATH, seen=seen), tuple(pings.stdout.splitlines()[-2:]))
        return f"the relay sent {grown} bytes while they exchanged 5 pings of 1000 bytes"

    def _reached(self, expect: Expect, probe: Probe) -> Evidence:
        source = self.lab.machine(expect.source)
        begin_s = self.lab.clock.now()
        attempt, tries = self._try(expect, probe), 1
        while not attempt.reached and self.lab.clock.now() - begin_s < expect.within:
            self.lab.clock.wait(_PAUSE_S)
            attempt, tries = self._try(expect, probe), tries + 1
        took_s = self.lab.clock.now() - begin_s
        if not attempt.reached:
            seen = f"unreachable for {took_s:.1f} s in {tries} probes, last: {attempt.why}"
            raise StepFailed(why_unreachable(self.lab, source, expect.target, probe), (seen,))
        evidence: Evidence = (f"{expect.source} got an answer after {took_s:.1f} s ({tries} probes)",)
        if expect.by == "http":
            evidence += self._caller(expect, attempt)
        self._note_success(expect, took_s)
        return evidence

    def _not_reached(self, expect: Expect, probe: Probe) -> Evidence:
        contact_s = self.success_s.get(_asked(expect), self.lab.control_plane.first_contact_s)
        hold_s = expect.holds or max(HOLD_S, 2 * contact_s)
        begin_s = self.lab.clock.now()
        silent: list[Attempt] = []  # those since the last one that got through
        while True:
            attempt = self._try(expect, probe)
            silent.append(attempt)
            held_s = attempt.started_s - silent[0].started_s
            if not attempt.reached and held_s < hold_s:
                self.lab.clock.wait(_PAUSE_S)
                continue
            # Under load a probe may give up on an answer that is under way: the server's log knows of it.
            seen = callers(self.lab.engine, server_of(self.lab, expect.target)) if expect.by != "ping" else {}
            through = [number for number, tried in enumerate(silent) if tried.reached or tried.nonce in seen]
            if not through:
                break
            last = silent[through[-1]]
            silent = silent[through[-1] + 1 :]
            next_s = silent[0].started_s if silent else self.lab.clock.now()
            if next_s - begin_s >= expect.within:
                how = (
                    "answered" if last.reached else f"not answered, yet {expect.target} saw {seen[last.nonce]} calling"
                )
                why = why_reachable(self.lab, self.lab.machine(expect.source), expect.target, probe.address)
                self.held_total_s += held_s
                raise StepFailed(why, (f"reachable after {last.started_s - begin_s:.1f} s: {how}",))
            self.lab.clock.wait(_PAUSE_S)
        waited_s = silent[0].started_s - begin_s
        self.held_total_s += held_s
        # One after a success has outlasted that already; a later success may include how long a change takes to arrive.
        if _asked(expect) not in self.success_s:
            self.held_s[_asked(expect)] = min(held_s, self.held_s.get(_asked(expect), held_s))
        unseen = (f"{expect.target}'s log shows none of them",) if expect.by != "ping" else ()
        gone = f"unreachable after {waited_s:.1f} s: " if waited_s >= _PAUSE_S else ""
        return (f"{gone}{len(silent)} probes over {held_s:.1f} s, none answered, last: {attempt.why}", *unseen)

    def _note_success(self, expect: Expect, took_s: float) -> None:
        """An earlier negative that held for less than twice this time may have been mere slowness."""
        if self.recovering:
            return
        self.success_s[_asked(expect)] = max(took_s, self.success_s.get(_asked(expect), 0.0))
        held_s = self.held_s.get(_asked(expect))
        if held_s is not None and held_s < 2 * took_s:
            raise ProbeProblem(
                f"An earlier negative held for {held_s:.1f} s, and a success took {took_s:.1f} s",
                where=f"{expect.source} to {expect.target}",
                why="a negative shorter than twice a success may have been mere slowness",
                hint="give it more time: holds: 20s",
            )

    def _caller(self, expect: Expect, attempt: Attempt) -> Evidence:
        """Whom the server saw calling, by its own log. Raises StepFailed when it was not who it should be."""
        caller = callers(self.lab.engine, server_of(self.lab, expect.target)).get(attempt.nonce)
        if caller is None:
            seen = f"an answer came, but {expect.target}'s log does not show the request: another server answered"
            raise StepFailed(Diagnosis(layer=Layer.TARGET, seen=seen))
        if expect.seen_as and caller not in self._addresses(expect.seen_as):
            seen = f"{expect.target} saw {caller} ({self._owner(caller)}) calling, not {expect.seen_as}"
            raise StepFailed(Diagnosis(layer=Layer.ROUTE, seen=seen))
        return (f"{expect.target}'s log shows the caller {caller} ({self._owner(caller)})",)

    def _try(self, expect: Expect, probe: Probe) -> Attempt:
        return probe.attempt(self.lab.engine, self.lab.clock, self.lab.machine(expect.source))

    def _addresses(self, peer: str) -> set[IPv4Address]:
        return {*self.lab.machine(peer).addresses.values(), self.address(peer)}

    def _owner(self, address: IPv4Address) -> str:
        """By container and by each client's own word: the control plane may be away."""
        for member in self.lab.members.values():
            if address in member.machine.addresses.values():
                return member.name
        for peer in self.lab.with_role(Role.PEER):
            if self.lab.engine.inspect(peer.machine.container_id).state is not State.RUNNING:
                continue
            if self.lab.control_plane.status(peer.machine).address == address:
                return peer.name
        return "no machine of this lab"


def _asked(expect: Expect) -> Asked:
    return expect.source, expect.target, expect.by, expect.port


def _said_of(online: bool | None, expired: bool | None, owner: str, kept: bool | None) -> str:
    """A listed peer in words, as far as it is asked about."""
    words = ["listed"]
    words += {None: [], True: ["online"], False: ["offline"]}[online]
    words += {None: [], True: ["expired"], False: ["not expired"]}[expired]
    words += [f"owned by {owner}"] if owner else []
    words += {None: [], True: ["at the address it had"], False: ["at another address"]}[kept]
    return ", ".join(words)


def _said_of_user(accounts: int, called: str | None, email: str | None, pending: bool | None) -> str:
    words = [f"{accounts} user{'s' if accounts != 1 else ''}"]
    words += [f"called {called}"] if called is not None else []
    words += [f"with {email}"] if email is not None else []
    words += {None: [], True: ["waiting for approval"], False: ["approved"]}[pending]
    return ", ".join(words)


def _challenges(log: str) -> list[str]:
    """The challenge methods of the authorization requests in a provider's access log; `none` for one without."""
    requests = [line for line in log.splitlines() if "/protocol/openid-connect/auth?" in line]
    found = (_CHALLENGE.search(line) for line in requests)
    return [match[1] if match else "none" for match in found]


def _listed(things: tuple[object, ...]) -> str:
    return ", ".join(map(str, things)) or "nothing"
