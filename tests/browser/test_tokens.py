"""The second tab: a word, a cell or an edit, and the map or the answer that follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.visitor import ANALYSIS, Visitor, picture_of

MAP, STAGE = "#tokens-viewer-map", "#tokens-viewer [data-part=stage]"
#: Keeps what the server answers to events, beside handing it on: Gradio cuts the line after the last answer, and a line
#: that was cut tells Playwright nothing.
HEARS = """(() => {
  const ask = window.fetch, decoder = new TextDecoder();
  window.heard = "";
  const listen = async (reader) => {
    for (let got; !(got = await reader.read()).done;) window.heard += decoder.decode(got.value);
  };
  window.fetch = async (...given) => {
    const answer = await ask(...given);
    if (answer.url.includes("/queue/data")) listen(answer.clone().body.getReader()).catch(() => {});
    return answer;
  };
})()"""


@pytest.fixture
def reader(visit: Callable[..., Visitor]) -> Visitor:
    """A visitor who has opened the tab and sees the map of the first word."""
    visitor = visit()
    visitor.page.add_init_script(HEARS)
    visitor.arrived()
    visitor.opens("Token-Conditioned Analysis")
    visitor.find("#tokens-viewer .mv-viewer[data-empty=false]").wait_for(timeout=ANALYSIS)
    visitor.find("#tokens-strip button[aria-pressed=true]").wait_for()
    return visitor


def pressed(reader: Visitor) -> tuple[str, str]:
    """(kind, number) of the word whose map is shown."""
    button = reader.find("#tokens-strip button[aria-pressed=true]")
    return button.get_attribute("data-kind"), button.get_attribute("data-n")


def shown(reader: Visitor) -> np.ndarray:
    """The pixels of the map as they were sent."""
    return np.asarray(picture_of(reader.find(MAP).get_attribute("src")).convert("RGBA"))


def another(reader: Visitor, before: str) -> None:
    """Waits until another map is shown."""
    reader.page.wait_for_function(
        "before => document.querySelector('#tokens-viewer-map').src !== before", arg=before, timeout=ANALYSIS
    )


def clicks(reader: Visitor, kind: str, number: int) -> None:
    before = reader.find(MAP).get_attribute("src")
    reader.find(f"#tokens-strip button[data-kind={kind}][data-n='{number}']").click()
    another(reader, before)


def test_every_word_has_its_own_map_by_click_and_by_arrow(reader: Visitor) -> None:
    first = shown(reader)
    clicks(reader, "question", 4)
    assert pressed(reader) == ("question", "4")
    second = shown(reader)
    assert np.abs(first.astype(float) - second).mean() > 1
    before = reader.find(MAP).get_attribute("src")
    reader.page.evaluate("document.activeElement.blur()")
    reader.page.keyboard.press("ArrowRight")
    another(reader, before)
    assert pressed(reader) == ("question", "5")
    reader.page.keyboard.press("ArrowLeft")
    expect(reader.find("#tokens-strip button[data-kind=question][data-n='4']")).to_have_attribute(
        "aria-pressed", "true"
    )
    assert np.array_equal(shown(reader), second)


def test_a_click_on_a_cell_lists_the_words_that_depend_on_it(reader: Visitor) -> None:
    at(reader, 0.3, 0.6)
    table = reader.find("#tokens-cell table")
    table.wait_for(timeout=ANALYSIS)
    assert "row 9" in table.inner_text().lower()  # of 16: 0.6 × 16 = 9.6
    words = table.locator("tbody tr").all_inner_texts()
    assert any(line.split("\t")[:2] == ["Is", "question"] for line in words)
    assert any(line.split("\t")[:2] == ["yes", "answer"] for line in words)


def at(reader: Visitor, x: float, y: float) -> None:
    """Clicks the film at these fractions of its width and height."""
    film = reader.find("#tokens-viewer-film")
    film.scroll_into_view_if_needed()
    box = film.bounding_box()
    reader.page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def draws(reader: Visitor, left: float, top: float, right: float, bottom: float) -> None:
    """Drags a rectangle over the film, in fractions of it, and waits until the server knows it."""
    film = reader.find("#tokens-viewer-film")
    film.scroll_into_view_if_needed()
    box = film.bounding_box()
    with reader.page.expect_response(lambda told: '"x0"' in (told.request.post_data or "")) as joined:
        reader.page.mouse.move(box["x"] + left * box["width"], box["y"] + top * box["height"])
        reader.page.mouse.down()
        reader.page.mouse.move(box["x"] + right * box["width"], box["y"] + bottom * box["height"], steps=4)
        reader.page.mouse.up()
    expect(reader.find("#tokens-viewer [data-part=box]")).to_be_visible()
    reader.page.wait_for_function(  # a line is an answer; of two events, either may be answered first
        """event => window.heard.split("\\n").some(
             line => line.includes(event) && line.includes("process_completed"))""",
        arg=joined.value.json()["event_id"],
        timeout=ANALYSIS,
    )


def test_an_edit_changes_film_and_p_yes_where_it_was_drawn_and_undo_brings_both_back(
    reader: Visitor, cases: Any
) -> None:
    region = np.asarray(cases[0].region)
    rows, cols = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    top, bottom = rows[0] / region.shape[0] - 0.05, (rows[-1] + 1) / region.shape[0] + 0.02
    left, right = cols[0] / region.shape[1] - 0.05, (cols[-1] + 1) / region.shape[1] + 0.05
    top, left, bottom, right = max(top, 0.01), max(left, 0.01), min(bottom, 0.99), min(right, 0.99)
    film = reader.find("#tokens-viewer-film")
    before, source = np.asarray(picture_of(film.get_attribute("src")).convert("L"), float), film.get_attribute("src")
    draws(reader, left, top, right, bottom)
    reader.find("#tokens-edit").click()
    reader.find("#tokens-edited tr", has_text="after edit 1").wait_for(timeout=ANALYSIS)

    height, width = before.shape
    inside = np.zeros(before.shape, bool)
    inside[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
    changed = np.abs(np.asarray(picture_of(film.get_attribute("src")).convert("L"), float) - before) > 8
    assert changed[inside].mean() > 0.1
    assert changed[~inside].mean() < 0.02

    was, now = (float(reader.row("#tokens-edited", name)["p(yes)"]) for name in ("as it was", "after edit 1"))
    assert abs(was - now) > 0.001

    reader.find("#tokens-undo").click()
    expect(reader.find("#tokens-edited tr", has_text="after edit 1")).to_have_count(0)
    expect(film).to_have_attribute("src", source)


def test_own_words_have_maps_beside_each_other(reader: Visitor) -> None:
    reader.find("#tokens-words textarea, #tokens-words input").fill("effusion, pneumonia")
    reader.find("#tokens-run").click()
    reader.find("#tokens-sheet img").first.wait_for(timeout=ANALYSIS)
    assert reader.find("#tokens-strip button[data-kind=word]").all_inner_texts() == ["effusion", "pneumonia"]


def test_too_many_words_are_refused_in_place_and_stay(reader: Visitor) -> None:
    own = reader.find("#tokens-words textarea, #tokens-words input")
    own.fill("one two three four five six")
    reader.find("#tokens-run").click()
    reader.find("#tokens-alert [role=alert]").wait_for(timeout=ANALYSIS)
    assert "limit of 5" in reader.alerts()[0]
    expect(own).to_have_value("one two three four five six")


def test_layers_and_heads_can_be_looked_through(reader: Visitor) -> None:
    reader.unfolds("head")
    reader.find("#tokens-show-heads").click()
    heads = reader.find("#tokens-heads button[data-head]")
    heads.first.wait_for(timeout=ANALYSIS)
    assert heads.count() >= 4
    before = reader.find(MAP).get_attribute("src")
    heads.nth(1).click()
    another(reader, before)
