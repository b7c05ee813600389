"""What stands in for removed cells, on the embedded model's pictures."""

import numpy as np
import pytest
import torch

from medgemma_visualizer.checks.imputers import (
    IMPUTERS,
    NOISE,
    imputer,
    interpolated,
    mean_inside_body,
    neighbour_system,
    whole_cells,
)
from medgemma_visualizer.checks.scoring import ModelScorer
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps import resolve
from medgemma_visualizer.models.forward import image_tokens
from medgemma_visualizer.scores.body import body_mask


@pytest.fixture
def mask(reading):
    some = np.zeros((1, *reading.model.grid), bool)
    some[0, 3:6, 4:8] = True
    return some


@pytest.mark.parametrize("name", IMPUTERS)
def test_imputers_give_whole_finite_pictures_again_and_again_and_write_nothing(reading, mask, name):
    before = reading.pixel_values.clone()
    fill = imputer(reading, name, seed=3)
    one, two = fill(mask), imputer(reading, name, seed=3)(mask)
    assert one.shape == before.shape
    assert torch.isfinite(one).all()
    assert torch.equal(one, two)
    assert torch.equal(reading.pixel_values, before)


def test_the_mean_is_the_mean_of_the_body_only(reading):
    film = reading.pixel_values[0].mean(0).numpy()
    body = body_mask(film)
    expected = reading.pixel_values[0].numpy()[:, body].mean(1)
    assert mean_inside_body(reading).ravel().numpy() == pytest.approx(expected, abs=1e-5)
    assert abs(expected - reading.pixel_values[0].numpy().mean((1, 2))).max() > 1e-3


def test_gray_is_128_of_255(reading, mask):
    assert imputer(reading, "gray")(mask).unique().tolist() == pytest.approx([2 * 128 / 255 - 1], abs=1e-6)


def test_a_removed_pixel_between_known_ones_is_their_weighted_mean():
    """Straight neighbours weigh twice as much as diagonal ones."""
    picture = np.array([[[1.0, 2.0, 3.0], [4.0, 99.0, 6.0], [7.0, 8.0, 9.5]]])
    gone = np.zeros((3, 3), bool)
    gone[1, 1] = True
    filled = interpolated(picture, gone, neighbour_system(3, 3), np.zeros((1, 1)))
    assert filled[0, 1, 1] == pytest.approx((2 + 4 + 6 + 8) / 6 + (1 + 3 + 7 + 9.5) / 12, abs=1e-12)
    assert np.array_equal(filled[0][~gone], picture[0][~gone])
    assert picture[0, 1, 1] == 99


def test_the_linear_system_equals_a_dense_solution_at_edges_too():
    rng = np.random.default_rng(0)
    picture, gone = rng.random((2, 5, 6)), rng.random((5, 6)) < 0.6
    dense = np.zeros((30, 30))
    for y in range(5):
        for x in range(6):
            for down, across in np.ndindex(3, 3):
                there = y + down - 1, x + across - 1
                straight = abs(down - 1) + abs(across - 1)
                if straight and 0 <= there[0] < 5 and 0 <= there[1] < 6:
                    weight = 1 / 6 if straight == 1 else 1 / 12
                    dense[6 * y + x, 6 * there[0] + there[1]] -= weight
                    dense[6 * y + x, 6 * y + x] += weight
    assert neighbour_system(5, 6).toarray() == pytest.approx(dense, abs=1e-12)
    u, k = np.flatnonzero(gone), np.flatnonzero(~gone)
    expected = np.linalg.solve(dense[np.ix_(u, u)], -dense[np.ix_(u, k)] @ picture.reshape(2, -1)[:, k].T)
    filled = interpolated(picture, gone, neighbour_system(5, 6), np.zeros((2, 1)))
    assert pytest.approx(expected, abs=1e-6) == filled.reshape(2, -1)[:, u].T


def test_interpolation_hides_what_was_there_and_a_wholly_removed_picture_is_the_mean(reading, mask):
    gone = whole_cells(mask, *reading.pixel_values.shape[-2:])[0]
    fill = imputer(reading, "noisy_linear")
    filled = fill(mask)[0, 0].numpy()
    original = reading.pixel_values[0, 0].numpy()
    low, high = original[~gone].min(), original[~gone].max()
    assert filled[gone].min() > low - 6 * NOISE
    assert filled[gone].max() < high + 6 * NOISE
    empty = fill(np.ones_like(mask))[0].mean((1, 2))
    assert empty.numpy() == pytest.approx(mean_inside_body(reading).ravel().numpy(), abs=1e-3)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_a_fill_solved_on_a_smaller_picture_differs_from_the_exact_one_by_no_more_than_twice_the_noise(reading, share):
    some = np.random.default_rng(0).random((1, *reading.model.grid)) < share
    pixels = reading.pixel_values[0].double().numpy()
    gone = whole_cells(some, *pixels.shape[-2:])[0]
    exact = interpolated(pixels, gone, neighbour_system(*pixels.shape[-2:]), np.zeros((3, 1)))
    fill = imputer(reading, "noisy_linear")(some)[0].numpy()
    differences = (fill - exact)[:, gone]
    assert np.sqrt((differences**2 - NOISE**2).mean()) < 2 * NOISE
    assert exact[:, gone].std() > 20 * NOISE


def test_in_token_space_removed_cells_take_the_tokens_of_the_imputed_picture(reading, mask):
    scorer = ModelScorer(reading, resolve(reading), ("gray",), "tokens")
    with torch.no_grad():
        expected = image_tokens(reading.model, imputer(reading, "gray")(mask))
    assert torch.allclose(scorer.fills["gray"](mask), expected)
    everything = np.ones_like(mask)
    pixels = ModelScorer(reading, resolve(reading), ("gray",), "pixels")
    assert scorer(everything, ["gray"]) == pytest.approx(pixels(everything, ["gray"]), abs=2e-4)


def test_noisy_interpolation_scores_alike_in_any_company(reading, mask):
    scorer = ModelScorer(reading, resolve(reading), ("noisy_linear", "blur"), "tokens")
    both = scorer(np.concatenate([mask, ~mask]), ["noisy_linear", "blur"])
    assert both[0] == pytest.approx(scorer(mask, ["noisy_linear"])[0], abs=2e-4)


def test_cells_that_are_not_whole_pixels_and_unknown_names_are_refused(reading):
    with pytest.raises(UnavailableError, match="whole cells"):
        whole_cells(np.zeros((1, 3, 3), bool), 224, 224)
    with pytest.raises(InputError, match="Unknown imputer"):
        imputer(reading, "median")
