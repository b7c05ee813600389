"""SmoothGrad is the mean of its base over noise that a seed decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import METHODS, resolve
from medgemma_visualizer.heatmaps.gradients import with_tokens
from medgemma_visualizer.heatmaps.smoothgrad import smoothgrad

BASES = ["token_gradient", "gradient_norm", "hires_cam", "gradcam_multi_token", "relevance"]


@pytest.mark.parametrize("base", BASES)
def test_it_is_the_mean_over_noisy_tokens(small_reading: Any, base: str) -> None:
    aim = resolve(small_reading, "contrast")
    raw = smoothgrad(small_reading, aim, base=base, samples=3, seed=7)
    generator = torch.Generator().manual_seed(7)
    tokens = small_reading.image_tokens
    maps = []
    for _ in range(3):
        noise = raw.extras["sigma"] * torch.randn(tokens.shape, generator=generator)
        maps.append(METHODS[base].compute(with_tokens(small_reading, tokens + noise), aim).values)
    np.testing.assert_allclose(raw.values, np.mean(maps, axis=0), atol=1e-6)


def test_the_noise_is_a_share_of_the_tokens_spread(small_reading: Any) -> None:
    tokens = small_reading.image_tokens[0]
    spread = float((tokens - tokens.mean(0)).pow(2).mean().sqrt())
    raw = smoothgrad(small_reading, resolve(small_reading, "contrast"), samples=1, noise=0.2)
    assert raw.extras["sigma"] == pytest.approx(0.2 * spread, rel=1e-5)


def test_the_seed_decides(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    one, same, other = (smoothgrad(small_reading, aim, samples=2, seed=s).values for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("base", BASES)
def test_without_noise_worth_the_name_it_is_its_base(small_reading: Any, base: str) -> None:
    aim = resolve(small_reading, "contrast")
    smooth = smoothgrad(small_reading, aim, base=base, samples=2, noise=1e-6).values
    np.testing.assert_allclose(smooth, METHODS[base].compute(small_reading, aim).values, atol=1e-4)


def test_the_reading_keeps_its_own_tokens(small_reading: Any) -> None:
    before = small_reading.image_tokens.clone()
    smoothgrad(small_reading, resolve(small_reading, "contrast"), samples=2)
    assert torch.equal(small_reading.image_tokens, before)


@pytest.mark.parametrize(
    "options",
    [
        {"base": "cross_attention"},
        {"base": "smoothgrad"},
        {"base": "no such method"},
        {"samples": 0},
        {"noise": 0.0},
        {"base": "gradcam_multi_token", "layer": -1},
        {"base": "integrated_gradients", "space": "pixels"},
    ],
)
def test_bases_that_would_not_see_the_noise_are_refused(small_reading: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"smoothgrad|Unknown method"):
        smoothgrad(small_reading, resolve(small_reading, "contrast"), **options)
