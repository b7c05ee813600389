"""From a grid of relevance to the colour of every pixel. Knows colour limits, units, masks; knows no axes or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from PIL import Image, ImageFilter

from medgemma_visualizer.errors import InputError, unknown_name
from medgemma_visualizer.grid import finite_map, strip_border, upsample
from medgemma_visualizer.settings import VIZ_CONFIG

Film = Image.Image | np.ndarray

#: Blue speaks against, red for; an odd number of steps makes exactly 0 exactly white.
AGAINST_FOR = LinearSegmentedColormap.from_list(
    "against_for", ["#053061", "#2166ac", "#92c5de", "#ffffff", "#f4a582", "#b2182b", "#67001f"], N=257
)
OUTLINE_COLOUR = np.array([0, 229, 255], dtype=np.uint8)
GRID_COLOUR = np.array([235, 235, 235], dtype=np.uint8)


@dataclass(frozen=True)
class Look:
    """How a map is to be drawn. Nothing here changes a number.

    Attributes:
        alpha: Share of colour in the mixture with the film, in [0, 1].
        colormap: A perceptual map by default; "jet" is the specification's.
        clip: Percentiles of the map within the body that get the lowest and the highest colour.
        interpolation: "nearest" shows the cells as they are.
        border_strip: How many outer rings of cells stay unpainted; the picture says so.
        grid_lines: Draws the borders of the cells.
        signed: Values of both signs on a diverging map with white at 0.
        trusted: False draws in grey stripes, stamped "do not trust this map".
        unit: "share" of all relevance in per cent a cell, or the method's own "value".
    """

    alpha: float = cast(float, VIZ_CONFIG["attention_alpha"])
    colormap: str = cast(str, VIZ_CONFIG["colormap"])
    clip: tuple[float, float] = cast(tuple[float, float], VIZ_CONFIG["percentile_clip"])
    interpolation: Literal["nearest", "bilinear", "cubic"] = "bilinear"
    border_strip: int = 0
    grid_lines: bool = False
    signed: bool = False
    trusted: bool = True
    unit: Literal["share", "value"] = "share"

    @classmethod
    def of(cls, wishes: dict[str, Any]) -> Look:
        """The look with those fields set.

        Raises:
            InputError: No such field, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in wishes:
            if name not in known:
                raise unknown_name("drawing option", name, known)
        look = cls(**wishes)
        if not 0 <= look.alpha <= 1:
            raise InputError(f"alpha is {look.alpha:g}; choose a share of colour between 0 and 1.")
        if not 0 <= look.clip[0] < look.clip[1] <= 100:
            raise InputError(f"clip is {look.clip}; choose two percentiles between 0 and 100, the lower one first.")
        look.colours()
        return look

    def colours(self) -> Colormap:
        """The colour map.

        Raises:
            InputError: No colour map of that name.
        """
        if self.signed and self.trusted:
            return AGAINST_FOR
        if self.colormap not in colormaps:
            raise unknown_name("colour map", self.colormap, ("inferno", "viridis", "cividis", "magma", "jet"))
        return colormaps[self.colormap if self.trusted else "gray"]


@dataclass(frozen=True)
class Heat:
    """A map spread over the pixels of a film.

    Attributes:
        values: float32 (height, width), in the unit of `label`.
        painted: bool (height, width): where colour goes.
        low, high: Values that get the lowest and the highest colour.
        label: What the numbers are.
        cells: float64 (rows, cols): the grid in the same unit.
    """

    values: np.ndarray
    painted: np.ndarray
    low: float
    high: float
    label: str
    cells: np.ndarray

    @property
    def flat(self) -> bool:
        """True where all painted pixels have one value, so that no colour can tell anything."""
        return not self.high > self.low


def heat(grid: np.ndarray, shape: tuple[int, int], body: np.ndarray | None, look: Look) -> Heat:
    """Spreads a grid over a film of `shape` and finds the colour limits within the body.

    Args:
        grid: (rows, cols), finite; ≥ 0 unless `look.signed`.
        shape: (height, width) of the film.
        body: bool (height, width); None where the whole film counts.
        look: Unit, interpolation, clipping.

    Raises:
        InputError: The grid or the mask is not such an array; the message says which.
    """
    cells = finite_map(grid)  # (rows, cols)
    if not look.signed and (cells < 0).any():
        raise InputError("The map holds negative values; draw it with Look(signed=True).")
    cells, label = _in_unit(cells, look)
    return _spread(cells, shape, body, look, label)


def difference(
    first: np.ndarray, second: np.ndarray, shape: tuple[int, int], body: np.ndarray | None, look: Look
) -> Heat:
    """First minus second, each as shares of its own relevance, in percentage points a cell."""
    signed = replace(look, signed=True)
    cells = _in_unit(finite_map(first), look)[0] - _in_unit(finite_map(second), look)[0]
    return _spread(
        cells, shape, body, signed, "difference (percentage points)" if look.unit == "share" else "difference"
    )


