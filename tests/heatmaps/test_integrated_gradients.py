"""Integrated gradients add up to the difference that they explain, and are captum's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerIntegratedGradients

from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.heatmaps import resolve
from medgemma_visualizer.heatmaps.integrated_gradients import integrated_gradients
from medgemma_visualizer.heatmaps.probing import baseline_for
from medgemma_visualizer.heatmaps.targets import score_tokens
from medgemma_visualizer.models.forward import image_tokens
from tests.heatmaps.conftest import read_tiny, tiny_model
from tests.heatmaps.gradient_oracles import score_of_pixels


@pytest.mark.parametrize("baseline", ["mean", "blur"])
@pytest.mark.parametrize("target", ["contrast", "answer"])
def test_on_tokens_they_are_captums(tiny_reading: Any, baseline: str, target: str) -> None:
    aim = resolve(tiny_reading, target)
    oracle = IntegratedGradients(lambda tokens: score_tokens(tiny_reading, aim, tokens))
    start = baseline_for(tiny_reading, "tokens", baseline)
    expected = oracle.attribute(tiny_reading.image_tokens, baselines=start, n_steps=16, method="gausslegendre")
    values = integrated_gradients(tiny_reading, aim, baseline=baseline, steps=16).values
    np.testing.assert_allclose(values.ravel(), expected[0].sum(-1).numpy(), atol=1e-4)


def test_from_the_tokens_of_another_picture_they_are_captums_for_the_projector(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    pixels = small_reading.pixel_values
    black = torch.full_like(pixels, -1)
    oracle = LayerIntegratedGradients(score_of_pixels(small_reading, aim), small_reading.model.projector)
    expected = oracle.attribute(pixels, baselines=black, n_steps=32, method="gausslegendre")[0].sum(-1)
    with torch.no_grad():
        start = image_tokens(small_reading.model, black)
    values = integrated_gradients(small_reading, aim, baseline=start, steps=32).values
    np.testing.assert_allclose(values.ravel(), expected.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("baseline", ["mean", "blur", "gray"])
def test_on_pixels_they_are_captums_summed_over_each_cell(tiny_reading: Any, baseline: str) -> None:
    aim = resolve(tiny_reading, "contrast")
    oracle = IntegratedGradients(score_of_pixels(tiny_reading, aim))
    start = baseline_for(tiny_reading, "pixels", baseline)
    full = oracle.attribute(tiny_reading.pixel_values, baselines=start, n_steps=16, method="gausslegendre")[0].sum(0)
    rows, cols = tiny_reading.model.grid
    height, width = full.shape
    expected = full.reshape(rows, height // rows, cols, width // cols).sum((1, 3)).numpy()
    raw = integrated_gradients(tiny_reading, aim, space="pixels", baseline=baseline, steps=16)
    np.testing.assert_allclose(raw.values, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("space", "baseline"), [("tokens", "mean"), ("tokens", "blur"), ("pixels", "mean"), ("pixels", "blur")]
)
def test_by_default_the_map_adds_up_to_within_one_percent(tiny_reading: Any, space: Any, baseline: str) -> None:
    aim = resolve(tiny_reading, "answer")
    raw = integrated_gradients(tiny_reading, aim, space=space, baseline=baseline)
    extras = raw.extras
    score = score_of_pixels(tiny_reading, aim)
    with torch.no_grad():
        end = float(score(tiny_reading.pixel_values))
        prior = baseline_for(tiny_reading, space, baseline)
        start = float(score(prior) if space == "pixels" else score_tokens(tiny_reading, aim, prior))
    assert extras["difference"] == pytest.approx(end - start, abs=1e-5)
    assert abs(float(raw.values.astype(np.float64).sum()) - (end - start)) <= 0.01 * abs(end - start) + 1e-5
    assert extras["gap_share"] <= 0.01
    assert extras["completeness_gap"] == pytest.approx(extras["gap_share"] * abs(extras["difference"]))


def test_more_points_narrow_the_gap(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    gaps = [integrated_gradients(small_reading, aim, steps=n).extras["completeness_gap"] for n in (1, 4, 16)]
    assert gaps[0] > gaps[1] > gaps[2]


def test_a_straight_score_needs_one_point(small_reading: Any) -> None:
    """On a path of constant gradient any rule is exact: here the path is so short that the score is straight."""
    aim = resolve(small_reading, "contrast")
    near = small_reading.image_tokens * 0.999
    one, many = (integrated_gradients(small_reading, aim, baseline=near, steps=n).values for n in (1, 16))
    np.testing.assert_allclose(one, many, atol=1e-6)


def test_the_size_of_batches_changes_nothing(small_reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    aim = resolve(small_reading, "answer")
    usual = integrated_gradients(small_reading, aim, steps=5).values
    monkeypatch.setattr("medgemma_visualizer.heatmaps.integrated_gradients.batch_size", lambda *_: 1)
    np.testing.assert_allclose(integrated_gradients(small_reading, aim, steps=5).values, usual, atol=1e-6)


def test_a_gap_that_does_not_close_is_an_error_and_explicit_steps_report_it(small_reading: Any) -> None:
    """From zero tokens the score jumps, because keys are normalised to full length however small the token is."""
    aim = resolve(small_reading, "contrast")
    with pytest.raises(UnavailableError, match="miss completeness by"):
        integrated_gradients(small_reading, aim, baseline="zero")
    assert integrated_gradients(small_reading, aim, baseline="zero", steps=8).extras["gap_share"] > 0.01


def test_a_score_that_is_not_finite_at_the_baseline_is_an_error(small_reading: Any) -> None:
    with torch.no_grad():
        blind = baseline_for(small_reading, "tokens")
        there = float(score_tokens(small_reading, resolve(small_reading, lambda z: z[:, 0, 7]), blind)[0])
        here = float(
            score_tokens(small_reading, resolve(small_reading, lambda z: z[:, 0, 7]), small_reading.image_tokens)[0]
        )
    middle, side = (here + there) / 2, np.sign(here - there)
    aim = resolve(small_reading, lambda z: (side * (z[:, 0, 7] - middle)).log())
    with pytest.raises(VisualizerError, match="scores are not finite"):
        integrated_gradients(small_reading, aim, steps=4)


def test_no_share_is_given_of_a_difference_of_nothing(small_reading: Any) -> None:
    aim = resolve(small_reading, lambda z: z[:, 0, 7].sign() + 1e-3 * (z[:, 0, 7] - z[:, 0, 7].detach()))
    extras = integrated_gradients(small_reading, aim, steps=2).extras
    assert extras["difference"] == 0
    assert extras["gap_share"] is None


def test_a_16_bit_model_gives_a_complete_map_or_says_why_not() -> None:
    model = tiny_model()
    model.hf.to(torch.bfloat16)
    reading = read_tiny(model)
    with pytest.raises(UnavailableError, match="dtype='float32'"):
        integrated_gradients(reading, resolve(reading, "contrast"))
    assert (
        integrated_gradients(reading, resolve(reading, "contrast"), space="pixels", baseline="blur").extras["gap_share"]
        <= 0.01
    )


@pytest.mark.parametrize("options", [{"space": "words"}, {"baseline": "white"}, {"steps": 0}])
def test_options_that_mean_nothing_are_refused(small_reading: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"words|white|steps"):
        integrated_gradients(small_reading, resolve(small_reading, "contrast"), **options)
