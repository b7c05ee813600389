"""Sums over made-up rows: means, chance, ties, tests and splits worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.runs import CONTROLS, REFERENCE, Sanity
from medgemma_visualizer.runs.table import agreement, controls_of, left_out, places_of, splits_of, standings_of
from tests.runs.made_up import CHANCE, places, row, rows_of


def test_a_missing_map_counts_at_chance_and_is_told_with_its_reason():
    found = places(rows_of("shy", [1.0, None]))["shy"]
    assert found.scores["pointing"].value == 1.0
    assert found.scores["pointing"].n == 1
    assert found.scores["pointing"].reason == "1 left out: no gradient"
    assert found.counted["pointing"].value == (1.0 + 0.25) / 2
    assert (found.maps, found.n) == (1, 2)


def test_a_method_that_refuses_the_hard_cases_does_not_beat_one_that_answers_them():
    found = places(rows_of("shy", [1.0, None, None, None]) + rows_of("brave", [1.0, 0.5, 0.5, 0.5]))
    assert found["shy"].scores["pointing"].value > found["brave"].scores["pointing"].value
    assert found["shy"].mean_rank > found["brave"].mean_rank


def test_a_method_without_any_map_stands_exactly_at_chance():
    found = places(rows_of("mute", [None] * 4) + rows_of("good", [1.0] * 4))
    assert found["mute"].counted["pointing"].value == 0.25
    assert found["mute"].scores["pointing"].value is None
    assert found["mute"].forward_passes is None
    assert (found["good"].rank, found["mute"].rank) == (1, 2)


def test_ranks_are_by_column_equal_means_share_and_the_mean_rank_is_their_mean():
    rows = [
        *(row("a", case, {"pointing": 0.9, "roc_auc": 0.6}) for case in range(3)),
        *(row("b", case, {"pointing": 0.5, "roc_auc": 0.9}) for case in range(3)),
        *(row("c", case, {"pointing": 0.5, "roc_auc": 0.1}) for case in range(3)),
    ]
    found = standings_of(rows, ["a", "b", "c"], tuple(CHANCE))
    assert found.ranks == {"pointing": {"a": 1, "b": 2.5, "c": 2.5}, "roc_auc": {"a": 2, "b": 1, "c": 3}}
    assert found.mean_ranks == {"a": 1.5, "b": 1.75, "c": 2.75}


def test_methods_that_win_on_different_patients_tie_and_the_next_place_is_counted_on():
    turns = np.tile([1.0, 0.0], 10)
    rows = rows_of("even", turns) + rows_of("odd", 1 - turns) + rows_of("bad", [-1.0] * 20)
    found = places(rows)
    assert [(found[name].rank, found[name].tied) for name in ("even", "odd", "bad")] == [
        (1, True),
        (1, True),
        (3, False),
    ]


def test_a_method_that_wins_on_every_patient_ties_with_nobody():
    found = places(rows_of("best", np.linspace(0.8, 0.9, 12)) + rows_of("next", np.linspace(0.7, 0.8, 12)))
    assert [(found[name].rank, found[name].tied) for name in ("best", "next")] == [(1, False), (2, False)]
    assert found["best"].mean_rank_interval == (1, 1)


def test_one_patient_alone_puts_nobody_before_anybody():
    rows = [replace(each, patient_id="one") for each in rows_of("a", [1.0] * 5) + rows_of("b", [0.0] * 5)]
    found = places(rows)
    assert found["a"].mean_rank < found["b"].mean_rank
    assert found["a"].rank == found["b"].rank == 1
    assert found["a"].mean_rank_interval is None
    assert found["a"].counted["pointing"].interval is None


def test_differences_and_tests_are_paired_with_the_reference_and_corrected_for_all_of_the_table():
    steps = np.arange(1, 7) / 10  # six different gains: two-sided exact p of the signed-rank test is 2 / 2⁶
    rows = [
        *(row(REFERENCE, case, {"pointing": 0.0, "roc_auc": 0.5}) for case in range(6)),
        *(row("up", case, {"pointing": step, "roc_auc": 0.5 + step}) for case, step in enumerate(steps)),
    ]
    found = places(rows)
    assert found["up"].differences["pointing"].value == pytest.approx(0.35)
    assert found["up"].p_values == pytest.approx({"pointing": 2 * 2 / 64, "roc_auc": 2 * 2 / 64})  # Holm, two tests
    assert found[REFERENCE].differences["pointing"].value == 0
    assert found[REFERENCE].p_values == {}


def test_without_the_reference_nothing_is_compared_with_it():
    found = places(rows_of("a", [1.0, 0.5]))["a"]
    assert found.differences == {}
    assert found.p_values == {}


def test_a_case_without_a_region_counts_only_where_the_column_applies():
    silent = replace(row("a", 1, {"srg:blur": 0.2}), chances={"srg:blur": 0.0})
    (found,) = places_of([row("a", 0, {"pointing": 1.0}), silent], ["a"], ("pointing", "srg:blur"), {})
    assert found.counted["pointing"].n == 1
    assert found.counted["srg:blur"].n == 1
    assert found.counted["srg:blur"].value == 0.2
    assert found.n == 2


def test_a_case_that_could_not_be_asked_is_counted_by_its_reason_and_in_no_mean():
    broken = replace(row("a", 7), chances={}, reason="the picture is damaged")
    rows = [row("a", 0, {"pointing": 1.0}), broken, replace(broken, method="b")]
    assert left_out(rows) == {"the picture is damaged": 1}
    assert places([row("a", 0, {"pointing": 1.0}), broken])["a"].n == 1


def test_intervals_are_by_patient():
    alike = rows_of("a", [1.0, 0.0] * 10)
    paired = [replace(each, patient_id=f"patient {n // 2}") for n, each in enumerate(alike)]
    assert places(alike)["a"].counted["pointing"].interval[0] < 0.5
    assert places(paired)["a"].counted["pointing"].interval == (0.5, 0.5)  # every patient has one of each


def test_splits_part_the_cases_by_finding_side_size_and_answer():
    wrong = [replace(each, correct=False, case_id=f"wrong {n}") for n, each in enumerate(rows_of("a", [0.0, 0.0]))]
    rows = [*rows_of("a", [1.0, 1.0, 0.5]), *(replace(each, side="both") for each in wrong)]
    found = splits_of(rows, ["a"], tuple(CHANCE), {})
    assert set(found) == {"finding", "side", "size", "answer"}
    assert {value: each[0].n for value, each in found["answer"].items()} == {"right": 3, "wrong": 2}
    assert found["answer"]["right"][0].counted["pointing"].value == pytest.approx(2.5 / 3)
    assert found["side"]["both"][0].counted["pointing"].value == 0


def test_controls_have_a_line_and_no_rank():
    (found,) = controls_of(rows_of("random", [0.3, 0.2]) + rows_of("a", [1.0, 1.0]), CONTROLS, tuple(CHANCE))
    assert (found.method, found.label, found.rank, found.mean_rank) == ("random", "Random", 0, None)
    assert found.counted["pointing"].value == 0.25


def test_the_best_is_the_first_that_passes_the_sanity_check():
    rows = rows_of("first", [0.9, 0.9]) + rows_of("second", [0.5, 0.5]) + rows_of("third", [0.1, 0.1])
    verdicts = {"first": Sanity("fail"), "second": Sanity("pass"), "third": Sanity("pass")}
    found = places(rows, sanity=verdicts)
    assert [found[name].sanity.verdict for name in ("first", "second", "third")] == ["fail", "pass", "pass"]
    league = _league(tuple(found.values()))
    assert league.best == "second"
    assert _league((found["first"],)).best is None


def _league(places):
    from medgemma_visualizer.runs import League

    names = ("model", "identity", "probe", "source", "seed", "n", "patients", "imputers", "space", "steps")
    rest = ("reference", "controls", "splits", "left_out", "notes", "versions", "command")
    return League(**dict.fromkeys((*names, *rest)), places=places)


def test_leagues_that_rank_alike_agree_and_those_that_rank_in_reverse_do_not():
    values = {"a": 0.9, "b": 0.6, "c": 0.4, "d": 0.1}
    rows = [each for name, value in values.items() for each in rows_of(name, [value] * 5)]
    turned = [each for name, value in values.items() for each in rows_of(name, [1 - value] * 5)]
    same = agreement(rows, rows, tuple(CHANCE))
    assert (same.value, same.interval, same.n) == (pytest.approx(1), pytest.approx((1, 1)), 4)
    assert agreement(rows, turned, tuple(CHANCE)).value == pytest.approx(-1)


def test_two_methods_in_common_are_no_agreement():
    rows = rows_of("a", [0.9]) + rows_of("b", [0.1]) + rows_of("random", [0.3])
    with pytest.raises(InputError, match="2 methods in common"):
        agreement(rows, rows, tuple(CHANCE))


def test_the_order_of_the_rows_does_not_matter():
    rows = rows_of("a", [0.9, 0.1, 0.4]) + rows_of("b", [0.3, 0.8, 0.2])
    assert places_of(rows, ["a", "b"], tuple(CHANCE), {}) == places_of(rows[::-1], ["a", "b"], tuple(CHANCE), {})
