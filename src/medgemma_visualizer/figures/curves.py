"""Deletion and insertion curves beside those of maps that know nothing. Knows lists of numbers; asks no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures._page import INK, LINE_HEIGHT, QUIET, box, page, picture, printable, wrapped, write

#: Colours that colour-blind readers can tell apart (Okabe and Ito 2008); the lines differ in dashes, too.
COLOURS = {"map": "#0072b2", "inverse": "#d55e00", "centre": "#009e73", "random": "#7f7f7f"}
DASHES = {"map": "-", "inverse": "--", "centre": "-.", "random": "-"}
LABELS = {"map": "this map", "inverse": "its inverse", "centre": "centre first"}
PANEL_WIDTH, PANEL_HEIGHT, LEFT, GAP, LEGEND, FOOT = 330, 210, 70, 50, 200, 40
TITLES = {"without": "cells removed, most relevant first", "alone": "cells revealed, most relevant first"}
BETWEEN = 84  # from one row of panels to the next: axis labels and the next title


class Response(Protocol):
    """f along one order of the cells: each (F,), shares ascending from 0 to 1."""

    @property
    def shares(self) -> np.ndarray: ...

    @property
    def without(self) -> np.ndarray: ...

    @property
    def alone(self) -> np.ndarray: ...


class Curves(Protocol):
    """All responses under one imputer; the random ones share their shares."""

    @property
    def map(self) -> Response: ...

    @property
    def inverse(self) -> Response: ...

    @property
    def centre(self) -> Response: ...

    @property
    def randoms(self) -> Sequence[Response]: ...

    @property
    def prior(self) -> float: ...


def curves_figure(
    curves: Mapping[str, Curves],
    *,
    verdict: str = "",
    unit: str = "probability",
    sides: Sequence[str] = tuple(TITLES),
) -> Image.Image:
    """One row an imputer: f as cells are removed (left) and revealed (right).

    The map, its inverse and the centre prior are lines; random maps are their mean with a band from the lowest to the
    highest of them; f of the fully masked picture is a dotted line across.

    Args:
        curves: By imputer.
        verdict: Written above.
        unit: What f is.
        sides: "without", "alone", or both, from left to right.

    Raises:
        InputError: There are no curves.
    """
    return picture(curves_page(curves, verdict, unit, sides))


def curves_page(curves: Mapping[str, Curves], verdict: str, unit: str, sides: Sequence[str] = tuple(TITLES)) -> Figure:
    """The page behind `curves_figure`."""
    if not curves:
        raise InputError("There are no curves to draw; ask with at least one imputer.")
    width = LEFT + len(sides) * (PANEL_WIDTH + GAP) + LEGEND
    words = wrapped(verdict, width - 24, 3)
    top = 16 + LINE_HEIGHT * (2 + words.count("\n")) + LINE_HEIGHT
    figure = page(width, top + len(curves) * (PANEL_HEIGHT + BETWEEN) + FOOT)
    write(figure, 12, 12, words)
    limits = _limits(curves.values(), unit)
    for row, (name, one) in enumerate(curves.items()):
        at = top + row * (PANEL_HEIGHT + BETWEEN)
        lefts = [LEFT + place * (PANEL_WIDTH + GAP) for place in range(len(sides))]
        axes = [box(figure, left, at, PANEL_WIDTH, PANEL_HEIGHT) for left in lefts]
        for panel, side in zip(axes, sides, strict=True):
            _panel(panel, one, side, f"{name}: {TITLES[side]}", limits)
        axes[0].set_ylabel(printable(unit), fontsize=7, parse_math=False)
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.03, 1.0), fontsize=7, frameon=False)
    return figure


def _panel(axes: Axes, curves: Curves, side: str, title: str, limits: tuple[float, float]) -> None:
    _random(axes, [getattr(one, side) for one in curves.randoms], curves.randoms[0].shares)
    for name, label in LABELS.items():
        one: Response = getattr(curves, name)
        values = getattr(one, side)
        style: dict[str, Any] = {"color": COLOURS[name], "linestyle": DASHES[name], "label": label}
        axes.plot(100 * one.shares, values, linewidth=2 if name == "map" else 1.2, **style)
    axes.axhline(curves.prior, color=INK, linewidth=1, linestyle=":", label="fully masked")
    axes.set_title(printable(title), fontsize=8, loc="left", parse_math=False)
    axes.set_xlabel("% of the cells", fontsize=7)
    axes.set_xlim(0, 100)
    axes.set_ylim(*limits)
    axes.tick_params(labelsize=7, length=2, colors=QUIET)
    axes.spines[["top", "right"]].set_visible(False)


def _random(axes: Axes, values: Sequence[np.ndarray], shares: np.ndarray) -> None:
    stacked = np.stack(list(values))  # (controls, shares)
    colour = COLOURS["random"]
    label = f"{len(stacked)} random orders"
    axes.fill_between(100 * shares, stacked.min(0), stacked.max(0), color=colour, alpha=0.25, linewidth=0, label=label)
    axes.plot(100 * shares, stacked.mean(0), color=colour, linewidth=1.2, label="their mean")


def _limits(curves: Iterable[Curves], unit: str) -> tuple[float, float]:
    """[0, 1] with a little room for probabilities, the range of all values otherwise."""
    if "probability" in unit:
        return -0.03, 1.03
    found = [
        getattr(one, side)
        for row in curves
        for one in (row.map, row.inverse, row.centre, *row.randoms)
        for side in ("without", "alone")
    ]
    low, high = float(np.min(np.concatenate(found))), float(np.max(np.concatenate(found)))
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room
