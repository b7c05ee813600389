"""RISE: random masks, weighed by what the model still says (Petsiuk, Das & Saenko 2018).

The one idea: hide random, smooth halves of the image; cells that tend to be visible when the score is high matter. The
mean score is taken off first, which changes the paper's map by a constant only and makes 0 mean "no influence".
"""

from __future__ import annotations

import cv2
import numpy as np

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps.methods import RawMap, method
from medgemma_visualizer.heatmaps.probing import Baseline, Space, refuse_rounding, score_masks, seeded
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading


@method(
    "rise",
    label="RISE",
    needs="scoring",
    cost="256 forwards",
    signed=True,
    paper="Petsiuk 2018",
)
def rise(
    reading: Reading,
    aim: Aim,
    *,
    n: int = 256,
    coarse: int | None = None,
    keep: float = 0.5,
    seed: int = 0,
    space: Space = "tokens",
    baseline: Baseline | None = None,
) -> RawMap:
    """Mean of (score − mean score) over random masks, weighted by how visible each cell was.

    Args:
        n: Number of masks.
        coarse: Side of the coarse random grid that is smoothed up to the model's; half of the model's where None.
        keep: Probability that a coarse cell stays visible.
        seed: The same seed gives the same masks.
        space, baseline: As in `occlusion`.

    Returns:
        A signed map in units of the score, 0 (chance) where a cell has no influence; noise falls with the root of `n`.

    Raises:
        InputError: Fewer than two masks, `keep` outside (0, 1), no coarse cell, or finer ones than the model's.
        UnavailableError: No mask changes the score.
    """
    side = max(2, min(reading.model.grid) // 2) if coarse is None else coarse
    if n < 2 or not 0 < keep < 1 or not 1 <= side <= max(reading.model.grid):
        most = max(reading.model.grid)
        raise InputError(
            f"RISE needs n ≥ 2, 0 < keep < 1 and 1 ≤ coarse ≤ {most}; given are n={n}, keep={keep}, coarse={side}."
        )
    visible = _smooth_masks(reading.model.grid, n, side, keep, seeded(seed))  # (n, rows, cols)
    scores = score_masks(reading, aim, 1 - visible, space=space, baseline=baseline, what="masks").astype(np.float64)
    refuse_rounding(scores)
    values = np.tensordot(scores - scores.mean(), visible, axes=1) / (n * keep)
    return RawMap(values, extras={"n_scorings": n, "seed": seed, "mean_score": float(scores.mean())})


def _smooth_masks(grid: tuple[int, int], n: int, side: int, keep: float, rng: np.random.Generator) -> np.ndarray:
    """float32 (n, rows, cols) in [0, 1]: a coarse coin toss, enlarged bilinearly and shifted at random."""
    rows, cols = grid
    cell = -(-rows // side), -(-cols // side)
    size = ((side + 1) * cell[1], (side + 1) * cell[0])  # (width, height)
    masks = np.empty((n, rows, cols), dtype=np.float32)
    for mask in masks:
        large = cv2.resize((rng.random((side + 1, side + 1)) < keep).astype(np.float32), size)
        top, left = rng.integers(cell[0]), rng.integers(cell[1])
        mask[:] = large[top : top + rows, left : left + cols]
    return masks
