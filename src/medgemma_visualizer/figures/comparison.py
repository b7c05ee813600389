"""Maps of several prompts side by side, and where they differ. Knows grids and labels; computes no agreement itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures._heat import Film, Heat, Look, difference, heat, paint, same_limits
from medgemma_visualizer.figures._page import INK, LINE_HEIGHT, box, page, picture, stamp, wrapped, write
from medgemma_visualizer.figures.overlay import FLAT, UNAVAILABLE, colour_bar, small_film, small_mask

TILE, GAP, BAR_SPACE, FOOT, COLUMNS = 280, 24, 110, 40, 5
MATRIX_CELL = 36  # pixels that a number of the matrix takes
LINES = 5  # of a title at most: a question and its answer
HEADING = 14 + LINES * LINE_HEIGHT + 6  # pixels above each panel

Panels = Sequence[tuple[str, Heat | None]]


def comparison(
    grids: Sequence[np.ndarray | None],
    labels: Sequence[str],
    js: np.ndarray,
    *,
    image: Film | None = None,
    body_mask: np.ndarray | None = None,
    **look: Any,
) -> Image.Image:
    """All maps with one colour scale, and the first minus each other on a diverging scale with white at 0.

    Two maps and their difference stand side by side (specification 6.4). For more the differences stand below, with the
    matrix of Jensen-Shannon divergences. Colour limits come from the numbers, not from a fixed ±1; with `unit="share"`
    differences are in percentage points a cell.

    Args:
        grids: Two or more (rows, cols) ≥ 0 of one shape; None where no explanation is available.
        labels: One for each grid.
        js: (n, n) Jensen-Shannon divergences in nats, in [0, ln 2]; NaN where there is none.
        image: 8-bit film to draw on; without one the maps stand alone.
        body_mask: bool (height, width) of the image.
        **look: Fields of `Look`.

    Raises:
        InputError: Fewer than two maps, counts that differ, shapes that differ.
    """
    return picture(comparison_page(grids, labels, np.asarray(js, dtype=float), image, body_mask, Look.of(look)))


def comparison_page(
    grids: Sequence[np.ndarray | None],
    labels: Sequence[str],
    js: np.ndarray,
    image: Film | None,
    body: np.ndarray | None,
    look: Look,
) -> Figure:
    """The page behind `comparison`."""
    film, mask, look = _background(image, body, _checked_shape(grids, labels, js), look)
    shape, first, signed = film.shape[:2], grids[0], replace(look, signed=True)
    maps = [None if grid is None else heat(grid, shape, mask, look) for grid in grids]
    gaps = [None if one is None or first is None else difference(first, one, shape, mask, look) for one in grids[1:]]
    numbered = [f"{place}. {label}" for place, label in enumerate(labels, 1)]
    gap_titles = [f"1 − {place + 1} (JS: {_number(js[0, place], 3)} nats)" for place in range(1, len(grids))]
    shown, differ = list(zip(numbered, maps, strict=True)), list(zip(gap_titles, gaps, strict=True))
    if len(grids) == 2:
        return _three_panels(film, shown, differ, look, signed)
    return _blocks(film, shown, differ, look, signed, js)


def _three_panels(film: np.ndarray, shown: Panels, differ: Panels, look: Look, signed: Look) -> Figure:
    """Two maps with their colour bar, and the difference with its own."""
    beside = 2 * (TILE + GAP) + BAR_SPACE
    figure = page(GAP + beside + TILE + GAP + BAR_SPACE, film.shape[0] + HEADING + FOOT)
    _draw_block(figure, film, shown, look, (GAP, 0))
    _draw_block(figure, film, differ, signed, (GAP + beside, 0))
    return figure


def _blocks(film: np.ndarray, shown: Panels, differ: Panels, look: Look, signed: Look, js: np.ndarray) -> Figure:
    """All maps; below them the differences; the matrix in their first place, or below where it is too large."""
    count, row = len(shown), film.shape[0] + HEADING
    columns = min(count, COLUMNS)
    block = -(-count // columns) * row
    width = GAP + columns * (TILE + GAP) + BAR_SPACE
    large = count * MATRIX_CELL > TILE - 24
    side = min(count * MATRIX_CELL, width - 2 * GAP - 24) if large else min(film.shape[0], TILE) - 24
    figure = page(width, 2 * block + FOOT + (side + HEADING + GAP if large else 0))
    _draw_block(figure, film, shown, look, (GAP, 0))
    _draw_block(figure, film, differ, signed, (GAP, block), first_slot=0 if large else 1)
    top = 2 * block if large else block
    write(figure, GAP, top + 14, "Jensen-Shannon divergence (nats)")
    _draw_matrix(box(figure, GAP + 24, top + HEADING, side if large else TILE - 24, side), js, side >= count * 30)
    return figure


def _draw_block(
    figure: Figure, film: np.ndarray, panels: Panels, look: Look, corner: tuple[int, int], first_slot: int = 0
) -> None:
    """Panels in rows of COLUMNS from a corner, one pair of colour limits for all, one colour bar at the right."""
    start, top = corner
    heats = same_limits([one for _, one in panels])
    drawable = [one for one in heats if one is not None and not one.flat]
    columns = min(len(panels) + first_slot, COLUMNS)
    height, width = film.shape[:2]
    for slot, ((title, _), warmth) in enumerate(zip(panels, heats, strict=True), first_slot):
        left, above = start + slot % columns * (TILE + GAP), top + slot // columns * (height + HEADING)
        write(figure, left, above + 14, wrapped(title, TILE, LINES))
        axes = box(figure, left, above + HEADING, width, height)
        axes.imshow(film if warmth is None else paint(film, warmth, look), interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        if warmth is None or warmth.flat:
            stamp(axes, UNAVAILABLE if warmth is None else FLAT, y=0.5, va="center")
    if drawable:
        colour_bar(figure, drawable, look, (start + columns * (TILE + GAP), top + HEADING, height))


def _background(
    image: Film | None, body: np.ndarray | None, shape: tuple[int, int], look: Look
) -> tuple[np.ndarray, np.ndarray | None, Look]:
    """The film to draw on, uint8 (height, width, 3), and its mask; without an image, pure colour in square cells."""
    if image is not None:
        film = np.asarray(small_film(image, TILE))
        return film, small_mask(body, image, film), look
    side = max(TILE // max(shape), 1)
    film = np.full((shape[0] * side, shape[1] * side, 3), 255, dtype=np.uint8)
    return film, None, replace(look, alpha=1.0, interpolation="nearest")


def _number(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _draw_matrix(axes: Axes, js: np.ndarray, numbers_fit: bool) -> None:
    axes.imshow(np.nan_to_num(js), cmap="Greys", vmin=0, vmax=np.log(2))
    for (row, col), value in np.ndenumerate(js) if numbers_fit else ():
        ink = "white" if value > 0.35 else INK
        axes.text(col, row, _number(value, 2), ha="center", va="center", size=8, color=ink)
    numbers = [str(place) for place in range(1, len(js) + 1)]
    axes.set_xticks(range(len(js)), numbers, size=8)
    axes.set_yticks(range(len(js)), numbers, size=8)


def _checked_shape(grids: Sequence[np.ndarray | None], labels: Sequence[str], js: np.ndarray) -> tuple[int, int]:
    count = len(grids)
    if count < 2 or len(labels) != count or js.shape != (count, count):
        raise InputError(
            f"A comparison needs two or more maps, a label for each and all pairs of divergences; "
            f"got {count} maps, {len(labels)} labels and a matrix of {js.shape}."
        )
    shapes = {grid.shape for grid in grids if grid is not None}
    if len(shapes) > 1:
        raise InputError(f"Maps can be compared on one grid only; got {sorted(shapes)}. Use one model for all of them.")
    return next(iter(shapes), (1, 1))
