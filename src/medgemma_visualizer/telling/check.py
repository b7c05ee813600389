"""What the checks of one map found: rows of a table, JSON values, pictures. Knows how to word it; judges nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from medgemma_visualizer.checks.controls import Comparison
from medgemma_visualizer.checks.random_target import OPPOSITE, OTHER
from medgemma_visualizer.checks.randomisation import PASS, PREFIX, SIGNIFICANCE, Randomisation
from medgemma_visualizer.checks.suite import Curves
from medgemma_visualizer.checks.token_order import BRIGHT
from medgemma_visualizer.checks.whole import Check
from medgemma_visualizer.figures.curves import curves_figure
from medgemma_visualizer.figures.randomisation import randomisation_figure
from medgemma_visualizer.scores.verdict import NO_BETTER
from medgemma_visualizer.telling.analysis import chance_of, plain, score_as_document, target_of, value_of

if TYPE_CHECKING:
    from PIL.Image import Image

#: Numbers of faithfulness that the table shows, the specification's beside the citable one; result.json holds all.
SHOWN = (
    "srg",
    "deletion_auc",
    "deletion_auc_spec",
    "insertion_auc",
    "insertion_auc_spec",
    "comprehensiveness",
    "comprehensiveness_spec",
    "sufficiency",
    "sufficiency_spec",
    "infidelity",
    "faithfulness_correlation",
    "prior",
)
#: Not asked in pixel space, and then not shown.
OPTIONAL = ("infidelity", "faithfulness_correlation")
#: Numbers whose "good" and "poor" are a test passed or failed.
TESTS = {"good": "passed", "poor": "failed"}
#: The specification's test is reported, not required: what answers a question need not be what is bright.
QUADRANTS = {"good": "more than half in all four", "poor": "not more than half in all four"}
#: A map for another target may be anything but the same map.
OTHERS = {"poor": "failed", "": "another map"}
#: Rules of numbers that a threshold and a chance level alone do not decide.
RULES = {
    f"{PREFIX['cascading']}_spearman": f"≤ {PASS:g}, or no more than shifted maps (p ≥ {SIGNIFICANCE:g})",
    OPPOSITE: "not the same map",
    OTHER: "not the same map",
    "text_dependence": "as the method declares",
    "token_order": "all cells",
    "quadrant_test": f"> {BRIGHT:g} in all four (not required)",
}
STANDINGS = {"better": "better than random", "worse": "worse than random", "none": "no better than random"}
#: Columns of the table (specification, tab 4, and the chance level).
HEADINGS = ("Metric", "Value", "Target", "Chance", "Status")


def rows(check: Check) -> list[tuple[str, ...]]:
    """Metric, value, target, chance and status of every number, every status in words."""
    found: list[tuple[str, ...]] = []
    for key in _shown(check):
        score = check.scores[key]
        told = (value_of(score), rule(check, key), chance_of(score))
        found.append((key.replace(":", ", "), *told, status(check, key)))
    return found


def _shown(check: Check) -> Iterator[str]:
    """Keys of the rows: faithfulness by imputer, then all numbers of the other checks."""
    told = check.scores
    if check.faithfulness is not None:
        for imputer in check.faithfulness.curves:
            keys = [f"{name}:{imputer}" for name in SHOWN]
            yield from (key for key in keys if told[key].value is not None or told[key].name not in OPTIONAL)
    yield from (key for key in told if ":" not in key)


def rule(check: Check, key: str) -> str:
    """What decides the number's status: against random maps it must lie outside 95 % of their differences."""
    score = check.scores[key]
    if score.name in RULES:
        return RULES[score.name]
    compared = check.faithfulness is not None and key in check.faithfulness.comparisons
    return target_of(score).replace(" chance", " random maps (95 %)") if compared else target_of(score)


def status(check: Check, key: str) -> str:
    """What the number means. One that random maps reach as well is never called good."""
    score = check.scores[key]
    comparison = None if check.faithfulness is None else check.faithfulness.comparisons.get(key)
    if score.value is None:
        return score.reason
    if comparison is None:
        words = {"quadrant_test": QUADRANTS, OPPOSITE: OTHERS, OTHER: OTHERS}.get(key, TESTS)
        return "; ".join(part for part in (words.get(score.verdict, score.verdict), score.reason) if part)
    if comparison.mute:
        return f"says nothing: {comparison.imputer} changes next to nothing"
    if comparison.standing == "better" and score.verdict != NO_BETTER:
        return ", ".join(part for part in (STANDINGS["better"], score.verdict) if part)
    if comparison.standing == "worse":
        return STANDINGS["worse"]
    return f"{STANDINGS['none']}{_leeway(comparison)}"


