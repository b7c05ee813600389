"""The written part of the page on prompt sensitivity: numbers with their intervals, the page around it untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.checks.test_sensitivity import NO, YES, row

from medgemma_visualizer.checks.sensitivity import summarise
from medgemma_visualizer.checks.wordings import Asked
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.reports.sensitivity import BEGIN, END, markdown, rewritten

PAGE = Path(__file__).parents[2] / "docs" / "prompt_sensitivity.md"


def part(*rows: Any, **told: Any) -> str:
    return markdown(summarise(Asked(rows, method="relevance", **told)), "Model `toy`.")


def test_every_share_stands_beside_its_intervals() -> None:
    rows = [row(film, NO if film in "ab" else YES, js=0.5 if film in "ab" else 0.01) for film in "abcdefgh"]
    said = part(*rows, row("a", YES, js=0.1), row("a", NO, expected="flipped", strategy="opposite"))
    assert "8 questions about pictures of 8 patients, 10 wordings" in said
    assert "| synonym | 9 (8) | 2 of 9, 22.2% (6.3% … 54.7%) |" in said
    assert "turned the answer round, as they should, in 1 of 1, 100.0%" in said
    assert "JS of flipped less that of kept wordings of the same question: 0.400" in said
    assert "Spearman" in said


def test_a_table_keeps_its_columns_whatever_a_wording_holds() -> None:
    said = part(row(said=NO, js=0.01, text="Effusion | no effusion?"))
    line = next(line for line in said.splitlines() if "no effusion?" in line)
    assert line.replace("\\|", "").count("|") == 7
    assert "yes → no" in line


def test_what_was_left_out_is_told_with_its_reasons() -> None:
    said = part(row(), row(js=None, reason="the same value in every cell."), left_out={"unreadable": 3})
    assert "3 cases left out: 3 × unreadable." in said
    assert "1 wordings without a map: 1 × the same value in every cell." in said


def test_only_the_part_between_the_marks_is_replaced() -> None:
    page = f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n"
    assert rewritten(page, "new\n") == f"before\n\n{BEGIN}\n\nnew\n\n{END}\n\nafter\n"
    for broken in ("no marks", f"{END} {BEGIN}", page + page):
        with pytest.raises(InputError, match="once each"):
            rewritten(broken, "new")


def test_the_page_of_the_docs_has_its_marks_and_a_table() -> None:
    text = PAGE.read_text("utf-8")
    assert rewritten(text, "").count(BEGIN) == 1
    generated = text.partition(BEGIN)[2].partition(END)[0]
    for name in ("synonym", "voice", "register", "clause order", "phrasing", "combinations"):
        assert f"| {name} |" in generated
