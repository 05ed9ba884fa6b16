"""Bringing a lab up on the fake engine: whole, broken at every call, interrupted at every call."""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from labs.controlplanes import DIRECT, Context, Through
from labs.controlplanes.ready import Dial
from labs.engine import State
from labs.engine.fake import FakeEngine
from labs.errors import (
    AddressInUse,
    ControlPlaneProblem,
    EngineProblem,
    EnvironmentProblem,
    Interrupted,
    LabConflict,
    LabsError,
    Leftovers,
    NotReady,
    UsageError,
)
from labs.images import catalogue, recipe
from labs.journal import Journal
from labs.lab import Lab, Remains, find, find_all, labels, survey
from labs.lab.addresses import allocate, host_routes, is_routed
from labs.lab.files import LabFiles, state_folder
from labs.lab.health import existing
from labs.lab.lab import WAY_IN
from labs.lab.plan import (
    Plan,
    access_of,
    checked_name,
    every_image_variable,
    image_variables,
    topologies,
    topology_folder,
)
from labs.lab.removal import Removed, remove
from labs.lab.up import Step, up
from labs.measure.burden import burden
from labs.model import Container, File, Host, Inventory, Lan, Peer, Person, Product, Ready, Role, Settings
from labs.timing import FakeClock, SystemClock
from tests.fake_control_plane import FakeControlPlane, runs_everything

