"""Disturbed films: what each strength does to levels that can be worked out by hand, and where moved points go."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medgemma_visualizer.checks.perturbations import PERTURBATIONS, SIDE, Motion, perturb
from medgemma_visualizer.errors import InputError, UnavailableError

LEVELS = np.array([[0, 60, 120], [180, 240, 255]], np.uint8)


def grey(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.asarray(levels, np.uint8))


def after(levels: Any, name: str, strength: float, **how: Any) -> list[list[int]]:
    return np.asarray(perturb(grey(levels), name, strength, **how).image).tolist()


@pytest.fixture
def film() -> np.ndarray:
    """A film with something everywhere, not square, large enough for the slightest blur to tell."""
    return np.random.default_rng(3).integers(20, 230, (240, 200)).astype(np.uint8)


# --- levels, by hand -------------------------------------------------------------------------------------------------


def test_brightness_adds_and_clips_at_black_and_white_without_wrapping_round() -> None:
    assert after(LEVELS, "brightness", 10) == [[10, 70, 130], [190, 250, 255]]
    assert after(LEVELS, "brightness", -70) == [[0, 0, 50], [110, 170, 185]]


def test_contrast_stretches_about_the_mean_level() -> None:
    assert after([[80, 100, 120]], "contrast", 50) == [[70, 100, 130]]
    assert after([[80, 100, 120]], "contrast", -100) == [[100, 100, 100]]


def test_gamma_of_one_doubling_squares_the_share_of_white() -> None:
    assert after([[0, 51, 255]], "gamma", 1) == [[0, 10, 255]]  # 255 · 0.2² = 10.2
    assert after([[0, 51, 255]], "gamma", -1) == [[0, 114, 255]]  # 255 · √0.2 = 114.04


def test_a_window_is_moved_and_narrowed_by_shares_of_the_films_own_range() -> None:
    film = [[50, 100, 150]]  # range 100, middle 100
    assert after(film, "window_centre", 20) == [[50, 80, 130]]  # what falls under the film's black is black
    assert after(film, "window_centre", -20) == [[70, 120, 150]]
    assert after([[50, 90, 100, 150]], "window_width", 50) == [[50, 80, 100, 150]]
    assert after([[50, 90, 100, 150]], "window_width", -100) == [[75, 95, 100, 125]]
    assert after([[70, 70]], "window_width", 50) == [[70, 70]]  # one level has no range


def test_blur_spreads_a_line_as_a_gaussian_of_that_width_and_keeps_its_mass() -> None:
    film = np.zeros((SIDE, SIDE))
    film[:, 112] = 200
    spread = np.array(after(film, "blur", 2))[100]
    at = np.arange(SIDE)
    expected = 200 / (2 * math.sqrt(2 * math.pi)) * np.exp(-((at - 112) ** 2) / 8)
    np.testing.assert_allclose(spread, expected, atol=1)


def test_noise_has_the_sigma_asked_for_and_no_colour() -> None:
    film = Image.fromarray(np.full((200, 200, 3), 128, np.uint8))
    noisy = np.asarray(perturb(film, "gaussian_noise", 10, seed=4).image).astype(float)
    assert noisy[..., 0].std() == pytest.approx(10, rel=0.03)
    assert noisy.mean() == pytest.approx(128, abs=0.3)
    np.testing.assert_array_equal(noisy[..., 0], noisy[..., 2])


def test_lower_jpeg_quality_is_further_from_the_film(film: np.ndarray) -> None:
    errors = [np.abs(np.array(after(film, "jpeg", lost)) - film).mean() for lost in (5, 50, 95)]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_single_pixels_are_as_many_as_asked_black_or_white_and_more_include_fewer() -> None:
    film = np.full((SIDE, SIDE), 90, np.uint8)
    few, many = (np.array(after(film, "pixels", n, seed=2)) for n in (10, 100))
    assert (few != 90).sum() == 10
    assert (many != 90).sum() == 100
    assert set(np.unique(many)) == {0, 90, 255}
    np.testing.assert_array_equal(many[few != 90], few[few != 90])


def test_one_pixel_covers_the_same_share_of_a_larger_film() -> None:
    changed = np.array(after(np.full((2 * SIDE, 3 * SIDE), 90), "pixels", 1)) != 90
    assert changed.sum() == 6
    with pytest.raises(UnavailableError, match="no 26 pixels"):
        after(np.full((5, 5), 90), "pixels", 26)


def test_a_marker_changes_its_place_only_and_keeps_clear_of_the_finding(film: np.ndarray) -> None:
    avoid = np.zeros(film.shape, bool)
    avoid[:, :120] = True
    for seed in range(5):
        marked = np.array(after(film, "marker", 12, seed=seed, avoid=avoid))
        assert (marked != film).any()
        np.testing.assert_array_equal(marked[avoid], film[avoid])
    with pytest.raises(UnavailableError, match="no place clear of the finding"):
        after(film, "marker", 12, avoid=np.ones(film.shape, bool))


def test_a_marker_on_a_grey_film_in_rgb_is_the_one_on_the_grey_film(film: np.ndarray) -> None:
    colour = np.asarray(perturb(grey(film).convert("RGB"), "marker", 12, seed=1).image)
    for channel in np.moveaxis(colour, 2, 0):
        np.testing.assert_array_equal(channel, after(film, "marker", 12, seed=1))


# --- moves -----------------------------------------------------------------------------------------------------------


def test_a_shift_by_whole_pixels_moves_them_and_brings_in_black() -> None:
    film = np.arange(1, 101).reshape(10, 10)
    right, down = np.zeros((2, 10, 10), int)
    right[:, 2:], down[2:] = film[:, :-2], film[:-2]
    assert after(film, "shift_x", 20) == right.tolist()
    assert after(film, "shift_y", 20) == down.tolist()


def test_a_positive_rotation_takes_the_right_side_up() -> None:
    film = np.zeros((101, 101))
    film[50, 90] = 255
    turned = np.array(after(film, "rotation", 30))
    row, col = np.unravel_index(turned.argmax(), turned.shape)
    assert row == pytest.approx(50 - 40 * math.sin(math.pi / 6), abs=1)
    assert col == pytest.approx(50 + 40 * math.cos(math.pi / 6), abs=1)


def test_a_rotation_turns_circles_into_circles_on_a_film_that_is_not_square() -> None:
    corner = perturb(grey(np.zeros((100, 200))), "rotation", 45).motion
    assert corner is not None
    x, y, _ = corner.matrix @ [0.75, 0.5, 1]  # 50 pixels to the right of the centre
    assert (x * 200, y * 100) == pytest.approx((100 + 50 / math.sqrt(2), 50 - 50 / math.sqrt(2)))


def test_cropping_half_doubles_the_middle_and_padding_shrinks_the_film_on_black() -> None:
    film = np.zeros((8, 8))
    film[2:6, 2:6] = 200
    assert np.array(after(film, "crop", 50))[1:-1, 1:-1].min() == 200
    padded = np.array(after(np.full((8, 8), 200), "crop", -100))
    assert padded[3:5, 3:5].min() == 200
    assert padded[:2].max() == 0


def motion_of(name: str, strength: float) -> Motion:
    found = perturb(grey(np.zeros((64, 64))), name, strength).motion
    assert found is not None
    return found


def test_a_map_that_moved_with_the_film_comes_back_and_what_left_the_frame_is_not_compared() -> None:
    grid = np.random.default_rng(0).random((8, 8))
    moved = np.zeros((8, 8))
    moved[:, 2:] = grid[:, :-2]  # a film shifted by two of eight cells to the right
    back, seen = motion_of("shift_x", 25).back(moved)
    np.testing.assert_array_equal(seen, np.arange(8)[None] < np.full((8, 1), 6))
    np.testing.assert_allclose(back[seen], grid[seen], rtol=1e-12)


def test_a_cropped_map_comes_back_as_the_middle_that_was_seen() -> None:
    grid = np.random.default_rng(0).random((8, 8))
    back, seen = motion_of("crop", 50).back(np.kron(grid[2:6, 2:6], np.ones((2, 2))))
    middle = np.zeros((8, 8), bool)
    middle[2:6, 2:6] = True
    np.testing.assert_array_equal(seen, middle)
    np.testing.assert_allclose(back[seen], grid[seen], rtol=1e-12)


@given(
    name=st.sampled_from(["rotation", "shift_x", "shift_y", "crop"]), strength=st.floats(-20, 20), seed=st.integers()
)
@settings(max_examples=40)
def test_maps_brought_back_keep_to_the_range_of_the_map_and_inverses_undo_each_other(
    name: str, strength: float, seed: int
) -> None:
    motion = PERTURBATIONS[name].apply(grey(np.zeros((30, 40))), strength, np.random.default_rng(0), None).motion
    assert motion is not None
    np.testing.assert_allclose(motion.matrix @ motion.inverse.matrix, np.eye(3), atol=1e-12)
    grid = np.random.default_rng(abs(seed)).random((6, 7))
    back, seen = motion.back(grid)
    assert grid.min() - 1e-12 <= back[seen].min()
    assert back[seen].max() <= grid.max() + 1e-12


# --- laws of all -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_strength_0_is_the_film_itself_and_it_stays_in_place(name: str, film: np.ndarray) -> None:
    found = perturb(grey(film), name, 0)
    np.testing.assert_array_equal(np.asarray(found.image), film)
    assert found.motion is None


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_default_strength_changes_a_copy_of_the_same_kind_and_seeds_repeat_bit_for_bit(
    name: str, mode: str, film: np.ndarray
) -> None:
    entry, image = PERTURBATIONS[name], grey(film).convert(mode)
    before = image.tobytes()
    for strength in entry.ladder:
        one, again, other = (perturb(image, name, strength, seed).image for seed in (1, 1, 2))
        assert (one.mode, one.size) == (mode, image.size)
        assert one.tobytes() != before
        assert one.tobytes() == again.tobytes()
        assert (one.tobytes() != other.tobytes()) == entry.seeded
    assert image.tobytes() == before


@given(data=st.data())
@settings(max_examples=60)
def test_every_strength_within_the_limits_gives_a_film_and_none_beyond_them_does(data: Any) -> None:
    name = data.draw(st.sampled_from(list(PERTURBATIONS)))
    entry = PERTURBATIONS[name]
    low, high = entry.limits
    numbers = st.integers(int(low), min(int(high), 4000)) if entry.whole else st.floats(low, high)
    levels = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 256, (70, 64)).astype(np.uint8)
    found = perturb(grey(levels), name, data.draw(numbers) if name != "marker" else data.draw(st.floats(1, 50)))
    assert (found.image.mode, found.image.size) == ("L", (64, 70))
    for beyond in (low - 1, high + 1, math.nan):
        with pytest.raises(InputError, match=r"give a .*number from"):
            perturb(grey(levels), name, beyond)


def test_unusable_input_is_refused_with_what_would_do() -> None:
    with pytest.raises(InputError, match="Did you mean 'rotation'"):
        after(LEVELS, "rotatoin", 1)
    with pytest.raises(InputError, match="whole number from 0 to 99"):
        after(LEVELS, "jpeg", 10.5)
    with pytest.raises(InputError, match="convert it to 'L' or 'RGB'"):
        perturb(Image.new("I;16", (4, 4)), "blur", 1)
    with pytest.raises(InputError, match="seed -1 is negative"):
        after(LEVELS, "gaussian_noise", 1, seed=-1)
    with pytest.raises(InputError, match="give a bool mask of the film's size"):
        after(LEVELS, "marker", 8, avoid=np.zeros((3, 2), bool))


def test_a_film_without_room_is_no_unusable_input() -> None:
    for name, strength in (("marker", 8), ("pixels", 5)):
        with pytest.raises(UnavailableError, match="has no"):
            perturb(grey(np.zeros((2, 2))), name, strength)
