"""A run's page opens from disk, asks nobody for anything, and shows no more than its level allows."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runs.run_helpers import run
from tests.runs.test_summary import folder_of, row

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.reports.export import DATA_USE, Level, as_csv, exported, safe_cell
from medgemma_visualizer.reports.run import cases_shown, export_csv, run_page, write_run_page
from medgemma_visualizer.runs.plan import RunPlan
from medgemma_visualizer.runs.summary import summarise_run

SALT = "pepper"


@pytest.fixture(scope="module")
def folder(demo: Any, cases: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four embedded cases with a wording each."""
    path = tmp_path_factory.mktemp("run")
    run(demo, list(cases[:4]), path, RunPlan(("cross_attention",), prompts=1, max_new_tokens=4), command="do it again")
    return path


@pytest.fixture(scope="module")
def pages(folder: Path, cases: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Level -> page; cases are always given, as a careless caller would."""
    path = tmp_path_factory.mktemp("pages") / "page.html"
    levels = {name: Level(name, SALT) for name in ("aggregate", "pseudonymous", "full")}
    return {name: write_run_page(folder, path, level=level, cases=cases).read_text() for name, level in levels.items()}


def test_nothing_is_asked_of_any_other_place_and_nothing_runs(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert "default-src 'none'" in page
        assert not re.search(r"<script|<link|<iframe|https?://|\bon\w+=", page)
        assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))


def test_the_page_says_what_was_asked_and_how_to_do_it_again(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert "do it again" in page
        assert "4 of 4 cases answered" in page
        assert "Research use only, not for clinical use" in page
        assert "Cross-Attention: maps of 4 of 4 cases" in page
        assert "expected calibration error" in page


def test_every_level_shows_what_it_may_and_no_more(pages: dict[str, str], cases: Any) -> None:
    ids = {case.id for case in cases[:4]} | {str(case.patient_id) for case in cases[:4]}
    words = {case.question for case in cases[:4]}
    for name in ("aggregate", "pseudonymous"):
        assert not [one for one in ids if one in pages[name]]
        assert not [one for one in words if one in pages[name]]
        assert "Film with the map" not in pages[name]
        assert DATA_USE not in pages[name]
    assert pages["aggregate"].count("<img") == 1  # the reliability diagram
    assert "Map without its film of case" in pages["pseudonymous"]
    assert [one for one in ids if one in pages["full"]]
    assert "Film with the map of case" in pages["full"]
    assert DATA_USE in pages["full"]


def test_films_that_changed_since_are_not_shown_under_the_old_map(folder: Path, cases: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    swapped = [replace(case, image=cases[-1].image) for case in cases[:4]]
    page = write_run_page(folder, tmp_path / "page.html", level=Level("full"), cases=swapped).read_text()
    assert "Film with the map" not in page
    assert "Map without its film" in page


def test_single_cases_are_refused_at_the_aggregate_level(folder: Path) -> None:
    with pytest.raises(InputError, match="no single case"):
        run_page(summarise_run(folder), cases_shown(folder))


def test_the_worst_and_the_best_come_first(tmp_path: Path) -> None:
    wrong = [row(f"w{k}", label="no", correct=False, p_yes=p) for k, p in enumerate((0.4, 0.01, 0.2))]
    right = [row(f"r{k}", **{"value:roc_auc": auc}) for k, auc in enumerate((0.9, 0.2, 0.6))]
    moved = [row("r0", wording=k, **{"value:js_divergence": js}) for k, js in ((1, 0.1), (2, 0.5))]
    shown = cases_shown(folder_of(tmp_path, [*wrong, *right, *moved]), each=2)
    by_kind: dict[str, list[str]] = {}
    for one in shown:
        by_kind.setdefault(one.kind, []).append(one.row["case_id"])
    assert by_kind == {"wrong": ["w1", "w2"], "off": ["r1", "r2"], "on": ["r0", "r2"], "moved": ["r0", "r0"]}
    assert [one.row["wording"] for one in shown if one.kind == "moved"] == [2, 1]


def test_a_map_that_is_shown_is_the_one_that_was_stored(folder: Path, demo: Any, cases: Any) -> None:
    from medgemma_visualizer import verbs

    shown = next(one for one in cases_shown(folder) if one.grid is not None)
    case = next(case for case in cases if case.id == shown.row["case_id"])
    known = verbs.explain(demo, case, method="cross_attention")
    np.testing.assert_allclose(shown.grid, known.map, rtol=1e-2, atol=1e-3 * known.map.max())


def test_markup_in_words_is_letters(tmp_path: Path) -> None:
    words = {"label": "no", "correct": False, "question": "<img src=x onerror=alert(1)>", "answer": "<b>no</b>"}
    page = write_run_page(
        folder_of(tmp_path / "run", [row("<i>a</i>", **words)]), tmp_path / "page.html", level=Level("full")
    ).read_text()
    assert "<b>no</b>" not in page
    assert "<img src=x" not in page
    assert "&lt;b&gt;no&lt;/b&gt;" in page


def test_a_run_without_a_single_answer_still_has_a_page_with_its_reasons(tmp_path: Path) -> None:
    rows = [row(case, failed=True, reason="gone <away>", label=None, correct=None, method="") for case in "ab"]
    page = run_page(summarise_run(folder_of(tmp_path, rows)))
    assert "0 of 2 cases answered" in page
    assert "gone &lt;away&gt;" in page


def test_an_unfinished_run_and_a_foreign_film_are_told_at_the_top(tmp_path: Path) -> None:
    page = run_page(summarise_run(folder_of(tmp_path, [row("a", foreign=True)], cases=3)))
    assert "2 not asked yet" in page
    assert "The run is not complete" in page
    assert "knows simulated films only, and 1 of these cases" in page


def test_another_run_is_compared_on_the_page(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", [row("a"), row("b")])
    other = folder_of(tmp_path / "two", [row("a"), row("b", correct=False, label="no")], seed=5)
    page = write_run_page(one, tmp_path / "page.html", against=other).read_text()
    assert "Against another run" in page
    assert "asked.seed: 0 → 5" in page
    assert "2 cases were answered by both runs" in page


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_text_starts_a_formula_and_numbers_stay_numbers(start: str) -> None:
    text = f'{start}HYPERLINK("x")'
    ((heading, *_), (cell, number, none, *_)) = csv.reader(
        io.StringIO(as_csv([{f"{start}name": text, "n": -0.5, "none": None, "nan": float("nan")}]), newline="")
    )
    assert cell == f"'{text}"
    assert heading == f"'{start}name"
    assert (number, none) == ("-0.5", "")
    assert safe_cell("a-b=c") == "a-b=c"


def test_pseudonyms_join_rows_and_cannot_be_guessed_without_the_salt() -> None:
    rows = [{"case_id": "10000032", "patient_id": "10000032", "question": "x?", "label": "yes"}] * 2
    first, second = exported(rows, Level("pseudonymous", "a")), exported(rows, Level("pseudonymous", "b"))
    assert first[0] == first[1]
    assert first[0]["case_id"] != second[0]["case_id"]
    assert set(first[0]) == {"case_id", "patient_id", "label"}
    assert Level("pseudonymous").salt != Level("pseudonymous").salt
    assert exported(rows, Level("full")) == rows
    assert exported(rows, Level("aggregate")) == []


def test_the_right_answer_to_an_open_question_is_words_and_stays() -> None:
    (told,) = exported([{"case_id": "a", "kind": "open", "truth": "Jane's rib"}], Level("pseudonymous"))
    assert told["truth"] == ""


def test_tables_of_a_run_hold_what_their_level_allows(folder: Path, cases: Any) -> None:
    tables = {
        name: list(csv.DictReader(io.StringIO(export_csv(folder, Level(name, SALT)))))
        for name in ("aggregate", "pseudonymous", "full")
    }
    assert {line["what"] for line in tables["aggregate"]} >= {"accuracy", "cross_attention", "calibration"}
    assert len(tables["pseudonymous"]) == len(tables["full"]) == 8  # four questions and a wording of each
    assert {line["case_id"] for line in tables["full"]} == {case.id for case in cases[:4]}
    assert not {line["case_id"] for line in tables["pseudonymous"]} & {case.id for case in cases}
    assert "question" not in tables["pseudonymous"][0]
    assert "map" not in tables["full"][0]


def test_yes_and_no_are_words_and_counts_whole_numbers(tmp_path: Path) -> None:
    told = [row("a"), row("b", correct=False, label="no"), row("c", correct=None, truth=None)]
    text = export_csv(folder_of(tmp_path, told), Level("pseudonymous", SALT))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["correct"] for line in lines] == ["true", "false", ""]
    assert {line["failed"] for line in lines} == {"false"}
    assert {line["wording"] for line in lines} == {"0"}
    assert {line["p_yes"] for line in lines} == {"0.95"}  # a probability stays one
    assert safe_cell(True) == "true"


def test_an_unknown_level_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match="Known: aggregate, full, pseudonymous"):
        Level("everything")


def test_a_film_is_shown_in_the_rendering_that_it_was_asked_about_in(demo: Any, cases: Any, tmp_path: Path) -> None:
    from tests.radiographs import radiograph, saved

    from medgemma_visualizer.data import grayscale, picture
    from medgemma_visualizer.records import Case

    path = saved(
        radiograph(grayscale(picture(cases[0])), bits=8, WindowCenter=128, WindowWidth=256), tmp_path / "f.dcm"
    )
    case = Case("f", path, cases[0].question, truth="no")  # which is wrong, so that it is shown
    run(demo, [case], tmp_path / "run", RunPlan(("cross_attention",), max_new_tokens=4, rendering="mimic-jpg"))
    page = write_run_page(tmp_path / "run", tmp_path / "page.html", level=Level("full"), cases=[case]).read_text()
    assert "Film with the map of case f" in page
    assert "as mimic-jpg, where the film is one" in page
