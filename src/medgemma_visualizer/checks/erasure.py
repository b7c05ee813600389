"""Single numbers and curves of one map under one imputer, by the specification's names.

Knows one order of cells; asks for no controls, so it says nothing about chance: `faithfulness` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgemma_visualizer.checks.curves import K_PERCENT, Response, area, count_of, step_counts
from medgemma_visualizer.checks.scoring import Memo, ModelScorer, erasures, refuse_other_shape, response
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import ranked_cells
from medgemma_visualizer.heatmaps.probing import Space
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading


@dataclass(frozen=True)
class Curve:
    """f along the map's order.

    Attributes:
        fractions: Share of the cells removed (deletion) or revealed (insertion), float64 (F,), from 0 to 1.
        values: f at each, (F,).
        prior: f of the fully masked picture: what the language alone would say.
        auc: Area under the values, in [0, 1] for probabilities.
    """

    fractions: np.ndarray
    values: np.ndarray
    prior: float
    auc: float


def deletion_curve(
    reading: Reading,
    aim: Aim,
    grid: np.ndarray,
    *,
    imputer: str = "blur",
    space: Space = "pixels",
    steps: int = 16,
    seed: int = 0,
) -> Curve:
    """f as the map's top cells are removed, first to last (Petsiuk 2018). A smaller area is better.

    Arguments and errors as in `faithfulness.faithfulness`.
    """
    found = _asked(reading, aim, grid, step_counts(np.size(grid), steps), imputer, space, seed)
    return Curve(found.shares, found.without, float(found.alone[0]), area(found.shares, found.without))


def insertion_curve(
    reading: Reading,
    aim: Aim,
    grid: np.ndarray,
    *,
    imputer: str = "blur",
    space: Space = "pixels",
    steps: int = 16,
    seed: int = 0,
) -> Curve:
    """f as the map's top cells appear in the imputed picture, first to last (Petsiuk 2018). A larger area is better.

    Arguments and errors as in `faithfulness.faithfulness`.
    """
    found = _asked(reading, aim, grid, step_counts(np.size(grid), steps), imputer, space, seed)
    return Curve(found.shares, found.alone, float(found.alone[0]), area(found.shares, found.alone))


def comprehensiveness(
    reading: Reading,
    aim: Aim,
    grid: np.ndarray,
    *,
    k: float = K_PERCENT,
    imputer: str = "blur",
    space: Space = "pixels",
    seed: int = 0,
) -> float:
    """f(x) less f without the map's top k %: [-1, 1] for probabilities, higher is better. Source: DeYoung 2020.

    Other arguments and errors as in `faithfulness.faithfulness`.
    """
    found = _asked(reading, aim, grid, _top(k, grid), imputer, space, seed)
    return float(found.without[0] - found.without[1])


def sufficiency(
    reading: Reading,
    aim: Aim,
    grid: np.ndarray,
    *,
    k: float = K_PERCENT,
    imputer: str = "blur",
    space: Space = "pixels",
    seed: int = 0,
) -> float:
    """f(x) less f of the map's top k % alone: [-1, 1] for probabilities, lower is better. Source: DeYoung 2020.

    Other arguments and errors as in `faithfulness.faithfulness`.
    """
    found = _asked(reading, aim, grid, _top(k, grid), imputer, space, seed)
    return float(found.alone[2] - found.alone[1])


def _top(k: float, grid: np.ndarray) -> tuple[int, int, int]:
    """Counts of no cell, the top k %, and all.

    Raises:
        InputError: Not between 0 and 100 %, both left out.
    """
    if not 0 < k < 100:
        raise InputError(f"k is {k} %; choose a share of the cells between 0 and 100 %, both left out.")
    return 0, count_of(k, np.size(grid)), np.size(grid)


def _asked(
    reading: Reading, aim: Aim, grid: np.ndarray, counts: Sequence[int], imputer: str, space: Space, seed: int
) -> Response:
    scorer = ModelScorer(reading, aim, (imputer,), space, seed)
    refuse_other_shape(np.asarray(grid), scorer.grid)
    memo, order = Memo(scorer), ranked_cells(grid, seed)
    memo.learn((imputer, mask) for masks in erasures(order, counts, scorer.grid) for mask in masks)
    return response(memo, imputer, order, counts)
