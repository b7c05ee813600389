"""Agreement of maps: laws of the divergence, library oracles, maps that cannot agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.spatial.distance import cosine as cosine_distance
from scipy.spatial.distance import jensenshannon
from skimage.metrics import structural_similarity

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.scores import agreement

maps = arrays(np.float64, (4, 5), elements=st.floats(0, 100)).filter(lambda grid: grid.max() > 1e-3)


def pair(seed: int, sparse: bool = False) -> tuple[np.ndarray, np.ndarray]:
    grids = np.random.default_rng(seed).gamma(0.4, size=(2, 16, 16))
    if sparse:
        grids[grids < 0.3] = 0
    grids.setflags(write=False)
    return grids[0], grids[1]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_divergence_is_the_square_of_scipys_distance(seed: int, sparse: bool) -> None:
    """Oracle: scipy.spatial.distance.jensenshannon, squared."""
    first, second = pair(seed, sparse)
    expected = jensenshannon(first.ravel(), second.ravel()) ** 2
    assert agreement.js_divergence(first, second) == pytest.approx(expected, abs=1e-12)


def test_divergence_of_two_cells_by_hand() -> None:
    # P = (1, 0), Q = (1/2, 1/2): M = (3/4, 1/4)
    expected = 0.5 * np.log(4 / 3) + 0.5 * (0.5 * np.log(2 / 3) + 0.5 * np.log(2))
    assert agreement.js_divergence(np.array([[5.0, 0]]), np.array([[2.0, 2]])) == pytest.approx(expected, abs=1e-15)


def test_maps_without_a_common_cell_diverge_by_ln_2() -> None:
    assert agreement.js_divergence(np.eye(4), 1 - np.eye(4)) == pytest.approx(np.log(2), abs=1e-15)


@given(maps, maps)
def test_divergence_is_symmetric_and_bounded(first: np.ndarray, second: np.ndarray) -> None:
    value = agreement.js_divergence(first, second)
    assert value == pytest.approx(agreement.js_divergence(second, first), abs=1e-12)
    assert 0 <= value <= np.log(2)


@given(maps, st.sampled_from([1e-30, 0.3, 1e30]))
def test_a_map_does_not_diverge_from_its_multiples(grid: np.ndarray, factor: float) -> None:
    assert agreement.js_divergence(grid, grid * factor) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0.0, "Nearly identical attention patterns"),
        (0.0999, "Nearly identical attention patterns"),
        (0.1, "Similar with minor variations"),
        (0.3, "Moderate differences"),
        (0.5, "Significant divergence"),
        (float(np.log(2)), "Significant divergence"),
    ],
)
def test_labels_change_at_their_bounds(value: float, label: str) -> None:
    assert agreement.interpret_js_divergence(value) == label


@pytest.mark.parametrize("value", [-0.01, 0.8, float("nan")])
def test_a_number_that_is_no_divergence_has_no_label(value: float) -> None:
    with pytest.raises(InputError, match="no Jensen-Shannon"):
        agreement.interpret_js_divergence(value)


@pytest.mark.parametrize("seed", range(3))
def test_correlations_equal_scipy(seed: int) -> None:
    """Oracles: scipy.stats.spearmanr and pearsonr, scipy.spatial.distance.cosine."""
    first, second = (each.round(1) for each in pair(seed))
    a, b = first.ravel(), second.ravel()
    assert agreement.spearman(first, second) == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-10)
    assert agreement.pearson(first, second) == pytest.approx(stats.pearsonr(a, b)[0], abs=1e-10)
    assert agreement.cosine(first, second) == pytest.approx(1 - cosine_distance(a, b), abs=1e-10)


def test_ssim_equals_scikit_image() -> None:
    """Oracle: skimage.metrics.structural_similarity on the raw maps."""
    first, second = pair(0)
    common = max(first.max(), second.max()) - min(first.min(), second.min())
    expected = structural_similarity(first, second, win_size=7, data_range=common)
    assert agreement.ssim(first, second) == pytest.approx(expected, abs=1e-10)
    assert agreement.ssim(first * 1e30, second * 1e30) == pytest.approx(expected, abs=1e-10)


def test_stability_of_known_sets() -> None:
    first, second = np.zeros((10, 10)), np.zeros((10, 10))
    first[0], second[0, 5:], second[1, :5] = 1, 1, 1  # ten cells each, five in common
    first[5, 5] = second[5, 5] = 0.1  # not among the ten
    assert agreement.spatial_stability(first, second) == pytest.approx(5 / 15)
    assert agreement.spatial_stability(first, first) == 1


def test_empty_cells_are_no_common_peaks() -> None:
    first, second = np.zeros((16, 16)), np.zeros((16, 16))
    first[0, :3] = second[9, :3] = 1
    assert agreement.spatial_stability(first, second) == 0


def test_random_maps_are_as_stable_as_chance_says() -> None:
    rng = np.random.default_rng(0)
    values = [agreement.spatial_stability(*rng.random((2, 16, 16))) for _ in range(400)]
    error = np.std(values) / 20
    assert np.mean(values) == pytest.approx(agreement.stability_chance(256), abs=4 * error)
    assert agreement.stability_chance(256) == 26 / (512 - 26)


def test_equal_maps_agree_fully() -> None:
    first, _ = pair(1)
    scores = agreement.agreement_scores(first, first)
    assert scores["js_divergence"].value == 0
    assert scores["js_divergence"].verdict == "good"
    assert [scores[n].value for n in scores if n != "js_divergence"] == pytest.approx([1] * 5, abs=1e-12)


@given(maps, maps)
def test_every_agreement_is_symmetric_and_in_range(first: np.ndarray, second: np.ndarray) -> None:
    one, other = agreement.agreement_scores(first, second), agreement.agreement_scores(second, first)
    for name, score in one.items():
        assert score.value == pytest.approx(other[name].value, abs=1e-9)
        assert score.value is None or -1 <= score.value <= 1


def test_a_constant_map_agrees_with_nothing() -> None:
    constant, (first, _) = np.full((16, 16), 0.5), pair(2)
    scores = agreement.agreement_scores(constant, constant)
    for name in ("spatial_stability", "spearman", "pearson", "ssim"):
        assert scores[name].value is None
        assert scores[name].reason == "the map is equal everywhere"
    for metric in (agreement.spatial_stability, agreement.spearman, agreement.pearson):
        with pytest.raises(InputError, match="equal everywhere"):
            metric(constant, first)
    with pytest.raises(InputError, match="same single number"):
        agreement.ssim(constant, constant)


def test_a_zero_map_has_no_agreement_at_all() -> None:
    scores = agreement.agreement_scores(np.zeros((16, 16)), pair(0)[0])
    assert all(score.value is None and score.reason for score in scores.values())
    for metric in (agreement.js_divergence, agreement.cosine):
        with pytest.raises(InputError):
            metric(np.zeros((16, 16)), pair(0)[0])


def test_small_grids_have_no_ssim() -> None:
    grids = np.random.default_rng(0).random((2, 6, 8))
    assert agreement.agreement_scores(*grids)["ssim"].value is None
    with pytest.raises(InputError, match="7 cells"):
        agreement.ssim(*grids)


def test_maps_of_different_grids_are_refused() -> None:
    with pytest.raises(InputError, match="one grid"):
        agreement.agreement_scores(np.ones((4, 4)), np.ones((4, 5)))


def test_consistency_is_the_share_of_the_majority() -> None:
    assert agreement.answer_consistency(["yes", "no", "yes", "uncertain", "yes"]) == 0.6
    assert agreement.answer_consistency(["uncertain", "uncertain"]) == 1
    with pytest.raises(InputError, match="No answers"):
        agreement.answer_consistency([])


def test_one_prompt_is_no_evidence_of_consistency() -> None:
    assert agreement.consistency_score(["yes"]).value is None
    score = agreement.consistency_score(["yes"] * 4 + ["no"])
    assert (score.value, score.verdict, score.n) == (0.8, "good", 5)
