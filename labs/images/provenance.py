"""The labels that say where a built image came from, and what results keep of them."""

from __future__ import annotations

from collections.abc import Mapping

from labs import __version__
from labs.engine import ImageInfo
from labs.images.catalogue import Recipe
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
    """What a result keeps of the image that ran."""
    built = image.labels.get(f"{_PREFIX}source")
    return ImageFacts(
        reference=image.reference,
        source=built or ("pull" if image.digest else "unknown"),
        official=image.labels.get(f"{_PREFIX}official"),
        version=image.labels.get(f"{_PREFIX}version"),
        digest=image.digest,
        id=image.id,
    )
