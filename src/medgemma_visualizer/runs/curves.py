"""What happens to the target's score on average as cells go, by method. Knows rows; draws nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.runs.league import Curve, Row
from medgemma_visualizer.scores.statistics import Estimate, bootstrap_interval


@dataclass(frozen=True)
class MeanCurve:
    """A method's curves under one imputer, averaged over its cases with a map.

    Attributes:
        shares: Of the cells, the most relevant first; ascending from 0 to 1.
        without: Mean score with these removed, one a share, with its interval by patient.
        alone: Mean score with only these left.
        n: Cases.
    """

    shares: tuple[float, ...]
    without: tuple[Estimate, ...]
    alone: tuple[Estimate, ...]
    n: int


def mean_curves(rows: Sequence[Row], methods: Sequence[str], imputer: str, seed: int = 0) -> Mapping[str, MeanCurve]:
    """Method -> its mean curve; methods without any curve under this imputer are left out.

    Args:
        rows: Of any methods.
        methods: Names of methods or controls, in the order wanted.
        imputer: Under which.
        seed: Of the intervals.

    Raises:
        InputError: Rows with other shares than their neighbours: they belong to different leagues.
    """
    found = {}
    for name in methods:
        mine = [row for row in rows if row.method == name and imputer in row.curves]
        if mine:
            found[name] = _mean([row.curves[imputer] for row in mine], [row.patient_id for row in mine], seed)
    return found


def _mean(curves: Sequence[Curve], patients: Sequence[str], seed: int) -> MeanCurve:
    shares = {curve.shares for curve in curves}
    if len(shares) > 1:
        raise InputError(f"Curves at {len(shares)} different sets of shares have no mean; use rows of one league only.")
    without, alone = (
        tuple(bootstrap_interval(values, patients, seed) for values in zip(*sides, strict=True))
        for sides in ([curve.without for curve in curves], [curve.alone for curve in curves])
    )
    return MeanCurve(shares.pop(), without, alone, len(curves))
