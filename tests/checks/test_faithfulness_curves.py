"""Curves, their areas and the numbers read off them, against formulas by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from medgemma_visualizer.checks.curves import (
    Response,
    area,
    closed,
    count_of,
    curve_metrics,
    removed,
    shares_of,
    specification_metrics,
    step_counts,
)
from medgemma_visualizer.checks.scoring import LOG_ODDS, LOG_PROBABILITY, OWN, PROBABILITY, Memo, response
from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.grid import ranked_cells
from tests.checks.toys import Toy, linear

N = 100
EVERY = np.arange(N + 1) / N
TENTHS = np.arange(11) / 10


@pytest.fixture
def falling():
    """f = (1 - q)² without the top share q, and 1 - (1 - q)² of it alone: p = 1, prior 0."""
    return Response(EVERY, (1 - EVERY) ** 2, 1 - (1 - EVERY) ** 2)


def test_areas_equal_scipys_trapezoid(falling):
    found = curve_metrics(falling, TENTHS, N)
    assert found["deletion_auc"] == pytest.approx(trapezoid((1 - TENTHS) ** 2, TENTHS), abs=1e-6)
    assert found["insertion_auc"] == pytest.approx(trapezoid(1 - (1 - TENTHS) ** 2, TENTHS), abs=1e-6)


def test_morf_is_deletion_and_lerf_has_the_area_of_removing_least_relevant_first(falling):
    found = curve_metrics(falling, TENTHS, N)
    least_first = 1 - (1 - (1 - TENTHS)) ** 2  # f without the last share q = f of the first 1 - q alone
    assert found["morf"] == found["deletion_auc"]
    assert found["lerf"] == pytest.approx(trapezoid(least_first, TENTHS), abs=1e-6)
    assert found["srg"] == pytest.approx(found["lerf"] - found["morf"], abs=1e-6)


def test_comprehensiveness_and_sufficiency_follow_eraser_by_hand(falling):
    found = curve_metrics(falling, TENTHS, N)
    bins = np.array([0.01, 0.05, 0.1, 0.2, 0.5])
    assert found["comprehensiveness"] == pytest.approx(1 - 0.8**2, abs=1e-6)
    assert found["sufficiency"] == pytest.approx(0.8**2, abs=1e-6)
    assert found["comprehensiveness_aopc"] == pytest.approx(np.mean(1 - (1 - bins) ** 2), abs=1e-6)
    assert found["sufficiency_aopc"] == pytest.approx(np.mean((1 - bins) ** 2), abs=1e-6)


def test_the_specifications_values_are_areas_and_ratios_of_probabilities():
    half = Response(EVERY, 0.5 * (1 - EVERY), 0.5 * EVERY)  # p = 0.5
    found = specification_metrics(half, N)
    x = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
    assert found["deletion_auc_spec"] == pytest.approx(trapezoid(0.5 * x, (x - 0.1) / 0.8), abs=1e-6)
    assert found["insertion_auc_spec"] == pytest.approx(trapezoid(0.5 * x, (x - 0.1) / 0.8), abs=1e-6)
    assert found["comprehensiveness_spec"] == pytest.approx((0.5 - 0.4) / 0.5, abs=1e-6)
    assert found["sufficiency_spec"] == pytest.approx(0.1 / 0.5, abs=1e-6)


def test_ratios_of_an_impossible_answer_do_not_apply():
    flat = Response(EVERY, np.zeros(N + 1), np.zeros(N + 1))
    assert specification_metrics(flat, N)["sufficiency_spec"] is None
    assert specification_metrics(flat, N)["comprehensiveness_spec"] is None


def test_a_better_region_is_never_less_sufficient_as_it_was_with_log_probabilities():
    """ln .9 / ln .5 is .15 and ln .1 / ln .5 is 3.3: on log-probabilities the region that keeps less scored more."""
    ends = np.array([0.0, 0.2, 1.0])
    keeps, loses = (Response(ends, np.array([0.5, 0.4, 0.1]), np.array([0.1, kept, 0.5])) for kept in (0.9, 0.1))
    assert specification_metrics(keeps, 5)["sufficiency_spec"] == pytest.approx(1.8)
    assert specification_metrics(loses, 5)["sufficiency_spec"] == pytest.approx(0.2)


@given(st.integers(2, 400), st.floats(0.001, 99.999))
def test_a_percentage_and_its_rest_make_up_all_cells(n, percent):
    count = count_of(percent, n)
    assert 1 <= count <= n - 1
    assert (count_of(0, n), count_of(100, n)) == (0, n)
    if percent != 50:
        assert count + count_of(100 - percent, n) == n


@given(st.integers(1, 300), st.integers(1, 300))
def test_steps_run_from_none_to_all_and_leave_steps(n, steps):
    if steps > n:
        with pytest.raises(InputError, match="do not fit"):
            step_counts(n, steps)
        return
    counts = step_counts(n, steps)
    assert counts[0] == 0
    assert counts[-1] == n
    assert sorted(n - count for count in counts) == list(counts)
    assert steps + 1 <= len(counts) <= steps + 2


def test_shares_on_256_cells_are_the_exact_counts_of_eraser():
    assert (shares_of((1, 5, 10, 20, 50), 256) * 256).tolist() == [3, 13, 26, 51, 128]
    assert closed([51], 256) == (0, 51, 205, 256)
    with pytest.raises(InputError, match="no share"):
        count_of(101, 10)


@given(st.integers(0, 64), st.integers(0, 5))
def test_removal_by_rank_takes_exactly_k_cells_of_a_sparse_map(k, seed):
    sparse = np.zeros((8, 8))
    sparse[3, 4] = 1
    mask = removed(ranked_cells(sparse, seed), k, (8, 8))
    assert mask.sum() == k
    assert mask[3, 4] == (k > 0)


def test_a_curve_that_stays_has_its_own_height_as_area_wherever_it_was_asked():
    assert area(np.array([0.1, 0.4, 0.9]), np.full(3, 0.7)) == pytest.approx(0.7)


def test_scales_turn_scores_into_probabilities_and_refuse_what_is_none():
    assert LOG_ODDS.f(np.array([0.0, np.log(3)])) == pytest.approx([0.5, 0.75])
    assert LOG_PROBABILITY.f(np.log([0.2, 1.0])) == pytest.approx([0.2, 1.0])
    assert OWN.f(np.array([-7.0])) == [-7.0]
    with pytest.raises(InputError, match="which is none"):
        PROBABILITY.f(np.array([-0.4]))  # a target turned round
    with pytest.raises(InputError, match="which is none"):
        LOG_PROBABILITY.f(np.array([0.4]))


def test_no_picture_is_scored_twice_and_the_untouched_picture_serves_all_imputers():
    toy = Toy(linear(np.full(16, 1 / 16)), (4, 4))
    memo, order = Memo(toy), np.arange(16)
    first = response(memo, "blur", order, (0, 4, 16))
    again = response(memo, "blur", order[::-1], (0, 4, 12, 16))
    response(memo, "mean", order, (0, 16))
    assert first.without.tolist() == [1.0, 0.75, 0.0]
    assert first.alone.tolist() == [0.0, 0.25, 1.0]
    assert again.without.tolist() == [1.0, 0.75, 0.25, 0.0]
    # blur: whole, without 4, all gone, the first 4 alone; in reverse only two more; mean adds its own empty picture
    assert memo.n_scorings == 4 + 2 + 1 == sum(toy.calls)


def test_a_score_that_is_not_finite_is_an_error():
    with pytest.raises(VisualizerError, match="finite"):
        Memo(Toy(lambda left: np.full(len(left), np.nan)))("blur", np.ones((1, 8, 8), bool))
