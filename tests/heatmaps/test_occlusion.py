"""Occlusion equals captum's, and finds the one token that is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, Occlusion

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps.occlusion import occlusion
from medgemma_visualizer.heatmaps.probing import baseline_for
from medgemma_visualizer.heatmaps.targets import resolve, score_tokens
from medgemma_visualizer.models.forward import image_tokens
from tests.conftest import state_of
from tests.heatmaps.conftest import PLANTED


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (2, 2), (1, 1), (3, 2)])
def test_token_windows_equal_captums_occlusion(tiny_reading: Any, window: int, stride: int) -> None:
    aim, (rows, cols) = resolve(tiny_reading, "contrast"), tiny_reading.model.grid
    tokens = tiny_reading.image_tokens.reshape(1, rows, cols, -1)
    width = tokens.shape[-1]
    expected = Occlusion(lambda t: score_tokens(tiny_reading, aim, t.flatten(1, 2))).attribute(
        tokens,
        sliding_window_shapes=(window, window, width),
        strides=(stride, stride, width),
        baselines=baseline_for(tiny_reading, "tokens", "mean").reshape(tokens.shape),
    )
    ours = occlusion(tiny_reading, aim, window=window, stride=stride).values
    np.testing.assert_allclose(ours, expected[0, ..., 0], atol=1e-5)


def test_single_cells_of_the_picture_equal_captums_feature_ablation(tiny_reading: Any) -> None:
    model, aim, (rows, cols) = tiny_reading.model, resolve(tiny_reading, "contrast"), tiny_reading.model.grid
    side = tiny_reading.pixel_values.shape[-1] // rows
    features = torch.arange(rows * cols).reshape(1, 1, rows, cols)
    expected = FeatureAblation(lambda x: score_tokens(tiny_reading, aim, image_tokens(model, x))).attribute(
        tiny_reading.pixel_values,
        baselines=baseline_for(tiny_reading, "pixels", "blur"),
        feature_mask=features.repeat_interleave(side, 2).repeat_interleave(side, 3),
    )
    ours = occlusion(tiny_reading, aim, window=1, space="pixels").values
    np.testing.assert_allclose(ours, expected[0, 0, ::side, ::side], atol=1e-5)


def test_the_only_token_that_is_read_gets_the_peak(planted: Any) -> None:
    reading, score = planted
    heatmap = explain_reading(reading, "occlusion", score, window=1, baseline="zero")
    assert np.unravel_index(heatmap.map.argmax(), heatmap.map.shape) == PLANTED
    assert heatmap.map[PLANTED] == pytest.approx(heatmap.map.sum(), rel=1e-4)


def test_twice_the_score_is_twice_the_map(small_reading: Any) -> None:
    once = occlusion(small_reading, resolve(small_reading, lambda z: z[:, 0, 3])).values
    twice = occlusion(small_reading, resolve(small_reading, lambda z: 2 * z[:, 0, 3])).values
    np.testing.assert_allclose(twice, 2 * once, atol=1e-5)


def test_the_number_of_scorings_is_reported(small_reading: Any) -> None:
    raw = occlusion(small_reading, resolve(small_reading, "contrast"), window=2)
    assert raw.extras["n_scorings"] == 9 + 1


def test_a_window_larger_than_the_grid_is_refused(small_reading: Any) -> None:
    with pytest.raises(InputError, match="window of 5"):
        explain_reading(small_reading, "occlusion", "contrast", window=5)


def test_the_model_is_given_back_as_found(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    before = state_of(small_reading.model.hf)
    occlusion(small_reading, aim)
    occlusion(small_reading, aim, space="pixels")
    assert state_of(small_reading.model.hf) == before
