"""Occlusion: what the score loses when a window of the image is replaced (Zeiler & Fergus 2014).

The one idea: slide a window over the grid of image tokens, ask again each time, and give every cell the mean loss over
the windows that cover it.
"""

from __future__ import annotations

import numpy as np

from medgemma_visualizer.heatmaps.methods import RawMap, method
from medgemma_visualizer.heatmaps.probing import (
    Baseline,
    Space,
    mean_over_masks,
    refuse_rounding,
    score_masks,
    windows,
)
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading


@method(
    "occlusion",
    label="Occlusion",
    needs="scoring",
    cost="1 forward a window (196 on a 16 × 16 grid)",
    signed=True,
    paper="Zeiler & Fergus 2014",
)
def occlusion(
    reading: Reading,
    aim: Aim,
    *,
    window: int = 3,
    stride: int = 1,
    space: Space = "tokens",
    baseline: Baseline | None = None,
) -> RawMap:
    """Score of the original minus score without a window, averaged over the windows that cover a cell.

    Args:
        window: Side of the window in cells.
        stride: Step of the window in cells, at most `window`.
        space: "tokens" (image tokens after the projector) or "pixels" (patch-aligned cells of the picture).
        baseline: Tokens: "mean" (default), "blur", "zero"; pixels: "blur" (default), "mean", "gray"; or a tensor.

    Returns:
        A signed map in units of the score; above 0 where the image supports the target, 0 (chance) where it does not
        matter. Equals captum's `Occlusion` within float rounding. `extras["n_scorings"]` counts forward passes.

    Raises:
        InputError: A window, stride, space or baseline that does not exist here.
        UnavailableError: No window changes the score.
    """
    masks = windows(reading.model.grid, window, stride)
    probes = np.concatenate([np.zeros_like(masks[:1]), masks])  # the image as it is, then each window
    scores = score_masks(reading, aim, probes, space=space, baseline=baseline, what="windows")
    refuse_rounding(scores)
    extras = {"score": float(scores[0]), "n_scorings": len(probes)}
    return RawMap(mean_over_masks(scores[0] - scores[1:], masks), extras=extras)
