"""Doctor: facts in, checks and text out; the text is compared with tests/unit/golden/doctor-*.txt."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labs.doctor.checks import Disk, EngineFacts, Facts, Level, can_run, judge, render
from labs.doctor.machine import cgroups_mounted, find_engine, memory_available_bytes
from labs.engine.protocol import EngineInfo
from labs.model import Needed
from tests.fake_system import FakeSystem

GOLDEN = Path(__file__).with_name("golden")
GIB = 1 << 30

INFO = EngineInfo(
    endpoint="unix:///var/run/docker.sock",
    version="27.3.1",
    api_version="1.47",
    cgroup_version=2,
    storage_driver="overlay2",
    kernel="6.1.0-28-amd64",
    os="Debian GNU/Linux 12 (bookworm)",
    cpus=4,
    memory_bytes=16 * GIB,
    rootless=False,
    local=True,
)
GOOD = Facts(
    python=(3, 11, 9),
    engine=EngineFacts(INFO, "the machine's engine"),
    root=False,
    tun=True,
    kernel="6.1.0-28-amd64",
    cgroups=True,
    memory_available_bytes=12 * GIB,
    disks=(
        Disk("cache", Path("/home/ann/.cache/mesh-labs"), 80 * GIB),
        Disk("engine", Path("/var/lib/docker"), 9 * GIB),
    ),
    go="go1.27.0",
    go_needed="1.26.6",
    gcc=True,
    apt=True,
    may_install=False,
    images_to_build=(),
    ip_forward=True,
    bridge_filter=None,
    clock=datetime(2027, 3, 1, 12, 30, tzinfo=UTC),
    newest_file=datetime(2027, 2, 1, tzinfo=UTC),
    needed={"small": Needed(64 << 20, 1 << 28), "large": Needed(2 * GIB, 2 * GIB)},
)
# What a virtual machine with the private engine said of itself, on 24 November 2026.
MACHINE = Facts(
    python=(3, 11, 7),
    engine=EngineFacts(
        EngineInfo(
            endpoint="unix:///run/mesh-labs/docker.sock",
            version="20.10.24+dfsg1",
            api_version="1.41",
            cgroup_version=1,
            storage_driver="overlay2",
            kernel="6.18.44-fc-v669",
            os="Debian GNU/Linux 12 (bookworm)",
            cpus=2,
            memory_bytes=25276502016,
            rootless=False,
            local=True,
            clock="2026-11-24T12:26:48.788150526Z",
        ),
        "the private engine",
    ),
    root=True,
    tun=True,
    kernel="6.18.44-fc-v669",
    cgroups=True,
    memory_available_bytes=24266903552,
    disks=(
        Disk("cache", Path("/root/.cache/mesh-labs"), 70256386048),
        Disk("engine", Path("/var/lib/mesh-labs/engine"), 70256386048),
    ),
    go="go1.26.8",
    go_needed="1.26.6",
    gcc=True,
    apt=True,
    may_install=True,
    images_to_build=(),
    ip_forward=True,
    bridge_filter=True,
    clock=datetime(2026, 11, 24, 12, 26, 48, 892952, UTC),
    newest_file=datetime(2026, 11, 24, 12, 8, 8, tzinfo=UTC),
    needed={
        "headscale": Needed(64 << 20, 256 << 20),
        "headscale-oidc": Needed(1024 << 20, 1024 << 20),
        "headscale-proxy": Needed(128 << 20, 512 << 20),
        "netbird": Needed(128 << 20, 512 << 20),
        "netbird-combined": Needed(128 << 20, 512 << 20),
        "netbird-external-idp": Needed(1200 << 20, 2048 << 20),
        "netbird-external-idp-2g": Needed(1200 << 20, 2048 << 20),
        "netbird-oidc": Needed(1024 << 20, 1024 << 20),
        "netbird-quickstart": Needed(192 << 20, 1024 << 20),
        "netbird-split-quickstart": Needed(192 << 20, 1024 << 20),
    },
)
# The same machine after tests/live/test_doctor_live.py had taken its devices, control groups, tools and engine away.
MACHINE_BROKEN = replace(
    MACHINE,
    engine=EngineFacts(
        None,
        problem="The container engine does not answer; unix:///tmp/dead.sock (as given); No such file or directory",
        todo="start that engine, or name another one with --engine",
    ),
    tun=False,
    cgroups=False,
    disks=(Disk("cache", Path("/tmp/small/mesh-labs"), 64 << 20), Disk("engine", Path("/var/lib"), 12 * GIB)),  # noqa: S108
    go=None,
    gcc=False,
    apt=False,
    may_install=False,
    images_to_build=("headscale", "tailscale"),
)
BROKEN = replace(
    GOOD,
    python=(3, 10, 2),
    engine=EngineFacts(
        None,
        problem="none answers; not root; unix:///var/run/docker.sock: Permission denied",
        todo="run as root, or start Docker and set DOCKER_HOST to an engine you may use",
    ),
    tun=False,
    cgroups=False,
    memory_available_bytes=GIB // 2,
    disks=(
        Disk("cache", Path("/home/ann/.cache/mesh-labs"), GIB // 4),
        Disk("engine", Path("/var/lib/docker"), 2 * GIB),
    ),
    go="go1.9",
    gcc=False,
    apt=False,
    images_to_build=("headscale", "tailscale"),
    ip_forward=False,
    bridge_filter=True,
    clock=datetime(1970, 1, 1, tzinfo=UTC),
)


def levels(facts: Facts) -> dict[str, Level]:
    return {check.name: check.level for check in judge(facts) if check.level is not Level.OK}


@pytest.mark.parametrize(
    ("name", "facts"), [("good", GOOD), ("machine", MACHINE), ("machine-broken", MACHINE_BROKEN), ("broken", BROKEN)]
)
def test_text(name: str, facts: Facts) -> None:
    assert render(judge(facts)) + "\n" == (GOLDEN / f"doctor-{name}.txt").read_text()


def test_verdicts() -> None:
    assert can_run(judge(GOOD))
    assert not can_run(judge(BROKEN))


def test_the_broken_machine_has_every_fault_there_is() -> None:
    """All but what is only told, and can be no fault."""
    assert {check.name for check in judge(BROKEN)} - set(levels(BROKEN)) == {"root", "kernel", "bridges"}


def test_an_engine_that_the_toolkit_would_start_is_enough() -> None:
    facts = replace(GOOD, engine=EngineFacts(None, problem="none answers", startable=True), root=True, ip_forward=False)
    assert levels(facts) == {}
    assert levels(replace(facts, cgroups=False)) == {"cgroups": Level.FAIL}


def test_build_tools_matter_only_while_an_image_is_missing() -> None:
    bare = replace(GOOD, go=None, gcc=False, apt=False)
    assert levels(bare) == dict.fromkeys(("go", "gcc", "apt"), Level.WARN)
    assert levels(replace(bare, images_to_build=("netbird",))) == dict.fromkeys(("go", "gcc", "apt"), Level.FAIL)
    pulled = replace(bare, images_to_build=("netbird",), may_pull=True)
    assert levels(pulled) == dict.fromkeys(("go", "gcc", "apt"), Level.WARN)
    assert "needed to build netbird unless they can be pulled" in render(judge(pulled))


def test_a_compiler_that_can_be_installed_is_no_problem() -> None:
    assert levels(replace(GOOD, gcc=False, may_install=True, images_to_build=("netbird",))) == {}


@pytest.mark.parametrize("version", ["go1.26.6", "go1.26.10", "go1.27rc1", "go2.0"])
def test_go_versions_compare_as_numbers(version: str) -> None:
    assert levels(replace(GOOD, go=version)) == {}
    assert levels(replace(GOOD, go="go1.26.5")) == {"go": Level.WARN}


def test_an_engine_elsewhere_has_its_own_kernel() -> None:
    elsewhere = replace(
        GOOD, engine=EngineFacts(replace(INFO, local=False), "DOCKER_HOST"), tun=False, ip_forward=False
    )
    assert levels(elsewhere) == {}


@pytest.mark.parametrize(
    ("odd", "lines", "todo"),
    [
        (replace(INFO, storage_driver="vfs"), ["the vfs driver copies"], "use overlay2"),
        (replace(INFO, rootless=True), [], ""),
        (
            replace(INFO, rootless=True, cgroup_version=1, counts_memory=False),
            ["nothing can be measured", "no container can be paused"],
            "",
        ),
        (replace(INFO, counts_memory=False), ["nothing can be measured"], ""),
        (
            replace(INFO, product="Podman"),
            ["where a Docker engine runs as well"],
            "iptables",
        ),
        (replace(INFO, product="Podman", local=False), [], ""),
    ],
)
def test_what_a_lab_cannot_do_on_an_odd_engine(odd: EngineInfo, lines: list[str], todo: str) -> None:
    check = judge(replace(GOOD, engine=EngineFacts(odd, "DOCKER_HOST"), bridge_filter=True))[1]
    assert check.level is (Level.WARN if lines else Level.OK)
    assert all(line in seen for line, seen in zip(lines, check.seen.splitlines()[2:], strict=True))
    assert check.todo.startswith(todo)
    assert bool(check.todo) is bool(todo)
    assert ("Podman" in check.seen.splitlines()[0]) is (odd.product == "Podman")


@pytest.mark.parametrize(
    ("clock", "seen"),
    [
        ("", ""),
        ("2027-03-01T12:30:59.123456789Z", ""),
        ("2027-03-01T13:32:00+01:00", "; the engine's is 0:02:00 ahead of it"),
        ("2026-03-01T12:30:00Z", "; the engine's is 365 days, 0:00:00 behind it"),
    ],
)
def test_two_clocks_that_disagree(clock: str, seen: str) -> None:
    facts = replace(GOOD, engine=EngineFacts(replace(INFO, clock=clock), "DOCKER_HOST"))
    (check,) = (check for check in judge(facts) if check.name == "clock")
    assert check.seen == f"2027-03-01 12:30 UTC{seen}"
    assert check.level is (Level.WARN if seen else Level.OK)


# -- reading the machine


def test_cgroups_are_recognised() -> None:
    v2 = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw"
    v1 = "36 32 0:31 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices"
    unified_only = "39 32 0:34 / /sys/fs/cgroup/unified rw - cgroup2 none rw"
    assert cgroups_mounted(v2)
    assert cgroups_mounted(f"{unified_only}\n{v1}")
    assert not cgroups_mounted(unified_only)
    assert not cgroups_mounted("")


def test_memory_is_what_is_available() -> None:
    assert memory_available_bytes("MemTotal: 9 kB\nMemAvailable:    2048 kB\n") == 2 << 20
    assert memory_available_bytes("") is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"root": False}, "not root"),
        ({"debian": False, "programs": set()}, "neither Debian nor Ubuntu"),
        ({"debian": False}, ""),
    ],
)
def test_whether_an_engine_could_be_started(change: dict[str, object], problem: str, tmp_path: Path) -> None:
    system = FakeSystem()
    for name, value in change.items():
        setattr(system, name, value)
    found, facts = find_engine({"MESH_LABS_ENGINE_DIR": str(tmp_path)}, tmp_path, system, tmp_path / "none.sock")
    assert found is None
    assert facts.startable is (not problem)
    assert problem in facts.problem
    assert bool(facts.todo) is bool(problem)
    assert (system.spawned, system.ran, list(tmp_path.iterdir())) == ([], [], [])


def test_never_and_a_dead_named_engine_are_obstacles(tmp_path: Path) -> None:
    environment = {"MESH_LABS_ENGINE_DIR": str(tmp_path), "MESH_LABS_ENGINE": "never"}
    assert (
        "MESH_LABS_ENGINE=never" in find_engine(environment, tmp_path, FakeSystem(), tmp_path / "none.sock")[1].problem
    )
    named = find_engine({"DOCKER_HOST": f"unix://{tmp_path}/dead"}, tmp_path, FakeSystem(), tmp_path / "none.sock")[1]
    assert not named.startable
    assert "DOCKER_HOST" in named.problem


@pytest.mark.parametrize(
    ("facts", "topology", "level", "seen"),
    [
        (GOOD, "", Level.OK, "there is room for all 2"),
        (GOOD, "large", Level.OK, "there is room for large (2.0 GiB of memory)"),
        (
            replace(GOOD, memory_available_bytes=GIB),
            "",
            Level.WARN,
            "large needs 2.0 GiB of memory, and 1.0 GiB is there",
        ),
        (replace(GOOD, memory_available_bytes=GIB), "small", Level.OK, "there is room for small (0.1 GiB of memory)"),
        (
            replace(GOOD, disks=(Disk("engine", Path("/d"), GIB),)),
            "large",
            Level.FAIL,
            "large needs 2.0 GiB of disk, and 1.0 GiB is free",
        ),
        (replace(GOOD, memory_available_bytes=None), "large", Level.OK, "there is room for large (2.0 GiB of memory)"),
        (
            replace(GOOD, engine=EngineFacts(replace(INFO, local=False, memory_bytes=GIB), "remote")),
            "large",
            Level.FAIL,
            "large needs 2.0 GiB of memory, and 1.0 GiB is there",
        ),
    ],
)
def test_room_for_topologies(facts: Facts, topology: str, level: Level, seen: str) -> None:
    (check,) = (check for check in judge(facts, topology) if check.name == "topologies")
    assert (check.level, check.seen) == (level, seen)
