"""The private engine against a machine in memory: what it starts, recovers, ends and removes."""

from __future__ import annotations

import fcntl
import json
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from labs.engine.host import Answer, Outcome, Process
from labs.engine.install import install
from labs.engine.paths import MARK, EnginePaths, last_words, remedy
from labs.engine.private import PrivateEngine, PrivateState, private_engine
from labs.errors import EngineUnavailable, Leftovers, NotReady, UsageError
from tests.fake_system import FakeSystem

DENY = "#!/bin/sh\nexit 101\n"
ALLOW = "#!/bin/sh\nexit 0\n"


class Told(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def tmp_path(short_path: Path) -> Path:
    """Sockets lie in it."""
    return short_path


@pytest.fixture
def system() -> FakeSystem:
    return FakeSystem()


@pytest.fixture
def engine(tmp_path: Path, system: FakeSystem) -> PrivateEngine:
    return PrivateEngine(EnginePaths(tmp_path / "e/data", tmp_path / "e/run"), system)


def dockerd(engine: PrivateEngine, system: FakeSystem, parent: int = 1) -> Process:
    return system.add("dockerd", "--data-root", str(engine.paths.data), parent=parent)


def containerd(engine: PrivateEngine, system: FakeSystem) -> Process:
    return system.add("containerd", "--config", str(engine.paths.exec_root / "containerd/containerd.toml"))


def shim(engine: PrivateEngine, system: FakeSystem) -> Process:
    return system.add("containerd-shim-runc-v2", "-namespace", engine.paths.namespace, "-id", "x")


def left_files(engine: PrivateEngine) -> None:
    for file in (engine.paths.pid_file, engine.paths.socket, engine.paths.containerd_pid_file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("4711\n")
    (engine.paths.run / MARK).touch()


# -- starting


def test_it_starts_with_its_own_folders_and_no_bridge(engine: PrivateEngine, system: FakeSystem) -> None:
    told = Told()
    assert engine.status().state is PrivateState.STOPPED
    assert engine.start(told) == f"unix://{engine.paths.run}/docker.sock"
    (command,) = system.spawned
    options = dict(zip(command[1::2], command[2::2], strict=False))
    assert options["--data-root"] == str(engine.paths.data)
    assert options["--exec-root"] == str(engine.paths.exec_root)
    assert options["--pidfile"] == str(engine.paths.pid_file)
    assert options["--host"] == engine.paths.endpoint
    assert options["--group"] == "root"
    assert command[-1] == "--bridge=none"
    assert not [word for word in command if word.startswith("tcp:")]
    assert engine.status().state is PrivateState.RUNNING
    assert told == [f"starting the private engine in {engine.paths.run}"]


def test_its_folders_are_closed_to_others(engine: PrivateEngine) -> None:
    engine.start(Told())
    assert {folder.stat().st_mode & 0o777 for folder in (engine.paths.data, engine.paths.run)} == {0o700}


def test_a_second_start_does_nothing(engine: PrivateEngine, system: FakeSystem) -> None:
    engine.start(Told())
    engine.start(Told())
    assert len(system.spawned) == 1


def test_an_early_end_is_noticed_at_once_with_the_last_words(engine: PrivateEngine, system: FakeSystem) -> None:
    def die(_: Sequence[str], log: Path) -> None:
        log.write_text("level=info msg=up\nfailed to start daemon: Devices cgroup isn't mounted\n")

    system.on_spawn = die
    with pytest.raises(NotReady, match="ended while it started") as caught:
        engine.start(Told())
    assert "Devices cgroup isn't mounted" in caught.value.why
    assert "cgroupfs-mount" in caught.value.hint
    assert system.time < 1


def test_a_process_without_arguments_for_an_instant_is_not_gone(engine: PrivateEngine, system: FakeSystem) -> None:
    class ExecsLate(FakeSystem):
        def wait(self, seconds: float) -> None:
            super().wait(seconds)
            if self.spawned and not self.serving:
                self._serve(self.spawned[0], Path())

    late = ExecsLate()
    late.on_spawn = lambda *_: None
    PrivateEngine(engine.paths, late).start(Told())
    assert late.serving


def test_one_that_never_answers_is_ended(engine: PrivateEngine, system: FakeSystem) -> None:
    def hang(argv: Sequence[str], log: Path) -> None:
        log.write_text("loading containers\n")
        system.add(*argv)

    system.on_spawn = hang
    with pytest.raises(NotReady, match="within 60 s") as caught:
        engine.start(Told())
    assert "loading containers" in caught.value.why
    assert not system.table
    assert engine.status().state is PrivateState.STOPPED


def test_an_interrupted_start_leaves_nothing_running(engine: PrivateEngine, system: FakeSystem) -> None:
    def interrupted(argv: Sequence[str], _: Path) -> None:
        system.add(*argv)
        raise KeyboardInterrupt

    system.on_spawn = interrupted
    with pytest.raises(KeyboardInterrupt):
        engine.start(Told())
    assert not system.table


def test_never_refuses_to_start_but_uses_what_runs(tmp_path: Path, system: FakeSystem) -> None:
    engine = private_engine({"MESH_LABS_ENGINE": "never", "MESH_LABS_ENGINE_DIR": str(tmp_path)}, system)
    with pytest.raises(EngineUnavailable, match="No container engine may be started") as caught:
        engine.start(Told())
    assert caught.value.why == "MESH_LABS_ENGINE=never"
    assert not system.spawned
    assert not list(tmp_path.iterdir())
    dockerd(engine, system)
    system.serving = True
    assert engine.start(Told()) == engine.paths.endpoint


def test_another_word_for_never_is_refused() -> None:
    with pytest.raises(UsageError, match="MESH_LABS_ENGINE=nope means nothing"):
        private_engine({"MESH_LABS_ENGINE": "nope"}, FakeSystem())


def test_it_needs_root(engine: PrivateEngine, system: FakeSystem) -> None:
    system.root = False
    for call in (engine.status, engine.stop, lambda: engine.start(Told())):
        with pytest.raises(EngineUnavailable, match="needs root"):
            call()


def test_a_folder_with_something_else_in_it_is_left_alone(engine: PrivateEngine, system: FakeSystem) -> None:
    engine.paths.data.mkdir(parents=True)
    (engine.paths.data / "thesis.txt").touch()
    with pytest.raises(UsageError, match="holds something else"):
        engine.start(Told())
    assert not system.spawned


def test_a_path_too_long_for_sockets_is_refused_before_anything_starts(tmp_path: Path, system: FakeSystem) -> None:
    paths = EnginePaths(tmp_path / "data", tmp_path / ("r" * 90))
    with pytest.raises(UsageError, match="bytes too long for the engine's sockets"):
        PrivateEngine(paths, system).start(Told())
    assert not system.spawned


def test_paths_follow_the_environment(tmp_path: Path) -> None:
    assert EnginePaths.of({}) == EnginePaths(Path("/var/lib/mesh-labs/engine"), Path("/run/mesh-labs").resolve())
    assert EnginePaths.of({"MESH_LABS_ENGINE_DIR": str(tmp_path)}) == EnginePaths(tmp_path / "data", tmp_path / "run")


# -- recovering


def test_a_stale_pid_file_and_dead_socket_are_cleared(engine: PrivateEngine, system: FakeSystem) -> None:
    left_files(engine)
    told = Told()
    assert engine.status().state is PrivateState.STALE
    system.on_spawn = lambda argv, log: (
        system._serve(argv, log) if not engine.paths.pid_file.exists() and not engine.paths.socket.exists() else None
    )
    engine.start(told)
    assert told[0] == "clearing up after a private engine that was cut off"
    assert not engine.paths.containerd_pid_file.exists()


def test_a_pid_file_that_names_another_program_harms_nobody(engine: PrivateEngine, system: FakeSystem) -> None:
    left_files(engine)
    stranger = system.add("dockerd", "--data-root", "/var/lib/docker")
    engine.paths.pid_file.write_text(str(stranger.pid))
    engine.start(Told())
    assert system.sent == []
    assert stranger in system.processes()


def test_orphaned_containerd_shims_and_their_containers_are_ended(engine: PrivateEngine, system: FakeSystem) -> None:
    orphan, keeper = containerd(engine, system), shim(engine, system)
    workload = system.add("sleep", "inf", parent=keeper.pid)
    below = system.add("sh", parent=workload.pid)
    elsewhere = system.add("containerd", "--config", "/run/docker/containerd/containerd.toml")
    assert engine.status().state is PrivateState.STALE
    engine.start(Told())
    assert {pid for pid, _ in system.sent} == {orphan.pid, keeper.pid, workload.pid, below.pid}
    assert elsewhere in system.processes()


def test_a_daemon_that_is_only_slow_is_kept(engine: PrivateEngine, system: FakeSystem) -> None:
    class Slow(FakeSystem):
        def wait(self, seconds: float) -> None:
            super().wait(seconds)
            self.serving = self.time > 3

    slow = Slow()
    dockerd(engine, slow)
    engine.start(Told())
    assert (slow.spawned, slow.sent) == ([], [])


def test_a_daemon_that_hangs_is_ended_and_replaced(engine: PrivateEngine, system: FakeSystem) -> None:
    hung = dockerd(engine, system)
    system.on_signal = lambda process, number: system.gone(process) if number is signal.SIGKILL else None
    engine.start(Told())
    assert system.sent == [(hung.pid, signal.SIGTERM), (hung.pid, signal.SIGKILL)]
    assert len(system.spawned) == 1


def test_a_start_waits_for_one_that_is_under_way_and_uses_its_engine(engine: PrivateEngine, system: FakeSystem) -> None:
    engine.paths.own()
    with (engine.paths.run / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second = threading.Thread(target=engine.start, args=(Told(),))
        second.start()
        system._serve(("dockerd", "--data-root", str(engine.paths.data)), Path())
    second.join(timeout=10)
    assert not second.is_alive()
    assert system.spawned == []


# -- stopping


def running(labs: Sequence[str] = ()) -> Answer:
    return Answer(200, "1.41", json.dumps([{"Id": n, "Labels": {"org.mesh-labs.lab": n}} for n in labs]).encode())


def test_stop_ends_exactly_its_own_processes(engine: PrivateEngine, system: FakeSystem) -> None:
    engine.start(Told())
    other = system.add("dockerd", "--data-root", "/elsewhere")
    engine.stop()
    assert system.processes() == [other]
    assert [number for _, number in system.sent] == [signal.SIGTERM]
    assert engine.paths.data.exists()
    assert engine.status().state is PrivateState.STOPPED


def test_stop_without_an_engine_does_nothing(engine: PrivateEngine, tmp_path: Path) -> None:
    engine.stop()
    engine.stop(purge=True)
    assert not list(tmp_path.iterdir())


def test_stop_refuses_while_labs_run(engine: PrivateEngine, system: FakeSystem) -> None:
    engine.start(Told())
    system.answers["GET /v1.41/containers/json"] = running(["netbird", "headscale", "netbird"])
    with pytest.raises(UsageError, match="still runs headscale, netbird") as caught:
        engine.stop()
    assert "--force" in caught.value.hint
    assert system.serving
    engine.stop(force=True)
    assert not system.serving


def test_a_daemon_that_does_not_end_is_named(engine: PrivateEngine, system: FakeSystem) -> None:
    engine.start(Told())
    system.on_signal = lambda *_: None
    with pytest.raises(Leftovers, match="do not end") as caught:
        engine.stop()
    assert f"pid {system.processes()[0].pid}" in caught.value.where


def test_purge_removes_containers_networks_mounts_and_folders(engine: PrivateEngine, system: FakeSystem) -> None:
    engine.start(Told())
    system.answers["GET /v1.41/containers/json"] = running(["c1"])
    system.answers["GET /v1.41/networks"] = Answer(200, "1.41", b'[{"Id": "n1"}]')
    outer, inner = engine.paths.data, engine.paths.data / "overlay2/x/merged"
    system.mounted = [Path("/"), outer, inner, engine.paths.run.with_name("run-of-another")]
    engine.stop(purge=True)
    assert [word for word in system.asked if word.startswith("DELETE")] == [
        "DELETE /v1.41/containers/c1",
        "DELETE /v1.41/networks/n1",
    ]
    assert system.mounted == [Path("/"), engine.paths.run.with_name("run-of-another")]
    assert not engine.paths.data.exists()
    assert not engine.paths.run.exists()


def test_purge_says_what_is_left_and_deletes_nothing_below_a_mount(engine: PrivateEngine, system: FakeSystem) -> None:
    engine.start(Told())
    stuck = engine.paths.data / "overlay2/x/merged"
    system.mounted, system.busy_mounts = [stuck], {stuck}
    with pytest.raises(Leftovers) as caught:
        engine.stop(purge=True)
    assert f"mounted {stuck}" in caught.value.where
    assert engine.paths.data.exists()


def test_purge_leaves_a_folder_that_is_not_marked(engine: PrivateEngine, system: FakeSystem) -> None:
    engine.start(Told())
    (engine.paths.data / MARK).unlink()
    with pytest.raises(UsageError, match="was not made by mesh-labs"):
        engine.stop(purge=True)
    assert engine.paths.data.exists()


# -- dockerd's words


def test_remedies_are_for_failures_only() -> None:
    assert remedy('level=info msg="cgroup v1"\nlevel=warning msg="iptables is legacy"') == ""
    assert "free some disk" in remedy("failed to start daemon: write: no space left on device")


def test_last_words_without_a_log(tmp_path: Path) -> None:
    assert last_words(tmp_path / "none") == "dockerd wrote no log"


# -- installing


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return tmp_path / "policy-rc.d"


def write_policy(policy: Path, text: str) -> None:
    policy.write_text(text)
    policy.chmod(0o755)


def policy_answers(system: FakeSystem, policy: Path, seen: list[str]) -> None:
    """apt-get sees the policy that is in place; running the policy gives the code that its text says."""

    def look(argv: Sequence[str]) -> None:
        if argv[0] == "apt-get":
            seen.append(policy.read_text() if policy.exists() else "")
        elif argv[0] == str(policy):
            system.outcomes.insert(0, Outcome(int(policy.read_text().split()[-1]), ""))

    system.on_run = look


@pytest.mark.parametrize("before", [None, ALLOW, DENY])
def test_services_are_denied_for_the_call_and_the_policy_is_restored(
    before: str | None, system: FakeSystem, policy: Path
) -> None:
    system.programs.clear()
    if before:
        write_policy(policy, before)
    seen: list[str] = []
    policy_answers(system, policy, seen)
    install(system, Told(), policy)
    assert seen
    assert all(text.endswith("exit 101\n") for text in seen)
    assert (policy.read_text() if policy.exists() else None) == before
    assert [file.name for file in policy.parent.iterdir()] == ([policy.name] if before else [])


@pytest.mark.parametrize("before", [None, ALLOW])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_the_policy_is_restored_when_the_install_is_cut_off(
    error: type[BaseException], before: str | None, system: FakeSystem, policy: Path
) -> None:
    system.programs.clear()
    if before:
        write_policy(policy, before)

    def cut_off(argv: Sequence[str]) -> None:
        if argv[0] == "apt-get":
            raise error

    system.on_run = cut_off
    with pytest.raises(error):
        install(system, Told(), policy)
    assert (policy.read_text() if policy.exists() else None) == before


def test_what_a_killed_install_left_is_put_right(system: FakeSystem, policy: Path) -> None:
    system.programs.clear()
    killed = FakeSystem()
    killed.programs.clear()
    texts: list[str] = []
    killed.on_run = lambda _: texts.append(policy.read_text())
    install(killed, Told(), policy)
    write_policy(policy, texts[-1])
    write_policy(policy.with_name("policy-rc.d.before-mesh-labs"), ALLOW)
    install(system, Told(), policy)
    assert policy.read_text() == ALLOW
    assert [file.name for file in policy.parent.iterdir()] == [policy.name]


def test_the_package_lists_are_fetched_only_when_needed(system: FakeSystem, policy: Path) -> None:
    system.programs = {"iptables"}
    system.outcomes = [Outcome(100, "E: Unable to locate package"), Outcome(0, ""), Outcome(0, "")]
    told = Told()
    install(system, told, policy)
    assert [argv[1] for argv in system.ran] == ["install", "update", "install"]
    assert "--no-install-recommends" in system.ran[0]
    assert system.ran[0][-1] == "docker.io"
    assert told == ["installing docker.io; their services are not started"]


def test_a_failed_install_shows_apts_last_lines(system: FakeSystem, policy: Path) -> None:
    system.programs.clear()
    system.outcomes = [Outcome(100, "E: no network")] * 3
    with pytest.raises(EngineUnavailable, match=r"docker\.io and iptables could not be installed") as caught:
        install(system, Told(), policy)
    assert caught.value.why == "E: no network"
    assert not policy.exists()


def test_elsewhere_than_debian_it_says_what_to_do(system: FakeSystem, policy: Path) -> None:
    system.programs, system.debian = set(), False
    with pytest.raises(EngineUnavailable, match="Debian and Ubuntu only"):
        install(system, Told(), policy)
    assert system.ran == []


def test_a_dockerd_of_any_distribution_is_used(engine: PrivateEngine, system: FakeSystem) -> None:
    system.programs, system.debian = {"dockerd"}, False
    engine.start(Told())
    assert system.ran == []
    assert len(system.spawned) == 1
