"""The whole set of scenarios on both products, one lab at a time against several side by side.

Each part runs every scenario once, on fresh labs, with images and caches warm (one unmeasured scenario first). Stored
are the walls, how busy the machine was (Linux, /proc/stat: every state but idle and iowait, over all CPUs), where the
labs' time went, and the raw results. Takes three quarters of an hour; run it while nothing else runs:

    .venv/bin/python bench/jobs.py [--jobs 2] [--out docs/results/jobs.json]

Exits 1 when a scenario fails, or when several side by side take more than the limit and the CPUs were not saturated.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from labs.commands import campaign
from labs.commands.check import scenario_files
from labs.errors import LabsError
from labs.results import RepeatResult

PRODUCTS = ("headscale", "netbird")
LIMIT = 0.6
SATURATED = 0.9


@dataclass(frozen=True)
class Part:
    """One run of the whole set. `spent_s` is summed over labs, so with several side by side it exceeds the wall."""

    jobs: int
    wall_s: float
    busy: float
    pairs: int
    spent_s: dict[str, float]


def cpu_ticks() -> tuple[int, int]:
    """Busy and all clock ticks since boot, over all CPUs (proc(5))."""
    user, nice, system, idle, iowait, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + iowait


def run(jobs: int, folder: Path, names: str) -> tuple[Part, RepeatResult]:
    before = cpu_ticks()
    result = campaign.repeat(PRODUCTS, scenario_files(names), 1, jobs, folder / f"jobs-{jobs}.json")
    busy, total = (after - earlier for after, earlier in zip(cpu_ticks(), before, strict=True))
    phases = [phases.model_dump() for one in result.scenarios for phases in one.phases]
    spent = {name: round(sum(each[name] for each in phases), 1) for name in phases[0]}
    return Part(jobs, result.wall_s, round(busy / total, 3), len(result.scenarios), spent), result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scenarios", default="", help="comma-separated (default: all)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/jobs.json"))
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            campaign.repeat(PRODUCTS, scenario_files("subnet-routes"), 1, 1, Path(folder) / "warm.json")
            parts = [run(jobs, Path(folder), asked.scenarios) for jobs in (1, asked.jobs)]
    except LabsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    (alone, _), (beside, last) = parts
    ratio = round(beside.wall_s / alone.wall_s, 3)
    document = {
        "created": last.created,
        "ratio": ratio,
        "limit": LIMIT,
        "parts": [asdict(part) for part, _ in parts],
        "environment": last.environment.model_dump(mode="json"),
        "raw": [result.model_dump(mode="json", exclude={"environment"}) for _, result in parts],
    }
    asked.out.write_text(json.dumps(document, indent=1) + "\n")
    for part, _ in parts:
        print(f"jobs {part.jobs}: {part.wall_s:.0f} s, CPUs {part.busy:.0%} busy, {part.spent_s}")
    print(f"ratio {ratio:.2f}")
    return int(ratio > LIMIT and beside.busy < SATURATED)


if __name__ == "__main__":
    sys.exit(main())
