"""One map over one film. Knows what must be said beside a map; knows nothing about how the map was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures._heat import (
    Film,
    Heat,
    Look,
    beyond,
    body_array,
    draw_grid_lines,
    draw_outline,
    film_array,
    heat,
    paint,
)
from medgemma_visualizer.figures._page import (
    INK,
    LINE_HEIGHT,
    QUIET,
    UNKNOWN_CHARACTER,
    box,
    page,
    picture,
    printable,
    stamp,
    wrapped,
    write,
)
from medgemma_visualizer.records import Heatmap

FILM_PIXELS = 720  # the longer side of the film on the page
MARGIN, BAR_SPACE, FOOT = 36, 150, 76
UNAVAILABLE = "no explanation available"
FLAT = "the map has the same value everywhere"
#: The verdict whose maps lose their colours.
DISTRUSTED = "do not trust"


class Trust(Protocol):
    """A verdict on a map: "trust", "with care" or "do not trust", and why, the gravest reason first."""

    @property
    def word(self) -> str: ...

    @property
    def reasons(self) -> Sequence[str]: ...


def overlay(
    image: Film,
    heatmap: Heatmap | np.ndarray | None,
    body_mask: np.ndarray | None = None,
    *,
    question: str = "",
    answer: str = "",
    outline: np.ndarray | None = None,
    view: str | None = None,
    trust: Trust | None = None,
    **look: Any,
) -> Image.Image:
    """The map over the film, with a colour bar in the map's own numbers (specification 9.1, corrected).

    Colour ends at the body's edge in the picture only; no number is changed. A heatmap that is not available is drawn
    as the bare film with the reasons, never as a map.

    Args:
        image: 8-bit film of any size.
        heatmap: A `Heatmap`; or a bare grid (rows, cols) ≥ 0; or None for "no explanation available".
        body_mask: bool (height, width): colour limits are taken, and colour is drawn, inside it.
        question: Written above the film.
        answer: Written above the film.
        outline: bool (height, width): a known region whose contour is drawn.
        view: "PA", "AP" or None are taken for frontal, and the patient's sides are marked; other views carry no sides.
        trust: Stamped on the film with its first reason; a map not to be trusted is drawn in grey stripes.
        **look: Fields of `Look`: alpha, colormap, clip, interpolation, border_strip, grid_lines, signed, trusted, unit.

    Returns:
        An RGB picture, the longer side of the film 720 pixels.

    Raises:
        InputError: An image that is not 8-bit, masks that are not bool of the image's shape, an unknown option.
    """
    titles = {"Question": question, "Answer": answer, "Map": _provenance(heatmap)}
    return picture(overlay_page(image, heatmap, body_mask, titles, outline, view, Look.of(look), trust))


def overlay_array(
    image: Film,
    heatmap: Heatmap | np.ndarray | None,
    body_mask: np.ndarray | None = None,
    *,
    outline: np.ndarray | None = None,
    **look: Any,
) -> np.ndarray:
    """The same colours without page and words, uint8 (height, width, 3) at the film's own size.

    A heatmap that is not available leaves the film as it is. Arguments and errors as in `overlay`.
    """
    chosen = Look.of(look)
    film = film_array(image)
    grid = grid_of(heatmap, chosen)
    warmth = None if grid is None else heat(grid, film.shape[:2], body_mask, chosen)
    return _decorated(film, grid, warmth, outline, chosen)


def grid_of(heatmap: Heatmap | np.ndarray | None, look: Look) -> np.ndarray | None:
    """The numbers to draw, (rows, cols); None where no explanation is available.

    Raises:
        InputError: A signed picture of a method without a sign.
    """
    if not isinstance(heatmap, Heatmap):
        return heatmap
    if not look.signed or heatmap.grid is None:
        return heatmap.grid
    if heatmap.signed is None:
        raise InputError(f"Method {heatmap.method!r} has no sign; draw its map with signed=False.")
    return heatmap.signed


def reasons_of(heatmap: Heatmap | np.ndarray | None) -> Mapping[str, str]:
    """Why methods failed, by name."""
    return heatmap.fallbacks if isinstance(heatmap, Heatmap) else {}


def warnings_of(heatmap: Heatmap | np.ndarray | None, warmth: Heat | None, look: Look) -> list[str]:
    """What a reader must know before believing the colours."""
    notes = {
        "do not trust this map": not look.trusted and warmth is not None,
        "text-independent: the same map for any question": isinstance(heatmap, Heatmap) and heatmap.text_independent,
        FLAT: warmth is not None and warmth.flat,
        f"outer {look.border_strip} ring(s) of cells not painted": look.border_strip > 0 and warmth is not None,
    }
    return [note for note, holds in notes.items() if holds]


def unavailable_text(reasons: Mapping[str, str], width: int) -> str:
    """The words that stand in a map's place, wrapped to `width` pixels."""
    lines = [wrapped(f"{name}: {reason}", width, 3) for name, reason in reasons.items()]
    return "\n".join([UNAVAILABLE, *lines])


def small_film(image: Film, longest: int) -> Image.Image:
    """The film, grey, scaled so that its longer side has that many pixels."""
    film = Image.fromarray(film_array(image))
    scale = longest / max(film.size)
    return film.resize(
        (max(round(film.width * scale), 1), max(round(film.height * scale), 1)), Image.Resampling.LANCZOS
    )


def small_mask(mask: np.ndarray | None, image: Film, film: np.ndarray) -> np.ndarray | None:
    """A mask of the image, checked, at the size of the scaled film (height, width, 3)."""
    if mask is None:
        return None
    size = image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])
    checked = Image.fromarray(body_array(mask, (size[1], size[0])))
    return np.asarray(checked.resize((film.shape[1], film.shape[0]), Image.Resampling.NEAREST))


