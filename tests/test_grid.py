"""Grids over images: areas are exact, ranks are exact, nothing that is passed in is written."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import block_reduce

from medgemma_visualizer import grid
from medgemma_visualizer.errors import InputError

masks = arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))
sides = st.integers(1, 20)


def frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def test_coverage_of_divisible_sizes_equals_block_means() -> None:
    """Oracle: scikit-image's block_reduce."""
    mask = frozen(np.random.default_rng(0).random((48, 96)) > 0.4)
    covered = grid.coverage(mask, 16, 16)
    assert covered.dtype == np.float32
    np.testing.assert_allclose(covered, block_reduce(mask.astype(float), (3, 6), np.mean), atol=1e-6)


def test_coverage_shares_a_pixel_that_a_cell_border_cuts() -> None:
    mask = np.array([[False, True, False]])  # two cells of 1.5 pixels; the middle pixel gives half of itself to each
    np.testing.assert_allclose(grid.coverage(mask, 1, 2), [[1 / 3, 1 / 3]])


def test_coverage_spreads_a_mask_that_is_coarser_than_the_grid() -> None:
    np.testing.assert_allclose(grid.coverage(np.array([[True, False]]), 2, 4), [[1, 1, 0, 0]] * 2)


@given(masks, sides, sides)
def test_coverage_preserves_the_covered_share(mask: np.ndarray, rows: int, cols: int) -> None:
    assert grid.coverage(frozen(mask), rows, cols).mean() == pytest.approx(mask.mean(), abs=1e-6)


@given(masks, sides, sides)
def test_coverage_of_a_mirrored_mask_is_mirrored(mask: np.ndarray, rows: int, cols: int) -> None:
    mirrored = grid.coverage(mask[:, ::-1], rows, cols)
    np.testing.assert_allclose(mirrored, grid.coverage(mask, rows, cols)[:, ::-1], atol=1e-6)


def test_a_mask_of_0_and_255_is_refused() -> None:
    with pytest.raises(InputError, match="0 to 255"):
        grid.coverage(np.array([[0, 255]], np.uint8), 1, 1)


@pytest.mark.parametrize("broken", [np.full((2, 2), np.nan), np.zeros(3), np.zeros((0, 2)), np.array([["a"]])])
def test_what_is_no_finite_picture_is_refused(broken: np.ndarray) -> None:
    with pytest.raises(InputError):
        grid.coverage(broken, 2, 2)


def test_a_grid_without_cells_is_refused() -> None:
    with pytest.raises(InputError, match="0 x 4"):
        grid.downsample(np.ones((2, 2)), 0, 4)


def test_downsample_keeps_signs_and_mean() -> None:
    values = np.array([[-1.0, 3.0], [5.0, -7.0]])
    np.testing.assert_allclose(grid.downsample(values, 1, 2), [[2, -2]])


def test_boxes_count_once_where_they_overlap() -> None:
    boxes = [(0, 0, 3, 4), (1, 0, 4, 2)]
    # 4 x 4 image, 2 x 2 cells of 4 pixels each; the second box adds column 3 of the upper right cell.
    np.testing.assert_allclose(grid.boxes_to_coverage(boxes, 4, 4, 2, 2), [[1, 1], [1, 0.5]])


def test_a_box_with_fractional_edges_keeps_its_exact_area() -> None:
    covered = grid.boxes_to_coverage([(0.5, 0.25, 1.75, 0.75)], 3, 5, 2, 3)
    assert covered.mean() * 15 == pytest.approx(1.25 * 0.5, abs=1e-6)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20), st.integers(1, 20), sides, sides)
def test_a_box_on_whole_pixels_equals_its_mask(y: int, x: int, high: int, wide: int, rows: int, cols: int) -> None:
    mask = np.zeros((50, 50), bool)
    mask[y : y + high, x : x + wide] = True
    box = (x, y, x + wide, y + high)
    assert (grid.boxes_to_mask([box], 50, 50) == mask).all()
    expected = grid.coverage(mask, rows, cols)
    np.testing.assert_allclose(grid.boxes_to_coverage([box], 50, 50, rows, cols), expected, atol=1e-6)


