"""The runner on a fake mesh: what passes, what fails and where, and the false negatives it must not believe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

import pytest

from labs.controlplanes import Context, ListedPeer, Machine, Path, Route
from labs.engine import ExecResult, State
from labs.engine.fake import FakeEngine
from labs.journal import Journal
from labs.lab import Lab, Member
from labs.model import Attachment, Container, Network, Product, Role
from labs.results import Layer, Outcome, ScenarioResult
from labs.scenario import Scenario, run
from labs.scenario.loader import read_text
from labs.timing import FakeClock
from tests.fake_control_plane import FakeControlPlane

OFFICE = IPv4Network("10.200.1.0/24")
UNDERLAY = IPv4Network("10.200.2.0/24")
PRINTER = OFFICE[10]

FILE = """
title: t
networks: {office: {}}
peers:
  laptop: {user: alice}
  router: {user: alice, networks: [office]}
hosts:
  printer: {networks: {office: .10}, serves: http}
steps:
  - expect: {from: laptop, to: printer, reachable: false}
  - publish-route: {network: office, via: router, for: [laptop]}
  - expect: {from: laptop, to: printer, reachable: true, seen-as: router, within: 10s}
  - withdraw-route: {network: office, via: router}
  - expect: {from: laptop, to: printer, reachable: false, within: 10s}
"""

TIMED_OUT = ExecResult(143, "", "")
REFUSED = ExecResult(1, "", "wget: can't connect to remote host (10.200.1.10): Connection refused")


@dataclass
class Mesh:
    """Decides what a probe sees. `reach` may be replaced to plant a fault; `log` is the printer's access log."""

    clock: FakeClock
    plane: FakeControlPlane | None = None
    log: list[str] = field(default_factory=list)
    seen_as: str = ""
    answers_itself: bool = True
    reach: Callable[[Container], ExecResult | None] = lambda _: None

    def __call__(self, container: Container, argv: tuple[str, ...]) -> ExecResult:
        if argv[0] == "cat":
            return ExecResult(0, "\n".join(self.log), "")
        url = argv[-1]
        nonce = url.rpartition("?")[2]
        self.clock.wait(0.1)
        if container.name == "printer":
            return ExecResult(0, nonce, "") if self.answers_itself else REFUSED
        planted = self.reach(container)
        if planted is not None:
            return planted
        if self.plane is None or not any(PRINTER in prefix for prefix in self.plane.routes):
            self.clock.wait(0.4)
            return TIMED_OUT
        self.log.append(f"{self.seen_as} {nonce}")
        return ExecResult(0, f"caller={self.seen_as}\nquery={nonce}\n", "")


@dataclass
class World:
    lab: Lab
    mesh: Mesh
    plane: FakeControlPlane

    def run(self, text: str = FILE) -> ScenarioResult:
        return run(Scenario("t", read_text(text, "t.scenario.yaml").spec), self.lab, lambda _: None)


@pytest.fixture
def world() -> World:
    clock = FakeClock()
    mesh = Mesh(clock)
    engine = FakeEngine(mesh)
    engine.add_image("x:1")
    networks = {
        name: engine.create_network(Network(name, prefix), name, {}).id
        for name, prefix in (("office", OFFICE), ("control", UNDERLAY))
    }
    members = {}
    for name, role, places in (
        ("laptop", Role.PEER, {"control": UNDERLAY[5]}),
        ("router", Role.PEER, {"control": UNDERLAY[6], "office": OFFICE[6]}),
        ("printer", Role.HOST, {"office": PRINTER}),
    ):
        attachments = tuple(Attachment(network, address) for network, address in places.items())
        made = engine.create(Container(name, "x:1", attachments=attachments), name, networks, {})
        engine.start(made)
        members[name] = Member(Machine(name, made, places), role, State.RUNNING, "x:1")
    lab = Lab(
        name="t",
        run_id="0",
        topology="headscale",
        product=Product.HEADSCALE,
        control="control",
        owner="",
        settings="",
        created="",
        expires="",
        engine=engine,
        clock=clock,
        members=members,
        networks={"office": OFFICE, "control": UNDERLAY},
    )
    journal = Journal(clock.now)
    plane = FakeControlPlane(Context(engine, clock, journal, {}))
    for number, name in enumerate(("laptop", "router")):
        plane.peers[name] = ListedPeer(str(number), name, IPv4Address("100.64.0.1") + number, online=True)
    lab.__dict__.update(control_plane=plane, journal=journal)
    mesh.plane, mesh.seen_as = plane, str(OFFICE[6])
    return World(lab, mesh, plane)


