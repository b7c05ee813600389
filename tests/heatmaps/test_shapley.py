"""Shapley values by their definition, exact or sampled, always sharing out the whole difference."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from captum.attr import ShapleyValues

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps.probing import baseline_for, regions, score_masks
from medgemma_visualizer.heatmaps.shapley import shapley
from medgemma_visualizer.heatmaps.targets import resolve, score_tokens
from tests.heatmaps.conftest import PLANTED


def test_four_regions_equal_the_mean_gain_over_all_orders(tiny_reading: Any) -> None:
    aim, masks = resolve(tiny_reading, "contrast"), regions(tiny_reading.model.grid, 2)
    gains = np.zeros(4)
    for order in permutations(range(4)):
        shown = np.cumsum(masks[list(order)], axis=0).astype(bool)
        scores = score_masks(tiny_reading, aim, ~np.concatenate([np.zeros_like(masks[:1]), shown]))
        gains[list(order)] += np.diff(scores) / 24
    expected = np.tensordot(gains / masks.sum(axis=(1, 2)), masks, axes=1)
    raw = shapley(tiny_reading, aim, per_side=2)
    np.testing.assert_allclose(raw.values, expected, atol=1e-5)
    assert raw.extras["exact"]
    assert raw.extras["n_scorings"] == 16


def test_four_regions_equal_captums_exact_values(small_reading: Any) -> None:
    import torch

    aim, masks = resolve(small_reading, "contrast"), regions(small_reading.model.grid, 2)
    labels = torch.from_numpy(masks.argmax(axis=0)).reshape(1, -1, 1)
    with torch.no_grad():
        expected = ShapleyValues(lambda t: score_tokens(small_reading, aim, t)).attribute(
            small_reading.image_tokens,
            baselines=baseline_for(small_reading, "tokens"),
            feature_mask=labels.expand_as(small_reading.image_tokens).contiguous(),
        )
    ours = shapley(small_reading, aim, per_side=2).values
    np.testing.assert_allclose(ours.ravel(), expected[0, :, 0] / 4, atol=1e-5)


@pytest.mark.parametrize("per_side", [2, 3, 4])
def test_the_whole_difference_is_shared_out(small_reading: Any, per_side: int) -> None:
    aim = resolve(small_reading, "contrast")
    raw = shapley(small_reading, aim, per_side=per_side, orders=6)
    full, empty = score_masks(small_reading, aim, np.stack([np.zeros((4, 4)), np.ones((4, 4))]))
    assert raw.values.sum() == pytest.approx(full - empty, abs=1e-5)
    assert raw.extras["total"] == pytest.approx(full - empty, abs=1e-5)


def test_sampled_values_lie_within_their_error_of_the_exact_ones(tiny_reading: Any) -> None:
    aim = resolve(tiny_reading, "contrast")
    few, many = (shapley(tiny_reading, aim, orders=n, seed=n) for n in (32, 256))
    cells = regions(tiny_reading.model.grid, 4)[0].sum()
    assert np.abs(few.values - many.values).max() * cells < 5 * few.extras["standard_error"]


@pytest.mark.parametrize(("orders", "known"), [(2, False), (3, False), (4, True)])
def test_the_error_of_a_single_pair_of_orders_is_not_known(small_reading: Any, orders: int, known: bool) -> None:
    error = shapley(small_reading, resolve(small_reading, "contrast"), orders=orders).extras["standard_error"]
    assert error > 0 if known else error is None


def test_the_only_token_that_is_read_gets_everything(planted: Any) -> None:
    reading, score = planted
    heatmap = explain_reading(reading, "shapley", score, baseline="zero")
    assert np.unravel_index(heatmap.map.argmax(), heatmap.map.shape) == PLANTED
    assert heatmap.map[PLANTED] == pytest.approx(heatmap.extras["total"], rel=1e-4)


def test_the_same_seed_gives_the_same_map(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    np.testing.assert_array_equal(shapley(small_reading, aim).values, shapley(small_reading, aim).values)


def test_more_than_sixteen_regions_are_refused(tiny_reading: Any) -> None:
    aim = resolve(tiny_reading, "contrast")
    if tiny_reading.model.grid == (6, 6):
        with pytest.raises(InputError, match="at most 16"):
            shapley(tiny_reading, aim, per_side=6)
    with pytest.raises(InputError, match="2 orders"):
        shapley(tiny_reading, aim, orders=1)
