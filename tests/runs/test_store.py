"""Where leagues are kept, and that each is shown with its own model only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.runs import Sanity, keep, league_of, load_league, load_rows, store, write_league
from medgemma_visualizer.runs.store import as_document, home, identity_of
from tests.runs.made_up import row


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's real leagues are read or written, and no league travels with the package."""
    monkeypatch.setenv("MEDGEMMA_VISUALIZER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(store, "demo_folder", lambda: tmp_path / "demo")
    return tmp_path


def test_a_league_reads_as_it_was_written_but_for_seconds(built, tmp_path):
    written = write_league(built.league, built.rows, tmp_path / "out")
    again = load_league(written["league.json"])
    assert as_document(again) == as_document(built.league)
    assert again.place("relevance").counted == built.league.place("relevance").counted
    assert again.place("relevance").seconds is None
    assert built.league.place("relevance").seconds.value > 0


def test_rows_read_as_they_were_written_but_for_seconds(built, tmp_path):
    written = write_league(built.league, built.rows, tmp_path)
    assert load_rows(written["league.parquet"]) == tuple(replace(each, seconds=0.0) for each in built.rows)
    seconds = json.loads(written["seconds.json"].read_text())
    assert {name for each in seconds.values() for name in each} == {each.method for each in built.rows}


def test_a_case_without_truth_keeps_its_unknown_answer(tmp_path):
    rows = (row("a", 0, {"pointing": 1.0}, correct=None, truth=""), row("a", 1))
    assert load_rows(store.save_rows(rows, tmp_path / "rows.parquet")) == rows


def test_a_league_belongs_to_the_weights_not_to_their_name_or_number_format(demo):
    other = load_model("demo", device="cpu", dtype="bfloat16")
    assert identity_of(replace(other, name="a copy")) == identity_of(demo) != ""
    assert identity_of(replace(demo, revision="another")) != identity_of(demo)
    assert identity_of(replace(demo, revision="")) == ""


def test_a_kept_league_is_found_for_its_model_and_for_no_other(built, demo):
    assert league_of(demo) is None
    assert keep(built.league).is_file()
    assert league_of(demo).n == built.league.n
    assert league_of(replace(demo, name="renamed")) is not None
    assert league_of(replace(demo, revision="another")) is None
    assert league_of(replace(demo, revision="")) is None


def test_the_league_that_travels_with_the_embedded_model_is_never_another_models(built, demo, own_home):
    store.save_league(built.league, own_home / "demo" / "league.json")
    assert league_of(demo).identity == built.league.identity
    assert league_of(replace(demo, revision="another")) is None


def test_the_users_own_league_comes_before_the_one_that_travels(built, demo, own_home):
    store.save_league(replace(built.league, source="travels"), own_home / "demo" / "league.json")
    keep(replace(built.league, source="own"))
    assert league_of(demo).source == "own"


def test_regions_come_before_planted_marks_and_neither_replaces_the_other(built, demo):
    keep(replace(built.league, probe="planted"))
    assert league_of(demo).probe == "planted"
    keep(built.league)
    assert league_of(demo).probe == "regions"
    assert len(list((home() / "leagues").iterdir())) == 2


def test_a_league_over_fewer_cases_does_not_replace_a_larger_one(built, demo):
    keep(replace(built.league, n=200))
    assert keep(built.league) is None
    assert league_of(demo).n == 200
    assert keep(replace(built.league, n=201)) is not None
    assert league_of(demo).n == 201


def test_a_league_over_fewer_methods_does_not_replace_one_of_all_even_over_more_cases(built, demo):
    keep(built.league)
    assert keep(replace(built.league, n=500, places=built.league.places[:2])) is None
    assert len(league_of(demo).places) == len(built.league.places)


def test_a_league_without_sanity_does_not_replace_one_with_it(built, demo):
    sane = replace(built.league, places=tuple(replace(place, sanity=Sanity("pass")) for place in built.league.places))
    keep(sane)
    assert keep(built.league) is None
    assert league_of(demo).best == built.league.places[0].method


def test_a_quick_look_does_not_take_the_place_of_the_league_that_travels(built, demo, own_home):
    travelling = own_home / "demo" / "league.json"
    store.save_league(replace(built.league, n=200), travelling)
    assert keep(built.league) is None
    assert league_of(demo).n == 200
    store.save_league(replace(built.league, n=200, identity="another"), travelling)
    assert keep(built.league) is not None


def test_planted_marks_of_the_users_do_not_take_the_place_of_known_regions_that_travel(built, demo, own_home):
    store.save_league(built.league, own_home / "demo" / "league.json")
    assert keep(replace(built.league, probe="planted", n=1)) is not None
    assert league_of(demo).probe == "regions"


def test_a_league_of_a_model_without_revision_is_kept_nowhere(built):
    assert keep(replace(built.league, identity="")) is None
    assert not home().exists()


def test_no_case_and_no_path_is_kept(built, shown):
    text = keep(built.league).read_text()
    for case in shown:
        assert case.id not in text
        assert str(case.patient_id) not in text
        assert Path(case.image).stem not in text
    assert "/" not in "".join(str(value) for value in json.loads(text)["left_out"])


def test_a_damaged_league_is_told_and_then_replaced(built, demo):
    path = keep(built.league)
    path.write_text("{}")
    with pytest.raises(InputError, match="Delete it and run `trust` again"):
        league_of(demo)
    assert keep(built.league) == path
    assert league_of(demo) is not None


def test_a_folder_without_rows_says_so(tmp_path):
    with pytest.raises(InputError, match="rows of a league"):
        load_rows(tmp_path / "league.parquet")
    (tmp_path / "league.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="rows of a league"):
        load_rows(tmp_path / "league.parquet")


def test_the_home_is_the_one_named_else_the_data_home(monkeypatch, tmp_path):
    assert home() == tmp_path / "home"
    monkeypatch.delenv("MEDGEMMA_VISUALIZER_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home() == tmp_path / "data" / "medgemma-visualizer"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".local" / "share" / "medgemma-visualizer"


def test_an_unwritable_home_names_the_next_step(built, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDGEMMA_VISUALIZER_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="MEDGEMMA_VISUALIZER_HOME"):
        keep(built.league)