def outcomes(result: ScenarioResult) -> list[str]:
    return [str(step.outcome) for step in result.steps]


def test_all_is_as_the_file_says(world: World) -> None:
    result = world.run()
    assert outcomes(result) == ["passed"] * 5
    assert result.outcome is Outcome.PASSED
    assert result.burden == {"route": 2}
    assert [entry.action for entry in result.journal] == ["publish", "withdraw"]
    assert "printer's log shows the caller 10.200.1.6 (router)" in result.steps[2].evidence
    assert "printer's log shows none of them" in result.steps[0].evidence


def test_a_negative_holds_for_its_whole_window(world: World) -> None:
    result = world.run()
    assert result.steps[0].took_s >= 3.0
    longer = world.run(FILE.replace("reachable: false}", "reachable: false, holds: 20s}"))
    assert longer.steps[0].took_s >= 20.0


def test_a_probe_that_crashes_says_nothing(world: World) -> None:
    world.mesh.reach = lambda _: ExecResult(139, "", "Segmentation fault")
    result = world.run()
    assert outcomes(result) == ["error", "not run", "not run", "not run", "not run"]
    assert result.steps[0].diagnosis
    assert result.steps[0].diagnosis.layer is Layer.PROBE
    assert "exit code 139" in result.steps[0].diagnosis.seen


@pytest.mark.parametrize(
    "result",
    [ExecResult(127, "", "sh: wget: not found"), ExecResult(1, "", "wget: bad address 'x'"), ExecResult(137, "", "")],
)
def test_neither_does_one_that_could_not_run(world: World, result: ExecResult) -> None:
    world.mesh.reach = lambda _: result
    assert world.run().outcome is Outcome.ERROR


def test_a_refusal_is_a_negative(world: World) -> None:
    world.mesh.reach = lambda _: None if world.plane.routes else REFUSED
    assert world.run().outcome is Outcome.PASSED


def test_a_leak_that_needs_a_second_to_come_up_is_caught(world: World) -> None:
    def leak(_: Container) -> ExecResult | None:
        if world.mesh.clock.now() < 1.0:
            return TIMED_OUT
        world.plane.routes[OFFICE] = route(world)
        return None

    world.mesh.reach = leak
    result = world.run()
    assert outcomes(result)[0] == "failed"
    assert "reachable after" in result.steps[0].evidence[0]


def test_a_request_that_arrives_without_an_answer_is_caught(world: World) -> None:
    def one_way(_: Container) -> ExecResult:
        world.mesh.clock.wait(0.4)
        return TIMED_OUT

    world.mesh.reach = one_way
    original = world.mesh.__class__.__call__

    class OneWay(Mesh):
        def __call__(self, container: Container, argv: tuple[str, ...]) -> ExecResult:
            if argv[0] == "sh":
                world.mesh.log.append(f"10.200.1.6 {argv[-1].rpartition('?')[2]}")
            return original(world.mesh, container, argv)

    world.lab.engine.on_exec = OneWay(world.mesh.clock)  # type: ignore[attr-defined]
    result = world.run()
    assert outcomes(result)[0] == "failed"
    assert "printer saw 10.200.1.6 calling" in result.steps[0].evidence[0]


def test_another_servers_answer_does_not_count(world: World) -> None:
    def impostor(_: Container) -> ExecResult | None:
        return None if not world.plane.routes else ExecResult(0, "hello", "")

    world.mesh.reach = impostor
    assert outcomes(world.run())[2] == "failed", "the target's log does not show it: another server answered"


def test_an_answer_the_target_never_logged_does_not_count(world: World) -> None:
    class Forgetful(list[str]):
        def append(self, line: str) -> None:
            pass

    world.mesh.log = Forgetful()
    result = world.run()
    assert outcomes(result)[2] == "failed"
    assert result.steps[2].diagnosis
    assert result.steps[2].diagnosis.layer is Layer.TARGET


