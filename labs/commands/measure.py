"""Measuring, and what follows from it. Only `measure` measures; the others read results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from labs.commands.common import IMAGES_HELP, console, emit_json, open_engine, use_images, words
from labs.errors import CheckFailed, Matched, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.commands.evidence import Stored
    from labs.results import ClaimsResult, Measurement
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
        "images": IMAGES_HELP,
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
    images: str = "",
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
    use_images(images)
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


@task(
    positional=["topologies"],
    help={
        "topologies": "Which topologies, comma-separated.",
        "peers": "Compare at this number of peers (default: the one with the most labs).",
        "from_": "Read the results in this folder, of whatever machine they are.",
        "mixed": "Compare also what differs in definition or environment, and say so.",
        "json": "Print only JSON.",
    },
)
def compare(
    _: Context, topologies: str, peers: int = 0, from_: str = "", mixed: bool = False, json: bool = False
) -> None:
    """Compare topologies by the newest valid results of this machine. Measures nothing.

    Example:

        inv compare headscale,netbird
    """
    from labs.lab.plan import topologies as known  # noqa: PLC0415 - start-up time
    from labs.measure.compare import side_by_side  # noqa: PLC0415
    from labs.report.terminal import compared  # noqa: PLC0415

    names = words(topologies, known(), "topology")
    result = side_by_side(names, _stored(from_).measurements, peers or None, mixed=mixed)
    if json:
        emit_json(result)
    else:
        console().line(compared(result))


@task(
    positional=["names"],
    optional=["names"],
    help={
        "names": "Which claims, comma-separated (default: all).",
        "from_": "Read the results in this folder, of whatever machine they are.",
        "run": "First run the scenarios and measurements that are missing here.",
        "fail_on": "Exit 6 when one of these verdicts is among them, comma-separated.",
        "json": "Print only JSON.",
    },
)
def claims(
    _: Context, names: str = "", from_: str = "", run: bool = False, fail_on: str = "", json: bool = False
) -> None:
    """Answer the article's claims: supported, contradicted or inconclusive, each with its evidence.

    Reads the newest valid results of this machine. Example:

        inv claims headscale-leaner
    """
    from labs.claims import ledger  # noqa: PLC0415 - start-up time
    from labs.report.terminal import verdicts  # noqa: PLC0415
    from labs.results import Verdict  # noqa: PLC0415

    rows = ledger()
    chosen = words(names, rows, "claim") if names else tuple(rows)
    failing = words(fail_on, list(Verdict), "verdict") if fail_on else ()
    if run:
        from labs.commands.missing import make  # noqa: PLC0415

        if from_:
            raise UsageError("--run makes results of this machine, and --from reads another's", hint="leave one out")
        make({name: rows[name] for name in chosen}, RESULTS, console(json))
    result = judged(chosen, _stored(from_))
    if json:
        emit_json(result.claims)
    else:
        console().line(verdicts(result))
    found = [claim.id for claim in result.claims if claim.verdict in failing]
    if found:
        raise Matched("Claims have a verdict that --fail-on names", where=", ".join(found))


@task(
    name="report",
    help={
        "from_": "Read the results in this folder, of whatever machine they are.",
        "out": "The folder that report.md, report.html and claims.json are written to.",
    },
)
def report(_: Context, from_: str = "", out: str = "results/report") -> None:
    """Write verdicts, comparison and charts as Markdown, as one self-contained HTML page, and as JSON.

    Measures nothing. Example:

        inv report --from docs/results --out docs/results
    """
    from labs.claims import ledger  # noqa: PLC0415 - start-up time
    from labs.measure.compare import side_by_side  # noqa: PLC0415
    from labs.report.document import html, markdown  # noqa: PLC0415
    from labs.report.gather import gather  # noqa: PLC0415
    from labs.results import save  # noqa: PLC0415

    found = _stored(from_)
    if not found.sources:
        raise UsageError("There are no results to report", hint="inv claims --run, or --from FOLDER")
    result = judged(tuple(ledger()), found)
    measured = dict.fromkeys(topology for _, m in found.measurements for topology in _topologies(m))
    comparison = side_by_side(tuple(measured), found.measurements, None, mixed=True) if measured else None
    data = gather(result, comparison, found.measurements, found.repeats)
    folder = Path(out)
    save(result, folder / "claims.json")
    for name, text in (("report.md", markdown(data)), ("report.html", html(data))):
        (folder / name).write_text(text, encoding="utf-8")
        console().line(f"written: {folder / name}")


def judged(names: Sequence[str], found: Stored) -> ClaimsResult:
    """The verdicts on these claims by what is stored."""
    from labs.claims import judge, ledger  # noqa: PLC0415 - start-up time
    from labs.commands.check import scenario_files  # noqa: PLC0415
    from labs.lab.plan import topologies  # noqa: PLC0415
    from labs.results import ClaimsResult  # noqa: PLC0415
    from labs.scenario import SUFFIX  # noqa: PLC0415

    rows, evidence = ledger(), found.evidence
    scenarios = {file.name.removesuffix(SUFFIX) for file in scenario_files("")}
    return ClaimsResult(
        environment=found.environment,
        sources=found.sources,
        claims=tuple(judge(name, rows[name], evidence, topologies(), scenarios) for name in names),
    )


def _stored(folder: str) -> Stored:
    from labs.commands.evidence import stored  # noqa: PLC0415 - start-up time

    if folder:
        if not Path(folder).is_dir():
            raise UsageError(f"There is no folder {folder}", hint="--from takes a folder with results")
        return stored(Path(folder), None)
    from labs.measure import environment  # noqa: PLC0415

    engine = open_engine(start=False)
    try:
        return stored(RESULTS, environment(engine, set()))
    finally:
        engine.close()


def _topologies(measured: Measurement) -> tuple[str, ...]:
    return tuple(burden.topology for burden in measured.burdens)


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


namespace = Collection("measure", measure, compare, claims, report)
