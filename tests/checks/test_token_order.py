"""Token n is cell n, and a swapped pair does not go unnoticed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medgemma_visualizer.checks import token_order as module
from medgemma_visualizer.checks.token_order import (
    QUADRANTS,
    bright_quadrant,
    checkerboard_test,
    quadrant_test,
    token_order,
)
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.methods import METHODS, Method, RawMap
from medgemma_visualizer.progress import listening
from tests.heatmaps.conftest import VARIANTS, tiny_model


@pytest.fixture
def planted(monkeypatch):
    """Registers a method that is the given function of a reading."""

    def add(values):
        def compute(reading, aim):
            return RawMap(values(reading))

        monkeypatch.setitem(METHODS._entries, "planted", Method("P", "activation", "", False, False, "", compute))
        return "planted"

    return add


def brightness(reading):
    rows, cols = reading.model.grid
    pixels = reading.pixel_values[0].mean(0).numpy() + 1
    return pixels.reshape(rows, pixels.shape[0] // rows, cols, -1).mean((1, 3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_token_of_every_layout_is_its_cell(variant):
    found = token_order(tiny_model(**VARIANTS[variant]))
    assert found.misses == {}
    assert (found.score.value, found.score.verdict, found.score.threshold) == (1.0, "good", 1.0)


def test_all_cells_of_the_demo_model_are_found(demo):
    found = token_order(demo)
    assert found.misses == {}
    assert found.score.n == 256
    assert found.score.chance == 1 / 256
    assert "256 of 256 cells" in found.score.reason


def test_two_swapped_tokens_are_the_two_misses(monkeypatch):
    order = torch.arange(16)
    order[[2, 9]] = order[[9, 2]]
    honest = module.image_tokens
    monkeypatch.setattr(module, "image_tokens", lambda model, pixels: honest(model, pixels)[:, order])
    found = token_order(tiny_model())
    assert found.misses == {(0, 2): (2, 1), (2, 1): (0, 2)}
    assert found.score.value == pytest.approx(14 / 16)
    assert found.score.verdict == "poor"
    assert "(0, 2) answered by (2, 1)" in found.score.reason


def test_a_transposed_grid_leaves_only_the_diagonal(monkeypatch):
    order = torch.arange(16).reshape(4, 4).T.reshape(-1)
    honest = module.image_tokens
    monkeypatch.setattr(module, "image_tokens", lambda model, pixels: honest(model, pixels)[:, order])
    found = token_order(tiny_model())
    assert found.score.value == pytest.approx(4 / 16)


def test_the_size_of_the_batch_does_not_matter_and_progress_counts_cells():
    seen = []
    with listening(lambda *step: seen.append(step)):
        odd = token_order(tiny_model(), batch=5)
    assert np.array_equal(odd.answers, token_order(tiny_model(), batch=16).answers)
    assert seen[:5] == [(n, 16, "cells") for n in (0, 5, 10, 15, 16)]


def test_a_projector_of_zeros_is_no_order():
    model = tiny_model()
    torch.nn.init.zeros_(model.projector.mm_input_projection_weight)
    with pytest.raises(InputError, match="No image token"):
        token_order(model)


def test_a_map_of_brightness_has_all_its_mass_in_each_bright_quadrant(demo, planted):
    found = quadrant_test(demo, planted(brightness))
    assert found.shares == dict.fromkeys(QUADRANTS, pytest.approx(1, abs=1e-5))
    assert (found.score.verdict, found.score.chance, found.score.n) == ("good", 0.25, 4)


def test_a_map_that_prefers_one_quadrant_is_no_better_than_chance(demo, planted):
    def upper_left(reading):
        return np.pad(np.ones((8, 8)), ((0, 8), (0, 8)))

    found = quadrant_test(demo, planted(upper_left))
    assert found.shares == {"upper left": 1.0, "upper right": 0.0, "lower left": 0.0, "lower right": 0.0}
    assert found.score.verdict == "no better than chance"
    assert checkerboard_test(demo, "planted") == (True, 1.0)


def test_quadrants_without_a_map_are_told(demo, planted):
    def never(reading):
        raise UnavailableError("the gradient is zero")

    found = quadrant_test(demo, planted(never))
    assert found.score.value is None
    assert set(found.failures) == set(QUADRANTS)
    with pytest.raises(UnavailableError):
        checkerboard_test(demo, "planted")


@pytest.mark.parametrize("name", QUADRANTS)
def test_the_bright_quadrant_is_where_its_name_says(demo, name):
    pixels = np.asarray(bright_quadrant(demo, name))[..., 0]
    down, across = np.argwhere(pixels == 255).mean(axis=0) / pixels.shape[0]
    assert ("upper" in name, "left" in name) == (down < 0.5, across < 0.5)
    assert (pixels == 255).mean() == 0.25
