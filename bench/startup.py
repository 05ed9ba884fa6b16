"""How long a command takes to start, next to programs that do the same work without this toolkit.

Whole processes, from fork to exit, in interleaved pairs whose order alternates; one unmeasured pair
first. The figure is the median of the pairs' ratios, so that a load which comes and goes hits both.

    list-commands    ./inv --list      against  stock Invoke's --list of a tasks file with one empty task
    list-containers  ./inv list        against  a script that imports invoke and docker and lists containers

Run it with the environment's Python: .venv/bin/python bench/startup.py [--pairs 15] [--json]
Exits 1 when a ratio is above its limit, 3 when a program does not run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

INV = Path(__file__).resolve().parents[1] / "inv"
TASKS = "from invoke import task\n\n\n@task\ndef nothing(c):\n    pass\n"
LISTING = (
    "import invoke, docker\nfor c in docker.from_env().containers.list(all=True):\n    print(c.short_id, c.name)\n"
)
OUTPUT_BYTES = 2000  # of a program that failed, enough to see why


@dataclass(frozen=True)
class Comparison:
    """`ours` and `theirs` are what is run, in `folder`; `limit` is the ratio that must not be passed."""

    name: str
    ours: list[str]
    theirs: list[str]
    folder: str
    limit: float


@dataclass(frozen=True)
class Figure:
    name: str
    pairs: int
    ours_median_s: float
    theirs_median_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.ratio <= self.limit


def comparisons(folder: str) -> list[Comparison]:
    python = sys.executable
    stock = [python, "-c", "from invoke.main import program; program.run()", "--list"]
    return [
        Comparison("list-commands", [str(INV), "--list"], stock, folder, 1.5),
        Comparison("list-containers", [str(INV), "list"], [python, "-c", LISTING], folder, 1.3),
    ]


def run_s(argv: list[str], folder: str) -> float:
    """Seconds from start to exit. Ends the bench with 3 when the program fails."""
    began = time.monotonic()
    done = subprocess.run(
        argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    took_s = time.monotonic() - began
    if done.returncode:
        sys.stderr.write(f"{argv[0]} exited {done.returncode}:\n{done.stdout[-OUTPUT_BYTES:].decode()}\n")
        sys.exit(3)
    return took_s


def measure(comparison: Comparison, pairs: int) -> Figure:
    def pair(number: int) -> tuple[float, float]:
        if number % 2:
            theirs_s = run_s(comparison.theirs, comparison.folder)
            return run_s(comparison.ours, comparison.folder), theirs_s
        return run_s(comparison.ours, comparison.folder), run_s(comparison.theirs, comparison.folder)

    pair(0)
    taken = [pair(number) for number in range(pairs)]
    ratios = sorted(ours_s / theirs_s for ours_s, theirs_s in taken)
    return Figure(
        name=comparison.name,
        pairs=pairs,
        ours_median_s=statistics.median(ours_s for ours_s, _ in taken),
        theirs_median_s=statistics.median(theirs_s for _, theirs_s in taken),
        ratio=statistics.median(ratios),
        ratio_low=ratios[0],
        ratio_high=ratios[-1],
        limit=comparison.limit,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=15, help="measured pairs, at least 7")
    parser.add_argument("--only", choices=["list-commands", "list-containers"], help="measure one of the two")
    parser.add_argument("--json", action="store_true", help="print only JSON")
    options = parser.parse_args()
    if options.pairs < 7:
        parser.error("--pairs must be at least 7")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tasks.py").write_text(TASKS)
        chosen = [each for each in comparisons(folder) if options.only in (None, each.name)]
        figures = [measure(each, options.pairs) for each in chosen]
    if options.json:
        print(json.dumps([asdict(figure) | {"passed": figure.passed} for figure in figures], indent=2))
    else:
        for figure in figures:
            print(
                f"{figure.name}: {figure.ours_median_s * 1000:.0f} ms against {figure.theirs_median_s * 1000:.0f} ms, "
                f"ratio {figure.ratio:.2f} ({figure.ratio_low:.2f} to {figure.ratio_high:.2f}, {figure.pairs} pairs), "
                f"limit {figure.limit}: {'ok' if figure.passed else 'TOO SLOW'}"
            )
    sys.exit(0 if all(figure.passed for figure in figures) else 1)


if __name__ == "__main__":
    # Both sides run the way they do for most people: with their compiled modules kept.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()
