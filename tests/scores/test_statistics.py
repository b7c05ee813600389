"""Intervals, paired tests and corrections against SciPy, hand-computed values and repeated sampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Score
from medgemma_visualizer.scores import statistics as s
from medgemma_visualizer.scores.verdict import lift, verdict


def test_bootstrap_interval_is_near_scipys() -> None:
    """Oracle: scipy.stats.bootstrap, percentile method."""
    values = np.random.default_rng(0).gamma(2, size=80)
    values.setflags(write=False)
    reference = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    estimate = s.bootstrap_interval(values, seed=3, resamples=20_000)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.interval == pytest.approx((reference.low, reference.high), abs=0.02)
    assert (estimate.n, estimate.clusters, estimate.left_out) == (80, 80, 0)


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    values = np.random.default_rng(0).random(30)
    assert s.bootstrap_interval(values, seed=5) == s.bootstrap_interval(values, seed=5)
    assert s.bootstrap_interval(values, seed=5) != s.bootstrap_interval(values, seed=6)


def test_memory_limit_does_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(30)
    whole = s.bootstrap_interval(values)
    monkeypatch.setattr(s, "_DRAWS_AT_ONCE", 100)
    assert s.bootstrap_interval(values) == whole


def test_films_of_one_patient_are_drawn_together() -> None:
    values, patients = [0.0] * 50 + [1.0] * 50, ["a"] * 50 + ["b"] * 50
    together = s.bootstrap_interval(values, patients)
    assert together.interval == (0.0, 1.0)  # two patients: all of one, or all of the other
    assert together.clusters == 2
    alone = s.bootstrap_interval(values).interval
    assert alone is not None
    assert alone[1] - alone[0] < 0.25


def test_clusters_of_one_are_plain_cases() -> None:
    values = np.random.default_rng(1).random(20)
    named = [f"patient {i}" for i in range(20)]
    assert s.bootstrap_interval(values, named) == s.bootstrap_interval(values)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = [s.bootstrap_interval(rng.normal(size=60), seed=i, resamples=500).interval for i in range(300)]
    covered = np.mean([low <= 0 <= high for low, high in intervals if low is not None])
    assert 0.90 <= covered <= 0.98


def test_missing_values_are_left_out_and_counted() -> None:
    estimate = s.bootstrap_interval([1.0, None, 3.0, float("nan")], ["a", "b", "c", "c"])
    assert (estimate.value, estimate.n, estimate.clusters, estimate.left_out) == (2.0, 2, 2, 2)


def test_one_patient_has_a_mean_but_no_interval() -> None:
    assert s.bootstrap_interval([1.0, 2.0], ["a", "a"]).interval is None


@pytest.mark.parametrize(
    ("values", "clusters"), [([], None), ([None], None), ([float("inf")], None), ([1.0, 2.0], ["a"])]
)
def test_unusable_values_are_refused(values: list[float | None], clusters: list[str] | None) -> None:
    with pytest.raises(InputError):
        s.bootstrap_interval(values, clusters)


def test_bad_settings_of_the_bootstrap_are_refused() -> None:
    with pytest.raises(InputError):
        s.bootstrap_interval([1.0], resamples=0)
    with pytest.raises(InputError):
        s.bootstrap_interval([1.0], confidence=1.0)


def test_a_constant_difference_has_a_sharp_interval() -> None:
    first = np.random.default_rng(0).random(40)
    difference = s.paired_difference(first + 0.25, first)
    assert difference.value == pytest.approx(0.25)
    assert difference.interval == pytest.approx((0.25, 0.25))


def test_pairs_with_one_side_missing_are_left_out() -> None:
    difference = s.paired_difference([1.0, None, 5.0], [0.0, 1.0, None])
    assert (difference.value, difference.n, difference.left_out) == (1.0, 1, 2)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="paired"):
        s.paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="paired"):
        s.mcnemar([True], [])


def test_wilcoxon_equals_scipy() -> None:
    """Oracle: scipy.stats.wilcoxon with Pratt's zeros."""
    first, second = np.random.default_rng(0).random((2, 30)).round(1)
    test = s.wilcoxon(first, second)
    assert test.p_value == pytest.approx(stats.wilcoxon(first - second, zero_method="pratt").pvalue, abs=1e-12)
    assert (test.n, test.ties) == (30, int((first == second).sum()))


def test_effect_by_hand() -> None:
    # Differences 1, -2, 3, 4: ranks 1, 2, 3, 4, of which 2 is against: (8 - 2) / 10
    assert s.wilcoxon([1, 0, 3, 4], [0, 2, 0, 0]).effect == pytest.approx(0.6)
    assert s.wilcoxon([1, 2, 3], [0, 0, 0]).effect == 1


def test_no_difference_anywhere_is_no_evidence() -> None:
    test = s.wilcoxon([0.2, 0.4], [0.2, 0.4])
    assert (test.p_value, test.effect, test.ties) == (1.0, 0.0, 2)
    with pytest.raises(InputError, match="compared"):
        s.wilcoxon([None], [1.0])


