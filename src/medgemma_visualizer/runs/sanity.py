"""Whether a method looks at what the model has learned and at what was asked, over a few cases.

Knows how the checks of single maps become one word about a method; the checks are `checks.randomisation` and
`checks.random_target`, at the end of the cascade, where every weight is random.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medgemma_visualizer.checks.random_target import RandomTarget, random_target
from medgemma_visualizer.checks.randomisation import Randomisation, randomisation
from medgemma_visualizer.checks.weights import blocks_of
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import VisualizerError
from medgemma_visualizer.heatmaps.methods import METHODS
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.records import Case
from medgemma_visualizer.runs.league import Row, Sanity
from medgemma_visualizer.scores.statistics import bootstrap_interval

Verdict = Literal["pass", "fail", "undecided", "not asked"]


@dataclass(frozen=True)
class Trial:
    """One method on one case.

    Attributes:
        case: Asked.
        method: A name of `METHODS`.
        seeds: Random models.
    """

    case: Case
    method: str
    seeds: int


@dataclass(frozen=True)
class Outcome:
    """What one trial found; None where it found nothing, and `reason` says why.

    Attributes:
        verdict: Of the randomisation.
        rho: Mean |Spearman| to the original map when all weights are random.
        chance: The same for shifted maps.
        opposite: Spearman of the maps for the target and its opposite.
        other: Spearman of the maps for two questions.
        text_independent: Whether the two questions had the same map.
        reason: Why something is missing.
    """

    method: str
    patient: str
    verdict: Verdict = "undecided"
    rho: float | None = None
    chance: float | None = None
    opposite: float | None = None
    other: float | None = None
    text_independent: bool | None = None
    reason: str = ""


def trials_of(
    cases: Sequence[Case], rows: Sequence[Row], methods: Sequence[str], number: int, seeds: int, seed: int
) -> list[Trial]:
    """Every method on the same few cases, drawn by lot, of different patients as far as possible.

    Cases that the model answers right and whose region is known come first: there a map has something to show.
    """
    rank = {row.case_id: (row.correct is not True, "pointing" not in row.chances) for row in rows if row.chances}
    known = [case for case in cases if case.id in rank]
    drawn = [known[k] for k in np.random.default_rng((seed, 3)).permutation(len(known))]
    turn: dict[str, int] = {}
    visits: Counter[str] = Counter()
    for case in drawn:
        owner = case.patient_id or case.id
        turn[case.id] = visits[owner]
        visits[owner] += 1
    chosen = sorted(drawn, key=lambda case: (rank[case.id], turn[case.id]))[:number]
    return [Trial(case, method, seeds) for case in chosen for method in methods]


def try_out(model: Model, trial: Trial) -> Outcome:
    """Random weights and random targets for one method on one case."""
    case, patient = trial.case, trial.case.patient_id or trial.case.id
    try:
        reading = read(model, picture(case), case.question, options=case.options)
        last = blocks_of(model)[-1].name
        weights = randomisation(reading, resolve(reading), trial.method, seeds=trial.seeds, after=(last,))
        targets = random_target(reading, trial.method)
    except VisualizerError as error:
        return Outcome(trial.method, patient, reason=str(error))
    return _outcome(patient, weights, targets)


def _outcome(patient: str, weights: Randomisation, targets: RandomTarget) -> Outcome:
    score = weights.scores["randomisation_spearman"]
    return Outcome(
        method=weights.method,
        patient=patient,
        verdict=weights.verdict,  # type: ignore[arg-type]  # the three words that it has
        rho=None if score.value is None else float(score.value),
        chance=score.chance,
        opposite=None if targets.opposite is None else float(targets.opposite[0]),
        other=None if targets.other is None else float(targets.other[0]),
        text_independent=targets.text_independent,
        reason=score.reason if score.value is None else "",
    )


def summed_up(method: str, outcomes: Sequence[Outcome], seeds: int) -> Sanity:
    """One word about a method: it fails where at least half of the cases that decide fail."""
    own = [one for one in outcomes if one.method == method]
    if not own:
        return Sanity(reason="no case was asked")
    decided = [one.verdict for one in own if one.verdict in ("pass", "fail")]
    failed = decided.count("fail")
    rhos = [one.rho for one in own]
    estimate = bootstrap_interval(rhos, [one.patient for one in own]) if any(r is not None for r in rhos) else None
    same = {one.text_independent for one in own} - {None}
    verdict: Verdict = "undecided" if not decided else "fail" if 2 * failed >= len(decided) else "pass"
    return Sanity(
        verdict=verdict,
        rho=None if estimate is None else estimate.value,
        interval=None if estimate is None else estimate.interval,
        chance=_mean([one.chance for one in own]),
        opposite=_mean([one.opposite for one in own]),
        other=_mean([one.other for one in own]),
        text_independent=(same == {True}) if same else None,
        declared_text_independent=not METHODS[method].text_dependent,
        cases=len(own),
        failed=failed,
        seeds=seeds,
        reason="; ".join(dict.fromkeys(one.reason for one in own if one.reason)),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None
