"""Many small maps of one film on one page: all methods, or all tokens of an answer. Knows tiles; knows no method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures._heat import Film, Heat, Look, heat, paint, same_limits
from medgemma_visualizer.figures._page import LINE_HEIGHT, QUIET, box, page, picture, stamp, wrapped, write
from medgemma_visualizer.figures.overlay import (
    colour_bar,
    grid_of,
    reasons_of,
    small_film,
    small_mask,
    unavailable_text,
    warnings_of,
)
from medgemma_visualizer.records import Heatmap

SHEET_TILE, STRIP_TILE, GAP, TOP, FOOT = 240, 150, 16, 16, 40


@dataclass(frozen=True)
class Tile:
    """One small picture.

    Attributes:
        label: Written above: a method, a prompt, a token.
        heatmap: What to draw; None for "no explanation available".
        caption: Written below.
        reason: Why there is no map, where `heatmap` is None.
    """

    label: str
    heatmap: Heatmap | np.ndarray | None
    caption: str = ""
    reason: str = ""


def contact_sheet(
    image: Film, tiles: Sequence[Tile], body_mask: np.ndarray | None = None, *, columns: int = 4, **look: Any
) -> Image.Image:
    """Maps side by side, each with colour limits of its own, which are written below it.

    Raises:
        InputError: No tiles, or as in `overlay`.
    """
    return picture(sheet_page(image, tiles, body_mask, columns, SHEET_TILE, Look.of(look), shared=False))


def token_strip(
    image: Film, tiles: Sequence[Tile], body_mask: np.ndarray | None = None, *, columns: int = 8, **look: Any
) -> Image.Image:
    """One small map a token, in reading order, all with the same colours for the same numbers, and one colour bar.

    Raises:
        InputError: No tiles, or as in `overlay`.
    """
    return picture(sheet_page(image, tiles, body_mask, columns, STRIP_TILE, Look.of(look), shared=True))


def sheet_page(
    image: Film, tiles: Sequence[Tile], body: np.ndarray | None, columns: int, size: int, look: Look, shared: bool
) -> Figure:
    """The page behind `contact_sheet` and `token_strip`."""
    if not tiles:
        raise InputError("There is nothing to draw; pass at least one tile.")
    film = np.asarray(small_film(image, size))
    heats = _heats(tiles, film, small_mask(body, image, film), look, shared)
    columns = min(columns, len(tiles))
    width, height = size + GAP, film.shape[0] + 4 * LINE_HEIGHT + GAP
    rows = -(-len(tiles) // columns)
    drawable = [one for one in heats if one is not None and not one.flat]
    figure = page(max(GAP + columns * width, 300) + 130 * (shared and bool(drawable)), TOP + rows * height + FOOT)
    for place, (tile, warmth) in enumerate(zip(tiles, heats, strict=True)):
        corner = GAP + place % columns * width, TOP + place // columns * height
        _draw_tile(figure, tile, warmth, film, corner, look, own_limits=not shared)
    if shared and drawable:
        colour_bar(figure, drawable, look, (GAP + columns * width, TOP, rows * height))
    return figure


def _heats(
    tiles: Sequence[Tile], film: np.ndarray, body: np.ndarray | None, look: Look, shared: bool
) -> list[Heat | None]:
    grids = [grid_of(tile.heatmap, look) for tile in tiles]
    heats = [None if grid is None else heat(grid, film.shape[:2], body, look) for grid in grids]
    return same_limits(heats) if shared else heats


def _draw_tile(
    figure: Figure,
    tile: Tile,
    warmth: Heat | None,
    film: np.ndarray,
    corner: tuple[int, int],
    look: Look,
    own_limits: bool,
) -> None:
    left, top = corner
    height, width = film.shape[:2]
    write(figure, left, top, wrapped(tile.label, width, 1))
    axes = box(figure, left, top + LINE_HEIGHT, width, height)
    axes.imshow(film if warmth is None else paint(film, warmth, look), interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    reasons = {"reason": tile.reason} if tile.reason else reasons_of(tile.heatmap)
    notes = warnings_of(tile.heatmap, warmth, look)
    if warmth is None:
        stamp(axes, unavailable_text(reasons, width - 30), y=0.5, va="center", size=7)
    elif notes:
        stamp(axes, wrapped("; ".join(notes), width - 10, 3), size=6)
    limits = _limits_text(warmth) if own_limits and warmth is not None and not warmth.flat else ""
    below = [wrapped(text, width + 60, 2) for text in (tile.caption, limits) if text]
    write(figure, left, top + LINE_HEIGHT + height + 6, "\n".join(below), size=7, color=QUIET)


def _limits_text(warmth: Heat) -> str:
    unit = "%" if warmth.label.startswith("share") else ""
    return f"colours: {warmth.low:.3g} to {warmth.high:.3g} {unit}"