def overlay_page(
    image: Film,
    heatmap: Heatmap | np.ndarray | None,
    body: np.ndarray | None,
    titles: Mapping[str, str],
    outline: np.ndarray | None,
    view: str | None,
    look: Look,
    trust: Trust | None = None,
) -> Figure:
    """The page behind `overlay`, with its words still readable by a program."""
    if trust is not None and trust.word == DISTRUSTED:
        look = replace(look, trusted=False)
    film = np.asarray(small_film(image, FILM_PIXELS))
    grid = grid_of(heatmap, look)
    warmth = None if grid is None else heat(grid, film.shape[:2], small_mask(body, image, film), look)
    drawn = _decorated(film, grid, warmth, small_mask(outline, image, film), look)
    height, width = drawn.shape[:2]
    has_bar = warmth is not None and not warmth.flat
    page_width = max(width, 420) + 2 * MARGIN + BAR_SPACE * has_bar
    heading = [line for name, text in titles.items() if text for line in _heading(name, text, page_width)]
    top = 14 + LINE_HEIGHT * len(heading) + 8
    figure = page(page_width, top + height + FOOT)
    write(figure, MARGIN, 10, "\n".join(heading), linespacing=1.35)
    axes = box(figure, MARGIN, top, width, height)
    axes.imshow(drawn, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    _write_sides(figure, view, top + height // 2, width)
    notes = [*warnings_of(heatmap, warmth, look), *_verdict(trust, warmth, width)]
    if notes:
        stamp(axes, "\n".join(notes))
    if warmth is None:
        stamp(axes, unavailable_text(reasons_of(heatmap), width - 80), y=0.5, va="center")
    elif has_bar:
        colour_bar(figure, [warmth], look, (MARGIN + width + 34, top, height))
    shown = " ".join([*titles.values(), *reasons_of(heatmap).values()])
    notes = _foot_notes(look if has_bar else None, body is not None, outline is not None, _frontal(view), shown)
    write(figure, MARGIN, top + height + 10, wrapped("; ".join(notes), page_width - 2 * MARGIN), size=8, color=QUIET)
    return figure


def _verdict(trust: Trust | None, warmth: Heat | None, width: int) -> list[str]:
    """The verdict with its first reason, where there is a map that it is about."""
    if trust is None or warmth is None:
        return []
    said = "" if trust.word == DISTRUSTED else f"{trust.word}: "  # `warnings_of` says the former
    return [wrapped(said + trust.reasons[0], width - 40)]


def _provenance(heatmap: Heatmap | np.ndarray | None) -> str:
    if not isinstance(heatmap, Heatmap):
        return ""
    asked = "" if heatmap.requested == heatmap.method else f" (requested: {heatmap.requested})"
    method = heatmap.method if heatmap.available else "none"
    return f"{method}{asked}, target: {heatmap.target.text}" + (f", model: {heatmap.model}" if heatmap.model else "")


def _heading(name: str, text: str, width: int) -> list[str]:
    return wrapped(f"{name}: {text}", width - 2 * MARGIN).split("\n")


def _decorated(
    film: np.ndarray, grid: np.ndarray | None, warmth: Heat | None, outline: np.ndarray | None, look: Look
) -> np.ndarray:
    """The film with colour, cell borders and contour, uint8 (height, width, 3)."""
    drawn = film.copy() if warmth is None else paint(film, warmth, look)
    if look.grid_lines and grid is not None:
        draw_grid_lines(drawn, *grid.shape)
    if outline is not None and np.any(outline):
        draw_outline(drawn, body_array(outline, film.shape[:2]))
    return drawn


def _frontal(view: str | None) -> bool:
    return view is None or view.upper() in ("PA", "AP")


def _write_sides(figure: Figure, view: str | None, middle: int, width: int) -> None:
    """Marks the patient's sides beside a frontal film: image left is the patient's right."""
    if _frontal(view):
        write(figure, MARGIN / 2, middle, "R", ha="center", va="center", color=QUIET, size=11)
        write(figure, MARGIN + width + 14, middle, "L", ha="center", va="center", color=QUIET, size=11)


def colour_bar(figure: Figure, heats: Sequence[Heat], look: Look, place: tuple[int, int, int]) -> None:
    """A bar with numbers for maps with the same colour limits, at (left, top, height of the film) in pixels."""
    left, top, height = place
    warmth = heats[0]
    axes = box(figure, left, top + height // 8, 16, max(height * 3 // 4, 60))
    scale = ScalarMappable(Normalize(warmth.low, warmth.high), look.colours())
    bar = figure.colorbar(scale, cax=axes, extend=beyond(heats), extendfrac=0.03)
    bar.set_label(wrapped(warmth.label, height), size=8, color=INK, parse_math=False)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_linewidth(0.5)


def _foot_notes(painted: Look | None, has_body: bool, outlined: bool, frontal: bool, shown: str) -> list[str]:
    """What the colours, the line and the letters on the page mean."""
    notes: dict[str, bool] = {"R, L: the patient's sides": frontal, "cyan: contour of the known region": outlined}
    if painted is not None:
        where = "within the body" if has_body else "of the film"
        notes |= {f"colours span percentiles {painted.clip[0]:g} to {painted.clip[1]:g} {where}": True}
        notes |= {"red speaks for the target, blue against it": painted.signed and painted.trusted}
    notes |= {f"{UNKNOWN_CHARACTER}: a character that this picture's font lacks": printable(shown) != shown}
    return [note for note, holds in notes.items() if holds]
