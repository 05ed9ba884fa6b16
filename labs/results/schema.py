"""Results as frozen pydantic models. Bytes and seconds are in the field names; unknown is null, never 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Outcome(StrEnum):
    """`error` means that the question could not be asked; it is neither a pass nor a fail of the product."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    NOT_RUN = "not run"


class Layer(StrEnum):
    """Where an expectation broke, from the operator's side to the target."""

    CONTROL_PLANE = "control plane"
    TUNNEL = "tunnel"
    ROUTE = "route on the peer"
    FIREWALL = "firewall"
    POLICY = "policy"
    IDENTITY = "identity"
    NAME = "name"
    DOCKER_NAME = "name (Docker's resolver)"
    PATH = "path"
    TARGET = "target"
    PROBE = "probe"


class Diagnosis(Model):
    """The layer that broke, and what was seen there."""

    layer: Layer
    seen: str


class Observation(Model):
    """The answer to a scenario's question: whether what it asks came about, and after how long."""

    question: str
    answer: bool
    took_s: float


class StepResult(Model):
    """One step: `took_s` until its outcome was known, `held_s` of it waiting for a negative to hold; `evidence` from
    both ends, as short sentences."""

    number: int
    text: str
    outcome: Outcome
    took_s: float
    evidence: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = None
    observation: Observation | None = None
    held_s: float = 0.0


class JournalEntry(Model):
    at_s: float
    kind: str
    scope: str
    subject: str
    action: str
    lab_only: bool


class Phases(Model):
    """Where a scenario's time went: `start_s` the lab until all had joined, `intents_s` steps that change something,
    `expectations_s` steps that ask, of which `holds_s` waited for negatives to hold, `teardown_s` removal."""

    start_s: float
    intents_s: float
    expectations_s: float
    holds_s: float
    teardown_s: float


class ScenarioResult(Model):
    """One scenario on one lab. `burden` counts the operator's actions by scope during the steps alone."""

    scenario: str
    title: str
    topology: str
    product: str
    outcome: Outcome
    took_s: float
    steps: tuple[StepResult, ...]
    journal: tuple[JournalEntry, ...]
    burden: dict[str, int]
    phases: Phases | None = None


class MutationResult(Model):
    """A scenario with its intent broken: where it had to fail, and where it did; `step` null when it passed.

    There are several `expected_layers` where it depends on how soon the product gives a peer up. A scenario that only
    asks passes all the same, and then `expected_answers` says which answers had to become others.
    """

    scenario: str
    topology: str
    mutation: str
    expected_step: int | None
    expected_layers: tuple[Layer, ...]
    expected_answers: dict[str, bool] = Field(default_factory=dict)
    answers: dict[str, bool] = Field(default_factory=dict)
    step: int | None
    outcome: Outcome
    layer: Layer | None
    seen: str
    took_s: float

    @property
    def noticed(self) -> bool:
        """Whether it failed at the right step, with the right layer, or was answered as it had to be."""
        if self.expected_answers:
            return self.outcome is Outcome.PASSED and self.expected_answers.items() <= self.answers.items()
        where = self.step == self.expected_step and self.layer in self.expected_layers
        return where and self.outcome is Outcome.FAILED


class ImageFacts(Model):
    """Which image ran, and where it came from: `source` is build, pull, load or unknown."""

    reference: str
    source: str
    official: str | None
    version: str | None
    digest: str | None
    id: str


class EnvironmentFacts(Model):
    """The machine and engine that figures belong to. No host name and no path is among them."""

    toolkit: str
    engine: str
    engine_version: str
    api_version: str
    cgroup_version: int
    storage_driver: str
    kernel: str
    os: str
    cpus: int
    memory_bytes: int
    load_1m: float
    images: dict[str, ImageFacts]
    cpu: str | None = None
    other_containers: int | None = None

    @property
    def machine(self) -> tuple[object, ...]:
        """What has to agree before figures may be compared: everything but the load of the moment and the images."""
        rest = (self.kernel, self.os, self.cpu, self.cpus, self.memory_bytes)
        return (self.engine, self.engine_version, self.cgroup_version, self.storage_driver, *rest)


class ContainerFigures(Model):
    """One container's memory at one moment. Anonymous + shared cannot be given back; see labs/measure/sampler.py."""

    name: str
    role: str
    image: str
    anonymous_bytes: int | None
    shared_bytes: int | None
    working_set_bytes: int | None
    usage_bytes: int | None

    @property
    def footprint_bytes(self) -> int | None:
        """Anonymous + shared; null while either is unknown."""
        if self.anonymous_bytes is None or self.shared_bytes is None:
            return None
        return self.anonymous_bytes + self.shared_bytes


class StackFigures(Model):
    """One lab at one moment, by one backend (cgroup files or the engine's statistics)."""

    topology: str
    product: str
    phase: str
    taken_at: str
    backend: str
    services: int
    peers: int
    helpers: int
    containers: tuple[ContainerFigures, ...]

    def total(self, role: str, field: str) -> int | None:
        """The sum over the containers of one role; null when one of them is unknown."""
        values = [getattr(container, field) for container in self.containers if container.role == role]
        return None if None in values else sum(values)


class ComparisonResult(Model):
    """Several topologies run one after the other on one machine: their figures and scenarios, in order."""

    schema_version: int = SCHEMA_VERSION
    environment: EnvironmentFacts
    stacks: tuple[StackFigures, ...]
    scenarios: tuple[ScenarioResult, ...]


class RepeatedScenario(Model):
    """One scenario on one topology, several times, each on a fresh lab; times in the order of the runs.

    `actions` are the operator's of the first run, each as KIND SCOPE ACTION.
    """

    scenario: str
    topology: str
    outcomes: tuple[Outcome, ...]
    took_s: tuple[float, ...]
    phases: tuple[Phases, ...]
    observations: dict[str, tuple[bool, ...]]
    actions: tuple[str, ...]


def repeated(results: Iterable[ScenarioResult]) -> tuple[RepeatedScenario, ...]:
    """Runs of the same scenario on the same topology put together, by name."""
    grouped: dict[tuple[str, str], list[ScenarioResult]] = {}
    for result in results:
        grouped.setdefault((result.scenario, result.topology), []).append(result)
    return tuple(_together(grouped[key]) for key in sorted(grouped))


def _together(runs: Sequence[ScenarioResult]) -> RepeatedScenario:
    answers: dict[str, list[bool]] = {}
    for observation in (step.observation for run in runs for step in run.steps if step.observation):
        answers.setdefault(observation.question, []).append(observation.answer)
    return RepeatedScenario(
        scenario=runs[0].scenario,
        topology=runs[0].topology,
        outcomes=tuple(run.outcome for run in runs),
        took_s=tuple(run.took_s for run in runs),
        phases=tuple(run.phases for run in runs if run.phases),
        observations={question: tuple(said) for question, said in answers.items()},
        actions=tuple(f"{entry.kind} {entry.scope} {entry.action}" for entry in runs[0].journal if not entry.lab_only),
    )


class RepeatResult(Model):
    """A whole set of scenarios run several times, `jobs` side by side, in `wall_s`; the newest by `created` counts."""

    schema_version: int = SCHEMA_VERSION
    created: str = ""
    environment: EnvironmentFacts
    runs: int
    jobs: int
    wall_s: float
    scenarios: tuple[RepeatedScenario, ...]


class MutationsResult(Model):
    """Every mutation once."""

    schema_version: int = SCHEMA_VERSION
    environment: EnvironmentFacts
    mutations: tuple[MutationResult, ...]
