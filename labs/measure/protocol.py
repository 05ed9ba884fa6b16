"""One measurement: fresh labs, interleaved, never two at once, each through the same phases.

The unit of repetition is the lab, not the sweep: sweeps of one lab are alike, labs of one stack are not (page cache
is charged to whoever read a file first). Settling and windows are the same fixed times for every lab; what still
moves is reported as drift and not waited for. A run whose figures do not count is kept, with the reason.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from labs.controlplanes import Route
from labs.controlplanes.ready import serves
from labs.engine import Engine, State
from labs.errors import Interrupted, LabsError, Leftovers
from labs.lab import Lab, labels
from labs.lab.plan import Plan
from labs.lab.removal import remove
from labs.lab.up import up
from labs.measure.load import LOAD, Workload
from labs.measure.sampler import Sampler
from labs.measure.watch import Target, Watch
from labs.model import Inventory, Peer, Role
from labs.results import Definition, LabRun, Mark, Outcome, Phase, ScenarioResult, Window
from labs.scenario import Scenario, run
from labs.timing import PEERS_LISTED_S, RESETTLE_S, ROUTE_S, SERVICE_READY_S, SystemClock, until

# The engine's own statistics cost the engine a sweep; they may take at most a quarter of its time.
_ENGINE_SHARE = 4
_ENGINE_INTERVAL_S = 1.0
# A sweep that comes later than this many intervals is one that is missing.
_LATE = 3
_OUTAGE_S = 5.0
_TUN = 'for link in /sys/class/net/*; do [ -e "$link/tun_flags" ] && echo "${link##*/}"; done; true'

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Unit:
    """What is repeated: a topology with so many peers."""

    topology: str
    peers: int


def order(units: Sequence[Unit], runs: int) -> Iterator[Unit]:
    """A B B A A B ...: what changes slowly on the machine meets all alike."""
    for number in range(runs):
        yield from units if number % 2 == 0 else reversed(units)


def inventory(scenario: Scenario, peers: int) -> Inventory:
    """The scenario's own, with further peers of its first peer's user; all join once the control plane has idled."""
    taking_part = scenario.inventory.peers
    others = tuple(Peer(f"peer-{number}", taking_part[0].user) for number in range(len(taking_part) + 1, peers + 1))
    return replace(scenario.inventory, peers=tuple(replace(peer, joins=False) for peer in (*taking_part, *others)))


@dataclass
class Measurer:
    """What is the same for every lab of a measurement. `images` as a Plan takes them, by topology.

    `prepare` may change a lab before its first window: that is how the method itself is tried.
    """

    engine: Engine
    definition: Definition
    sampler: Sampler
    scenario: Scenario
    images: Mapping[str, Mapping[str, str]]
    say: Say
    clock: SystemClock = field(default_factory=SystemClock)
    prepare: Callable[[Lab], None] = lambda _: None

    def run(self, unit: Unit, number: int) -> LabRun:
        """One fresh lab, removed again whatever happens. Trouble makes the run invalid; Ctrl-C and leftovers rise."""
        name = f"m-{unit.topology[:20].rstrip('-')}-{secrets.token_hex(2)}"
        plan = Plan(name, unit.topology, inventory(self.scenario, unit.peers), self.images[unit.topology])
        one = _OneLab(self, plan, self.clock.now())
        before = os.getloadavg()[0]
        began_at = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            one.carry_out()
        except (Interrupted, Leftovers):
            raise
        except LabsError as problem:
            parts = (problem.what, problem.where, problem.why)
            one.invalid.append("; ".join(part.replace("\n", " ") for part in parts if part))
        finally:
            remove(self.engine, {labels.LAB: name})
        return LabRun(
            number=number,
            topology=unit.topology,
            product=plan.product,
            peers=unit.peers,
            began_at=began_at,
            invalid=tuple(one.invalid),
            serves_s=one.serves_s,
            first_ping_s=one.first_ping_s,
            joins_s=one.joins_s,
            route_change_s=one.route_change_s,
            recovery_s=one.recovery_s,
            windows=tuple(one.windows),
            marks=tuple(one.marks),
            scenario=one.scenario_result,
            load_1m_before=round(before, 2),
            load_1m_after=round(os.getloadavg()[0], 2),
            datapath=one.datapath,
        )


@dataclass
class _OneLab:
    """One run while it is under way."""

    measurer: Measurer
    plan: Plan
    begin_s: float
    invalid: list[str] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    joins_s: dict[str, float] = field(default_factory=dict)
    serves_s: float = 0.0
    first_ping_s: float | None = None
    route_change_s: float | None = None
    recovery_s: float | None = None
    scenario_result: ScenarioResult | None = None
    datapath: str = ""

    def __post_init__(self) -> None:
        self.engine, self.clock = self.measurer.engine, self.measurer.clock
        self.definition = self.measurer.definition
        self.local = self.engine.info().local
        self.held_s = 0.0

    def carry_out(self) -> None:
        lab = self._boot()
        self.measurer.prepare(lab)
        phases = self.definition.phases
        if Phase.IDLE in phases:
            self._window(lab, Phase.IDLE)
        self._join(lab)
        if Phase.JOINED in phases:
            self._window(lab, Phase.JOINED)
        if Phase.AFTER in phases:
            self._scenario(lab)
            self._window(lab, Phase.AFTER)
        self._route_change(lab)
        if Phase.LOAD in phases:
            # Not after the load: that ends with a policy which, on Headscale, shows a route to nobody.
            self._outage(lab)
            self._under_load(lab)
        self._judge(lab)

    def _boot(self) -> Lab:
        interval_s = self.definition.boot_interval_s
        with Watch(Phase.BOOT, self.measurer.sampler, self._services, interval_s, self.begin_s, self.local) as watch:
            lab = up(self.plan, self.engine, self.clock, lambda step: self._mark(f"{step.subject} {step.what}"))
        self.serves_s = self._since_begin()
        if Phase.BOOT in self.definition.phases:
            self.windows.append(watch.window())
        return lab

    def _services(self) -> tuple[Target, ...]:
        """The services that run by now."""
        marks = {labels.LAB: self.plan.name, labels.ROLE: Role.SERVICE}
        return tuple(
            Target(found.id, found.labels[labels.NAME], Role.SERVICE, found.image)
            for found in self.engine.containers(marks)
            if found.state is State.RUNNING
        )

    def _join(self, lab: Lab) -> None:
        for peer in self.plan.inventory.peers:
            began_s = self.clock.now()
            lab.control_plane.join(peer, lab.machine(peer.name))
            self.joins_s[peer.name] = round(self.clock.now() - began_s, 3)
            self._mark(f"{peer.name} joined")
        names = {peer.name for peer in self.plan.inventory.peers}
        listed = until(
            self.clock,
            lambda: {peer.name: peer for peer in lab.control_plane.listed() if peer.online},
            lambda found: names <= found.keys(),
            what="Every peer connected to the control plane",
            timeout_s=PEERS_LISTED_S,
            show=lambda found: f"missing {', '.join(sorted(names - found.keys()))}",
        )
        first, second = (peer.name for peer in self.plan.inventory.peers[:2])
        ping = ["ping", "-c", "1", "-W", "1", str(listed[second].address)]
        machine = lab.machine(first)
        until(
            self.clock,
            lambda: self.engine.exec(machine.container_id, ping),
            lambda answer: answer.ok,
            what=f"A ping from {first} to {second}",
            timeout_s=ROUTE_S,
            show=lambda answer: answer.stdout.strip()[-200:],
        )
        self.first_ping_s = self._since_begin() - self.held_s
        self._mark(f"{first} pinged {second}")
        tunnels = self.engine.exec(machine.container_id, ["sh", "-c", _TUN]).stdout.split()
        self.datapath = f"TUN device {', '.join(tunnels)}: WireGuard in user space" if tunnels else "kernel WireGuard"

    def _scenario(self, lab: Lab) -> None:
        result = run(self.measurer.scenario, lab, lambda step: self._mark(step.text))
        self.scenario_result = result
        if result.outcome is not Outcome.PASSED:
            self.invalid.append(f"the scenario {result.scenario} ended with {result.outcome}")

    def _route_change(self, lab: Lab) -> None:
        """From the operator's withdrawal of a route until no peer has it."""
        workload = Workload.on(lab, self.plan.inventory)
        lab.control_plane.publish_route(workload.route)
        self._route_at_all(lab, workload.route, there=True)
        began_s = self.clock.now()
        lab.control_plane.withdraw_route(workload.route)
        self._route_at_all(lab, workload.route, there=False)
        self.route_change_s = round(self.clock.now() - began_s, 3)
        self._mark("a route was withdrawn from all")

    def _route_at_all(self, lab: Lab, route: Route, *, there: bool) -> None:
        """Those that have it are not asked again."""
        waiting = list(route.consumers)

        def ask() -> list[str]:
            waiting[:] = [peer for peer in waiting if (route.prefix in lab.control_plane.status(peer).routes) != there]
            return [peer.name for peer in waiting]

        until(
            self.clock,
            ask,
            lambda names: not names,
            what=f"The route {'to' if there else 'gone from'} every peer",
            timeout_s=RESETTLE_S,
            show=lambda names: f"waiting for {', '.join(names)}",
        )

    def _under_load(self, lab: Lab) -> None:
        workload = Workload.on(lab, self.plan.inventory)
        with self._watch(lab, Phase.LOAD) as watch:
            began_s = self.clock.now()
            for at_s, what in LOAD:
                self.clock.wait(max(0.0, began_s + at_s - self.clock.now()))
                self._mark(what)
                workload.do(what)
            self.clock.wait(max(0.0, began_s + LOAD[-1][0] - self.clock.now()))
        self.windows.append(watch.window())

    def _outage(self, lab: Lab) -> None:
        """A peer may be listed as online from before, so what counts is that the next change arrives everywhere."""
        workload = Workload.on(lab, self.plan.inventory)
        service = lab.member(lab.control_plane.api_service)
        self.engine.stop(service.machine.container_id)
        self._mark(f"{service.name} is stopped")
        self.clock.wait(_OUTAGE_S)
        began_s = self.clock.now()
        self.engine.start(service.machine.container_id)
        ready = service.ready
        if ready is not None:
            until(
                self.clock,
                lambda: serves(lab.reach.dial_once_open, service.machine.addresses[lab.control], ready),
                lambda wrong: not wrong,
                what=f"The service {service.name}",
                timeout_s=SERVICE_READY_S,
            )
        lab.control_plane.publish_route(workload.route)
        self._route_at_all(lab, workload.route, there=True)
        self.recovery_s = round(self.clock.now() - began_s, 3)
        self._mark("a route published after the outage is at every peer")

    def _window(self, lab: Lab, phase: Phase) -> None:
        began_s = self.clock.now()
        self._mark(f"settling before {phase}")
        self.clock.wait(self.definition.settle_s)
        with self._watch(lab, phase) as watch:
            self.clock.wait(self.definition.window_s)
        self.windows.append(watch.window())
        self._mark(f"{phase} measured")
        self.held_s += self.clock.now() - began_s

    def _watch(self, lab: Lab, phase: Phase) -> Watch:
        members = sorted(lab.members.values(), key=lambda member: (list(Role).index(member.role), member.name))
        targets = tuple(Target(m.machine.container_id, m.name, m.role, m.image) for m in members)
        interval_s = self.definition.interval_s
        if self.measurer.sampler.backend != "cgroup files":
            began_s = self.clock.now()
            for target in targets:
                self.measurer.sampler.read(target.container_id)
            sweep_s = self.clock.now() - began_s
            interval_s = max(interval_s, _ENGINE_INTERVAL_S, _ENGINE_SHARE * sweep_s)
        self.interval_s = interval_s
        return Watch(phase, self.measurer.sampler, lambda: targets, interval_s, self.begin_s, self.local)

    def _judge(self, lab: Lab) -> None:
        for member in lab.members.values():
            now = self.engine.inspect(member.machine.container_id)
            if now.state is not State.RUNNING or now.restarts or now.oom_killed:
                how = "was killed for want of memory" if now.oom_killed else "ended or was restarted"
                self.invalid.append(f"{member.name} {how}")
        self.invalid += [reason for window in self.windows for reason in faults(window, self.interval_s)]

    def _mark(self, what: str) -> None:
        self.marks.append(Mark(at_s=self._since_begin(), what=what))
        self.measurer.say(f"{self.marks[-1].at_s:6.1f} s  {what}")

    def _since_begin(self) -> float:
        return round(self.clock.now() - self.begin_s, 3)


def faults(window: Window, interval_s: float) -> list[str]:
    """Why a window's figures do not count; while a lab boots, containers that are not there yet are no fault."""
    found = []
    if window.phase is Phase.BOOT:
        return [] if any(window.containers) else ["no service was seen while it booted"]
    if not window.at_s:
        found.append(f"{window.phase}: no sweep")
    if window.widest_gap_s > _LATE * interval_s:
        found.append(f"{window.phase}: sweeps are missing for {window.widest_gap_s:.1f} s")
    for series in window.containers:
        missing = sum(value is None for value in series.columns["usage_bytes"])
        if missing:
            found.append(f"{window.phase}: {series.name} gave no figure in {missing} sweeps")
        if any(series.columns["swap_bytes"]):
            found.append(f"{window.phase}: {series.name} was swapped out")
    return found
