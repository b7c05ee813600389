"""Region search: the order in which regions of the image bring the answer back (greedy insertion, after Petsiuk 2018).

The one idea: reveal each region alone on an empty image and rank by the score; that single round comes within a hair of
the exhaustive greedy search, which needs fifty times the forward passes. What is left of the budget refines the top.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps.methods import RawMap, method
from medgemma_visualizer.heatmaps.probing import Baseline, Space, baseline_for, refuse_rounding, regions, score_masks
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading


@method(
    "region_search",
    label="Region Search",
    needs="scoring",
    cost="at most 83 forwards",
    paper="insertion order as in Petsiuk 2018",
)
def region_search(
    reading: Reading,
    aim: Aim,
    *,
    per_side: int = 8,
    budget: int = 83,
    space: Space = "tokens",
    baseline: Baseline | None = None,
) -> RawMap:
    """Regions ranked by how well they bring the answer back, the best first.

    Args:
        per_side: Regions along each side of the grid: 8 gives 2 × 2 tokens each on a 16 × 16 grid.
        budget: Most forward passes allowed, at least one for each region.
        space, baseline: As in `occlusion`.

    Returns:
        A map in (0, 1] of mid-ranks ÷ number of regions: 1 is the best region, ties share a value. It orders regions
        and says nothing about how much each is worth. `extras`: `order` (the cells' (row, col) of each region's first
        corner, best first), `n_scorings`, `single_scores` in the same order.

    Raises:
        InputError: The budget does not reach for one look at each region.
        UnavailableError: No region changes the score.
    """
    masks = regions(reading.model.grid, per_side)
    if budget < len(masks):
        raise InputError(f"A budget of {budget} cannot rank {len(masks)} regions. Raise it, or lower per_side.")
    instead = baseline_for(reading, space, baseline)

    def insert(shown: np.ndarray) -> np.ndarray:
        return score_masks(reading, aim, ~shown, space=space, baseline=instead, what="regions")

    single = insert(masks)
    refuse_rounding(single)
    order = np.argsort(-single, kind="stable")
    head, used = _refine(order, masks, insert, budget - len(masks))
    priority = single.astype(np.float64)
    priority[head] = single.max() + np.arange(len(head), 0, -1)
    best_first = np.argsort(-priority, kind="stable")
    ranks = rankdata(priority) / len(masks)  # ties, such as regions without any effect, share a rank
    corners = [tuple(int(v) for v in np.argwhere(masks[n])[0]) for n in best_first]
    extras = {"order": corners, "n_scorings": len(masks) + used, "single_scores": single[best_first].tolist()}
    return RawMap(np.tensordot(ranks, masks, axes=1), extras=extras)


def _refine(
    order: np.ndarray, masks: np.ndarray, insert: Callable[[np.ndarray], np.ndarray], budget: int, width: int = 6
) -> tuple[list[int], int]:
    """Greedy insertion among the `width` next-best regions, given those already shown, until the budget is spent."""
    head, rest, used = [int(order[0])], [int(n) for n in order[1:]], 0
    while used + min(width, len(rest)) <= budget and len(rest) > 1:
        candidates = rest[:width]
        shown = masks[head].any(axis=0) | masks[candidates]  # (candidates, rows, cols)
        best = candidates[int(np.argmax(insert(shown)))]
        used += len(candidates)
        head.append(best)
        rest.remove(best)
    return head, used
