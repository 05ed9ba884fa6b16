"""Long runs by hand: every scenario several times, every mutation once, and what they gave as one JSON document."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from labs.commands.test import Step, checkout, pytest_step, run_child
from labs.errors import CheckFailed, UsageError
from labs.results import (
    EnvironmentFacts,
    MutationResult,
    MutationsResult,
    Outcome,
    RepeatResult,
    ScenarioResult,
    load,
    repeated,
    save,
)


def repeat(labs: Sequence[str], files: Sequence[Path], runs: int, jobs: int, out: Path) -> RepeatResult:
    """Run scenarios `runs` times and store what each gave. Raises CheckFailed when one run did not pass."""
    root = checkout()
    with TemporaryDirectory() as folder:
        arguments = [word for name in labs for word in ("--lab", name)]
        arguments += ["--repeat", str(runs), "--scenario-results", folder, *map(str, files)]
        begin_s = time.monotonic()
        code = _run(pytest_step(f"pytest, {runs} runs of each scenario", *arguments, jobs=jobs), root)
        wall_s = round(time.monotonic() - begin_s, 1)
        results = [load(ScenarioResult, path) for path in sorted(Path(folder).glob("*.json"))]
    if not results:
        raise UsageError("No scenario ran", why=f"pytest ended with {code}")
    stored = RepeatResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=_environment(result.topology for result in results),
        runs=runs,
        jobs=jobs,
        wall_s=wall_s,
        scenarios=repeated(results),
    )
    save(stored, out)
    if code:
        raise CheckFailed("Not every run passed", where=str(out), why=f"pytest ended with {code}")
    return stored


def mutations(jobs: int, out: Path, selected: str = "") -> MutationsResult:
    """Run every mutation, or those that pytest's -k selects. Raises CheckFailed when one went unnoticed."""
    root = checkout()
    with TemporaryDirectory() as folder:
        arguments = ["-m", "mutation", "--scenario-results", folder, "tests/live/test_mutations.py"]
        arguments += ["-k", selected] if selected else []
        code = _run(pytest_step("pytest, mutations", *arguments, jobs=jobs), root)
        results = [load(MutationResult, path) for path in sorted(Path(folder).glob("*.json"))]
    if not results:
        raise UsageError("No mutation ran", why=f"pytest ended with {code}")
    environment = _environment(result.topology for result in results)
    stored = MutationsResult(environment=environment, mutations=tuple(results))
    save(stored, out)
    if code:
        raise CheckFailed("Not every mutation was noticed where it should be", where=str(out))
    return stored


def _run(step: Step, root: Path) -> int:
    print(f"==> {step.title}", file=sys.stderr, flush=True)
    return run_child(step.argv, root)


def _environment(topologies: Iterable[str]) -> EnvironmentFacts:
    """This machine, and the images that these topologies ran: services, clients and helpers."""
    from labs.commands.common import open_engine  # noqa: PLC0415 - start-up time
    from labs.images import ensure  # noqa: PLC0415
    from labs.lab.plan import image_variables  # noqa: PLC0415
    from labs.measure import environment  # noqa: PLC0415
    from labs.model import Inventory, Peer  # noqa: PLC0415

    who = Inventory(peers=(Peer("any", "any", ports=(80,)),))
    engine = open_engine(start=False)
    try:
        variables = {variable for topology in set(topologies) for variable in image_variables(topology, who)}
        references = ensure(engine, sorted(variables), lambda _: None)
        return environment(engine, set(references.values()))
    finally:
        engine.close()


def summary(result: RepeatResult) -> Iterable[tuple[str, str, str, str]]:
    """SCENARIO, TOPOLOGY, passed of runs, and the median time."""
    from statistics import median  # noqa: PLC0415 - start-up time

    for one in result.scenarios:
        passed = one.outcomes.count(Outcome.PASSED)
        yield one.scenario, one.topology, f"{passed} of {len(one.outcomes)}", f"{median(one.took_s):.1f} s"
