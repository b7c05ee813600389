"""Scores as bars beside their chance levels and targets. Knows `Score`; knows nothing about how one is computed."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures._page import INK, QUIET, box, page, picture, wrapped, write
from medgemma_visualizer.records import Score

#: Colours that colour-blind readers can tell apart (Okabe and Ito 2008); the words say the same.
VERDICT_COLOURS = {"good": "#009e73", "acceptable": "#e69f00", "poor": "#d55e00", "": "#56789a"}
VERDICT_MARKS = {"good": "✓", "acceptable": "~"}
ARROWS = {"higher": "higher is better", "lower": "lower is better", "none": ""}
NAME_WIDTH, BAR_WIDTH, WORDS_WIDTH, ROW, TOP, FOOT = 230, 330, 400, 42, 52, 40


def scores_figure(scores: Mapping[str, Score]) -> Image.Image:
    """One row a score: bar, chance level (dotted), target (solid), value and verdict (specification 9.3, corrected).

    Units differ, so every row has a scale of its own with 0 on it. A score that does not apply is its reason in words.

    Raises:
        InputError: There are no scores.
    """
    return picture(scores_page(scores))


def scores_page(scores: Mapping[str, Score]) -> Figure:
    """The page behind `scores_figure`."""
    if not scores:
        raise InputError("There are no scores to draw; a map that is not available has none.")
    figure = page(NAME_WIDTH + BAR_WIDTH + WORDS_WIDTH, TOP + ROW * len(scores) + FOOT)
    write(figure, 12, 12, "What the map is worth on its face", size=11)
    write(figure, 12, 32, "dotted: a map that knows nothing (chance); solid: the target", size=8, color=QUIET)
    for place, (name, score) in enumerate(scores.items()):
        _row(figure, name, score, TOP + ROW * place)
    return figure


def _row(figure: Figure, name: str, score: Score, top: int) -> None:
    write(figure, 12, top + 6, name)
    write(figure, 12, top + 23, ARROWS[score.direction], size=7, color=QUIET)
    if isinstance(score.value, int | float):
        _bar(box(figure, NAME_WIDTH, top + 6, BAR_WIDTH - 20, 26), score, float(score.value))
        write(figure, NAME_WIDTH + BAR_WIDTH, top + 6, _words(score))
        write(figure, NAME_WIDTH + BAR_WIDTH, top + 23, _context(score), size=7, color=QUIET)
    else:
        text = (score.reason or score.value) if score.value is not None else f"not applicable: {score.reason}"
        write(figure, NAME_WIDTH, top + 6, wrapped(text, BAR_WIDTH + WORDS_WIDTH - 20))


def _bar(axes: Axes, score: Score, value: float) -> None:
    axes.barh([0], [value], height=0.8, color=VERDICT_COLOURS.get(score.verdict, VERDICT_COLOURS["poor"]))
    if score.interval is not None:
        axes.plot(score.interval, [0, 0], color=INK, linewidth=1.5)
    if score.chance is not None:
        axes.axvline(score.chance, color=INK, linewidth=1.2, linestyle=":")
    if score.threshold is not None:
        axes.axvline(score.threshold, color=INK, linewidth=1.2)
    axes.set_xlim(*_limits(score, value))
    axes.set_yticks([])
    axes.tick_params(labelsize=6, length=2, pad=1, colors=QUIET)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _limits(score: Score, value: float) -> tuple[float, float]:
    marks = [value, score.chance or 0.0, score.threshold or 0.0, *(score.interval or ())]
    low, high = min(0.0, *marks), max(0.0, *marks)
    room = 0.08 * (high - low) or 1.0
    return low - room * (low < 0), high + room * (high > 0 or low == high)


def _words(score: Score) -> str:
    verdict = f"   {VERDICT_MARKS.get(score.verdict, '✗')} {score.verdict}" if score.verdict else ""
    return f"{score.value:.3g}{verdict}"


def _target(score: Score) -> str:
    """The rule that makes it good."""
    if score.threshold is None or score.direction == "none":
        return ""
    sign = "≥" if score.direction == "higher" else "≤"
    return f"target {sign} {score.threshold:g}{'' if score.chance is None else ', better than chance'}"


def _context(score: Score) -> str:
    parts = [
        "" if score.chance is None else f"chance {score.chance:.3g}",
        _target(score),
        "" if score.interval is None else f"95 % interval {score.interval[0]:.3g} to {score.interval[1]:.3g}",
        "" if score.n == 1 else f"n = {score.n}",
        score.reason,
    ]
    return wrapped(" · ".join(part for part in parts if part), WORDS_WIDTH + 130, 1)
