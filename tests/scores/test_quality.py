"""What a map is worth on its face: analytic truths, hand-computed values, and maps that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.scores import quality
from medgemma_visualizer.settings import QUALITY_THRESHOLDS

UNIFORM = np.ones((16, 16), np.float32)
BODY = np.zeros((64, 64), bool)
BODY[:, 16:48] = True

maps = arrays(np.float64, (6, 7), elements=st.floats(0, 100)).filter(lambda grid: grid.max() > 1e-3)


def random_map(seed: int = 0) -> np.ndarray:
    grid = np.random.default_rng(seed).gamma(0.5, size=(16, 16))
    grid.setflags(write=False)
    return grid


def single(row: int, col: int, shape: tuple[int, int] = (16, 16)) -> np.ndarray:
    grid = np.zeros(shape)
    grid[row, col] = 3.0
    return grid


def test_a_uniform_map_has_every_number_at_its_known_chance() -> None:
    scores = quality.quality_scores(UNIFORM, BODY)
    expected = {
        "inside_body_ratio": 0.5,
        "border_fraction": 0.234375,
        "attention_entropy": np.log(256),
        "normalized_entropy": 1.0,
        "peak_to_mean": 1.0,
        "gini": 0.0,
        "left_fraction": 0.5,
        "right_fraction": 0.5,
        "apical_fraction": 1 / 3,
        "middle_fraction": 1 / 3,
        "basal_fraction": 1 / 3,
    }
    assert {name: scores[name].value for name in expected} == pytest.approx(expected, abs=1e-9)
    assert {name: scores[name].chance for name in expected} == pytest.approx(expected, abs=1e-9)
    assert scores["regional_focus"].value == "none"
    assert set(scores) == set(quality.DIRECTIONS)


@pytest.mark.parametrize("shape", [(16, 16), (3, 3)])  # on 3 x 3 even ln N passes the threshold for entropy
def test_a_uniform_map_is_never_good(shape: tuple[int, int]) -> None:
    scores = quality.quality_scores(np.full(shape, 0.2), np.ones((8, 8), bool))
    assert {score.verdict for score in scores.values()} <= {"", "poor"}
    assert all(score.reason == "the map is equal everywhere" for score in scores.values())


@pytest.mark.parametrize("empty", [np.zeros((16, 16)), -random_map()])
def test_a_map_without_positive_relevance_has_no_score(empty: np.ndarray) -> None:
    scores = quality.quality_scores(empty, BODY)
    assert set(scores) == set(quality.DIRECTIONS)
    assert all(score.value is None and score.verdict == "" and score.reason for score in scores.values())


def test_one_hot_cell_inside_the_body_is_as_focused_as_can_be() -> None:
    scores = quality.quality_scores(single(8, 8), BODY)
    assert scores["inside_body_ratio"].value == 1
    assert scores["border_fraction"].value == 0
    assert scores["attention_entropy"].value == 0
    assert scores["peak_to_mean"].value == 256
    assert scores["gini"].value == pytest.approx(1 - 1 / 256, abs=1e-12)
    assert {name for name, score in scores.items() if score.verdict == "good"} == {
        "inside_body_ratio",
        "border_fraction",
        "attention_entropy",
        "peak_to_mean",
    }


def test_entropy_equals_scipy() -> None:
    """Oracle: scipy.stats.entropy."""
    grid = random_map()
    assert quality.attention_entropy(grid) == pytest.approx(entropy(grid.ravel()), abs=1e-10)
    assert quality.normalized_entropy(grid) == pytest.approx(entropy(grid.ravel(), base=256), abs=1e-10)


def test_gini_equals_half_the_relative_mean_difference() -> None:
    """Oracle: the definition over all pairs, Σ|x_i - x_j| / (2 n² mean)."""
    x = random_map().ravel()
    expected = np.abs(x[:, None] - x[None]).sum() / (2 * x.size**2 * x.mean())
    assert quality.gini(random_map()) == pytest.approx(expected, abs=1e-10)


def test_border_counts_corners_once() -> None:
    grid = np.array([[8.0, 1, 1], [1, 4, 1], [1, 1, 1]])
    assert quality.border_fraction(grid) == pytest.approx(15 / 19)


def test_inside_body_is_weighted_by_area() -> None:
    body = np.zeros((4, 4), bool)
    body[:, 0] = True  # half of the left cells
    assert quality.inside_body_ratio(np.array([[3.0, 1], [0, 0]]), body) == pytest.approx(0.375)


def test_negative_relevance_counts_as_none() -> None:
    signed = random_map().copy()
    signed[::2] *= -1
    expected = quality.quality_scores(np.maximum(signed, 0), BODY)
    assert quality.quality_scores(signed, BODY) == expected


@given(maps, st.sampled_from([1e-30, 0.1, 7.0, 1e30]))
def test_no_score_depends_on_the_scale(grid: np.ndarray, factor: float) -> None:
    before = {name: score.value for name, score in quality.quality_scores(grid, BODY).items()}
    after = {name: score.value for name, score in quality.quality_scores(grid * factor, BODY).items()}
    assert after.pop("regional_focus") in (before.pop("regional_focus"), "none")
    assert after == pytest.approx(before, abs=1e-9)


@given(maps, st.integers(0, 99))
def test_entropy_gini_and_peak_do_not_depend_on_where_the_cells_lie(grid: np.ndarray, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(grid.ravel()).reshape(grid.shape)
    for metric in (quality.attention_entropy, quality.gini, quality.peak_to_mean):
        assert metric(shuffled) == pytest.approx(metric(grid), abs=1e-9)


@given(maps)
def test_values_stay_in_their_ranges_and_parts_sum_to_one(grid: np.ndarray) -> None:
    scores = {name: score.value for name, score in quality.quality_scores(grid, BODY).items()}
    n = grid.size
    assert -1e-12 <= scores["attention_entropy"] <= np.log(n) + 1e-9
    assert 1 - 1e-9 <= scores["peak_to_mean"] <= n + 1e-9
    assert 0 <= scores["gini"] <= 1 - 1 / n + 1e-9
    assert 0 <= scores["inside_body_ratio"] <= 1 + 1e-6
    assert scores["left_fraction"] + scores["right_fraction"] == pytest.approx(1)
    assert scores["apical_fraction"] + scores["middle_fraction"] + scores["basal_fraction"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("cell", "label", "words"),
    [
        ((2, 2), "upper_left", "image upper left (patient's right)"),
        ((2, 13), "upper_right", "image upper right (patient's left)"),
        ((13, 2), "lower_left", "image lower left (patient's right)"),
        ((13, 13), "lower_right", "image lower right (patient's left)"),
    ],
)
def test_the_hot_quadrant_is_named_on_the_image_and_on_the_patient(
    cell: tuple[int, int], label: str, words: str
) -> None:
    assert quality.regional_focus(single(*cell) + 0.01) == label
    assert quality.quality_scores(single(*cell), BODY)["regional_focus"].value == label
    assert quality.focus_in_words(label) == words


def test_two_equal_quadrants_are_no_focus() -> None:
    assert quality.regional_focus(single(2, 2) + single(13, 13)) == "none"
    assert quality.regional_focus(single(2, 2, (5, 5))) == "none"  # the very middle is shared by all four


def test_a_lateral_film_has_no_patient_side() -> None:
    assert quality.focus_in_words("upper_left", "LATERAL") == "image upper left"
    assert quality.focus_in_words("none") == "no quadrant stands out"
    with pytest.raises(InputError, match="somewhere"):
        quality.focus_in_words("somewhere")


def test_odd_middles_are_shared() -> None:
    assert quality.side_fractions(single(0, 1, (2, 3))) == pytest.approx({"left_fraction": 0.5, "right_fraction": 0.5})
    # Row 1 of 4 spans heights .25 to .5: one third of it lies above 1/3, two thirds below.
    expected = {"apical_fraction": 1 / 3, "middle_fraction": 2 / 3, "basal_fraction": 0}
    assert quality.height_fractions(single(1, 0, (4, 2))) == pytest.approx(expected)


def test_verdicts_follow_the_table_of_thresholds() -> None:
    body = np.zeros((1, 10), bool)
    body[0, :4] = True  # chance is 0.4
    for inside, verdict in ((0.7, "good"), (0.5, "acceptable"), (0.45, "poor")):
        grid = np.zeros((1, 10))
        grid[0, 0], grid[0, 9] = inside, 1 - inside
        score = quality.quality_scores(grid, body)["inside_body_ratio"]
        assert score.verdict == verdict
        assert score.threshold == QUALITY_THRESHOLDS["inside_body_ratio"]["good"]


def test_without_a_body_only_the_body_score_is_left_out() -> None:
    for mask, reason in ((None, "no body mask was given"), (np.zeros((8, 8), bool), "the body mask is empty")):
        scores = quality.quality_scores(random_map(), mask)
        assert [name for name, score in scores.items() if score.value is None] == ["inside_body_ratio"]
        assert scores["inside_body_ratio"].reason == reason


@pytest.mark.parametrize("broken", [np.full((4, 4), np.nan), np.full((4, 4), np.inf), np.ones(16), np.ones((1, 1))])
def test_what_is_no_map_is_an_error(broken: np.ndarray) -> None:
    with pytest.raises(InputError):
        quality.quality_scores(broken, BODY)


@pytest.mark.parametrize("metric", [quality.gini, quality.attention_entropy, quality.border_fraction])
def test_a_single_number_of_a_zero_map_is_an_error(metric: object) -> None:
    with pytest.raises(InputError, match="no positive relevance"):
        metric(np.zeros((4, 4)))  # type: ignore[operator]
