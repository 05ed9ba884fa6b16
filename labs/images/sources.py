"""From a wanted image to one that the engine has, in the ways that `Sourcing` allows."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from labs.engine import Engine, ImageInfo, PullProgress, registry_of
from labs.errors import ImageProblem, Interrupted, NotFound, RegistryUnreachable
from labs.images import provenance
from labs.images.builder import Cache, build, cache_folder
from labs.images.catalogue import Recipe, recipes_for_variables
from labs.images.events import ImageEvent, OnImage
from labs.images.sourcing import Source, Sourcing, sourcing
from labs.images.toolchain import HostToolchain, Toolchain
from labs.timing import REGISTRY_ANSWER_S, REGISTRY_TRY_S

# One compiler keeps the cores busy; the second fills its pauses: downloads, linking, packing.
_JOBS = 2
_STOP_POLL_S = 0.2
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Status:
    """Where an image is: in the engine, in the cache only, or nowhere. Sizes in bytes, None when it is nowhere.

    `reference` is what a lab would run; '' when a pull decides that.
    """

    recipe: Recipe
    where: str
    size_bytes: int | None
    reference: str = ""


def ensure(
    engine: Engine,
    variables: Iterable[str],
    on_event: OnImage,
    toolchain: Toolchain | None = None,
    wanted: Sourcing | None = None,
) -> dict[str, str]:
    """The reference for each image variable, every one of them in the engine.

    `wanted` is by default what environment and project file say. Raises ImageProblem, NoSpace, UsageError.
    """
    recipes = recipes_for_variables(variables)
    wanted = wanted or sourcing(os.environ, Path.cwd())
    if wanted.source is Source.LOAD:
        return _all_there(engine, recipes)
    cache = Cache(cache_folder(os.environ))
    supply = _Supply(engine, wanted, cache, toolchain or HostToolchain(), on_event)
    with ThreadPoolExecutor(_JOBS) as pool:
        try:
            references = list(pool.map(supply.provide, recipes.values()))
        except BaseException:
            supply.stopped = True
            raise
    return dict(zip(recipes, references, strict=True))


def rebuild(engine: Engine, recipes: Iterable[Recipe], on_event: OnImage, toolchain: Toolchain | None = None) -> None:
    """Build anew, whatever the cache and the engine have."""
    tools = toolchain or HostToolchain()
    cache = Cache(cache_folder(os.environ))
    for recipe in recipes:
        with cache.locked(recipe):
            cache.forget(recipe)
            build(recipe, cache, tools, on_event)
            _import(engine, recipe, cache, on_event)


def status(engine: Engine | None, recipe: Recipe, wanted: Sourcing | None = None) -> Status:
    """Where an image is now, as far as `wanted` lets it count; without an engine only the cache is looked at."""
    wanted = wanted or sourcing(os.environ, Path.cwd())
    if found := _there(engine, recipe, wanted.source) if engine else None:
        return Status(recipe, "engine", found.size_bytes, found.reference)
    cache = Cache(cache_folder(os.environ))
    if wanted.source in (Source.AUTO, Source.BUILD) and cache.ingredients(recipe) is not None:
        return Status(recipe, "cache", cache.archive(recipe).stat().st_size, recipe.reference)
    return Status(recipe, "absent", None)


def _there(engine: Engine, recipe: Recipe, source: Source) -> ImageInfo | None:
    """What the engine has already. The official image comes before the built one: it is what operators run."""
    candidates = {Source.PULL: (recipe.official,), Source.BUILD: (recipe.reference,)}
    for reference in candidates.get(source, (recipe.official, recipe.reference)):
        try:
            return engine.image(reference)
        except NotFound:
            continue
    return None


def _all_there(engine: Engine, recipes: Mapping[str, Recipe]) -> dict[str, str]:
    found = {variable: _there(engine, recipe, Source.LOAD) for variable, recipe in recipes.items()}
    if missing := [recipes[variable].name for variable, image in found.items() if image is None]:
        raise ImageProblem(
            f"{len(missing)} of {len(recipes)} images are not in the engine, and it may get none",
            where=", ".join(missing),
            why="images: load",
            hint="inv images.load FILE; inv images.save FILE makes the file where there is a network",
        )
    return {variable: image.reference for variable, image in found.items() if image}


@dataclass
class _Supply:
    """One `ensure`: a registry that did not answer once is not asked again for the other images.

    `stopped` ends what goes on in other threads: waiting for a pull at once, the pull itself at its next word.
    """

    engine: Engine
    wanted: Sourcing
    cache: Cache
    toolchain: Toolchain
    on_event: OnImage
    silent: dict[str, RegistryUnreachable] = field(default_factory=dict)
    told: list[ImageProblem] = field(default_factory=list)
    stopped: bool = False

    def provide(self, recipe: Recipe) -> str:
        """The image's reference, once the engine has it."""
        if found := _there(self.engine, recipe, self.wanted.source):
            return found.reference
        if self.wanted.source is Source.PULL:
            return self._pull(recipe, REGISTRY_ANSWER_S)
        if self.wanted.source is Source.BUILD:
            return self._build(recipe)
        try:
            return self._pull(recipe, REGISTRY_TRY_S)
        except ImageProblem as not_pulled:
            return self._build_after(recipe, not_pulled)

    def _build_after(self, recipe: Recipe, not_pulled: ImageProblem) -> str:
        if not_pulled not in self.told:
            self.told.append(not_pulled)
            self.on_event(ImageEvent(recipe.name, "not pulled:", not_pulled.what))
        try:
            return self._build(recipe)
        except ImageProblem as not_built:
            not_built.add_note(f"  pull: {not_pulled.what} ({not_pulled.where}): {not_pulled.why}")
            raise

    def _pull(self, recipe: Recipe, answer_s: float) -> str:
        """Pull the official image. One from a mirror gets its official name: its digest says what it is, and a lab is
        the same lab wherever its images were fetched. The mirror's name stays, since the digest goes with it."""
        asked = self.wanted.pulled_from(recipe.official)
        if known := self.silent.get(registry_of(asked)):
            raise known
        self.on_event(ImageEvent(recipe.name, "pulling", asked))
        try:
            self._aside(lambda: self.engine.pull_image(asked, lambda seen: self._tell(recipe, seen), answer_s))
        except RegistryUnreachable as error:
            self.silent[registry_of(asked)] = error
            raise
        if asked != recipe.official:
            self.engine.tag_image(asked, recipe.official)
        self.on_event(ImageEvent(recipe.name, "ready", recipe.official))
        return recipe.official

    def _aside(self, work: Callable[[], object]) -> None:
        """Do it in a thread that no end of the program waits for: a registry may keep silent for long.

        Raises what `work` raises, and Interrupted soon after `stopped`.
        """
        outcome = Future[None]()

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is waited for
                outcome.set_exception(error)
            else:
                outcome.set_result(None)

        threading.Thread(target=run, daemon=True).start()
        while not wait([outcome], timeout=_STOP_POLL_S).done:
            if self.stopped:
                raise Interrupted("Stopped while an image was pulled")
        outcome.result()

    def _tell(self, recipe: Recipe, seen: PullProgress) -> None:
        if self.stopped:
            raise Interrupted("Stopped while an image was pulled", where=recipe.official)
        here, size = (round(amount / _MIB, 1) for amount in (seen.here_bytes, seen.size_bytes))
        detail = f"{here} of {size} MiB, {seen.layers_done} of {seen.layers} layers"
        self.on_event(ImageEvent(recipe.name, "pulling", detail))

    def _build(self, recipe: Recipe) -> str:
        """From the cache, else anew."""
        with self.cache.locked(recipe):
            # Another process may have built it while this one waited.
            if not _there(self.engine, recipe, Source.BUILD):
                if self.cache.ingredients(recipe) is None:
                    build(recipe, self.cache, self.toolchain, self.on_event)
                _import(self.engine, recipe, self.cache, self.on_event)
        return recipe.reference


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