def same_limits(heats: Sequence[Heat | None]) -> list[Heat | None]:
    """The maps with one pair of colour limits, so that equal colours mean equal numbers; flat maps stay flat."""
    telling = [one for one in heats if one is not None and not one.flat]
    if not telling:
        return list(heats)
    low, high = min(one.low for one in telling), max(one.high for one in telling)
    return [one if one is None or one.flat else replace(one, low=low, high=high) for one in heats]


def beyond(heats: Sequence[Heat]) -> Literal["neither", "min", "max", "both"]:
    """Where values lie outside the shared colour limits, in matplotlib's words."""
    low, high = heats[0].low, heats[0].high
    margin = 1e-3 * (high - low)
    below = any(one.values[one.painted].min() < low - margin for one in heats)
    above = any(one.values[one.painted].max() > high + margin for one in heats)
    return "both" if below and above else "min" if below else "max" if above else "neither"


def paint(film: np.ndarray, warmth: Heat, look: Look) -> np.ndarray:
    """Mixes colours into a film, uint8 (height, width, 3); the film itself is not written to."""
    mixed = film.copy()
    if warmth.flat:
        return mixed
    place = warmth.painted if look.trusted else warmth.painted & ~stripes(warmth.painted.shape)
    colours = look.colours()(Normalize(warmth.low, warmth.high)(warmth.values[place]), bytes=True)[:, :3]  # (pixels, 3)
    mixed[place] = np.rint((1 - look.alpha) * film[place] + look.alpha * colours).astype(np.uint8)
    return mixed


def film_array(image: Film) -> np.ndarray:
    """The image as grey film, a fresh uint8 (height, width, 3).

    Raises:
        InputError: More than 8 bits a sample, which nobody has windowed yet.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise InputError(f"A film must be uint8 to be drawn; got {image.dtype}. Window it to 0–255 first.")
        image = Image.fromarray(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise InputError(f"A film must have 8 bits to be drawn; got mode {image.mode}. Window it to 0–255 first.")
    return np.asarray(image.convert("L").convert("RGB")).copy()


def body_array(body: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """The mask, checked: bool (height, width) of the film, with at least one pixel.

    Raises:
        InputError: It is something else; a mask of 0 and 255 would be read as numbers.
    """
    if body is None:
        return np.ones(shape, dtype=bool)
    if body.dtype != np.bool_ or body.shape != shape:
        raise InputError(f"A mask must be bool {shape}, like the film; got {body.dtype} {body.shape}.")
    if not body.any():
        raise InputError("The body mask is empty, so nothing could be drawn inside it; pass None for the whole film.")
    return body


def draw_outline(film: np.ndarray, mask: np.ndarray) -> None:
    """Draws the contour of a mask into `film`, uint8 (height, width, 3), just outside the mask's own pixels."""
    thickness = max(1, round(max(mask.shape) / 400))
    grown = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * thickness + 1))
    film[(np.asarray(grown) > 0) & ~mask] = OUTLINE_COLOUR


def draw_grid_lines(film: np.ndarray, rows: int, cols: int) -> None:
    """Draws the inner borders of the cells into `film`, uint8 (height, width, 3)."""
    height, width = film.shape[:2]
    film[np.rint(np.arange(1, rows) * height / rows).astype(int)] = GRID_COLOUR
    film[:, np.rint(np.arange(1, cols) * width / cols).astype(int)] = GRID_COLOUR


def _in_unit(cells: np.ndarray, look: Look) -> tuple[np.ndarray, str]:
    total = np.abs(cells).sum()
    if look.unit == "value" or total == 0:
        return cells, "relevance"
    spread = "" if look.signed else f"; even spread: {100 / cells.size:.2g}"
    return 100 * cells / total, f"share of relevance (% a cell{spread})"


def stripes(shape: tuple[int, ...]) -> np.ndarray:
    """Diagonal gaps, bool (height, width): grey alone could be taken for a shadow on the film."""
    step = max(max(shape) // 32, 2)
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y + x) // step % 2 == 0


def _spread(cells: np.ndarray, shape: tuple[int, int], body: np.ndarray | None, look: Look, label: str) -> Heat:
    values = upsample(cells, *shape, look.interpolation)
    painted = body_array(body, shape)
    if look.border_strip:
        inner = strip_border(np.ones_like(cells), look.border_strip)
        painted = painted & (upsample(inner, *shape, "nearest") > 0.5)
    if not painted.any():
        raise InputError(f"border_strip={look.border_strip} leaves no cell of the body to draw; use a smaller number.")
    return Heat(values, painted, *_limits(values[painted], look), label, cells)


def _limits(values: np.ndarray, look: Look) -> tuple[float, float]:
    if look.signed:
        size = np.abs(values)
        reach = float(np.percentile(size, look.clip[1])) or float(size.max())
        return -reach, reach
    low, high = (float(limit) for limit in np.percentile(values, look.clip))
    # A map with few hot cells has equal percentiles; its full range still tells where they are.
    return (low, high) if high > low else (float(values.min()), float(values.max()))
