"""The ledger as it stands in ledger.yaml: every claim, what it needs, and what makes its verdict."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator, model_validator

from labs.claims.predicate import Predicate, parse
from labs.results import Part, Phase
from labs.yamlsource import load, validated

_NAME = re.compile(r"[a-z][a-z0-9_]*")
FILE = Path(__file__).with_name("ledger.yaml")


class _Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Answer(_Wanted):
    """What a scenario's observe: step found."""

    answer: str
    scenario: str
    on: str


class Passed(_Wanted):
    """That a scenario passed; a failure is no observation."""

    passed: str
    on: str


class Counted(_Wanted):
    """A number that an operator has to look after, from running containers and the topology's files."""

    counted: Literal[
        "services", "published_ports", "secrets", "volumes", "config_files", "config_lines", "settings", "image_mib"
    ]
    on: str


class Measured(_Wanted):
    """MiB of all services, the median over the labs."""

    measured: Part
    on: str
    phase: Phase
    peers: int


class Differs(_Wanted):
    """1 when the first uses more than the second, -1 when less, 0 when no difference is shown."""

    difference: Part
    between: tuple[str, str]
    phase: Phase
    peers: int


class Actions(_Wanted):
    """How often the operator had to act in a scenario, in all or by kind and scope."""

    actions: str
    on: str
    kind: Literal["api", "command", "edit", "restart"] | None = None
    scope: str | None = None


Wanted = Answer | Passed | Counted | Measured | Differs | Actions
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Claim(_Wanted):
    """One row. Predicates speak of the row's own observations, and of what is `derived` from them by arithmetic."""

    says: str
    kind: Literal["structure", "behaviour", "measure", "burden"]
    reason: str
    observations: Annotated[dict[Name, Wanted], Field(min_length=1)]
    derived: dict[Name, str] = {}
    supported_if: str
    contradicted_if: str
    not_shown: str

    @field_validator("supported_if", "contradicted_if")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse(text)
        return text

    @field_validator("derived")
    @classmethod
    def _readable_each(cls, expressions: dict[str, str]) -> dict[str, str]:
        for text in expressions.values():
            parse(text)
        return expressions

    @model_validator(mode="after")
    def _known(self) -> Claim:
        for predicate in (self.supported, self.contradicted, *map(parse, self.derived.values())):
            if unknown := predicate.names - self.observations.keys():
                raise ValueError(f"there is no observation {', '.join(sorted(unknown))}")
        return self

    @cached_property
    def supported(self) -> Predicate:
        return parse(self._spelled_out(self.supported_if))

    @cached_property
    def contradicted(self) -> Predicate:
        return parse(self._spelled_out(self.contradicted_if))

    def _spelled_out(self, text: str) -> str:
        """The text with what is derived in place of its name."""
        return _NAME.sub(lambda name: f"({self.derived[name[0]]})" if name[0] in self.derived else name[0], text)


class _Ledger(RootModel[dict[str, Claim]]):
    pass


def ledger(file: Path = FILE) -> dict[str, Claim]:
    """All claims by id, in the file's order. Raises FileProblem."""
    return validated(load(file), _Ledger).root
