"""Where an image comes from: the engine has it, it is pulled, the cache has it, or it is built."""

from labs.images.catalogue import Recipe, catalogue, is_the_real_thing, official_recipe, recipe, recipes_for_variables
from labs.images.events import ImageEvent, OnImage
from labs.images.provenance import image_facts
from labs.images.sources import Status, ensure, rebuild, status
from labs.images.sourcing import Source, Sourcing, sourcing

__all__ = [
    "ImageEvent",
    "OnImage",
    "Recipe",
    "Source",
    "Sourcing",
    "Status",
    "catalogue",
    "ensure",
    "image_facts",
    "is_the_real_thing",
    "official_recipe",
    "rebuild",
    "recipe",
    "recipes_for_variables",
    "sourcing",
    "status",
]