def test_the_wrong_caller(world: World) -> None:
    world.mesh.seen_as = str(UNDERLAY[5])
    result = world.run()
    assert outcomes(result) == ["passed", "passed", "failed", "not run", "not run"]
    assert result.steps[2].diagnosis
    assert result.steps[2].diagnosis.seen == "printer saw 10.200.2.5 (laptop) calling, not router"


def test_a_success_that_is_slower_than_half_a_negative_spoils_it(world: World) -> None:
    def slow(_: Container) -> ExecResult | None:
        if world.plane.routes and world.mesh.clock.now() < 12.0:
            world.mesh.clock.wait(0.4)
            return TIMED_OUT
        return None

    world.mesh.reach = slow
    result = world.run()
    assert outcomes(result)[:3] == ["passed", "passed", "error"]
    assert "An earlier negative held for" in result.steps[2].evidence[0]


def route(world: World):  # type: ignore[no-untyped-def]
    from labs.controlplanes import Route

    return Route("office", OFFICE, world.lab.machine("router"), (world.lab.machine("laptop"),))


def broken(world: World, result: ScenarioResult) -> tuple[int, Layer]:
    (failed,) = [step for step in result.steps if step.outcome is Outcome.FAILED]
    assert failed.diagnosis
    return failed.number, failed.diagnosis.layer


def test_layer_target(world: World) -> None:
    world.mesh.reach = lambda _: TIMED_OUT
    world.mesh.answers_itself = False
    assert broken(world, world.run()) == (3, Layer.TARGET)


def test_layer_control_plane(world: World) -> None:
    world.plane.publish_route = lambda _: None  # type: ignore[method-assign]
    assert broken(world, world.run()) == (3, Layer.CONTROL_PLANE)


def test_layer_route_on_the_peer(world: World) -> None:
    text = FILE.replace("for: [laptop]", "for: [router]")
    world.mesh.reach = lambda _: TIMED_OUT
    assert broken(world, world.run(text)) == (3, Layer.ROUTE)


def test_layer_tunnel(world: World) -> None:
    world.mesh.reach = lambda _: TIMED_OUT
    world.plane.paths["laptop", "router"] = Path.NONE
    assert broken(world, world.run()) == (3, Layer.TUNNEL)


def test_layer_firewall(world: World) -> None:
    world.mesh.reach = lambda _: TIMED_OUT
    assert broken(world, world.run()) == (3, Layer.FIREWALL)


def test_a_route_that_stays(world: World) -> None:
    world.plane.withdraw_route = lambda _: None  # type: ignore[method-assign]
    assert broken(world, world.run()) == (5, Layer.CONTROL_PLANE)


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize(("straggles_at_s", "outcome"), [(4.0, "passed"), (15.0, "failed")])
def test_a_straggler_within_the_limit_only_begins_the_wait_anew(
    world: World, *, answered: bool, straggles_at_s: float, outcome: str
) -> None:
    """After a withdrawal probes fail, one gets through, and the rest fail: a fault only once the limit is over."""
    withdrawn: list[float] = []
    once: list[float] = []
    original = world.plane.withdraw_route

    def withdraw(gone: Route) -> None:
        original(gone)
        withdrawn.append(world.mesh.clock.now())

    class Straggling(Mesh):
        def __call__(self, container: Container, argv: tuple[str, ...]) -> ExecResult:
            now = self.clock.now()
            if argv[0] == "sh" and withdrawn and not once and now - withdrawn[0] >= straggles_at_s:
                once.append(now)
                nonce = argv[-1].rpartition("?")[2]
                world.mesh.log.append(f"10.200.1.6 {nonce}")
                return ExecResult(0, f"caller=10.200.1.6\nquery={nonce}\n", "") if answered else TIMED_OUT
            return world.mesh(container, argv)

    world.plane.withdraw_route = withdraw  # type: ignore[method-assign]
    world.lab.engine.on_exec = Straggling(world.mesh.clock)  # type: ignore[attr-defined]
    # Long enough for the straggler after the limit to fall into the time that the negative is held.
    result = world.run(FILE.replace("reachable: false, within: 10s", "reachable: false, within: 10s, holds: 20s"))
    assert once
    assert outcomes(result)[4] == outcome
    if outcome == "passed":
        assert result.steps[4].evidence[0].startswith("unreachable after 4.")
