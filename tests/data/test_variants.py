"""Files of reworded questions: what is read, what is left out and why, and what cannot be used at all."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from medgemma_visualizer.data.variants import Variant, read_variants
from medgemma_visualizer.errors import InputError

HEADINGS = ["baseline_question", "question_variant", "strategy"]
ROW = ["Is there pneumonia?", "Any pneumonia?", "phrasing"]


def written(folder: Path, *rows: list[str]) -> Path:
    with (folder / "variants.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder / "variants.csv"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_variants(path)
    return str(caught.value)


def test_three_columns_are_enough(tmp_path: Path) -> None:
    found = read_variants(written(tmp_path, HEADINGS, ROW))
    assert found.rows == (Variant("Is there pneumonia?", "Any pneumonia?", "phrasing", "", "", 2),)
    assert found.left_out == ()


def test_film_and_study_are_kept_as_written_so_that_groups_never_mix_films(tmp_path: Path) -> None:
    headings = ["study_id", "ImagePath", "Baseline Question", "variant_index", "question_variant"]
    rows = [["s1", "p1\\a.png", ROW[0], "0", ROW[1]], ["s2", "p2/b.png", ROW[0], "0", ROW[1]]]
    found = read_variants(written(tmp_path, headings, *rows))
    assert [(row.study, row.image, row.strategy) for row in found.rows] == [
        ("s1", "p1/a.png", ""),
        ("s2", "p2/b.png", ""),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["", "Any pneumonia?", "x"], "baseline_question: The question is empty; type one"),
        ([ROW[0], "nan", "x"], "question_variant: The question is empty; type one"),
        ([ROW[0], "?" * 1001, "x"], "question_variant: The question has 1,001 characters"),
        ([ROW[0], f" {ROW[0]} ", "x"], "the variant is the baseline itself"),
        ([ROW[0]], "question_variant: The question is empty; type one"),
    ],
)
def test_unusable_rows_are_told(tmp_path: Path, row: list[str], reason: str) -> None:
    found = read_variants(written(tmp_path, HEADINGS, ROW, row))
    (left_out,) = found.left_out
    assert (len(found.rows), left_out.line) == (1, 3)
    assert left_out.reason.startswith(reason)


def test_a_file_without_the_columns_or_rows_is_refused(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, ["question", "strategy"], ["Why?", "x"]))
    assert "lacks the column baseline_question and question_variant; found: question, strategy" in message
    assert "headings only" in refusal(written(tmp_path, HEADINGS))
    assert "the variant is the baseline itself: 1 rows" in refusal(written(tmp_path, HEADINGS, [ROW[0], ROW[0], ""]))
    assert "does not exist" in refusal(tmp_path / "none.csv")
