"""Which rewordings flip answers, and does the map move when they do? Sums over a set of cases.

Knows rows of wordings (`wordings.py`) and statistics; asks the model only through them. Wordings of one question are
not independent, nor are questions about one patient: whatever can be is counted by patient, and where a share has a
Wilson interval over wordings, the interval by patient stands beside it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from medgemma_visualizer.checks.prompts import STRATEGIES
from medgemma_visualizer.checks.wordings import Asked, Group, Wording, Wordings, ask_all, by_rules
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.records import Case
from medgemma_visualizer.scores.agreement import answer_consistency, js_divergence
from medgemma_visualizer.scores.statistics import (
    Estimate,
    PairedTest,
    bootstrap_interval,
    holm,
    paired_difference,
    rank_correlation,
    wilcoxon,
    wilson_interval,
)
from medgemma_visualizer.settings import QUICK_METHOD

#: A map has moved where its divergence reaches this, if the set has no other finding to measure it by: the
#: specification's "Moderate differences".
MOVED = 0.3
#: Items of each gallery.
SHOWN = 12


@dataclass(frozen=True)
class Share:
    """How many of how many.

    Attributes:
        count: Of them.
        n: All.
        interval: 95 % by Wilson, as if all were independent.
        by_patient: The mean with its bootstrap interval over patients, which they are not.
    """

    count: int
    n: int
    interval: tuple[float, float]
    by_patient: Estimate

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.count / self.n


@dataclass(frozen=True)
class Strategy:
    """What one way of rewording does.

    Attributes:
        name: Of `checks.prompts.STRATEGIES`, or what a file calls it.
        flips: Wordings that got another label than the question itself.
        groups: Questions that it reworded.
        divergence: Mean Jensen-Shannon divergence of the maps, nats; None without any.
        accuracy: Right answers to the wordings less those to the questions, mean over groups; None without truth.
        p_value: That the two are equally often right: Wilcoxon's signed-rank test over patients (Pratt's zeros).
        corrected: The same after Holm's correction over the strategies.
    """

    name: str
    flips: Share
    groups: int
    divergence: Estimate | None
    accuracy: Estimate | None
    p_value: float | None = None
    corrected: float | None = None


@dataclass(frozen=True)
class Moved:
    """Is the map different where the answer flips? Groups that have both kinds, compared within themselves.

    Attributes:
        difference: Mean divergence of the flipped wordings less that of the others, nats, mean over groups.
        test: Wilcoxon's signed-rank test of the same over patients, with its effect size.
        groups: With both kinds.
    """

    difference: Estimate
    test: PairedTest
    groups: int


@dataclass(frozen=True)
class Sensitivity:
    """Prompt sensitivity of a model over a set of cases.

    Attributes:
        groups: Questions, each about one picture.
        patients: Whose pictures they are.
        wordings: In all, opposites included.
        method: Of the maps.
        consistency: Answer consistency of a question and its wordings, opposites left out; mean over groups.
        strategies: In the order of `checks.prompts.STRATEGIES`, then others.
        opposites: Opposites whose answer is the other one, as it should be; None without any.
        opposites_right: Of those with a known truth, answered rightly; None without any.
        correlation: Spearman's of |Δ p_yes| with the maps' divergence, over wordings; None where one does not vary.
        moved: With the target held: what the model answered to the question itself. None where no group has both kinds.
        moved_answered: The same with each map for its own answer, which is another target where it flipped.
        context: "other_picture" and "other_finding": divergence of the questions' own maps from those of the same
            question about another patient's picture, and of other questions about the same picture.
        boundary: Divergence from which a map counts as moved: the mean of "other_finding", else `MOVED`.
        stable_flips: Wordings with another answer and the same map, the smallest divergence first.
        moved_same: Wordings with the same answer and another map, the largest divergence first.
        left_out: Reason -> cases.
        without_map: Reason -> wordings.
        seed: Of the intervals.
    """

    groups: int
    patients: int
    wordings: int
    method: str
    consistency: Estimate
    strategies: tuple[Strategy, ...]
    opposites: Share | None
    opposites_right: Share | None
    correlation: Estimate | None
    moved: Moved | None
    moved_answered: Moved | None
    context: Mapping[str, Estimate]
    boundary: float
    stable_flips: tuple[Wording, ...]
    moved_same: tuple[Wording, ...]
    left_out: Mapping[str, int]
    without_map: Mapping[str, int]
    seed: int = 0


def sensitivity(
    model: Model,
    cases: Sequence[Case],
    *,
    wordings: Wordings | None = None,
    number: int = 14,
    method: str = QUICK_METHOD,
    seed: int = 0,
) -> Sensitivity:
    """Asks a set of cases in many wordings and sums up.

    Args:
        wordings: Where they come from; rewordings by the rules of `checks.prompts` where None.
        number: Wordings of each question, all strategies and opposites in turn.
        method: Of the maps.
        seed: Of wordings and intervals.

    Raises:
        InputError: No such method, or no case could be asked.
    """
    return summarise(ask_all(model, cases, wordings or by_rules(number, seed), method=method), seed)


def summarise(asked: Asked, seed: int = 0) -> Sensitivity:
    """The sums over what was asked.

    Raises:
        InputError: There are no wordings.
    """
    rows = asked.wordings
    if not rows:
        raise InputError("There are no wordings to sum up; ask some cases first.")
    same = [row for row in rows if row.expected == "same"]
    opposite = [row for row in rows if row.expected == "flipped"]
    context = _context(asked, seed)
    boundary = context["other_finding"].value if "other_finding" in context else MOVED
    stable, moved = _galleries(same, boundary)
    known = [row for row in opposite if row.right is not None]
    return Sensitivity(
        groups=len({row.group for row in rows}),
        patients=len({row.patient for row in rows}),
        wordings=len(rows),
        method=asked.method,
        consistency=_consistency(rows, seed),
        strategies=_strategies(same, seed),
        opposites=_share([row.flipped for row in opposite], opposite, seed),
        opposites_right=_share([bool(row.right) for row in known], known, seed),
        correlation=_correlation(same, seed),
        moved=_moved(same, lambda row: row.js, seed),
        moved_answered=_moved(same, lambda row: row.js_answered, seed),
        context=context,
        boundary=boundary,
        stable_flips=stable,
        moved_same=moved,
        left_out=asked.left_out,
        without_map=Counter(row.reason for row in rows if row.js is None),
        seed=seed,
    )


def _grouped(rows: Sequence[Wording]) -> dict[Group, list[Wording]]:
    """By picture and question."""
    found: dict[Group, list[Wording]] = defaultdict(list)
    for row in rows:
        found[row.group].append(row)
    return dict(found)


def _share(hits: Sequence[bool], rows: Sequence[Wording], seed: int) -> Share | None:
    if not rows:
        return None
    estimate = bootstrap_interval([float(hit) for hit in hits], [row.patient for row in rows], seed)
    return Share(sum(hits), len(hits), wilson_interval(sum(hits), len(hits)), estimate)


def _consistency(rows: Sequence[Wording], seed: int) -> Estimate:
    groups = list(_grouped(rows).values())
    values = [
        answer_consistency([own[0].base.label, *(row.said.label for row in own if row.expected == "same")])
        for own in groups
    ]
    return bootstrap_interval(values, [own[0].patient for own in groups], seed)


def _strategies(same: Sequence[Wording], seed: int) -> tuple[Strategy, ...]:
    """One for each name, with the tests corrected for their number."""
    names = dict.fromkeys(row.strategy for row in same)
    ordered = [*(name for name in STRATEGIES if name in names), *(name for name in names if name not in STRATEGIES)]
    found = [_strategy(name, [row for row in same if row.strategy == name], seed) for name in ordered]
    corrected = holm({one.name: one.p_value for one in found if one.p_value is not None})
    return tuple(replace(one, corrected=corrected.get(one.name)) for one in found)


def _strategy(name: str, rows: Sequence[Wording], seed: int) -> Strategy:
    flips = _share([row.flipped for row in rows], rows, seed)
    assert flips is not None
    groups = list(_grouped(rows).values())
    known = [own for own in groups if own[0].right is not None]
    owners = [own[0].patient for own in known]
    right = [float(np.mean([bool(row.right) for row in own])) for own in known]
    base = [float(bool(own[0].base_right)) for own in known]
    return Strategy(
        name=name,
        flips=flips,
        groups=len(groups),
        divergence=_mean([row.js for row in rows], rows, seed),
        accuracy=paired_difference(right, base, owners, seed) if known else None,
        p_value=wilcoxon(right, base, owners).p_value if known else None,
    )


def _mean(values: Sequence[float | None], rows: Sequence[Wording], seed: int) -> Estimate | None:
    if all(value is None for value in values):
        return None
    return bootstrap_interval(values, [row.patient for row in rows], seed)


def _correlation(rows: Sequence[Wording], seed: int) -> Estimate | None:
    owners = [row.patient for row in rows]
    return rank_correlation([row.drift for row in rows], [row.js for row in rows], owners, seed)


def _moved(same: Sequence[Wording], js: Callable[[Wording], float | None], seed: int) -> Moved | None:
    flipped, kept, owners = [], [], []
    for own in _grouped(same).values():
        values = {
            turned: [js(row) for row in own if row.flipped == turned and js(row) is not None] for turned in (0, 1)
        }
        if values[0] and values[1]:
            flipped.append(float(np.mean(values[1])))  # type: ignore[arg-type]
            kept.append(float(np.mean(values[0])))  # type: ignore[arg-type]
            owners.append(own[0].patient)
    if not owners:
        return None
    return Moved(paired_difference(flipped, kept, owners, seed), wilcoxon(flipped, kept, owners), len(owners))


def _context(asked: Asked, seed: int) -> dict[str, Estimate]:
    """What divergences are read beside, from the questions' own maps."""
    facts = asked.facts
    pairs = {
        "other_picture": [(a, b) for a, b in _neighbours(asked.maps, 1) if facts[a].patient != facts[b].patient],
        "other_finding": [
            (a, b)
            for a, b in _neighbours(asked.maps, 0)
            if None not in {facts[a].finding, facts[b].finding} and facts[a].finding != facts[b].finding
        ],
    }
    return {
        name: bootstrap_interval(
            [js_divergence(asked.maps[a], asked.maps[b]) for a, b in found], [facts[a].patient for a, _ in found], seed
        )
        for name, found in pairs.items()
        if found
    }


def _neighbours(groups: Iterable[Group], part: int) -> Iterator[tuple[Group, Group]]:
    """Pairs of groups, in order, that share their picture (part 0) or their question (part 1)."""
    found: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        found[group[part]].append(group)
    for own in found.values():
        yield from pairwise(own)


def _galleries(same: Sequence[Wording], boundary: float) -> tuple[tuple[Wording, ...], tuple[Wording, ...]]:
    """Wordings worth looking at: the answer flipped on the same map, or the map moved under the same answer."""
    told = sorted((row for row in same if row.js is not None), key=lambda row: (row.js, row.group, row.text))
    stable = [row for row in told if row.flipped and (row.js or 0) < boundary]
    moved = [row for row in reversed(told) if not row.flipped and (row.js or 0) >= boundary]
    return tuple(stable[:SHOWN]), tuple(moved[:SHOWN])
