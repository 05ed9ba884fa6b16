"""What a terminal shows of results, word for word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labs.report.terminal import comparison, scenario_table, step_line
from labs.results import (
    ComparisonResult,
    ContainerFigures,
    Diagnosis,
    EnvironmentFacts,
    ImageFacts,
    Layer,
    Outcome,
    ScenarioResult,
    StackFigures,
    StepResult,
)

GOLDEN = Path(__file__).parent / "golden"
MIB = 1 << 20


def same(name: str, text: str) -> None:
    """Compare with the golden file; UPDATE_GOLDEN=1 writes it."""
    file = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text + "\n")
    assert text + "\n" == file.read_text()


def figures(
    name: str, role: str, anonymous: int | None, shared: int | None, working_set: int | None
) -> ContainerFigures:
    sizes = [None if size is None else size * MIB for size in (anonymous, shared, working_set)]
    return ContainerFigures(
        name=name,
        role=role,
        image="mesh-labs/x:1",
        anonymous_bytes=sizes[0],
        shared_bytes=sizes[1],
        working_set_bytes=sizes[2],
        usage_bytes=sizes[2],
    )


@pytest.fixture
def steps() -> tuple[StepResult, ...]:
    return (
        StepResult(number=1, text="expect: from a, to b", outcome=Outcome.PASSED, took_s=3.21, evidence=("one", "two")),
        StepResult(
            number=2,
            text="expect: from b, to a",
            outcome=Outcome.FAILED,
            took_s=10.0,
            evidence=("unreachable for 10.0 s",),
            diagnosis=Diagnosis(layer=Layer.ROUTE, seen="a has no route to 10.1.2.3"),
        ),
        StepResult(number=3, text="publish-route: network office", outcome=Outcome.NOT_RUN, took_s=0.0),
    )


@pytest.fixture
def result(steps: tuple[StepResult, ...]) -> ComparisonResult:
    stacks = [
        StackFigures(
            topology=name,
            product=name,
            phase="joined",
            taken_at="2026-01-01T00:00:00+00:00",
            backend="engine statistics",
            services=services,
            peers=1,
            helpers=1,
            containers=(
                *(
                    figures(f"service-{n}", "service", 10 * n, 0 if known else None, 12 * n)
                    for n in range(1, services + 1)
                ),
                figures("laptop", "peer", 20, 1, 30),
                figures("printer", "host", 0, 0, 1),
            ),
        )
        for name, services, known in (("headscale", 1, True), ("netbird", 3, False))
    ]
    scenarios = [
        ScenarioResult(
            scenario="subnet-routes",
            title="t",
            topology=name,
            product=name,
            outcome=outcome,
            took_s=12.3,
            steps=steps,
            journal=(),
            burden=burden,
        )
        for name, outcome, burden in (
            ("headscale", Outcome.PASSED, {"route": 4, "consumer": 1}),
            ("netbird", Outcome.FAILED, {}),
        )
    ]
    image = ImageFacts(
        reference="mesh-labs/x:1", source="build", official=None, version="1", digest=None, id="sha256:0"
    )
    environment = EnvironmentFacts(
        toolkit="0.1.0",
        engine="Docker Engine",
        engine_version="20.10.24",
        api_version="1.41",
        cgroup_version=1,
        storage_driver="overlay2",
        kernel="6.1",
        os="Debian",
        cpus=2,
        memory_bytes=1,
        load_1m=0.1,
        images={image.reference: image},
    )
    return ComparisonResult(environment=environment, stacks=tuple(stacks), scenarios=tuple(scenarios))


def test_steps(steps: tuple[StepResult, ...]) -> None:
    same("steps.txt", "\n".join(step_line(step) for step in steps))


def test_scenarios(result: ComparisonResult) -> None:
    same("scenarios.txt", scenario_table(result.scenarios))


def test_comparison_says_unknown_where_it_is_unknown(result: ComparisonResult) -> None:
    same("comparison.txt", comparison(result))


def test_footprint_is_unknown_while_a_part_is(result: ComparisonResult) -> None:
    assert result.stacks[0].total("service", "footprint_bytes") == 10 * MIB
    assert result.stacks[1].total("service", "footprint_bytes") is None
