"""What is happening to an image, for whoever shows progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageEvent:
    """`phase` is one of pulling, not pulled:, loading, compiling, packing, preparing, ready; `detail` says what
    exactly."""

    image: str
    phase: str
    detail: str = ""


OnImage = Callable[[ImageEvent], None]
