"""How often yes was right beside what p(yes) said. Knows shares and bounds; does not know where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from matplotlib.figure import Figure
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures._page import INK, QUIET, box, page, picture, write

SIDE, LEFT, TOP, FOOT, COUNTS = 280, 62, 40, 64, 60


class Counted(Protocol):
    """A share with its interval."""

    @property
    def n(self) -> int: ...

    @property
    def value(self) -> float: ...

    @property
    def interval(self) -> tuple[float, float]: ...


class Tenth(Protocol):
    """Questions whose p(yes) lies between two bounds."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    @property
    def mean(self) -> float | None: ...

    @property
    def yes(self) -> Counted | None: ...


def reliability_figure(bins: Sequence[Tenth], *, title: str) -> Image.Image:
    """A reliability diagram: share of yes over mean p(yes), a point a bin with its 95 % interval, counts below.

    Source: Niculescu-Mizil & Caruana 2005. A model that says what it knows lies on the dotted diagonal.

    Args:
        bins: At least one with a question.
        title: Written above.

    Raises:
        InputError: No bin holds a question.
    """
    return picture(reliability_page(bins, title))


def reliability_page(bins: Sequence[Tenth], title: str) -> Figure:
    """The page behind `reliability_figure`."""
    there = [(one, one.yes, one.mean) for one in bins if one.yes is not None and one.mean is not None]
    if not there:
        raise InputError("No question has a p(yes) and a known answer, so nothing can be calibrated.")
    figure = page(LEFT + SIDE + 20, TOP + SIDE + COUNTS + FOOT + 24)
    write(figure, 12, 12, title, size=10)
    axes = box(figure, LEFT, TOP, SIDE, SIDE)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    for _, yes, mean in there:
        axes.plot([mean, mean], yes.interval, color="#0072b2", linewidth=1.4)
    axes.plot([m for _, _, m in there], [y.value for _, y, _ in there], "o", color="#0072b2", markersize=5)
    axes.set_ylabel("share of yes among right answers", fontsize=7)
    counts = box(figure, LEFT, TOP + SIDE + 22, SIDE, COUNTS)
    middles = [(one.low + one.high) / 2 for one, _, _ in there]
    counts.bar(middles, [yes.n for _, yes, _ in there], width=0.09, color=QUIET)
    counts.set_ylabel("questions", fontsize=7)
    counts.set_xlabel("p(yes)", fontsize=7)
    for each in (axes, counts):
        each.set_xlim(-0.02, 1.02)
        each.tick_params(labelsize=7, length=2, colors=QUIET)
        each.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(-0.02, 1.02)
    return figure
