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
_BUILT = "mesh-labs/"
# What is pulled in the place of an image that nobody publishes: it lacks the recipe's files (`brought_files`).
_SUBSTITUTES = {"toolbox": "busybox:1.37.0"}


Octal = Annotated[int, BeforeValidator(lambda text: int(str(text), 8))]
Place = Annotated[str, Field(pattern="^/")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Owner(_Model):
    """Numbers, as the engine compares them; the names are the recipe's /etc/passwd and /etc/group."""

    uid: int = 0
    gid: int = 0

    @property
    def numbers(self) -> tuple[int, int]:
        return self.uid, self.gid


class Binary(_Model):
    """A Go command: its package, where it goes in the image, and how it is built."""

    package: str
    path: Place
    cgo: bool = False
    ldflags: str = ""


class TextFile(_Model):
    path: Place
    content: str
    mode: Octal = 0o644


class Folder(_Model):
    """A folder that has to be there, for whom the image's process runs as to write into."""

    path: Place
    mode: Octal = 0o755
    owner: Owner = Owner()


class Artifact(_Model):
    """An archive from Maven Central, unpacked at `path` without its one top folder."""

    coordinates: Annotated[str, Field(pattern=r"^[\w.-]+:[\w.-]+:[\w.-]+:tar\.gz$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    path: Place
    owner: Owner = Owner()


class Preparation(_Model):
    """A shell script that is run in the unpacked root file system, as whoever builds and not as in a container.

    What it leaves in the folder `changes` replaces what was there; anything else it writes is lost.
    """

    script: str
    changes: Place


class RecipeSpec(_Model):
    """A recipe file. `configuration` holds Dockerfile instructions for the image's own settings.

    Of each package everything is taken but what RootFs leaves out anyway; `keep` and `omit` are shell
    patterns of paths that change that. `cap-net-bind-service` are the programs with that file capability, as an
    official image has them. `stand-in` says what an image pretends to be that cannot be built.
    """

    name: str
    version: str
    variable: Annotated[str, Field(pattern="^[A-Z_]+_IMAGE$")]
    official: str | None = None
    module: str | None = None
    binaries: tuple[Binary, ...] = ()
    packages: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    folders: tuple[Folder, ...] = ()
    files: tuple[TextFile, ...] = ()
    cap_net_bind_service: Annotated[tuple[Place, ...], Field(alias="cap-net-bind-service")] = ()
    prepare: Preparation | None = None
    configuration: tuple[str, ...] = ()
    stand_in: Annotated[str, Field(alias="stand-in")] = ""


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
    def official(self) -> str:
        """The reference to pull. Every image has one, by a test."""
        return self.spec.official or _SUBSTITUTES[self.name]

    @property
    def brought_files(self) -> tuple[TextFile, ...]:
        """The files that have to be put into a container of the official image."""
        return self.spec.files if self.name in _SUBSTITUTES else ()

    @property
    def reference(self) -> str:
        """What it is called when it was built here."""
        return f"{_BUILT}{self.name}:{self.spec.version}-{self.hash}"


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


def official_recipe(reference: str) -> Recipe | None:
    """The recipe that mirrors this official image; None for images of any other name."""
    if reference.startswith(_BUILT):
        return None  # by far the most frequent, and needs no look at the files
    return next((found for found in catalogue().values() if found.official == reference), None)


def is_the_real_thing(reference: str) -> bool:
    """Whether this is the official image of something that can only be stood in for when it is built."""
    mirrored = official_recipe(reference)
    return mirrored is not None and bool(mirrored.spec.stand_in)


def recipes_for_variables(variables: Iterable[str]) -> dict[str, Recipe]:
    """The recipes that fill compose files' image variables, by variable. Raises UsageError."""
    recipes = {found.spec.variable: found for found in catalogue().values()}
    chosen = {}
    for variable in variables:
        if variable not in recipes:
            raise UsageError(f"No image fills the variable {variable}", hint=nearest(variable, recipes))
        chosen[variable] = recipes[variable]
    return chosen
