"""What tab 2 does, without a page: every word's map, own words, cells, heads, and an edited film."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.taken import copied, linked
from typer.testing import CliRunner

from medgemma_visualizer.app.actions import analysis as first_tab
from medgemma_visualizer.app.actions import edits
from medgemma_visualizer.app.actions import tokens as actions
from medgemma_visualizer.app.desk import Cancelled, Progress
from medgemma_visualizer.app.session import Session, Settings, Superseded
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import METHODS, explain_reading, question_maps, token_maps, words_for_cell
from medgemma_visualizer.heatmaps.targets import question_token, resolve
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.models.trace import attention_rows


@pytest.fixture(scope="module")
def found(desk, cases):
    """The first case, asked once for all tests."""
    (made,) = first_tab.analyse(desk, Session(), cases[0], Settings(method="relevance"))
    return made


@pytest.fixture
def session(found, cases):
    made = Session()
    first_tab.choose(made, cases, cases[0].id)
    made.took(found.analysis)
    made.results["found"] = found
    return made


def chosen(desk, session, kind, number, method="relevance"):
    *_, found = actions.choose(desk, session, kind, number, method)
    return found


# --- every word ------------------------------------------------------------------------------------------------------


def test_the_words_are_those_of_question_and_answer(session):
    assert "".join(actions.texts(session, "question")).strip() == session.current().case.question
    assert "".join(actions.texts(session, "answer")).strip() == session.current().answer.text
    assert actions.texts(session, "word") == []


@pytest.mark.parametrize("method", ["cross_attention", "relevance", "token_gradient"])
def test_a_words_map_is_that_of_its_own_target(desk, session, method):
    reading = session.current().reading
    for number, word in enumerate(actions.texts(session, "question")):
        if word.strip() == "effusion":
            found = chosen(desk, session, "question", number, method)
            alone = explain_reading(reading, method, "word:effusion")
            assert np.allclose(found.heatmap.map, alone.map, rtol=1e-4, atol=1e-8)
    answered = chosen(desk, session, "answer", 0, method)
    assert np.allclose(answered.heatmap.map, explain_reading(reading, method, "token:0").map, rtol=1e-4, atol=1e-8)


def test_the_answers_maps_are_those_of_token_maps(desk, session):
    every = token_maps(session.current().reading, "relevance")
    assert len(every) == len(actions.texts(session, "answer"))
    for number, alone in enumerate(every):
        assert np.array_equal(chosen(desk, session, "answer", number).heatmap.map, alone.map)


def test_the_first_click_makes_all_maps_of_its_kind(desk, session):
    chosen(desk, session, "question", 0)
    known = {number for kind, _, number in session.heatmaps if kind == "question"}
    assert known == set(range(len(actions.texts(session, "question"))))


def test_words_that_stand_before_the_image_have_no_map(demo, cases):
    turned = read(demo, picture(cases[0]), cases[0].question, image_first=False)
    with pytest.raises(InputError, match="before the image"):
        question_maps(turned)


def test_a_position_outside_the_question_is_refused(reading):
    with pytest.raises(InputError, match="position 0"):
        question_token(reading, 0)


@pytest.mark.parametrize(
    ("kind", "number"), [("question", 99), ("answer", -1), ("word", 0), ("other", 0), ("answer", "0")]
)
def test_a_word_that_is_not_there_is_refused(desk, session, kind, number):
    with pytest.raises(InputError, match="no such word"):
        chosen(desk, session, kind, number)


def test_arrows_go_through_question_answer_and_own_words_and_round_the_end(desk, session):
    count = len(actions.texts(session, "question"))
    chosen(desk, session, "question", count - 1)
    assert actions.next_word(session, 1) == ("answer", 0)
    chosen(desk, session, "answer", len(actions.texts(session, "answer")) - 1)
    assert actions.next_word(session, 1) == ("question", 0)
    chosen(desk, session, "question", 0)
    assert actions.next_word(session, -1)[0] == "answer"


@pytest.fixture
def meanwhile(desk, monkeypatch):
    """What is done in this list happens while the model is asked the next time."""
    done, at_once = [], desk.quick

    def quick(*work):
        if done:
            done.pop()()
        return at_once(*work)

    monkeypatch.setattr(desk, "quick", quick)
    return done


def test_of_words_that_are_chosen_while_a_map_is_awaited_the_last_is_shown(desk, session, meanwhile):
    following = []

    def choose_again():
        following.append(actions.next_word(session, 1))
        chosen(desk, session, "question", 3)

    meanwhile.append(choose_again)
    with pytest.raises(Superseded):
        list(actions.choose(desk, session, "question", 0, "relevance"))
    assert following == [("question", 1)]  # the next one is next to the word that is coming
    assert actions.current(session).number == 3
    assert actions.next_word(session, 1) == ("question", 4)


def test_a_map_of_other_words_is_not_taken_for_that_of_new_ones(desk, session, monkeypatch):
    actions.take_words(session, "heart")
    explained = actions.explain_or_say_why

    def late(reading, aim, *how):  # other words are given while the map of the first is made
        monkeypatch.setattr(actions, "explain_or_say_why", explained)
        actions.take_words(session, "effusion")
        return explained(reading, aim, *how)

    monkeypatch.setattr(actions, "explain_or_say_why", late)
    with pytest.raises(Cancelled):
        list(actions.choose(desk, session, "word", 0, "relevance"))
    assert not [key for key in session.heatmaps if key[0] == "word"]
    assert chosen(desk, session, "word", 0).heatmap.target.text == "effusion"


def test_a_slow_method_asks_about_the_one_word_and_tells_how_far_it_is(desk, session):
    *steps, found = actions.choose(desk, session, "answer", 0, "smoothgrad")
    assert all(isinstance(step, Progress) for step in steps)
    assert found.heatmap.method == "smoothgrad"
    assert [key for key in session.heatmaps if key[1] == "smoothgrad"] == [("answer", "smoothgrad", 0)]


def test_a_slow_map_of_a_case_that_was_left_goes_nowhere(desk, session, cases):
    steps = actions.choose(desk, session, "answer", 0, "smoothgrad")
    next(steps)
    list(first_tab.analyse(desk, session, cases[1], Settings(method="relevance")))
    with pytest.raises(Cancelled):
        list(steps)
    assert session.heatmaps == {}


def test_the_strip_has_a_button_for_each_word_and_one_is_pressed(desk, session):
    chosen(desk, session, "answer", 0)
    strip = actions.strip(session)
    every = len(actions.texts(session, "question")) + len(actions.texts(session, "answer"))
    assert strip.count("<button") == every
    assert re.findall(r'data-kind="(\w+)" data-n="(\d+)" aria-pressed="true"', strip) == [("answer", "0")]


def test_the_caption_tells_the_words_probability_and_the_scores_their_chance(desk, session):
    found = chosen(desk, session, "answer", 0)
    probability = np.exp(session.current().answer.tokens[0].logprob)
    assert f"{probability:.3f}" in actions.caption(session, found)
    assert "inside_body_ratio" in actions.scores(session, found)
    assert "pointing_game" in actions.scores(session, found)


def test_grad_cam_can_be_forced(session):
    assert actions.method_for(session, "relevance", True) == "gradcam_multi_token"
    assert actions.method_for(session, "", False) == "relevance"
    with pytest.raises(InputError, match="Unknown method"):
        actions.method_for(session, "no such", False)


# --- own words -------------------------------------------------------------------------------------------------------


def test_own_words_are_found_where_they_stand_and_forced_where_they_do_not(desk, session):
    assert actions.take_words(session, "Effusion, fluid,, fluid") == ("Effusion", "fluid")
    reading = session.current().reading
    assert actions.aim_of(session, reading, "word", 0).rows == resolve(reading, "word:effusion").rows
    assert actions.aim_of(session, reading, "word", 1).target.kind == "phrase"
    unsaid = chosen(desk, session, "word", 1)
    assert "did not say" in actions.caption(session, unsaid) or "not said" in actions.caption(session, unsaid)
    assert "data:image/png" in actions.words_sheet(session, "relevance")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "No words"),
        (" , ,", "No words"),
        (", ".join(map(str, range(13))), "limit of 12"),
        ("a b c d e f", "6 words"),
    ],
)
def test_unusable_words_are_refused(session, text, complaint):
    with pytest.raises(InputError, match=complaint):
        actions.take_words(session, text)
    assert actions.texts(session, "word") == []


def test_a_word_within_another_does_not_stand_in_the_question(reading):
    assert actions.target_of(reading, "effus") == "phrase:effus"
    assert actions.target_of(reading, "EFFUSION") == "word:EFFUSION"
    assert actions.target_of(reading, "token:0") == "phrase:token:0"


def test_all_methods_stand_on_one_sheet(desk, session, monkeypatch):
    few = {name: METHODS[name] for name in ("cross_attention", "relevance")}
    monkeypatch.setattr(actions, "METHODS", few)
    *steps, sheet = actions.all_methods(desk, session, "question", 0)
    assert "data:image/png" in sheet
    assert all(isinstance(step, Progress) for step in steps)
    assert copied(sheet)
    monkeypatch.setattr(actions, "spelled", lambda *_: None)  # a piece of a word, which no command names
    *_, sheet = actions.all_methods(desk, session, "question", 0)
    assert copied(sheet) == []
    assert actions.NO_TARGET.lstrip("# ") in sheet
    assert linked(sheet)


def test_the_sheet_of_all_methods_can_be_taken_away_and_made_again(desk, session, monkeypatch, tmp_path):
    few = {name: METHODS[name] for name in ("cross_attention", "relevance")}
    monkeypatch.setattr(actions, "METHODS", few)
    monkeypatch.setattr(sys.modules[explain_reading.__module__], "METHODS", few)
    *_, sheet = actions.all_methods(desk, session, "answer", 0)
    files, (command, python) = linked(sheet), copied(sheet)
    assert set(files) == {"methods.png", "methods.npz", "methods.json"}
    maps, told = np.load(io.BytesIO(files["methods.npz"])), json.loads(files["methods.json"])
    assert set(maps) == set(told) == set(few)
    for name in few:
        assert np.array_equal(maps[name], explain_reading(session.current().reading, name, "token:0").map)
        assert told[name]["scores"]["roc_auc"]["value"] > 0
    assert {"--all-methods", "token:0", session.current().case.id} <= set(shlex.split(command))
    monkeypatch.chdir(tmp_path)
    exec(python, {})
    with Image.open("methods.png") as made, Image.open(io.BytesIO(files["methods.png"])) as kept:
        assert made.size == kept.size


# --- cells and heads -------------------------------------------------------------------------------------------------


def test_a_cell_lists_every_word_that_could_lean_on_it(desk, session):
    told = actions.cell(desk, session, 3, 4)
    for text in actions.texts(session, "question"):
        assert f">{text.strip()}</th>" in told
    assert told.count("<tr>") == 1 + len(actions.texts(session, "question")) + len(actions.texts(session, "answer"))


@pytest.mark.parametrize(("row", "col"), [(99, 0), (-1, 0), (None, 1), ("0", "0"), (True, 0)])
def test_a_cell_that_is_not_there_is_refused(desk, session, row, col):
    with pytest.raises(InputError):
        actions.cell(desk, session, row, col)


def test_each_head_has_a_small_map_and_can_be_looked_at_alone(desk, session):
    chosen(desk, session, "answer", 0)
    model, reading = desk.model, session.current().reading
    told = actions.heads(desk, session)
    assert told.count("data-layer=") == model.n_layers * model.n_heads
    found = actions.choose_head(desk, session, 1, 2)
    aim = resolve(reading, "token:0")
    traced = attention_rows(model, reading.ids(aim.forced), reading.image_tokens, list(aim.rows))
    assert np.allclose(found.heatmap.map, traced.on_image[1, 2, 0].reshape(model.grid), atol=1e-6)
    assert f"layer 1, head 2: {traced.on_image[1, 2, 0].sum():.1%} on the image" in told


def test_the_maps_of_all_heads_can_be_taken_away_and_made_again(desk, session):
    chosen(desk, session, "answer", 0)
    told = actions.heads(desk, session)
    files, (python,) = linked(told), copied(told)  # no command draws all heads, and the page says so
    assert "No command draws all heads" in told
    attention = np.load(io.BytesIO(files["heads.npz"]))["attention"]
    rows, cols = desk.model.grid
    assert attention.shape == (desk.model.n_layers, desk.model.n_heads, rows, cols)
    (_, *lines) = csv.reader(io.StringIO(files["heads.csv"].decode()))
    assert len(lines) == desk.model.n_layers * desk.model.n_heads
    assert float(lines[-1][2]) == pytest.approx(attention[-1, -1].sum())
    with Image.open(io.BytesIO(files["heads.png"])) as sheet:
        assert sheet.size == (desk.model.n_heads * (8 * cols + 4), desk.model.n_layers * (8 * rows + 4))
    names: dict[str, Any] = {}
    exec(python, names)
    for (layer, head), heatmap in names["maps"].items():
        assert np.allclose(heatmap.map, attention[layer, head], atol=1e-6)


def test_a_head_that_is_not_there_is_refused(desk, session):
    chosen(desk, session, "answer", 0)
    with pytest.raises(InputError, match="no layer 99"):
        actions.choose_head(desk, session, 99, 0)


def test_heads_are_those_of_a_word(desk, session):
    with pytest.raises(InputError, match="Click one"):
        actions.heads(desk, session)


# --- edits -----------------------------------------------------------------------------------------------------------

FILM = Image.fromarray(np.tile(np.arange(0, 200, 2, dtype=np.uint8), (100, 1))).convert("RGB")
BOX = (40, 40, 60, 60)


@pytest.mark.parametrize("name", list(edits.EDITS))
def test_an_edit_changes_the_rectangle_and_nothing_else(name):
    curved = Image.fromarray(np.tile(np.arange(100) ** 2 // 50, (100, 1)).astype(np.uint8)).convert("RGB")
    before, after = np.asarray(curved), np.asarray(edits.EDITS[name](curved, BOX))
    changed = (before != after).any(axis=-1)
    inside = np.zeros(changed.shape, bool)
    inside[40:60, 40:60] = True
    assert changed.any()
    assert not changed[~inside].any()


def test_erased_is_the_mean_of_a_rim_painted_is_white_blurred_is_between():
    # The rim is 3 pixels wide (100 / 32); the film is a ramp of 2 a column, so its mean is that of columns 37 to 62.
    assert np.unique(np.asarray(edits.erase(FILM, BOX))[40:60, 40:60]).tolist() == [99]
    assert (np.asarray(edits.white(FILM, BOX))[40:60, 40:60] == 255).all()
    blurred = np.asarray(edits.blur(FILM, BOX))[40:60, 40:60]
    assert 70 <= blurred.min() <= blurred.max() <= 130


def test_without_a_rim_the_mean_is_the_films():
    assert np.asarray(edits.erase(FILM, (0, 0, 100, 100))).std() == 0


@pytest.mark.parametrize(
    "corners", [(0.5, 0.5, 0.5, 0.6), (0.6, 0.1, 0.5, 0.2), (-1, 0, 1, 1), (0, 0, float("nan"), 1)]
)
def test_what_is_no_rectangle_is_refused(corners):
    with pytest.raises(InputError, match="no rectangle"):
        edits.box_of(FILM, *corners)


def test_the_smallest_rectangle_covers_a_pixel_and_the_largest_the_film():
    assert edits.box_of(FILM, 0.999, 0.999, 1.0, 1.0) == (99, 99, 100, 100)
    assert edits.box_of(FILM, 0, 0, 1, 1) == (0, 0, 100, 100)


def _made_again(told, edit, tmp_path, monkeypatch):
    """What is taken away of a changed film asks it again, with the same answer and map."""
    from medgemma_visualizer.cli import app

    files, (command, python) = linked(told), copied(told)
    assert set(files) == {"changed.png", "edits.json", "edits.csv"}
    films = json.loads(files["edits.json"])["films"]
    assert films[-1]["answer"]["p_yes"] == edit.answer.p_yes
    assert len(list(csv.reader(io.StringIO(files["edits.csv"].decode())))) == 1 + len(films)
    (tmp_path / "IMAGE").write_bytes(files["changed.png"])
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, [*shlex.split(command)[1:], "--json"], catch_exceptions=False)
    made = json.loads(run.stdout)
    assert made["answer"]["p_yes"] == pytest.approx(edit.answer.p_yes, rel=1e-5)
    assert np.allclose(made["heatmap"]["grid"], edit.heatmap.map, rtol=1e-4)
    names: dict[str, Any] = {}
    exec(python, names)
    assert names["result"].answer.p_yes == pytest.approx(edit.answer.p_yes, rel=1e-5)


def test_an_edited_film_is_asked_again_and_edits_add_up_and_are_taken_back(desk, session, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="Drag one"):
        actions.edit(desk, session, "white")
    before = session.current()
    region = before.case.region
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    height, width = region.shape
    box = {"x0": cols[0] / width, "y0": rows[0] / height, "x1": (cols[-1] + 1) / width, "y1": (rows[-1] + 1) / height}
    actions.draw_box(session, {name: float(value) for name, value in box.items()})
    first = actions.edit(desk, session, "erase")
    assert first.case.truth is None
    assert first.answer.p_yes != before.answer.p_yes
    again = actions.edit(desk, session, "white")
    assert not np.array_equal(np.asarray(again.reading.image), np.asarray(first.reading.image))
    told, value = actions.edited(session)
    _made_again(told, again, tmp_path, monkeypatch)
    assert told.count("<tr>") == 4  # headings, as it was, two edits
    assert value["film"] != first_tab.shown(session)["film"]
    actions.undo_edit(session)
    actions.undo_edit(session)
    told, value = actions.edited(session)
    assert (told, value["film"]) == ("", first_tab.shown(session)["film"])
    with pytest.raises(InputError, match="nothing to take back"):
        actions.undo_edit(session)
    assert session.current() is before


def test_a_changed_film_is_shown_with_what_must_be_known_of_its_answer_and_map(desk, session, cases):
    actions.draw_box(session, {"x0": 0.1, "y0": 0.1, "x1": 0.2, "y1": 0.2})
    notice = actions.edit(desk, session, "white").answer.notice
    assert "simulated films only" in notice  # a changed film is none that the embedded model was shown
    assert actions.edited(session)[1]["notes"] == [notice]
    foreign = Session(stored=cases[0].showing(Image.effect_noise((64, 64), 80).convert("RGB")))
    list(first_tab.analyse(desk, foreign, foreign.stored, Settings(method="relevance")))
    actions.draw_box(foreign, {"x0": 0.1, "y0": 0.1, "x1": 0.2, "y1": 0.2})
    actions.edit(desk, foreign, "white")
    first, *_ = actions.edited(foreign)[1]["notes"]
    assert first.startswith("DO NOT TRUST THIS MAP")


@pytest.fixture
def waiting(desk, session, found, monkeypatch):
    """Quick work gets its turn only after the visitor has turned to another case."""
    at_once = desk.quick

    def late(work, still=None):
        done = at_once(work)
        session.took(replace(found.analysis))
        return done

    monkeypatch.setattr(desk, "quick", late)


def test_an_edit_of_a_case_that_was_left_goes_nowhere(desk, session, waiting):
    actions.draw_box(session, {"x0": 0.1, "y0": 0.1, "x1": 0.2, "y1": 0.2})
    with pytest.raises(Cancelled):
        actions.edit(desk, session, "white")
    assert session.edits == []


def test_a_head_of_a_case_that_was_left_goes_nowhere(desk, session, request):
    chosen(desk, session, "answer", 0)
    request.getfixturevalue("waiting")
    with pytest.raises(Cancelled):
        actions.choose_head(desk, session, 0, 0)
    assert "chosen" not in session.results


def test_cells_and_heads_of_a_case_that_was_left_are_not_told_beside_another(desk, session, request):
    chosen(desk, session, "answer", 0)
    kept = session.results["chosen"]
    request.getfixturevalue("waiting")
    with pytest.raises(Cancelled):
        actions.cell(desk, session, 3, 4)
    session.results["chosen"] = kept
    with pytest.raises(Cancelled):
        actions.heads(desk, session)


def test_no_file_of_the_film_as_it_was_is_given_for_an_edited_one(desk, session):
    chosen(desk, session, "answer", 0)
    assert 'download="relevance.npz"' in actions.links(session)
    actions.draw_box(session, {"x0": 0.1, "y0": 0.1, "x1": 0.2, "y1": 0.2})
    actions.edit(desk, session, "white")
    with pytest.raises(InputError, match="Undo the changes"):
        actions.links(session)


def test_cells_are_those_of_the_film_that_is_shown_and_nothing_of_another_film_stands_beside_it(desk, session):
    chosen(desk, session, "answer", 0)
    as_it_was = actions.cell(desk, session, 9, 4)
    actions.draw_box(session, {"x0": 0.1, "y0": 0.4, "x1": 0.9, "y1": 0.9})
    made = actions.edit(desk, session, "white")
    (line,) = [link for link in words_for_cell(made.reading, 9, 4) if link.generated][:1]
    edited = actions.cell(desk, session, 9, 4)
    assert f"{line.effect:+.4f}" in edited
    assert edited != as_it_was
    for asked in (actions.heads, lambda *who: list(actions.all_methods(*who, "answer", 0))):
        with pytest.raises(InputError, match="click a word"):
            asked(desk, session)
    chosen(desk, session, "answer", 0)  # back to the film as it was
    assert actions.cell(desk, session, 9, 4) == as_it_was
    assert 'download="relevance.npz"' in actions.links(session)
    assert actions.heads(desk, session)
    assert "after edit 1" in actions.edited(session)[0]


@pytest.mark.parametrize("corners", [None, "x", {}, {"x0": 0.1, "y0": 0.1, "x1": "0.2", "y1": 0.2}])
def test_a_rectangle_that_the_browser_made_up_is_refused(session, corners):
    with pytest.raises(InputError, match="no rectangle"):
        actions.draw_box(session, corners)


# --- to take away ----------------------------------------------------------------------------------------------------


def test_the_commands_target_is_the_very_word(desk, cases):
    session = Session()
    first_tab.choose(session, cases, cases[0].id)
    case = first_tab.asked(session, "Is there fluid, or is there no fluid?")
    list(first_tab.analyse(desk, session, case, Settings(method="relevance")))
    reading, named = session.current().reading, 0
    for number, text in enumerate(actions.texts(session, "question")):
        found = chosen(desk, session, "question", number)
        target = actions.spelled(session, "question", number)
        if target is None:
            assert actions.command_of(session, found) == actions.python_of(session, found) == actions.NO_TARGET
            continue
        named += 1
        assert resolve(reading, target).rows == actions.aim_of(session, reading, "question", number).rows, text
        said = shlex.split(actions.command_of(session, found))
        assert said[said.index("--target") + 1] == target
    assert named >= 6


def test_a_head_is_named_in_command_and_python(desk, session):
    chosen(desk, session, "answer", 0)
    found = actions.choose_head(desk, session, 1, 2)
    assert "--layers 1 --heads 2" in actions.command_of(session, found)
    assert "layers=[1], heads=[2]" in actions.python_of(session, found)
