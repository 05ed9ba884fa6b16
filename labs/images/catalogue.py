"""The images there are: one recipe file each, in compose/images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from labs import resources
from labs.errors import UsageError
from labs.words import nearest
from labs.yamlsource import load, validated

# Part of every recipe's hash: raise it when a change of the builder makes other images of the same recipes.
_BUILDER = b"2"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Binary(_Model):
    """A Go command: its package, where it goes in the image, and how it is built."""

    package: str
    path: Annotated[str, Field(pattern="^/")]
    cgo: bool = False
    ldflags: str = ""


class TextFile(_Model):
    path: Annotated[str, Field(pattern="^/")]
    content: str
    mode: Annotated[int, BeforeValidator(lambda text: int(str(text), 8))] = 0o644


class RecipeSpec(_Model):
    """A recipe file. `configuration` holds Dockerfile instructions for the image's own settings."""

    name: str
    version: str
    variable: Annotated[str, Field(pattern="^[A-Z_]+_IMAGE$")]
    official: str | None = None
    module: str | None = None
    binaries: tuple[Binary, ...] = ()
    packages: tuple[str, ...] = ()
    files: tuple[TextFile, ...] = ()
    configuration: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """One image: what it is made of, and the reference it has when it was built."""

    spec: RecipeSpec
    file: Path

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def module_folder(self) -> Path | None:
        """The folder with go.mod and go.sum; None when nothing is compiled."""
        return self.file.parent / "modules" / self.spec.module if self.spec.module else None

    @cached_property
    def hash(self) -> str:
        """Changes with the recipe, its modules' versions and checksums, and the builder."""
        digest = hashlib.sha256(_BUILDER)
        folder = self.module_folder
        for file in (self.file, *((folder / "go.mod", folder / "go.sum") if folder else ())):
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)}\0".encode() + content)
        return digest.hexdigest()[:12]

    @property
    def reference(self) -> str:
        return f"mesh-labs/{self.name}:{self.spec.version}-{self.hash}"


def catalogue() -> dict[str, Recipe]:
    """All recipes by name. Raises FileProblem for a recipe that cannot be read."""
    files = sorted((resources.path("compose") / "images").glob("*.yaml"))
    recipes = (Recipe(validated(load(file), RecipeSpec), file) for file in files)
    return {recipe.name: recipe for recipe in recipes}


def recipe(name: str) -> Recipe:
    """Raises UsageError with the nearest image there is."""
    recipes = catalogue()
    if name not in recipes:
        raise UsageError(f"There is no image called {name}", hint=nearest(name, recipes))
    return recipes[name]


def recipes_for_variables(variables: Iterable[str]) -> dict[str, Recipe]:
    """The recipes that fill compose files' image variables, by variable. Raises UsageError."""
    recipes = {found.spec.variable: found for found in catalogue().values()}
    chosen = {}
    for variable in variables:
        if variable not in recipes:
            raise UsageError(f"No image fills the variable {variable}", hint=nearest(variable, recipes))
        chosen[variable] = recipes[variable]
    return chosen
