"""A question set of one's own: what its rows ask is on the menu, with its truth, and is answered."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.test_analysis import TRUTH, distance
from tests.browser.visitor import Visitor
from tests.browser.watched import LOOPBACK, served

#: (film, question, truth); one row names a film that is not there.
ROWS = [
    ("first.jpg", "Is there a pneumothorax?", "no"),
    ("second.jpg", "Is there a pleural effusion?", "yes"),
    ("lost.jpg", "Is there cardiomegaly?", "no"),
    ("first.jpg", "Is there a pleural effusion?", "no"),
]


@pytest.fixture
def films(tmp_path: Path, cases: Any) -> dict[str, Path]:
    """Two films of a person's own, by name."""
    found = {"first.jpg": tmp_path / "films" / "first.jpg", "second.jpg": tmp_path / "films" / "second.jpg"}
    (tmp_path / "films").mkdir()
    for case, path in zip((cases[1], cases[3]), found.values(), strict=True):
        shutil.copy(case.image, path)
    return found


@pytest.fixture
def visitor(tmp_path: Path, films: dict[str, Path], browser: Any) -> Iterator[Visitor]:
    """Somebody at a page that was opened with the set, who has seen its first row answered."""
    with (tmp_path / "questions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "question", "answer"), *ROWS])
    with served(
        tmp_path / "server", "--cases", str(tmp_path / "questions.csv"), "--images", str(tmp_path / "films")
    ) as s:
        visitor = Visitor(browser, s.url).arrived()
        yield visitor
        visitor.leave()
        assert (visitor.complaints, visitor.outside) == ([], [])
        assert {address for _, address in s.addresses()} <= LOOPBACK
        assert "Traceback" not in s.printed.read_text()


def test_rows_of_a_set_are_picked_shown_with_their_truth_and_analysed(visitor: Visitor, films: dict[str, Path]) -> None:
    usable = [row for row in ROWS if row[0] in films]
    visitor.find("#analysis-case input").click()
    visitor.find("#analysis-case [role=option]").first.wait_for()
    offered = visitor.find("#analysis-case [role=option]").all_inner_texts()
    visitor.find("#analysis-case input").blur()
    expect(visitor.find("#analysis-case [role=option]")).to_have_count(0)
    assert len(offered) == len(usable)
    for number, (film, question, truth) in enumerate(usable):
        assert question in offered[number]
        if number:  # the first one was answered on opening
            visitor.chooses(number)
        expect(visitor.find(TRUTH)).to_have_value(truth)
        expect(visitor.find("#analysis-question textarea")).to_have_value(question)
        told = visitor.facts()
        answer = told["Answer"].split()[0].strip(".,").lower()
        assert told["Question"] == question
        assert told["Answer"].endswith("right" if answer == truth else f"the truth is {truth}")
        with Image.open(films[film]) as shown:
            assert distance(visitor, shown) < 2
