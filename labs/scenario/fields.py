"""The words a scenario file is made of: durations, addresses, and names that refer to something in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")
_OFFSET = re.compile(r"\.(\d{1,3})")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*")
_EMAIL = re.compile(r"[a-z0-9.-]+@[a-z0-9.-]+")
_LOOKED_UP = re.compile(r"[a-z0-9.-]+(?:\{domain\})?")


class Kind(StrEnum):
    """What a name in a step refers to."""

    NETWORK = "network"
    PEER = "peer"
    HOST = "host"
    MACHINE = "peer or host"
    USER = "user"
    SUBJECT = "user, person or group"
    PART = "part"
    RESOURCE = "resource"
    KEY = "key"
    PERSON = "person"
    PROVIDER = "provider"
    OWNER = "user or person"


@dataclass(frozen=True, slots=True)
class Refers:
    """Marks a field: what stands there is the name of something of this kind."""

    to: Kind


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


def _domain(text: str) -> str:
    """Lower case, because Headscale before 0.29.4 does not answer for names with capitals (its issue 3366)."""
    if not _DOMAIN.fullmatch(text):
        raise ValueError("a domain name is lower case and has a dot, as in office.test")
    return text


def _email(text: str) -> str:
    if not _EMAIL.fullmatch(text):
        raise ValueError("an e-mail address is lower case, as in anna@corp.test")
    return text


def _looked_up(text: str) -> str:
    if not _LOOKED_UP.fullmatch(text):
        raise ValueError("a name to look up, as in printer.office.test, router, or router.{domain}")
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
Email = Annotated[str, AfterValidator(_email), WithJsonSchema({"type": "string", "pattern": f"^{_EMAIL.pattern}$"})]
Question = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,79}$")]
Domain = Annotated[str, AfterValidator(_domain), WithJsonSchema({"type": "string", "pattern": f"^{_DOMAIN.pattern}$"})]
LookedUp = Annotated[str, AfterValidator(_looked_up), WithJsonSchema({"type": "string"})]
TcpPort = Annotated[int, Field(ge=1, le=65535)]

ANetwork = Annotated[Name, Refers(Kind.NETWORK)]
APeer = Annotated[Name, Refers(Kind.PEER)]
AHost = Annotated[Name, Refers(Kind.HOST)]
AMachine = Annotated[Name, Refers(Kind.MACHINE)]
AUser = Annotated[Name, Refers(Kind.USER)]
ASubject = Annotated[Name, Refers(Kind.SUBJECT)]
APart = Annotated[Name, Refers(Kind.PART)]
AResource = Annotated[Name, Refers(Kind.RESOURCE)]
AKey = Annotated[Name, Refers(Kind.KEY)]
APerson = Annotated[Name, Refers(Kind.PERSON)]
AProvider = Annotated[Name, Refers(Kind.PROVIDER)]
AnOwner = Annotated[Name, Refers(Kind.OWNER)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-"))
