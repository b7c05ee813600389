"""A trap of other tools: a metric that normalises or masks in place changes the next number, and the caller's map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medgemma_visualizer import grid
from medgemma_visualizer.checks.controls import rearranged
from medgemma_visualizer.checks.predictions import faithfulness_correlation, infidelity
from medgemma_visualizer.scores import agreement, body, localisation, quality
from medgemma_visualizer.scores.statistics import bootstrap_interval, paired_difference, wilcoxon

SIDE = 16
MASK = np.zeros((64, 64), bool)
MASK[10:30, 20:50] = True
SETS = np.random.default_rng(1).random((20, SIDE * SIDE)) < 0.2

#: What is given one map, or two, of any dtype.
READERS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Any]] = {
    "quality": lambda one, other, mask: quality.quality_scores(one, mask),
    "localisation": lambda one, other, mask: localisation.localisation_scores(one, mask),
    "agreement": lambda one, other, mask: agreement.agreement_scores(one, other),
    "cells_inside": lambda one, other, mask: localisation.cells_inside(mask, SIDE, SIDE),
    "body_mask": lambda one, other, mask: body.body_mask(one),
    "coverage": lambda one, other, mask: grid.coverage(mask, SIDE, SIDE),
    "upsample": lambda one, other, mask: grid.upsample(one, 64, 64, "bilinear"),
    "ranked_cells": lambda one, other, mask: grid.ranked_cells(one, 0),
    "top_cells": lambda one, other, mask: grid.top_cells(one, 9, 0),
    "rearranged": lambda one, other, mask: rearranged(one, np.arange(one.size)),
    "infidelity": lambda one, other, mask: infidelity(one, SETS, np.arange(20.0)),
    "correlation": lambda one, other, mask: faithfulness_correlation(one, SETS, np.arange(20.0)),
    "bootstrap": lambda one, other, mask: bootstrap_interval(one[0]),
    "paired": lambda one, other, mask: paired_difference(one[0], other[0]),
    "wilcoxon": lambda one, other, mask: wilcoxon(one[0], other[0]),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("name", READERS)
def test_the_callers_arrays_are_never_written(name: str, dtype: type) -> None:
    given = np.random.default_rng(0).normal(0, 50, (2, SIDE, SIDE)).astype(dtype)
    arrays = (given[0].copy(), given[1].copy(), MASK.copy())
    first = READERS[name](*arrays)
    assert np.array_equal(arrays[0], given[0])
    assert np.array_equal(arrays[1], given[1])
    assert np.array_equal(arrays[2], MASK)
    for array in arrays:
        array.setflags(write=False)
    assert repr(READERS[name](*arrays)) == repr(first)  # and read-only ones are no trouble
