"""What a map has to beat, and whether it does: random maps, the centre, its own inverse, and the verdict in words.

Knows orders of cells and lists of numbers; knows no model. Every control holds the map's own values in another order,
so that only the order differs. Every random order is read forwards and backwards, as the map and its inverse are: both
ask for the same pictures, and the SRG of random maps is exactly 0 on average. The two count as one in the intervals.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import ranked_cells
from medgemma_visualizer.records import Direction, Score
from medgemma_visualizer.scores.statistics import CONFIDENCE, bootstrap_interval

Standing = Literal["better", "worse", "none"]

FEWEST_CONTROLS = 8
FEWEST_IMPUTERS = 2
UNDECIDED = "not distinguishable from random"


def random_orders(n: int, controls: int, seed: int = 0) -> list[np.ndarray]:
    """Random orders of n cells, each followed by its reverse: 2 · `controls` arrays int (n,).

    Raises:
        InputError: Fewer than eight.
    """
    if controls < FEWEST_CONTROLS:
        raise InputError(f"{controls} random maps say too little about chance; use at least {FEWEST_CONTROLS}.")
    # A stream of their own: ties of the map are broken with the bare seed and must not repeat a control.
    rng = np.random.default_rng((seed, 1))
    drawn = [rng.permutation(n) for _ in range(controls)]
    return [order for one in drawn for order in (one, one[::-1])]


def centre_order(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """Cells by their distance from the middle of the picture, nearest first, int (rows · cols,)."""
    y, x = (np.arange(rows) + 0.5) / rows - 0.5, (np.arange(cols) + 0.5) / cols - 0.5
    return ranked_cells(-np.hypot(y[:, None], x[None]), seed)


def rearranged(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The map's own values given out along an order, the largest first: float64 (N,)."""
    given = np.empty(order.size)
    given[order] = np.sort(np.asarray(values, np.float64).ravel())[::-1]
    return given


@dataclass(frozen=True)
class Comparison:
    """A number of a map against the same number of random maps: same pictures, shares and imputer.

    Attributes:
        name: Of the number, as in `Score`.
        imputer: What stood in for removed cells.
        direction: Which way is better.
        difference: The map's less the mean of the random maps'; chance 0.
        interval: 95 %. One case: where the difference to one more random map would lie, so that a map drawn at random
            is called better in 2.5 % of cases. Many cases: of the mean difference, by patient. None where there is one
            patient only.
        n: Cases.
        mute: Why the imputer cannot tell maps apart here; empty where it can.
    """

    name: str
    imputer: str
    direction: Direction
    difference: float
    interval: tuple[float, float] | None
    n: int = 1
    mute: str = ""

    @property
    def standing(self) -> Standing:
        """Against random maps, by this number and imputer alone."""
        if self.interval is None or self.mute:
            return "none"
        low, high = self.interval if self.direction == "higher" else (-self.interval[1], -self.interval[0])
        return "better" if low > 0 else "worse" if high < 0 else "none"


def against_random(
    score: Score, imputer: str, randoms: Sequence[float], mute: str = "", least: float = 0.0
) -> Comparison:
    """One case: the interval comes from the spread of the random maps (Student's t, one degree of freedom an order).

    Args:
        score: Name, direction and number of the map.
        imputer: What stood in for removed cells.
        randoms: The same number of each random order and its reverse.
        mute: As in `Comparison`.
        least: Half the width that the interval has at least: random maps that all score alike on a saturated answer
            would otherwise make any hair's breadth a difference.
    """
    chance = np.asarray(randoms, np.float64)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, df=chance.size // 2))
    half = quantile * float(chance.std(ddof=1)) * float(np.sqrt(1 + 1 / chance.size))
    half = max(half, least)
    difference = float(score.value or 0) - float(chance.mean())
    return Comparison(score.name, imputer, score.direction, difference, (difference - half, difference + half), 1, mute)


def over_cases(
    comparisons: Sequence[Comparison], patients: Sequence[Hashable] | None = None, seed: int = 0
) -> Comparison:
    """Many cases: the mean of the paired differences with its bootstrap interval by patient.

    Raises:
        InputError: No cases, or comparisons by different numbers or imputers.
    """
    kinds = {(one.name, one.imputer) for one in comparisons}
    if len(kinds) != 1:
        raise InputError(f"Only one number under one imputer has a mean, not {sorted(kinds) or 'nothing'}; group them.")
    estimate = bootstrap_interval([one.difference for one in comparisons], patients, seed)
    first = comparisons[0]
    return Comparison(first.name, first.imputer, first.direction, estimate.value, estimate.interval, estimate.n)


def standing_of(comparisons: Sequence[Comparison]) -> Standing:
    """Better or worse than random only where two imputers agree and none says the opposite."""
    said = [one.standing for one in comparisons]
    if said.count("better") >= FEWEST_IMPUTERS and "worse" not in said:
        return "better"
    if said.count("worse") >= FEWEST_IMPUTERS and "better" not in said:
        return "worse"
    return "none"


def verdict(comparisons: Sequence[Comparison], constant: bool = False) -> str:
    """The comparison with random maps in one sentence.

    Args:
        comparisons: Of one number, one an imputer.
        constant: The map is equal everywhere; its order is drawn by lot and it can win nothing.
    """
    if constant:
        return f"{UNDECIDED}: the map is equal everywhere"
    standing = standing_of(comparisons)
    numbers = " and ".join(_words(one, absolute=standing != "none") for one in comparisons)
    if standing != "none":
        return f"{standing} than random by {numbers}"
    return f"{UNDECIDED}{_why(comparisons)}: {comparisons[0].name.upper()} differs by {numbers}"


def _why(comparisons: Sequence[Comparison]) -> str:
    mute = [one.mute for one in comparisons if one.mute]
    if mute:
        return f", as {' and '.join(mute)}"
    if len(comparisons) < FEWEST_IMPUTERS:
        return " with one imputer, which is never enough"
    return ", as the imputers disagree" if len({one.standing for one in comparisons}) > 1 else ""


def _words(one: Comparison, absolute: bool) -> str:
    """The difference with its interval; without a sign where the sentence has said the direction."""
    sign = -1 if absolute and one.difference < 0 else 1
    form = ".3f" if absolute else "+.3f"
    value = f"{sign * one.difference:{form}}"
    if one.interval is None:
        return f"{value} on {one.imputer} (one patient, so no interval)"
    low, high = sorted(sign * bound for bound in one.interval)
    return f"{value} on {one.imputer} (95 % interval {low:{form}} to {high:{form}})"
