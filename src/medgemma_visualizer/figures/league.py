"""A league of methods as pictures: one metric by method, and what happens on average as cells go.

Knows lines, points and intervals; does not know how they were measured or which method they should favour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures._page import INK, LINE_HEIGHT, QUIET, box, page, picture, printable, wrapped, write

#: Colours that colour-blind readers can tell apart (Okabe and Ito 2008); the marks differ in shape, too.
ROLES: Mapping[str, tuple[str, str]] = {
    "best": ("#0072b2", "D"),
    "reference": ("#d55e00", "s"),
    "method": ("#1a1a1a", "o"),
    "control": ("#7f7f7f", "x"),
}
#: Of the lines, in their order; as many dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#7f7f7f")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
NAME_WIDTH, PLOT_WIDTH, ROW, TOP, FOOT = 176, 300, 18, 40, 72
PANEL_WIDTH, PANEL_HEIGHT, LEFT = 400, 220, 62

Role = Literal["best", "reference", "method", "control"]


class Estimated(Protocol):
    """A mean with its 95 % interval, where there is one."""

    @property
    def value(self) -> float: ...

    @property
    def interval(self) -> tuple[float, float] | None: ...


class Averaged(Protocol):
    """Means over cases along one order of the cells, each (F,); shares ascend from 0 to 1."""

    @property
    def shares(self) -> Sequence[float]: ...

    @property
    def without(self) -> Sequence[Estimated]: ...

    @property
    def alone(self) -> Sequence[Estimated]: ...


@dataclass(frozen=True)
class Line:
    """One method's line of a forest plot.

    Attributes:
        label: For people.
        estimate: None where the metric does not apply.
        role: The best method, the reference, another method, or a control that knows nothing.
    """

    label: str
    estimate: Estimated | None
    role: Role = "method"


def forest_figure(lines: Sequence[Line], *, title: str, chance: float | None = None) -> Image.Image:
    """One metric: a row a method with its mean and 95 % interval, chance as a dotted line; 476 pixels wide.

    Args:
        lines: From the top; controls are drawn where they stand.
        title: What the metric is called.
        chance: What a map that knows nothing gets; None where that is unknown.

    Raises:
        InputError: There are no lines.
    """
    return picture(forest_page(lines, title, chance))


def forest_page(lines: Sequence[Line], title: str, chance: float | None) -> Figure:
    """The page behind `forest_figure`."""
    if not lines:
        raise InputError("There are no methods to draw; a league holds at least one.")
    height = ROW * len(lines)
    figure = page(NAME_WIDTH + PLOT_WIDTH, TOP + height + FOOT)
    write(figure, 12, 12, title, size=10)
    axes = box(figure, NAME_WIDTH, TOP, PLOT_WIDTH - 20, height)
    if chance is not None:
        axes.axvline(chance, color=INK, linewidth=1, linestyle=":")
    for place, line in enumerate(lines):
        _row(figure, axes, line, place)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks([])
    _plain(axes)
    axes.spines["left"].set_visible(False)
    told = "" if chance is None else f"; dotted: chance, {chance:.3g}"
    write(figure, 12, TOP + height + 26, f"mean and 95 % interval{told}", size=7, color=QUIET)
    return figure


def _row(figure: Figure, axes: Axes, line: Line, place: int) -> None:
    colour, mark = ROLES[line.role]
    middle = TOP + ROW * place + ROW / 2
    bold = "bold" if line.role in ("best", "reference") else "normal"
    write(figure, NAME_WIDTH - 10, middle, line.label, size=7, color=colour, ha="right", va="center", weight=bold)
    if line.estimate is None:
        across: Any = axes.get_yaxis_transform()  # x in fractions of the axes, y in rows
        axes.text(0.5, place, "not applicable", size=6, color=QUIET, ha="center", va="center", transform=across)
        return
    if line.estimate.interval is not None:
        axes.plot(line.estimate.interval, [place, place], color=colour, linewidth=1.4)
    axes.plot([line.estimate.value], [place], color=colour, marker=mark, markersize=5, linestyle="none")


def mean_curves_figure(curves: Mapping[str, Averaged], *, side: Literal["without", "alone"], title: str) -> Image.Image:
    """Mean f as cells are removed (`without`) or revealed (`alone`), a line a method with the band of its interval.

    Args:
        curves: By what each line is called; at most six. f is a probability: all figures share the scale from 0 to 1.
        side: Which half.
        title: Written above.

    Raises:
        InputError: No curves, or more than can be told apart.
    """
    return picture(mean_curves_page(curves, side, title))


def mean_curves_page(curves: Mapping[str, Averaged], side: Literal["without", "alone"], title: str) -> Figure:
    """The page behind `mean_curves_figure`."""
    if not 1 <= len(curves) <= len(COLOURS):
        raise InputError(f"{len(curves)} curves: choose 1 to {len(COLOURS)}, as many as a reader can tell apart.")
    width = LEFT + PANEL_WIDTH + 14
    words = wrapped(title, width - 24)
    top = 20 + LINE_HEIGHT * (1 + words.count("\n"))
    legend = 16 * len(curves)
    figure = page(width, top + PANEL_HEIGHT + 52 + legend + 40)
    write(figure, 12, 12, words)
    axes = box(figure, LEFT, top, PANEL_WIDTH, PANEL_HEIGHT)
    for (name, one), colour, dash in zip(curves.items(), COLOURS, DASHES, strict=False):
        _mean_curve(
            axes, one.shares, getattr(one, side), {"color": colour, "linestyle": dash, "label": printable(name)}
        )
    axes.set_xlabel("% of the cells", fontsize=7)
    axes.set_ylabel("mean probability of the target", fontsize=7)
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.03, 1.03)
    _plain(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.19), fontsize=7, frameon=False, handlelength=4)
    return figure


def _mean_curve(axes: Axes, shares: Sequence[float], means: Sequence[Estimated], style: Mapping[str, Any]) -> None:
    percents = [100 * share for share in shares]
    axes.plot(percents, [mean.value for mean in means], linewidth=1.6, **style)
    bounds = [mean.interval or (mean.value, mean.value) for mean in means]
    low, high = [bound[0] for bound in bounds], [bound[1] for bound in bounds]
    axes.fill_between(percents, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=7, length=2, colors=QUIET)
    axes.spines[["top", "right"]].set_visible(False)
