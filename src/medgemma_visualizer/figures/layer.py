"""A map as a layer of its own, to be laid over a film by whoever shows both. Knows colours and transparency only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from medgemma_visualizer.figures._heat import Film, Look, body_array, draw_outline, heat, stripes
from medgemma_visualizer.figures.overlay import grid_of
from medgemma_visualizer.records import Heatmap

#: Steps of a colour bar.
STEPS = 9


@dataclass(frozen=True)
class Layer:
    """The colours of one map.

    Attributes:
        pixels: uint8 (height, width, 4); transparent where nothing is painted, else opaque.
        low, high: Values that get the first and the last colour.
        label: What the numbers are.
        colours: `STEPS` colours from low to high, as "#rrggbb".
        cells: float64 (rows, cols): the numbers in the unit of `label`.
        flat: True where all painted pixels have one value, so that nothing is painted.
    """

    pixels: np.ndarray
    low: float
    high: float
    label: str
    colours: tuple[str, ...]
    cells: np.ndarray
    flat: bool


def map_layer(
    heatmap: Heatmap | np.ndarray | None, shape: tuple[int, int], body_mask: np.ndarray | None = None, **look: Any
) -> Layer | None:
    """The same colours as `overlay_array` mixes into a film, without the film; None where no explanation is available.

    Args:
        heatmap: As in `overlay`.
        shape: (height, width) of the layer.
        body_mask: bool of that shape: colour limits are taken, and colour is drawn, inside it.
        **look: Fields of `Look`; `alpha` is left to whoever lays the layer over the film.

    Raises:
        InputError: As in `overlay_array`.
    """
    chosen = Look.of(look)
    grid = grid_of(heatmap, chosen)
    if grid is None:
        return None
    warmth = heat(grid, shape, body_mask, chosen)
    place = warmth.painted if chosen.trusted else warmth.painted & ~stripes(shape)
    colours = chosen.colours()
    pixels = np.zeros((*shape, 4), dtype=np.uint8)
    if not warmth.flat:
        scaled = (warmth.values[place] - warmth.low) / (warmth.high - warmth.low)
        pixels[place] = colours(np.clip(scaled, 0, 1), bytes=True)
    bar = tuple(to_hex(colours(step)) for step in np.linspace(0, 1, STEPS))
    return Layer(pixels, warmth.low, warmth.high, warmth.label, bar, warmth.cells, warmth.flat)


def outline_layer(mask: np.ndarray, image: Film) -> np.ndarray:
    """The contour of a region of the image, uint8 (height, width, 4), transparent elsewhere.

    Raises:
        InputError: The mask is not bool of the image's shape, or empty.
    """
    size = image.size[::-1] if not isinstance(image, np.ndarray) else image.shape[:2]
    checked = body_array(mask, (size[0], size[1]))
    drawn = np.zeros((*checked.shape, 3), dtype=np.uint8)
    draw_outline(drawn, checked)
    return np.dstack([drawn, np.where(drawn.any(axis=-1), 255, 0).astype(np.uint8)])
