"""What tab 5 does, without a page: whose league is shown, the cases behind its numbers, and measuring one now."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.taken import copied, linked

from medgemma_visualizer import runs
from medgemma_visualizer.app.actions import league as actions
from medgemma_visualizer.app.desk import Cancelled, Desk, Progress
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.runs import CONTROLS, metric_of


@pytest.fixture(scope="module")
def shown(demo):
    """The league that travels with the embedded model."""
    return runs.league_of(demo)


def test_the_embedded_model_brings_its_league(desk, shown):
    assert actions.league(desk, Session()) == shown
    assert shown.best is not None


def test_a_row_a_method_a_row_a_control_and_chance_last(shown):
    rows, headings = actions.rows(shown), actions.headings(shown)
    assert len(rows) == len(shown.places) + len(CONTROLS) + 1
    assert {len(row) for row in rows} == {len(headings)}
    assert rows[0][0].startswith(shown.places[0].label)
    assert rows[-1][0] == "Chance"
    column = headings.index(metric_of("roc_auc").label)
    assert rows[-1][column] == "0.500"
    assert float(rows[0][column].split()[0]) == pytest.approx(shown.places[0].counted["roc_auc"].value, abs=5e-4)


def test_every_number_begins_its_cell_so_that_columns_can_be_sorted(shown):
    column = actions.headings(shown).index(metric_of("roc_auc").label)
    firsts = [row[column].split()[0] for row in actions.rows(shown)]
    assert all(re.fullmatch(r"-?\d+\.\d+", first) for first in firsts)
    assert "mv-sortable" in actions.table_part(shown)


def test_every_column_is_explained(shown):
    told = actions.columns_part(shown)
    assert all(f"<dt>{heading}</dt>" in told for heading in actions.headings(shown)[1:])


def test_a_model_without_a_league_is_told_what_makes_one(demo):
    stranger = Desk(replace(demo, name="somebody/else", revision=""))
    assert actions.league(stranger, Session()) is None
    told = actions.about_part(stranger, None)
    assert "medgemma-visualizer trust --model somebody/else" in told
    with pytest.raises(InputError, match="No league of somebody/else"):
        actions.links(stranger, Session())


def test_a_column_is_drawn_and_an_unknown_one_refused(shown):
    drawn = actions.forest_part(shown, "roc_auc")
    assert 'src="data:image/png' in drawn
    assert set(linked(drawn)) == {"roc_auc.png"}
    with pytest.raises(InputError, match="rok_auc"):
        actions.forest_part(shown, "rok_auc")


def test_python_names_what_the_command_does(shown):
    told = actions.copies_part(shown)
    assert "sanity_cases=3" in told
    assert "findings=[" in told
    assert shown.command in told


def test_best_and_worst_cases_are_in_order_and_drawn_and_can_be_made_again(desk, cases, monkeypatch, tmp_path):
    *steps, found = actions.examples(desk, Session(), cases, "relevance", 4)
    assert all(isinstance(step, Progress) for step in steps)
    assert [one.which for one in found] == ["Best", "Best", "Worst", "Worst"]
    aucs = [one.scores["roc_auc"].value for one in found]
    assert aucs[0] >= aucs[1] >= aucs[3] >= aucs[2]
    page = actions.examples_part(found, "relevance", 4)
    assert page.count("<figure>") == 4
    assert all(f"Case {one.case.id}" in page for one in found)
    files, texts = linked(page), copied(page)
    assert set(files) == {"best_1.png", "best_2.png", "worst_3.png", "worst_4.png", "examples.json", "examples.csv"}
    told = json.loads(files["examples.json"])["examples"]
    assert [one["scores"]["roc_auc"]["value"] for one in told] == aucs
    assert [float(line["roc_auc"]) for line in csv.DictReader(io.StringIO(files["examples.csv"].decode()))] == aucs
    for one, command in zip(found, texts[::2], strict=True):
        assert command == f"medgemma-visualizer analyze --case {one.case.id} --method relevance --model demo"
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    exec(texts[1], names)
    assert names["result"].scores["roc_auc"].value == pytest.approx(aucs[0])


def test_cases_without_a_known_region_show_nothing(desk, cases):
    with pytest.raises(InputError, match="No case here has a known region"):
        next(actions.examples(desk, Session(), [cases[0].asking("Is there?")], "relevance"))


@pytest.mark.parametrize(("number", "methods"), [(1, ["relevance"]), (101, ["relevance"]), (4, [])])
def test_a_measurement_out_of_bounds_is_refused(desk, cases, number, methods):
    with pytest.raises(InputError, match=r"choose|chosen"):
        next(actions.measure(desk, Session(), cases, number, methods))


def test_downloads_hold_the_league(desk, shown):
    links = dict(re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', actions.links(desk, Session())))
    files = {name: base64.b64decode(data).decode() for name, data in links.items()}
    assert set(files) == {"league.json", "league.csv", "league.html"}
    assert json.loads(files["league.json"])["best"] == shown.best
    told = list(csv.reader(io.StringIO(files["league.csv"], newline="")))
    assert told == [list(actions.headings(shown)), *map(list, actions.rows(shown))]
    assert not re.search(r"<script src|<link|(?:src|href)=.https?:", files["league.html"])


def test_a_league_that_is_measured_is_shown_to_nobody_else(desk, cases, shown, monkeypatch):
    mine, asked = Session(), {}

    def trust(model, given, **how):
        asked.update(how, model=model)
        return SimpleNamespace(league=replace(shown, n=2))

    monkeypatch.setattr(actions.runs, "trust", trust)
    *_, built = actions.measure(desk, mine, cases, 2, ["relevance", "tam"], sanity_cases=0)
    assert actions.league(desk, mine) is built.league
    assert actions.league(desk, Session()) == shown
    assert (asked["number"], asked["methods"], asked["model"]) == (2, ["relevance", "tam"], desk.double)
    assert asked["command"].endswith("--methods relevance,tam --cases 2 --sanity-cases 0")


def test_measuring_counts_inside_a_case_and_ends_there_with_the_model_as_it_was(demo, cases):
    desk, session, threads = Desk(demo), Session(), torch.get_num_threads()
    weights = [tensor.clone() for tensor in desk.double.hf.parameters()]
    steps = actions.measure(desk, session, cases, 2, ["relevance"], sanity_cases=1)
    first = next(step for step in steps if step.within is not None)
    assert (first.what, first.done, first.total) == ("cases", 0, 2)
    session.stop()
    told = []
    with pytest.raises(Cancelled):
        told.extend(steps)
    assert {(step.what, step.done) for step in told} <= {("cases", 0)}  # not even the case in hand was waited for
    assert session.measured is None
    assert torch.get_num_threads() == threads
    assert all(torch.equal(now, was) for now, was in zip(desk.double.hf.parameters(), weights, strict=True))


@pytest.mark.slow
def test_what_is_measured_is_the_visitors_own(desk, cases, shown):
    mine, other = Session(), Session()
    *_, built = actions.measure(desk, mine, cases, 2, ["cross_attention"], sanity_cases=0)
    assert built.league.n == 2
    assert actions.league(desk, mine) is built.league
    assert actions.league(desk, other) == shown
    assert "--cases 2" in built.league.command
    assert "--sanity-cases 0" in built.league.command
