"""What a scenario file may say: pydantic models of the YAML, and the duration and offset words in it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")
_OFFSET = re.compile(r"\.(\d{1,3})")


def _duration_s(text: object) -> object:
    """'10s', '500ms' or '2m' in seconds."""
    found = _DURATION.fullmatch(str(text))
    if not found:
        raise ValueError("a duration is a number and a unit, as in 10s, 500ms or 2m")
    return float(found[1]) * _UNITS_S[found[2]]


def _offset(text: object) -> object:
    """'.10' as the host's place in its network."""
    found = _OFFSET.fullmatch(str(text))
    if not found or not 2 <= int(found[1]) <= 126:
        raise ValueError("a host's address is its place in the network, .2 to .126; the rest is the engine's")
    return int(found[1])


def _name(text: str) -> str:
    """A name that can be part of a host name everywhere."""
    if not _NAME.fullmatch(text):
        raise ValueError("a name is lower-case letters, digits and hyphens, a letter first, at most 30 characters")
    return text


Duration = Annotated[
    float, BeforeValidator(_duration_s), WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"})
]
Offset = Annotated[
    int,
    BeforeValidator(_offset),
    # An editor's YAML reads .10 as a number.
    WithJsonSchema({"type": ["number", "string"], "description": "place in the network, .2 to .126"}),
]
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-"))


class NetworkSpec(Model):
    """A LAN; its prefix is the lab's choice."""


class PeerSpec(Model):
    """A machine that runs the product's client. `networks` are the LANs it stands on."""

    user: Name
    networks: tuple[Name, ...] = ()


class HostSpec(Model):
    """A machine without an agent, at a place in one network."""

    networks: Annotated[dict[Name, Offset], Field(min_length=1, max_length=1)]
    serves: Literal["http"] | None = None


class Expect(Model):
    """What one peer can reach. It comes about `within` that time; a negative then holds for `holds`."""

    source: Annotated[Name, Field(alias="from")]
    target: Annotated[Name, Field(alias="to")]
    reachable: bool
    seen_as: Name | None = None
    within: Duration = 0.0
    holds: Duration | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Expect:
        if self.seen_as and not self.reachable:
            raise ValueError("seen-as says whom the server saw calling, so it needs reachable: true")
        if self.holds is not None and self.reachable:
            raise ValueError("holds is for a negative, which has to hold for a time")
        return self


class PublishRoute(Model):
    """A LAN becomes reachable through a router, for these peers."""

    network: Name
    via: Name
    consumers: Annotated[tuple[Name, ...], Field(alias="for", min_length=1)]


class WithdrawRoute(Model):
    network: Name
    via: Name


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}s"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


Action = Expect | PublishRoute | WithdrawRoute


class Step(Model):
    """One verb with its arguments."""

    expect: Expect | None = None
    publish_route: PublishRoute | None = None
    withdraw_route: WithdrawRoute | None = None

    @model_validator(mode="after")
    def _one_verb(self) -> Step:
        if len(self.model_fields_set) != 1:
            raise ValueError("a step is one verb with its arguments")
        return self

    @property
    def verb(self) -> str:
        (field,) = self.model_fields_set
        return field.replace("_", "-")

    @property
    def text(self) -> str:
        """The step as the file writes it."""
        said = self.action.model_dump(by_alias=True, exclude_unset=True)
        return f"{self.verb}: " + ", ".join(f"{key} {_plain(value)}" for key, value in said.items())

    @property
    def action(self) -> Action:
        action: Action = getattr(self, next(iter(self.model_fields_set)))
        return action


class ScenarioSpec(Model):
    """A whole scenario file."""

    title: Annotated[str, Field(min_length=1)]
    networks: dict[Name, NetworkSpec] = {}
    peers: Annotated[dict[Name, PeerSpec], Field(min_length=1)]
    hosts: dict[Name, HostSpec] = {}
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]


def json_schema() -> dict[str, object]:
    """The JSON Schema of a scenario file, as editors use it; scenarios/schema.json holds it."""
    return ScenarioSpec.model_json_schema(by_alias=True, mode="validation")
