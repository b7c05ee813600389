"""The first tab: a film, a question, an answer, a map, and what becomes of them when a hand touches something."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from scipy.stats import spearmanr

from medgemma_visualizer import verbs
from medgemma_visualizer.app.actions.analysis import examples
from medgemma_visualizer.settings import QUICK_METHOD
from tests.browser.visitor import ANALYSIS, Visitor, cell_means, picture_of, pixels
from tests.browser.watched import Server
from tests.cli.test_unusable_input import IMAGES

STAGE, TRUTH = "#analysis-viewer [data-part=stage]", "#analysis-truth textarea"
#: How light a colour is (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def first(demo: Any, cases: Any) -> verbs.Analysis:
    """The first embedded case, asked without a page as the page asks it."""
    return verbs.analyze(demo, cases[0], method=QUICK_METHOD)


def test_the_first_case_is_answered_on_first_open_as_the_verbs_answer_it(
    visitor: Visitor, first: verbs.Analysis
) -> None:
    told = visitor.facts()
    assert told["Question"] == first.case.question
    assert told["Answer"].startswith(first.answer.text)
    assert told["Answer"].endswith("right" if first.correct else f"the truth is {first.case.truth}")
    assert f"{first.answer.p_yes:.3f}" in told["p(yes)"]
    expect(visitor.find(TRUTH)).to_have_value(str(first.case.truth))
    visitor.unfolds("Raw output")
    expect(visitor.find("#analysis-prompt textarea")).to_have_value(first.answer.prompt)
    assert visitor.row("#analysis-scores", "regional_focus")["Value"] == first.scores["regional_focus"].value
    entropy, row = first.scores["attention_entropy"], visitor.row("#analysis-scores", "attention_entropy")
    assert (row["Value"], row["Chance"]) == (f"{entropy.value:.3f}", f"{entropy.chance:.3f}")


def distance(visitor: Visitor, film: Image.Image) -> float:
    """Mean difference in grey levels between a film and the one that is shown."""
    shown = picture_of(visitor.find("#analysis-viewer-film").get_attribute("src")).convert("L")
    wanted = film.convert("L").resize(shown.size)
    return float(np.abs(np.asarray(shown, dtype=float) - np.asarray(wanted, dtype=float)).mean())


def test_the_film_shown_is_the_film(visitor: Visitor, first: verbs.Analysis) -> None:
    assert distance(visitor, first.reading.image) < 2


def test_the_overlay_colours_the_film_where_the_map_is_high_and_goes_when_told_to(
    visitor: Visitor, first: verbs.Analysis
) -> None:
    visitor.find("#analysis-viewer-outline").uncheck()
    with_map = pixels(visitor.find(STAGE)).astype(float)
    visitor.find("#analysis-viewer-overlay").uncheck()
    bare = pixels(visitor.find(STAGE)).astype(float)
    assert np.ptp(bare, axis=2).max() <= 2  # a film has no colours

    grid = np.asarray(first.heatmap.grid)
    opacity = int(visitor.find("#analysis-viewer-opacity").input_value()) / 100
    colours = (with_map - (1 - opacity) * bare) / opacity
    light = cell_means(colours @ LUMA, grid.shape)
    coloured = cell_means(np.ptp(with_map, axis=2), grid.shape) > 20  # cells within the body
    assert coloured.mean() > 0.15
    assert spearmanr(light[coloured], grid[coloured]).statistic > 0.8  # the colours grow lighter with the map


def test_the_value_under_the_pointer_is_the_maps_own(visitor: Visitor, first: verbs.Analysis) -> None:
    grid = np.asarray(first.heatmap.grid)
    row, col = map(int, np.unravel_index(grid.argmax(), grid.shape))
    stage = visitor.find("#analysis-viewer-film")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    visitor.page.mouse.move(
        box["x"] + (col + 0.5) / grid.shape[1] * box["width"], box["y"] + (row + 0.5) / grid.shape[0] * box["height"]
    )
    told = visitor.find("#analysis-viewer-hover")
    expect(told).to_have_text(re.compile(rf"^Row {row}, column {col}: "))
    hover = told.inner_text()
    share = 100 * grid[row, col] / grid.sum()  # in percent
    assert float(hover.split(": ")[1].split()[0]) == pytest.approx(share, rel=1e-2)


def test_opacity_grid_lines_and_layout_change_the_picture(visitor: Visitor) -> None:
    seen = [pixels(visitor.find(STAGE))]
    visitor.find("#analysis-viewer-opacity").fill("100")
    seen.append(pixels(visitor.find(STAGE)))
    visitor.find("#analysis-viewer-grid").check()
    seen.append(pixels(visitor.find(STAGE)))
    visitor.find("#analysis-viewer-level").fill("20")
    seen.append(pixels(visitor.find(STAGE)))
    assert all(not np.array_equal(before, after) for before, after in pairwise(seen))
    visitor.find("#analysis-viewer-window").fill("20")
    seen.append(pixels(visitor.find(STAGE)))
    assert not np.array_equal(seen[-2], seen[-1])
    visitor.find("#analysis-viewer-layout").select_option("beside")
    expect(visitor.find("#analysis-viewer .mv-plain")).to_be_visible()


def test_the_slider_bares_the_film_to_its_left_and_another_colour_map_colours_it_anew(visitor: Visitor) -> None:
    visitor.find("#analysis-viewer-outline").uncheck()
    visitor.find("#analysis-viewer-layout").select_option("wipe")
    visitor.find("#analysis-viewer-wipe").fill("50")
    colours = np.ptp(pixels(visitor.find(STAGE)).astype(int), axis=2)
    middle = colours.shape[1] // 2
    assert colours[:, : middle - 2].max() <= 2  # a film has no colours
    assert (colours[:, middle + 2 :] > 20).mean() > 0.1
    visitor.find("#analysis-viewer-wipe").fill("100")
    assert np.ptp(pixels(visitor.find(STAGE)).astype(int), axis=2)[:, :-2].max() <= 2
    map_ = visitor.find("#analysis-viewer-map")
    address = map_.get_attribute("src")
    before = np.asarray(picture_of(address).convert("RGBA"))
    visitor.unfolds("Method, target")
    visitor.takes("analysis-colormap", "viridis")
    expect(map_).not_to_have_attribute("src", address)
    after = np.asarray(picture_of(map_.get_attribute("src")).convert("RGBA"))
    assert np.array_equal(before[..., 3], after[..., 3])  # the same cells are coloured
    assert np.abs(before.astype(int) - after)[before[..., 3] > 0].mean() > 5


def test_an_edited_question_has_no_ground_truth_and_the_stored_one_gets_it_back(
    visitor: Visitor, first: verbs.Analysis
) -> None:
    truth = visitor.find(TRUTH)
    visitor.types(first.case.question + " Today?")  # as a paste does: no key is pressed
    expect(truth).to_have_value("")
    told = visitor.analyses()
    assert told["Question"].endswith("Today?")
    assert "right" not in told["Answer"]
    assert "wrong" not in told["Answer"]
    assert "pointing" not in visitor.find("#analysis-scores").inner_text()
    visitor.types(first.case.question)
    expect(truth).to_have_value(str(first.case.truth))


def test_another_case_brings_its_own_film_question_and_answer(visitor: Visitor, cases: Any) -> None:
    before = visitor.find("#analysis-viewer-film").get_attribute("src")
    visitor.chooses(1)
    assert visitor.facts()["Question"] == cases[1].question
    expect(visitor.find("#analysis-question textarea")).to_have_value(cases[1].question)
    assert visitor.find("#analysis-viewer-film").get_attribute("src") != before


def test_an_audit_is_seen_and_called_off_where_its_button_is(visitor: Visitor) -> None:
    before = visitor.facts()
    visitor.page.get_by_label("Audit", exact=True).check()
    visitor.page.evaluate("window.scrollTo(0, 600)")  # the results begin above what is seen now
    expect(visitor.find("#analysis-answer")).not_to_be_in_viewport()
    visitor.find("#analysis-run").click()
    bar = visitor.find("#analysis-progress [role=progressbar][aria-valuenow]")
    expect(bar).to_have_text(re.compile(r"\d+ of \d+.*\d s so far$"), timeout=ANALYSIS)
    expect(bar).to_be_in_viewport()
    visitor.find("#analysis-cancel").click()
    visitor.find("#analysis-alert", has_text="Stopped").wait_for(timeout=ANALYSIS)
    expect(bar).to_have_count(0)
    assert visitor.facts() == before


def test_an_error_comes_into_sight(visitor: Visitor) -> None:
    visitor.types("")
    visitor.page.evaluate("window.scrollTo(0, 600)")
    visitor.find("#analysis-run").click()
    expect(visitor.find("#analysis-alert [role=alert]", has_text="question is empty")).to_be_in_viewport()


def test_each_unusable_file_is_refused_in_one_sentence_and_nothing_else_changes(
    visitor: Visitor, server: Server, tmp_path: Path
) -> None:
    visitor.types("Is there a pneumothorax on the left?")
    expect(visitor.find(TRUTH)).to_have_value("")  # the question has arrived
    answer = visitor.find("#analysis-answer").inner_text()
    film = visitor.find("#analysis-viewer-film").get_attribute("src")
    for name, (content, said) in IMAGES.items():
        (tmp_path / name).write_bytes(content())
        visitor.find("#analysis-upload input[type=file]").set_input_files(tmp_path / name)
        alert = visitor.find("#analysis-alert [role=alert]", has_text=name)
        alert.wait_for()
        (text,) = visitor.alerts()
        assert all(part in text for part in said), (name, text)
        assert str(server.temporary) not in text
        expect(visitor.find("#analysis-question textarea")).to_have_value("Is there a pneumothorax on the left?")
    assert visitor.find("#analysis-answer").inner_text() == answer
    assert visitor.find("#analysis-viewer-film").get_attribute("src") == film
    assert server.files() == []


def test_a_film_of_ones_own_is_asked_without_truth_and_leaves_the_disk_at_once(
    visitor: Visitor, server: Server, cases: Any
) -> None:
    visitor.find("#analysis-upload input[type=file]").set_input_files(cases[3].image)
    expect(visitor.find(TRUTH)).to_have_value("")
    visitor.page.wait_for_function("() => !document.querySelector('#analysis-answer dl')")
    assert server.files() == []
    visitor.types("Is there a pleural effusion?")
    told = visitor.analyses()
    assert told["Question"] == "Is there a pleural effusion?"
    assert "right" not in told["Answer"]
    with Image.open(cases[3].image) as film:
        assert distance(visitor, film) < 2


def test_settings_can_be_taken_back_and_brought_again(visitor: Visitor) -> None:
    opacity = visitor.find("#analysis-viewer-opacity")
    before = opacity.input_value()
    opacity.fill("80")
    opacity.dispatch_event("change")
    visitor.find("#analysis-undo").click()
    expect(opacity).to_have_value(before)
    visitor.find("#analysis-redo").click()
    expect(opacity).to_have_value("80")


def test_two_pinned_results_stand_beside_each_other(visitor: Visitor, cases: Any) -> None:
    visitor.unfolds("Compare two results")
    visitor.find("#analysis-pin-a").click()
    visitor.find("#analysis-pins [role=status]").wait_for()
    visitor.chooses(1)
    visitor.find("#analysis-pin-b").click()
    visitor.find("#analysis-pins [role=status]", has_text=cases[1].question).wait_for()
    visitor.find("#analysis-compare").click()
    table = visitor.find("#analysis-pins table").first
    table.wait_for(timeout=ANALYSIS)
    questions = table.locator("tr", has_text="Question").locator("td").all_inner_texts()
    assert questions == [cases[0].question, cases[1].question]


def test_downloads_are_made_in_the_page_and_hold_the_result(
    visitor: Visitor, first: verbs.Analysis, tmp_path: Path
) -> None:
    visitor.unfolds("Copy and download")
    visitor.find("#analysis-downloads").click()
    links = visitor.find("#analysis-links a[download]")
    links.first.wait_for(timeout=ANALYSIS)
    assert links.count() == 5
    for link in links.all():
        assert link.get_attribute("href").startswith("data:")
    with visitor.page.expect_download() as waiting:
        links.nth(1).click()
    waiting.value.save_as(tmp_path / "map.npz")
    with np.load(tmp_path / "map.npz") as saved:
        assert any(
            np.allclose(saved[name], first.heatmap.grid, atol=1e-4) for name in saved.files if saved[name].ndim == 2
        )


@pytest.mark.parametrize("screen", ["visitor", "telephone"])
def test_an_example_is_taken_by_a_click_as_from_the_menu(
    screen: str, cases: Any, request: pytest.FixtureRequest
) -> None:
    here: Visitor = request.getfixturevalue(screen)
    buttons = here.find("#analysis-examples button")
    offered = examples(cases)
    assert buttons.all_inner_texts() == [label for label, _ in offered]
    width = here.page.viewport_size["width"]
    boxes = [box for box in (button.bounding_box() for button in buttons.all()) if box]
    assert len(boxes) == len(offered)
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    label, name = offered[1]
    case = next(case for case in cases if case.id == name)
    here.find("#analysis-answer").evaluate("e => e.querySelector('dl')?.setAttribute('data-old', '')")
    buttons.filter(has_text=label).click()
    here.find("#analysis-answer dl:not([data-old])").wait_for(timeout=ANALYSIS)
    assert here.facts()["Question"] == case.question
    expect(here.find("#analysis-case input")).to_have_value(re.compile(re.escape(case.question)))
    expect(here.find(TRUTH)).to_have_value(str(case.truth))
    assert distance(here, Image.open(case.image)) < 2
