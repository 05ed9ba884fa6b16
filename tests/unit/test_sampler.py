"""Figures of one container: both cgroup versions, both backends, and unknown as unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from labs.engine import ContainerInfo, EngineInfo, State
from labs.engine.fake import FakeEngine
from labs.errors import EngineProblem, NotFound, UsageError
from labs.measure import CgroupSampler, EngineSampler, Reading, choose_sampler
from labs.measure.overhead import engine_use

V1_STAT = """cache 4096
rss 1
total_rss 1000
total_shmem 24
total_mapped_file 40
total_active_file 50
total_inactive_file 300
total_swap 0
"""
V2_STAT = """anon 1000
file 400
kernel 70
sock 3
slab 30
shmem 24
file_mapped 40
active_file 50
inactive_file 300
"""
NET_DEV = """Inter-|   Receive  | Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 900 1 0 0 0 0 0 0 900 1 0 0 0 0 0 0
  eth0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0
tailscale0: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0
"""
COMMON = {
    "usage_bytes": 2000,
    "anonymous_bytes": 1000,
    "shared_bytes": 24,
    "file_mapped_bytes": 40,
    "active_file_bytes": 50,
    "inactive_file_bytes": 300,
    "swap_bytes": 0,
    "cpu_ns": 5_000_000,
    "received_bytes": 110,
    "sent_bytes": 220,
    "pids": 7,
}


class OneContainer(FakeEngine):
    """A container with a pid, and statistics of the test's choice."""

    def __init__(self, pid: int, document: Mapping[str, object] | None = None) -> None:
        super().__init__()
        self.pid = pid
        self.document = document or {}

    def inspect(self, container_id: str) -> ContainerInfo:
        return ContainerInfo(container_id, "x", "x", {}, State.RUNNING, {}, pid=self.pid)

    def stats(self, container_id: str) -> Mapping[str, object]:
        return self.document


def host(root: Path, cgroup: str, files: Mapping[str, str]) -> None:
    """A host with one process, 42, and these files below its cgroup mount."""
    process = root / "proc" / "42"
    (process / "net").mkdir(parents=True)
    (process / "cgroup").write_text(cgroup)
    (process / "net" / "dev").write_text(NET_DEV)
    (process / "smaps_rollup").write_text("Rss:  40 kB\nPss:  25 kB\nPss_Anon:  1 kB\n")
    for name, text in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(text)


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    cgroup = "9:pids:/docker/abc\n8:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n"
    files = {
        "memory/docker/abc/memory.stat": V1_STAT,
        "memory/docker/abc/memory.usage_in_bytes": "2000\n",
        "memory/docker/abc/memory.kmem.usage_in_bytes": "60\n",
        "memory/docker/abc/cgroup.procs": "42\n",
        "cpu,cpuacct/docker/abc/cpuacct.usage": "5000000\n",
        "pids/docker/abc/pids.current": "7\n",
    }
    host(tmp_path, cgroup, files)
    return tmp_path


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    scope = "system.slice/docker-abc.scope"
    files = {
        f"{scope}/memory.stat": V2_STAT,
        f"{scope}/memory.current": "2000\n",
        f"{scope}/memory.swap.current": "0\n",
        f"{scope}/cpu.stat": "usage_usec 5000\nuser_usec 3000\n",
        f"{scope}/pids.current": "7\n",
        f"{scope}/cgroup.procs": "42\n",
    }
    host(tmp_path, f"0::/{scope}\n", files)
    return tmp_path


def cgroup_sampler(root: Path, pid: int = 42) -> CgroupSampler:
    return CgroupSampler(OneContainer(pid), root / "proc", root / "cgroup")


def test_version_1_files(version_1: Path) -> None:
    reading = cgroup_sampler(version_1).read("abc")
    assert reading == Reading(**COMMON, kernel_bytes=60)
    assert reading.working_set_bytes == 1700


def test_version_2_files(version_2: Path) -> None:
    assert cgroup_sampler(version_2).read("abc") == Reading(**COMMON, slab_bytes=30, socket_bytes=3, kernel_bytes=70)


