"""Sums over made-up wordings whose answers are known by hand, and a small set asked for real."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from medgemma_visualizer.checks.prompts import Variation
from medgemma_visualizer.checks.sensitivity import MOVED, Sensitivity, sensitivity, summarise
from medgemma_visualizer.checks.wordings import Asked, Facts, Said, Wording, ask_all, by_rules, from_file
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.models.answer import yes_no
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.records import Case
from medgemma_visualizer.scores.agreement import js_divergence

QUESTION = "Is there a pleural effusion?"
YES, NO = Said("yes", 0.9), Said("no", 0.2)


def row(film: str = "a", said: Said = YES, base: Said = YES, **told: Any) -> Wording:
    given: dict[str, Any] = {
        "question": QUESTION,
        "case_id": film,
        "patient": film,
        "text": f"wording of {film}",
        "strategy": "synonym",
        "expected": "same",
        "truth": "yes",
        "js": 0.1,
        "js_answered": 0.1,
    }
    return Wording(picture=film, said=said, base=base, **(given | told))


def summed(*rows: Wording, **told: Any) -> Sensitivity:
    return summarise(Asked(rows, **told))


def test_the_same_words_about_two_films_are_two_questions() -> None:
    found = summed(row("a", YES, YES), row("a", YES, YES), row("b", NO, NO), row("b", NO, NO))
    assert found.groups == 2
    assert found.consistency.value == 1  # mixed by text it would be 3 of 6
    assert found.strategies[0].flips.count == 0


def test_two_questions_about_one_film_are_two_groups_of_one_patient() -> None:
    found = summed(row(), row(question="Is there a pneumothorax?", base=NO, said=NO))
    assert (found.groups, found.patients, found.consistency.n, found.consistency.clusters) == (2, 1, 2, 1)


def test_consistency_counts_the_question_itself_and_no_opposite() -> None:
    rows = [row(said=YES), row(said=NO), row(said=NO, expected="flipped", strategy="opposite")]
    assert summed(*rows).consistency.value == pytest.approx(2 / 3)


def test_flips_of_a_strategy_have_wilsons_interval_and_that_by_patient() -> None:
    rows = [row(film, NO if film in "ab" else YES) for film in "abcdefgh"]
    flips = summed(*rows).strategies[0].flips
    assert (flips.count, flips.n, flips.value) == (2, 8, 0.25)
    # Wilson by hand: z = 1.959964, centre (0.25 + z²/16) / (1 + z²/8), half z √(0.25·0.75/8 + z²/256) / (1 + z²/8)
    assert flips.interval == pytest.approx((0.071475, 0.590717), abs=1e-5)
    assert flips.by_patient.clusters == 8
    assert 0 <= flips.by_patient.interval[0] < 0.25 < flips.by_patient.interval[1]  # type: ignore[index]


def test_tests_against_the_question_itself_are_corrected_by_holm() -> None:
    rows = []
    for film in "abcdef":
        rows.append(row(film, NO, strategy="register"))  # always wrong where the question is right
        rows.append(row(film, YES, strategy="voice"))
        rows.append(row(film, NO if film == "a" else YES, strategy="phrasing"))
    found = {one.name: one for one in summed(*rows).strategies}
    assert list(found) == ["voice", "register", "phrasing"]  # in the order of the table of strategies
    exact = 2 / 2**6  # all six of one sign
    assert found["register"].p_value == pytest.approx(exact)
    assert found["register"].corrected == pytest.approx(3 * exact)
    assert found["voice"].p_value == found["voice"].corrected == 1
    assert found["register"].accuracy.value == -1  # type: ignore[union-attr]
    assert found["phrasing"].accuracy.value == pytest.approx(-1 / 6)  # type: ignore[union-attr]


def test_without_truth_nothing_is_said_about_right_and_wrong() -> None:
    found = summed(row(truth=None), row("b", NO, truth=None)).strategies[0]
    assert (found.accuracy, found.p_value, found.corrected) == (None, None, None)
    assert found.flips.value == 0.5


def test_an_opposite_should_turn_the_answer_round() -> None:
    opposite = {"strategy": "opposite", "expected": "flipped"}
    rows = [row("a", NO, **opposite), row("b", YES, **opposite), row("c", YES, NO, **opposite)]
    found = summed(*rows)
    assert (found.opposites.count, found.opposites.n) == (2, 3)  # type: ignore[union-attr]
    assert [one.right for one in rows] == [True, False, False]  # the truth is yes, so the opposite's is no
    assert found.opposites_right.count == 1  # type: ignore[union-attr]
    assert found.strategies == ()
    assert rows[0].drift == pytest.approx(0.1)  # 1 − 0.9 was expected, 0.2 was said


def test_correlation_is_spearmans_and_leaves_out_what_has_no_number() -> None:
    drifts, js = [0.1, 0.5, 0.3, 0.8, 0.2], [0.01, 0.2, 0.3, 0.25, 0.05]
    rows = [row(film, Said("yes", 0.9 - d), js=j) for film, d, j in zip("abcde", drifts, js, strict=True)]
    found = summed(*rows, row("f", Said("uncertain")), row("g", js=None, reason="no map")).correlation
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(drifts, js).statistic)
    assert (found.n, found.left_out) == (5, 2)
    assert found.interval[0] <= found.value <= found.interval[1]  # type: ignore[index]
    assert summed(*(replace(one, js=0.1) for one in rows)).correlation is None


def test_flipped_and_kept_wordings_are_compared_within_their_group() -> None:
    rows = [
        *(row("a", NO, js=j) for j in (0.3, 0.5)),
        *(row("a", YES, js=j) for j in (0.1, 0.3)),
        row("b", NO, js=0.5),
        row("b", YES, js=0.1),
        row("c", NO, js=0.9),  # nothing in c was kept, so c says nothing
    ]
    moved = summed(*rows).moved
    assert moved is not None
    assert moved.groups == moved.test.n == 2
    assert moved.difference.value == pytest.approx(((0.4 - 0.2) + (0.5 - 0.1)) / 2)
    assert moved.test.effect == 1
    assert summed(row()).moved is None


def test_galleries_hold_flips_on_the_same_map_and_moved_maps_under_the_same_answer() -> None:
    rows = [row("a", NO, js=0.02), row("b", NO, js=0.01), row("c", NO, js=0.5), row("d", js=0.4), row("e", js=0.02)]
    found = summed(*rows)
    assert found.boundary == MOVED
    assert [one.case_id for one in found.stable_flips] == ["b", "a"]
    assert [one.case_id for one in found.moved_same] == ["d"]


def test_context_pairs_other_patients_and_other_findings_only() -> None:
    left, right = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    keys = {
        ("a", QUESTION): (left, Facts("1", "effusion")),
        ("b", QUESTION): (right, Facts("2", "effusion")),
        ("c", QUESTION): (left, Facts("2", "effusion")),  # the same patient as b: no pair
        ("a", "Is fluid there?"): (left, Facts("1", "effusion")),  # the same finding: no pair
        ("b", "Is air there?"): (right, Facts("2", "pneumothorax")),
    }
    found = summed(row(), maps={k: v[0] for k, v in keys.items()}, facts={k: v[1] for k, v in keys.items()})
    assert found.context["other_picture"].n == 1
    assert found.context["other_picture"].value == pytest.approx(np.log(2))
    assert found.context["other_finding"].n == 1
    assert found.boundary == found.context["other_finding"].value == 0


def test_wordings_without_a_map_are_counted_with_the_reason() -> None:
    found = summed(row(), row(js=None, js_answered=None, reason="flat"), left_out={"unreadable": 3})
    assert found.without_map == {"flat": 1}
    assert found.left_out == {"unreadable": 3}
    assert found.strategies[0].divergence.left_out == 1  # type: ignore[union-attr]


def test_nothing_cannot_be_summed_up() -> None:
    with pytest.raises(InputError, match="no wordings"):
        summed()


# --- asked for real --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(demo: Any, cases: Any) -> Asked:
    same = [case for case in cases if case.question == QUESTION][:2]
    return ask_all(demo, [*same, same[0]], by_rules(5), method="relevance")


def test_each_picture_keeps_its_own_wordings(asked: Asked) -> None:
    assert len({one.picture for one in asked.wordings}) == len(asked.maps) == 2
    assert {one.question for one in asked.wordings} == {QUESTION}
    assert asked.left_out == {"the same picture and question as an earlier case": 1}


def test_every_row_is_what_separate_runs_give(asked: Asked, demo: Any, cases: Any) -> None:
    by_id = {case.id: case for case in cases}
    for one in asked.wordings[:4]:
        case = by_id[one.case_id]
        base, other = (read(demo, picture(case), text, options=case.options) for text in (one.question, one.text))
        assert (one.base.label, one.said.label) == (base.answer.label, other.answer.label)
        assert one.said.p_yes == pytest.approx(other.answer.p_yes, abs=1e-5)
        maps = [explain_reading(each, "relevance").map for each in (base, other)]
        assert one.js_answered == pytest.approx(js_divergence(*maps), abs=1e-5)


def test_with_the_answer_as_expected_both_targets_are_the_same(asked: Asked) -> None:
    kept = [one for one in asked.wordings if one.flipped == (one.expected == "flipped")]
    assert kept
    assert all(one.js == one.js_answered for one in kept)


def test_the_held_target_is_the_questions_own_whatever_the_wording_says(demo: Any, cases: Any) -> None:
    case = next(case for case in cases if case.question == QUESTION and case.truth == "yes")
    other = [Variation("Is there a pneumothorax?", "own", (), None, "", "same")]  # no wording of it: a planted flip
    found = ask_all(demo, [case], lambda *_: other, method="relevance").wordings[0]
    assert (found.base.label, found.said.label) == ("yes", "no")
    readings = [read(demo, picture(case), text) for text in (QUESTION, other[0].text)]

    def yes_against_no(logits: Any) -> Any:
        return yes_no(demo, logits[:, 0])[2]

    aims: dict[str, Any] = {"js": ("contrast", yes_against_no), "js_answered": ("contrast", "contrast")}
    for name, targets in aims.items():
        first, second = (explain_reading(r, "relevance", t).map for r, t in zip(readings, targets, strict=True))
        assert getattr(found, name) == pytest.approx(js_divergence(first, second), abs=1e-4)
    assert found.js != pytest.approx(found.js_answered)


def test_cases_that_cannot_be_asked_are_counted_and_none_at_all_is_refused(demo: Any, cases: Any) -> None:
    absent = Case("x", "absent.png", QUESTION)
    groups = {QUESTION: (Variation("Is there an effusion?", "synonym", (), None, "", "same"),)}
    case = next(case for case in cases if case.question == QUESTION)
    other = next(one for one in cases if one.question != QUESTION)
    found = ask_all(demo, [absent, other, case], from_file(groups), method="cross_attention")
    assert len(found.wordings) == 1
    assert sorted(found.left_out.values()) == [1, 1]
    assert "the file has no wordings of the question" in found.left_out
    with pytest.raises(InputError, match="No case could be asked"):
        ask_all(demo, [absent], by_rules(2), method="relevance")
    with pytest.raises(InputError, match="Unknown method"):
        ask_all(demo, [case], by_rules(2), method="relevanc")


def test_a_whole_set_in_one_call_is_the_same_every_time(demo: Any, cases: Any) -> None:
    first, again = (sensitivity(demo, cases[:2], number=3, method="cross_attention", seed=1) for _ in range(2))
    assert first == again
    assert (first.groups, first.wordings, first.seed) == (2, 6, 1)
