"""Changes to a rectangle of a film, by which a visitor asks what the answer hangs on. Knows pixels; asks no model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.registry import Registry

#: (left, top, right, bottom) in pixels; right and bottom are outside.
Box = tuple[int, int, int, int]

#: Name -> (film, box) -> a changed copy.
EDITS: Registry[Callable[[Image.Image, Box], Image.Image]] = Registry("edit")
LABELS = {"erase": "Erase (mean of the surrounding)", "blur": "Blur", "white": "Paint white"}

#: Width of the surrounding that is averaged, and of the blur, as shares of the film's longer side.
_RIM, _SIGMA = 1 / 32, 10 / 224


def box_of(image: Image.Image, x0: float, y0: float, x1: float, y1: float) -> Box:
    """The pixels that a rectangle, given by fractions of the film, touches.

    Raises:
        InputError: It is none, or covers no pixel.
    """
    corners = (x0, y0, x1, y1)
    if not all(isinstance(n, int | float) and 0 <= n <= 1 for n in corners) or x1 <= x0 or y1 <= y0:
        raise InputError("That is no rectangle on the film. Drag from one corner to the opposite one.")
    width, height = image.size
    left, top = int(x0 * width), int(y0 * height)
    return left, top, min(width, max(left + 1, round(x1 * width))), min(height, max(top + 1, round(y1 * height)))


@EDITS.register("erase")
def erase(image: Image.Image, box: Box) -> Image.Image:
    """The rectangle becomes the mean of a rim around it; of the whole film's mean where there is no rim."""
    pixels = np.asarray(image).copy()
    rim = max(1, round(max(image.size) * _RIM))
    left, top, right, bottom = box
    around = np.zeros(pixels.shape[:2], dtype=bool)
    around[max(0, top - rim) : bottom + rim, max(0, left - rim) : right + rim] = True
    around[top:bottom, left:right] = False
    chosen = pixels[around] if around.any() else pixels.reshape(-1, *pixels.shape[2:])
    pixels[top:bottom, left:right] = np.rint(chosen.mean(axis=0)).astype(np.uint8)
    return Image.fromarray(pixels)


@EDITS.register("blur")
def blur(image: Image.Image, box: Box) -> Image.Image:
    """The rectangle is blurred, σ = 10 pixels on a film of 224, from the film as it is around it."""
    blurred = image.filter(ImageFilter.GaussianBlur(max(image.size) * _SIGMA))
    changed = image.copy()
    changed.paste(blurred.crop(box), box)
    return changed


@EDITS.register("white")
def white(image: Image.Image, box: Box) -> Image.Image:
    """The rectangle becomes white, as if something let no ray through."""
    changed = image.copy()
    changed.paste((255,) * len(image.getbands()), box)
    return changed
