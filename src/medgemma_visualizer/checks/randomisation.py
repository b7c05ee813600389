"""Does a map depend on what the model has learned? Weights drawn anew, block by block (Adebayo et al. 2018).

Knows blocks, maps under random weights and how alike they stay to the original; does not know how a method works, nor
whether its map is right: a map of noise passes too, so this check can only convict. The question, the target and its
polarity stay those of the trained model: what a random model would answer is not explained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from scipy.stats import rankdata

from medgemma_visualizer.checks.weights import Block, blocks_of, chosen_blocks, lent
from medgemma_visualizer.errors import InputError, UnavailableError, unknown_name
from medgemma_visualizer.heatmaps.explain import explain_aim
from medgemma_visualizer.heatmaps.targets import Aim, resolve, score_tokens
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Heatmap, Score, Scores
from medgemma_visualizer.scores.agreement import SSIM_WINDOW, pearson, spearman, ssim
from medgemma_visualizer.scores.maps import CONSTANT, is_constant
from medgemma_visualizer.scores.statistics import RESAMPLES, bootstrap_interval
from medgemma_visualizer.scores.verdict import not_applicable
from medgemma_visualizer.settings import METHOD_PRIORITY

Order = Literal["cascading", "independent"]

#: Last axis of `Randomisation.similarities`.
SIMILARITIES = ("spearman", "spearman_absolute", "ssim")
#: A method passes where the mean |ρ| to the original is at most this once every block is random, or where maps shifted
#: against each other reach it as well: smooth maps have few independent cells and correlate by chance.
PASS, SIGNIFICANCE = 0.1, 0.05
#: Fewer draws than this decide nothing.
MIN_SEEDS = 5
PREFIX: Mapping[Order, str] = {"cascading": "randomisation", "independent": "independent_randomisation"}


@dataclass(frozen=True)
class Randomisation:
    """A method's maps while the model forgets.

    Attributes:
        method: The method, by name.
        order: "cascading": a block and all above it are random; "independent": that block alone is.
        blocks: Names, from the output down, of those after which a map was asked.
        original: float32 (rows, cols), the map of the trained model, with both signs where the method has them.
        maps: float32 (seeds, blocks, rows, cols), the same under random weights; NaN where there was none.
        similarities: float64 (seeds, blocks, 3) in the order of SIMILARITIES, each in [-1, 1]: 1 is the original map,
            0 is chance for the first two. A missing map counts as 0; SSIM is NaN on grids under 7 cells a side.
        output: Score of the target by the trained model.
        outputs: float64 (seeds, blocks), its score under random weights.
        failures: (seed, block's name) -> why the method gave no map there.
        complete: Whether the last step of a cascade has left no block as trained.
    """

    method: str
    order: Order
    blocks: tuple[str, ...]
    original: np.ndarray
    maps: np.ndarray
    similarities: np.ndarray
    output: float
    outputs: np.ndarray
    failures: Mapping[tuple[int, str], str]
    complete: bool

    @property
    def output_changes(self) -> np.ndarray:
        """|score - score of the trained model|, float64 (seeds, blocks); where it is 0 a map need not change."""
        changes: np.ndarray = np.abs(self.outputs - self.output)
        return changes

    @cached_property
    def scores(self) -> Scores:
        """Means over seeds: at the end of a cascade, or over all blocks where each was random alone."""
        name = PREFIX[self.order]
        made = (self._spearman(f"{name}_spearman"), self._ssim(f"{name}_ssim"), self._change(f"{name}_output_change"))
        return Scores({score.name: score for score in made})

    @property
    def verdict(self) -> str:
        """The word for it: "pass", "fail" or "undecided", with the reason in the score."""
        words = {"good": "pass", "poor": "fail", "": "undecided"}
        return words[self.scores[f"{PREFIX[self.order]}_spearman"].verdict]

    @property
    def _counted(self) -> slice:
        """The steps that are summarised."""
        return slice(-1, None) if self.order == "cascading" else slice(None)

    def _spearman(self, name: str) -> Score:
        """mean |ρ|, of the map or of its magnitude, whichever stays more alike."""
        if not self._any_map():
            return not_applicable(name, "lower", f"no map under random weights: {next(iter(self.failures.values()))}")
        each = np.abs(self.similarities[:, self._counted, :2]).mean(axis=1)  # (seeds, 2)
        which = int(each.mean(axis=0).argmax())
        mean, shifted = bootstrap_interval(each[:, which]), self._shifted(which)
        tried = 1 if np.array_equal(each[:, 0], each[:, 1]) else 2  # the larger of two was picked (Bonferroni)
        p_value = min(1.0, tried * _share_reaching(mean.value, shifted))
        undecided = self._undecided()
        label = "" if undecided else "good" if mean.value <= PASS or p_value >= SIGNIFICANCE else "poor"
        against = f"p = {p_value:.2g} against shifted maps"
        reason = "; ".join(part for part in (SIMILARITIES[which], undecided or against, self._failed()) if part)
        threshold = PASS if self.order == "cascading" else None
        return Score(name, mean.value, "lower", float(shifted.mean()), label, threshold, mean.n, mean.interval, reason)

    def _shifted(self, which: int) -> np.ndarray:
        """|ρ| of the original and each counted map under all shifts: (maps, N − 1); 0 where there is no map."""
        magnitude = np.abs if SIMILARITIES[which] == "spearman_absolute" else np.asarray
        maps = self.maps[:, self._counted].reshape(-1, *self.original.shape)
        none = np.zeros(self.original.size - 1)
        there = [np.isfinite(one).all() for one in maps]
        pairs = zip(maps, there, strict=True)
        return np.stack(
            [shifted_correlations(magnitude(self.original), magnitude(m)) if ok else none for m, ok in pairs]
        )

    def _ssim(self, name: str) -> Score:
        each = self.similarities[:, self._counted, 2].mean(axis=1)  # (seeds,)
        if np.isnan(each).any():
            return not_applicable(name, "lower", f"SSIM needs {SSIM_WINDOW} cells a side", n=len(each))
        if not self._any_map():
            return not_applicable(name, "lower", "no map under random weights", n=len(each))
        mean = bootstrap_interval(each)
        return Score(name, mean.value, "lower", n=mean.n, interval=mean.interval, reason=self._failed())

    def _change(self, name: str) -> Score:
        counted = self.outputs[:, self._counted]
        mean = bootstrap_interval(np.abs(counted - self.output).mean(axis=1))
        reason = f"the target's score was {self.output:.3g} and is {counted.mean():.3g} on average"
        return Score(name, mean.value, n=mean.n, interval=mean.interval, reason=reason)

    def _undecided(self) -> str:
        """Why the pass mark does not apply."""
        if self.order == "independent":
            return "one block at a time has no pass mark"
        if not self.complete:
            return "some blocks stay as trained"
        seeds = len(self.outputs)
        return "" if seeds >= MIN_SEEDS else f"{seeds} of the {MIN_SEEDS} draws that a verdict needs"

    def _failed(self) -> str:
        """How many of the counted models gave no map and so count as 0."""
        counted = self.blocks[self._counted]
        failed = sum(block in counted for _, block in self.failures)
        total = len(self.outputs) * len(counted)
        return f"{failed} of {total} random models gave no map and count as 0" if failed else ""

    def _any_map(self) -> bool:
        return bool(np.isfinite(self.maps[:, self._counted]).any())


def randomisation(
    reading: Reading,
    aim: Aim,
    method: str,
    *,
    order: Order = "cascading",
    seeds: int = 5,
    blocks: Sequence[str] | None = None,
    after: Sequence[str] | None = None,
    **options: Any,
) -> Randomisation:
    """Explains the same target again and again while blocks of the model are drawn anew.

    The model is changed in place and given back bit for bit, also when the work is interrupted or fails; nobody else
    may use it meanwhile. The originals wait on disk, so memory holds the model and one piece of one weight.

    Args:
        aim: The target, resolved for `reading`; rows, forced words and polarity stay as they are.
        method: A name of `METHODS`; "auto" is the method that "auto" chooses for the trained model.
        order: "cascading" (from the output down, what is random stays random) or "independent" (one block at a time,
            the rest as trained: the specification's test).
        seeds: How many times everything is drawn; a verdict needs 5.
        blocks: Names of `weights.blocks_of`; all where None.
        after: Of these, the blocks after which a map is asked (`weights.last_of_each_part` is enough for the verdict);
            every one where None.
        **options: Passed to the method.

    Returns:
        Similarities, outputs, failures and scores. `randomisation_spearman` is the mean |ρ| once all is random, in
        [0, 1], lower is better, at most 0.1 to pass, or as much as shifted maps reach (p ≥ 0.05); its
        chance level is the mean of `shifted_correlations`. Source: Adebayo 2018.

    Raises:
        InputError: Unknown method, order or block; no seeds.
        UnavailableError: The trained model's own map cannot be had, or is equal everywhere (InputError with "auto");
            or its weights are packed into fewer bits.
    """
    if order not in PREFIX or seeds < 1:
        raise InputError(f"order={order!r} with {seeds} seeds: use one of {', '.join(PREFIX)}, and 1 seed or more.")
    chosen = chosen_blocks(reading.model, blocks)
    looked_at = _looked_at(chosen, after)
    original = explain_aim(reading, aim, method, **options)
    if is_constant(signed_map(original)):
        raise UnavailableError(f"The trained model's own map explains nothing to compare with: {CONSTANT}.")
    results = _Results(reading, aim, original.method, options, signed_map(original))
    with lent(reading.model, chosen) as loan:
        steps = [(seed, block) for seed in range(seeds) for block in chosen]
        for seed, block in track(steps, total=len(steps), what="random models"):
            if order == "independent" or block is chosen[0]:
                loan.restore()
            loan.redraw(block, seed)
            if block.name in looked_at:
                results.add(seed, block, any(b.makes_tokens for b in loan.changed.values()))
    every = len(chosen) == len(blocks_of(reading.model)) and looked_at[-1] == chosen[-1].name
    return results.finished(order, looked_at, every)


def _looked_at(chosen: Sequence[Block], after: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the blocks after which a map is asked, in order.

    Raises:
        InputError: None of them, or one that is not drawn anew.
    """
    known = [block.name for block in chosen]
    for name in after or ():
        if name not in known:
            raise unknown_name("block", name, known)
    if after is not None and not after:
        raise InputError("No block was named in `after`; name at least one, or leave it out for all.")
    return tuple(name for name in known if after is None or name in after)


class _Results:
    """What has been found so far, in the order of the steps."""

    def __init__(
        self, reading: Reading, aim: Aim, method: str, options: Mapping[str, Any], original: np.ndarray
    ) -> None:
        self.reading, self.aim, self.method, self.options, self.original = reading, aim, method, options, original
        self.output = _score(reading, aim)
        self.maps: list[np.ndarray] = []
        self.similarities: list[tuple[float, float, float]] = []
        self.outputs: list[float] = []
        self.failures: dict[tuple[int, str], str] = {}

    def add(self, seed: int, block: Block, new_tokens: bool) -> None:
        """One random model."""
        reading = _again(self.reading, new_tokens)
        self.outputs.append(_score(reading, self.aim))
        try:
            values = signed_map(explain_aim(reading, self.aim, self.method, **self.options))
            if is_constant(values):
                raise UnavailableError(CONSTANT)
        except UnavailableError as error:
            self.failures[seed, block.name] = str(error)
            values = np.full_like(self.original, np.nan)
        self.maps.append(values)
        self.similarities.append(similarities(self.original, values))

    def finished(self, order: Order, blocks: tuple[str, ...], every: bool) -> Randomisation:
        shape = (-1, len(blocks))
        return Randomisation(
            self.method,
            order,
            blocks,
            self.original,
            np.stack(self.maps).reshape(*shape, *self.original.shape),
            np.array(self.similarities).reshape(*shape, len(SIMILARITIES)),
            self.output,
            np.array(self.outputs).reshape(shape),
            self.failures,
            every and order == "cascading",
        )


def similarities(original: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Spearman of two maps, Spearman of their magnitudes, and SSIM, each in [-1, 1], 1 for equal maps.

    For SSIM each map is first divided by its largest magnitude: the same pattern at another scale is the same pattern.
    A map of NaN (none) gives 0; SSIM is NaN on grids under 7 cells a side; equal magnitudes have no ranks and give 0.
    """
    structural = min(original.shape) >= SSIM_WINDOW
    if np.isnan(other).any():
        return 0.0, 0.0, 0.0 if structural else np.nan
    one, two = (each / np.abs(each).max() for each in (original.astype(np.float64), other.astype(np.float64)))
    ranked = not (is_constant(np.abs(one)) or is_constant(np.abs(two)))
    absolute = spearman(np.abs(one), np.abs(two)) if ranked else 0.0
    return spearman(one, two), absolute, ssim(one, two) if structural else np.nan


def shifted_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """|Spearman| for every shift but none of one map against the other, edges wrapped round: (N − 1,) in [0, 1].

    What two maps as smooth as these correlate without belonging together: smooth maps have few independent cells, so
    the mean lies above sqrt(2 / (π(N − 1))), that for maps of noise. 0 where a map has no ranks.
    """
    if is_constant(first) or is_constant(second):
        return np.zeros(np.size(first) - 1)
    ranks = [rankdata(each).reshape(np.shape(each)) for each in (first, second)]
    one, two = (np.fft.fft2((rank - rank.mean()) / np.linalg.norm(rank - rank.mean())) for rank in ranks)
    correlations: np.ndarray = np.abs(np.fft.ifft2(one * two.conj()).real).ravel()  # the first is the shift by nothing
    return correlations[1:]


def _share_reaching(value: float, shifted: np.ndarray) -> float:
    """One-sided p-value: how often the mean over maps (maps, N − 1), each shifted at random, is at least `value`."""
    drawn = np.random.default_rng(0).choice(shifted.shape[1], size=(RESAMPLES, len(shifted)))
    means = shifted[np.arange(len(shifted)), drawn].mean(axis=1)
    return float((1 + (means >= value).sum()) / (1 + RESAMPLES))


def model_randomization_test(
    model: Model, image: Image.Image, prompt: str, method: str = METHOD_PRIORITY[0], seed: int = 0
) -> list[float]:
    """The specification's test (7.5.2): Pearson correlation with the original map, one vision layer random at a time.

    The layers are the model's own, from the last to the first. NaN where the method gave no map.

    Raises:
        InputError: Unknown method.
        UnavailableError: The trained model's own map cannot be had.
    """
    reading = read(model, image, prompt)
    layers = [f"vision.{n}" for n in range(len(model.vision_layers) - 1, -1, -1)]
    found = randomisation(reading, resolve(reading), method, order="independent", seeds=seed + 1, blocks=layers)
    return [np.nan if np.isnan(grid).any() else pearson(found.original, grid) for grid in found.maps[seed]]


def _again(reading: Reading, new_tokens: bool) -> Reading:
    """The same picture and prompt, with nothing kept that the weights have made."""
    fresh = replace(reading)
    kept = ("pixel_values",) if new_tokens else ("pixel_values", "image_tokens")
    vars(fresh).update({name: getattr(reading, name) for name in kept})  # where cached_property keeps its results
    return fresh


def _score(reading: Reading, aim: Aim) -> float:
    with torch.no_grad():
        return float(score_tokens(reading, aim, reading.image_tokens)[0])


def signed_map(heatmap: Heatmap) -> np.ndarray:
    """float32 (rows, cols), with both signs where the method has them.

    Raises:
        InputError: No explanation is available.
    """
    return heatmap.map if heatmap.signed is None else heatmap.signed
