"""`trust` as a person or a program calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medgemma_visualizer.cli.trust import _command
from medgemma_visualizer.runs import METRICS, REFERENCE, League, store
from medgemma_visualizer.runs.table import places_of
from medgemma_visualizer.telling.league import document as as_document
from tests.cli.conftest import Call
from tests.runs.made_up import row

QUICK = ("--methods", "cross_attention", "--cases", "2", "--space", "tokens", "--steps", "2", "--sanity-cases", "0")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's real leagues are read or written, and no league travels with the package."""
    monkeypatch.setenv("MEDGEMMA_VISUALIZER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(store, "demo_folder", lambda: tmp_path / "demo")
    return tmp_path


def test_json_holds_every_number_with_its_bounds_and_nothing_else_is_printed(call: Call, answering: None) -> None:
    done = call("trust", *QUICK, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert (document["n"], document["seed"]) == (2, 0)
    assert [line["method"] for line in document["methods"]] != []
    assert {line["method"] for line in document["methods"]} == {"cross_attention", REFERENCE}
    for line in document["methods"]:
        for name in ("seconds", "forward_passes", "sanity", "mean_rank"):
            assert {"value", "low", "high"} <= set(line[name])
        assert set(line["srg"]) == {"blur", "mean"}
        assert all({"value", "low", "high", "chance"} <= set(number) for number in line["srg"].values())


def test_the_table_fits_eighty_columns_and_says_what_was_written_and_kept(
    call: Call, answering: None, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = call("trust", *QUICK, "--out", "here")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (own_home / "here").iterdir()) == [
        "league.json",
        "league.parquet",
        "report.html",
        "seconds.json",
    ]
    table = [line for line in done.out.splitlines() if line.startswith((REFERENCE, "cross_attention", "random"))]
    assert len(table) >= 6
    assert "…" not in "".join(table)
    assert "2 of 202 cases, drawn by lot" in done.out
    assert "for analyze and check of this model" in done.out
    assert "not named, as sanity was not checked" in done.out
    assert len(list((own_home / "home" / "leagues").iterdir())) == 1
    command = json.loads((own_home / "here" / "league.json").read_text())["command"]
    assert command.startswith("medgemma-visualizer trust demo --model demo --methods cross_attention --cases 2")
    assert command.endswith("--dtype float32")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--methods", "crossattention"), "cross_attention"),
        (("--imputers", "fog"), "imputer"),
        (("--space", "words"), "space"),
        (("--agree-with", "nowhere"), "rows of a league"),
        (("nowhere",), "source of cases"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_model_is_loaded(
    words: tuple[str, ...], told: str, call: Call, unloadable: None
) -> None:
    done = call("trust", *words)
    assert done.code == 2
    assert told in done.err
    assert done.out == ""


def league(columns: dict[str, float]) -> League:
    """Of two methods over two made-up cases to which these columns apply."""
    rows = [row(name, case, columns, chances=columns) for name in ("relevance", REFERENCE) for case in (0, 1)]
    names = ("probe", "source", "patients", "space", "steps", "identity", "command")
    empty: dict[str, Any] = {"controls": (), "splits": {}, "left_out": {}, "notes": (), "versions": {}, "model": {}}
    places = places_of(rows, ("relevance", REFERENCE), tuple(columns), {})
    told = {"seed": 3, "n": 2, "imputers": ("blur", "mean"), "reference": REFERENCE, "places": places}
    return League(**dict.fromkeys(names, ""), **empty, **told)


@pytest.mark.parametrize("regions", [True, False])
def test_every_method_has_every_key_of_the_design_whatever_the_cases_have(regions: bool) -> None:
    columns = {"srg:blur": 0.1, "srg:mean": 0.2} | (dict.fromkeys(METRICS, 0.5) if regions else {})
    document = as_document(league(columns))
    assert (document["n"], document["seed"]) == (2, 3)
    for line in document["methods"]:
        for name in ("pointing", "relevance_mass_lift", "roc_auc", "sanity", "seconds", "forward_passes"):
            assert {"value", "low", "high"} <= set(line[name])
        assert (line["pointing"]["value"], line["roc_auc"]["chance"]) == ((0.5, 0.5) if regions else (None, None))
        assert {name: number["value"] for name, number in line["srg"].items()} == {"blur": 0.1, "mean": 0.2}


def test_the_command_that_is_recorded_names_all_that_the_table_rests_on_and_no_path() -> None:
    told = {"--question": "Is there an effusion?", "--images": Path("/secret/films"), "--methods": None, "--seed": 3}
    assert _command("/secret/set.csv", told) == (
        "medgemma-visualizer trust set.csv --question 'Is there an effusion?' --images films --seed 3"
    )
