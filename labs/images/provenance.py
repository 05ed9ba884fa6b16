"""The labels that say where a built image came from, and what results keep of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from labs import __version__
from labs.engine import ImageInfo
from labs.images.builder import cache_folder
from labs.images.catalogue import Recipe, official_recipe
from labs.results import ImageFacts

_PREFIX = "org.mesh-labs."
IMAGE = f"{_PREFIX}image"


def labels(recipe: Recipe, ingredients: Mapping[str, str]) -> dict[str, str]:
    """`ingredients`: go, modules and packages, as the builder found them."""
    facts = {
        "image": recipe.name,
        "version": recipe.spec.version,
        "recipe": recipe.hash,
        "source": "build",
        "official": recipe.spec.official or "",
        "stand-in": recipe.spec.stand_in,
        "toolkit": __version__,
        **ingredients,
    }
    return {_PREFIX + key: value for key, value in facts.items() if value}


def image_facts(image: ImageInfo) -> ImageFacts:
    """What a result keeps of the image that ran.

    An image with an official name and no digest was carried here: archives of images hold no digests. Its id, which is
    made of its content, then leads to the digest that was known where it came from.
    """
    built = image.labels.get(f"{_PREFIX}source")
    mirrored = official_recipe(image.reference)
    digest = image.digest or carried_digests().get(image.id)
    return ImageFacts(
        reference=image.reference,
        source=built or ("pull" if image.digest else "load" if digest else "unknown"),
        official=image.reference if mirrored else image.labels.get(f"{_PREFIX}official"),
        version=mirrored.spec.version if mirrored else image.labels.get(f"{_PREFIX}version"),
        digest=digest,
        id=image.id,
    )


def carried_digests() -> dict[str, str]:
    """By image id, the repository digests of images that came in a set (`labs.images.sets`)."""
    try:
        found: dict[str, str] = json.loads(_carried().read_text())
    except FileNotFoundError:
        return {}
    return found


def remember_digests(digests: Mapping[str, str]) -> None:
    """Keep the digests of images, by id: the engine forgets them when it takes in an archive."""
    if digests:
        file = _carried()
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        beside.write_text(json.dumps({**carried_digests(), **digests}, indent=2) + "\n")
        beside.rename(file)


def _carried() -> Path:
    return cache_folder(os.environ) / "carried.json"
