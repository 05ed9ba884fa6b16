"""The images of whole topologies: pulling them, whether they are there, and carrying them to another machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from labs.commands.common import IMAGES_HELP, console, emit_json, open_engine, use_images, words
from labs.errors import EngineUnavailable, ImageProblem

if TYPE_CHECKING:
    from labs.commands.common import Output
    from labs.engine import Engine
    from labs.images import Status
    from labs.images.sets import ImageSet

_TOPOLOGIES_HELP = "The images of which topologies, comma-separated (default: all)."
_MIB = 1 << 20


@task(positional=["topologies"], optional=["topologies"], help={"topologies": _TOPOLOGIES_HELP})
def pull(_: Context, topologies: str = "") -> None:
    """Pull the official images of topologies, their peers and hosts, at the pinned versions.

    What the engine has already is not pulled again. Example:

        inv images.pull headscale,netbird
    """
    use_images("pull")
    out = console()
    engine = open_engine()
    try:
        references = _ensure(engine, _names(topologies), out)
    finally:
        engine.close()
    out.line(f"{len(references)} official images are in the engine.")


@task(
    positional=["topologies"],
    optional=["topologies"],
    help={"topologies": _TOPOLOGIES_HELP, "images": IMAGES_HELP, "json": "Print only JSON."},
)
def check(_: Context, topologies: str = "", images: str = "", json: bool = False) -> None:
    """Say which images of topologies, their peers and hosts are here, and what a lab would do about each other one.

    Exits 3 when a lab would have to pull or build one. Example:

        inv images.check netbird --images load
    """
    from labs.images import Source, recipes_for_variables, sourcing, status  # noqa: PLC0415 - start-up time
    from labs.lab.plan import every_image_variable  # noqa: PLC0415

    use_images(images)
    names = _names(topologies)
    wanted = sourcing(os.environ, Path.cwd())
    engine = engine_or_none()
    try:
        recipes = recipes_for_variables(every_image_variable(names)).values()
        found = [status(engine, recipe, wanted) for recipe in recipes]
    finally:
        if engine:
            engine.close()
    todo = {Source.AUTO: "pull, else build", Source.PULL: "pull", Source.BUILD: "build", Source.LOAD: "load a set"}
    rows = [_row(entry, wanted.pulled_from(entry.recipe.official), todo[wanted.source]) for entry in found]
    missing = [str(row["image"]) for row in rows if row["todo"]]
    if json:
        emit_json({"source": wanted.source, "complete": not missing, "images": rows})
    else:
        console().table(
            [heading.upper() for heading in rows[0]], [[cell or "-" for cell in row.values()] for row in rows]
        )
    if missing:
        raise ImageProblem(
            f"{len(missing)} of {len(found)} images are missing",
            where=", ".join(missing),
            hint="inv images.load FILE" if wanted.source is Source.LOAD else f"inv up would {todo[wanted.source]}",
        )


@task(
    positional=["file"],
    help={"file": "The file to write.", "topologies": _TOPOLOGIES_HELP, "images": IMAGES_HELP},
)
def save(_: Context, file: str, topologies: str = "", images: str = "") -> None:
    """Save all images of topologies, their peers and hosts to one file, for a machine without a network.

    What is not there is pulled or built first. Example:

        inv images.save labs.tar --topologies headscale,netbird
    """
    from labs.commands.bringup import Progress  # noqa: PLC0415 - start-up time
    from labs.images import sets  # noqa: PLC0415

    use_images(images)
    names, target, out = _names(topologies), Path(file), console()
    engine = open_engine()
    try:
        references = _ensure(engine, names, out)
        made = sets.write(engine, references, names, target, Progress(out).image)
    finally:
        engine.close()
    size = target.stat().st_size / _MIB
    out.line(f"{target}: {len(made.images)} images of {', '.join(names)}; {size:.0f} MiB. inv images.load takes it in.")


@task(positional=["file"], help={"file": "What inv images.save wrote."})
def load(_: Context, file: str) -> None:
    """Put the images of a saved set into the engine. It is looked through first; a second time changes nothing.

    Exits 3 when it is of a version of the toolkit whose images labs of this one do not run. Example:

        inv images.load labs.tar
    """
    from labs.commands.bringup import Progress  # noqa: PLC0415 - start-up time
    from labs.images import sets  # noqa: PLC0415

    out = console()
    engine = open_engine()
    try:
        found = sets.read(engine, Path(file), Progress(out).image)
    finally:
        engine.close()
    out.line(f"{len(found.images)} images of {', '.join(found.topologies)} are in the engine.")
    _require_fit(found, file)


def _require_fit(found: ImageSet, file: str) -> None:
    """Raises ImageProblem when labs here would not run all of a set's images."""
    from labs import __version__  # noqa: PLC0415 - start-up time

    if strangers := found.strangers:
        raise ImageProblem(
            f"{len(strangers)} of the set's {len(found.images)} images are not those that this version runs",
            where=f"{file}: {', '.join(strangers)}",
            why=f"it was saved by version {found.toolkit} with its recipes, and this is version {__version__}",
            hint="save a set with this version, or use the other one here",
        )


def _names(topologies: str) -> tuple[str, ...]:
    from labs.lab.plan import topologies as known  # noqa: PLC0415 - start-up time

    return words(topologies, known(), "topology") if topologies else known()


def _ensure(engine: Engine, names: tuple[str, ...], out: Output) -> dict[str, str]:
    """References by image name, all of them in the engine."""
    from labs.commands.bringup import Progress  # noqa: PLC0415 - start-up time
    from labs.images import ensure, recipes_for_variables  # noqa: PLC0415
    from labs.lab.plan import every_image_variable  # noqa: PLC0415

    variables = every_image_variable(names)
    recipes = recipes_for_variables(variables)
    found = ensure(engine, variables, Progress(out).image)
    return {recipes[variable].name: reference for variable, reference in found.items()}


def _row(entry: Status, official: str, todo: str) -> dict[str, object]:
    """`up` needs a network for what is neither in the engine nor in the cache."""
    return {
        "image": entry.recipe.name,
        "reference": entry.reference or official,
        "where": entry.where,
        "todo": todo if entry.where == "absent" else "",
    }


def engine_or_none() -> Engine | None:
    """The engine that answers; nothing is started."""
    try:
        return open_engine(start=False)
    except EngineUnavailable:
        return None
