"""Images: what there is, and building them."""

from __future__ import annotations

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from labs.commands.common import console, emit_json, open_engine, words
from labs.errors import EngineUnavailable


@task(name="list", default=True, help={"json": "Print only JSON."})
def list_(_: Context, json: bool = False) -> None:
    """List the images: official reference, the one that is built instead, and where it is now. Example:

    inv images
    """
    from labs.images import catalogue, status  # noqa: PLC0415 - start-up time

    try:
        engine = open_engine(start=False)
    except EngineUnavailable:
        engine = None
    try:
        found = [status(engine, recipe) for recipe in catalogue().values()]
    finally:
        if engine:
            engine.close()
    rows = [
        {
            "image": entry.recipe.name,
            "official": entry.recipe.spec.official or "",
            "built": entry.recipe.reference,
            "where": entry.where,
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
    from labs.images import catalogue, ensure  # noqa: PLC0415
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
            ensure(engine, [recipe.spec.variable for recipe in chosen], progress.image)
    finally:
        engine.close()
    out.line(f"{len(chosen)} images are in the engine.")


namespace = Collection("images", list_, build)
