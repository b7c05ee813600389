"""Visitors beside each other, text that stays text, and what a browser keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.browser.visitor import ANALYSIS, TABS, Visitor

SCRIPT = (
    "<script>window.hit=1</script><img src=x onerror='window.hit=2'> **bold** [a](javascript:window.hit=3) "
    "${window.hit=4} {{7*7}} `tick` Is there a pleural effusion?"
)


def test_two_visitors_never_see_each_others_things(visit: Callable[..., Visitor], cases: Any) -> None:
    one, other = visit().arrived(), visit().arrived()
    mine, theirs = (
        "Is there a pneumothorax, asked by the first visitor?",
        f"{cases[2].question} Asked by the second visitor?",
    )
    one.types(mine)
    other.chooses(2)
    assert one.analyses()["Question"] == mine
    other.types(theirs)
    assert other.analyses()["Question"] == theirs
    for visitor, asked in ((one, mine), (other, theirs)):  # what the server has kept of each, on another tab
        film = visitor.find("#analysis-viewer-film").get_attribute("src")
        visitor.opens("Token-Conditioned Analysis")
        visitor.find("#tokens-strip button[aria-pressed=true]").wait_for(timeout=ANALYSIS)
        assert visitor.facts("#tokens-case")["Question"] == asked
        assert visitor.find("#tokens-viewer-film").get_attribute("src") == film
    one.opens("MIMIC Question Analysis")
    one.find("#analysis-upload input[type=file]").set_input_files(cases[4].image)
    one.page.wait_for_function("() => !document.querySelector('#analysis-answer dl')")
    private = one.find("#analysis-viewer-film").get_attribute("src")
    for tab in TABS:
        other.opens(tab)
        assert "first visitor" not in other.page.content()
        assert private not in other.page.content()
        one.opens(tab)
        assert "second visitor" not in one.page.content()
    late = visit().arrived()
    assert late.facts()["Question"] == cases[0].question
    assert "visitor?" not in late.page.content()


def test_markup_in_a_question_stays_letters_on_every_tab(visitor: Visitor) -> None:
    visitor.types(SCRIPT)
    assert visitor.analyses()["Question"].split() == SCRIPT.split()
    for tab in TABS:
        visitor.opens(tab)
        assert visitor.page.evaluate("window.hit") is None
        assert visitor.page.locator("img[src=x], #analysis-answer strong, a[href^=javascript]").count() == 0
    visitor.opens("Prompt Sensitivity Analysis")
    visitor.find("#sensitivity-prompt-1 textarea").fill(SCRIPT)
    visitor.find("#sensitivity-prompt-2 textarea").fill("Is there a pleural effusion?")
    visitor.takes("sensitivity-method", "Relevance —")
    visitor.find("#sensitivity-run").click()
    visitor.find("#sensitivity-answers table").wait_for(timeout=4 * ANALYSIS)
    assert "<script>window.hit=1</script>" in visitor.find("#sensitivity-answers").inner_text()
    assert "${window.hit=4} {{7*7}}" in visitor.find("#sensitivity-answers").inner_text()
    assert visitor.page.evaluate("window.hit") is None


def test_the_browser_keeps_nothing_of_what_was_asked(visitor: Visitor) -> None:
    visitor.types("Is there a secret pneumothorax?")
    visitor.analyses()
    kept = visitor.page.evaluate(
        """async () => JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage), document.cookie,
           indexedDB.databases ? (await indexedDB.databases()).map(d => d.name) : []])"""
    )
    assert "secret" not in kept
    assert "history" not in kept.lower()
    assert "data:image" not in kept
    assert "secret" not in visitor.page.url


def test_a_reloaded_page_starts_anew(visitor: Visitor, cases: Any) -> None:
    visitor.types("Is there a secret pneumothorax?")
    visitor.analyses()
    visitor.arrived()
    assert visitor.facts()["Question"] == cases[0].question
    assert "secret" not in visitor.page.content()
