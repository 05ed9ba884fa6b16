"""Images: what there is, and building them; pulling, carrying and checking are in `imagesets`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from labs.commands.common import console, emit_json, open_engine, words
from labs.commands.imagesets import check, engine_or_none, load, pull, save

if TYPE_CHECKING:
    from labs.images import Status


@task(name="list", default=True, help={"json": "Print only JSON."})
def list_(_: Context, json: bool = False) -> None:
    """List the images: the official one, the one that is built instead, and which of them labs would run now. Example:

    inv images
    """
    from pathlib import Path  # noqa: PLC0415 - start-up time

    from labs.images import catalogue, sourcing, status  # noqa: PLC0415

    wanted = sourcing(os.environ, Path.cwd())

    engine = engine_or_none()
    try:
        found = [status(engine, recipe, wanted) for recipe in catalogue().values()]
    finally:
        if engine:
            engine.close()
    rows = [
        {
            "image": entry.recipe.name,
            "official": wanted.pulled_from(entry.recipe.official),
            "built": entry.recipe.reference,
            "where": entry.where,
            "runs": _which(entry),
            "mib": round(entry.size_bytes / (1 << 20), 1) if entry.size_bytes else None,
        }
        for entry in found
    ]
    if json:
        emit_json(rows)
        return
    console().table([heading.upper() for heading in rows[0]], [[cell or "-" for cell in row.values()] for row in rows])


@task(
    positional=["names"],
    optional=["names"],
    help={"names": "Which images, comma-separated (default: all).", "rebuild": "Build anew even what is there."},
)
def build(_: Context, names: str = "", rebuild: bool = False) -> None:
    """Build images from Go modules and Debian packages, and put them into the engine.

    What the engine or the cache has already is not built again. The first time takes minutes. Example:

        inv images.build headscale,tailscale
    """
    from labs.commands.bringup import Progress  # noqa: PLC0415 - start-up time
    from labs.images import Source, Sourcing, catalogue, ensure  # noqa: PLC0415
    from labs.images import rebuild as build_anew  # noqa: PLC0415

    recipes = catalogue()
    chosen = [recipes[name] for name in (words(names, recipes, "image") if names else recipes)]
    out = console()
    engine = open_engine(out=out)
    try:
        progress = Progress(out)
        if rebuild:
            build_anew(engine, chosen, progress.image)
        else:
            variables = [recipe.spec.variable for recipe in chosen]
            ensure(engine, variables, progress.image, wanted=Sourcing(Source.BUILD))
    finally:
        engine.close()
    out.line(f"{len(chosen)} images are in the engine.")


def _which(entry: Status) -> str:
    if not entry.reference:
        return ""
    return "built" if entry.reference == entry.recipe.reference else "official"


namespace = Collection("images", list_, build, pull, check, save, load)