@pytest.mark.parametrize("version", ["version_1", "version_2"])
def test_proportional_set_size(version: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(version)
    assert cgroup_sampler(root).pss_bytes("abc") == 25 << 10
    (root / "proc" / "42" / "smaps_rollup").unlink()
    assert cgroup_sampler(root).pss_bytes("abc") is None


@pytest.mark.parametrize("pid", [0, 43])
def test_a_container_that_is_gone_gives_no_figure(version_2: Path, pid: int) -> None:
    with pytest.raises(NotFound):
        cgroup_sampler(version_2, pid).read("abc")


def test_one_that_stops_is_noticed_and_looked_for_again(version_2: Path) -> None:
    sampler = cgroup_sampler(version_2)
    sampler.read("abc")
    current = version_2 / "cgroup/system.slice/docker-abc.scope/memory.current"
    current.unlink()
    with pytest.raises(NotFound, match="stopped while"):
        sampler.read("abc")
    current.write_text("3000\n")
    assert sampler.read("abc").usage_bytes == 3000


def test_one_that_was_restarted_is_read_at_once(version_2: Path) -> None:
    sampler = cgroup_sampler(version_2)
    sampler.read("abc")
    (version_2 / "proc" / "42").rename(version_2 / "proc" / "43")
    assert isinstance(sampler.engine, OneContainer)
    sampler.engine.pid = 43
    assert sampler.read("abc").usage_bytes == 2000


def test_the_engines_statistics_on_version_2() -> None:
    stats = {"anon": 1000, "shmem": 24, "inactive_file": 300}
    document = {
        "memory_stats": {"usage": 2000, "stats": stats},
        "cpu_stats": {"cpu_usage": {"total_usage": 9}},
        "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
        "pids_stats": {"current": 3},
    }
    expected = Reading(
        usage_bytes=2000,
        anonymous_bytes=1000,
        shared_bytes=24,
        inactive_file_bytes=300,
        cpu_ns=9,
        received_bytes=11,
        sent_bytes=22,
        pids=3,
    )
    assert EngineSampler(OneContainer(42, document)).read("abc") == expected


def test_what_the_engine_does_not_know_is_unknown() -> None:
    stats = {"total_rss": 1000, "total_inactive_file": 300}
    engine = OneContainer(42, {"memory_stats": {"usage": 2000, "stats": stats}})
    reading = EngineSampler(engine).read("abc")
    assert (reading.shared_bytes, reading.received_bytes, reading.cpu_ns) == (None, None, None)
    assert reading.working_set_bytes == 1700
    assert Reading().working_set_bytes is None
    assert EngineSampler(engine).pss_bytes("abc") is None


def test_statistics_without_memory() -> None:
    with pytest.raises(EngineProblem, match="no memory figures"):
        EngineSampler(OneContainer(42, {"memory_stats": {}})).read("abc")


def test_an_engine_that_counts_no_memory_is_not_measured() -> None:
    class Uncounted(FakeEngine):
        def info(self) -> EngineInfo:
            return replace(super().info(), counts_memory=False, rootless=True)

    with pytest.raises(EngineProblem, match="counts no memory by container") as refused:
        choose_sampler(Uncounted())
    assert "rootless" in refused.value.why


def test_the_kernels_files_of_another_machine_cannot_be_read() -> None:
    with pytest.raises(UsageError, match="those of another machine"):
        choose_sampler(FakeEngine(), "cgroup")


def test_an_engine_elsewhere_is_asked_for_its_statistics() -> None:
    assert choose_sampler(FakeEngine()).backend == "engine statistics"


def test_the_engines_own_use_is_read_by_name(tmp_path: Path) -> None:
    for pid, name in ((7, "dockerd"), (8, "containerd-shim"), (9, "bash")):
        process = tmp_path / str(pid)
        process.mkdir()
        (process / "comm").write_text(f"{name}\n")
        (process / "stat").write_text(f"{pid} ({name} x) S 1 2 3 4 5 6 7 8 9 10 100 50 0 0\n")
        (process / "status").write_text("Name: x\nRssAnon:\t    10 kB\n")
    use = engine_use(tmp_path)
    assert (use.processes, use.cpu_s, use.anonymous_bytes) == (2, 3.0, 20 << 10)
