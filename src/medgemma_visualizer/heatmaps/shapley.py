"""Shapley values of image regions: each region's fair share of the score (Shapley 1953; Castro 2009).

The one idea: a region's value is what it adds to the score, averaged over all orders in which regions can be revealed.
With few regions every subset is asked and the values are exact; otherwise random orders, each with its reverse, are.
"""

from __future__ import annotations

from math import factorial

import numpy as np

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps.methods import RawMap, method
from medgemma_visualizer.heatmaps.probing import Baseline, Space, refuse_rounding, regions, score_masks, seeded
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading

_MOST_REGIONS = 16
_EXACT_UP_TO = 8


@method(
    "shapley",
    label="Shapley Values",
    needs="scoring",
    cost="at most 242 forwards (16 regions, 16 orders)",
    signed=True,
    paper="Shapley 1953; Castro 2009",
)
def shapley(
    reading: Reading,
    aim: Aim,
    *,
    per_side: int = 4,
    orders: int = 16,
    seed: int = 0,
    space: Space = "tokens",
    baseline: Baseline | None = None,
) -> RawMap:
    """Each region's Shapley value, spread evenly over its cells.

    Args:
        per_side: Regions along each side of the grid, at most 4 (16 regions).
        orders: Random orders where there are more than 8 regions; each second one is the reverse of the one before.
        seed: The same seed gives the same orders.
        space, baseline: As in `occlusion`.

    Returns:
        A signed map in units of the score whose sum over all cells is f(original) − f(baseline). `extras`: `exact`,
        `total` (that difference), `standard_error` (largest over regions; 0 where exact, None where fewer than four
        orders do not tell), `n_scorings`.

    Raises:
        InputError: More than 16 regions, or fewer than two orders.
        UnavailableError: No subset changes the score.
    """
    masks = regions(reading.model.grid, per_side)
    if len(masks) > _MOST_REGIONS or orders < 2:
        raise InputError(
            f"Shapley values take at most {_MOST_REGIONS} regions and at least 2 orders; given are {len(masks)} and "
            f"{orders}. Lower per_side or raise orders."
        )
    exact = len(masks) <= _EXACT_UP_TO
    subsets = _all_subsets(len(masks)) if exact else _prefixes(_orders(len(masks), orders, seed))
    asked, where = np.unique(subsets.reshape(-1, len(masks)), axis=0, return_inverse=True)  # (P, regions)
    hidden = ~np.tensordot(asked, masks, axes=1).astype(bool)  # (P, rows, cols)
    scores = score_masks(reading, aim, hidden, space=space, baseline=baseline, what="subsets").astype(np.float64)
    refuse_rounding(scores)
    found = scores[where.reshape(subsets.shape[:-1])]
    values, error = _from_subsets(found) if exact else _from_orders(found, subsets)
    total = float(scores[asked.all(axis=1)][0] - scores[~asked.any(axis=1)][0])
    extras = {"exact": exact, "total": total, "standard_error": error, "n_scorings": len(asked), "seed": seed}
    return RawMap(np.tensordot(values / masks.sum(axis=(1, 2)), masks, axes=1), extras=extras)


def _all_subsets(n: int) -> np.ndarray:
    """bool (2ⁿ, n); subset s holds region i where bit i of s is set."""
    return (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 1


def _from_subsets(scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Exact values (n,) from the scores (2ⁿ,) of all subsets."""
    n = len(scores).bit_length() - 1
    members = _all_subsets(n)
    size = members.sum(axis=1)
    weight = np.array([factorial(s) * factorial(n - s - 1) / factorial(n) for s in range(n)])
    values = np.empty(n)
    for i in range(n):
        without = np.flatnonzero(~members[:, i])
        values[i] = weight[size[without]] @ (scores[without | 1 << i] - scores[without])
    return values, 0.0


def _orders(n: int, count: int, seed: int) -> np.ndarray:
    """int (count, n): random orders, each followed by its reverse, which cancels much of the noise."""
    rng = seeded(seed)
    forward = rng.permuted(np.tile(np.arange(n), (-(-count // 2), 1)), axis=1)
    return np.stack([forward, forward[:, ::-1]], axis=1).reshape(-1, n)[:count]


def _prefixes(orders: np.ndarray) -> np.ndarray:
    """bool (count, n + 1, n): the regions shown after 0, 1, …, n steps of each order."""
    step = np.argsort(orders, axis=1)  # (count, n): when a region appears
    return step[:, None, :] < np.arange(orders.shape[1] + 1)[None, :, None]


def _from_orders(scores: np.ndarray, prefixes: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Mean gain of each region (n,) and its largest standard error (None for one pair), from scores of prefixes."""
    appears = prefixes[:, 1:] & ~prefixes[:, :-1]  # (count, step, region)
    gains = np.einsum("os,osr->or", np.diff(scores, axis=1), appears)
    pairs = gains[: len(gains) // 2 * 2].reshape(-1, 2, gains.shape[1]).mean(axis=1)  # an order and its reverse
    error = float(pairs.std(axis=0, ddof=1).max() / len(pairs) ** 0.5) if len(pairs) > 1 else None
    return gains.mean(axis=0), error
