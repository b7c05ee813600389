"""From trials on a few cases to one word about a method."""

from __future__ import annotations

from pathlib import Path

import pytest

from medgemma_visualizer.records import Case
from medgemma_visualizer.runs.sanity import Outcome, Trial, summed_up, trials_of, try_out
from tests.runs.made_up import row


def outcomes(*verdicts: str) -> list[Outcome]:
    return [Outcome("relevance", f"patient {n}", verdict, 0.1 * n, 0.05) for n, verdict in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("verdicts", "word", "failed"),
    [
        (("pass", "pass", "pass", "fail"), "pass", 1),
        (("pass", "fail"), "fail", 1),
        (("fail", "undecided", "undecided", "undecided"), "fail", 1),
        (("undecided", "undecided"), "undecided", 0),
        (("pass", "undecided"), "pass", 0),
    ],
)
def test_a_method_fails_where_half_of_the_cases_that_decide_fail(verdicts, word, failed):
    found = summed_up("relevance", outcomes(*verdicts), 5)
    assert (found.verdict, found.failed, found.cases, found.seeds) == (word, failed, len(verdicts), 5)


def test_the_mean_correlation_is_over_cases_and_of_that_method_only():
    found = summed_up("relevance", [*outcomes("pass", "pass", "pass"), Outcome("tam", "x", "fail", 0.9)], 5)
    assert found.rho == pytest.approx(0.1)
    assert found.chance == pytest.approx(0.05)
    assert found.interval[0] >= 0


def test_a_method_that_gave_no_map_is_undecided_and_says_why():
    found = summed_up("relevance", [Outcome("relevance", "x", reason="nothing speaks for the target")], 5)
    assert (found.verdict, found.rho, found.reason) == ("undecided", None, "nothing speaks for the target")
    assert summed_up("relevance", [], 5).verdict == "not asked"


def test_text_independence_needs_every_case_and_is_held_against_the_label():
    blind = [Outcome("relevance", str(n), text_independent=True) for n in range(2)]
    assert summed_up("relevance", blind, 5).label_holds is False
    mixed = [*blind, Outcome("relevance", "x", text_independent=False)]
    assert summed_up("relevance", mixed, 5).label_holds is True
    assert summed_up("relevance", [Outcome("relevance", "x")], 5).label_holds is None


def test_trials_are_on_right_answers_with_regions_first_and_on_different_patients():
    cases = [Case(f"case {n}", Path("x"), "?", patient_id=f"patient {n % 3}") for n in range(9)]
    rows = [row("a", n, {"pointing": 1.0}, correct=n < 6) for n in range(9)]
    found = trials_of(cases, rows, ["a", "b"], 3, 5, seed=0)
    assert [trial.method for trial in found] == ["a", "b"] * 3
    chosen = [trial.case for trial in found[::2]]
    assert {case.patient_id for case in chosen} == {"patient 0", "patient 1", "patient 2"}
    assert all(int(case.id.split()[1]) < 6 for case in chosen)
    assert found == trials_of(cases, rows, ["a", "b"], 3, 5, seed=0)
    assert trials_of(cases, rows, ["a"], 0, 5, seed=0) == []


def test_what_a_method_declares_about_the_question_is_checked_on_the_model(demo, cases):
    blind = try_out(demo, Trial(cases[0], "activation_norm", 1))
    assert blind.text_independent is True
    assert blind.verdict == "undecided"  # one random model decides nothing
    assert blind.rho is not None
    assert try_out(demo, Trial(cases[0], "relevance", 1)).text_independent is False
