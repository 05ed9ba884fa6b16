"""The mutations of tests/mutations.yaml: each breaks a scenario's intent, and says where it must be noticed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from labs import resources
from labs.model import Product
from labs.results import Layer
from labs.scenario import SUFFIX, Scenario, read
from labs.scenario.schema import ScenarioSpec
from labs.yamlsource import load

# The step, and the layer; several where it depends on how soon the product gives a peer up.
Failure = tuple[int, Layer] | tuple[int, Layer, Layer]


class Mutation(BaseModel):
    """Leave out step `skip`, or say step `change` with the arguments `to`.

    It `fails` at a step, or it passes and a question is answered otherwise: `answers`. `on` is the only product it is
    for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    skip: int | None = None
    change: int | None = None
    to: Annotated[dict[str, object], Field(default_factory=dict)]
    fails: Failure | dict[Product, Failure] | None = None
    answers: Annotated[dict[str, bool], Field(default_factory=dict)]
    on: Product | None = None
    smoke: bool = False

    @model_validator(mode="after")
    def _one(self) -> Mutation:
        if (self.skip is None) == (self.change is None):
            raise ValueError("a mutation skips a step or changes one")
        if (self.fails is None) == (not self.answers):
            raise ValueError("a mutation fails at a step, or is answered otherwise")
        return self

    @property
    def text(self) -> str:
        said = ", ".join(f"{key} {value}" for key, value in self.to.items())
        return f"skip {self.skip}" if self.skip else f"step {self.change} with {said}"


@dataclass(frozen=True, slots=True)
class Case:
    """One mutation of one scenario on one product, and the step and layer that must fail, if one must."""

    scenario: Scenario
    product: Product
    mutation: Mutation
    fails: Failure | None

    @property
    def name(self) -> str:
        return f"{self.scenario.name}, {self.mutation.text} on {self.product}"

    @property
    def skip(self) -> frozenset[int]:
        return frozenset() if self.mutation.skip is None else frozenset({self.mutation.skip})


def cases(file: Path) -> Iterator[Case]:
    """Every mutation for every product its scenario applies to."""
    known = TypeAdapter(dict[str, tuple[Mutation, ...]]).validate_python(load(file).data)
    for name, mutations in known.items():
        path = resources.path("scenarios") / f"{name}{SUFFIX}"
        original = read(path)
        for mutation in mutations:
            scenario = original if mutation.change is None else Scenario(name, _changed(path, mutation))
            for product in (mutation.on,) if mutation.on else Product:
                fails = mutation.fails.get(product) if isinstance(mutation.fails, Mapping) else mutation.fails
                if (fails or mutation.answers) and not original.not_applicable(original.topology(product)):
                    yield Case(scenario, product, mutation, fails)


def _changed(path: Path, mutation: Mutation) -> ScenarioSpec:
    """The file with one step said otherwise; not linted, for a mutation may make nonsense of it."""
    data = copy.deepcopy(load(path).data)
    step = data["steps"][(mutation.change or 0) - 1]
    (verb,) = step
    step[verb] = {**step[verb], **mutation.to}
    return ScenarioSpec.model_validate(data)
