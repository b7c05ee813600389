"""The table of appendix C has a place on the page, its sums are right, and random weights are never called accurate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import appendix_c
from medgemma_visualizer.records import Case
from medgemma_visualizer.reports.sensitivity import marks, rewritten
from versions import median_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def found(device: str = "cuda (a card)", shape: str = "4b") -> dict[str, Any]:
    """What random weights leave to say: times, and why there is no accuracy."""
    about = {"model": "a model", "device": device, "dtype": "float32", "torch": "2", "transformers": "5", "threads": ""}
    times = {name: {"ms": 1.0, "MB": 2.0} for name in appendix_c.STEPS_OF_A_CASE}
    return {"about": about | {"shape": shape}, "times": times, "metrics": {"why": "does not apply: random weights"}}


def presence(patient: str, number: int) -> Case:
    return Case(
        f"{patient}-{number}", "film.jpg", "Is there pneumonia?", ("yes", "no"), "yes", "pneumonia", {}, patient
    )


@pytest.mark.parametrize(("device", "shape"), [("cpu", "demo"), ("cuda (a card)", "4b")])
def test_the_page_has_a_place_for_the_part_of_either_device(device: str, shape: str) -> None:
    command = appendix_c.command_of(found(device, shape)["about"])
    page = rewritten(PAGE.read_text("utf-8"), "WRITTEN ANEW", command)
    begin, end = marks(command)
    assert page.partition(begin)[2].partition(end)[0].strip() == "WRITTEN ANEW"


def test_random_weights_have_times_and_no_accuracy() -> None:
    lines = appendix_c.told(found()).splitlines()
    assert sum(line.startswith(f"| {name} | 1.0 | 2.0 |") for line in lines for name in appendix_c.STEPS_OF_A_CASE) == 6
    assert [line for line in lines if "does not apply: random weights" in line] == [
        f"| {name} | does not apply: random weights |"
        for name in ("answer accuracy", "deletion AUC", "comprehensiveness", "JS divergence (prompts)")
    ]


def test_a_sample_has_the_deviation_of_its_cases_and_counts_those_without() -> None:
    one = appendix_c.Sample([("a", 0.0), ("b", 1.0), ("c", 2.0)], {"no map": 2}).summary()
    assert (one["mean"], one["sd"], one["n"], one["why"]) == (1.0, 1.0, 3, {"no map": 2})
    assert appendix_c.Sample([], {"no map": 2}).summary() == {"n": 0, "why": {"no map": 2}}


def test_a_patient_is_drawn_again_only_when_all_others_have_been() -> None:
    cases = [presence("a", n) for n in range(5)] + [presence("b", 0), presence("c", 0)]
    assert sorted(appendix_c.owner(case) for case in appendix_c.drawn(cases, 3)) == ["a", "b", "c"]
    assert sorted(appendix_c.owner(case) for case in appendix_c.drawn(cases, 4)) == ["a", "a", "b", "c"]


@pytest.mark.parametrize(("n", "low", "high"), [(9, 2, 8), (60, 22, 39)])
def test_the_interval_of_a_median_lies_between_the_ranks_of_the_tables(n: int, low: int, high: int) -> None:
    """Ranks as tabulated for the sign test's interval (Conover 1999): 2nd and 8th of 9, 22nd and 39th of 60."""
    told = median_of([float(n - k) for k in range(n)])  # n … 1
    assert told == {"ratio": (n + 1) / 2, "low": low, "high": high}
