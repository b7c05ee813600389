"""The fourth tab: does the map tell the truth? Long work that can be called off and keeps nobody else waiting."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from playwright.sync_api import TimeoutError, expect

from tests.browser.visitor import ANALYSIS, LONG, Visitor


def test_a_validation_can_be_called_off_midway_and_another_gives_curves_table_and_verdict(visitor: Visitor) -> None:
    visitor.opens("Faithfulness Validation")
    visitor.find("#faithfulness-validate").click()
    bar = visitor.find("#faithfulness-progress [role=progressbar][aria-valuenow]")
    bar.wait_for(timeout=ANALYSIS)
    visitor.find("#faithfulness-cancel").click()
    visitor.find("#faithfulness-alert [role=status]", has_text="Stopped").wait_for(timeout=ANALYSIS)
    expect(bar).to_have_count(0)
    expect(visitor.find("#faithfulness-table table")).to_have_count(0)

    for _ in range(5):  # a button whose work has just been called off may not be listening yet
        visitor.find("#faithfulness-validate").click()
        with suppress(TimeoutError):
            bar.wait_for(timeout=3000)
            break
    table = visitor.find("#faithfulness-table table")
    table.wait_for(timeout=LONG)
    assert table.locator("thead th").all_inner_texts() == ["Metric", "Value", "Target", "Chance", "Status"]
    assert "deletion" in table.inner_text()
    assert "insertion" in table.inner_text()
    visitor.find("#faithfulness-curves img").wait_for()
    verdict = visitor.facts("#faithfulness-verdict")
    assert verdict["Trust"].lower() in {"trust", "with care", "do not trust this map"}
    assert verdict["Because"]


def test_a_sanity_check_draws_weights_anew_and_another_visitor_is_answered_by_the_weights_as_they_are(
    visit: Callable[..., Visitor],
) -> None:
    checking, asking = visit().arrived(), visit().arrived()
    checking.opens("Faithfulness Validation")
    checking.find("#faithfulness-sanity").click()
    checking.find("#faithfulness-progress [role=progressbar][aria-valuenow]").wait_for(timeout=ANALYSIS)
    before = asking.facts()
    asking.chooses(1)
    asking.chooses(0)  # asked anew
    told = asking.facts()
    assert (told["Question"], told["p(yes)"]) == (before["Question"], before["p(yes)"])
    assert checking.find("#faithfulness-progress [role=progressbar]").count() == 1  # still at it
    checking.find("#faithfulness-cancel").click()
    checking.find("#faithfulness-alert [role=status]", has_text="Stopped").wait_for(timeout=ANALYSIS)


@pytest.mark.slow
def test_sanity_checks_end_with_curves_token_order_and_quadrants(visitor: Visitor) -> None:
    visitor.opens("Faithfulness Validation")
    visitor.find("#faithfulness-method label", has_text=re.compile(r"^\W*Relevance\b")).first.click()
    visitor.find("#faithfulness-sanity").click()
    visitor.find("#faithfulness-checks img").first.wait_for(timeout=LONG)
    told = visitor.facts("#faithfulness-checks")
    assert "image tokens belong to their cell" in told["Token order"]
    assert told["Quadrant test"]
