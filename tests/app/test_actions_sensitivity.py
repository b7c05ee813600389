"""What tab 3 does, without a page: which prompts are offered, what is compared, what is said of it."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shlex

import numpy as np
import pytest

from medgemma_visualizer import verbs
from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import sensitivity as actions
from medgemma_visualizer.app.desk import Cancelled, Progress
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.checks.prompts import generate_prompt_variations
from medgemma_visualizer.errors import InputError


@pytest.fixture(scope="module")
def compared(desk, session):
    """The technical form, the simple one, and the first once more."""
    technical, simple = actions.prefilled(session).prompts
    *steps, found = actions.compare(desk, session, [technical, " ", simple, technical], "relevance")
    assert all(isinstance(step, Progress) for step in steps)
    return found


def fresh(demo, case):
    made = Session()
    made.took(verbs.analyze(demo, case, method="relevance"))
    return made


def test_the_boxes_hold_the_technical_and_the_simple_form(session, cases):
    offered = actions.prefilled(session)
    assert offered.prompts == generate_prompt_variations(cases[0].question)
    assert offered.note == ""


def test_a_question_without_forms_stands_alone_and_says_why(demo, cases):
    offered = actions.prefilled(fresh(demo, cases[0].asking("Is there anything odd?")))
    assert offered.prompts == ("Is there anything odd?", "")
    assert "names no finding" in offered.note


def test_nothing_can_be_asked_before_a_case(desk):
    with pytest.raises(InputError, match="No case has been analysed"):
        actions.prefilled(Session())
    with pytest.raises(InputError, match="No case has been analysed"):
        next(actions.compare(desk, Session(), ["one?", "two?"]))


def test_further_wordings_come_after_the_written_ones_and_never_twice(session):
    offered = actions.more(session, ["My own question?", ""])
    assert offered[0] == "My own question?"
    assert len(offered) == len(set(offered)) == actions.MOST


@pytest.mark.parametrize("prompts", [["Is there an effusion?"], ["", "  "], [f"Is there {n}?" for n in range(9)]])
def test_two_to_eight_prompts_can_be_compared(desk, session, prompts):
    with pytest.raises(InputError, match=r"2 to 8 prompts can be compared; written: \d. Write another"):
        next(actions.compare(desk, session, prompts))


def test_the_same_prompt_twice_has_the_same_map(compared):
    assert compared.comparison.js[0, 2] == pytest.approx(0, abs=1e-6)
    assert compared.comparison.context["same_prompt_twice"].value == pytest.approx(0, abs=1e-6)
    assert compared.comparison.context["other_picture"].value > 0
    assert np.abs(compared.comparison.difference(2)).max() < 1e-6


def test_the_stored_truth_judges_the_forms_of_its_question_only(compared, cases):
    case = cases[0]
    told = str(actions.answers_part(compared))
    assert words.TRUTH_OF.format(question=case.question) in told
    assert told.count(f">{words.RIGHT}</td>") + told.count(">wrong, the truth is") == 3
    assert actions._right(case, "Is it bright?", "yes") == "–"
    assert actions._right(case.asking(case.question), case.question, "yes") == "–"
    assert words.NO_TRUTH in actions.truth_part(case.asking(case.question))


def test_words_of_a_visitor_stay_letters(desk, demo, cases):
    session = fresh(demo, cases[0])
    evil = "<script>alert(1)</script> is there an effusion?"
    *_, found = actions.compare(desk, session, [evil, "Is there an effusion?"], "relevance")
    page = actions.answers_part(found) + actions.maps_part(found) + actions.copies_part(found)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_difference_is_shown_in_percentage_points(session, compared):
    assert [n for _, n in actions.differences(compared)] == [1, 2]
    shown = actions.difference_view(session, 1)
    cells = np.array(shown["cells"])
    assert cells == pytest.approx(100 * compared.comparison.difference(1), rel=1e-3, abs=1e-3)
    assert shown["label"] == words.POINTS
    assert abs(cells.sum()) < 0.05
    moved = np.abs(compared.comparison.difference(1)).sum() / 2
    assert f"{moved:.1%}" in actions.difference_part(compared, 1)


def test_the_command_names_every_prompt_in_order(compared):
    line = re.search(r'data-copy="(medgemma-visualizer [^"]*)"', actions.copies_part(compared)).group(1)
    said = shlex.split(line.replace("&#x27;", "'"))
    given = [said[at + 1] for at, word in enumerate(said) if word == "--prompt"]
    assert given == [one.question for one in compared.comparison.prompts]
    assert said[:3] == ["medgemma-visualizer", "compare", "--case"]
    assert said[said.index("--method") + 1] == "relevance"


def test_downloads_hold_the_numbers_of_the_result(session, compared):
    links = dict(re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', actions.links(session)))
    assert set(links) == {"comparison.png", "comparison.npz", "comparison.json", "comparison.csv", "comparison.html"}
    with np.load(io.BytesIO(base64.b64decode(links["comparison.npz"]))) as arrays:
        assert np.array_equal(arrays["difference_1_2"], compared.comparison.difference(1))
    document = json.loads(base64.b64decode(links["comparison.json"]))
    assert [one["question"] for one in document["comparison"]["prompts"]] == [
        one.question for one in compared.comparison.prompts
    ]
    told = list(csv.reader(io.StringIO(base64.b64decode(links["comparison.csv"]).decode(), newline="")))
    assert len(told) == (1 + 3) + 1 + (
        1 + 2
    )  # headings and answers, a line between, headings and the others beside the first
    page = base64.b64decode(links["comparison.html"]).decode()
    assert "data:image/png" in page
    assert not re.search(r"https?://|<script|<link", page)


def test_a_result_that_comes_after_another_case_is_nobodys(desk, demo, cases):
    session = fresh(demo, cases[0])
    steps = actions.compare(desk, session, actions.prefilled(session).prompts, "relevance")
    next(steps)
    session.took(verbs.analyze(demo, cases[1], method="relevance"))
    with pytest.raises(Cancelled):
        list(steps)
    with pytest.raises(InputError, match="Nothing has been compared"):
        actions.found(session)
