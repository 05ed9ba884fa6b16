"""Where images are to come from: the command's word, else the environment's, else the project file's, else `auto`.

The project file is the nearest mesh-labs.yaml, in the working folder or above it:

    images:
      source: pull                     # auto, pull, build or load
      mirror: registry.example/hub     # where official images are pulled from instead
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from labs.engine import registry_of
from labs.errors import UsageError
from labs.words import nearest
from labs.yamlsource import load, validated

FILE = "mesh-labs.yaml"
SOURCE_VARIABLE = "MESH_LABS_IMAGES"
MIRROR_VARIABLE = "MESH_LABS_MIRROR"

_HUB = "docker.io"


class Source(StrEnum):
    """`auto`: what the engine has, else pulled, else built. `pull`: official images only. `build`: built ones only.
    `load`: only what the engine has."""

    AUTO = "auto"
    PULL = "pull"
    BUILD = "build"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Sourcing:
    """What is wanted. `mirror` is a registry and a path in it, before each official image's own path; '' for none."""

    source: Source = Source.AUTO
    mirror: str = ""

    def pulled_from(self, official: str) -> str:
        """The reference to ask for. A mirror has every registry's images below one path, Docker Hub's own ones in
        library/ as Docker Hub itself has them."""
        if not self.mirror:
            return official
        registry = registry_of(official)
        path = official.removeprefix(f"{registry}/")
        return f"{self.mirror}/{path if '/' in path else f'library/{path}'}"


def sourcing(environment: Mapping[str, str], folder: Path) -> Sourcing:
    """What environment and project file say, for a command in `folder`. Raises UsageError, FileProblem."""
    found = _project(folder)
    if word := environment.get(SOURCE_VARIABLE):
        found = replace(found, source=_source(word))
    if mirror := environment.get(MIRROR_VARIABLE):
        try:
            found = replace(found, mirror=_mirror(mirror))
        except ValueError as error:
            raise UsageError("That is no mirror", where=f"{MIRROR_VARIABLE}={mirror}", why=str(error)) from error
    return found


def _source(word: str) -> Source:
    try:
        return Source(word)
    except ValueError as error:
        hint = nearest(word, Source)
        raise UsageError(f"Images come from nowhere called '{word}'", where=SOURCE_VARIABLE, hint=hint) from error


def _mirror(text: str) -> str:
    host = text.partition("/")[0]
    if "://" in text:
        raise ValueError("a mirror is written without https://")
    if registry_of(f"{host}/any") != host:
        raise ValueError(f"a mirror begins with a registry's host, as registry.example/hub, and '{host}' is none")
    return text.rstrip("/")


class _Images(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Source = Source.AUTO
    mirror: Annotated[str, AfterValidator(_mirror)] = ""


class _Project(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    images: _Images = _Images()


def _project(folder: Path) -> Sourcing:
    for place in (folder, *folder.parents):
        if (file := place / FILE).is_file():
            said = validated(load(file, str(file)), _Project).images
            return Sourcing(said.source, said.mirror)
    return Sourcing()
