"""Consensus: where several methods agree, by rank (after rank aggregation, Borda 1784; Rieger & Hansen 2020).

The one idea: maps of different methods share no unit, so each becomes ranks of its cells before the mean is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.methods import METHODS, RawMap, method
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading

#: One of each kind that holds in bfloat16 too: gradient × attention, gradient × input, and asking again.
DEFAULT = ("relevance", "token_gradient", "occlusion")


@method(
    "consensus",
    label="Consensus",
    needs="scoring",
    cost="the sum of its methods",
    paper="rank mean, Borda 1784; Rieger & Hansen 2020",
)
def consensus(reading: Reading, aim: Aim, *, methods: Sequence[str] = DEFAULT) -> RawMap:
    """Mean of the cells' ranks over several methods with their default options.

    Args:
        methods: Names of `METHODS`, at least two, each once.

    Returns:
        A map in (0, 1]: mean mid-rank ÷ number of cells. Evidence against the target counts as none. A uniform map
        (chance) would be (N + 1) / 2N everywhere. `extras["methods"]` names what went in.

    Raises:
        InputError: Fewer than two methods, one given twice, an unknown one, or consensus itself.
        UnavailableError: One of them cannot explain this target: the mean of the others would be another method.
    """
    if len(set(methods)) != len(methods) or len(methods) < 2 or "consensus" in methods:
        raise InputError(f"Consensus takes two or more different methods, itself excluded; given are {list(methods)}.")
    ranks = [_ranks(name, METHODS[name].compute(reading, aim).values) for name in methods]
    return RawMap(np.mean(ranks, axis=0), extras={"methods": list(methods)})


def _ranks(name: str, values: np.ndarray) -> np.ndarray:
    """Mid-ranks of R⁺ ÷ number of cells."""
    positive = np.maximum(values, 0)
    if not np.isfinite(positive).all() or np.ptp(positive) == 0:
        raise UnavailableError(
            f"Consensus needs {name}, which found no cell that speaks more for the target than others."
        )
    return rankdata(positive).reshape(positive.shape) / positive.size
