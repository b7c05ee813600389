"""Tabs three to six: wordings beside each other, checks of a map, the league, and what it all means."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from medgemma_visualizer.checks.prompts import generate_prompt_variations
from tests.browser.visitor import ANALYSIS, LONG, Visitor


def test_two_wordings_are_compared_in_answers_maps_and_their_difference(visitor: Visitor, cases: Any) -> None:
    visitor.opens("Prompt Sensitivity Analysis")
    boxes = [visitor.find(f"#sensitivity-prompt-{n} textarea") for n in (1, 2)]
    for box, form in zip(boxes, generate_prompt_variations(cases[0].question), strict=True):
        expect(box).to_have_value(form)
    visitor.takes("sensitivity-method", "Relevance —")
    visitor.find("#sensitivity-run").click()
    answers = visitor.find("#sensitivity-answers table")
    answers.wait_for(timeout=LONG)
    assert answers.locator("tbody tr").count() == 2
    for box in boxes:
        assert box.input_value() in answers.inner_text()
    assert visitor.find("#sensitivity-maps img").count() >= 1
    visitor.find("#sensitivity-viewer .mv-viewer[data-empty=false]").wait_for()
    assert "JS to 1" in visitor.find("#sensitivity-maps").inner_text()
    visitor.opens("MIMIC Question Analysis")
    visitor.chooses(1)
    visitor.opens("Prompt Sensitivity Analysis")
    expect(visitor.find("#sensitivity-answers table")).to_have_count(0)  # nothing stands beside another case


def test_a_validation_can_be_called_off_midway_and_another_gives_curves_table_and_verdict(visitor: Visitor) -> None:
    visitor.opens("Faithfulness Validation")
    visitor.find("#faithfulness-validate").click()
    bar = visitor.find("#faithfulness-progress [role=progressbar][aria-valuenow]")
    bar.wait_for(timeout=ANALYSIS)
    visitor.find("#faithfulness-cancel").click()
    visitor.find("#faithfulness-alert [role=status]", has_text="Stopped").wait_for(timeout=ANALYSIS)
    expect(bar).to_have_count(0)
    expect(visitor.find("#faithfulness-table table")).to_have_count(0)

    visitor.find("#faithfulness-validate").click()
    table = visitor.find("#faithfulness-table table")
    table.wait_for(timeout=LONG)
    assert table.locator("thead th").all_inner_texts() == ["Metric", "Value", "Target", "Chance", "Status"]
    assert "deletion" in table.inner_text()
    assert "insertion" in table.inner_text()
    visitor.find("#faithfulness-curves img").wait_for()
    verdict = visitor.facts("#faithfulness-verdict")
    assert verdict["Trust"].lower() in {"trust", "with care", "do not trust this map"}
    assert verdict["Because"]


def test_a_sanity_check_draws_weights_anew_and_another_visitor_is_answered_by_the_weights_as_they_are(
    visit: Callable[..., Visitor],
) -> None:
    checking, asking = visit().arrived(), visit().arrived()
    checking.opens("Faithfulness Validation")
    checking.find("#faithfulness-sanity").click()
    checking.find("#faithfulness-progress [role=progressbar][aria-valuenow]").wait_for(timeout=ANALYSIS)
    before = asking.facts()["p(yes)"]
    assert asking.analyses()["p(yes)"] == before
    assert checking.find("#faithfulness-progress [role=progressbar]").count() == 1  # still at it
    checking.find("#faithfulness-cancel").click()
    checking.find("#faithfulness-alert [role=status]", has_text="Stopped").wait_for(timeout=ANALYSIS)


@pytest.mark.slow
def test_sanity_checks_end_with_curves_token_order_and_quadrants(visitor: Visitor) -> None:
    visitor.opens("Faithfulness Validation")
    visitor.find("#faithfulness-method label", has_text=re.compile(r"^\W*Relevance\b")).first.click()
    visitor.find("#faithfulness-sanity").click()
    visitor.find("#faithfulness-checks img").first.wait_for(timeout=LONG)
    told = visitor.facts("#faithfulness-checks")
    assert "image tokens belong to their cell" in told["Token order"]
    assert told["Quadrant test"]


def test_the_league_is_sorted_by_a_click_on_its_heads(visitor: Visitor) -> None:
    visitor.opens("Method Trust")
    table = visitor.find("#trust-table table")
    table.wait_for(timeout=ANALYSIS)
    heads = table.locator("thead th")
    column = next(n for n in range(1, heads.count()) if _numbers(table, n))
    heads.nth(column).locator("button").click()
    expect(heads.nth(column)).to_have_attribute("aria-sort", "ascending")
    rising = _numbers(table, column)
    assert rising == sorted(rising)
    heads.nth(column).locator("button").click()
    expect(heads.nth(column)).to_have_attribute("aria-sort", "descending")
    assert _numbers(table, column) == sorted(rising, reverse=True)
    assert len(set(rising)) > 1


def test_behind_the_numbers_stand_the_best_and_the_worst_maps_in_order(visitor: Visitor) -> None:
    visitor.opens("Method Trust")
    visitor.find("#trust-table table").wait_for(timeout=ANALYSIS)
    visitor.takes("trust-method", "Relevance")
    visitor.find("#trust-examples-run").click()
    figures = visitor.find("#trust-examples figure")
    figures.first.wait_for(timeout=LONG)
    told = figures.locator("figcaption").all_inner_texts()
    best, worst = (
        [float(area[1]) for line in told if (area := re.search(rf"^{which}.*roc auc (\d\.\d+)", line, re.DOTALL))]
        for which in ("Best", "Worst")
    )
    assert best
    assert worst
    assert len(best) + len(worst) == len(told)
    assert min(best) >= max(worst)
    pictures = {image.get_attribute("src") for image in figures.locator("img").all()}
    assert len(pictures) == len(told)  # each its own


def _numbers(table: Any, column: int) -> list[float]:
    """The numbers that the cells of a column begin with, from the top."""
    texts = table.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()
    found = [re.match(r"[+−-]?\d+(\.\d+)?", text.strip()) for text in texts]
    return [float(number[0].replace("−", "-")) for number in found if number]


def test_about_says_what_the_page_is_not_for_and_what_the_numbers_mean(visitor: Visitor) -> None:
    visitor.opens("About")
    told = visitor.find("#tab-about").inner_text()
    assert "not for clinical use" in told.lower()
    for name in ("attention_entropy", "pointing_game", "relevance_mass"):
        assert name in told or name.replace("_", " ") in told.lower()
    assert "Apache" in told
