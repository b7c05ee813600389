"""Where on a film something is: boxes, ellipses, run-length masks and pictures of masks, drawn when they are asked for.

Knows shapes, the film size that they were drawn on, and how to bring them to the film at hand; does not know which data
set they are of (`region_sets`). A shape takes some hundred bytes until then, so that sets of any size can have them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from medgemma_visualizer.data.photo import grayscale, open_image
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import boxes_to_mask, coverage, ellipses_to_mask

Size: TypeAlias = tuple[int, int]

#: Films are copied smaller, but not squeezed: sides may differ by rounding only.
_SQUEEZED = 0.02
#: How far outlines may reach beyond a film before it cannot be the one that they were drawn on, in shares of a side.
_BEYOND = 0.01
#: How far the long side may be from what is known of it roughly.
_ROUGHLY = 0.1


@dataclass(frozen=True, slots=True)
class Box:
    """(x0, y0) to (x1, y1) in pixels, edges continuous; `round` for the upright ellipse within."""

    x0: float
    y0: float
    x1: float
    y1: float
    round: bool = False


@dataclass(frozen=True, slots=True)
class RunLengths:
    """A mask (height, width) as COCO packs it: run lengths down the columns, the first one outside the region."""

    height: int
    width: int
    counts: str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A black-and-white picture, white inside."""

    path: Path


Shape: TypeAlias = Box | RunLengths | MaskFile


@dataclass(frozen=True, slots=True)
class Outline:
    """What one region is made of: the union of its shapes.

    Attributes:
        shapes: At least one.
        size: (height, width) of the film that boxes are measured on; None for the film at hand, whatever its size.
        long_side: Where only that is known of the size, and only roughly: its longer side in pixels.
    """

    shapes: tuple[Shape, ...]
    size: Size | None = None
    long_side: float | None = None


class DrawnRegions(Mapping[str, np.ndarray]):
    """Finding or structure -> bool mask (height, width) of the film, drawn each time it is asked for.

    Args:
        film: The picture, whose size masks have.
        outlines: Name -> outline.
    """

    __slots__ = ("film", "outlines")

    def __init__(self, film: Path | str | Image.Image, outlines: Mapping[str, Outline]) -> None:
        self.film = film
        self.outlines = outlines

    def __getitem__(self, name: str) -> np.ndarray:
        """The mask.

        Raises:
            KeyError: No such region on this film.
            InputError: The film is not of the size or shape that the region was drawn on, or cannot be read.
        """
        outline = self.outlines[name]
        width, height = open_image(self.film, allow_lateral=True).size
        return draw(outline, (height, width), repr(name))

    def digest(self, name: str) -> str:
        """Sixteen hex digits that change when the region does, wherever the film and files of masks lie.

        Raises:
            KeyError: No such region on this film.
            InputError: The file of a mask cannot be read.
        """
        outline = self.outlines[name]
        shapes = [mask_digest(one.path) if isinstance(one, MaskFile) else repr(one) for one in outline.shapes]
        return hashlib.sha256(repr((shapes, outline.size, outline.long_side)).encode()).hexdigest()[:16]

    def __contains__(self, name: object) -> bool:
        return name in self.outlines

    def __iter__(self) -> Iterator[str]:
        return iter(self.outlines)

    def __len__(self) -> int:
        return len(self.outlines)

    def __repr__(self) -> str:
        return f"DrawnRegions({', '.join(self)})"


def draw(outline: Outline, size: Size, name: str = "region") -> np.ndarray:
    """The region as bool (height, width).

    A box counts the pixels that it covers by half or more, an ellipse those whose centre it holds; masks of another
    size are brought to the film's by area, a pixel counting where half of it is covered.

    Args:
        outline: What to draw.
        size: (height, width) of the film at hand.
        name: Of the region, for messages.

    Raises:
        InputError: The film is not a copy of the one that the region was drawn on: another shape, or too small.
    """
    _refuse_other_film(outline, size, name)
    boxes = [shape for shape in outline.shapes if isinstance(shape, Box)]
    mask = _boxes(boxes, outline.size or size, size, name) if boxes else np.zeros(size, bool)
    for shape in outline.shapes:
        if not isinstance(shape, Box):
            mask |= _fitted(_stored(shape, name), size, name)
    return mask


def read_mask(path: Path) -> np.ndarray:
    """A black-and-white picture as bool (height, width).

    Raises:
        InputError: The file is missing, damaged, or holds levels between black and white.
    """
    levels = grayscale(open_image(path))
    if not np.isin(levels, (0, 255)).all():
        raise InputError(f"The mask {str(path)!r} holds levels between black and white; save it with one bit a pixel.")
    return levels > 0


