"""Scenarios on labs: check runs them as tests, demo shows both products side by side."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from labs.commands.common import IMAGES_HELP, console, emit_json, open_engine, use_images, words
from labs.errors import CheckFailed, EnvironmentProblem, Interrupted, UsageError

_DEMO = ("headscale", "netbird")
_DEMO_SCENARIO = "subnet-routes"
_PYTEST_EXITS = {1: CheckFailed, 2: Interrupted, 3: EnvironmentProblem, 4: UsageError, 5: UsageError}


@task(
    positional=["scenarios"],
    optional=["scenarios"],
    help={
        "scenarios": "Which scenarios, comma-separated, by name or file (default: all).",
        "labs": "On which topologies, comma-separated.",
        "junit": "Write JUnit XML to this file.",
        "keep_on_failure": "Keep the lab of a scenario that fails, and say how to get in.",
        "jobs": "How many scenarios run side by side.",
        "repeat": "How often each runs, each time on a fresh lab.",
        "artefacts": "Where logs, statuses and routes of a failed scenario are kept.",
        "results": "Store each scenario's result in this folder, as JSON.",
        "images": IMAGES_HELP,
        "dry": "Start nothing: print who takes part, the steps, and what the operator would do.",
    },
)
def check(
    _: Context,
    scenarios: str = "",
    labs: str = "headscale,netbird",
    junit: str = "",
    keep_on_failure: bool = False,
    jobs: int = 1,
    repeat: int = 1,
    artefacts: str = "results/artefacts",
    results: str = "",
    images: str = "",
    dry: bool = False,
) -> None:
    """Run scenarios, each on a fresh lab of each topology, as pytest tests.

    Exits 1 when one fails. Example:

        inv check subnet-routes --labs netbird
    """
    import pytest  # noqa: PLC0415 - start-up time

    from labs.lab.plan import topologies  # noqa: PLC0415

    files = scenario_files(scenarios)
    use_images(images)
    if dry:
        _print_plans(files, words(labs, topologies(), "topology"))
        return
    arguments = [f"--lab={name}" for name in words(labs, topologies(), "topology")]
    arguments += ["--keep-on-failure"] if keep_on_failure else []
    arguments += ["-n", str(jobs), "--dist=worksteal"] if jobs > 1 else []
    arguments += [f"--repeat={repeat}", f"--artefacts={Path(artefacts).resolve()}"]
    arguments += [f"--scenario-results={Path(results).resolve()}"] if results else []
    arguments += [f"--junitxml={junit}"] if junit else []
    # The plugin is this very package, which is imported by now; none of its assertions are pytest's to rewrite.
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    arguments += ["-p", "no:cacheprovider", "--rootdir", str(files[0].parent), "-c", "/dev/null", "-v"]
    code = pytest.main([*arguments, *map(str, files)])
    if code:
        raise _PYTEST_EXITS.get(int(code), CheckFailed)("Not every scenario passed", why=f"pytest ended with {code}")


@task(
    help={
        "json": "Print only JSON.",
        "out": "Where the result is stored (default: results/demo-TIME.json).",
        "images": IMAGES_HELP,
    }
)
def demo(_: Context, json: bool = False, out: str = "", images: str = "") -> None:
    """Start a Headscale lab and a NetBird lab, run the subnet-route scenario on both, compare, and clean up.

    Exits 1 when the scenario fails on one of them. Example:

        inv demo
    """
    from labs.commands.demo import run_demo  # noqa: PLC0415 - start-up time
    from labs.report.terminal import comparison, scenario_table  # noqa: PLC0415
    from labs.results import Outcome, save  # noqa: PLC0415

    use_images(images)
    output = console(json)
    engine = open_engine()
    try:
        result = run_demo(engine, _DEMO, scenario_files(_DEMO_SCENARIO)[0], output)
    finally:
        engine.close()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    stored = save(result, Path(out or f"results/demo-{stamp}.json"))
    if json:
        emit_json(result)
    else:
        output.line(scenario_table(result.scenarios))
        output.line(comparison(result))
        output.line(f"Stored as {stored}")
    failed = [f"{s.scenario} on {s.topology}" for s in result.scenarios if s.outcome is not Outcome.PASSED]
    if failed:
        raise CheckFailed("Not every scenario passed", where=", ".join(failed))


def scenario_files(scenarios: str) -> list[Path]:
    """Scenario files by name or path, comma-separated; all of them for an empty text. Raises UsageError."""
    from labs import resources  # noqa: PLC0415 - start-up time
    from labs.scenario import SUFFIX  # noqa: PLC0415

    folder = resources.path("scenarios")
    known = {file.name.removesuffix(SUFFIX): file for file in sorted(folder.glob(f"*{SUFFIX}"))}
    if not scenarios:
        return list(known.values())
    given = [word.strip() for word in scenarios.split(",") if word.strip()]
    named = [word for word in given if not Path(word).is_file()]
    if named:
        words(",".join(named), known, "scenario")
    return [Path(word).resolve() if word not in named else known[word] for word in given]


def _print_plans(files: Sequence[Path], topologies: Sequence[str]) -> None:
    from labs.lab.plan import product_of  # noqa: PLC0415 - start-up time
    from labs.scenario import read, topology_for  # noqa: PLC0415
    from labs.scenario.dry import plan_lines  # noqa: PLC0415

    out = console()
    for scenario in map(read, files):
        for asked in topologies:
            product = product_of(asked)
            for line in plan_lines(scenario, product, topology_for(scenario, asked, product)):
                out.line(line)


@task(name="scenarios", help={"json": "Print only JSON."})
def scenarios_(_: Context, json: bool = False) -> None:
    """List all scenarios, what each shows, and the products it applies to.

    Example:

        inv scenarios
    """
    from labs.model import Product  # noqa: PLC0415 - start-up time
    from labs.scenario import read  # noqa: PLC0415

    found = [read(file) for file in scenario_files("")]
    reasons = {s.name: {product: s.not_applicable(s.topology(product)) for product in Product} for s in found}
    if json:
        rows = [{"name": s.name, "title": s.spec.title, "not_applicable": reasons[s.name]} for s in found]
        emit_json(rows)
        return
    applies = {name: ", ".join(p for p, why in said.items() if not why) for name, said in reasons.items()}
    console().table(("SCENARIO", "PRODUCTS", "TITLE"), [(s.name, applies[s.name], s.spec.title) for s in found])


namespace = Collection("check", check, demo, scenarios_)
