"""Planted marks touch exactly the pixels that their masks say, for every kind and style."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_visualizer.data.marks import ARROW_STYLES, DEVICE_STYLES, KINDS, LETTER_STYLES, plant, styles_of
from medgemma_visualizer.errors import InputError

EVERY = [(kind, style) for kind in KINDS for style in styles_of(kind)]
SIDE = 256


def film(height: int = SIDE, width: int = SIDE, grey: int = 110) -> np.ndarray:
    return np.full((height, width), grey, np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(
    which=st.sampled_from(EVERY),
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(64, 200), st.integers(64, 200)),
)
def test_outside_the_mask_the_film_is_unchanged(which: tuple[str, str], seed: int, shape: tuple[int, int]) -> None:
    before = rng(seed).integers(0, 256, shape, dtype=np.uint8)
    kept = before.copy()
    after, mask = plant(before, which[0], rng(seed), style=which[1])
    np.testing.assert_array_equal(before, kept)
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert (after.dtype, after.shape, mask.dtype, mask.shape) == (np.uint8, shape, bool, shape)
    assert mask.any()


@pytest.mark.parametrize(("kind", "style"), EVERY)
def test_the_mark_stands_out_inside_its_mask(kind: str, style: str) -> None:
    after, mask = plant(film(), kind, rng(3), place=(0.5, 0.5), style=style)
    difference = np.abs(after.astype(int) - 110)[mask]
    assert difference.max() > 80
    assert (difference > 0).mean() > 0.9  # the rim may round to nothing


@pytest.mark.parametrize(("kind", "style"), EVERY)
def test_one_seed_one_mark(kind: str, style: str) -> None:
    first, again, other = (plant(film(), kind, rng(seed), style=style)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("kind", ["L", "R", "arrow"])
@pytest.mark.parametrize(("row", "column"), [(0.5, 0.5), (0.25, 0.75), (0.8, 0.3)])
def test_a_mark_lies_where_it_is_put(kind: str, row: float, column: float) -> None:
    _, mask = plant(film(), kind, rng(1), place=(row, column), size=0.1)
    rows, columns = np.nonzero(mask)
    assert abs((rows.min() + rows.max() + 1) / 2 - row * SIDE) < 0.05 * SIDE
    assert abs((columns.min() + columns.max() + 1) / 2 - column * SIDE) < 0.05 * SIDE


@pytest.mark.parametrize(("kind", "corner"), list(product(KINDS, [(0, 0), (0, 1), (1, 0), (1, 1)])))
def test_a_mark_at_the_very_edge_stays_whole(kind: str, corner: tuple[int, int]) -> None:
    middle, edge = (plant(film(), kind, rng(2), place=place, style=None)[1] for place in ((0.5, 0.5), corner))
    assert edge.sum() == middle.sum()


@pytest.mark.parametrize("style", ["sans", "serif", "mono", "plain", "strokes"])
@pytest.mark.parametrize("letter", ["L", "R"])
def test_the_size_of_a_letter_is_its_height(letter: str, style: str) -> None:
    _, mask = plant(film(512, 700), letter, rng(4), place=(0.5, 0.5), size=0.1, style=style)
    height = np.flatnonzero(mask.any(1)).size
    shortest = 51.2 * (1 - 0.19 / 2) if style == "strokes" else 51.2  # bent wire ends half its thickness short
    assert shortest - 2 <= height <= 51.2 * 1.2  # a tilt of seven degrees adds a little


def test_an_l_has_no_right_upper_part_and_an_r_has_one() -> None:
    for style in ("sans", "serif", "mono", "plain", "strokes"):
        shares = {}
        for letter in ("L", "R"):
            _, mask = plant(film(512, 512), letter, rng(4), place=(0.5, 0.5), size=0.1, style=style)
            rows, columns = np.nonzero(mask)
            upper = rows < rows.min() + 0.4 * np.ptp(rows)
            right = columns > columns.min() + 0.6 * np.ptp(columns)
            shares[letter] = (upper & right).sum() / rows.size
        assert shares["L"] < 0.02 < 0.08 < shares["R"], style


def test_an_inverse_letter_is_dark_on_white_and_a_dark_arrow_dark() -> None:
    after, mask = plant(film(), "L", rng(0), place=(0.5, 0.5), size=0.115, style="inverse")
    assert (after[mask] > 220).sum() > (after[mask] < 40).sum() > 20
    after, mask = plant(film(), "arrow", rng(0), place=(0.5, 0.5), style="dark")
    assert after[mask].max() <= 110
    assert after.min() < 25


def test_a_random_mark_keeps_off_what_it_should_avoid() -> None:
    avoid = np.ones((SIDE, SIDE), bool)
    avoid[:, 160:] = False
    for kind, seed in product(("L", "R", "arrow"), range(5)):
        _, mask = plant(film(), kind, rng(seed), avoid=avoid)
        assert not (mask & avoid).any()


def test_a_mirrored_pacemaker_is_the_mirror_of_one() -> None:
    for style in ("one lead", "two leads"):
        plain = plant(film(), "pacemaker", rng(7), place=(0.5, 0.5), size=0.12, style=style)[1]
        mirrored = plant(film(), "pacemaker", rng(7), place=(0.5, 0.5), size=0.12, style=f"{style}, mirrored")[1]
        shapes = [mask[np.ix_(mask.any(1), mask.any(0))] for mask in (plain, mirrored)]
        np.testing.assert_array_equal(shapes[0], shapes[1][:, ::-1])


def test_a_pacemaker_is_one_piece_with_its_leads() -> None:
    from scipy import ndimage

    for style, seed in product(DEVICE_STYLES, range(5)):
        _, mask = plant(film(512, 512), "pacemaker", rng(seed), place=(0.5, 0.5), style=style)
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1


def test_styles_belong_to_their_kinds() -> None:
    assert styles_of("L") == styles_of("R") == LETTER_STYLES
    assert styles_of("arrow") == ARROW_STYLES
    assert styles_of("pacemaker") == DEVICE_STYLES


@pytest.mark.parametrize(
    ("image", "kind", "given", "message"),
    [
        (film().astype(float), "L", {}, "grey uint8 film"),
        (film(63, 80), "L", {}, "at least 64 x 64"),
        (np.zeros((80, 80, 3), np.uint8), "L", {}, "grey uint8 film"),
        (film(), "X", {}, "no mark 'X'; choose one of L, R, arrow, pacemaker"),
        (film(), "L", {"style": "filled"}, "'L' has no style 'filled'"),
        (film(), "arrow", {"style": "serif"}, "'arrow' has no style 'serif'"),
        (film(), "R", {"place": (0.5, 1.2)}, "two shares of height and width"),
        (film(), "R", {"size": 0.0}, "over 0, up to 0.5"),
        (film(), "R", {"size": 0.6}, "over 0, up to 0.5"),
        (film(), "R", {"avoid": np.zeros((4, 4), bool)}, "one of the film's size"),
    ],
)
def test_what_cannot_be_planted_is_an_error(image: np.ndarray, kind: str, given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plant(image, kind, rng(), **given)
