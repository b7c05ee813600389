"""What every score needs to know of a map before it counts: its positive part, and whether it says anything.

Knows arrays of numbers; knows nothing about images, regions or thresholds.
"""

from __future__ import annotations

import numpy as np

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import finite_map

ZERO = "the map holds no positive relevance"
CONSTANT = "the map is equal everywhere"

_ROUNDING = 1e-6  # relative spread under which a map is the same number everywhere, up to single precision


def positive_part(grid: np.ndarray) -> np.ndarray:
    """R⁺ = max(R, 0) divided by its largest value, float64 (rows, cols) in [0, 1]; zeros where nothing is positive.

    The scale cancels in every score that uses R⁺; dividing first keeps sums of huge or tiny values in range.

    Raises:
        InputError: Not two-dimensional, or holding NaN or infinity.
    """
    positive = np.maximum(finite_map(grid), 0)
    largest = positive.max()
    return positive / largest if largest > 0 else positive


def distribution(grid: np.ndarray) -> np.ndarray:
    """p = R⁺ / ΣR⁺, float64 (rows, cols), sum 1.

    Raises:
        InputError: Nothing in the map is positive, or it is not finite and two-dimensional.
    """
    positive = positive_part(grid)
    total = positive.sum()
    if total == 0:
        raise InputError("The map holds no positive relevance, so it is no distribution; use a map that explains.")
    return positive / total


def is_constant(grid: np.ndarray) -> bool:
    """True where all cells hold the same number up to rounding in single precision."""
    values = finite_map(grid)
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())
