"""From many cases to one sentence: means with intervals, paired comparisons, corrections for asking often.

Knows lists of numbers and who they belong to; knows nothing about maps. Cases of one patient are not independent, so
intervals and tests count patients wherever these are named. The same seed gives the same numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Score
from medgemma_visualizer.scores.verdict import not_applicable, scored

RESAMPLES = 2000
CONFIDENCE = 0.95
_DRAWS_AT_ONCE = 4_000_000

Values = Sequence[float | None] | np.ndarray
Clusters = Sequence[Hashable] | None


@dataclass(frozen=True)
class Estimate:
    """A mean over cases.

    Attributes:
        value: The mean.
        interval: The 95 % bootstrap interval; None with fewer than two clusters.
        n: Cases counted.
        clusters: Patients, or cases where no patients are named.
        left_out: Cases without a number.
    """

    value: float
    interval: tuple[float, float] | None
    n: int
    clusters: int
    left_out: int = 0


@dataclass(frozen=True)
class PairedTest:
    """Wilcoxon's signed-rank test of one thing against another on the same cases.

    Attributes:
        p_value: Two-sided; 1 where no pair differs.
        effect: Matched-pairs rank-biserial correlation in [-1, 1]; above 0 the first is larger; chance 0.
        n: Pairs (or patients) compared.
        ties: Of these, pairs without a difference.
    """

    p_value: float
    effect: float
    n: int
    ties: int


def bootstrap_interval(
    values: Values, clusters: Clusters = None, seed: int = 0, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Estimate:
    """The mean of the values with its percentile bootstrap interval; whole clusters are drawn with replacement.

    Args:
        values: One number a case; None and NaN are left out and counted.
        clusters: The patient of each case; None takes every case for a patient of its own.
        seed: Of the resampling.
        resamples: How often the set is drawn again.
        confidence: Share of the resampled means inside the interval.

    Source: Efron & Tibshirani 1993; by cluster: Davison & Hinkley 1997, 3.8.

    Raises:
        InputError: No number at all, an infinite one, or another number of clusters than of values.
    """
    given = _as_floats(values)
    if resamples < 1 or not 0 < confidence < 1:
        raise InputError(f"{resamples} resamples at confidence {confidence}: use 1 or more, and between 0 and 1.")
    kept = ~np.isnan(given)
    numbers = given[kept]
    if not numbers.size:
        raise InputError(f"None of {given.size} values is a number, so there is no mean; see why they were left out.")
    owner = _owners(clusters, given.size)[kept]
    _, index = np.unique(owner, return_inverse=True)
    sums, counts = np.bincount(index, weights=numbers), np.bincount(index)
    interval = _percentiles(_resampled_means(sums, counts, seed, resamples), confidence) if sums.size > 1 else None
    return Estimate(float(numbers.mean()), interval, numbers.size, sums.size, int((~kept).sum()))


def resampled_means(columns: np.ndarray, clusters: Clusters = None, seed: int = 0) -> np.ndarray:
    """Means of several columns over the same draws of clusters, for statistics that mix them: float64 (RESAMPLES, k).

    Args:
        columns: (k, n), one number a column and case; NaN is left out. A draw that holds no number of a column has NaN
            there.
        clusters: As in `bootstrap_interval`, as is the source.
        seed: Of the draws.

    Raises:
        InputError: An infinite number, or another number of clusters than of cases.
    """
    given = np.stack([_as_floats(column) for column in columns])
    _, index = np.unique(_owners(clusters, given.shape[1]), return_inverse=True)
    belongs = index[:, None] == np.arange(index.max() + 1)  # (n, clusters)
    sums, counts = np.nan_to_num(given) @ belongs, (~np.isnan(given)) @ belongs  # (k, clusters)
    drawn = np.random.default_rng(seed).integers(sums.shape[1], size=(RESAMPLES, sums.shape[1]))
    times = np.stack([np.bincount(draw, minlength=sums.shape[1]) for draw in drawn]).astype(np.float64)
    totals = times @ counts.T  # (RESAMPLES, k)
    return np.divide(times @ sums.T, totals, out=np.full_like(totals, np.nan), where=totals > 0)


def interval_of(resamples: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The percentile interval of a statistic's resamples (R,); None where none is a number."""
    numbers = resamples[~np.isnan(resamples)]
    return _percentiles(numbers, confidence) if numbers.size else None


def rank_correlation(first: Values, second: Values, clusters: Clusters = None, seed: int = 0) -> Estimate | None:
    """Spearman's correlation of two numbers over cases, in [-1, 1], chance 0, with its interval by whole clusters.

    Ranks are taken anew in every draw. None where one of the two does not vary, or fewer than three cases have both.

    Args:
        first: One number a case; cases where one of the two is missing are left out and counted.
        second: In the order of the same cases.
        clusters: As in `bootstrap_interval`, as are source and errors.
        seed: Of the draws.
    """
    pairs = np.stack([_as_floats(first), _as_floats(second)])  # (2, n)
    owner, kept = _owners(clusters, pairs.shape[1]), ~np.isnan(pairs).any(0)
    pairs, owner = pairs[:, kept], owner[kept]
    if pairs.shape[1] < 3 or (np.ptp(pairs, axis=1) == 0).any():
        return None
    members = [np.flatnonzero(owner == each) for each in np.unique(owner)]
    draws = np.random.default_rng(seed).integers(len(members), size=(RESAMPLES, len(members)))
    found = np.array([_spearman(pairs[:, np.concatenate([members[i] for i in draw])]) for draw in draws])
    interval = interval_of(found) if len(members) > 1 else None
    return Estimate(float(_spearman(pairs)), interval, pairs.shape[1], len(members), int((~kept).sum()))