def test_a_box_thinner_than_a_pixel_still_marks_one() -> None:
    mask = grid.boxes_to_mask([(2.1, 3.1, 2.2, 3.2)], 8, 8)
    assert mask.sum() == 1
    assert mask[3, 2]


def test_no_boxes_cover_nothing() -> None:
    assert not grid.boxes_to_mask([], 4, 4).any()


@pytest.mark.parametrize("box", [(3, 0, 1, 2), (0, 0, 0, 2), (9, 9, 12, 12), (-3, 0, 0, 4), (0, 0, math.nan, 1)])
def test_a_box_without_area_in_the_image_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="Box"):
        grid.boxes_to_coverage([box], 8, 8, 2, 2)  # type: ignore[list-item]


def test_an_ellipse_fills_pi_quarters_of_its_box() -> None:
    mask = grid.ellipses_to_mask([(100, 50, 500, 350)], 400, 600)
    assert mask.sum() / (400 * 300) == pytest.approx(math.pi / 4, abs=2e-3)
    assert mask[200, 300]
    assert not mask[55, 105]


def test_a_tiny_ellipse_marks_the_pixel_under_its_centre() -> None:
    assert np.argwhere(grid.ellipses_to_mask([(4.6, 2.6, 4.8, 2.8)], 9, 9)).tolist() == [[2, 4]]


@pytest.mark.parametrize(
    ("kind", "mode"), [("nearest", "nearest-exact"), ("bilinear", "bilinear"), ("cubic", "bicubic")]
)
@pytest.mark.parametrize("size", [(64, 64), (37, 53), (16, 16)])
def test_enlarging_equals_pytorch(kind: grid.Kind, mode: str, size: tuple[int, int]) -> None:
    """Oracle: torch.nn.functional.interpolate in double precision."""
    torch = pytest.importorskip("torch")
    values = frozen(np.random.default_rng(1).normal(size=(16, 16)))
    expected = torch.nn.functional.interpolate(torch.tensor(values)[None, None], size=size, mode=mode)[0, 0]
    np.testing.assert_allclose(grid.upsample(values, *size, kind=kind), expected.numpy(), atol=1e-6)


def test_nearest_shows_cells_as_rectangles() -> None:
    values = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(grid.upsample(values, 4, 6), values.repeat(2, 0).repeat(2, 1))


@given(arrays(np.float32, (3, 4), elements=st.floats(-10, 10, width=32)), st.integers(3, 30), st.integers(4, 30))
def test_bilinear_stays_between_the_smallest_and_largest_value(values: np.ndarray, height: int, width: int) -> None:
    large = grid.upsample(values, height, width, "bilinear")
    assert values.min() - 1e-5 <= large.min()
    assert large.max() <= values.max() + 1e-5


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "cubic"])
def test_a_flat_grid_stays_flat(kind: grid.Kind) -> None:
    np.testing.assert_allclose(grid.upsample(np.full((3, 5), 0.3), 17, 19, kind), 0.3, atol=1e-6)


def test_shrinking_by_upsample_is_refused() -> None:
    with pytest.raises(InputError, match="downsample"):
        grid.upsample(np.ones((8, 8)), 4, 16)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="lanczos"):
        grid.upsample(np.ones((2, 2)), 4, 4, "lanczos")  # type: ignore[arg-type]


@given(arrays(np.float64, (5, 6), elements=st.sampled_from([0.0, 0.5, 1.0])), st.integers(0, 30), st.integers(0, 5))
def test_top_cells_are_exactly_k_and_none_left_out_is_larger(values: np.ndarray, k: int, seed: int) -> None:
    top = grid.top_cells(frozen(values), k, seed)
    assert top.sum() == k
    if 0 < k < 30:
        assert values[top].min() >= values[~top].max()


def test_a_larger_k_only_adds_cells() -> None:
    values = np.zeros((4, 4))
    chosen = [grid.top_cells(values, k, seed=3) for k in range(17)]
    assert all((small <= large).all() for small, large in pairwise(chosen))


