"""The wordings that the embedded model learns and the wordings that measure sensitivity are two vocabularies.

Were they one, the embedded model would look steadier than it is, and a rule's mistake would be learnt.
"""

from __future__ import annotations

import language as lang
from medgemma_visualizer.checks.prompts import FAMILIES, variations


def trained() -> set[str]:
    """Every listed way of asking for a finding's presence, with every term."""
    templates = (*lang.PRESENCE, *lang.NEGATED, *lang.HEART_FORMS)
    return {lang.fill(t, term).lower() for t in templates for terms in lang.TERMS.values() for term in terms}


def test_a_third_of_the_variations_of_each_strategy_or_more_are_not_listed_in_training() -> None:
    known = trained()
    for strategy in FAMILIES:
        texts = [
            one.text.lower()
            for finding in lang.FINDINGS
            for one in variations(f"Is there {lang.TERMS[finding][0][1]}?", strategies=[strategy])
        ]
        new = [text for text in texts if text not in known]
        assert len(new) > len(texts) / 3, (strategy, len(new), len(texts))


def test_training_asks_in_many_ways_that_no_rule_writes() -> None:
    listed = {lang.fill(template, ("pneumonia", "pneumonia")) for template in lang.PRESENCE}
    written = {one.text for one in variations("Is there pneumonia?", strategies=FAMILIES)}
    assert len(listed - written) > len(listed) / 2
    assert len(written - listed) > len(written) / 2
