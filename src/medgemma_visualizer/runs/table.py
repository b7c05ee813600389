"""From rows to places: means, chance, intervals, tests and ranks.

Knows rows; does not know how they were measured. The arithmetic is that of `scores.statistics`. A missing map counts at
its chance level, so that a method that refuses the hard cases wins nothing by it; cases that no method could be asked
about are in `left_out`, not in the means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Score
from medgemma_visualizer.runs.league import CONTROLS, REFERENCE, SPLITS, Place, Row, Sanity, metric_of
from medgemma_visualizer.scores.agreement import spearman
from medgemma_visualizer.scores.maps import is_constant
from medgemma_visualizer.scores.statistics import (
    Estimate,
    bootstrap_interval,
    holm,
    interval_of,
    paired_difference,
    resampled_means,
    summarise,
    wilcoxon,
)
from medgemma_visualizer.scores.verdict import not_applicable, scored

Column = list[float | None]


@dataclass(frozen=True)
class Standings:
    """Mean ranks of several methods on the same cases.

    Attributes:
        ranks: Ranked column -> method -> rank by mean, 1 is best; equal means share.
        mean_ranks: Method -> mean of these.
        resampled: float64 (draws, methods), mean ranks over patients drawn with replacement; NaN where a draw lacks a
            column, and with one patient.
    """

    ranks: Mapping[str, Mapping[str, float]]
    mean_ranks: Mapping[str, float]
    resampled: np.ndarray


def asked(rows: Sequence[Row]) -> list[Row]:
    """Rows of the cases that could be asked."""
    return [row for row in rows if row.chances]


def left_out(rows: Sequence[Row]) -> dict[str, int]:
    """Reason -> how many cases could not be asked, the commonest first."""
    return dict(Counter({row.case_id: row.reason for row in rows if not row.chances}.values()).most_common())


def places_of(
    rows: Sequence[Row],
    methods: Sequence[str],
    metrics: Sequence[str],
    labels: Mapping[str, str],
    sanity: Mapping[str, Sanity] | None = None,
    seed: int = 0,
) -> tuple[Place, ...]:
    """Places of these methods, best first.

    Args:
        rows: Of any methods; those of cases that could not be asked are passed over.
        methods: Ranked among each other.
        metrics: Columns.
        labels: Method -> its name for people.
        sanity: Method -> what the sanity check said.
        seed: Of all intervals.
    """
    by_method = _by_method(rows, methods)
    if not any(by_method.values()):
        return ()
    standings = standings_of(rows, methods, metrics, seed)
    lines = {name: _line(by_method, name, metrics, seed) for name in methods}
    tested = _tests(by_method, methods, metrics)
    ranks = _overall(standings, methods)
    places = [
        replace(
            lines[name],
            label=labels.get(name, name),
            p_values=tested.get(name, {}),
            ranks={metric: ranked[name] for metric, ranked in standings.ranks.items()},
            mean_rank=standings.mean_ranks[name],
            mean_rank_interval=interval_of(standings.resampled[:, k]),
            rank=ranks[name],
            tied=list(ranks.values()).count(ranks[name]) > 1,
            sanity=(sanity or {}).get(name, Sanity()),
        )
        for k, name in enumerate(methods)
    ]
    return tuple(sorted(places, key=lambda place: (place.rank, place.mean_rank, methods.index(place.method))))


def controls_of(
    rows: Sequence[Row], controls: Mapping[str, str], metrics: Sequence[str], seed: int = 0
) -> tuple[Place, ...]:
    """Lines of maps that know nothing, with their differences to the reference; they have no rank."""
    by_method = _by_method(rows, [*controls, REFERENCE])
    there = [name for name in controls if by_method[name]]
    return tuple(replace(_line(by_method, name, metrics, seed), label=controls[name]) for name in there)


def splits_of(
    rows: Sequence[Row], methods: Sequence[str], metrics: Sequence[str], labels: Mapping[str, str], seed: int = 0
) -> dict[str, dict[str, tuple[Place, ...]]]:
    """Places of every part of the cases, by what they are split by, in the ranked columns; "" is no part."""
    ranked = [name for name in metrics if metric_of(name).ranked]
    found = {}
    for split in SPLITS:
        values = sorted({getattr(row, split) for row in asked(rows)} - {""})
        parts = {value: [row for row in rows if getattr(row, split) == value] for value in values}
        found[split] = {value: places_of(part, methods, ranked, labels, seed=seed) for value, part in parts.items()}
    return found


def standings_of(rows: Sequence[Row], methods: Sequence[str], metrics: Sequence[str], seed: int = 0) -> Standings:
    """Ranks of the methods by every ranked column that any case has, and over patients drawn again and again."""
    by_method = _by_method(rows, methods)
    first = by_method[methods[0]]
    patients = [row.patient_id for row in first]
    columns = {metric: [_counted(by_method[name], metric) for name in methods] for metric in _ranked(metrics, first)}
    ranks = {metric: _ranks_of(np.array([_mean(column) for column in each])) for metric, each in columns.items()}
    several = len(set(patients)) > 1  # one patient drawn again and again says nothing about others
    drawn = [_ranks_of(resampled_means(_floats(each), patients, seed)) for each in columns.values() if several]
    means = np.mean(list(ranks.values()), axis=0) if ranks else np.full(len(methods), np.nan)
    return Standings(
        {metric: dict(zip(methods, each.tolist(), strict=True)) for metric, each in ranks.items()},
        dict(zip(methods, means.tolist(), strict=True)),
        np.mean(drawn, axis=0) if drawn else np.full((1, len(methods)), np.nan),
    )


def agreement(first: Sequence[Row], second: Sequence[Row], metrics: Sequence[str], seed: int = 0) -> Estimate:
    """Spearman correlation of the mean ranks that two sets of cases give the same methods, with its interval.

    In [-1, 1], chance 0. Patients of both sets are drawn with replacement, each set by itself. `n` counts methods.

    Raises:
        InputError: Fewer than three methods in common, or all of them alike.
    """
    have, other_has = ({row.method for row in asked(rows)} - CONTROLS.keys() for rows in (first, second))
    methods = sorted(have & other_has)
    if len(methods) < 3:
        raise InputError(
            f"Two leagues with {len(methods)} methods in common do not agree or differ; use three or more."
        )
    one, other = (standings_of(rows, methods, metrics, seed + k) for k, rows in enumerate((first, second)))
    points = [np.array([[each.mean_ranks[name] for name in methods]]) for each in (one, other)]
    pairs = zip(one.resampled[:, None], other.resampled[:, None], strict=True)
    drawn = np.array([spearman(a, b) if _comparable(a, b) else np.nan for a, b in pairs])
    clusters = min(len({row.patient_id for row in asked(rows)}) for rows in (first, second))
    return Estimate(spearman(*points), interval_of(drawn), len(methods), clusters)


def _comparable(*ranks: np.ndarray) -> bool:
    return not any(np.isnan(each).any() or is_constant(each) for each in ranks)


def _by_method(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, list[Row]]:
    """Method -> rows of the cases that could be asked, in the same order for all."""
    found: dict[str, list[Row]] = {name: [] for name in methods}
    for row in sorted(asked(rows), key=lambda row: row.case_id):
        if row.method in found:
            found[row.method].append(row)
    return found


def _line(by_method: Mapping[str, list[Row]], name: str, metrics: Sequence[str], seed: int) -> Place:
    """What one method's rows say, before it is compared by rank."""
    rows, reference = by_method[name], by_method.get(REFERENCE, [])
    patients = [row.patient_id for row in rows]
    there = [metric for metric in metrics if any(metric in row.chances for row in rows)]
    counted = {metric: _counted(rows, metric) for metric in there}
    against = {metric: _counted(reference, metric) for metric in there if [r.case_id for r in reference] == _ids(rows)}
    maps = [row for row in rows if row.available]
    owners = [row.patient_id for row in maps]
    return Place(
        method=name,
        label=name,
        scores={metric: _score(rows, metric, seed) for metric in there},
        counted={metric: bootstrap_interval(column, patients, seed) for metric, column in counted.items()},
        differences={metric: paired_difference(counted[metric], against[metric], patients, seed) for metric in against},
        p_values={},
        ranks={},
        mean_rank=None,
        mean_rank_interval=None,
        rank=0,
        tied=False,
        maps=len(maps),
        n=len(rows),
        forward_passes=bootstrap_interval([row.forward_passes for row in maps], owners, seed) if maps else None,
        seconds=bootstrap_interval([row.seconds for row in maps], owners, seed) if maps else None,
    )


