"""Every tab can be used without sight or a wide screen: axe-core's rules, in light and dark, at 1280 and 390 px."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.visitor import ANALYSIS, LONG, TABS, Visitor

SEVERE = {"serious", "critical"}


def violations(visitor: Visitor) -> list[str]:
    """What is seriously wrong on the page as it stands, each with its rule, the element, and the reason."""
    found: list[dict[str, Any]] = visitor.page.evaluate(
        "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
    )
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]} – {node['failureSummary']}"
        for rule in found
        if rule["impact"] in SEVERE
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("width", [1280, 390])
def test_no_tab_has_a_serious_violation_in_light_or_dark(visit: Callable[..., Visitor], axe: str, width: int) -> None:
    visitor = visit(width=width).arrived()
    visitor.page.evaluate(axe)
    found: dict[str, list[str]] = {}
    for tab in TABS:
        visitor.opens(tab)
        for scheme in ("light", "dark"):
            visitor.in_scheme(scheme)
            found[f"{tab}, {scheme}"] = violations(visitor)
    assert {where: what for where, what in found.items() if what} == {}


def test_what_words_cells_and_heads_bring_has_no_serious_violation_either(visitor: Visitor, axe: str) -> None:
    visitor.page.evaluate(axe)
    visitor.opens("Token-Conditioned Analysis")
    visitor.find("#tokens-strip button[aria-pressed=true]").wait_for(timeout=ANALYSIS)
    visitor.find("#tokens-words textarea, #tokens-words input").fill("effusion, pneumonia")
    visitor.find("#tokens-run").click()
    visitor.find("#tokens-sheet img").first.wait_for(timeout=ANALYSIS)
    visitor.find("#tokens-viewer-film").click()
    visitor.find("#tokens-cell table").wait_for(timeout=ANALYSIS)
    visitor.unfolds("head")
    visitor.find("#tokens-show-heads").click()
    visitor.find("#tokens-heads button[data-head]").first.wait_for(timeout=ANALYSIS)
    light = violations(visitor)
    visitor.in_scheme("dark")
    assert (light, violations(visitor)) == ([], [])


def test_what_pins_files_errors_and_comparisons_bring_has_no_serious_violation_either(
    visitor: Visitor, axe: str
) -> None:
    visitor.page.evaluate(axe)
    for section in ("Raw output", "Copy and download", "Compare two results"):
        visitor.unfolds(section)
    for name in ("a", "b"):
        visitor.find(f"#analysis-pin-{name}").click()
        visitor.find("#analysis-pins [role=status]", has_text=f"as {name.upper()}").wait_for()
    visitor.find("#analysis-compare").click()
    visitor.find("#analysis-pins table").first.wait_for(timeout=ANALYSIS)
    visitor.find("#analysis-downloads").click()
    visitor.find("#analysis-links a").first.wait_for(timeout=ANALYSIS)
    visitor.types("")
    visitor.find("#analysis-run").click()
    visitor.find("#analysis-alert [role=alert]").wait_for()
    found = violations(visitor)
    visitor.opens("Prompt Sensitivity Analysis")
    visitor.takes("sensitivity-method", "Relevance —")
    visitor.find("#sensitivity-run").click()
    visitor.find("#sensitivity-answers table").wait_for(timeout=4 * ANALYSIS)
    found += violations(visitor)
    visitor.in_scheme("dark")
    assert found + violations(visitor) == []


def in_both(visitor: Visitor) -> list[str]:
    """What is seriously wrong in light, then in dark."""
    found = violations(visitor)
    visitor.in_scheme("dark")
    return found + violations(visitor)


def test_the_list_of_keys_and_the_league_have_no_serious_violation(visitor: Visitor, axe: str) -> None:
    visitor.page.evaluate(axe)
    visitor.page.evaluate("document.activeElement.blur()")
    visitor.page.keyboard.press("?")
    visitor.find("dialog#mv-keys[open]").wait_for()
    found = in_both(visitor)
    visitor.page.keyboard.press("Escape")
    visitor.opens("Method Trust")
    visitor.find("#trust-table table").wait_for(timeout=ANALYSIS)
    for section in visitor.find("#tab-trust button.label-wrap:visible").all():
        section.click()
    visitor.takes("trust-method", "Relevance")
    visitor.find("#trust-examples-run").click()
    visitor.find("#trust-examples figure").first.wait_for(timeout=LONG)
    assert found + in_both(visitor) == []


def test_a_result_for_a_paper_has_no_serious_violation(visitor: Visitor, axe: str) -> None:
    visitor.page.evaluate(axe)
    visitor.page.get_by_label("Paper", exact=True).check()
    visitor.find("#analysis-run").click()
    visitor.find("#analysis-more table, #analysis-more img").first.wait_for(timeout=LONG)
    assert in_both(visitor) == []


@pytest.mark.slow
def test_curves_table_and_verdict_of_a_validation_have_no_serious_violation(visitor: Visitor, axe: str) -> None:
    visitor.page.evaluate(axe)
    visitor.opens("Faithfulness Validation")
    visitor.find("#faithfulness-validate").click()
    visitor.find("#faithfulness-table table").wait_for(timeout=LONG)
    assert in_both(visitor) == []


@pytest.mark.slow
def test_curves_and_tests_of_sanity_checks_have_no_serious_violation(visitor: Visitor, axe: str) -> None:
    visitor.page.evaluate(axe)
    visitor.opens("Faithfulness Validation")
    visitor.find("#faithfulness-sanity").click()
    visitor.find("#faithfulness-checks img").first.wait_for(timeout=LONG)
    assert in_both(visitor) == []


def test_the_rules_do_find_what_is_wrong(visitor: Visitor, axe: str) -> None:
    visitor.page.evaluate(axe)
    visitor.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<button></button>')")
    assert any(line.startswith("button-name (critical)") for line in violations(visitor))


@pytest.mark.parametrize("tab", TABS)
def test_no_tab_is_wider_than_a_telephone(telephone: Visitor, tab: str) -> None:
    telephone.opens(tab)
    widest = telephone.page.evaluate("document.documentElement.scrollWidth")
    assert widest <= 390
