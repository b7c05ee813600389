"""Random masks find what matters, and the same seed finds the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps import rise as module
from medgemma_visualizer.heatmaps.rise import _smooth_masks, rise
from medgemma_visualizer.heatmaps.targets import resolve
from tests.heatmaps.conftest import PLANTED


def test_the_only_token_that_is_read_gets_the_peak(planted: Any) -> None:
    reading, score = planted
    grid = explain_reading(reading, "rise", score, baseline="zero", coarse=4).map
    assert np.unravel_index(grid.argmax(), grid.shape) == PLANTED


def test_a_linear_score_is_recovered(small_reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(0).normal(size=small_reading.model.grid)

    def linear(_: Any, __: Any, hidden: np.ndarray, **___: Any) -> np.ndarray:
        return ((1 - hidden) * weights).sum(axis=(1, 2)).astype(np.float32)

    monkeypatch.setattr(module, "score_masks", linear)
    raw = rise(small_reading, resolve(small_reading, "contrast"), n=20_000, coarse=4, keep=0.5)
    assert np.corrcoef(raw.values.ravel(), weights.ravel())[0, 1] > 0.8


def test_masks_are_visible_as_often_as_asked_and_never_shifted_out() -> None:
    masks = _smooth_masks((16, 16), 2000, 8, 0.3, np.random.default_rng(0))
    assert masks.min() >= 0
    assert masks.max() <= 1
    np.testing.assert_allclose(masks.mean(axis=0), 0.3, atol=0.05)


def test_the_same_seed_gives_the_same_map_and_another_seed_another(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    first = rise(small_reading, aim, n=32).values
    np.testing.assert_array_equal(rise(small_reading, aim, n=32).values, first)
    assert not np.array_equal(rise(small_reading, aim, n=32, seed=1).values, first)


@pytest.mark.parametrize("options", [{"n": 1}, {"keep": 0.0}, {"keep": 1.0}, {"coarse": 0}])
def test_impossible_options_are_refused(small_reading: Any, options: Any) -> None:
    with pytest.raises(InputError, match="RISE needs"):
        rise(small_reading, resolve(small_reading, "contrast"), **options)
