"""The meter against memory of known size, and the two backends against each other, on real containers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from statistics import median

import pytest

from labs.commands.common import console
from labs.engine import Engine
from labs.engine.waiting import wait_inside
from labs.errors import NotFound
from labs.lab import labels
from labs.lab.removal import remove
from labs.measure import CgroupSampler, EngineSampler, Reading
from labs.measure.watch import Target, Watch
from labs.model import Container
from labs.results import Phase
from labs.timing import SystemClock, until

pytestmark = [pytest.mark.live, pytest.mark.smoke]

MIB = 1 << 20
TOUCHED_MIB = 64
Start = Callable[..., str]
# dd reads the whole block into its memory, and then waits for a reader that takes nothing.
HOLD = f"dd if=/dev/zero bs={TOUCHED_MIB}M count=1 2>/dev/null | sleep 3600"


@pytest.fixture
def start(engine: Engine, toolbox: str) -> Iterator[Start]:
    name = f"t-meter-{secrets.token_hex(3)}"
    marks = {labels.LAB: name, labels.RUN: secrets.token_hex(4), labels.ROLE: "helper", labels.NAME: "meter"}

    def started(script: str = "sleep 3600", number: int = 0) -> str:
        spec = Container("meter", toolbox, command=("sh", "-c", script), labels=marks, cap_drop=("ALL",))
        made = engine.create(spec, f"{name}-{number}", {}, {})
        engine.start(made)
        return made

    yield started
    remove(engine, {labels.LAB: name})


def settled(engine: Engine, container: str, least_mib: float) -> Reading:
    """The reading once the container has touched what it is going to."""
    sampler = CgroupSampler(engine)
    return until(
        SystemClock(),
        lambda: sampler.read(container),
        lambda reading: (reading.anonymous_bytes or 0) >= least_mib * MIB,
        what=f"{least_mib} MiB in use",
        timeout_s=10,
    )


def test_memory_of_a_known_size_is_read_within_2_percent(engine: Engine, start: Start) -> None:
    empty = settled(engine, start("sleep 3600 | sleep 3600", 1), 0).anonymous_bytes or 0
    full = settled(engine, start(HOLD, 2), TOUCHED_MIB).anonymous_bytes or 0
    assert abs(full - empty - TOUCHED_MIB * MIB) < 0.02 * TOUCHED_MIB * MIB


def test_a_big_file_moves_the_usage_and_not_the_anonymous_memory(engine: Engine, start: Start) -> None:
    container = start()
    sampler = CgroupSampler(engine)
    before = sampler.read(container)
    written = engine.exec(container, ["sh", "-c", "dd if=/dev/zero of=/big bs=1M count=100 && cat /big >/dev/null"])
    assert written.ok, written.stderr
    after = sampler.read(container)
    assert (after.usage_bytes or 0) - (before.usage_bytes or 0) > 90 * MIB
    assert abs((after.anonymous_bytes or 0) - (before.anonymous_bytes or 0)) < MIB / 2


def test_a_stopped_container_gives_no_sample(engine: Engine, start: Start) -> None:
    container = start()
    samplers = (CgroupSampler(engine), EngineSampler(engine))
    assert all(sampler.read(container).usage_bytes for sampler in samplers)
    engine.stop(container, grace_s=0)
    for sampler in samplers:
        with pytest.raises(NotFound):
            sampler.read(container)


def test_both_backends_agree(engine: Engine, start: Start) -> None:
    container = start(HOLD)
    settled(engine, container, TOUCHED_MIB)
    kernels, engines = CgroupSampler(engine).read(container), EngineSampler(engine).read(container)
    assert kernels.usage_bytes == pytest.approx(engines.usage_bytes, abs=MIB)
    assert kernels.anonymous_bytes == pytest.approx(engines.anonymous_bytes, abs=MIB)
    assert kernels.working_set_bytes == pytest.approx(engines.working_set_bytes, abs=MIB)
    assert (kernels.pids, kernels.cpu_ns) == (engines.pids, pytest.approx(engines.cpu_ns, rel=0.2))


def test_forty_containers_at_one_hertz_cost_little(engine: Engine, start: Start) -> None:
    """Less than 3% of one core, and a sweep within 150 ms. One that had to wait for a CPU says nothing: the median."""
    containers = [start(number=number) for number in range(40)]
    for container in containers:
        wait_inside(engine, container, "true", what="A container", where=container[:12], timeout_s=10)
    targets = tuple(Target(found, f"c{number}", "helper", "toolbox") for number, found in enumerate(containers))
    sampler = CgroupSampler(engine)
    for target in targets:
        sampler.read(target.container_id)  # where each one's files are is looked up once
    with Watch(Phase.IDLE, sampler, lambda: targets, 1.0, time.monotonic(), local=True) as watch:
        SystemClock().wait(10.2)
    window = watch.window()
    share = window.observer_cpu_s / 10.2
    usual_s, slowest_s = median(window.sweep_s), max(window.sweep_s)
    sweeps = f"sweep {usual_s * 1000:.0f} ms, slowest {slowest_s * 1000:.0f} ms"
    console().line(f"40 containers at 1 Hz: {share:.1%} of one core, {sweeps}")
    assert len(window.at_s) == 11
    assert share < 0.03
    assert usual_s < 0.150
    assert not any(None in series.columns["usage_bytes"] for series in window.containers)
