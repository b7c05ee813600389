"""Region search: the order in which regions of the image carry the answer, greedily (after Petsiuk 2018).

The one idea: score each region alone, rank by that, and let what is left of the budget refine the top. Where several
regions hold the evidence, each is enough alone and none is missed: shown alone they come within a hair of an exhaustive
greedy search, which needs fifty times the forward passes; hidden one by one they say next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from medgemma_visualizer.errors import InputError, unknown_name
from medgemma_visualizer.heatmaps.methods import RawMap, method
from medgemma_visualizer.heatmaps.probing import Baseline, Space, baseline_for, refuse_rounding, regions, score_masks
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading

Direction = Literal["insertion", "deletion", "both"]

#: How a set of regions is scored: shown alone, which speaks for it (1), or hidden, which speaks against it (-1).
_SIGNS: dict[str, tuple[int, ...]] = {"insertion": (1,), "deletion": (-1,), "both": (1, -1)}

#: Scorings in one step of the refinement.
_STEP = 6


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
    direction: Direction = "both",
    per_side: int = 8,
    budget: int = 83,
    space: Space = "tokens",
    baseline: Baseline | None = None,
) -> RawMap:
    """Regions ranked by how much of the answer they carry, the best first.

    Args:
        direction: What a good set of regions does. "insertion": shown alone, it brings the score back. "deletion":
            hidden, it takes the score away. "both": the score with nothing else minus the score without it is large;
            where the budget does not reach for both of every region, the first round is that of "insertion".
        per_side: Regions along each side of the grid: 8 gives 2 × 2 tokens each on a 16 × 16 grid.
        budget: Most forward passes allowed, at least one for each region.
        space, baseline: As in `occlusion`.

    Returns:
        A map in (0, 1] of mid-ranks ÷ number of regions: 1 is the best region, ties share a value. It orders regions
        and says nothing about how much each is worth. `extras`: `direction`; `order` (the cells' (row, col) of each
        region's first corner, best first); `single_scores` (the first round in that order: larger is better, in units
        of the score); `n_scorings`.

    Raises:
        InputError: No such direction, or the budget does not reach for one look at each region.
        UnavailableError: No region changes the score.
    """
    masks = regions(reading.model.grid, per_side)
    signs, first = _rounds(direction, budget, len(masks))
    instead = baseline_for(reading, space, baseline)

    def ask(sets: np.ndarray, signs: tuple[int, ...]) -> np.ndarray:
        """Sets of cells (P, rows, cols) -> scores (len(signs), P)."""
        hidden = np.concatenate([~sets if sign > 0 else sets for sign in signs])
        scores = score_masks(reading, aim, hidden, space=space, baseline=instead, what="regions")
        return scores.astype(np.float64).reshape(len(signs), -1)

    scores = ask(masks, first)
    refuse_rounding(max(scores, key=np.ptp))
    single = np.array(first) @ scores
    order = [int(n) for n in np.argsort(-single, kind="stable")]
    known = 1 if first == signs else 0  # whether the first round has found the best region already
    left, width = (budget - scores.size) // len(signs), _STEP // len(signs)
    head, used = _refine(order, known, masks, lambda sets: np.array(signs) @ ask(sets, signs), left, width)
    priority = single.copy()
    priority[head] = single.max() + np.arange(len(head), 0, -1)
    best_first = np.argsort(-priority, kind="stable")
    ranks = rankdata(priority) / len(masks)  # ties, such as regions without any effect, share a rank
    extras = {
        "direction": direction,
        "order": [tuple(int(v) for v in np.argwhere(masks[n])[0]) for n in best_first],
        "single_scores": single[best_first].tolist(),
        "n_scorings": scores.size + used * len(signs),
    }
    return RawMap(np.tensordot(ranks, masks, axes=1), extras=extras)


def _rounds(direction: str, budget: int, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Signs of the refinement and of the first round.

    Raises:
        InputError: No such direction, or a budget under one look at each of `count` regions.
    """
    if direction not in _SIGNS:
        raise unknown_name("direction", direction, _SIGNS)
    if budget < count:
        raise InputError(f"A budget of {budget} cannot rank {count} regions. Raise it, or lower per_side.")
    signs = _SIGNS[direction]
    return signs, signs if count * len(signs) <= budget else _SIGNS["insertion"]


def _refine(
    order: list[int],
    known: int,
    masks: np.ndarray,
    worth: Callable[[np.ndarray], np.ndarray],
    budget: int,
    width: int,
) -> tuple[list[int], int]:
    """Chooses the best of the `width` next regions, given those already chosen, until the budget is spent.

    Args:
        order: Regions, the best first; the first `known` are chosen already.
        worth: Sets of cells (P, rows, cols) -> float (P,).
        budget: Most sets to ask about.

    Returns:
        The chosen regions, and how many sets were asked about.
    """
    head, rest, used = order[:known], order[known:], 0
    while used + min(width, len(rest)) <= budget and len(rest) > 1:
        candidates = rest[:width]
        sets = masks[head].any(axis=0) | masks[candidates]  # (candidates, rows, cols)
        best = candidates[int(np.argmax(worth(sets)))]
        used += len(candidates)
        head.append(best)
        rest.remove(best)
    return head, used
