"""Integrated gradients (Sundararajan 2017; specification 14.3): the gradient, averaged along a straight path.

The one idea: (x − x′) · mean gradient on the way from a baseline x′ to x adds up to f(x) − f(x′). How far the sum is
from that difference is the completeness gap; it is always reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.gradients import checked, gradient_at, refuse_blind, to_grid
from medgemma_visualizer.heatmaps.methods import RawMap, method
from medgemma_visualizer.heatmaps.probing import Baseline, Space, baseline_for, batch_size, original
from medgemma_visualizer.heatmaps.targets import Aim, score_tokens
from medgemma_visualizer.models.forward import ensure_finite, image_tokens
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.progress import track

#: Largest completeness gap, as a share of the difference, at the default number of steps.
TOLERANCE = 0.01

#: Numbers of path points tried in turn, where none is asked for.
STEPS = (16, 32, 64, 128, 256)

#: The same for 16-bit models, whose rounding more points do not mend.
STEPS_HALF = (16, 32, 64)

#: How many times more memory a pass takes that keeps its graph.
_GRAPH = 16

Score = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Path:
    """A straight way from `start` to `end`, both (1, …), and the score of up to `batch` points on it at once."""

    score: Score
    start: torch.Tensor
    end: torch.Tensor
    batch: int


@method(
    "integrated_gradients",
    label="Integrated Gradients",
    needs="gradient",
    cost="16 to 496 forwards and backwards",
    paper="Sundararajan 2017",
    signed=True,
    settles=("steps",),
)
def integrated_gradients(
    reading: Reading,
    aim: Aim,
    *,
    space: Space = "tokens",
    baseline: Baseline = "mean",
    steps: int | None = None,
) -> RawMap:
    """Integrated gradients on image tokens, or on pixels summed over channels and cells.

    Args:
        space: "tokens" integrates after the projector, "pixels" through the vision tower as well.
        baseline: A name of `probing.BASELINES[space]`, or a tensor of the shape of what is integrated. Zero tokens are
            no good start for a model that normalises keys: however small a token is, its key has full length, so the
            score jumps right at the start and completeness is out of reach.
        steps: Points of the Gauss–Legendre rule. Where None, doubled from 16 until the gap is at most 1 % of the
            difference.

    Returns:
        A signed map in the units of the score. Extras: `difference` f(x) − f(x′), `completeness_gap` (absolute, between
        it and the sum of the map), `gap_share` (of the difference; None where that is 0), `steps`.

    Raises:
        InputError: No such space or baseline, or fewer than one step.
        UnavailableError: The gradient is zero or not finite, or the gap stays above 1 % at the most steps.
        VisualizerError: The score of the picture or of the baseline is not finite.
    """
    refuse_blind(reading, aim)
    attribution, extras = integrate(reading, aim, _path(reading, aim, space, baseline), steps)
    return RawMap(_summed(reading, attribution, space), extras=extras)


def integrate(reading: Reading, aim: Aim, path: Path, steps: int | None = None) -> tuple[torch.Tensor, dict[str, Any]]:
    """(end − start) · mean gradient along a path: float32 (…), and the extras of `integrated_gradients`.

    Raises:
        InputError, UnavailableError: As `integrated_gradients`.
    """
    if steps is not None and steps < 1:
        raise InputError(f"steps is {steps!r}; give at least 1.")
    difference = _difference(path)
    for count in _steps(reading) if steps is None else (steps,):
        attribution = (path.end - path.start)[0].float() * checked(reading, aim, _mean_gradient(path, count))
        gap = abs(float(attribution.cpu().double().sum()) - difference)
        share = gap / abs(difference) if difference else float("inf")
        if share <= TOLERANCE:
            break
    if steps is None and share > TOLERANCE:
        raise UnavailableError(_incomplete(aim, gap, difference, count))
    extras = {"difference": difference, "completeness_gap": gap, "gap_share": share if difference else None}
    return attribution, {**extras, "steps": count}


def _steps(reading: Reading) -> tuple[int, ...]:
    return STEPS if reading.model.dtype == torch.float32 else STEPS_HALF


def _path(reading: Reading, aim: Aim, space: Space, baseline: Baseline) -> Path:
    """The picture's representation in that space, its baseline, and how to score what lies between."""

    def score(at: torch.Tensor) -> torch.Tensor:
        return score_tokens(reading, aim, at if space == "tokens" else image_tokens(reading.model, at))

    end = original(reading, space)
    return Path(score, baseline_for(reading, space, baseline), end, points_at_once(reading, aim, space))


def points_at_once(reading: Reading, aim: Aim, space: Space = "tokens") -> int:
    """How many points share a pass that keeps its graph."""
    return max(1, batch_size(reading, aim, space) // _GRAPH)


@torch.no_grad()
def _difference(path: Path) -> float:
    """f(x) − f(x′)."""
    end, start = (ensure_finite(path.score(at).double(), "the target's scores") for at in (path.end, path.start))
    return float(end - start)


def _mean_gradient(path: Path, steps: int) -> torch.Tensor:
    """∫ ∂f/∂x dα over α from 0 to 1 by a Gauss–Legendre rule, exact for polynomials of degree 2 · steps − 1: (…)."""
    total = torch.zeros_like(path.end[0], dtype=torch.float32)
    batches = track(_points(steps, path.batch), total=steps, what="path points", weights=lambda batch: len(batch[0]))
    for alphas, weights in batches:
        shape = (-1, *(1,) * (path.end.ndim - 1))
        along = torch.from_numpy(alphas).to(path.end).reshape(shape)  # (B, 1, …)
        gradients = gradient_at(path.score, path.start + along * (path.end - path.start))[1]  # (B, …)
        total += (torch.from_numpy(weights).to(total).reshape(shape) * gradients).sum(0)
    return total


def _points(steps: int, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Nodes and weights on (0, 1), in batches."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    for first in range(0, steps, batch):
        chosen = slice(first, first + batch)
        yield (nodes[chosen] + 1) / 2, weights[chosen] / 2


def _summed(reading: Reading, attribution: torch.Tensor, space: str) -> np.ndarray:
    """Attribution (N, D) or (3, height, width) added up in each cell, so that the map adds up to the whole."""
    if space == "tokens":
        return to_grid(reading, attribution.sum(-1), reading.model.grid)
    height, width = attribution.shape[1:]
    rows, cols = reading.model.grid
    return to_grid(reading, attribution.sum(0), (height, width)) * np.float32(height * width / (rows * cols))


def _incomplete(aim: Aim, gap: float, difference: float, steps: int) -> str:
    return (
        f"The integrated gradients of {aim.target.text!r} miss completeness by {gap:.3g} at {steps} steps; the score "
        f"differs by {difference:.3g} between picture and baseline. Load the model with dtype='float32', choose "
        "another baseline, or give steps to take the map as it is."
    )
