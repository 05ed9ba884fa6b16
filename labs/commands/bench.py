"""Benchmarks of the toolkit itself."""

from __future__ import annotations

import json as json_module
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from labs.commands.common import Output, console, emit_json, open_engine, words
from labs.errors import CheckFailed, EnvironmentProblem, UsageError

_WORKERS = (2, 4, 8, 16)
_CALIBRATIONS = 2
_TOPOLOGIES = ("headscale", "netbird")


@dataclass(frozen=True, slots=True)
class UpBenchmark:
    """One topology: the floor's best worker count, and pairs of (floor, up) in seconds, in the order they were run."""

    topology: str
    peers: int
    cpus: int
    calibration_s: dict[int, tuple[float, ...]]
    workers: int
    pairs_s: tuple[tuple[float, float], ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        return tuple(up_s / floor_s for floor_s, up_s in self.pairs_s)

    @property
    def median_ratio(self) -> float:
        return statistics.median(self.ratios)


@task(
    help={
        "topologies": "Which topologies, comma-separated.",
        "pairs": "How many interleaved pairs (at least 7 for a verdict).",
        "peers": "How many peers join.",
        "limit": "Exit 1 when a median ratio is above this.",
        "json": "Print only JSON.",
    }
)
def up(
    _: Context,
    topologies: str = "headscale,netbird",
    pairs: int = 7,
    peers: int = 3,
    limit: str = "1.3",
    json: bool = False,
) -> None:
    """Time `inv up` against a floor: the same containers by raw SDK calls, with the best number of workers.

    Whole processes, from their start to the last peer's join; removal is not counted. Example:

        inv bench.up --topologies netbird --pairs 9
    """
    chosen = words(topologies, _TOPOLOGIES, "topology")
    if pairs < 1:
        raise UsageError("At least one pair is needed", hint="--pairs 7")
    floor = Path(__file__).parents[2] / "bench" / "floor.py"
    if not floor.is_file():
        raise EnvironmentProblem("The floor is part of a checkout only", where=str(floor))
    out = console(json)
    with TemporaryDirectory(prefix="mesh-labs-bench-") as folder:
        images = Path(folder) / "images.json"
        endpoint, cpus = _prepare(chosen, images)
        runs = _Runs(floor, images, endpoint, peers, out)
        results = [runs.measure(topology, pairs, cpus) for topology in chosen]
    if json:
        emit_json([_document(result) for result in results])
    else:
        for result in results:
            _show(result, out)
    slow = [result for result in results if result.median_ratio > float(limit)]
    if slow:
        names = ", ".join(f"{result.topology} {result.median_ratio:.2f}" for result in slow)
        raise CheckFailed(f"`inv up` takes more than {limit} times the floor", where=names)


def _prepare(topologies: Sequence[str], images: Path) -> tuple[str, int]:
    """Every image in the engine, and their references in a file; the engine's URL and its CPUs."""
    from labs.images import ensure  # noqa: PLC0415 - start-up time
    from labs.lab.plan import image_variables  # noqa: PLC0415
    from labs.model import Inventory, Peer  # noqa: PLC0415

    inventory = Inventory(peers=(Peer("peer-1", "alice"),))
    variables = {variable for topology in topologies for variable in image_variables(topology, inventory)}
    engine = open_engine()
    try:
        images.write_text(json_module.dumps(ensure(engine, sorted(variables), lambda _: None)))
        info = engine.info()
    finally:
        engine.close()
    return info.endpoint, info.cpus


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs the two processes that are compared."""

    floor: Path
    images: Path
    endpoint: str
    peers: int
    out: Output

    def measure(self, topology: str, pairs: int, cpus: int) -> UpBenchmark:
        self.floor_s(topology, _WORKERS[0])  # both have warm caches from here on
        calibration: dict[int, list[float]] = {workers: [] for workers in _WORKERS}
        for _ in range(_CALIBRATIONS):
            for workers in _WORKERS:
                calibration[workers].append(self.floor_s(topology, workers))
        best = min(calibration, key=lambda workers: statistics.median(calibration[workers]))
        self.out.line(f"{topology}: the floor is fastest with {best} workers: {calibration}")
        measured = [self._pair(topology, best, number) for number in range(pairs)]
        kept = {workers: tuple(values) for workers, values in calibration.items()}
        return UpBenchmark(topology, self.peers, cpus, kept, best, tuple(measured))

    def _pair(self, topology: str, workers: int, number: int) -> tuple[float, float]:
        """Which one goes first alternates, so that a drift of the machine favours neither."""
        if number % 2:
            up_s = self.up_s(topology)
            floor_s = self.floor_s(topology, workers)
        else:
            floor_s = self.floor_s(topology, workers)
            up_s = self.up_s(topology)
        self.out.line(f"{topology}: pair {number + 1}: floor {floor_s:.2f} s, up {up_s:.2f} s, {up_s / floor_s:.2f}")
        return floor_s, up_s

    def floor_s(self, topology: str, workers: int) -> float:
        """From the process's start until it says that the last peer has joined."""
        argv = [sys.executable, str(self.floor), topology, f"--peers={self.peers}", f"--workers={workers}"]
        begin_s = time.monotonic()
        with subprocess.Popen(
            [*argv, f"--images={self.images}"], stdout=subprocess.PIPE, text=True, env=self._environment()
        ) as process:
            said = process.stdout.readline() if process.stdout else ""
            took_s = time.monotonic() - begin_s
        if process.returncode or not said.startswith("joined"):
            raise EnvironmentProblem("The floor did not come up", where=" ".join(argv), why=said)
        return took_s

    def up_s(self, topology: str) -> float:
        """The whole process, to its exit."""
        name = f"bench-{topology[:9]}-{secrets.token_hex(2)}"
        begin_s = time.monotonic()
        self._inv("up", topology, "--name", name, "--peers", str(self.peers))
        took_s = time.monotonic() - begin_s
        self._inv("down", name)
        return took_s

    def _inv(self, *arguments: str) -> None:
        argv = [sys.executable, "-m", "labs.commands.cli", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=self._environment())
        if done.returncode:
            raise EnvironmentProblem("A lab did not come up or go down", where=" ".join(arguments), why=done.stderr)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": self.endpoint}


def _document(result: UpBenchmark) -> dict[str, object]:
    return {
        "topology": result.topology,
        "peers": result.peers,
        "cpus": result.cpus,
        "workers": result.workers,
        "calibration_s": {str(workers): values for workers, values in result.calibration_s.items()},
        "pairs_s": [{"floor": floor_s, "up": up_s} for floor_s, up_s in result.pairs_s],
        "ratios": result.ratios,
        "median_ratio": result.median_ratio,
    }


def _show(result: UpBenchmark, out: Output) -> None:
    floors = [floor_s for floor_s, _ in result.pairs_s]
    ups = [up_s for _, up_s in result.pairs_s]
    low, high = min(result.ratios), max(result.ratios)
    out.line(
        f"{result.topology}, {result.peers} peers, {result.cpus} CPUs: floor {statistics.median(floors):.2f} s "
        f"({result.workers} workers), up {statistics.median(ups):.2f} s; "
        f"median ratio {result.median_ratio:.2f} ({low:.2f} to {high:.2f}, {len(ups)} pairs)"
    )


namespace = Collection("bench", up)
