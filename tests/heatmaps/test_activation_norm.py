"""The activation norm is the length of the vision tower's output, and knows nothing of the question."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.heatmaps import METHODS, resolve
from medgemma_visualizer.heatmaps.activation_norm import activation_norm
from tests.heatmaps.conftest import read_tiny, tiny_model


@pytest.mark.parametrize("layer", [0, 1])
def test_it_is_the_length_of_the_layers_output_averaged_over_each_cell(tiny_reading: Any, layer: int) -> None:
    tower = tiny_reading.model.hf.model.vision_tower
    with torch.no_grad():
        states = tower(pixel_values=tiny_reading.pixel_values, output_hidden_states=True).hidden_states
    norms = states[layer + 1][0].norm(dim=-1)  # the first state is the embedding
    side, (rows, cols) = round(len(norms) ** 0.5), tiny_reading.model.grid
    expected = norms.reshape(rows, side // rows, cols, side // cols).mean((1, 3)).numpy()
    raw = activation_norm(tiny_reading, resolve(tiny_reading, "contrast"), layer=layer)
    np.testing.assert_allclose(raw.values, expected, atol=1e-5)
    assert raw.layers == (layer,)


def test_at_the_projector_it_is_the_length_of_the_image_tokens(tiny_reading: Any) -> None:
    raw = activation_norm(tiny_reading, resolve(tiny_reading, "contrast"), layer="projector")
    np.testing.assert_allclose(raw.values.ravel(), tiny_reading.image_tokens[0].norm(dim=-1).numpy(), atol=1e-6)


def test_it_is_declared_and_is_the_same_for_every_target_and_question() -> None:
    assert not METHODS["activation_norm"].text_dependent
    model = tiny_model()
    first, last = read_tiny(model), read_tiny(model, image_first=False)
    maps = [
        activation_norm(r, resolve(r, t)).values for r, t in ((first, "contrast"), (first, "answer"), (last, "answer"))
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])
