"""What a map is worth on its face: is it on the patient, off the margins, and does it single anything out?

Knows one raw map and, for one score, the body. Does not know where a finding lies or what the model would say without
the bright cells: a map can be perfect here and wrong. All scores are of the raw map: after masking or stripping, some
are perfect by construction. R⁺ = max(R, 0); p = R⁺/ΣR⁺; N = rows · cols.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import entr

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import coverage, downsample
from medgemma_visualizer.records import Direction, Score
from medgemma_visualizer.scores.maps import CONSTANT, ZERO, distribution, is_constant, positive_part
from medgemma_visualizer.scores.verdict import not_applicable, scored

DIRECTIONS: dict[str, Direction] = {
    "inside_body_ratio": "higher",
    "border_fraction": "lower",
    "attention_entropy": "lower",
    "normalized_entropy": "lower",
    "peak_to_mean": "higher",
    "gini": "none",
    "regional_focus": "none",
    "left_fraction": "none",
    "right_fraction": "none",
    "apical_fraction": "none",
    "middle_fraction": "none",
    "basal_fraction": "none",
}

_QUADRANTS = ("upper_left", "upper_right", "lower_left", "lower_right")
_TIE = 1e-9  # relative; what double precision may lose when the same cells are summed in another order
#: Views on which the image's left is the patient's right.
FRONTAL = ("PA", "AP")


def inside_body_ratio(grid: np.ndarray, body_mask: np.ndarray) -> float:
    """Share of the relevance that falls on the patient: Σ R⁺·B / ΣR⁺, B the body's coverage of each cell.

    Range [0, 1], higher is better; chance: mean of B (`body_mask.mean()`). Source: specification 5.4.1, area-weighted.

    Args:
        grid: (rows, cols), raw.
        body_mask: bool (height, width) of any size.

    Raises:
        InputError: Nothing in the map is positive, or the mask is not one.
    """
    p = distribution(grid)
    return float((p * coverage(body_mask, *p.shape)).sum())


def border_fraction(grid: np.ndarray) -> float:
    """Share of the relevance in the outer ring of cells, corners counted once.

    Range [0, 1], lower is better; chance: cells of the ring / N (60/256 = 0.234 on 16 x 16). Source: specification
    5.4.2. Raises InputError where nothing in the map is positive.
    """
    p = distribution(grid)
    return float(p[_ring(p.shape)].sum())


def attention_entropy(grid: np.ndarray) -> float:
    """Shannon entropy -Σ p ln p in nats, 0·ln 0 = 0.

    Range [0, ln N] (5.545 on 16 x 16), lower is more focused; chance: ln N. Source: specification 4.3.2, without its ε.
    Raises InputError where nothing in the map is positive.
    """
    return float(entr(distribution(grid)).sum())


def normalized_entropy(grid: np.ndarray) -> float:
    """Entropy / ln N, comparable between grids. Range [0, 1], lower is more focused; chance: 1.

    Raises:
        InputError: Nothing in the map is positive, or the grid has a single cell.
    """
    if np.size(grid) < 2:
        raise InputError("A grid of one cell has no normalized entropy; use a map with at least two cells.")
    return attention_entropy(grid) / float(np.log(np.size(grid)))


def peak_to_mean(grid: np.ndarray) -> float:
    """Largest over mean relevance, max p / mean p (the specification's "Peak SNR").

    Range [1, N], higher is more focused; chance: 1. Raises InputError where nothing in the map is positive.
    """
    p = distribution(grid)
    return float(p.max() / p.mean())


def gini(grid: np.ndarray) -> float:
    """Gini coefficient of R⁺: Σ(2i - n - 1) R⁺_(i) / (n ΣR⁺), ascending, i from 1.

    Range [0, 1 - 1/n]: 0 all cells alike, 1 - 1/n a single cell; neither is better as such; chance: 0. Source:
    Chalasani et al. 2020, "Concise explanations of neural networks using adversarial training". Raises InputError
    where nothing in the map is positive.
    """
    p = np.sort(distribution(grid), axis=None)
    n = p.size
    return float(max(((2 * np.arange(1, n + 1) - n - 1) * p).sum() / n, 0))


def regional_focus(grid: np.ndarray) -> str:
    """The quadrant of the image with the largest mean R⁺: "upper_left", … "lower_right", or "none" on a tie.

    Middle rows and columns of odd grids are shared. Sides are the image's: `focus_in_words` adds the patient's.
    """
    means = downsample(positive_part(grid), 2, 2).ravel()
    largest = means.max()
    at_top = np.flatnonzero(means >= largest * (1 - _TIE))
    return _QUADRANTS[at_top[0]] if at_top.size == 1 and not is_constant(grid) else "none"


def focus_in_words(label: str, view: str | None = None) -> str:
    """A label of `regional_focus` for people: "image upper left (patient's right)".

    Args:
        label: What `regional_focus` returned.
        view: "PA", "AP" or None (taken for frontal); other views do not show the patient's sides.

    Raises:
        InputError: Not such a label.
    """
    if label == "none":
        return "no quadrant stands out"
    if label not in _QUADRANTS:
        raise InputError(f"{label!r} is not a quadrant; known: {', '.join(_QUADRANTS)}, none.")
    height, side = label.split("_")
    return side_in_words(side, view).replace("image", f"image {height}")


def side_in_words(side: str, view: str | None = None) -> str:
    """ "left" or "right" of the image for people: "image left (patient's right)" on frontal views."""
    patient = {"left": "right", "right": "left"}[side]
    frontal = view is None or view.upper() in FRONTAL
    return f"image {side}" + (f" (patient's {patient})" if frontal else "")


def side_fractions(grid: np.ndarray) -> dict[str, float]:
    """Relevance in the image's halves, "left_fraction" and "right_fraction"; an odd middle column is shared.

    Each in [0, 1], sum 1; chance 0.5. Image left is the patient's right on PA and AP films. Raises InputError where
    nothing in the map is positive.
    """
    left, right = _shares(grid, 1, 2)
    return {"left_fraction": left, "right_fraction": right}


def height_fractions(grid: np.ndarray) -> dict[str, float]:
    """Relevance in the image's thirds from the top: "apical_fraction", "middle_fraction", "basal_fraction".

    Each in [0, 1], sum 1; chance 1/3; rows that a border cuts are shared by area. Raises InputError where nothing in
    the map is positive.
    """
    apical, middle, basal = _shares(grid, 3, 1)
    return {"apical_fraction": apical, "middle_fraction": middle, "basal_fraction": basal}


def quality_scores(grid: np.ndarray, body_mask: np.ndarray | None = None, view: str | None = None) -> dict[str, Score]:
    """Every score of a raw map by itself, with chance level (that of a uniform map), threshold and verdict.

    Args:
        grid: (rows, cols), raw; negative values count as 0.
        body_mask: bool (height, width) of any size; None leaves `inside_body_ratio` out, with the reason.
        view: "PA", "AP" or None (taken for frontal), so that sides can be named as the patient's too.

    Returns:
        Name -> Score for all names of DIRECTIONS. A map without positive values has no score at all; a map that is
        equal everywhere has its numbers, all at chance, and is never called good.

    Raises:
        InputError: NaN, infinity, a wrong number of dimensions, a single cell, or a mask that is not one.
    """
    positive = positive_part(grid)
    if positive.size < 2:
        raise InputError("The map has a single cell, which can be neither right nor wrong; use a finer grid.")
    if not positive.any():
        return {name: not_applicable(name, direction, ZERO) for name, direction in DIRECTIONS.items()}
    chances = _chances(positive.shape)
    values = _values(positive)
    scores = {name: scored(name, value, DIRECTIONS[name], chances[name]) for name, value in values.items()}
    focus = regional_focus(grid)
    scores["regional_focus"] = Score("regional_focus", focus, reason=focus_in_words(focus, view))
    for side in ("left", "right"):
        name = f"{side}_fraction"
        scores[name] = replace(scores[name], reason=side_in_words(side, view))
    scores["inside_body_ratio"] = _body_score(positive, body_mask)
    if is_constant(grid):
        scores = {name: _at_chance(score) for name, score in scores.items()}
    return {name: scores[name] for name in DIRECTIONS}


def _values(grid: np.ndarray) -> dict[str, float]:
    metrics: tuple[Callable[[np.ndarray], float], ...]
    metrics = (border_fraction, attention_entropy, normalized_entropy, peak_to_mean, gini)
    return {metric.__name__: metric(grid) for metric in metrics} | side_fractions(grid) | height_fractions(grid)


def _chances(shape: tuple[int, ...]) -> dict[str, float]:
    return _values(np.ones(shape))


def _body_score(grid: np.ndarray, body_mask: np.ndarray | None) -> Score:
    name = "inside_body_ratio"
    if body_mask is None:
        return not_applicable(name, DIRECTIONS[name], "no body mask was given")
    body = coverage(body_mask, *grid.shape)
    if not body.any():
        return not_applicable(name, DIRECTIONS[name], "the body mask is empty")
    return scored(name, inside_body_ratio(grid, body_mask), DIRECTIONS[name], chance=float(body.mean()))


def _at_chance(score: Score) -> Score:
    """What says nothing cannot be good, even where the chance level passes the threshold."""
    return score if score.value is None else replace(score, verdict=score.verdict and "poor", reason=CONSTANT)


def _ring(shape: tuple[int, ...]) -> np.ndarray:
    ring = np.ones(shape, bool)
    ring[1:-1, 1:-1] = False
    return ring


def _shares(grid: np.ndarray, rows: int, cols: int) -> list[float]:
    """Relevance in equal parts of the image, row by row; cells on a border are shared by area."""
    means = downsample(distribution(grid), rows, cols)
    return (means / means.sum()).ravel().tolist()
