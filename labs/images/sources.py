"""From a wanted image to one that the engine has: here already, else from the cache, else built."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from labs.engine import Engine, ImageInfo
from labs.errors import NotFound
from labs.images import provenance
from labs.images.builder import Cache, build, cache_folder
from labs.images.catalogue import Recipe, recipes_for_variables
from labs.images.events import ImageEvent, OnImage
from labs.images.toolchain import HostToolchain, Toolchain

# One compiler keeps the cores busy; the second fills its pauses: downloads, linking, packing.
_JOBS = 2


@dataclass(frozen=True, slots=True)
class Status:
    """Where an image is: in the engine, in the cache only, or nowhere. Sizes in bytes, None when it is nowhere."""

    recipe: Recipe
    where: str
    size_bytes: int | None


def ensure(
    engine: Engine, variables: Iterable[str], on_event: OnImage, toolchain: Toolchain | None = None
) -> dict[str, str]:
    """The reference for each image variable, every one of them in the engine. Raises ImageProblem, NoSpace."""
    recipes = recipes_for_variables(variables)
    tools = toolchain or HostToolchain()
    cache = Cache(cache_folder(os.environ))
    with ThreadPoolExecutor(_JOBS) as pool:
        list(pool.map(lambda recipe: _provide(engine, recipe, cache, tools, on_event), recipes.values()))
    return {variable: recipe.reference for variable, recipe in recipes.items()}


def rebuild(engine: Engine, recipes: Iterable[Recipe], on_event: OnImage, toolchain: Toolchain | None = None) -> None:
    """Build anew, whatever the cache and the engine have."""
    tools = toolchain or HostToolchain()
    cache = Cache(cache_folder(os.environ))
    for recipe in recipes:
        with cache.locked(recipe):
            cache.forget(recipe)
            build(recipe, cache, tools, on_event)
            _import(engine, recipe, cache, on_event)


def status(engine: Engine | None, recipe: Recipe) -> Status:
    """Where an image is now; without an engine only the cache is looked at."""
    found = _in_engine(engine, recipe) if engine else None
    if found:
        return Status(recipe, "engine", found.size_bytes)
    cache = Cache(cache_folder(os.environ))
    if cache.ingredients(recipe) is not None:
        return Status(recipe, "cache", cache.archive(recipe).stat().st_size)
    return Status(recipe, "absent", None)


def _provide(engine: Engine, recipe: Recipe, cache: Cache, toolchain: Toolchain, on_event: OnImage) -> None:
    if _in_engine(engine, recipe):
        return
    with cache.locked(recipe):
        # Another process may have built it while this one waited.
        if _in_engine(engine, recipe):
            return
        if cache.ingredients(recipe) is None:
            build(recipe, cache, toolchain, on_event)
        _import(engine, recipe, cache, on_event)


def _in_engine(engine: Engine, recipe: Recipe) -> ImageInfo | None:
    try:
        return engine.image(recipe.reference)
    except NotFound:
        return None


def _import(engine: Engine, recipe: Recipe, cache: Cache, on_event: OnImage) -> None:
    on_event(ImageEvent(recipe.name, "loading", recipe.reference))
    marks: Mapping[str, str] = provenance.labels(recipe, cache.ingredients(recipe) or {})
    labels = [f"LABEL {key}={_quoted(value)}" for key, value in marks.items()]
    with cache.archive(recipe).open("rb") as archive:
        engine.import_image(archive, recipe.reference, [*recipe.spec.configuration, *labels])
    on_event(ImageEvent(recipe.name, "ready", recipe.reference))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
