"""Running what claims still need: scenarios once each, and one measurement of all topologies they speak of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from labs.claims import Claim
from labs.claims.evidence import Missing
from labs.claims.verdict import scenario_of, topologies_of
from labs.commands.bringup import Progress
from labs.commands.check import scenario_files
from labs.commands.common import Output, open_engine
from labs.commands.evidence import stored
from labs.engine import Engine
from labs.lab.plan import product_of, topologies
from labs.measure import environment
from labs.measure.campaign import Order, measure
from labs.results import Phase, RepeatResult, ScenarioResult, repeated, save
from labs.scenario import SUFFIX, read
from labs.scenario.trial import Trial, topology_for
from labs.timing import SystemClock

_RUNS = 5  # labs of each stack: 4 is the fewest that can show a difference
_PEERS = 3


def make(claims: Mapping[str, Claim], folder: Path, out: Output) -> None:
    """Run what these claims need and `folder` does not have yet; what cannot be run here is passed over."""
    engine = open_engine()
    try:
        here = stored(folder, environment(engine, set())).evidence
        wanted = [wanted for claim in claims.values() for wanted in claim.observations.values()]
        missing = []
        for one in dict.fromkeys(wanted):
            try:
                here.find(one)
            except Missing:
                missing.append(one)
        pairs = [(scenario, one) for one in missing if (scenario := scenario_of(one))]
        to_run = dict.fromkeys((scenario, topology) for scenario, one in pairs for topology in topologies_of(one))
        if to_run:
            _run(engine, tuple(to_run), folder, out)
        named = (topology for one in missing if not scenario_of(one) for topology in topologies_of(one))
        to_measure = tuple(dict.fromkeys(topology for topology in named if topology in topologies()))
        if to_measure:
            phases = (Phase.BOOT, Phase.IDLE, Phase.JOINED)
            asked = Order(to_measure, (_PEERS,), _RUNS, phases, read(scenario_files("subnet-routes")[0]))
            measure(engine, asked, folder, None, out.line, Progress(out).image)
    finally:
        engine.close()


def _run(engine: Engine, pairs: tuple[tuple[str, str], ...], folder: Path, out: Output) -> None:
    files = {file.name.removesuffix(SUFFIX): file for file in scenario_files("")}
    possible = [(name, topology) for name, topology in pairs if name in files and topology in topologies()]
    clock, results = SystemClock(), list[ScenarioResult]()
    began_s = clock.now()
    for name, topology in possible:
        scenario = read(files[name])
        product = product_of(topology)
        if scenario.not_applicable(topology_for(scenario, topology, product)):
            continue
        results.append(Trial(engine).run(scenario, topology_for(scenario, topology, product)))
        out.line(f"{name} on {topology}: {results[-1].outcome}, {results[-1].took_s:.1f} s")
    if not results:
        return
    images = {member for result in results for member in _images(engine, result.topology)}
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    ran = RepeatResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(engine, images),
        runs=1,
        jobs=1,
        wall_s=round(clock.now() - began_s, 1),
        scenarios=repeated(results),
    )
    out.line(f"stored as {save(ran, folder / f'{stamp}-scenarios.json')}")


def _images(engine: Engine, topology: str) -> set[str]:
    """All that a lab of this topology may run."""
    from labs.images import ensure  # noqa: PLC0415 - start-up time
    from labs.lab.plan import image_variables  # noqa: PLC0415
    from labs.model import Inventory, Peer  # noqa: PLC0415

    variables = image_variables(topology, Inventory(peers=(Peer("any", "any", ports=(80,)),)))
    return set(ensure(engine, variables, lambda _: None).values())
