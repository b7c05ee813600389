"""What `check` adds to a result: its table for people, its JSON values and its two pictures.

Knows how to word what was found; decides nothing about what is good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from medgemma_visualizer.checks.randomisation import PASS, PREFIX, Randomisation
from medgemma_visualizer.checks.suite import Curves
from medgemma_visualizer.checks.trust import Trust
from medgemma_visualizer.checks.whole import Check
from medgemma_visualizer.cli.output import Part, line, score_as_document
from medgemma_visualizer.figures.curves import curves_figure
from medgemma_visualizer.figures.randomisation import randomisation_figure
from medgemma_visualizer.records import Score
from medgemma_visualizer.scores.verdict import NO_BETTER

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
STANDINGS = {"better": "better than random", "worse": "worse than random", "none": "no better than random"}
STYLES = {"trust": "green", "with care": "yellow", "do not trust": "bold red"}


def parts(check: Check) -> dict[str, Part]:
    """What `check` adds to result.json and to what people read, by its key."""
    rows = (table(check),) if check.scores else ()
    return {"check": Part(document(check), (*rows, *lines(check))), "trust": trust_part(check.trust)}


def table(check: Check) -> Table:
    """Metric, value, target, chance and status, every status in words."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("Metric", "Value", "Target", "Chance", "Status"):
        made.add_column(heading, no_wrap=heading == "Metric")
    for key in _shown(check):
        score = check.scores[key]
        value = f"{score.value:.3f}" if isinstance(score.value, float) else str(score.value or "not applicable")
        chance = "" if score.chance is None else f"{score.chance:.3f}"
        made.add_row(key.replace(":", ", "), value, target_of(score), chance, status(check, key))
    return made


def _shown(check: Check) -> Iterator[str]:
    """Keys of the rows: faithfulness by imputer, then all numbers of the other checks."""
    told = check.scores
    if check.faithfulness is not None:
        for imputer in check.faithfulness.curves:
            keys = [f"{name}:{imputer}" for name in SHOWN]
            yield from (key for key in keys if told[key].value is not None or told[key].name not in OPTIONAL)
    yield from (key for key in told if ":" not in key)


def target_of(score: Score) -> str:
    """The threshold of the specification or the pass mark; else on which side of chance the number must lie."""
    if score.direction == "none":
        return ""
    if score.threshold is not None:
        return f"{'≥' if score.direction == 'higher' else '≤'} {score.threshold:g}"
    return "" if score.chance is None else f"{'above' if score.direction == 'higher' else 'below'} chance"


def status(check: Check, key: str) -> str:
    """What the number means. One that random maps reach as well is never called good."""
    score = check.scores[key]
    comparison = None if check.faithfulness is None else check.faithfulness.comparisons.get(key)
    if score.value is None:
        return score.reason
    if comparison is None:
        words = QUADRANTS if key == "quadrant_test" else TESTS
        return "; ".join(part for part in (words.get(score.verdict, score.verdict), score.reason) if part)
    if comparison.mute:
        return f"says nothing: {comparison.imputer} changes next to nothing"
    if comparison.standing == "better" and score.verdict != NO_BETTER:
        return ", ".join(part for part in (STANDINGS["better"], score.verdict) if part)
    return STANDINGS["none" if comparison.standing == "better" else comparison.standing]


def lines(check: Check) -> list[RenderableType]:
    """The verdict with its interval, what could not be asked, and what was."""
    faithful = check.faithfulness
    asked = "" if faithful is None else f"{faithful.n_scorings} altered pictures in {faithful.space}, none twice: "
    cost = "" if faithful is None else f"{asked}{faithful.n_of_the_map} of the map's own, the rest of controls; "
    return [
        line("Verdict", check.verdict),
        *(line("Not asked", f"{name}: {reason}", "yellow") for name, reason in check.failures.items()),
        line("Asked", f"{cost}{check.seconds:.1f} s"),
    ]


def trust_part(trust: Trust) -> Part:
    """Whether to trust a map: the word, and its reasons, one a line."""
    first, *rest = trust.reasons
    said = line("Trust", f"{trust.word}: {first}", STYLES[trust.word])
    return Part(asdict(trust), (said, *(line("", f"also: {one}") for one in rest)))


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
    told: dict[str, Any] = score_as_document(check.scores[key]) | {"status": status(check, key)}
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


def plain(values: np.ndarray) -> Any:
    """An array as nested lists, None in place of what is not a finite number."""
    found = values.astype(object)
    found[~np.isfinite(values)] = None
    return found.tolist()
