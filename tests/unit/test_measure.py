"""The measurement: order, windows, what makes a run invalid, going on where it stopped, and stacks side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from labs import resources
from labs.commands.evidence import stored as stored_here
from labs.errors import NotFound, UsageError
from labs.images import recipe
from labs.measure.campaign import Order, _carry_out, _earlier, definition, stored
from labs.measure.compare import differences, side_by_side
from labs.measure.protocol import Unit, faults, inventory, order
from labs.measure.sampler import Reading
from labs.measure.watch import Target, Watch
from labs.results import (
    Burden,
    EnvironmentFacts,
    Finding,
    ImageFacts,
    LabRun,
    Measurement,
    Part,
    Phase,
    Series,
    Window,
    load,
    save,
    unit_key,
)
from labs.scenario import read

MIB = 1 << 20
SCENARIO = read(resources.path("scenarios") / "subnet-routes.scenario.yaml")
ASKED = Order(("a", "b"), (2,), 2, (Phase.IDLE, Phase.JOINED), SCENARIO)
ENVIRONMENT = EnvironmentFacts(
    toolkit="0",
    engine="Docker Engine",
    engine_version="1",
    api_version="1.41",
    cgroup_version=2,
    storage_driver="overlay2",
    kernel="6",
    os="Debian",
    cpus=2,
    memory_bytes=1,
    load_1m=0.1,
    images={},
)


@dataclass
class FakeSampler:
    """Gives 1 MiB a sweep more to each container; those in `gone` give nothing."""

    backend: str = "cgroup files"
    gone: set[str] = field(default_factory=set)
    swept: dict[str, int] = field(default_factory=dict)
    on_read: Callable[[], None] = lambda: None

    def read(self, container_id: str) -> Reading:
        self.on_read()
        if container_id in self.gone:
            raise NotFound("gone")
        count = self.swept[container_id] = self.swept.get(container_id, 0) + 1
        size = count * MIB
        return Reading(usage_bytes=size, anonymous_bytes=size, shared_bytes=0, inactive_file_bytes=0, cpu_ns=count)

    def pss_bytes(self, container_id: str) -> int | None:
        return 5


TARGETS = (Target("1", "server", "service", "x"), Target("2", "laptop", "peer", "y"))


def watched(sampler: FakeSampler, phase: Phase = Phase.IDLE, sweeps: int = 3) -> Window:
    """A window of so many sweeps."""
    enough = threading.Event()

    def count() -> None:
        if len(watch._at_s) >= sweeps - 1:
            enough.set()

    sampler.on_read = count
    watch = Watch(phase, sampler, lambda: TARGETS, 0.01, time.monotonic(), local=False)
    with watch:
        assert enough.wait(5)
    return watch.window()


def test_labs_are_interleaved() -> None:
    a, b = Unit("a", 2), Unit("b", 2)
    assert list(order((a, b), 3)) == [a, b, b, a, a, b]


def test_all_peers_join_later_and_there_are_as_many_as_asked() -> None:
    made = inventory(SCENARIO, 4)
    assert [peer.name for peer in made.peers] == ["laptop", "router", "peer-3", "peer-4"]
    assert not any(peer.joins for peer in made.peers)
    assert made.hosts == SCENARIO.inventory.hosts


def test_a_window_keeps_every_part_of_every_container() -> None:
    window = watched(FakeSampler())
    server, laptop = window.containers
    assert (server.name, server.role, server.pss_bytes) == ("server", "service", 5)
    sizes = server.columns["anonymous_bytes"]
    assert sizes[:3] == (MIB, 2 * MIB, 3 * MIB)
    assert len(window.at_s) == len(window.sweep_s) == len(sizes)
    assert set(server.columns["swap_bytes"]) == {None}
    assert laptop.values(Part.FOOTPRINT) == laptop.values(Part.USAGE) == laptop.values(Part.WORKING_SET)
    assert window.drift(Part.FOOTPRINT) == pytest.approx(len(sizes) // 2 * MIB, abs=MIB)
    assert window.observer_cpu_s >= 0


def test_a_sampler_that_breaks_ends_the_window_with_its_error() -> None:
    def broken() -> None:
        raise OSError("no more files")

    with (
        pytest.raises(OSError, match="no more files"),
        Watch(Phase.IDLE, FakeSampler(on_read=broken), lambda: TARGETS, 0.01, 0.0, local=False) as watch,
    ):
        watch._thread.join(5)


def window(
    values: tuple[int | None, ...], phase: Phase = Phase.IDLE, swap: int | None = 0, step_s: float = 0.5
) -> Window:
    sizes = tuple(None if value is None else value * MIB for value in values)
    columns = {
        "usage_bytes": sizes,
        "anonymous_bytes": sizes,
        "shared_bytes": tuple(None if value is None else 0 for value in values),
        "working_set_bytes": tuple(None if value is None else 2 * value for value in sizes),
        "swap_bytes": tuple(swap for _ in values),
        "cpu_ns": tuple(range(len(values))),
    }
    return Window(
        phase=phase,
        begin_s=1.0,
        at_s=tuple(step_s * number for number in range(len(values))),
        sweep_s=tuple(0.01 for _ in values),
        containers=(Series(name="server", role="service", image="x", columns=columns),),
        observer_cpu_s=0.1,
        engine_cpu_s=0.2,
        engine_anonymous_bytes=3,
    )


def test_one_number_for_a_window() -> None:
    assert window((10, 12, 11)).total(Part.FOOTPRINT) == 11 * MIB
    assert window((10, None, 11)).total(Part.FOOTPRINT) is None
    assert window((None, 4, 9, 8), Phase.BOOT).total(Part.FOOTPRINT) == 9 * MIB
    assert window((10, 12)).total(Part.WORKING_SET) == 22 * MIB
    assert window((10,)).total(Part.FOOTPRINT, "peer") is None


@pytest.mark.parametrize(
    ("made", "reasons"),
    [
        (window((1, 2, 3)), []),
        (window((1, None, None)), ["idle: server gave no figure in 2 sweeps"]),
        (window((1, 2), swap=4096), ["idle: server was swapped out"]),
        (window((1, 2), step_s=2.0), ["idle: sweeps are missing for 2.0 s"]),
        (window((None, 2), Phase.BOOT), []),
        (window(()), ["idle: no sweep"]),
    ],
)
def test_what_makes_a_run_invalid(made: Window, reasons: list[str]) -> None:
    assert faults(made, 0.5) == reasons


def lab(topology: str, number: int, mib: int = 10, invalid: tuple[str, ...] = (), peers: int = 2) -> LabRun:
    return LabRun(
        number=number,
        topology=topology,
        product=topology,
        peers=peers,
        began_at="2026-11-24T00:00:00+00:00",
        invalid=invalid,
        serves_s=1.0,
        first_ping_s=2.0,
        joins_s={"laptop": 0.5},
        route_change_s=1.0,
        windows=(window((mib, mib, mib)), window((mib + 1, mib + 1), Phase.JOINED)),
        marks=(),
        scenario=None,
        load_1m_before=0.1,
        load_1m_after=0.1,
        datapath="TUN device",
    )


def burden(topology: str) -> Burden:
    return Burden(
        topology=topology,
        services=("server",),
        stand_ins={},
        published_ports=1,
        secrets=0,
        volumes=1,
        config_files=1,
        config_lines=10,
        settings=2,
        image_bytes={"server": 30 * MIB},
    )


def measurement(*runs: LabRun, created: str = "2026-11-24T01:00:00+00:00", asked: Order = ASKED) -> Measurement:
    return Measurement(
        id="x",
        created=created,
        definition=definition(asked, FakeSampler()),
        environment=ENVIRONMENT,
        deviations={},
        wanted={unit_key(unit.topology, unit.peers): asked.runs for unit in asked.units},
        burdens=tuple(burden(topology) for topology in asked.topologies),
        runs=runs,
    )


@dataclass
class FakeMeasurer:
    """Makes labs at once; every `bad`-th one is invalid, and after `stops_after` it is interrupted."""

    bad: int = 0
    stops_after: int = 100
    made: list[str] = field(default_factory=list)

    def run(self, unit: Unit, number: int) -> LabRun:
        if len(self.made) == self.stops_after:
            raise KeyboardInterrupt
        self.made.append(unit.topology)
        invalid = ("was killed",) if self.bad and len(self.made) % self.bad == 0 else ()
        return lab(unit.topology, number, invalid=invalid)


def test_every_run_is_stored_and_an_invalid_one_is_made_up_for(tmp_path: Path) -> None:
    said: list[str] = []
    measurer = FakeMeasurer(bad=3)
    path = tmp_path / "m.json"
    done = _carry_out(measurer, ASKED, measurement(), path, said.append)  # type: ignore[arg-type]
    assert measurer.made == ["a", "b", "b", "a", "b"]
    assert done.complete
    assert load(Measurement, path) == done
    assert [run.number for run in done.runs if run.topology == "b"] == [1, 2, 3]
    assert any("does not count: was killed" in line for line in said)


def test_what_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    with pytest.raises(KeyboardInterrupt):
        _carry_out(FakeMeasurer(stops_after=3), ASKED, measurement(), path, lambda _: None)  # type: ignore[arg-type]
    found = _earlier(measurement(), tmp_path, None)
    assert found is not None
    assert (len(found[0].runs), found[1]) == (3, path)
    later = FakeMeasurer()
    assert _carry_out(later, ASKED, found[0], path, lambda _: None).complete  # type: ignore[arg-type]
    assert later.made == ["a"]
    assert _earlier(measurement(), tmp_path, None) is None


def test_another_measurement_is_not_added_to(tmp_path: Path) -> None:
    path = save(measurement(), tmp_path / "m.json")
    other = measurement(asked=replace(ASKED, window_s=99.0))
    assert _earlier(other, tmp_path, None) is None
    with pytest.raises(UsageError, match="another measurement"):
        _earlier(other, tmp_path, path)
    assert _earlier(other, tmp_path, tmp_path / "new.json") is None


def test_other_files_are_passed_over_and_the_newest_is_first(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    save(measurement(created="2026-01-01T00:00:00+00:00"), tmp_path / "old.json")
    save(measurement(created="2026-02-01T00:00:00+00:00"), tmp_path / "new.json")
    assert [path.name for path, _ in stored(tmp_path)] == ["new.json", "old.json"]


def several(topology: str, mib: int) -> Iterator[LabRun]:
    return (lab(topology, number, mib) for number in range(1, 5))


def test_stacks_side_by_side() -> None:
    made = measurement(*several("a", 10), *several("b", 40), lab("b", 5, 400, invalid=("was killed",)))
    found = side_by_side(("a", "b"), [("m.json", made)], None)
    difference = found.differences["a b joined footprint"]
    assert difference.finding is Finding.DIFFERENT
    assert difference.medians == (11 * MIB, 41 * MIB)
    assert (found.peers, found.sources) == (2, ("m.json",))


def test_unlike_measurements_are_refused_unless_that_is_said() -> None:
    first = measurement(*several("a", 10), asked=replace(ASKED, topologies=("a",)))
    second = measurement(*several("b", 10), asked=replace(ASKED, topologies=("b",), window_s=99.0))
    sources = [("1.json", first), ("2.json", second)]
    with pytest.raises(UsageError, match="defined otherwise: window_s"):
        side_by_side(("a", "b"), sources, None)
    assert side_by_side(("a", "b"), sources, None, mixed=True).mixed == ("defined otherwise: window_s",)
    elsewhere = second.model_copy(
        update={"definition": first.definition, "environment": ENVIRONMENT.model_copy(update={"cpus": 8})}
    )
    with pytest.raises(UsageError, match="another machine"):
        side_by_side(("a", "b"), [("1.json", first), ("2.json", elsewhere)], None)


def test_a_newer_measurement_with_too_few_labs_does_not_stand_in_for_one_with_enough() -> None:
    enough = measurement(*several("a", 10), *several("b", 40))
    growth = measurement(
        lab("a", 1, 10), lab("b", 1, 40), lab("a", 2, 10, peers=8), created="2026-12-01T00:00:00+00:00"
    )
    assert side_by_side(("a", "b"), [("growth.json", growth), ("m.json", enough)], None).sources == ("m.json",)
    assert side_by_side(("a", "b"), [("growth.json", growth)], None).sources == ("growth.json",)


def test_what_was_not_measured_is_named() -> None:
    with pytest.raises(UsageError, match="no valid figures of b"):
        side_by_side(("a", "b"), [("m.json", measurement(*several("a", 10)))], None)


def test_results_of_several_machines_are_not_read_as_one(tmp_path: Path) -> None:
    save(measurement(), tmp_path / "1.json")
    other = ENVIRONMENT.model_copy(update={"kernel": "7"})
    save(measurement().model_copy(update={"environment": other}), tmp_path / "2.json")
    with pytest.raises(UsageError, match="several machines"):
        stored_here(tmp_path, None)
    assert len(stored_here(tmp_path, ENVIRONMENT).measurements) == 1


def test_results_of_built_and_of_official_images_count_here(tmp_path: Path) -> None:
    """Both are images that labs of this version run; one of another recipe is not."""
    headscale = recipe("headscale")
    for number, reference in enumerate((headscale.reference, headscale.official, f"{headscale.reference[:-1]}x")):
        facts = ImageFacts(reference=reference, source="any", official=None, version=None, digest=None, id="1")
        environment = ENVIRONMENT.model_copy(update={"images": {reference: facts}})
        save(measurement().model_copy(update={"environment": environment}), tmp_path / f"{number}.json")
    assert {name for name, _ in stored_here(tmp_path, ENVIRONMENT).measurements} == {"0.json", "1.json"}


def test_measurements_of_built_and_of_pulled_images_are_told_apart() -> None:
    made = []
    for source in ("build", "pull"):
        facts = ImageFacts(reference="x", source=source, official=None, version=None, digest=None, id="1")
        environment = ENVIRONMENT.model_copy(update={"images": {"x": facts}})
        made.append(measurement().model_copy(update={"environment": environment}))
    assert differences(*made) == ["images from elsewhere: build; pull"]
    assert differences(made[0], made[0]) == []


def test_the_newest_is_what_says_so_itself(tmp_path: Path) -> None:
    save(measurement(created="2026-02-01T00:00:00+00:00"), tmp_path / "a.json")
    save(measurement(created="2026-03-01T00:00:00+00:00"), tmp_path / "b.json")
    save(measurement(created="2026-01-01T00:00:00+00:00"), tmp_path / "c.json")
    assert [name for name, _ in stored_here(tmp_path, None).measurements] == ["b.json", "a.json", "c.json"]