def _ids(rows: Sequence[Row]) -> list[str]:
    return [row.case_id for row in rows]


def _score(rows: Sequence[Row], metric: str, seed: int) -> Score:
    """Over the cases with a number; the others are counted with their reasons."""
    applies = [row for row in rows if metric in row.chances]
    each = [
        scored(metric, row.numbers[metric], "higher", row.chances[metric])
        if metric in row.numbers
        else not_applicable(metric, "higher", row.reason or "the number does not apply to the map")
        for row in applies
    ]
    return summarise(each, [row.patient_id for row in applies], seed)


def _counted(rows: Sequence[Row], metric: str) -> Column:
    """A number a case; chance where there is none, None where the column does not apply."""
    return [row.numbers.get(metric, row.chances.get(metric)) for row in rows]


def _mean(column: Column) -> float:
    return float(np.mean([value for value in column if value is not None]))


def _floats(columns: Sequence[Column]) -> np.ndarray:
    return np.array([[np.nan if value is None else value for value in column] for column in columns])


def _ranked(metrics: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Ranked columns that apply to any case."""
    return [name for name in metrics if metric_of(name).ranked and any(name in row.chances for row in rows)]


def _ranks_of(means: np.ndarray) -> np.ndarray:
    """Rank along the last axis (…, methods), the largest first; equal ones share the mean of their places."""
    others, own = means[..., None, :], means[..., :, None]
    ranks: np.ndarray = 0.5 + (others > own).sum(-1) + 0.5 * (others == own).sum(-1)
    return np.where(np.isnan(means), np.nan, ranks)


def _tests(
    by_method: Mapping[str, list[Row]], methods: Sequence[str], metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Method -> ranked column -> p-value against the reference, corrected for all tests of the table."""
    if not by_method.get(REFERENCE):
        return {}
    reference = by_method[REFERENCE]
    patients = [row.patient_id for row in reference]
    raw = {
        f"{name}\n{metric}": wilcoxon(_counted(by_method[name], metric), _counted(reference, metric), patients).p_value
        for name in methods
        if name != REFERENCE
        for metric in _ranked(metrics, reference)
    }
    found: dict[str, dict[str, float]] = {}
    for key, p_value in holm(raw).items():
        name, metric = key.split("\n")
        found.setdefault(name, {})[metric] = p_value
    return found


def _overall(standings: Standings, methods: Sequence[str]) -> dict[str, int]:
    """Method -> rank, best first; a method ties with the best of those before it that it cannot be told from."""
    order = sorted(range(len(methods)), key=lambda k: (standings.mean_ranks[methods[k]], k))
    ranks: dict[str, int] = {}
    leader = order[0]
    for place, k in enumerate(order, start=1):
        if place == 1 or _behind(standings.resampled[:, k] - standings.resampled[:, leader]):
            leader, rank = k, place
        ranks[methods[k]] = rank
    return ranks


def _behind(differences: np.ndarray) -> bool:
    """Whether the interval of a difference of mean ranks lies above 0; with one patient nothing does."""
    interval = interval_of(differences)
    return interval is not None and interval[0] > 0