KEYCLOAK_HEALTH = 9000
WORDS = "insecure-lab-only"
ANNA = Person("anna", "Anna Example", "anna@example.test", ("company",))
IMAGES = {"HEADSCALE_IMAGE": "h:1", "TAILSCALE_IMAGE": "t:1", "TOOLBOX_IMAGE": "b:1"}
INVENTORY = Inventory(
    (Lan("office"),),
    (Peer("laptop", "alice"), Peer("router", "bob", ("office",))),
    (Host("printer", (("office", 10),), "http"),),
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESH_LABS_STATE", str(tmp_path))
    return tmp_path


@pytest.fixture
def engine() -> FakeEngine:
    made = FakeEngine(runs_everything)
    for reference in IMAGES.values():
        made.add_image(reference)
    return made


def plan(name: str = "one", inventory: Inventory = INVENTORY) -> Plan:
    return Plan(name, "headscale", inventory, IMAGES)


def started(
    engine: FakeEngine, wanted: Plan | None = None, **others: object
) -> tuple[Lab, FakeControlPlane, list[Step]]:
    planes: list[FakeControlPlane] = []
    steps: list[Step] = []

    def drive(_: object, context: object) -> FakeControlPlane:
        planes.append(FakeControlPlane(context))  # type: ignore[arg-type]
        planes[-1].peers, planes[-1].made_users = planes[0].peers, planes[0].made_users
        return planes[-1]

    lab = up(
        wanted or plan(),
        engine,
        SystemClock(),
        steps.append,
        drive=drive,  # type: ignore[arg-type]
        **{"check": lambda *_: "", "routed": lambda _: True, **others},
    )
    return lab, planes[-1], steps


def test_where_there_is_no_route_a_helper_on_the_control_network_connects(engine: FakeEngine) -> None:
    asked: list[Dial] = []
    prefixes: list[IPv4Network] = []

    def check(dial: Dial, *_: object) -> str:
        asked.append(dial)
        return ""

    lab, plane, steps = started(engine, check=check, routed=lambda prefix: bool(prefixes.append(prefix)))
    helper = lab.machine(WAY_IN)
    assert set(prefixes) == {lab.networks["control"]}
    assert helper.addresses == {"control": lab.networks["control"][254]}
    assert lab.reach == plane.context.reach == Through(engine, helper.container_id)
    assert lab.context.reach == lab.reach, "and every later command goes the same way"
    assert [dial.__self__ for dial in asked] == [lab.reach]  # type: ignore[attr-defined]
    assert WAY_IN not in lab.context.services
    assert lab.members[WAY_IN].role is Role.HELPER
    assert {step.subject for step in steps} > {"control network"}
    assert remove(engine, {labels.LAB: "one"}).containers == 5


def test_a_direct_lab_has_no_helper(engine: FakeEngine) -> None:
    lab, plane, _ = started(engine)
    assert lab.reach == plane.context.reach == DIRECT
    assert WAY_IN not in lab.members


def test_a_route_that_comes_with_the_first_container_makes_the_helper_superfluous(engine: FakeEngine) -> None:
    routes = iter((False, True))
    lab, plane, _ = started(engine, routed=lambda _: next(routes))
    assert lab.reach == plane.context.reach == DIRECT
    assert WAY_IN not in lab.members


@pytest.mark.parametrize("call", ["create", "start"])
def test_a_helper_that_does_not_start_leaves_nothing(engine: FakeEngine, call: str) -> None:
    engine.fail_on[call] = EngineProblem("planted")
    with pytest.raises(LabsError, match="planted"):
        started(engine, routed=lambda _: False)
    assert left(engine) == []


@pytest.mark.parametrize(("word", "directly"), [("direct", True), ("exec", False)])
def test_the_way_can_be_forced(word: str, directly: bool) -> None:
    assert is_routed(IPv4Network("192.0.2.0/24"), {"MESH_LABS_REACH": word}) is directly


def test_the_way_is_found_by_the_hosts_own_routes() -> None:
    for prefix in host_routes():
        assert is_routed(prefix, {})
    assert not is_routed(allocate(host_routes(), random.Random(1)), {})  # noqa: S311 - no secret
    with pytest.raises(UsageError, match="MESH_LABS_REACH is 'tunnel'"):
        is_routed(IPv4Network("192.0.2.0/24"), {"MESH_LABS_REACH": "tunnel"})


def left(engine: FakeEngine) -> list[str]:
    marks = {labels.LAB: ""}
    return [thing.name for thing in (*engine.containers(marks), *engine.networks(marks), *engine.volumes(marks))]


def test_an_official_busybox_is_given_the_toolboxs_pages(engine: FakeEngine) -> None:
    official = recipe("toolbox").official
    engine.add_image(official)
    lab, _, _ = started(engine, Plan("one", "headscale", INVENTORY, {**IMAGES, "TOOLBOX_IMAGE": official}))
    files = engine.files(lab.machine("printer").container_id)
    assert files["/srv/www/cgi-bin/whoami"].mode == 0o755
    assert not engine.files(started(engine, plan("two"))[0].machine("printer").container_id)


@pytest.mark.parametrize("pulled", [False, True])
def test_an_official_image_stands_in_for_nothing(pulled: bool) -> None:
    """NetBird's dashboard can only be stood in for when it is built; Caddy stands for Traefik either way."""
    found = {r.spec.variable: r.official if pulled else r.reference for r in catalogue().values()}
    subnets = {"control": IPv4Network("172.30.24.0/24")}
    topology = Plan("one", "netbird-quickstart", Inventory(), found).topology(subnets)
    stand_ins = {service.name for service in topology.services if service.stand_in}
    assert stand_ins == ({"proxy"} if pulled else {"proxy", "dashboard"})
    assert burden(everything(found), "netbird-quickstart", found).stand_ins.keys() == stand_ins


def everything(images: dict[str, str]) -> FakeEngine:
    engine = FakeEngine()
    for reference in images.values():
        engine.add_image(reference)
    return engine


@pytest.mark.parametrize("name", topologies())
def test_a_set_has_every_image_that_a_lab_may_need(name: str) -> None:
    hosts = (Host("printer", (("office", 10),), "http"), Host("site", (("office", 53),), "dns"))
    who = Inventory((Lan("office"),), (Peer("laptop", "alice"),), hosts)
    assert set(image_variables(name, who)) == set(every_image_variable([name]))


def test_a_whole_lab(engine: FakeEngine, state: Path) -> None:
    lab, plane, steps = started(engine)
    assert {name: member.role for name, member in lab.members.items()} == {
        "headscale": Role.SERVICE,
        "laptop": Role.PEER,
        "router": Role.PEER,
        "printer": Role.HOST,
    }
    assert {member.state for member in lab.members.values()} == {State.RUNNING}
    assert sorted(plane.made_users) == ["alice", "bob"]
    assert lab.members["laptop"].user == "alice"
    assert set(lab.machine("router").addresses) == {"control", "office"}
    assert set(lab.machine("laptop").addresses) == {"control"}
    assert lab.machine("printer").addresses["office"] == lab.networks["office"][10]
    assert lab.machine("headscale").addresses["control"] == lab.networks["control"][2]
    assert {step.subject for step in steps} == {"headscale", "control plane", "laptop", "router", "printer"}
    assert LabFiles(state / "labs" / lab.run_id).credentials() == {"key": "secret"}


def test_the_configuration_names_the_labs_own_addresses(engine: FakeEngine) -> None:
    lab, _, _ = started(engine)
    spec = engine.spec(lab.machine("headscale").container_id)
    address = lab.networks["control"][2]
    assert spec.environment["HEADSCALE_SERVER_URL"] == f"http://{address}:8080"
    assert "/etc/headscale/config.yaml" in engine.files(lab.machine("headscale").container_id)


def test_it_is_found_from_labels_alone(engine: FakeEngine) -> None:
    lab, _, _ = started(engine)
    assert find(engine, "one", SystemClock()) == lab
    assert find_all(engine, SystemClock()) == (lab,)


def test_a_name_that_is_not_there_gets_the_nearest(engine: FakeEngine) -> None:
    started(engine, plan("netlab"))
    with pytest.raises(UsageError) as refused:
        find(engine, "netlap", SystemClock())
    assert refused.value.hint == "did you mean netlab?"


_LATER = (labels.TOPOLOGY, labels.CONTROL, labels.OWNER, labels.SETTINGS, labels.CREATED, labels.EXPIRES, labels.ROLE)
CALLS = ["create_network", "create_volume", "create", "start", "inspect", "exec", "networks"]


@pytest.mark.parametrize("call", CALLS)
def test_a_failure_at_any_call_leaves_nothing(engine: FakeEngine, state: Path, call: str) -> None:
    engine.fail_on[call] = EngineProblem("planted")
    with pytest.raises(LabsError, match="planted"):
        started(engine)
    assert left(engine) == []
    assert list((state / "labs").iterdir()) == []


@pytest.mark.parametrize("call", ["create_network", "create_volume", "networks"])
def test_ctrl_c_at_any_call_leaves_nothing(engine: FakeEngine, state: Path, call: str) -> None:
    engine.fail_on[call] = KeyboardInterrupt()
    with pytest.raises(Interrupted, match="one was starting"):
        started(engine)
    assert left(engine) == []
    assert list((state / "labs").iterdir()) == []


def test_what_failed_can_be_kept(engine: FakeEngine) -> None:
    engine.fail_on["exec"] = EngineProblem("planted")
    with pytest.raises(EngineProblem):
        started(engine, keep=True)
    assert "mesh-labs-one-headscale" in left(engine)


def test_a_service_that_never_serves_is_named_with_what_was_seen(engine: FakeEngine) -> None:
    class Impatient(SystemClock):
        """Each look at the clock takes a minute."""

        seconds = 0.0

        def now(self) -> float:
            Impatient.seconds += 60
            return Impatient.seconds

    with pytest.raises(NotReady, match="The service headscale") as refused:
        up(
            plan(),
            engine,
            Impatient(),
            lambda _: None,
            drive=lambda _, context: FakeControlPlane(context),  # type: ignore[arg-type, return-value]
            check=lambda *_: "http on port 8080: refused",
            routed=lambda _: True,
        )
    assert "refused" in refused.value.why
    assert left(engine) == []


def test_another_lab_that_takes_the_prefix_first_is_no_problem(engine: FakeEngine) -> None:
    engine.fail_on["create_network"] = AddressInUse("taken meanwhile")
    lab, _, _ = started(engine)
    assert set(lab.networks) == {"control", "office"}


def test_labs_side_by_side_share_nothing(engine: FakeEngine) -> None:
    labs = [started(engine, plan(name))[0] for name in ("one", "two", "three")]
    prefixes = [prefix for lab in labs for prefix in lab.networks.values()]
    assert not any(a.overlaps(b) for n, a in enumerate(prefixes) for b in prefixes[:n])
    remove(engine, {labels.LAB: "two"})
    assert [lab.name for lab in find_all(engine, SystemClock())] == ["one", "three"]


def test_down_takes_away_everything_and_may_be_repeated(engine: FakeEngine, state: Path) -> None:
    started(engine)
    assert remove(engine, {labels.LAB: "one"}) == Removed(containers=4, networks=2, volumes=1)
    assert left(engine) == []
    assert list((state / "labs").iterdir()) == []
    assert remove(engine, {labels.LAB: "one"}) == Removed(0, 0, 0)


def test_a_lab_of_another_version_is_listed_and_can_be_removed(engine: FakeEngine) -> None:
    started(engine)
    future = {labels.LAB: "future", labels.RUN: "f", labels.NAME: "x", labels.PRODUCT: "zerotier"}
    marks = {"past": {labels.LAB: "past"}, "future": future | dict.fromkeys(_LATER, "x")}
    for name, own in marks.items():
        engine.create(Container(name, "b:1", labels=own), name, {}, {})
    labs, remains = survey(engine, SystemClock())
    assert [lab.name for lab in labs] == ["one"]
    assert remains == (
        Remains("future", 1, "another version's: 'zerotier' is not a valid Product"),
        Remains("past", 1, "another version's: no label org.mesh-labs.name"),
    )
    with pytest.raises(LabConflict, match="Lab past was made by another version") as refused:
        existing(plan("past"), engine, SystemClock())
    assert "inv down past" in refused.value.hint
    assert remove(engine, {labels.LAB: "past"}) == Removed(1, 0, 0)
    assert [left.name for left in survey(engine, SystemClock())[1]] == ["future"]


def test_networks_without_a_container_are_no_lab(engine: FakeEngine) -> None:
    lab, _, _ = started(engine)
    for member in lab.members.values():
        engine.remove(member.machine.container_id)
    assert survey(engine, SystemClock()) == ((), (Remains("one", 0, "only its networks are left"),))


def test_an_engine_that_was_replaced_leaves_files_that_are_named_and_removed(engine: FakeEngine, state: Path) -> None:
    started(engine)
    new = FakeEngine(runs_everything)
    (labs, (left_over,)) = survey(new, SystemClock())
    assert labs == ()
    assert (left_over.name, left_over.containers) == ("one", 0)
    assert "the engine was replaced" in left_over.why
    with pytest.raises(UsageError, match="Lab one is no longer on the engine") as refused:
        find(new, "one", SystemClock())
    assert refused.value.hint == "inv down one removes its files"
    assert remove(new, {labels.LAB: "another"}) == Removed(0, 0, 0)
    assert remove(new, {labels.LAB: "one"}) == Removed(0, 0, 0, files=1)
    assert list((state / "labs").iterdir()) == []
    assert survey(new, SystemClock()) == ((), ())


def test_a_lab_on_another_engine_is_not_taken_for_gone(engine: FakeEngine, state: Path) -> None:
    started(engine)
    other = FakeEngine(runs_everything)
    other.endpoint = "fake://other"
    assert survey(other, SystemClock()) == ((), ())
    with pytest.raises(UsageError, match="no lab called one on this engine") as refused:
        find(other, "one", SystemClock())
    assert refused.value.hint == "it was started on another one: --engine fake://"
    assert remove(other, {labels.LAB: ""}) == Removed(0, 0, 0)
    assert len(list((state / "labs").iterdir())) == 1


def test_a_clock_that_was_put_right_changes_no_lab(engine: FakeEngine) -> None:
    """A lab made a year ahead of, or behind, today's date is found and removed like any other."""
    for name, created in (("past", "2020-01-01T00:00:00+00:00"), ("future", "2199-01-01T00:00:00+00:00")):
        lab, _, _ = started(engine, plan(name))
        for member in lab.members.values():
            engine.relabel(member.machine.container_id, {labels.CREATED: created, labels.EXPIRES: created})
        assert find(engine, name, SystemClock()).created == created
        assert remove(engine, {labels.LAB: name}).containers == 4
    assert left(engine) == []


def test_a_label_cannot_lead_to_other_files(engine: FakeEngine, state: Path) -> None:
    """Anybody may put our labels on a volume; removing it must not remove a folder of their choice."""
    precious = state / "precious"
    precious.mkdir()
    engine.create_volume("theirs", {labels.LAB: "one", labels.RUN: "../precious"})
    assert remove(engine, {labels.LAB: "one"}).volumes == 1
    assert precious.is_dir()


def test_down_tries_again_before_it_gives_up(engine: FakeEngine) -> None:
    started(engine)
    engine.fail_on["remove_network"] = EngineProblem("busy")
    assert remove(engine, {labels.LAB: "one"}).networks == 2
    assert left(engine) == []


def test_down_says_what_is_left() -> None:
    class Stubborn(FakeEngine):
        def remove_volume(self, name: str) -> None:
            raise EngineProblem("The container engine refused", why="volume is in use")

    engine = Stubborn(runs_everything)
    for reference in IMAGES.values():
        engine.add_image(reference)
    started(engine)
    with pytest.raises(Leftovers) as refused:
        remove(engine, {labels.LAB: "one"})
    assert (refused.value.where, refused.value.why) == ("mesh-labs-one-data", "volume is in use")


def test_what_is_in_the_way_of_a_name(engine: FakeEngine) -> None:
    clock = SystemClock()
    assert existing(plan(), engine, clock) is None
    lab, _, _ = started(engine)
    with pytest.raises(LabConflict, match="has other settings"):
        existing(plan(inventory=Inventory()), engine, clock)
    for member in lab.members.values():
        engine.remove(member.machine.container_id)
    with pytest.raises(LabConflict, match="only half there"):
        existing(plan(), engine, clock)


@pytest.mark.parametrize("name", ["", "Upper", "9lives", "with space", "x" * 31, "under_score", "-x"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError):
        checked_name(name)


def test_topologies() -> None:
    assert {"headscale", "netbird"} <= set(topologies())
    with pytest.raises(UsageError) as refused:
        topology_folder("netbrid")
    assert refused.value.hint == "did you mean netbird?"


def test_a_prefix_overlaps_nothing_that_is_taken() -> None:
    choose = random.Random(1)  # noqa: S311 - no secret
    taken = [IPv4Network("10.128.0.0/10"), IPv4Network("10.200.0.0/16")]
    for _ in range(300):
        found = allocate(taken, choose)
        assert not any(found.overlaps(other) for other in taken)
        taken.append(found)


def test_a_full_pool_is_an_error() -> None:
    with pytest.raises(EnvironmentProblem, match="No free /24"):
        allocate([IPv4Network("10.0.0.0/8")], random.Random(1))  # noqa: S311


def test_host_routes_leave_out_the_default() -> None:
    table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    table += "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    table += "eth0\t0000800A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    assert host_routes(table) == (IPv4Network("10.128.0.0/16"),)


def test_where_state_lies() -> None:
    assert state_folder({"MESH_LABS_STATE": "/a"}) == Path("/a")
    assert state_folder({"XDG_STATE_HOME": "/b", "HOME": "/c"}) == Path("/b/mesh-labs")
    assert state_folder({"HOME": "/c"}) == Path("/c/.local/state/mesh-labs")


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    files = LabFiles(tmp_path / "labs" / "run")
    files.create("one", "fake://")
    files.write_credentials({"key": "secret"})
    assert (files.folder / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert files.folder.stat().st_mode & 0o777 == 0o700
    assert files.credentials() == {"key": "secret"}
    files.remove()
    assert files.credentials() is None


OIDC_IMAGES = {
    "HEADSCALE_IMAGE": "h:1",
    "TAILSCALE_IMAGE": "t:1",
    "KEYCLOAK_IMAGE": "k:1",
    "POSTGRES_IMAGE": "p:1",
}


class LastWords(FakeEngine):
    """Every container has printed its name."""

    def logs(self, container_id: str, tail: int | None = None) -> str:
        return f"the last words of {self.spec(container_id).name}"


class Certified(FakeEngine):
    """A proxy that makes an authority of its own once it has started, as Caddy does."""

    def copy_out(self, container_id: str, path: str) -> bytes:
        assert self.inspect(container_id).state is State.RUNNING
        return f"PEM of {self.spec(container_id).name}".encode() if path.endswith("/root.crt") else b""


def with_provider(engine: FakeEngine, check: Callable[[Dial, IPv4Address, Ready], str]) -> tuple[Lab, list[str]]:
    """A lab whose services wait for each other: postgres, keycloak, headscale. What has served, in order."""
    for reference in OIDC_IMAGES.values():
        engine.add_image(reference)
    served: list[str] = []
    populated: list[Inventory] = []
    wanted = Plan("idp", "headscale-oidc", Inventory(peers=(Peer("laptop", ""),), people=(ANNA,)), OIDC_IMAGES)

    def step(one: Step) -> None:
        if one.what == "serves":
            served.append(one.subject)

    lab = up(
        wanted,
        engine,
        SystemClock(),
        step,
        drive=lambda _, context: FakeControlPlane(context),  # type: ignore[arg-type, return-value]
        check=check,
        routed=lambda _: True,
        settle_people=lambda _, inventory: populated.append(inventory),
    )
    assert populated == [wanted.inventory]
    return lab, served


def test_services_start_once_those_they_wait_for_serve(engine: FakeEngine) -> None:
    """Each service is asked twice, and says no the first time; until the yes, nothing that waits for it is there."""
    asked: list[tuple[int, frozenset[str]]] = []

    def check(dial: Dial, address: IPv4Address, ready: Ready) -> str:
        services = frozenset(found.labels[labels.NAME] for found in engine.containers({labels.ROLE: Role.SERVICE}))
        asked.append((ready.port, services))
        return "" if [port for port, _ in asked].count(ready.port) > 1 else "not yet"

    _, served = with_provider(engine, check)
    assert served == ["postgres", "keycloak", "headscale"]
    there = [frozenset(served[: number + 1]) for number in range(3)]
    assert asked == [(port, there[number]) for number, port in enumerate((5432, 9000, 8080)) for _ in range(2)]


def test_what_waits_for_nothing_starts_meanwhile(engine: FakeEngine) -> None:
    """A peer's container is there, and its daemon answers, while the first service does not serve yet."""

    tries = iter(range(500))

    def check(dial: Dial, address: IPv4Address, ready: Ready) -> str:
        assert next(tries, None) is not None, "the peer waits for a service"
        peers = engine.containers({labels.ROLE: Role.PEER})
        return "" if any(peer.state is State.RUNNING for peer in peers) else "not yet"

    lab, _ = with_provider(engine, check)
    assert "laptop" in lab.members


def test_secrets_are_fresh_and_kept_with_peoples_passwords(engine: FakeEngine, state: Path) -> None:
    lab, _ = with_provider(engine, lambda *_: "")
    credentials = LabFiles(state / "labs" / lab.run_id).credentials()
    assert credentials is not None
    assert {"person anna", "KEYCLOAK_ADMIN_PASSWORD", "MESH_CLIENT_SECRET", "key"} <= credentials.keys()
    file = state / "labs" / lab.run_id / "credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    environment = engine.spec(lab.machine("headscale").container_id).environment
    assert environment["HEADSCALE_OIDC_CLIENT_SECRET"] == credentials["MESH_CLIENT_SECRET"]
    assert WORDS not in environment["HEADSCALE_OIDC_CLIENT_SECRET"]


def test_a_service_that_ends_fails_at_once_and_says_its_last_words() -> None:
    engine = LastWords(runs_everything)
    tries = iter(range(3))

    def check(dial: Dial, address: IPv4Address, ready: Ready) -> str:
        if ready.port != KEYCLOAK_HEALTH:
            return ""
        assert next(tries, None) is not None, "it is asked on and on"
        (keycloak,) = (found for found in engine.containers({labels.NAME: "keycloak"}))
        engine.stop(keycloak.id)
        return "connection refused"

    with pytest.raises(NotReady, match="keycloak ended") as ended:
        with_provider(engine, check)
    assert ended.value.where == "keycloak"
    assert ended.value.why == "connection refused\nthe last words of keycloak"
    created = [name for call, name in engine.calls if call == "create"]
    assert "mesh-labs-idp-headscale" not in created, "nobody starts what waited for it"
    assert left(engine) == []


QUICKSTART_IMAGES = {
    "CADDY_IMAGE": "c:1",
    "NETBIRD_DASHBOARD_IMAGE": "d:1",
    "NETBIRD_SERVER_IMAGE": "s:1",
    "NETBIRD_IMAGE": "n:1",
}


def test_peers_trust_the_certificate_that_the_proxy_has_made() -> None:
    engine = Certified(runs_everything)
    for reference in QUICKSTART_IMAGES.values():
        engine.add_image(reference)
    contexts: list[Context] = []

    def drive(_: object, context: Context) -> FakeControlPlane:
        contexts.append(context)
        plane = FakeControlPlane(context, api_service="netbird-server")
        plane.peer_container = lambda peer, image, _: Container(peer.name, image, files=(File("/own", b""),))  # type: ignore[method-assign, assignment]
        return plane

    wanted = Plan("tls", "netbird-quickstart", Inventory(peers=(Peer("laptop", "alice"),)), QUICKSTART_IMAGES)
    clock = SystemClock()
    lab = up(wanted, engine, clock, lambda _: None, drive=drive, check=lambda *_: "", routed=lambda _: True)  # type: ignore[arg-type]
    files = engine.files(lab.machine("laptop").container_id)
    assert set(files) == {"/own", "/etc/ssl/certs/mesh-labs-authority.pem"}
    assert files["/etc/ssl/certs/mesh-labs-authority.pem"] == File(
        "/etc/ssl/certs/mesh-labs-authority.pem", b"PEM of proxy", 0o644
    )
    assert set(contexts[-1].services) == {"proxy", "netbird-server"}, "those that an administrator speaks to"
    assert contexts[-1].authority == "PEM of proxy"
    assert contexts[-1].joins == "https://netbird.test"
    assert lab.context.authority == "PEM of proxy", "and a lab that is found again knows it too"


def test_a_context_says_which_service_is_missing() -> None:
    clock = FakeClock()
    access = access_of("netbird-quickstart")
    context = Context(Certified(), clock, Journal(clock.now), {}, access=access)
    for ask in (lambda: context.authority, lambda: context.address("netbird-server")):
        with pytest.raises(ControlPlaneProblem, match="does not run") as problem:
            ask()
        assert problem.value.where in ("proxy", "netbird-server")
    with pytest.raises(ControlPlaneProblem, match="No identity provider runs"):
        context.keycloak()


def test_what_must_be_decided_at_once_is_configured_before_anybody_is_there(engine: FakeEngine) -> None:
    settings: list[Settings] = []

    def drive(_: object, context: Context) -> FakeControlPlane:
        plane = FakeControlPlane(context)
        plane.configure = settings.append  # type: ignore[method-assign]
        return plane

    inventory = Inventory(settings=Settings(user_approval=False, lazy_connections=True))
    wanted, clock = plan(inventory=inventory), SystemClock()
    up(wanted, engine, clock, lambda _: None, drive=drive, check=lambda *_: "", routed=lambda _: True)  # type: ignore[arg-type]
    assert settings == [Settings(user_approval=False)]


def test_a_variant_is_the_same_topology_with_other_values() -> None:
    assert topology_folder("netbird-external-idp-2g") == topology_folder("netbird-external-idp")
    images = {"KEYCLOAK_IMAGE": "k:1"}
    subnets = {"control": IPv4Network("10.1.2.0/24")}
    limits = {
        name: Plan("x", name, Inventory(), images).topology(subnets).service("keycloak").container.mem_limit_bytes
        for name in ("netbird-external-idp", "netbird-external-idp-2g")
    }
    assert limits == {"netbird-external-idp": 750 << 20, "netbird-external-idp-2g": 2 << 30}
    with pytest.raises(UsageError, match="netbird-external-idp-3g") as refused:
        topology_folder("netbird-external-idp-3g")
    assert "netbird-external-idp-2g" in refused.value.hint
    assert "netbird-external-idp-2g" in topologies()
    plans = [Plan("x", name, Inventory(), images) for name in ("netbird-external-idp", "netbird-external-idp-2g")]
    assert plans[0].settings != plans[1].settings, "another lab, so one is not taken for the other"
    assert plans[0].product is plans[1].product is Product.NETBIRD
    assert plans[0].access == plans[1].access