def mask_digest(path: Path) -> str:
    """Sixteen hex digits over a mask's file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"The mask {str(path)!r} cannot be read ({error.strerror}); restore it.") from error


def decode_counts(counts: str) -> tuple[int, ...]:
    """COCO's text of run lengths as numbers.

    Each number is written in groups of five bits, the lowest first, as characters from 48 on; the sixth bit says that
    more follow, the highest bit of the last group is the sign, and from the fourth number on it is the difference to
    the number two before. Source: `rleFrString` of the COCO API (Lin et al. 2014, "Microsoft COCO").

    Raises:
        InputError: The text holds other characters, or ends within a number.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise InputError(f"The run lengths hold the character {character!r}, which COCO's text has not.")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            signed = value - (1 << shift) if group & 16 else value
            runs.append(signed + runs[-2] if len(runs) > 2 else signed)
            value = shift = 0
    if shift:
        raise InputError("The run lengths end within a number; the file is cut short.")
    return tuple(runs)


def unpack(lengths: RunLengths, name: str = "region") -> np.ndarray:
    """The mask, bool (height, width).

    Raises:
        InputError: The runs cannot be read or do not add up to the mask's size; the message names the region.
    """
    try:
        runs = decode_counts(lengths.counts) if isinstance(lengths.counts, str) else lengths.counts
    except InputError as error:
        raise InputError(f"The mask of {name} cannot be read: {error}") from error
    pixels = lengths.height * lengths.width
    if sum(runs) != pixels or any(run < 0 for run in runs):
        raise InputError(
            f"The run lengths of {name}, {sum(runs):,} pixels, do not make a mask of {lengths.height} x "
            f"{lengths.width}; the file is damaged or gives the size the wrong way round."
        )
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape((lengths.height, lengths.width), order="F")


def _stored(shape: RunLengths | MaskFile, name: str) -> np.ndarray:
    return unpack(shape, name) if isinstance(shape, RunLengths) else read_mask(shape.path)


def _refuse_other_film(outline: Outline, size: Size, name: str) -> None:
    if outline.size is not None:
        _refuse_squeezed(outline.size, size, name)
    if outline.long_side is not None and abs(max(size) / outline.long_side - 1) > _ROUGHLY:
        raise InputError(
            f"The region {name} was drawn on a film of about {outline.long_side:.0f} pixels on its long side; this one "
            f"has {size[0]} x {size[1]} (height x width). Use the film as archived, or add MIMIC-CXR's metadata table."
        )


def _refuse_squeezed(drawn: Size, size: Size, name: str) -> None:
    if abs((size[0] / size[1]) / (drawn[0] / drawn[1]) - 1) > _SQUEEZED + 1 / min(size):
        raise InputError(
            f"The region {name} was drawn on a film of {drawn[0]} x {drawn[1]} pixels (height x width); this one has "
            f"{size[0]} x {size[1]}, which is another shape. Use the film as archived."
        )


def _boxes(boxes: Sequence[Box], drawn: Size, size: Size, name: str) -> np.ndarray:
    down, across = size[0] / drawn[0], size[1] / drawn[1]
    brought = {kind: [_brought(box, down, across) for box in boxes if box.round == kind] for kind in (False, True)}
    for box in (box for several in brought.values() for box in several):
        _refuse_beyond(box, size, name)
    mask = ellipses_to_mask(brought[True], *size)
    for box in brought[False]:
        _fill(mask, box)
    return mask


def _fill(mask: np.ndarray, box: tuple[float, float, float, float]) -> None:
    """Adds a box, looking only at the pixels that it touches."""
    height, width = mask.shape
    left, top = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0)
    right, bottom = min(math.ceil(box[2]), width), min(math.ceil(box[3]), height)
    inner = [(box[0] - left, box[1] - top, box[2] - left, box[3] - top)]
    mask[top:bottom, left:right] |= boxes_to_mask(inner, bottom - top, right - left)


def _brought(box: Box, down: float, across: float) -> tuple[float, float, float, float]:
    return box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down


def _refuse_beyond(box: tuple[float, float, float, float], size: Size, name: str) -> None:
    height, width = size
    beyond = max(-box[0], box[2] - width) > 1 + _BEYOND * width or max(-box[1], box[3] - height) > 1 + _BEYOND * height
    if beyond:
        told = ", ".join(f"{edge:g}" for edge in box)
        raise InputError(
            f"The region {name} reaches beyond the film: ({told}) on {height} x {width} pixels (height x width). It "
            "was drawn on a larger one; use the film as archived."
        )


def _fitted(mask: np.ndarray, size: Size, name: str) -> np.ndarray:
    if mask.shape == size:
        return mask
    _refuse_squeezed((mask.shape[0], mask.shape[1]), size, name)
    return coverage(mask, *size) >= 0.5