def _leeway(comparison: Comparison) -> str:
    """Within which 95 % of random maps' differences lie: a number that looks better may still be one of theirs."""
    if comparison.interval is None:
        return ""
    low, high = comparison.interval
    return f" ({comparison.difference:+.2f}, 95 % interval {low:+.2f} to {high:+.2f})"


def asked(check: Check) -> str:
    """What was asked and how long it took."""
    faithful = check.faithfulness
    altered = "" if faithful is None else f"{faithful.n_scorings} altered pictures in {faithful.space}, none twice: "
    cost = "" if faithful is None else f"{altered}{faithful.n_of_the_map} of the map's own, the rest of controls; "
    return f"{cost}{check.seconds:.1f} s"


def pictures(check: Check) -> dict[str, Image]:
    """curves.png and sanity.png, as far as there is something to draw."""
    drawn: dict[str, Image] = {}
    faithful, weights = check.faithfulness, check.randomisation
    if faithful is not None:
        drawn["curves.png"] = curves_figure(faithful.curves, verdict=check.verdict, unit=faithful.scale.unit)
    if weights is not None:
        drawn["sanity.png"] = randomisation_figure(
            weights.blocks,
            weights.similarities,
            weights.outputs,
            weights.output,
            title=_sanity_in_words(check, weights),
            pass_mark=PASS,
            failed=np.array([sum(name == block for _, name in weights.failures) for block in weights.blocks]),
        )
    return drawn


def _sanity_in_words(check: Check, weights: Randomisation) -> str:
    parts = [f"{weights.method} under random weights: {weights.verdict}"]
    if check.token_order is not None:
        cells = check.token_order.answers.size
        parts.append(f"token order {cells - len(check.token_order.misses)} of {cells}")
    if check.random_target is not None and check.random_target.text_independent is not None:
        parts.append(str(check.random_target.scores["text_dependence"].value))
    return "; ".join(parts)


def document(check: Check) -> dict[str, Any]:
    """Everything as plain JSON values."""
    return {
        "verdict": check.verdict,
        "scores": {key: _score(check, key) for key in check.scores},
        "faithfulness": _faithfulness(check),
        "randomisation": None if check.randomisation is None else _randomisation(check.randomisation),
        "random_target": None if check.random_target is None else asdict(check.random_target),
        "token_order": _token_order(check),
        "quadrants": None if check.quadrants is None else asdict(check.quadrants),
        "failures": dict(check.failures),
        "seconds": round(check.seconds, 3),
    }


def _score(check: Check, key: str) -> dict[str, Any]:
    faithful = check.faithfulness
    told: dict[str, Any] = score_as_document(check.scores[key])
    told |= {"target": rule(check, key), "status": status(check, key)}
    if faithful is not None and key in faithful.controls:
        told["controls"] = dict(faithful.controls[key])
    if faithful is not None and key in faithful.comparisons:
        one = faithful.comparisons[key]
        told["against_random"] = {"difference": one.difference, "interval": one.interval, "standing": one.standing}
    return told


def _faithfulness(check: Check) -> dict[str, Any] | None:
    found = check.faithfulness
    if found is None:
        return None
    plain = ("verdict", "standing", "space", "steps", "seed", "n_scorings", "n_of_the_map")
    return {
        **{name: getattr(found, name) for name in plain},
        "unit": found.scale.unit,
        "control_percents": list(found.control_percents),
        "prior": dict(found.prior),
        "curves": {name: _curves(curves) for name, curves in found.curves.items()},
    }


def _curves(curves: Curves) -> dict[str, Any]:
    named = {"map": curves.map, "inverse": curves.inverse, "centre": curves.centre}
    each = {**named, **{f"random_{n}": one for n, one in enumerate(curves.randoms)}}
    return {
        name: {part: plain(getattr(one, part)) for part in ("shares", "without", "alone")} for name, one in each.items()
    }


def _randomisation(found: Randomisation) -> dict[str, Any]:
    arrays = {name: plain(getattr(found, name)) for name in ("similarities", "outputs")}
    return {
        "order": found.order,
        "verdict": found.verdict,
        "blocks": list(found.blocks),
        "complete": found.complete,
        "output": found.output,
        **arrays,
        "failures": [[seed, block, reason] for (seed, block), reason in found.failures.items()],
        "score": PREFIX[found.order] + "_spearman",
    }


def _token_order(check: Check) -> dict[str, Any] | None:
    found = check.token_order
    if found is None:
        return None
    misses = [[list(cell), list(other)] for cell, other in found.misses.items()]
    return {"cells": found.answers.size, "found": found.answers.size - len(misses), "misses": misses}
