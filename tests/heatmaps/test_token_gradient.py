"""(token − baseline) · gradient is a first-order account of what the baseline takes away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, Saliency

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import resolve
from medgemma_visualizer.heatmaps.hires_cam import hires_cam
from medgemma_visualizer.heatmaps.targets import score_tokens
from medgemma_visualizer.heatmaps.token_gradient import gradient_norm, token_gradient


def _captum(kind: Any, reading: Any, aim: Any, **options: Any) -> torch.Tensor:
    leaf = reading.image_tokens.clone().requires_grad_()
    return kind(lambda tokens: score_tokens(reading, aim, tokens)).attribute(leaf, **options)[0].detach()


def test_from_zero_it_is_captums_input_times_gradient_and_hires_cam(tiny_reading: Any) -> None:
    aim = resolve(tiny_reading, "answer")
    values = token_gradient(tiny_reading, aim, baseline="zero").values
    np.testing.assert_allclose(values.ravel(), _captum(InputXGradient, tiny_reading, aim).sum(-1).numpy(), atol=1e-6)
    np.testing.assert_allclose(values, hires_cam(tiny_reading, aim).values, atol=1e-6)


def test_the_norm_is_that_of_captums_saliency(tiny_reading: Any) -> None:
    aim = resolve(tiny_reading, "answer")
    expected = _captum(Saliency, tiny_reading, aim, abs=False).norm(dim=-1).numpy()
    np.testing.assert_allclose(gradient_norm(tiny_reading, aim).values.ravel(), expected, atol=1e-6)


def test_the_sum_is_the_slope_of_the_score_towards_the_baseline(tiny_reading: Any) -> None:
    aim = resolve(tiny_reading, "contrast")
    tokens = tiny_reading.image_tokens
    away = tokens - tokens.mean(1, keepdim=True)
    step = 1e-2
    with torch.no_grad():
        ahead, behind = (score_tokens(tiny_reading, aim, tokens + s * step * away) for s in (1, -1))
    raw = token_gradient(tiny_reading, aim)
    slope = float(ahead - behind) / (2 * step)
    assert raw.values.sum() == pytest.approx(slope, rel=1e-2, abs=1e-3)
    assert raw.extras["sum"] == pytest.approx(raw.values.sum(), abs=1e-5)


def test_changing_the_baseline_moves_each_cell_by_the_baselines_own_product(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    gradient = _captum(Saliency, small_reading, aim, abs=False)  # (N, D)
    moved = token_gradient(small_reading, aim, baseline="zero").values - token_gradient(small_reading, aim).values
    expected = gradient @ small_reading.image_tokens[0].mean(0)
    np.testing.assert_allclose(moved.ravel(), expected.numpy(), atol=1e-5)


def test_an_unknown_baseline_is_refused(small_reading: Any) -> None:
    with pytest.raises(InputError, match="white"):
        token_gradient(small_reading, resolve(small_reading, "contrast"), baseline="white")
