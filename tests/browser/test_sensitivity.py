"""The third tab: two wordings of a question, their answers, their maps, and how far apart these are."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from medgemma_visualizer.checks.prompts import generate_prompt_variations
from tests.browser.visitor import LONG, Visitor


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
