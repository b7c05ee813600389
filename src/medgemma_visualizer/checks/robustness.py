"""Does a speck of noise change the answer, or the map? One question about many disturbed copies of one film.

Knows answers and agreement of maps; how a film is disturbed is the business of `perturbations`, and nothing is drawn.
All maps explain the same target, that of the undisturbed answer, so a flip alone does not turn a map round. Maps of
films that were moved are compared in the frame of the original, without the cells that left it.

A drift is read beside its noise floor: what the same picture gives when it is read again, and, for films that were
moved, how far the undisturbed map is from itself once it has been moved over the cells and back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from medgemma_visualizer.checks.perturbations import PERTURBATIONS, Motion, perturb
from medgemma_visualizer.data.marks import Mask
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.explain import explain_or_say_why
from medgemma_visualizer.heatmaps.methods import METHODS
from medgemma_visualizer.heatmaps.targets import Aim, ScoreFunction, resolve
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Answer, Direction, Heatmap, Score
from medgemma_visualizer.scores.agreement import DIRECTIONS, agreement_scores
from medgemma_visualizer.scores.statistics import summarise, wilson_interval
from medgemma_visualizer.scores.verdict import not_applicable
from medgemma_visualizer.settings import QUICK_METHOD

SEEDS = (0, 1, 2)
#: The name under which the undisturbed film is read again.
NONE = "none"
DRIFT, LOG_DRIFT = "p_yes_drift", "contrast_drift"
#: Agreements of a disturbed film's map with the undisturbed one's.
AGREEMENTS = ("js_divergence", "spearman", "ssim", "spatial_stability")
#: What is measured of each disturbed film, and which way is steadier.
MEASURED: Mapping[str, Direction] = {
    DRIFT: "lower",
    LOG_DRIFT: "lower",
    **{name: DIRECTIONS[name] for name in AGREEMENTS},
}
LEAST_MASS = 0.5  # of yes and no together, under which p_yes says little


@dataclass(frozen=True)
class Trial:
    """What the model said of one disturbed film, against the undisturbed one.

    Attributes:
        perturbation: Of `PERTURBATIONS`, or `NONE`.
        strength: In the perturbation's unit.
        seed: Of the perturbation.
        answer: What the model said.
        heatmap: Over the disturbed film, in its own frame; where there is none, it carries the reason.
        flipped: Whether the answer has another label than that of the undisturbed film.
        scores: By the names of `MEASURED`: see `answer_drift` and `compare_moved`; or the reason why not.
        compared: Share of the cells that stayed in the frame and were compared, in [0, 1].
        resampling: Divergence of the undisturbed map from itself, moved over the cells and back, in nats; 0 where
            nothing moved, None without a map or where no cell is left.
    """

    perturbation: str
    strength: float
    seed: int
    answer: Answer = field(repr=False)
    heatmap: Heatmap = field(repr=False)
    flipped: bool
    scores: Mapping[str, Score]
    compared: float = 1.0
    resampling: float | None = 0.0


@dataclass(frozen=True)
class LeftOut:
    """A disturbance that the film had no room for, and why."""

    perturbation: str
    strength: float
    seed: int
    reason: str


@dataclass(frozen=True)
class Level:
    """All trials of one perturbation at one strength; without a part for chance there is one.

    Attributes:
        strength: In the perturbation's unit.
        trials: One for each seed.
        again: The undisturbed film, read again.
        seed: Of the intervals.
    """

    strength: float
    trials: tuple[Trial, ...]
    again: Trial = field(repr=False)
    seed: int = 0

    @property
    def flips(self) -> int:
        """How many answers flipped."""
        return sum(trial.flipped for trial in self.trials)

    @property
    def flip_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share of flips over seeds: about this one film, not about others."""
        return wilson_interval(self.flips, len(self.trials))

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Names of `MEASURED` -> mean over seeds with its bootstrap interval, which is coarse with few seeds."""
        return {name: summarise([trial.scores[name] for trial in self.trials], seed=self.seed) for name in MEASURED}

    @property
    def drifts(self) -> np.ndarray:
        """|Δp_yes| of every trial, float64 (trials,); NaN where there is none."""
        return _numbers(self.trials, DRIFT)

    @property
    def divergences(self) -> np.ndarray:
        """Jensen-Shannon divergence from the undisturbed map, in nats, float64 (trials,); NaN where there is none."""
        return _numbers(self.trials, "js_divergence")

    @property
    def flipped(self) -> np.ndarray:
        """Which answers flipped, bool (trials,)."""
        return np.array([trial.flipped for trial in self.trials])

    @property
    def floors(self) -> tuple[float, float]:
        """Drift and divergence that mean nothing yet: the larger of reading again and of moving the map over cells."""
        moved = self.trials[0].resampling  # the same for all seeds
        divergence = float(_numbers([self.again], "js_divergence")[0])
        return float(_numbers([self.again], DRIFT)[0]), np.nan if moved is None else max(divergence, moved)


@dataclass(frozen=True)
class Robustness:
    """How far answer and map of one film stand still while it is disturbed.

    Attributes:
        answer: To the undisturbed film.
        heatmap: Of the undisturbed film; where there is none, it carries the reason.
        again: The same picture, read again: the noise floor. Zero drift where the model is deterministic.
        trials: By perturbation, strength and seed.
        left_out: Disturbances that were not asked, with reasons.
        seed: Of ties among the hottest cells, and of intervals.
    """

    answer: Answer
    heatmap: Heatmap
    again: Trial
    trials: tuple[Trial, ...]
    left_out: tuple[LeftOut, ...] = ()
    seed: int = 0

    @cached_property
    def levels(self) -> dict[str, tuple[Level, ...]]:
        """Perturbation -> its levels by ascending strength; perturbations without a trial are missing."""
        found: dict[str, dict[float, list[Trial]]] = {}
        for trial in self.trials:
            found.setdefault(trial.perturbation, {}).setdefault(trial.strength, []).append(trial)
        return {
            name: tuple(Level(at, tuple(trials), self.again, self.seed) for at, trials in sorted(by_strength.items()))
            for name, by_strength in found.items()
        }

    def smallest_flip(self, perturbation: str) -> float | None:
        """The strength of least magnitude at which any seed flipped the answer; None where no strength tried did.

        Between two strengths tried, or beyond the last, the answer may still flip. Of two that are equally far from 0,
        the lower.

        Raises:
            InputError: No trial of that perturbation.
        """
        if perturbation not in self.levels:
            raise InputError(f"Nothing was asked of {perturbation!r}; ask with perturbations=[{perturbation!r}].")
        flipping = [level.strength for level in self.levels[perturbation] if level.flips]
        return min(flipping, key=abs, default=None)

    def __str__(self) -> str:
        lines = [f"{'perturbation':<16}{'strength':>9}{'flips':>8}{'|Δp_yes|':>10}{'JS':>8}{'floor':>8}"]
        for name, levels in self.levels.items():
            lines += [_line(name, level) for level in levels]
        left = [
            f"left out: {one.perturbation} {one.strength:g}, seed {one.seed}: {one.reason}" for one in self.left_out
        ]
        return "\n".join([*lines, *left])


def disturb(
    reading: Reading,
    *,
    perturbations: Sequence[str] | None = None,
    strengths: Mapping[str, Sequence[float]] | None = None,
    method: str = QUICK_METHOD,
    target: str | ScoreFunction | None = None,
    seeds: Sequence[int] = SEEDS,
    avoid: Mask | None = None,
    seed: int = 0,
    **options: Any,
) -> Robustness:
    """Asks one question about many disturbed copies of one film; equal pictures are read once.

    Args:
        reading: The undisturbed film and the question; its answer is not computed again.
        perturbations: Names of `PERTURBATIONS`; all where None.
        strengths: Name -> strengths in its unit; the default ladder of those that are not named. 0 is allowed.
        method: A name of `METHODS`, for all maps.
        target: As in `targets.resolve`, resolved for the undisturbed film; all maps explain it.
        seeds: Of perturbations in which chance has a part; all others are asked once.
        avoid: bool (height, width), where a marker must not lie, such as the finding's region.
        seed: Breaks ties among the hottest cells, and draws intervals.
        **options: Passed to the method.

    Raises:
        InputError: An unknown name, option or target; a strength or seed out of range; a mask of another size.
    """
    plan = _plan(perturbations, strengths, seeds)
    METHODS[method]
    asker = _Asker(reading, resolve(reading, target), method, options)
    first = _Said(reading.answer, explain_or_say_why(reading, asker.aim, method, options))
    against = _Against(first, seed)
    again = against.trial(NONE, 0.0, 0, asker(reading.image), None)
    trials, left_out = [], []
    for name, strength, which in track(plan, total=len(plan), what="disturbed films"):
        try:
            disturbed = perturb(reading.image, name, strength, which, avoid)
        except UnavailableError as reason:
            left_out.append(LeftOut(name, strength, which, str(reason)))
            continue
        trials.append(against.trial(name, strength, which, asker(disturbed.image), disturbed.motion))
    return Robustness(first.answer, first.heatmap, again, tuple(trials), tuple(left_out), seed)


def compare_moved(
    first: np.ndarray, other: np.ndarray, motion: Motion | None = None, seed: int = 0
) -> tuple[dict[str, Score], float]:
    """Agreement of the map of a film with that of its disturbed copy, in the frame of the film.

    SSIM, which needs neighbours, is taken over a rectangle of cells that all stayed in the frame.

    Args:
        first: (rows, cols) over the film.
        other: The same shape, over the disturbed copy.
        motion: Where the film's points went; None where they stayed.
        seed: Breaks ties among the hottest cells.

    Returns:
        Scores by the names of `AGREEMENTS`, and the share of cells compared.
    """
    back, seen = (other, np.ones(np.shape(first), bool)) if motion is None else motion.back(other)
    if not seen.any():
        return _without("no cell of the film is left in the frame"), 0.0
    window = _whole_rectangle(seen)
    scores = agreement_scores(first[seen][None], back[seen][None], seed)  # as one row: cells in their order
    if seen[window].size:
        scores["ssim"] = agreement_scores(first[window], back[window], seed)["ssim"]
    return {name: scores[name] for name in AGREEMENTS}, float(seen.mean())


@dataclass(frozen=True)
class _Said:
    answer: Answer
    heatmap: Heatmap


class _Asker:
    """Asks the question of another picture; of equal pictures once."""

    def __init__(self, reading: Reading, aim: Aim, method: str, options: dict[str, Any]) -> None:
        self.reading, self.aim, self.method, self.options = reading, aim, method, options
        self._known: dict[bytes, _Said] = {}

    def __call__(self, image: Image.Image) -> _Said:
        key = hashlib.sha256(image.tobytes()).digest()  # all are of one mode and size
        if key not in self._known:
            other = replace(self.reading, image=image)
            heatmap = explain_or_say_why(other, self.aim, self.method, self.options)
            self._known[key] = _Said(other.answer, heatmap)
        return self._known[key]


@dataclass(frozen=True)
class _Against:
    """Measures what was said of a disturbed film against the undisturbed one."""

    first: _Said
    seed: int

    def trial(self, name: str, strength: float, seed: int, said: _Said, motion: Motion | None) -> Trial:
        agreement, compared = self._maps(said.heatmap, motion)
        return Trial(
            perturbation=name,
            strength=strength,
            seed=seed,
            answer=said.answer,
            heatmap=said.heatmap,
            flipped=said.answer.label != self.first.answer.label,
            scores=answer_drift(self.first.answer, said.answer) | agreement,
            compared=compared,
            resampling=self._resampling(motion),
        )

    def _maps(self, other: Heatmap, motion: Motion | None) -> tuple[dict[str, Score], float]:
        for whose, heatmap in (("undisturbed", self.first.heatmap), ("disturbed", other)):
            if not heatmap.available:
                return _without(f"no map of the {whose} film: {'; '.join(heatmap.fallbacks.values())}"), 0.0
        return compare_moved(self.first.heatmap.map, other.map, motion, self.seed)

    def _resampling(self, motion: Motion | None) -> float | None:
        if not self.first.heatmap.available:
            return None
        if motion is None:
            return 0.0
        grid = self.first.heatmap.map
        moved, _ = motion.inverse.back(grid)
        value = compare_moved(grid, moved, motion, self.seed)[0]["js_divergence"].value
        return value if isinstance(value, float) else None


def answer_drift(first: Answer, other: Answer) -> dict[str, Score]:
    """How far the answer moved, by `p_yes_drift` and `contrast_drift`; 0 is no move, and lower is steadier.

    The first is |Δp_yes| in [0, 1], the second the same in log-odds (nats, ≥ 0), which still moves where a probability
    near 0 or 1 cannot. Neither applies where yes and no do not hold half of the probability.
    """
    reason = _mute(first) or _mute(other)
    pairs = {DRIFT: (first.p_yes, other.p_yes), LOG_DRIFT: (first.contrast, other.contrast)}
    return {
        name: not_applicable(name, "lower", reason)
        if reason or before is None or after is None
        else Score(name, abs(after - before), "lower")
        for name, (before, after) in pairs.items()
    }


def _mute(answer: Answer) -> str:
    """Why p_yes says nothing about an answer; empty where it does."""
    if answer.p_yes_no_mass is None:
        return "the model has no single token for yes and no"
    return "yes and no hold less than half of the probability" if answer.p_yes_no_mass < LEAST_MASS else ""


def _without(reason: str) -> dict[str, Score]:
    return {name: not_applicable(name, MEASURED[name], reason) for name in AGREEMENTS}


def _whole_rectangle(seen: np.ndarray) -> tuple[slice, slice]:
    """A rectangle of cells that are all seen, maybe empty: the side with the largest unseen share goes, until none has.

    Not by counts: these would take long sides off a narrow rectangle, and leave nothing of it.
    """
    top, left = 0, 0
    bottom, right = seen.shape
    while not (inner := seen[top:bottom, left:right]).all():
        missing = [1 - edge.mean() for edge in (inner[0], inner[-1], inner[:, 0], inner[:, -1])]
        worst = int(np.argmax(missing))
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    return slice(top, bottom), slice(left, right)


def _plan(
    names: Sequence[str] | None, strengths: Mapping[str, Sequence[float]] | None, seeds: Sequence[int]
) -> list[tuple[str, float, int]]:
    """(perturbation, strength, seed) of every film to be asked; all strengths are checked before the first is."""
    given = strengths or {}
    chosen = list(dict.fromkeys(PERTURBATIONS if names is None else names))
    stray = [name for name in given if name not in chosen]
    if not chosen or not seeds or stray:
        raise InputError(
            f"{len(chosen)} perturbations, {len(seeds)} seeds and strengths of {stray or 'no others'} were given; "
            "give one or more of each, and strengths only of perturbations that are asked."
        )
    plan = []
    for name in chosen:
        entry = PERTURBATIONS[name]
        for strength in dict.fromkeys(given.get(name, entry.ladder)):
            entry.refuse(strength)
            plan += [(name, float(strength), each) for each in (seeds if entry.seeded else seeds[:1])]
    return plan


def _numbers(trials: Sequence[Trial], name: str) -> np.ndarray:
    """float64 (trials,), NaN where there is none."""
    values = [trial.scores[name].value for trial in trials]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _line(name: str, level: Level) -> str:
    numbers = (level.scores[DRIFT].value, level.scores["js_divergence"].value, level.floors[1])
    drift, divergence, floor = (f"{n:.3f}" if isinstance(n, float) and np.isfinite(n) else "-" for n in numbers)
    flips = f"{level.flips}/{len(level.trials)}"
    return f"{name:<16}{level.strength:>9g}{flips:>8}{drift:>10}{divergence:>8}{floor:>8}"
