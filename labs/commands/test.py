"""`inv test`: what every change must pass, from lint to a live smoke test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

import labs
from labs.commands.signals import held_back
from labs.errors import CheckFailed, EnvironmentProblem, ImageProblem, Interrupted, LabsError, UsageError

_ROOT = Path(labs.__file__).parent.parent
_TOOLS = ("ruff", "mypy", "importlinter", "pytest")
_PRODUCTS = ("headscale", "netbird")
_ON_BOTH = tuple(word for product in _PRODUCTS for word in ("--lab", product))
_SMOKE_SCENARIO = "scenarios/subnet-routes.scenario.yaml"
# What shows in seconds that a topology of each kind works: names through its control plane, or a person's sign-in.
_OTHER_SCENARIOS = {
    "scenarios/dns-names.scenario.yaml": (
        "headscale-proxy",
        "netbird-combined",
        "netbird-quickstart",
        "netbird-split-quickstart",
    ),
    "scenarios/sign-in.scenario.yaml": ("headscale-oidc", "netbird-oidc", "netbird-external-idp"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One child process: a title, its arguments, and what each exit code but 0 means (None: a failed check)."""

    title: str
    argv: tuple[str, ...]
    meanings: Mapping[int, type[LabsError]] | None = None

    def error(self, code: int) -> LabsError:
        """What `code` means, as the error that ends the command."""
        kind = (self.meanings or {}).get(code, CheckFailed)
        return kind(f"{self.title} failed", why=f"exit {code}", hint=f"cd {_ROOT} && {_shown(self.argv)}")


# pytest: 2 interrupted, 3 internal error, 4 usage error, 5 no tests collected.
_PYTEST_MEANINGS: Mapping[int, type[LabsError]] = {2: Interrupted, 3: EnvironmentProblem, 4: UsageError, 5: UsageError}


def pytest_step(title: str, *arguments: str, jobs: int = 1) -> Step:
    """One pytest run; with `jobs` above 1 on that many workers. Raises EnvironmentProblem without pytest-xdist."""
    workers = ("-n", str(jobs), "--dist=worksteal") if jobs > 1 else ()
    if workers and not _importable("xdist"):
        raise EnvironmentProblem("--jobs needs pytest-xdist", hint=f"{sys.executable} -m pip install pytest-xdist")
    return Step(title, (sys.executable, "-m", "pytest", *workers, *arguments), _PYTEST_MEANINGS)


def static_steps() -> tuple[Step, ...]:
    """The checks that run no test."""
    python = sys.executable
    return (
        Step("ruff check", (python, "-m", "ruff", "check", ".")),
        Step("ruff format --check", (python, "-m", "ruff", "format", "--check", ".")),
        Step("mypy", (python, "-m", "mypy")),
        Step("lint-imports", (str(Path(python).with_name("lint-imports")),)),
    )


def smoke_step(jobs: int = 1) -> Step:
    """The live smoke tests and one scenario on both products, in one pytest run."""
    selected = ("-m", "(live and smoke) or scenario", *_ON_BOTH, "tests/live", _SMOKE_SCENARIO)
    return pytest_step("pytest, live smoke tests", *selected, jobs=jobs)


def topology_steps() -> tuple[Step, ...]:
    """A short scenario on each of the other topologies, two side by side: their services mostly wait for each other."""
    return tuple(
        pytest_step(
            f"pytest, {Path(scenario).name.partition('.')[0]} on {len(topologies)} topologies",
            *(word for name in topologies for word in ("--lab", name)),
            scenario,
            jobs=2,
        )
        for scenario, topologies in _OTHER_SCENARIOS.items()
    )


def run_steps(steps: Sequence[Step], root: Path) -> None:
    """Run each step in `root` and stop at the first that fails. Raises that step's error."""
    for step in steps:
        print(f"==> {step.title}", flush=True)
        began = time.monotonic()
        code = run_child(step.argv, root)
        if code:
            print(f"==> {step.title}: FAILED (exit {code})", flush=True)
            raise step.error(code)
        print(f"==> {step.title}: ok, {time.monotonic() - began:.1f} s", flush=True)


def run_child(argv: Sequence[str], root: Path) -> int:
    """Run a program to its end and return its exit code, 128+N when signal N ended it.

    It stands in a process group of its own, so Ctrl-C on the terminal does not reach it: it gets
    exactly one SIGINT from here, and all the time it needs to clean up. A second one would make
    pytest abandon its teardown.
    """
    child = None
    try:
        with held_back():
            child = subprocess.Popen(argv, cwd=root, stdin=subprocess.DEVNULL, process_group=0)
        code = child.wait()
    except FileNotFoundError as error:
        raise EnvironmentProblem(f"{argv[0]} is not installed", hint="./inv runs with everything it needs") from error
    except KeyboardInterrupt:
        if child:
            child.send_signal(signal.SIGINT)
            child.wait()
        raise
    return code if code >= 0 else 128 - code


