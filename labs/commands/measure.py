"""Measuring, and what follows from it. Only `measure` measures; the others read results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from labs.commands.common import console, emit_json, open_engine, words
from labs.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from labs.results import Measurement
    from labs.scenario import Scenario

RESULTS = Path("results")
_MOST_RUNS = 10
_MOST_PEERS = 100


@task(
    positional=["topologies"],
    help={
        "topologies": "Which topologies, comma-separated.",
        "runs": "How many valid fresh labs of each, at each number of peers.",
        "peers": "How many peers join; several numbers, comma-separated, show growth.",
        "phases": "Which phases, comma-separated: boot, idle, joined, after-scenarios, load.",
        "scenario": "Which scenario runs before after-scenarios.",
        "settle": "Seconds between a change and its window.",
        "window": "Seconds that are sampled.",
        "interval": "Seconds from sweep to sweep.",
        "backend": "cgroup reads the kernel's files, engine the engine's statistics (default: by where the engine is).",
        "out": "The file (default: results/TIME-ID.json). One that is not finished is gone on with.",
        "json": "Print only JSON.",
    },
)
def measure(
    _: Context,
    topologies: str,
    runs: int = 5,
    peers: str = "3",
    phases: str = "boot,idle,joined,after-scenarios,load",
    scenario: str = "subnet-routes",
    settle: float = 5.0,
    window: float = 10.0,
    interval: float = 0.5,
    backend: str = "",
    out: str = "",
    json: bool = False,
) -> None:
    """Measure topologies on fresh labs, interleaved and never two at once.

    The result is stored after every run, and the same command goes on where it was stopped. Example:

        inv measure headscale,netbird --runs 5
    """
    from labs.commands.bringup import Progress  # noqa: PLC0415 - start-up time
    from labs.lab.plan import topologies as known  # noqa: PLC0415
    from labs.measure.campaign import Order  # noqa: PLC0415
    from labs.measure.campaign import measure as carry_out  # noqa: PLC0415
    from labs.results import Phase  # noqa: PLC0415

    if not 1 <= runs <= _MOST_RUNS:
        raise UsageError(f"{runs} runs cannot be made", hint=f"--runs takes 1 to {_MOST_RUNS}")
    output = console(json)
    asked = Order(
        topologies=words(topologies, known(), "topology"),
        peers=_counts(peers),
        runs=runs,
        phases=tuple(Phase(word) for word in words(phases, list(Phase), "phase")),
        scenario=_scenario(scenario),
        settle_s=settle,
        window_s=window,
        interval_s=interval,
        backend=words(backend, ("cgroup", "engine"), "backend")[0] if backend else None,
    )
    engine = open_engine()
    try:
        measured, path = carry_out(
            engine, asked, RESULTS, Path(out) if out else None, output.line, Progress(output).image
        )
    finally:
        engine.close()
    if json:
        emit_json(measured)
    else:
        _summary(measured, path)
    if not measured.complete:
        raise CheckFailed("Not every run counts", where=str(path), hint="the same command makes the missing ones")


def _counts(peers: str) -> tuple[int, ...]:
    counts = tuple(dict.fromkeys(int(word) for word in peers.split(",") if word.strip().isdigit()))
    if not counts or not all(2 <= count <= _MOST_PEERS for count in counts):
        raise UsageError(f"'{peers}' peers cannot join", hint=f"--peers takes numbers from 2 to {_MOST_PEERS}")
    return counts


def _scenario(name: str) -> Scenario:
    from labs.commands.check import scenario_files  # noqa: PLC0415 - start-up time
    from labs.scenario import read  # noqa: PLC0415

    (file,) = scenario_files(name)
    return read(file)


def _summary(measured: Measurement, path: Path) -> None:
    from labs.report.terminal import measurement  # noqa: PLC0415 - start-up time

    output = console()
    output.line(measurement(measured))
    output.line(f"Stored as {path}")


namespace = Collection("measure", measure)
