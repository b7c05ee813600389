"""What happens to f as cells go, and the numbers read off it. Knows orders, shares and values; knows no model.

f(x) is the target's score as a probability, N the number of cells. One pair of lists holds everything: `without`, f
when the first cells of an order are removed, and `alone`, f when only they are left. Deletion and MoRF are `without`;
insertion is `alone`; LeRF is `alone` read backwards, so its area equals insertion's. Removal is by rank with exact k.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medgemma_visualizer.errors import InputError

#: DeYoung 2020: shares, in percent, over which comprehensiveness and sufficiency are averaged (AOPC).
AOPC_PERCENTS = (1, 5, 10, 20, 50)
#: Specification 7.2 and 7.3.
SPEC_PERCENTS = (10, 20, 30, 50, 70, 90)
#: Specification 7.4.
K_PERCENT = 20


def count_of(percent: float, n: int) -> int:
    """How many of n cells a percentage is: the nearest whole number, at least one cell, at most all but one.

    Symmetric: what is left of p % is the count of 100 - p %. 0 and 100 are none and all.
    """
    if not 0 <= percent <= 100:
        raise InputError(f"{percent} % is no share of the cells; choose between 0 and 100.")
    if percent in (0, 100):
        return int(percent / 100 * n)
    if percent > 50:
        return n - count_of(100 - percent, n)
    return min(max(1, int(np.floor(percent / 100 * n + 0.5))), n)


def step_counts(n: int, steps: int) -> tuple[int, ...]:
    """Counts of cells at equal steps from none to all, ascending; what is left of each count is also one.

    Raises:
        InputError: No step, or more steps than cells.
    """
    if not 1 <= steps <= n:
        raise InputError(f"{steps} steps do not fit {n} cells; choose between 1 and {n}.")
    lower = ((2 * step * n + steps) // (2 * steps) for step in range(steps // 2 + 1))  # rounded, half up
    return closed(lower, n)


def closed(counts: Iterable[int], n: int) -> tuple[int, ...]:
    """The counts with 0, n and what each leaves of n cells, ascending."""
    given = {0, *counts}
    return tuple(sorted(given | {n - count for count in given}))


def removed(order: np.ndarray, count: int, shape: tuple[int, int]) -> np.ndarray:
    """The first `count` cells of an order of flat indices: bool `shape`, exactly `count` True."""
    mask = np.zeros(order.size, bool)
    mask[order[:count]] = True
    return mask.reshape(shape)


@dataclass(frozen=True)
class Response:
    """How f answers to one order of the cells.

    Attributes:
        shares: Of the cells, the first of the order, float64 (F,), ascending from 0 to 1.
        without: f with these removed, (F,); the first is f(x), the last f of the fully masked picture.
        alone: f with only these left, (F,); the first is the fully masked picture, the last f(x).
    """

    shares: np.ndarray
    without: np.ndarray
    alone: np.ndarray

    @property
    def full(self) -> float:
        """f(x)."""
        return float(self.without[0])

    def without_at(self, shares: np.ndarray) -> np.ndarray:
        """f with the first shares removed; straight between the shares that were asked."""
        return np.interp(shares, self.shares, self.without)

    def alone_at(self, shares: np.ndarray) -> np.ndarray:
        """f with only the first shares left; straight between the shares that were asked."""
        return np.interp(shares, self.shares, self.alone)


def area(shares: np.ndarray, values: np.ndarray) -> float:
    """Trapezoid over shares scaled to [0, 1], so that a curve that stays at v has the area v."""
    return float(np.trapezoid(values, shares) / (shares[-1] - shares[0]))


def shares_of(percents: Iterable[float], n: int) -> np.ndarray:
    """Exact shares count/N that percentages stand for on n cells."""
    return np.array([count_of(percent, n) / n for percent in percents])


def curve_metrics(response: Response, shares: np.ndarray, n: int) -> dict[str, float]:
    """The citable numbers of one order (definitions of each in `faithfulness`).

    Args:
        response: f, or the target's own score in nats.
        shares: At which areas are taken, from 0 to 1 and symmetric, so that a random order has an SRG of 0 on average.
        n: Number of cells.
    """
    gone, alone = area(shares, response.without_at(shares)), area(shares, response.alone_at(shares))
    k, bins = shares_of([K_PERCENT], n), shares_of(AOPC_PERCENTS, n)
    full = response.full
    return {
        "deletion_auc": gone,
        "insertion_auc": alone,
        "morf": gone,
        "lerf": alone,
        "srg": alone - gone,
        "comprehensiveness": full - float(response.without_at(k)[0]),
        "comprehensiveness_aopc": full - float(response.without_at(bins).mean()),
        "sufficiency": full - float(response.alone_at(k)[0]),
        "sufficiency_aopc": full - float(response.alone_at(bins).mean()),
    }


def specification_metrics(response: Response, n: int) -> dict[str, float | None]:
    """The specification's values (7.2 to 7.4), on probabilities: a ratio of log-probabilities rewards worse regions.

    None where f(x) is 0, of which nothing is a ratio.
    """
    shares, k, full = shares_of(SPEC_PERCENTS, n), shares_of([K_PERCENT], n), response.full
    without, alone = float(response.without_at(k)[0]), float(response.alone_at(k)[0])
    return {
        "deletion_auc_spec": area(shares, full - response.without_at(shares)),
        "insertion_auc_spec": area(shares, response.alone_at(shares)),
        "comprehensiveness_spec": (full - without) / full if full > 0 else None,
        "sufficiency_spec": alone / full if full > 0 else None,
    }