def _spearman(pairs: np.ndarray) -> float:
    """Of two rows; NaN where one does not vary."""
    ranks = stats.rankdata(pairs, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    size = np.sqrt((ranks**2).sum(1).prod())
    return float((ranks[0] * ranks[1]).sum() / size) if size > 0 else float("nan")


def paired_difference(first: Values, second: Values, clusters: Clusters = None, seed: int = 0) -> Estimate:
    """Mean of first - second over the cases where both have a number, with its bootstrap interval.

    Arguments and errors as in `bootstrap_interval`; both lists are in the order of the same cases.
    """
    return bootstrap_interval(_differences(first, second), clusters, seed)


def wilcoxon(first: Values, second: Values, clusters: Clusters = None) -> PairedTest:
    """Wilcoxon's signed-rank test on paired values, with its effect size.

    Pairs without a difference take part in the ranking and are then dropped (Pratt 1959); without any difference the
    p-value is 1. Where clusters are named, the mean difference of each cluster is one pair. The effect is
    (W⁺ - W⁻) / (W⁺ + W⁻), Kerby 2014.

    Raises:
        InputError: Lists of different lengths, or no pair with two numbers.
    """
    differences = _differences(first, second)
    owner = _owners(clusters, differences.size)[~np.isnan(differences)]
    differences = differences[~np.isnan(differences)]
    if not differences.size:
        raise InputError("No case has a number on both sides, so nothing can be compared; see why they were left out.")
    _, index = np.unique(owner, return_inverse=True)
    means = np.bincount(index, weights=differences) / np.bincount(index)
    ranks = stats.rankdata(np.abs(means)) * np.sign(means)
    total = np.abs(ranks).sum()
    p_value = float(stats.wilcoxon(means, zero_method="pratt").pvalue) if total else 1.0
    return PairedTest(p_value, float(ranks.sum() / total) if total else 0.0, means.size, int((means == 0).sum()))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for the number of questions asked (Holm 1979), in the order given.

    Each in [0, 1], never below its own; comparing them with 0.05 keeps the chance of any false alarm at 5 %.

    Raises:
        InputError: A value outside [0, 1].
    """
    wrong = {name: p for name, p in p_values.items() if not 0 <= p <= 1}
    if wrong:
        raise InputError(f"{wrong} are no p-values; they lie between 0 and 1.")
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of a share (an accuracy, say) that stays inside [0, 1] and holds with few cases. Source: Wilson 1927.

    Raises:
        InputError: No cases, or successes outside 0 … n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise InputError(f"{successes} of {n} is no share; pass a count between 0 and n, with n at least 1.")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share = successes / n
    centre = share + z**2 / (2 * n)
    half = z * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    return (0.0 if successes == 0 else low, 1.0 if successes == n else high)


def mcnemar(first_right: Sequence[bool], second_right: Sequence[bool]) -> float:
    """Two-sided exact p-value that two answerers of the same questions are equally often right (McNemar 1947).

    Raises:
        InputError: Lists of different lengths.
    """
    if len(first_right) != len(second_right):
        raise InputError(f"{len(first_right)} and {len(second_right)} answers cannot be paired; use the same cases.")
    only = Counter(bool(one) for one, other in zip(first_right, second_right, strict=True) if one != other)
    discordant = only[True] + only[False]
    return float(stats.binomtest(only[True], discordant).pvalue) if discordant else 1.0


def summarise(scores: Sequence[Score], clusters: Clusters = None, seed: int = 0) -> Score:
    """One score over many cases: mean, interval, n, mean chance level, and who was left out for which reason.

    Args:
        scores: The same score of each case.
        clusters: The patient of each case.
        seed: Of the interval.

    Raises:
        InputError: No scores, scores of different names, or scores in words.
    """
    names = {score.name for score in scores}
    if len(names) != 1 or any(isinstance(score.value, str) for score in scores):
        raise InputError(f"Only numbers of one name have a mean, not {sorted(names) or 'nothing'}; group them by name.")
    name, direction = scores[0].name, scores[0].direction
    reasons = Counter(score.reason or "no value" for score in scores if score.value is None)
    reason = "; ".join(f"{count} left out: {why}" for why, count in sorted(reasons.items()))
    counted = [score for score in scores if score.value is not None]
    if not counted:
        return not_applicable(name, direction, reason, n=0)
    estimate = bootstrap_interval([score.value for score in scores], clusters, seed)  # type: ignore[misc]
    chances = [score.chance for score in counted if score.chance is not None]
    chance = float(np.mean(chances)) if len(chances) == len(counted) else None
    mean = scored(name, estimate.value, direction, chance, n=estimate.n)
    return replace(mean, interval=estimate.interval, reason=reason)


def _as_floats(values: Values) -> np.ndarray:
    floats = np.array([np.nan if value is None else value for value in values], np.float64)
    if np.isinf(floats).any():
        raise InputError("The values hold infinity, which has no mean; find the case that it comes from.")
    return floats


def _differences(first: Values, second: Values) -> np.ndarray:
    if len(first) != len(second):
        raise InputError(f"{len(first)} and {len(second)} values cannot be paired; pass both for the same cases.")
    return _as_floats(first) - _as_floats(second)


def _owners(clusters: Clusters, n: int) -> np.ndarray:
    """A number for each case's cluster, in order of appearance, int (n,)."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise InputError(f"{len(clusters)} clusters for {n} values; name the patient of every case.")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], int)


def _resampled_means(sums: np.ndarray, counts: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // sums.size)  # keeps memory flat for hundreds of thousands of cases
    means = []
    for start in range(0, resamples, at_once):
        drawn = rng.integers(sums.size, size=(min(at_once, resamples - start), sums.size))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return np.concatenate(means)


def _percentiles(means: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
