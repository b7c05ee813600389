"""Does the map predict what random changes do? Infidelity, faithfulness correlation, and how steady the map is.

Knows maps, random sets of cells and what each set cost; knows no model. Maps come in any unit, so infidelity is taken
at the scale that suits the map best.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import pearsonr

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.scores.maps import is_constant

RADIUS = 0.02  # Yeh 2019


def random_subsets(n: int, size: int, count: int, seed: int = 0) -> np.ndarray:
    """Random sets of cells, bool (count, n), each with exactly `size` True.

    All of one size: with sets of several sizes any positive map would correlate, by size alone.
    """
    order = np.random.default_rng((seed, 3)).random((count, n)).argsort(axis=1)
    return order < size


def infidelity(values: np.ndarray, removed: np.ndarray, drops: np.ndarray, *, scaled: bool = True) -> float:
    """E[(β · Iᵀφ - (f(x) - f(x - I)))²] over changes I. Source: Yeh et al. 2019, equation 3.

    Range ≥ 0, lower is better; 0 for the weights of a linear model. Without a map, Iᵀφ = 0, it is the mean squared
    drop; a constant map on sets of one size has the variance of the drops.

    Args:
        values: The map φ, (N,) or (rows, cols).
        removed: The changes, bool or float (P, N): how much of each cell is taken away.
        drops: f(x) - f(x - I), (P,).
        scaled: Take the β that makes the value smallest, as the unit of a map is arbitrary; 1 otherwise.

    Raises:
        InputError: Lengths that do not fit, or no changes.
    """
    predicted = _predicted(values, removed, drops)
    squares = float(predicted @ predicted)
    best = float(predicted @ drops) / squares if squares > 0 else 0.0
    return float(np.mean(((best if scaled else 1.0) * predicted - drops) ** 2))


def faithfulness_correlation(values: np.ndarray, removed: np.ndarray, drops: np.ndarray) -> float | None:
    """Pearson correlation of Σφ over random sets of cells with what removing them costs. Source: Bhatt et al. 2020.

    Range [-1, 1], higher is better, chance 0. None where either side does not vary, as with a constant map. Arguments
    and errors as in `infidelity`.
    """
    predicted = _predicted(values, removed, drops)
    still = is_constant(np.asarray(values).reshape(1, -1)) or np.ptp(predicted) == 0 or np.ptp(drops) == 0
    return None if still else float(pearsonr(predicted, drops).statistic)


def sensitivity_max(
    remap: Callable[[torch.Tensor], np.ndarray],
    inputs: torch.Tensor,
    *,
    radius: float = RADIUS,
    samples: int = 10,
    seed: int = 0,
) -> float:
    """max ‖φ(y) - φ(x)‖ / ‖φ(x)‖ over random y with |y - x| ≤ radius everywhere. Source: Yeh et al. 2019.

    Range ≥ 0, lower is better, no chance level: a map that ignores the picture scores 0, so never read it alone.

    Args:
        remap: Explains anew: the picture or image tokens, shaped as `inputs`, -> the map.
        inputs: What is disturbed; never written.
        radius: In units of `inputs`.
        samples: How many disturbed inputs are explained.
        seed: Of the disturbances.

    Raises:
        InputError: A map of zeros, to which no change can be compared, or no samples.
    """
    before = np.asarray(remap(inputs), np.float64)
    size = float(np.linalg.norm(before))
    if size == 0 or samples < 1:
        raise InputError(f"Sensitivity needs a map that is not zero and a sample: norm {size:g}, {samples} samples.")
    rng = np.random.default_rng((seed, 4))
    changes = []
    for _ in range(samples):
        noise = torch.from_numpy(rng.uniform(-radius, radius, tuple(inputs.shape))).to(inputs)
        changes.append(float(np.linalg.norm(np.asarray(remap(inputs + noise), np.float64) - before)))
    return max(changes) / size


def _predicted(values: np.ndarray, removed: np.ndarray, drops: np.ndarray) -> np.ndarray:
    """Iᵀφ, float64 (P,)."""
    flat = np.asarray(values, np.float64).ravel()
    if removed.ndim != 2 or removed.shape != (len(drops), flat.size) or not len(drops):
        raise InputError(f"{removed.shape} changes do not fit {flat.size} cells and {len(drops)} drops.")
    return removed.astype(np.float64) @ flat
