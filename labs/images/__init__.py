"""Where an image comes from: the engine has it, the cache has it, or it is built."""

from labs.images.catalogue import Recipe, catalogue, recipe, recipes_for_variables
from labs.images.events import ImageEvent, OnImage
from labs.images.provenance import image_facts
from labs.images.sources import Status, ensure, rebuild, status

__all__ = [
    "ImageEvent",
    "OnImage",
    "Recipe",
    "Status",
    "catalogue",
    "ensure",
    "image_facts",
    "rebuild",
    "recipe",
    "recipes_for_variables",
    "status",
]
