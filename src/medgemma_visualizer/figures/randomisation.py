"""How fast a map is forgotten while the model forgets: similarity and output over randomised blocks.

Knows names of blocks and arrays of numbers; computes no similarity itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures._page import INK, LINE_HEIGHT, QUIET, box, page, picture, wrapped, write

#: Name, colour and marker of each similarity; colours of Okabe and Ito 2008, markers for readers without them.
CURVES = (
    ("Spearman", "#0072b2", "o"),
    ("Spearman of magnitudes", "#d55e00", "s"),
    ("SSIM", "#009e73", "^"),
)
LEGEND = "1 is the trained model's map, 0 is chance; bands reach from the lowest to the highest draw"
OUTPUT_COLOUR = "#56789a"
#: What a title holds at most; one that is longer ends in an ellipsis.
TITLE_LINES = 4
WIDTH, LEFT, RIGHT, TOP, SIMILARITY_HEIGHT, GAP, OUTPUT_HEIGHT, NAMES, FOOT = 860, 84, 30, 84, 250, 18, 110, 120, 40


def randomisation_figure(
    blocks: Sequence[str],
    similarities: np.ndarray,
    outputs: np.ndarray,
    output: float,
    *,
    title: str = "",
    pass_mark: float | None = None,
    failed: np.ndarray | None = None,
) -> Image.Image:
    """Similarity to the trained model's map (above) and the target's score (below) while blocks are drawn anew.

    Lines are means over draws, bands reach from the lowest to the highest draw; the first point is the trained model.

    Args:
        blocks: Names, in the order in which they are drawn anew.
        similarities: (seeds, blocks, 3): Spearman, Spearman of magnitudes, SSIM, in [-1, 1]; NaN where not applicable.
        outputs: (seeds, blocks), the target's score under random weights.
        output: The target's score by the trained model.
        title: What was explained, by which method, in which order.
        pass_mark: Largest |Spearman| at which a method passes, where there is such a mark.
        failed: (blocks,) number of draws without a map, which count as 0; written beside the name as missing.

    Raises:
        InputError: Shapes that do not belong together.
    """
    return picture(randomisation_page(blocks, similarities, outputs, output, title, pass_mark, failed))


def randomisation_page(
    blocks: Sequence[str],
    similarities: np.ndarray,
    outputs: np.ndarray,
    output: float,
    title: str = "",
    pass_mark: float | None = None,
    failed: np.ndarray | None = None,
) -> Figure:
    """The page behind `randomisation_figure`."""
    _check(blocks, similarities, outputs, failed)
    words = wrapped(title or "Maps while the model forgets", (WIDTH - 24) * 9 // 11, TITLE_LINES)
    further = LINE_HEIGHT * 11 // 9 * words.count("\n")
    top = TOP + further
    figure = page(WIDTH, top + SIMILARITY_HEIGHT + GAP + OUTPUT_HEIGHT + NAMES + FOOT)
    write(figure, 12, 12, words, size=11)
    write(figure, 12, 34 + further, LEGEND, size=8)
    across = WIDTH - LEFT - RIGHT
    upper = box(figure, LEFT, top, across, SIMILARITY_HEIGHT)
    lower = box(figure, LEFT, top + SIMILARITY_HEIGHT + GAP, across, OUTPUT_HEIGHT)
    _similarity(upper, similarities, pass_mark)
    _output(lower, outputs, output)
    for axes in (upper, lower):
        axes.set_xlim(-0.5, len(blocks) + 0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7, colors=QUIET)
    upper.set_xticks(range(len(blocks) + 1), [])
    lower.set_xticks(range(len(blocks) + 1), ["trained", *_labels(blocks, failed)], rotation=60, ha="right", size=7)
    return figure


def _similarity(axes: Axes, similarities: np.ndarray, pass_mark: float | None) -> None:
    if pass_mark is not None:
        axes.axhspan(
            -pass_mark,
            pass_mark,
            color="#e6e6e6",
            zorder=0,
            label=f"pass: mean |ρ| ≤ {pass_mark:g}, or as shifted maps",
        )
    axes.axhline(0, color=INK, linewidth=0.8, linestyle=":")
    for (name, colour, marker), draws in zip(CURVES, np.moveaxis(similarities, 2, 0), strict=True):
        if np.isnan(draws).all():
            continue
        _curve(axes, np.insert(draws, 0, 1.0, axis=1), name, colour, marker)
    axes.set_ylim(-1.05, 1.05)
    axes.set_ylabel("similarity", size=8)
    axes.legend(fontsize=7, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))


def _output(axes: Axes, outputs: np.ndarray, output: float) -> None:
    axes.axhline(output, color=INK, linewidth=0.8, linestyle=":")
    _curve(axes, np.insert(outputs, 0, output, axis=1), "score", OUTPUT_COLOUR, "o")
    axes.set_ylabel("target's score", size=8)


def _curve(axes: Axes, draws: np.ndarray, name: str, colour: str, marker: str) -> None:
    """Mean and range over draws (seeds, points)."""
    at = np.arange(draws.shape[1])
    axes.fill_between(at, draws.min(axis=0), draws.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    axes.plot(at, draws.mean(axis=0), color=colour, marker=marker, markersize=4, linewidth=1.4, label=name)


def _labels(blocks: Sequence[str], failed: np.ndarray | None) -> list[str]:
    counts = [0] * len(blocks) if failed is None else [int(n) for n in failed]
    return [f"{name}, {n} missing" if n else name for name, n in zip(blocks, counts, strict=True)]


def _check(blocks: Sequence[str], similarities: np.ndarray, outputs: np.ndarray, failed: np.ndarray | None) -> None:
    wanted = (len(outputs), len(blocks))
    counted = failed is None or np.shape(failed) == (len(blocks),)
    if 0 in wanted or np.shape(outputs) != wanted or np.shape(similarities) != (*wanted, len(CURVES)) or not counted:
        raise InputError(
            f"Curves over {len(blocks)} blocks need outputs (seeds, blocks) and similarities (seeds, blocks, 3); got "
            f"{np.shape(outputs)} and {np.shape(similarities)}."
        )
