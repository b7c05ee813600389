"""Hits and misses against known regions: oracles, chance levels, ties, marks smaller than a cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, jaccard_score, roc_auc_score

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import boxes_to_mask, ellipses_to_mask, upsample
from medgemma_visualizer.scores import localisation as loc

MASK = np.zeros((64, 64), bool)
MASK[16:32, 8:28] = True  # on 16 x 16: rows 4-7, columns 2-6, K = 20
MASK.setflags(write=False)
CELLS = np.zeros((16, 16), bool)
CELLS[4:8, 2:7] = True

maps = arrays(np.float64, (16, 16), elements=st.sampled_from([0.0, 0.25, 1.0, 3.0]))


def random_map(seed: int, shape: tuple[int, int] = (16, 16)) -> np.ndarray:
    grid = np.random.default_rng(seed).normal(size=shape)
    grid.setflags(write=False)
    return grid


def test_a_perfect_map_reaches_every_maximum() -> None:
    scores = loc.localisation_scores(CELLS.astype(np.float32), MASK)
    assert set(scores) == set(loc.NAMES)
    assert {score.value for name, score in scores.items() if name != "iou_otsu"} == {1.0}
    assert scores["iou_otsu"].value > 0.85  # bilinear edges keep it from 1


def test_a_uniform_map_scores_exactly_at_chance() -> None:
    scores = loc.localisation_scores(np.full((16, 16), 0.1, np.float32), MASK)
    assert scores.pop("iou_otsu").value is None
    share = 20 / 256
    for name, score in scores.items():
        assert score.value == pytest.approx(0.5 if name == "roc_auc" else share, abs=1e-9)
        assert score.value == pytest.approx(score.chance, abs=1e-9)


def test_the_opposite_map_hits_nothing() -> None:
    scores = loc.localisation_scores((~CELLS).astype(float), MASK)
    for name in ("pointing_game", "relevance_mass", "relevance_rank", "roc_auc", "hit_rate"):
        assert scores[name].value == 0


def test_an_empty_region_is_never_hit() -> None:
    scores = loc.localisation_scores(random_map(0), np.zeros((64, 64), bool))
    assert set(scores) == set(loc.NAMES)
    assert all(score.value is None and score.reason == "the region is empty" for score in scores.values())
    for metric in (loc.iou_otsu, loc.hit_rate, loc.relevance_mass):
        with pytest.raises(InputError, match="empty"):
            metric(random_map(0), np.zeros((64, 64), bool))
    with pytest.raises(InputError, match="empty"):
        loc.pointing_game(random_map(0), np.zeros((16, 16), bool))


def test_a_zero_map_has_no_mass_but_is_at_chance_elsewhere() -> None:
    scores = loc.localisation_scores(np.zeros((16, 16)), MASK)
    assert scores["relevance_mass"].value is None
    assert scores["pointing_game"].value == pytest.approx(20 / 256)
    assert scores["roc_auc"].value == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_ranking_scores_equal_scikit_learn(seed: int) -> None:
    """Oracles: sklearn.metrics.roc_auc_score and average_precision_score, with ties."""
    grid = random_map(seed).round(1)
    assert loc.roc_auc(grid, CELLS) == pytest.approx(roc_auc_score(CELLS.ravel(), grid.ravel()), abs=1e-10)
    expected = average_precision_score(CELLS.ravel(), grid.ravel())
    assert loc.average_precision(grid, CELLS) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_overlap_at_otsu_equals_opencv_and_scikit_learn(seed: int) -> None:
    """Oracles: cv2.resize, cv2.threshold with THRESH_OTSU, sklearn.metrics.jaccard_score."""
    cv2 = pytest.importorskip("cv2")
    grid = random_map(seed, (8, 8)) + 2 * upsample(np.eye(2), 8, 8)
    heat = cv2.resize(grid, (64, 64), interpolation=cv2.INTER_LINEAR)
    levels = np.uint8(255 * ((heat - heat.min()) / (heat.max() - heat.min())))
    cut = cv2.threshold(levels, 0, 1, cv2.THRESH_OTSU)[1].astype(bool)
    assert loc.iou_otsu(grid, MASK) == pytest.approx(jaccard_score(MASK.ravel(), cut.ravel()), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_hit_rate_is_whether_the_hottest_pixel_lies_inside(seed: int) -> None:
    """Oracle: argmax of cv2.resize."""
    cv2 = pytest.importorskip("cv2")
    grid = random_map(seed)
    heat = cv2.resize(grid, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert loc.hit_rate(grid, MASK) == MASK[np.unravel_index(heat.argmax(), heat.shape)]


def test_mass_is_weighted_by_area() -> None:
    mask = np.zeros((4, 4), bool)
    mask[:2, 0] = True  # half of the upper left cell
    assert loc.relevance_mass(np.array([[6.0, 1], [1, -5]]), mask) == pytest.approx(3 / 8)


def test_rank_counts_the_k_largest_cells() -> None:
    inside = np.array([[True, True, False], [True, False, False]])
    assert loc.relevance_rank(np.array([[9.0, 8, 7], [1, 2, 3]]), inside) == pytest.approx(2 / 3)
    # One of three places is left for four tied cells, one of which is inside.
    assert loc.relevance_rank(np.array([[9.0, 8, 0], [0, 0, 0]]), inside) == pytest.approx((2 + 1 / 4) / 3)


def test_tied_peaks_share_the_point() -> None:
    grid = np.zeros((16, 16))
    grid[4, 2] = grid[0, 0] = 5
    assert loc.pointing_game(grid, CELLS) == 0.5


@given(maps)
def test_values_are_shares(grid: np.ndarray) -> None:
    for score in loc.localisation_scores(grid, MASK).values():
        assert score.value is None or 0 <= score.value <= 1


@given(maps, st.sampled_from([1e-20, 0.5, 2.0, 1e20]))
def test_no_score_depends_on_the_scale(grid: np.ndarray, factor: float) -> None:
    before, after = (loc.localisation_scores(each, MASK) for each in (grid, grid * factor))
    for name in loc.NAMES:
        assert after[name].value == pytest.approx(before[name].value, abs=1e-6)


@given(maps, st.integers(0, 9))
def test_random_relabelling_of_cells_keeps_the_ranking_scores(grid: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(256)
    moved, cells = grid.ravel()[order].reshape(16, 16), CELLS.ravel()[order].reshape(16, 16)
    for metric in (loc.pointing_game, loc.relevance_rank, loc.roc_auc, loc.average_precision):
        assert metric(moved, cells) == pytest.approx(metric(grid, CELLS), abs=1e-12)


@pytest.mark.parametrize("size", [(64, 64), (100, 70), (513, 1021), (5, 7)])
def test_a_mask_of_any_resolution_works(size: tuple[int, int]) -> None:
    mask = np.zeros(size, bool)
    mask[: size[0] // 2, : size[1] // 2] = True
    grid = np.zeros((16, 16))
    grid[1:4, 1:4] = 1
    scores = loc.localisation_scores(grid, mask)
    for name in ("pointing_game", "relevance_mass", "hit_rate"):
        assert scores[name].value == pytest.approx(1)


def test_boxes_and_ellipses_become_regions() -> None:
    box = boxes_to_mask([(8, 16, 28, 32)], 64, 64)
    assert (box == MASK).all()


@pytest.mark.parametrize("side", [64, 257, 1024])
def test_a_box_and_an_ellipse_score_alike_at_any_resolution(side: int) -> None:
    """One map in a corner of the box, of whose cell the ellipse covers .2267 (an integral), one in the middle."""
    place = np.array([8, 16, 28, 32]) * side / 64
    box, ellipse = boxes_to_mask([tuple(place)], side, side), ellipses_to_mask([tuple(place)], side, side)
    corner, middle = np.zeros((2, 16, 16))
    corner[4, 2] = middle[5, 4] = 1
    for mask, hits, mass in ((box, (1, 1), (1, 1)), (ellipse, (0, 1), (0.2267, 1))):
        scores = [loc.localisation_scores(grid, mask) for grid in (corner, middle)]
        assert tuple(score["pointing_game"].value for score in scores) == hits  # on the grid, by area
        assert tuple(score["hit_rate"].value for score in scores) == hits  # enlarged to the image
        assert [score["relevance_mass"].value for score in scores] == pytest.approx(mass, abs=0.06)
        assert mask.mean() == pytest.approx(20 / 256 * (1 if mask is box else np.pi / 4), abs=2 / side)


def test_a_mark_smaller_than_a_cell_takes_that_cell() -> None:
    mask = np.zeros((512, 512), bool)
    mask[100:104, 200:203] = True
    assert np.argwhere(loc.cells_inside(mask, 16, 16)).tolist() == [[3, 6]]


def test_a_rim_thinner_than_a_cell_keeps_its_whole_course() -> None:
    mask = np.zeros((512, 512), bool)
    mask[64:320, 40:50] = True
    assert np.argwhere(loc.cells_inside(mask, 16, 16)).tolist() == [[row, 1] for row in range(2, 10)]


def test_a_small_mark_beside_a_large_one_is_not_lost_but_a_slip_of_the_pen_is() -> None:
    mask = np.zeros((512, 512), bool)
    mask[0:64, 0:64] = True
    mask[300:310, 300:310] = True
    mask[400, 400] = True
    assert np.argwhere(loc.cells_inside(mask, 16, 16)).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [9, 9]]


def test_a_region_that_fills_the_image_leaves_nothing_to_tell_apart() -> None:
    scores = loc.localisation_scores(random_map(1), np.ones((32, 32), bool))
    assert scores["roc_auc"].value is None
    assert scores["pointing_game"].value == 1 == scores["pointing_game"].chance
    with pytest.raises(InputError, match="Every cell"):
        loc.roc_auc(random_map(1), np.ones((16, 16), bool))


def test_missed_cases_count_as_zero_among_all_positives() -> None:
    slices = loc.chexlocalize_slices([0.4, 0.6, 0.2], [True, False, True])
    assert slices == {"true_positives": [0.4, 0.2], "all_positives": [0.4, 0.0, 0.2]}


@pytest.mark.parametrize("mask", [np.full((8, 8), 255, np.uint8), np.full((8, 8), 0.3), np.ones(8, bool)])
def test_what_is_no_mask_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(InputError, match="mask"):
        loc.localisation_scores(random_map(0), mask)


def test_maps_and_cells_of_different_grids_are_refused() -> None:
    with pytest.raises(InputError, match="cells_inside"):
        loc.pointing_game(random_map(0), np.ones((8, 8), bool))
    with pytest.raises(InputError, match="Otsu"):
        loc.iou_otsu(np.ones((16, 16)), MASK)