def test_repeating_a_patients_film_adds_no_evidence() -> None:
    first, second = np.random.default_rng(2).random((2, 12))
    patients = list(range(12))
    repeated = s.wilcoxon(np.repeat(first, 9), np.repeat(second, 9), [p for p in patients for _ in range(9)])
    once = s.wilcoxon(first, second)
    assert repeated.p_value == pytest.approx(once.p_value)
    assert repeated.effect == pytest.approx(once.effect)
    assert repeated.n == 12


def test_holm_by_hand() -> None:
    adjusted = s.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(adjusted) == ["a", "b", "c", "d"]
    assert s.holm({}) == {}
    with pytest.raises(InputError, match="p-values"):
        s.holm({"a": 1.2})


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], level: float) -> None:
    """Oracle: the procedure as Holm states it, stopping at the first p above level / (questions left)."""
    names = [str(i) for i in range(len(p_values))]
    rejected = set()
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] * (len(p_values) - step) > level:
            break
        rejected.add(names[index])
    adjusted = s.holm(dict(zip(names, p_values, strict=True)))
    assert {name for name, p in adjusted.items() if p <= level} == rejected


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (77, 100), (1, 1)])
def test_wilson_equals_scipy(successes: int, n: int) -> None:
    """Oracle: scipy.stats.binomtest(...).proportion_ci(method="wilson")."""
    expected = stats.binomtest(successes, n).proportion_ci(0.95, "wilson")
    assert s.wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (5, 4), (-1, 4)])
def test_a_share_of_nothing_is_refused(successes: int, n: int) -> None:
    with pytest.raises(InputError, match="no share"):
        s.wilson_interval(successes, n)


def test_mcnemar_by_hand() -> None:
    first = [True] * 6 + [False] + [True] * 5
    second = [False] * 6 + [True] + [True] * 5
    # Seven discordant pairs, one of them the other way: 2 * (C(7,0) + C(7,1)) / 2^7
    assert s.mcnemar(first, second) == pytest.approx(2 * 8 / 128)
    assert s.mcnemar([True, False], [True, False]) == 1


def test_a_summary_names_who_was_left_out_and_why() -> None:
    scores = [
        Score("gini", 0.2, chance=0.0),
        Score("gini", 0.4, chance=0.0),
        Score("gini", None, reason="the map is zero"),
    ]
    summary = s.summarise(scores, ["a", "b", "b"])
    assert summary.value == pytest.approx(0.3)
    assert (summary.n, summary.chance, summary.reason) == (2, 0.0, "1 left out: the map is zero")
    assert summary.interval == pytest.approx((0.2, 0.4))


def test_a_summary_of_nothing_keeps_the_reasons() -> None:
    summary = s.summarise([Score("gini", None, reason="r"), Score("gini", None, reason="r")])
    assert (summary.value, summary.n, summary.reason) == (None, 0, "2 left out: r")


@pytest.mark.parametrize(
    "scores", [[], [Score("gini", 0.1), Score("ssim", 0.1)], [Score("regional_focus", "upper_left")]]
)
def test_what_has_no_mean_is_refused(scores: list[Score]) -> None:
    with pytest.raises(InputError, match="one name"):
        s.summarise(scores)


def test_verdicts_are_inclusive_and_turn_with_the_direction() -> None:
    assert [verdict("border_fraction", v, "lower") for v in (0.05, 0.1, 0.11)] == ["good", "acceptable", "poor"]
    assert [verdict("js_divergence", v, "lower") for v in (0.2, 0.25, 0.5)] == ["good", "acceptable", "poor"]
    assert [verdict("spatial_stability", v, "higher") for v in (0.5, 0.4)] == ["good", "poor"]
    assert verdict("gini", 0.5, "none") == ""
    assert verdict("roc_auc", 0.5, "higher") == ""


def test_lift_is_how_many_times_chance() -> None:
    assert lift(Score("relevance_mass", 0.4, chance=0.1)) == pytest.approx(4)
    assert lift(Score("gini", 0.4, chance=0.0)) is None
    assert lift(Score("gini", None, chance=0.1)) is None


def test_rank_correlation_is_scipys_and_draws_whole_clusters() -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(size=40)
    second = first + rng.normal(size=40)
    found = s.rank_correlation(first, second)
    assert found.value == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
    assert found.interval[0] < found.value < found.interval[1]
    doubled = s.rank_correlation(np.repeat(first, 2), np.repeat(second, 2), np.repeat(np.arange(40), 2))
    assert doubled.value == pytest.approx(found.value, abs=1e-3)
    assert doubled.interval == pytest.approx(found.interval, abs=1e-2)  # twins bring no certainty
    assert s.rank_correlation(np.repeat(first, 2), np.repeat(second, 2)).interval[0] > found.interval[0]


def test_rank_correlation_of_what_does_not_vary_is_none() -> None:
    assert s.rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert s.rank_correlation([1.0, 2.0, None], [1.0, 2.0, 3.0]) is None
    assert s.rank_correlation([1.0, 2.0, 3.0, None], [1.0, 2.0, 4.0, 1.0]).left_out == 1
