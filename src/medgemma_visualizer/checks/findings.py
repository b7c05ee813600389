"""What a suite's answers say: every number of a map with its chance level, its controls and the comparison with chance.

Knows names, directions and what may be called good; knows nothing about pictures or models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from medgemma_visualizer.checks.controls import Comparison, against_random
from medgemma_visualizer.checks.scoring import Memo
from medgemma_visualizer.checks.suite import FEWEST_SUBSETS, Numbers, Suite
from medgemma_visualizer.records import Direction, Score, Scores
from medgemma_visualizer.scores.maps import is_constant
from medgemma_visualizer.scores.verdict import NO_BETTER, not_applicable, scored

DIRECTIONS: Mapping[str, Direction] = {
    "deletion_auc": "lower",
    "insertion_auc": "higher",
    "morf": "lower",
    "lerf": "higher",
    "srg": "higher",
    "comprehensiveness": "higher",
    "comprehensiveness_aopc": "higher",
    "sufficiency": "lower",
    "sufficiency_aopc": "lower",
    "deletion_auc_spec": "higher",
    "insertion_auc_spec": "higher",
    "comprehensiveness_spec": "higher",
    "sufficiency_spec": "higher",
    "infidelity": "lower",
    "faithfulness_correlation": "higher",
}

NOT_IN_UNITS_OF_F = ("infidelity", "faithfulness_correlation")

#: Smallest change of a probability that tells maps apart: differences below it are those of a saturated answer.
LEAST_EFFECT = 0.01


@dataclass(frozen=True)
class Findings:
    """What a suite found, by "name:imputer".

    Attributes:
        scores: The map's numbers; `chance` is the mean of the random maps.
        controls: The same number of "random", "centre" and "inverse".
        comparisons: The map against random maps, at the shares where both were asked.
    """

    scores: Scores
    controls: dict[str, dict[str, float]]
    comparisons: dict[str, Comparison]


def findings_of(suite: Suite) -> Findings:
    """Every number under every imputer; the suite has asked all it needs."""
    found = Findings(Scores(), {}, {})
    for name in suite.imputers:
        _add(found, suite, name)
        prior = suite.response(name, suite.order, suite.controls_at).alone[0]
        found.scores[f"prior:{name}"] = Score("prior", float(prior), reason="the fully masked picture")
    return found


def mute(memo: Memo, name: str) -> str:
    """Why an imputer cannot tell maps apart, where nothing that it removes changes f by `LEAST_EFFECT`; else empty."""
    scale = memo.scorer.scale
    f = scale.f(memo.scores_of(name))
    if not scale.is_probability or np.ptp(f) >= LEAST_EFFECT:
        return ""
    return f"{name} changes f by less than {LEAST_EFFECT:g} whatever it removes (choose another imputer)"


def _add(found: Findings, suite: Suite, name: str) -> None:
    at = suite.controls_at
    own = suite.numbers(name, suite.order, suite.map_at, suite.steps_at)
    paired = suite.numbers(name, suite.order, at, at)  # the map, asked no more closely than the controls
    centre = suite.numbers(name, suite.centre, at, at)
    inverse = suite.numbers(name, suite.order[::-1], suite.inverse_at, suite.steps_at)
    randoms = [suite.numbers(name, order, at, at) for order in suite.random_orders]
    for key, value in own.items():
        against = _against(suite, name, key, paired[key], randoms)
        chance = None if against is None else paired[key] - against.difference  # type: ignore[operator]
        place = f"{key}:{name}"
        found.scores[place] = _score(suite, key, value, chance, against)
        beside = {"random": chance, "centre": centre[key], "inverse": inverse[key]}
        found.controls[place] = {who: number for who, number in beside.items() if number is not None}
        if against is not None:
            found.comparisons[place] = against


def _against(suite: Suite, name: str, key: str, value: float | None, randoms: list[Numbers]) -> Comparison | None:
    """None where the number applies to the map or to a random map only in part."""
    drawn = [number for one in randoms if (number := one[key]) is not None]
    if value is None or len(drawn) < len(randoms):
        return None
    scale = suite.memo.scorer.scale
    nats = bool(scale.log) and key.endswith(scale.log)
    silent = "" if nats else mute(suite.memo, name)  # nats do not saturate
    least = LEAST_EFFECT if scale.is_probability and not nats and key not in NOT_IN_UNITS_OF_F else 0.0
    return against_random(Score(key, value, _direction(suite, key)), name, drawn, silent, least)


def _direction(suite: Suite, key: str) -> Direction:
    return DIRECTIONS[key.removesuffix(suite.memo.scorer.scale.log)]


def _score(suite: Suite, key: str, value: float | None, chance: float | None, against: Comparison | None) -> Score:
    """A number that a random map might reach as well is never called good."""
    if value is None:
        return not_applicable(key, _direction(suite, key), _why_not(suite, key))
    score = scored(key, value, _direction(suite, key), chance)
    if against is None:
        return score
    shares = ", ".join(f"{percent:g}" for percent in suite.control_percents)
    reason = f"chance: {suite.controls} random maps and their inverses at {shares} %"
    beaten = against.standing == "better" and not is_constant(suite.values)
    return replace(score, reason=reason, verdict=score.verdict if beaten else NO_BETTER)


def _why_not(suite: Suite, key: str) -> str:
    if key.endswith("_spec"):
        certain = suite.memo.scorer.scale.is_probability
        return "f(x) is 0" if certain else "the target's scores are no probabilities"
    if not suite.subsets:
        return f"not asked; use subsets={FEWEST_SUBSETS} or space='tokens'"
    return "the map or the score does not vary over the random sets"
