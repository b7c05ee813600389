"""What tab 1 does, without a page: which case is meant, what is asked, what is said of it, what is taken away."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shlex
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.radiographs import radiograph
from tests.taken import copied, linked
from typer.testing import CliRunner

from medgemma_visualizer import verbs
from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import analysis as actions
from medgemma_visualizer.app.actions import copies
from medgemma_visualizer.app.desk import Cancelled, Progress
from medgemma_visualizer.app.parts import escaped
from medgemma_visualizer.app.session import Session, Settings
from medgemma_visualizer.checks.trust import DISTRUST, Trust
from medgemma_visualizer.data.dicom import FOR_PROCESSING
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.questions import QuestionSet
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import METHODS, explain_words
from medgemma_visualizer.records import Heatmap, Score
from medgemma_visualizer.scores.agreement import agreement_scores
from medgemma_visualizer.scores.verdict import NO_BETTER, scored
from medgemma_visualizer.settings import DEFAULT_RENDERING

QUICKLY = Settings(method="relevance")


@pytest.fixture
def session(cases):
    made = Session()
    actions.choose(made, cases, cases[0].id)
    return made


def analysed(desk, session, question, settings=QUICKLY):
    (found,) = actions.analyse(desk, session, actions.asked(session, question), settings)
    return found


# --- which case ------------------------------------------------------------------------------------------------------


def test_labels_of_the_menu_are_unique_and_lead_to_their_cases(cases):
    labels = actions.choices(cases)
    assert len({label for label, _ in labels}) == len(cases)
    assert [actions.case_by_id(cases, name) for _, name in labels] == list(cases)


def test_neighbours_go_round_the_end(cases):
    assert actions.neighbour(cases, cases[0].id, -1) == cases[-1].id
    assert actions.neighbour(cases, cases[-1].id, 1) == cases[0].id
    assert actions.neighbour(cases, "gone", 1) == cases[0].id


def test_a_case_that_is_not_there_is_refused(cases):
    with pytest.raises(InputError, match="Choose one"):
        actions.case_by_id(cases, "no such id")


def test_the_stored_pair_keeps_its_truth_and_an_edited_question_has_none(session, cases):
    assert actions.truth_shown(session, cases[0].question) == cases[0].truth
    assert actions.asked(session, f"  {cases[0].question} ") is cases[0]
    edited = cases[0].question + " Really?"
    assert actions.truth_shown(session, edited) == ""
    assert actions.asked(session, edited).truth is None
    assert actions.asked(session, edited).region is None


def uploaded(tmp_path, name, content):
    folder = tmp_path / "hash"
    folder.mkdir()
    (folder / name).write_bytes(content)
    return folder / name


def test_an_upload_is_read_its_file_is_gone_and_no_truth_is_left(session, cases, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="PNG")
    path = uploaded(tmp_path, "film.png", buffer.getvalue())
    case = actions.take_upload(session, str(path))
    assert np.array_equal(np.asarray(case.image)[..., 0], noise)
    assert list(tmp_path.iterdir()) == []
    assert actions.truth_shown(session, cases[0].question) == ""
    asked = actions.asked(session, cases[0].question)
    assert (asked.truth, asked.region, asked.question) == (None, None, cases[0].question)
    assert actions.bare(session)["map"] == ""


@pytest.mark.parametrize("name", ["notes.png", 'it\'s a "film".png', "back\\slash.dcm"])
def test_an_unusable_upload_is_named_as_its_owner_calls_it_and_is_gone(session, cases, tmp_path, name):
    path = uploaded(tmp_path, name, b"no picture at all")
    with pytest.raises(InputError) as caught:
        actions.take_upload(session, str(path))
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).startswith(repr(name))
    assert list(tmp_path.iterdir()) == []
    assert actions.asked(session, cases[0].question) is cases[0]


def test_an_upload_of_too_many_pixels_is_refused_before_they_are_decoded(session, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, format="PNG")  # 81 million pixels in a small file
    assert len(buffer.getvalue()) < 100_000
    path = uploaded(tmp_path, "film.png", buffer.getvalue())
    with pytest.raises(InputError, match="9000 × 9000 pixels, over the limit of 64,000,000"):
        actions.take_upload(session, str(path))
    assert session.upload is None
    assert list(tmp_path.iterdir()) == []


def test_a_dicom_film_is_taken_with_its_view_and_its_notices_and_without_a_name(desk, session, cases, tmp_path):
    pixels = np.asarray(picture(cases[0]).convert("L"))
    window = {"WindowCenter": 128, "WindowWidth": 256}  # every level as it is
    named = {"ViewPosition": "AP", "PresentationIntentType": "FOR PROCESSING", "PatientName": "Nobody^Else"}
    film = radiograph(pixels, 8, **window, **named)
    buffer = io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    case = actions.take_upload(session, str(uploaded(tmp_path, "1.2.840.99", buffer.getvalue())))
    assert list(tmp_path.iterdir()) == []
    assert (case.view, case.rendering, case.notice) == ("AP", DEFAULT_RENDERING, FOR_PROCESSING)
    assert np.array_equal(np.asarray(case.image)[..., 0], pixels)
    found = analysed(desk, session, cases[0].question)
    assert np.array_equal(np.asarray(found.analysis.reading.image)[..., 0], pixels)
    assert escaped(FOR_PROCESSING) in actions.answer_part(found)
    assert "Nobody" not in actions.answer_part(found) + actions.links(session)


def test_a_lateral_dicom_film_is_refused_with_a_next_step_that_this_page_has(session, tmp_path):
    film, buffer = radiograph(np.arange(256, dtype=np.uint16).reshape(16, 16), 8, ViewPosition="LL"), io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    with pytest.raises(InputError, match=r"is a lateral view.* upload a frontal one, or ask the command line"):
        actions.take_upload(session, str(uploaded(tmp_path, "film.dcm", buffer.getvalue())))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("question", ["", "  \n", "x" * 1001])
def test_an_unusable_question_is_refused(session, question):
    with pytest.raises(InputError, match="question"):
        actions.asked(session, question)


def test_without_a_film_the_next_step_is_named():
    with pytest.raises(InputError, match="upload"):
        actions.asked(Session(), "Is there fluid?")


# --- asking ----------------------------------------------------------------------------------------------------------


def test_the_quick_methods_are_methods_that_need_no_scoring():
    assert all(METHODS[name].needs != "scoring" for name in actions.QUICK)


def test_the_page_finds_what_the_verb_finds(desk, session, cases):
    found = analysed(desk, session, cases[0].question)
    alone = verbs.analyze(desk.model, cases[0], method="relevance")
    assert found.analysis.answer == alone.answer
    assert np.array_equal(found.analysis.heatmap.map, alone.heatmap.map)
    assert found.trust == verbs.trust_of(alone)
    assert session.current() is found.analysis


def test_the_preset_chooses_the_method_unless_one_is_named(desk):
    assert actions.method_of(desk.model, Settings(preset="quick")) == "relevance"
    assert actions.method_of(desk.model, Settings(preset="paper")) == verbs.recommended_method(desk.model)
    assert actions.method_of(desk.model, Settings(preset="paper", method="tam")) == "tam"
    assert actions.is_quick(desk.model, Settings())
    assert not actions.is_quick(desk.model, Settings(method="rise"))
    assert not actions.is_quick(desk.model, Settings(preset="paper", method="tam"))


def test_paper_weighs_the_words_as_long_work_and_what_follows_asks_the_quick_model(desk, session, cases):
    settings = Settings(preset="paper", method="token_gradient")
    *steps, found = actions.analyse(desk, session, cases[0], settings)
    assert all(isinstance(step, Progress) for step in steps)
    assert 0 <= found.words.image_share <= 1
    assert f"{found.words.image_share:.0%} of the effect" in actions.words_part(found)
    assert session.current().reading.model is desk.model


def test_audit_checks_this_very_map_and_its_verdict_is_that_of_the_checks(desk, session, cases, monkeypatch):
    asked = []

    def check_analysis(analysis, target):
        asked.append((analysis.heatmap.method, target, analysis.reading.model is desk.double))
        return SimpleNamespace(trust=Trust("trust", ("it was checked",)))

    monkeypatch.setattr(verbs, "check_analysis", check_analysis)
    settings = Settings(preset="audit", method="relevance", target="answer")
    *_, found = actions.analyse(desk, session, cases[0], settings)
    assert asked == [("relevance", "answer", True)]
    assert found.trust.reasons == ("it was checked",)
    assert found.words is not None
    assert actions.shown(session)["notes"][0] == "trust: it was checked"


def test_long_work_for_a_case_that_was_left_changes_nothing(desk, session, cases):
    steps = actions.analyse(desk, session, cases[0], Settings(preset="paper", method="token_gradient"))
    next(steps)
    other = analysed(desk, session, cases[0].question + " Please look.")
    with pytest.raises(Cancelled):
        list(steps)
    assert session.current() is other.analysis


def test_a_target_that_is_not_there_leaves_the_case_before(desk, session, cases):
    before = analysed(desk, session, cases[0].question)
    with pytest.raises(InputError, match="no token"):
        list(actions.analyse(desk, session, cases[0], replace(QUICKLY, target="token:99")))
    assert session.current() is before.analysis


# --- examples to click -----------------------------------------------------------------------------------------------


def test_the_examples_show_what_they_say_and_the_model_answers_them_right(desk, cases):
    offered = actions.examples(cases)
    assert [label for label, _ in offered] == [one.label for one in actions.EXAMPLES]
    chosen = [actions.case_by_id(cases, name) for _, name in offered]
    assert len({case.image for case in chosen}) == 4
    effusion, side, clear, mark = chosen
    assert (effusion.truth, set(effusion.regions) >= {"pleural_effusion"}) == ("yes", True)
    assert side.question.startswith("Where is the pneumothorax")
    assert set(clear.regions) <= {"body", "L", "R"}  # nothing on it but its side marker
    assert (mark.truth, "arrow" in mark.regions) == ("yes", True)
    answers = [verbs.answer(desk.model, case).text.casefold().strip(" .") for case in chosen]
    assert answers == [case.truth for case in chosen]


def test_other_cases_have_no_examples_to_click(cases, tmp_path):
    assert actions.examples(QuestionSet(tuple(replace(case, source="own") for case in cases))) == []


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_the_answer_says_whether_it_is_right_and_what_speaks_against_trust(desk, session, cases):
    found = analysed(desk, session, cases[0].question)
    told = actions.answer_part(found)
    assert "right" in told or f"the truth is {cases[0].truth}" in told
    assert found.trust.reasons[0][:20] in told
    wrong = replace(found, analysis=replace(found.analysis, correct=False))
    assert f"wrong, the truth is {cases[0].truth}" in actions.answer_part(wrong)


def test_scores_stand_beside_their_chance_regional_focus_and_entropy_first(desk, session, cases):
    found = analysed(desk, session, cases[0].question)
    told = actions.scores_part(dict(found.analysis.scores), "Scores")
    names = re.findall(r'<th scope="row">([a-z_]+)</th>', told)
    assert set(names[:2]) == {"attention_entropy", "regional_focus"}
    assert len(names) == len(found.analysis.scores)
    assert f"{found.analysis.scores['attention_entropy'].value:.3f}" in told
    assert "5.545" in told  # ln 256, the entropy of a map that knows nothing


def test_the_target_of_a_score_is_the_whole_rule_that_decides_its_status():
    better, worse = (Score("x", 0.8, "higher", chance, "", 0.7) for chance in (0.2, 0.9))
    assert actions.score_row(better)[2] == "≥ 0.7, above chance"
    assert scored("inside_body_ratio", 0.8, "higher", 0.9).verdict == NO_BETTER  # although it is over 0.7
    assert actions.score_row(worse)[2] == "≥ 0.7, above chance"
    assert actions.score_row(Score("x", 0.5, "lower", 1.0))[2] == "below chance"
    assert actions.score_row(Score("x", "upper_left"))[2] == ""


def test_the_viewer_gets_the_grids_own_numbers_and_the_known_region(desk, session, cases):
    grid = analysed(desk, session, cases[0].question).analysis.heatmap.map
    shown = actions.shown(session)
    assert np.allclose(shown["cells"], 100 * grid / grid.sum(), rtol=1e-3)
    assert shown["outline"].startswith("data:image/png")
    film = Image.open(io.BytesIO(base64.b64decode(shown["film"].partition(",")[2])))
    assert np.array_equal(np.asarray(film), np.asarray(picture(cases[0]).convert("L")))


def test_a_map_that_is_not_there_is_shown_as_the_bare_film_with_its_reasons(desk, session, cases):
    found = analysed(desk, session, cases[0].question)
    missing = Heatmap(None, "uniform", "tam", found.analysis.heatmap.target, fallbacks={"tam": "it cannot"})
    shown = actions.shown(session, missing)
    assert (shown["map"], shown["cells"]) == ("", [])
    assert "tam: it cannot" in shown["notes"]


def test_a_foreign_film_of_the_embedded_model_is_not_to_be_trusted_and_says_so(desk, session, cases):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    session.upload = replace(cases[0].showing(Image.fromarray(noise)), question="")
    found = analysed(desk, session, "Is there fluid?")
    assert found.trust.word == DISTRUST
    assert actions.shown(session)["notes"][0].startswith("DO NOT TRUST")
    assert "simulated films only" in actions.answer_part(found)


def test_the_next_step_for_an_unchecked_map_is_one_on_this_page(desk, session, cases):
    found = analysed(desk, session, cases[0].question)
    told = [actions.answer_part(found), *actions.shown(session)["notes"]]
    assert all("the preset Audit does" in text for text in (told[0], told[1]))
    assert not any("medgemma-visualizer" in text for text in told)


def test_about_says_what_each_number_of_a_map_and_of_two_means(desk, session, cases):
    named = {name for row in words.METRICS for name in row[0].split(", ")}
    found = analysed(desk, session, cases[0].question)
    agreement = agreement_scores(found.analysis.heatmap.grid, found.analysis.heatmap.grid)
    assert {*found.analysis.scores, *agreement} <= named


@pytest.mark.parametrize("event", [None, "x", {"opacity": "70"}, {"other": 1}])
def test_what_the_viewer_says_is_taken_as_far_as_it_makes_sense(event):
    assert actions.look_of(event) == ()


def test_what_the_viewer_says_is_kept():
    look = {"overlay": False, "outline": True, "grid": True, "layout": "wipe", "opacity": 70}
    assert dict(actions.look_of(look)) == look


# --- to take away ----------------------------------------------------------------------------------------------------


def test_downloads_hold_the_result_in_every_form(desk, session, cases, tmp_path):
    found = analysed(desk, session, cases[0].question)
    files = linked(actions.links(session))
    assert Image.open(io.BytesIO(files["relevance.png"])).width > 700
    (tmp_path / "map.npz").write_bytes(files["relevance.npz"])
    assert np.array_equal(Heatmap.load(tmp_path / "map.npz").map, found.analysis.heatmap.map)
    told = json.loads(files["result.json"])
    assert (told["answer"]["text"], told["trust"]["word"]) == (found.analysis.answer.text, found.trust.word)
    lines = files["scores.csv"].decode().splitlines()
    assert len(lines) == 1 + len(found.analysis.scores)
    page = files["result.html"].decode()
    assert "data:image/png" in page
    assert not re.search(r"https?://", page)


def test_downloads_of_an_audit_hold_its_checks_and_the_questions_words(desk, session, cases):
    found = analysed(desk, session, cases[0].question)
    check = verbs.check_analysis(found.analysis, sanity=False, imputers=("mean",), steps=4, controls=8)
    side = explain_words(found.analysis.reading, "relevance")
    session.results["found"] = whole = replace(found, check=check, words=side, trust=check.trust, preset="audit")
    files = linked(actions.links(session))
    told, page = json.loads(files["result.json"]), files["result.html"].decode()
    assert told["check"]["scores"].keys() == check.scores.keys()
    assert told["words"]["image_share"] == side.image_share
    assert told["trust"]["word"] == check.trust.word
    assert actions.check_part(whole) in page
    assert actions.words_part(whole) in page
    other = replace(found.analysis.heatmap, method="cross_attention")  # nothing of this was asked of another map
    assert not {"check", "words"} & json.loads(linked(actions.links(session, other))["result.json"]).keys()


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "=cmd|' /C calc'!A0"]
)
def test_no_text_is_a_formula_to_a_spreadsheet(text):
    ((first, number, minus),) = csv.reader(io.StringIO(copies.as_csv([(text, -0.5, "-0.5")]).decode(), newline=""))
    assert first == f"'{text}"
    assert (number, minus) == ("-0.5", "-0.5")  # numbers stay numbers


def test_yes_and_no_are_words_to_a_spreadsheet():
    assert copies.as_csv([(True, False, None, 1.0)]) == b"true,false,,1.0\r\n"


def test_commas_quotes_and_breaks_stay_in_their_cell():
    row = ('a "quoted", text', "two\nlines", "")
    assert list(csv.reader(io.StringIO(copies.as_csv([row]).decode(), newline=""))) == [list(row)]


def test_the_command_makes_the_same_result(desk, session, cases, tmp_path, monkeypatch):
    from medgemma_visualizer.cli import app

    found = analysed(desk, session, 'Is there "fluid" about the heart?')
    program, *arguments = shlex.split(actions.command_of(found.analysis, QUICKLY))
    assert program == "medgemma-visualizer"
    run = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path), "--json"], catch_exceptions=False)
    told = json.loads(run.stdout)
    assert told["answer"]["text"] == found.analysis.answer.text
    assert told["heatmap"]["grid"] == found.analysis.heatmap.map.tolist()


def test_the_python_lines_make_the_same_result(desk, session, cases, tmp_path, monkeypatch, capsys):
    found = analysed(desk, session, cases[0].question)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(actions.python_of(found.analysis, QUICKLY), names)
    assert capsys.readouterr().out.startswith(found.analysis.answer.text)
    assert (tmp_path / "overlay.png").exists()


def test_the_python_lines_of_paper_tell_what_the_words_weigh_as_the_page_does(
    desk, session, cases, tmp_path, monkeypatch, capsys
):
    settings = Settings(method="token_gradient", preset="paper")
    *_, found = actions.analyse(desk, session, cases[0], settings)
    monkeypatch.chdir(tmp_path)
    exec(actions.python_of(found.analysis, settings), {})
    assert f"score={found.words.score}" in capsys.readouterr().out
    assert actions.command_of(found.analysis, settings).endswith("--method token_gradient --words --model demo")


def test_an_audits_command_asks_for_the_words_and_for_the_checks(desk, session, cases):
    found = analysed(desk, session, cases[0].question)
    settings = Settings(method="relevance", target="answer", preset="audit")
    lines = [shlex.split(line) for line in actions.command_of(found.analysis, settings).splitlines()]
    asked = ["--case", cases[0].id, "--method", "relevance", "--target", "answer"]
    assert lines == [
        ["medgemma-visualizer", "check", *asked, "--model", "demo"],
        ["medgemma-visualizer", "analyze", *asked, "--words", "--model", "demo"],
    ]
    said = actions.python_of(found.analysis, settings)
    assert "mv.check(model, case, method='relevance', target='answer')" in said
    assert "explain_words(result.reading, result.heatmap.method, 'answer')" in said


def test_a_picture_of_ones_own_stands_as_image_in_a_command(desk, session, cases):
    session.upload = cases[0].showing(picture(cases[0]))
    found = analysed(desk, session, "Is there fluid?")
    assert "analyze IMAGE --question 'Is there fluid?'" in actions.command_of(found.analysis, QUICKLY)


# --- A and B ---------------------------------------------------------------------------------------------------------


def test_two_results_are_compared_once_both_are_pinned(desk, session, cases):
    analysed(desk, session, cases[0].question)
    actions.pin(session, "A")
    with pytest.raises(InputError, match="pinned as B"):
        actions.compared(session)
    actions.choose(session, cases, cases[1].id)
    analysed(desk, session, cases[1].question)
    actions.pin(session, "B")
    told = actions.compared(session)
    assert cases[0].question in told
    assert cases[1].question in told
    assert "js_divergence" in told


def test_two_results_can_be_taken_away_and_compared_again(desk, session, cases, monkeypatch, tmp_path, capsys):
    for name, case, settings in (("A", cases[0], QUICKLY), ("B", cases[1], replace(QUICKLY, target="p_yes"))):
        actions.choose(session, cases, case.id)
        list(actions.analyse(desk, session, case, settings))
        actions.pin(session, name)
    told = actions.compared(session)
    files, (commands, python) = linked(told), copied(told)
    assert set(files) == {"A.png", "B.png", "comparison.json", "comparison.csv"}
    asked = [["--case", cases[n].id, "--method", "relevance"] for n in (0, 1)]
    asked[1] += ["--target", "p_yes"]
    started = ["medgemma-visualizer", "analyze"]
    assert [shlex.split(line) for line in commands.splitlines()] == [
        [*started, *one, "--model", "demo"] for one in asked
    ]
    assert "No command compares two results" in told
    one, other = (session.pins[name].analysis.heatmap.map for name in "AB")
    agreed = agreement_scores(one, other)
    assert json.loads(files["comparison.json"])["agreement"]["spearman"]["value"] == agreed["spearman"].value
    assert ["spearman", str(agreed["spearman"].value), ""] in csv.reader(io.StringIO(files["comparison.csv"].decode()))
    monkeypatch.chdir(tmp_path)
    exec(python, {})
    assert capsys.readouterr().out.rstrip().endswith(str(agreed))


def test_a_pinned_map_that_is_not_to_be_trusted_says_so_where_it_is_compared(desk, session, cases):
    for name, film in (("A", picture(cases[0])), ("B", Image.effect_noise((64, 64), 80).convert("RGB"))):
        session.upload = cases[0].showing(film)
        found = analysed(desk, session, cases[0].question)
        actions.pin(session, name)
    plain, stamped = verbs.draw(found.analysis.heatmap, found.analysis.case, answer=found.analysis.answer.text), found
    told = actions.compared(session)
    assert actions.picture(plain, cases[0].question) not in told
    assert actions.picture(actions.overlay(stamped.analysis, stamped.trust), cases[0].question) in told
    ((good, bad),) = re.findall(r">Trust</th><td>(.*?)</td><td>(.*?)</td>", told)
    assert good.startswith("with care")
    assert bad.startswith("do not trust")


def test_a_result_is_at_no_distance_from_itself(desk, session, cases):
    analysed(desk, session, cases[0].question)
    actions.pin(session, "A")
    actions.pin(session, "B")
    told = actions.compared(session)
    assert re.search(r'js_divergence</th><td data-sort="0\.0">0\.000', told)
