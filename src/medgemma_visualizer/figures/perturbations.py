"""How far answer and map of a film drift as it is disturbed more and more. Knows lists of numbers; disturbs nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures._page import INK, LINE_HEIGHT, QUIET, box, page, picture, printable, wrapped, write

#: Colours of Okabe and Ito 2008; flips are told by their shape, too.
ANSWER_COLOUR, MAP_COLOUR, FLIP_COLOUR = "#0072b2", "#009e73", "#d55e00"
ACROSS = 4  # perturbations beside each other
PANEL_WIDTH, PANEL_HEIGHT, LEFT, GAP, BETWEEN, TITLE, FOOT = 190, 105, 64, 36, 14, 22, 44
ROW = TITLE + 2 * PANEL_HEIGHT + BETWEEN + 62  # strengths and their unit below
LN2 = math.log(2)
LEGEND = (
    "Above: change of p(yes), 0 to 1. Below: Jensen-Shannon divergence of the maps, in nats, on a scale of its own. "
    "Points are seeds, lines their means; crosses, and the counts above them: flipped answers. Grey: the noise floor, "
    "from the same picture read again and from a moved map brought back. Strengths are steps, not to scale."
)


class Level(Protocol):
    """What one strength did, over its seeds: arrays (seeds,), NaN where there is no number."""

    @property
    def strength(self) -> float: ...

    @property
    def drifts(self) -> np.ndarray: ...

    @property
    def divergences(self) -> np.ndarray: ...

    @property
    def flipped(self) -> np.ndarray: ...

    @property
    def floors(self) -> tuple[float, float]: ...


def perturbations_figure(
    levels: Mapping[str, Sequence[Level]], titles: Mapping[str, str], units: Mapping[str, str], *, title: str = ""
) -> Image.Image:
    """Two small panels for each perturbation: drift of the answer and of the map against the strength.

    All upper panels share the scale of a probability; all lower ones share one scale from 0 to the largest divergence,
    ln 2 at most.

    Args:
        levels: Perturbation -> what each strength did, in ascending order.
        titles: Perturbation -> its name for people.
        units: Perturbation -> unit of its strengths.
        title: What was asked, and which map.

    Raises:
        InputError: Nothing to draw, or a perturbation without levels.
    """
    return picture(perturbations_page(levels, titles, units, title))


def perturbations_page(
    levels: Mapping[str, Sequence[Level]], titles: Mapping[str, str], units: Mapping[str, str], title: str = ""
) -> Figure:
    """The page behind `perturbations_figure`."""
    if not levels or not all(levels.values()):
        raise InputError("There are no disturbed films to draw; disturb with one perturbation and strength or more.")
    across = min(ACROSS, len(levels))
    width = max(LEFT + across * (PANEL_WIDTH + GAP), 480)
    words, legend = wrapped(title or "Answer and map of a disturbed film", width - 24), wrapped(LEGEND, width - 24, 6)
    below = 14 + LINE_HEIGHT * (1 + words.count("\n"))
    top = below + LINE_HEIGHT * (1 + legend.count("\n")) + 12
    figure = page(width, top + math.ceil(len(levels) / across) * ROW + FOOT)
    write(figure, 12, 12, words)
    write(figure, 12, below, legend, size=8, color=QUIET)
    limit = _largest_divergence(levels)
    for n, (name, each) in enumerate(levels.items()):
        row, col = divmod(n, across)
        left, at = LEFT + col * (PANEL_WIDTH + GAP), top + row * ROW + TITLE
        upper = box(figure, left, at, PANEL_WIDTH, PANEL_HEIGHT)
        lower = box(figure, left, at + PANEL_HEIGHT + BETWEEN, PANEL_WIDTH, PANEL_HEIGHT)
        _drift(upper, each, ANSWER_COLOUR, 1.0, [level.drifts for level in each], [level.floors[0] for level in each])
        found = [level.divergences for level in each]
        _drift(lower, each, MAP_COLOUR, limit, found, [level.floors[1] for level in each])
        upper.set_title(printable(titles[name]), fontsize=8, loc="left", parse_math=False)
        _strengths(upper, lower, each, units[name])
        _flips(upper, each)
        if col == 0:
            upper.set_ylabel("|Δp(yes)|", fontsize=7)
            lower.set_ylabel("JS, nats", fontsize=7)
    return figure


def _drift(
    axes: Axes,
    levels: Sequence[Level],
    colour: str,
    limit: float,
    values: Sequence[np.ndarray],
    floors: Sequence[float],
) -> None:
    at = np.arange(len(levels))
    axes.fill_between(at, 0, np.nan_to_num(floors), color="#bbbbbb", linewidth=1, zorder=1)
    strengths, means = np.array([level.strength for level in levels]), np.array([_mean(each) for each in values])
    for side in (strengths <= 0, strengths >= 0):  # no line leads past 0, where nothing drifts, unless 0 was tried
        axes.plot(at[side], means[side], color=colour, linewidth=1.3, zorder=2)
    for x, (level, each) in enumerate(zip(levels, values, strict=True)):
        flipped = np.asarray(level.flipped, bool)
        axes.scatter(np.full((~flipped).sum(), x), each[~flipped], s=9, color=colour, linewidth=0, zorder=3)
        axes.scatter(np.full(flipped.sum(), x), each[flipped], s=26, color=FLIP_COLOUR, marker="x", zorder=4)
    if all(np.isnan(each).all() for each in values):
        axes.text(0.5, 0.5, "no number", transform=axes.transAxes, ha="center", va="center", fontsize=8, color=QUIET)
    axes.set_ylim(-0.04 * limit, 1.04 * limit)
    axes.set_xlim(-0.5, len(levels) - 0.5)
    axes.tick_params(labelsize=7, length=2, colors=QUIET)
    axes.spines[["top", "right"]].set_visible(False)


def _flips(axes: Axes, levels: Sequence[Level]) -> None:
    """How many of the answers flipped, also where there is no number at which a cross could stand."""
    for x, level in enumerate(levels):
        flips = int(np.sum(level.flipped))
        if flips:
            said = f"{flips}/{len(level.flipped)}"
            axes.text(x, 1.0, said, ha="center", va="top", fontsize=7, color=FLIP_COLOUR, parse_math=False)


def _strengths(upper: Axes, lower: Axes, levels: Sequence[Level], unit: str) -> None:
    at = range(len(levels))
    upper.set_xticks(at, [])
    lower.set_xticks(at, [f"{level.strength:g}" for level in levels])
    lower.set_xlabel(printable(unit), fontsize=7, color=INK, parse_math=False)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else np.nan


def _largest_divergence(levels: Mapping[str, Sequence[Level]]) -> float:
    found = np.concatenate([[*level.divergences, level.floors[1]] for each in levels.values() for level in each])
    largest = float(np.nanmax(found)) if (~np.isnan(found)).any() else LN2
    return min(largest, LN2) or LN2
