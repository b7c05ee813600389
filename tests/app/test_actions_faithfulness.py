"""What tab 4 does, without a page: validation and sanity of one map, together in one verdict."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex

import numpy as np
import pytest
from tests.conftest import state_of

from medgemma_visualizer import verbs
from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import faithfulness as actions
from medgemma_visualizer.app.desk import Cancelled, Progress
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.telling import check as telling


@pytest.fixture(scope="module")
def validated(desk, session):
    *steps, found = actions.run(desk, session, "validation", "relevance")
    assert any(isinstance(step, Progress) and step.total for step in steps)
    return found


def command_of(found):
    line = re.search(r'data-copy="(medgemma-visualizer [^"]*)"', actions.copies_part(found)).group(1)
    return shlex.split(line.replace("&#x27;", "'"))


def test_nothing_can_be_checked_before_a_case(desk):
    with pytest.raises(InputError, match="No case has been analysed"):
        next(actions.run(desk, Session(), "validation"))
    with pytest.raises(InputError, match="Nothing has been checked yet"):
        actions.found(Session())


def test_validation_asks_for_faithfulness_and_nothing_else(validated):
    check = validated.check
    assert check.faithfulness is not None
    assert check.randomisation is None
    assert check.token_order is None
    assert set(validated.pictures) == {"map", "curves.png"}
    assert actions.sanity_part(validated) == ""
    assert "dependence on the weights was not checked" in validated.check.trust.reasons


def test_the_table_has_the_columns_of_the_specification_and_chance(validated):
    shown = actions.table_part(validated)
    assert re.findall(r'<th scope="col">([^<]+)', shown) == ["Metric", "Value", "Target", "Chance", "Status"]
    value = validated.check.scores["srg:blur"].value
    assert f"<td>{value:.3f}</td>" in shown


def test_the_verdict_gives_every_reason(validated):
    shown = actions.verdict_part(validated)
    for reason in validated.check.trust.reasons:
        assert reason.replace("'", "&#x27;") in shown
    assert validated.check.trust.word in shown or words.DO_NOT_TRUST in shown


def test_the_command_leaves_out_what_was_not_asked(validated):
    said = command_of(validated)
    assert said[1] == "check"
    assert "--no-sanity" in said
    assert said[said.index("--method") + 1] == "relevance"
    assert "sanity=False" in actions.copies_part(validated)


def test_downloads_hold_the_numbers_of_the_result(session, validated):
    links = dict(re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', actions.links(session)))
    assert set(links) == {"map.png", "curves.png", "check.npz", "check.json", "check.csv", "check.html"}
    document = json.loads(base64.b64decode(links["check.json"]))
    assert document["check"]["scores"]["srg:blur"]["value"] == validated.check.scores["srg:blur"].value
    assert document["trust"]["word"] == validated.check.trust.word
    with np.load(io.BytesIO(base64.b64decode(links["check.npz"]))) as arrays:
        assert np.array_equal(arrays["grid"], validated.analysis.heatmap.grid)
    assert base64.b64decode(links["check.csv"]).decode().startswith("Metric,Value,Target,Chance,Status")
    page = base64.b64decode(links["check.html"]).decode()
    assert page.count("data:image/png") == 2
    assert not re.search(r"https?://|<script|<link", page)


def test_an_unusable_target_is_refused_before_any_work(desk, session):
    with pytest.raises(InputError, match="words"):
        next(actions.run(desk, session, "validation", "relevance", "one two three four five six seven"))


def test_a_check_that_is_called_off_leaves_nothing(desk, demo, cases):
    mine = Session()
    mine.took(verbs.analyze(demo, cases[1], method="relevance"))
    steps = actions.run(desk, mine, "validation", "relevance")
    next(steps)
    mine.stop()
    with pytest.raises(Cancelled):
        list(steps)
    assert actions.KEY not in mine.results


@pytest.mark.slow
def test_sanity_joins_validation_in_one_verdict_and_quick_work_keeps_its_weights(desk, session, validated, demo):
    before = state_of(demo.hf)
    *_, found = actions.run(desk, session, "sanity", "relevance")
    assert found.check.faithfulness is validated.check.faithfulness
    assert found.check.token_order is not None
    assert not any("was not checked" in reason for reason in found.check.trust.reasons)
    cells = found.analysis.heatmap.map.size
    assert f"{cells} of {cells} image tokens" in actions.sanity_part(found)
    assert "--no-sanity" not in command_of(found)
    assert state_of(demo.hf) == before
    explained = {name for row in words.METRICS for name in row[0].split(", ")}
    assert {row[0].split(", ")[0] for row in telling.rows(found.check)} <= explained
    *_, other = actions.run(desk, session, "validation", "cross_attention")
    assert other.check.randomisation is None
