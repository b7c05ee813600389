"""The sixth tab, and keys instead of a mouse on all of them."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from medgemma_visualizer.app.actions.analysis import choices
from tests.browser.visitor import ANALYSIS, Visitor


def test_about_says_what_the_page_is_not_for_and_what_the_numbers_mean(visitor: Visitor) -> None:
    visitor.opens("About")
    about = visitor.find("#tab-about")
    expect(about).to_contain_text("not for clinical use", ignore_case=True)
    told = about.inner_text()
    for name in ("attention_entropy", "pointing_game", "relevance_mass"):
        assert name in told or name.replace("_", " ") in told.lower()
    assert "Apache" in told


def test_keys_go_through_cases_and_change_how_the_film_is_shown(visitor: Visitor, cases: Any) -> None:
    press, question = visitor.page.keyboard.press, visitor.find("#analysis-question textarea")
    visitor.page.evaluate("document.activeElement.blur()")
    for key, case in (("j", 1), ("j", 2), ("k", 1)):
        press(key)
        visitor.page.wait_for_function(
            "q => document.querySelector('#analysis-answer dd')?.innerText === q",
            arg=cases[case].question,
            timeout=ANALYSIS,
        )
        expect(question).to_have_value(cases[case].question)
    press("k")
    visitor.page.wait_for_function(
        "() => !document.querySelector('#analysis-viewer-outline').disabled", timeout=ANALYSIS
    )
    for key, control in (("o", "overlay"), ("g", "outline")):
        box = visitor.find(f"#analysis-viewer-{control}")
        was = box.is_checked()
        press(key)
        assert box.is_checked() != was
    opacity = visitor.find("#analysis-viewer-opacity")
    was = int(opacity.input_value())
    press("+")
    assert int(opacity.input_value()) == was + 10
    press("-")
    assert int(opacity.input_value()) == was
    press("?")
    expect(visitor.find("dialog#mv-keys")).to_be_visible()
    press("Escape")
    expect(visitor.find("dialog#mv-keys")).to_be_hidden()


def test_keys_pressed_while_an_answer_is_awaited_are_heard_and_the_last_case_comes(
    visitor: Visitor, cases: Any
) -> None:
    label = {case: text for text, case in choices(cases)}
    visitor.page.evaluate("document.activeElement.blur()")
    for key in "jjjkjj":
        visitor.page.keyboard.press(key)
    expect(visitor.find("#analysis-case input")).to_have_value(label[cases[4].id], timeout=ANALYSIS)
    expect(visitor.find("#analysis-question textarea")).to_have_value(cases[4].question)
    visitor.page.wait_for_timeout(1500)  # nothing of the cases that were passed comes after it
    expect(visitor.find("#analysis-case input")).to_have_value(label[cases[4].id])
    assert visitor.facts()["Question"] == cases[4].question
    assert visitor.alerts() == []


def test_keys_typed_into_a_question_are_letters(visitor: Visitor, cases: Any) -> None:
    question = visitor.find("#analysis-question textarea")
    question.fill("")
    question.press_sequentially("jog?")
    expect(question).to_have_value("jog?")
    assert visitor.facts()["Question"] == cases[0].question