def checkout() -> Path:
    """The checkout this runs from, with the tools that tests need. Raises EnvironmentProblem outside of one."""
    if not (_ROOT / "tests").is_dir() or not (_ROOT / "pyproject.toml").is_file():
        raise EnvironmentProblem("The tests are not installed", where=str(_ROOT), hint="run ./inv test in a checkout")
    if missing := [tool for tool in _TOOLS if not _importable(tool)]:
        raise EnvironmentProblem(
            f"{', '.join(missing)} cannot be imported", where=sys.executable, hint="./inv test brings its own tools"
        )
    return _ROOT


def _importable(module: str) -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - start-up time

    return find_spec(module) is not None


def _shown(argv: Sequence[str]) -> str:
    import shlex  # noqa: PLC0415 - start-up time

    return shlex.join(argv)


def require_live(root: Path) -> None:
    """Make sure that an engine answers and has, or may pull, the images that the smoke scenarios need.

    Raises EngineUnavailable, or ImageProblem with the images that are missing.
    """
    from labs.commands.common import open_engine  # noqa: PLC0415 - start-up time
    from labs.images import Source, recipes_for_variables, sourcing, status  # noqa: PLC0415
    from labs.lab.plan import image_variables  # noqa: PLC0415
    from labs.scenario import read  # noqa: PLC0415

    wanted = {_SMOKE_SCENARIO: _PRODUCTS, **_OTHER_SCENARIOS}
    pairs = [(read(root / file).inventory, name) for file, topologies in wanted.items() for name in topologies]
    variables = {variable for inventory, topology in pairs for variable in image_variables(topology, inventory)}
    engine = open_engine(start=False)
    try:
        found = [status(engine, recipe) for recipe in recipes_for_variables(sorted(variables)).values()]
    finally:
        engine.close()
    absent = [image.recipe.name for image in found if image.where == "absent"]
    if absent and sourcing(os.environ, root).source is not Source.PULL:
        raise ImageProblem("Images for the live tests are missing", why=", ".join(absent), hint="inv images.build")


@task(
    name="all",
    default=True,
    help={"unit": "Only what needs no engine: lint, types and unit tests.", "jobs": "How many pytest workers."},
)
def quick(_: Context, unit: bool = False, jobs: int = 1) -> None:
    """Lint, types, unit tests and the live smoke tests; stops at the first failure.

    Exits 1 when a check failed, 3 where there is no engine or no images. Example:

        inv test --unit
    """
    root = checkout()
    run_steps([*static_steps(), pytest_step("pytest, unit tests", "tests/unit", jobs=jobs)], root)
    if not unit:
        require_live(root)
        run_steps([smoke_step(jobs), *topology_steps()], root)
    print("Everything passed.")


@task(help={"jobs": "How many pytest workers."})
def full(_: Context, jobs: int = 1) -> None:
    """Everything `inv test` runs, and every live test and scenario. Takes minutes.

    Example:

        inv test.full --jobs 2
    """
    root = checkout()
    run_steps([*static_steps(), pytest_step("pytest, unit tests", "tests/unit", jobs=jobs)], root)
    require_live(root)
    selected = ("-m", "not mutation or smoke", *_ON_BOTH, "tests/live", "scenarios")
    run_steps([pytest_step("pytest, live tests", *selected, jobs=jobs), *topology_steps()], root)
    print("Everything passed.")


@task(
    positional=["scenarios"],
    optional=["scenarios"],
    help={
        "scenarios": "Which scenarios, comma-separated, by name or file (default: all).",
        "labs": "On which topologies, comma-separated.",
        "runs": "How often each, every time on a fresh lab.",
        "jobs": "How many run side by side.",
        "out": "Where the result is stored.",
    },
)
def repeat(
    _: Context,
    scenarios: str = "",
    labs: str = "headscale,netbird",
    runs: int = 5,
    jobs: int = 2,
    out: str = "docs/results/scenarios.json",
) -> None:
    """Run every scenario several times: a flake is a defect. Takes an hour for all of them.

    Exits 1 when one run did not pass. Example:

        inv test.repeat exit-node,dns-names --runs 3
    """
    from labs.commands import campaign  # noqa: PLC0415 - start-up time
    from labs.commands.check import scenario_files  # noqa: PLC0415
    from labs.commands.common import console, words  # noqa: PLC0415
    from labs.lab.plan import topologies  # noqa: PLC0415

    wanted = words(labs, topologies(), "topology")
    result = campaign.repeat(wanted, scenario_files(scenarios), runs, jobs, Path(out))
    console().table(("SCENARIO", "TOPOLOGY", "PASSED", "MEDIAN"), campaign.summary(result))


@task(
    help={
        "select": "Only those whose name this matches, as pytest's -k.",
        "jobs": "How many run side by side.",
        "out": "Where the result is stored.",
    }
)
def mutations(_: Context, select: str = "", jobs: int = 2, out: str = "docs/results/mutations.json") -> None:
    """Break each scenario's intent (tests/mutations.yaml) and see that it fails at the right step, in the right layer.

    Exits 1 when one goes unnoticed. Takes half an hour. Example:

        inv test.mutations --select dns-records
    """
    from labs.commands import campaign  # noqa: PLC0415 - start-up time

    result = campaign.mutations(jobs, Path(out), select)
    print(f"{len(result.mutations)} mutations, each noticed where it should be.")


namespace = Collection("test", quick, full, repeat, mutations)
