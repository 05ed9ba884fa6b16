"""A pool of fresh labs of one stack, and some more with memory planted in them: what the comparison is tried on.

Takes about half a minute a lab, so it is made by hand and committed; needs root and an engine on this host:

    python -m tests.pool --labs 20 --planted 5 --out tests/data/pool.json
"""

from __future__ import annotations

import argparse
import mmap
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from labs import resources
from labs.commands.common import open_engine
from labs.engine import Engine
from labs.images import ensure
from labs.lab import Lab
from labs.lab.plan import image_variables
from labs.measure import choose_sampler
from labs.measure.campaign import Order, definition
from labs.measure.figures import environment
from labs.measure.protocol import Measurer, Unit, inventory
from labs.model import Role
from labs.results import Measurement, Phase, save, unit_key
from labs.scenario import read

PLANTED_BYTES = 20 << 20
TOPOLOGY = "headscale"
PEERS = 2


@dataclass
class Planter:
    """Memory in the first service's control group, held by a process of the test's own."""

    size_bytes: int = PLANTED_BYTES
    children: list[int] = field(default_factory=list)

    def plant(self, lab: Lab) -> None:
        service = lab.with_role(Role.SERVICE)[0]
        pid = lab.engine.inspect(service.machine.container_id).pid
        group = next(folder for folder in memory_groups(pid) if (folder / "cgroup.procs").exists())
        ready, told = os.pipe()
        child = os.fork()
        if not child:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            held = mmap.mmap(-1, self.size_bytes)
            for page in range(0, self.size_bytes, mmap.PAGESIZE):
                held[page] = 1
            os.write(told, b"1")
            signal.pause()
        os.read(ready, 1)
        os.close(ready)
        os.close(told)
        self.children.append(child)

    def uproot(self) -> None:
        while self.children:
            child = self.children.pop()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def memory_groups(pid: int) -> Iterator[Path]:
    """Where the memory of a process may be accounted for, version 1 and 2."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            yield Path("/sys/fs/cgroup/memory") / path.lstrip("/")
        if not controllers:
            yield Path("/sys/fs/cgroup") / path.lstrip("/")


@contextmanager
def planted(size_bytes: int = PLANTED_BYTES) -> Iterator[Planter]:
    planter = Planter(size_bytes)
    try:
        yield planter
    finally:
        planter.uproot()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labs", type=int, default=20)
    parser.add_argument("--planted", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("tests/data/pool.json"))
    asked = parser.parse_args()
    engine = open_engine()
    try:
        save(make(engine, asked.labs, asked.planted), asked.out, indent=None)
    finally:
        engine.close()


def make(engine: Engine, labs: int, planted_labs: int) -> Measurement:
    """Runs up to number `labs` are plain; those after it have memory planted."""
    scenario = read(resources.path("scenarios") / "subnet-routes.scenario.yaml")
    order = Order((TOPOLOGY,), (PEERS,), labs, (Phase.IDLE, Phase.JOINED), scenario, settle_s=3.0, window_s=5.0)
    sampler = choose_sampler(engine)
    images = ensure(engine, image_variables(TOPOLOGY, inventory(scenario, PEERS)), lambda _: None)
    measurer = Measurer(engine, definition(order, sampler), sampler, scenario, {TOPOLOGY: images}, print)
    runs = []
    for number in range(1, labs + planted_labs + 1):
        print(f"lab {number} of {labs + planted_labs}", file=sys.stderr, flush=True)
        with planted() as planter:
            measurer.prepare = planter.plant if number > labs else lambda _: None
            runs.append(measurer.run(Unit(TOPOLOGY, PEERS), number))
    return Measurement(
        id="pool",
        created=runs[0].began_at,
        definition=measurer.definition,
        environment=environment(engine, set(images.values())),
        deviations={},
        wanted={unit_key(TOPOLOGY, PEERS): labs + planted_labs},
        burdens=(),
        runs=tuple(runs),
    )


if __name__ == "__main__":
    main()
