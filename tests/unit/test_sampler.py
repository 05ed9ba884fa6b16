"""Memory figures: both cgroup versions, both backends, and unknown as unknown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from labs.engine import ContainerInfo, State
from labs.engine.fake import FakeEngine
from labs.errors import EngineProblem, NotFound
from labs.measure import CgroupSampler, EngineSampler, Memory, choose_sampler

V1_STAT = "cache 4096\nrss 1\ntotal_rss 1000\ntotal_shmem 24\ntotal_inactive_file 300\n"
V2_STAT = "anon 1000\nfile 400\nshmem 24\ninactive_file 300\n"
EXPECTED = Memory(usage_bytes=2000, anonymous_bytes=1000, shared_bytes=24, inactive_file_bytes=300)


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


def host(tmp_path: Path, cgroup: str, folder: str, stat: str, usage: str) -> Path:
    process = tmp_path / "proc" / "42"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(cgroup)
    files = tmp_path / folder
    files.mkdir(parents=True)
    (files / "memory.stat").write_text(stat)
    (files / usage).write_text("2000\n")
    return tmp_path


def test_version_1_files(tmp_path: Path) -> None:
    cgroup = "9:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n"
    host(tmp_path, cgroup, "v1/docker/abc", V1_STAT, "memory.usage_in_bytes")
    sampler = CgroupSampler(OneContainer(42), tmp_path / "proc", tmp_path / "v1", tmp_path / "v2")
    assert sampler.memory("abc") == EXPECTED
    assert sampler.memory("abc").working_set_bytes == 1700


def test_version_2_files(tmp_path: Path) -> None:
    host(tmp_path, "0::/system.slice/docker-abc.scope\n", "v2/system.slice/docker-abc.scope", V2_STAT, "memory.current")
    sampler = CgroupSampler(OneContainer(42), tmp_path / "proc", tmp_path / "v1", tmp_path / "v2")
    assert sampler.memory("abc") == EXPECTED


@pytest.mark.parametrize("pid", [0, 43])
def test_a_container_that_is_gone_gives_no_figure(tmp_path: Path, pid: int) -> None:
    host(tmp_path, "0::/x\n", "v2/x", V2_STAT, "memory.current")
    with pytest.raises(NotFound):
        CgroupSampler(OneContainer(pid), tmp_path / "proc", tmp_path / "v1", tmp_path / "v2").memory("abc")


def test_the_engines_statistics_on_version_2() -> None:
    stats = {"anon": 1000, "shmem": 24, "inactive_file": 300}
    engine = OneContainer(42, {"memory_stats": {"usage": 2000, "stats": stats}})
    assert EngineSampler(engine).memory("abc") == EXPECTED


def test_what_the_engine_does_not_know_is_unknown() -> None:
    stats = {"total_rss": 1000, "total_inactive_file": 300}
    engine = OneContainer(42, {"memory_stats": {"usage": 2000, "stats": stats}})
    memory = EngineSampler(engine).memory("abc")
    assert memory.shared_bytes is None
    assert memory.working_set_bytes == 1700
    assert Memory(None, None, None, None).working_set_bytes is None


def test_statistics_without_memory() -> None:
    with pytest.raises(EngineProblem, match="no memory figures"):
        EngineSampler(OneContainer(42, {"memory_stats": {}})).memory("abc")


def test_an_engine_elsewhere_is_asked_for_its_statistics() -> None:
    assert choose_sampler(FakeEngine()).backend == "engine statistics"
