"""`trust` as a person or a program calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medgemma_visualizer.runs import REFERENCE
from tests.cli.conftest import Call

QUICK = ("--methods", "cross_attention", "--cases", "2", "--space", "tokens", "--steps", "2", "--sanity-cases", "0")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDGEMMA_VISUALIZER_HOME", str(tmp_path / "home"))
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
