"""Grad-CAM and HiResCAM are captum's, at the projector and at any vision layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation

from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.heatmaps import METHODS, resolve
from medgemma_visualizer.heatmaps.gradcam import gradcam_multi_token, gradcam_single, pooled
from medgemma_visualizer.heatmaps.gradients import at_layer, with_tokens
from medgemma_visualizer.heatmaps.hires_cam import hires_cam
from medgemma_visualizer.heatmaps.targets import flipped
from tests.heatmaps.gradient_oracles import channels_first, score_of_pixels


def _module(reading: Any, layer: Any) -> Any:
    return reading.model.projector if layer == "projector" else reading.model.vision_layers[layer]


def _over_grid(reading: Any, values: torch.Tensor) -> np.ndarray:
    """Patches (P,) averaged over the blocks that the model's grid pools."""
    side = round(len(values) ** 0.5)
    rows, cols = reading.model.grid
    return values.detach().reshape(rows, side // rows, cols, side // cols).mean((1, 3)).numpy()


@pytest.mark.parametrize("layer", ["projector", 0, -1])
@pytest.mark.parametrize("target", ["contrast", "answer", "token:1"])
def test_grad_cam_is_captums(tiny_reading: Any, layer: Any, target: str) -> None:
    aim = resolve(tiny_reading, target)
    with channels_first(_module(tiny_reading, layer)) as probe:
        oracle = LayerGradCam(score_of_pixels(tiny_reading, aim), probe)
        cam = oracle.attribute(tiny_reading.pixel_values.clone().requires_grad_(), relu_attributions=True)  # (1, 1, P)
    raw = gradcam_multi_token(tiny_reading, aim, layer=layer)
    np.testing.assert_allclose(raw.values, _over_grid(tiny_reading, cam[0, 0]), atol=1e-6)
    assert raw.layers == (None if layer == "projector" else (layer % 2,))


@pytest.mark.parametrize("layer", ["projector", 0])
def test_hires_cam_is_captums_gradient_times_activation(tiny_reading: Any, layer: Any) -> None:
    aim = resolve(tiny_reading, "answer")
    oracle = LayerGradientXActivation(score_of_pixels(tiny_reading, aim), _module(tiny_reading, layer))
    product = oracle.attribute(tiny_reading.pixel_values.clone().requires_grad_())[0].sum(-1)  # (P,)
    raw = hires_cam(tiny_reading, aim, layer=layer)
    np.testing.assert_allclose(raw.values, _over_grid(tiny_reading, product), atol=1e-6)


def test_hires_cam_before_a_normalisation_is_refused_not_drawn_from_rounding(tiny_reading: Any) -> None:
    with pytest.raises(UnavailableError, match="a normalisation follows it"):
        hires_cam(tiny_reading, resolve(tiny_reading, "contrast"), layer=-1)


def test_for_a_target_of_one_row_both_grad_cams_are_one(tiny_reading: Any) -> None:
    aim = resolve(tiny_reading, "contrast")
    single, multi = gradcam_single(tiny_reading, aim), gradcam_multi_token(tiny_reading, aim)
    np.testing.assert_array_equal(single.values, multi.values)


def test_the_single_map_is_that_of_the_first_generated_token(tiny_reading: Any) -> None:
    answer, first = resolve(tiny_reading, "answer"), resolve(tiny_reading, "token:0")
    single = gradcam_single(tiny_reading, answer).values
    np.testing.assert_allclose(single * len(answer.rows), gradcam_multi_token(tiny_reading, first).values, atol=1e-5)
    assert not np.allclose(single, gradcam_multi_token(tiny_reading, answer).values)


def test_a_map_that_its_relu_empties_is_refused_with_the_reason(small_reading: Any) -> None:
    tokens = small_reading.image_tokens
    nearly_one = tokens[:, :1] + 1e-4 * (tokens - tokens[:, :1])  # so that all positions speak with one sign
    reading = with_tokens(small_reading, nearly_one)
    aim = resolve(reading, _logit_of_seven)
    speaks_for = bool((pooled(at_layer(reading, aim, "projector")) > 0).all())
    for_it, against_it = (aim, flipped(aim)) if speaks_for else (flipped(aim), aim)
    assert gradcam_multi_token(reading, for_it).values.min() > 0
    with pytest.raises(UnavailableError, match="zero everywhere after its ReLU"):
        gradcam_multi_token(reading, against_it)


def _logit_of_seven(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, 0, 7]


def test_both_are_registered_as_the_specification_names_them() -> None:
    assert METHODS["gradcam_multi_token"].label == "Grad-CAM Multi-Token"
    assert METHODS["gradcam_single"].label == "Grad-CAM Single"
    assert METHODS["hires_cam"].signed