def test_ties_fall_differently_with_another_seed_and_alike_with_the_same() -> None:
    values = np.zeros((16, 16))
    assert (grid.top_cells(values, 50, 1) == grid.top_cells(values, 50, 1)).all()
    assert (grid.top_cells(values, 50, 1) != grid.top_cells(values, 50, 2)).any()


def test_every_cell_of_a_constant_grid_is_as_likely() -> None:
    share = np.mean([grid.top_cells(np.zeros((4, 4)), 4, seed) for seed in range(2000)], axis=0)
    np.testing.assert_allclose(share, 0.25, atol=0.05)  # five standard errors


@pytest.mark.parametrize("k", [-1, 5])
def test_more_cells_than_there_are_is_an_error(k: int) -> None:
    with pytest.raises(InputError, match=f"k is {k}"):
        grid.top_cells(np.zeros((2, 2)), k)


@pytest.mark.parametrize(
    ("tokens", "height", "width", "expected"),
    [
        (256, 896, 896, (16, 16)),
        (196, 224, 224, (14, 14)),
        (200, 1000, 2000, (10, 20)),
        (200, 2000, 1000, (20, 10)),  # the specification never tries taller than wide
        (12, 400, 300, (4, 3)),
        (2, 10, 10, (1, 2)),
        (7, 10, 10, (1, 7)),
        (1, 5, 900, (1, 1)),
    ],
)
def test_tokens_factor_towards_the_shape_of_the_image(
    tokens: int, height: int, width: int, expected: tuple[int, int]
) -> None:
    assert grid.factor_to_grid(tokens, height, width) == expected


@given(st.integers(1, 600), st.integers(1, 3000), st.integers(1, 3000))
def test_no_other_factors_are_nearer(tokens: int, height: int, width: int) -> None:
    rows, cols = grid.factor_to_grid(tokens, height, width)
    assert rows * cols == tokens

    def distance(r: int) -> float:
        return abs(math.log(tokens / r / r) - math.log(width / height))

    assert all(distance(rows) <= distance(r) + 1e-9 for r in range(1, tokens + 1) if tokens % r == 0)


@pytest.mark.parametrize("sizes", [(0, 4, 4), (4, 0, 4), (4, 4, -1)])
def test_no_tokens_or_no_image_make_no_grid(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(InputError):
        grid.factor_to_grid(*sizes)


def test_stripping_zeroes_the_outer_rings_of_a_copy() -> None:
    values = frozen(np.ones((5, 6)))
    stripped = grid.strip_border(values, 2)
    assert stripped.sum() == 2
    assert stripped[2, 2:4].all()
    assert (grid.strip_border(values, 0) == 1).all()


@pytest.mark.parametrize("k", [-1, 2])
def test_stripping_everything_is_an_error(k: int) -> None:
    with pytest.raises(InputError, match="Stripping"):
        grid.strip_border(np.ones((4, 4)), k)


def test_a_pixel_belongs_to_the_cell_that_shows_it() -> None:
    numbers = np.arange(12.0).reshape(3, 4)
    shown = grid.upsample(numbers, 50, 37)
    for y in range(50):
        for x in range(37):
            assert shown[y, x] == numbers[grid.cell_of_pixel(y, x, 50, 37, 3, 4)]


@pytest.mark.parametrize(("y", "x"), [(-1, 0), (0, 10), (10, 0)])
def test_a_pixel_outside_the_image_has_no_cell(y: int, x: int) -> None:
    with pytest.raises(InputError, match="outside"):
        grid.cell_of_pixel(y, x, 10, 10, 2, 2)


def test_tokens_are_inside_the_body_from_more_than_half_and_off_the_border() -> None:
    body = np.zeros((40, 40), bool)
    body[10:20, 10:15] = True  # exactly half of cell (1, 1)
    body[10:20, 20:26] = True  # more than half of cell (1, 2)
    body[0:10] = True  # border row
    tokens = grid.token_mask_from_body(frozen(body), 4, 4)
    assert tokens.dtype == bool
    assert np.argwhere(tokens).tolist() == [[1, 2]]
    assert grid.token_mask_from_body(body, 4, 4, border=0)[0].all()
