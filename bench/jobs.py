"""The whole set of scenarios on both products, one lab at a time against several side by side.

Each part runs every scenario once, on fresh labs, with images and caches warm (one unmeasured scenario first). Stored
are the walls, how busy the machine was (Linux, /proc/stat: every state but idle and iowait, over all CPUs), where the
labs' time went, and the raw results. Takes three quarters of an hour; run it while nothing else runs:

    .venv/bin/python bench/jobs.py [--jobs 1,2] [--out docs/results/jobs.json]

Each part is stored when it is done. Exits 1 when a scenario failed, or when several side by side take more than the
limit of the first part's time and the CPUs were not saturated.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from labs.commands import campaign
from labs.commands.check import scenario_files
from labs.errors import CheckFailed, LabsError
from labs.results import Outcome, RepeatResult, load

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
    failed: list[str]
    spent_s: dict[str, float]


def cpu_ticks() -> tuple[int, int]:
    """Busy and all clock ticks since boot, over all CPUs (proc(5))."""
    user, nice, system, idle, iowait, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + iowait


def run(jobs: int, folder: Path, names: str) -> tuple[Part, RepeatResult]:
    file = folder / f"jobs-{jobs}.json"
    before = cpu_ticks()
    # A scenario that fails is in the result, and takes its time like any other.
    with suppress(CheckFailed):
        campaign.repeat(PRODUCTS, scenario_files(names), 1, jobs, file)
    busy, total = (after - earlier for after, earlier in zip(cpu_ticks(), before, strict=True))
    result = load(RepeatResult, file)
    phases = [phases.model_dump() for one in result.scenarios for phases in one.phases]
    spent = {name: round(sum(each[name] for each in phases), 1) for name in phases[0]}
    failed = [f"{one.scenario} on {one.topology}" for one in result.scenarios if set(one.outcomes) != {Outcome.PASSED}]
    return Part(jobs, result.wall_s, round(busy / total, 3), len(result.scenarios), failed, spent), result


def store(parts: Sequence[tuple[Part, RepeatResult]], out: Path) -> float | None:
    """Write what there is so far; the last part's time as a share of the first one's, once there are two."""
    (first, _), (last, result) = parts[0], parts[-1]
    ratio = round(last.wall_s / first.wall_s, 3) if len(parts) > 1 else None
    document = {
        "created": result.created,
        "ratio": ratio,
        "limit": LIMIT,
        "parts": [asdict(part) for part, _ in parts],
        "environment": result.environment.model_dump(mode="json"),
        "raw": [result.model_dump(mode="json", exclude={"environment"}) for _, result in parts],
    }
    out.write_text(json.dumps(document, indent=1) + "\n")
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default="1,2", help="comma-separated")
    parser.add_argument("--scenarios", default="", help="comma-separated (default: all)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/jobs.json"))
    asked = parser.parse_args()
    parts: list[tuple[Part, RepeatResult]] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            campaign.repeat(PRODUCTS, scenario_files("subnet-routes"), 1, 1, Path(folder) / "warm.json")
            for jobs in map(int, asked.jobs.split(",")):
                parts.append(run(jobs, Path(folder), asked.scenarios))
                ratio = store(parts, asked.out)
    except LabsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for part, _ in parts:
        print(
            f"jobs {part.jobs}: {part.wall_s:.0f} s, CPUs {part.busy:.0%} busy, {part.spent_s}, failed: {part.failed}"
        )
    if ratio is not None:
        print(f"ratio {ratio:.2f}")
    too_slow = ratio is not None and ratio > LIMIT and parts[-1][0].busy < SATURATED
    return int(too_slow or any(part.failed for part, _ in parts))


if __name__ == "__main__":
    sys.exit(main())
