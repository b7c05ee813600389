"""The fifth tab: which method to trust, sorted as one likes, and the pictures behind its numbers."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import expect

from tests.browser.visitor import ANALYSIS, LONG, Visitor


def test_the_league_is_sorted_by_a_click_on_its_heads(visitor: Visitor) -> None:
    visitor.opens("Method Trust")
    table = visitor.find("#trust-table table")
    table.wait_for(timeout=ANALYSIS)
    heads = table.locator("thead th")
    column = next(n for n in range(1, heads.count()) if _numbers(table, n))
    heads.nth(column).locator("button").click()
    expect(heads.nth(column)).to_have_attribute("aria-sort", "ascending")
    rising = _numbers(table, column)
    assert rising == sorted(rising)
    heads.nth(column).locator("button").click()
    expect(heads.nth(column)).to_have_attribute("aria-sort", "descending")
    assert _numbers(table, column) == sorted(rising, reverse=True)
    assert len(set(rising)) > 1


def test_behind_the_numbers_stand_the_best_and_the_worst_maps_in_order(visitor: Visitor) -> None:
    visitor.opens("Method Trust")
    visitor.find("#trust-table table").wait_for(timeout=ANALYSIS)
    visitor.takes("trust-method", "Relevance")
    visitor.find("#trust-examples-run").click()
    figures = visitor.find("#trust-examples figure")
    figures.first.wait_for(timeout=LONG)
    told = figures.locator("figcaption").all_inner_texts()
    best, worst = (
        [float(area[1]) for line in told if (area := re.search(rf"^{which}.*roc auc (\d\.\d+)", line, re.DOTALL))]
        for which in ("Best", "Worst")
    )
    assert best
    assert worst
    assert len(best) + len(worst) == len(told)
    assert min(best) >= max(worst)
    pictures = {image.get_attribute("src") for image in figures.locator("img").all()}
    assert len(pictures) == len(told)  # each its own


def _numbers(table: Any, column: int) -> list[float]:
    """The numbers that the cells of a column begin with, from the top."""
    texts = table.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()
    found = [re.match(r"[+−-]?\d+(\.\d+)?", text.strip()) for text in texts]
    return [float(number[0].replace("−", "-")) for number in found if number]
