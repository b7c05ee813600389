"""How a model is asked again about a picture without some of its cells: each altered picture once, all in one go.

Knows masks, imputers and how a target's score becomes a probability; knows nothing about maps or metrics. Whatever
answers masks with scores can stand in for a model (`Scorer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.special import expit

from medgemma_visualizer.checks.curves import Response, removed
from medgemma_visualizer.checks.imputers import BY_MASK, Fill, imputer
from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.heatmaps.probing import (
    Space,
    batch_size,
    batches,
    in_smaller_batches,
    joined,
    original,
    over,
    scores_of,
)
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.forward import image_tokens, logits_at
from medgemma_visualizer.models.reading import Reading


@dataclass(frozen=True)
class Scale:
    """What a target's score is, and how it becomes a number f that metrics with published ranges may read.

    Attributes:
        unit: Of f, for people.
        to_f: Scores -> f, element by element.
        bounds: The range that f must keep.
        log: Suffix of the versions in nats ("_logodds", "_logprob"); empty where the score itself is f.
    """

    unit: str
    to_f: Callable[[np.ndarray], np.ndarray]
    bounds: tuple[float, float] = (0.0, 1.0)
    log: str = ""

    @property
    def is_probability(self) -> bool:
        return self.bounds == (0.0, 1.0)

    def f(self, scores: np.ndarray) -> np.ndarray:
        """float64, the shape of `scores`.

        Raises:
            InputError: Scores of another kind than the scale's, such as those of a target turned round.
        """
        values = self.to_f(np.asarray(scores, np.float64))
        low, high = self.bounds
        if values.size and (values.min() < low - 1e-6 or values.max() > high + 1e-6):
            raise InputError(
                f"The target's scores give {self.unit} between {values.min():.3g} and {values.max():.3g}, which is "
                "none; explain a contrast, a phrase or the answer."
            )
        return np.clip(values, low, high)


OWN = Scale("the target's own unit", lambda scores: scores, bounds=(-np.inf, np.inf))
PROBABILITY = Scale("probability", lambda scores: scores)
LOG_ODDS = Scale("probability of the answer given", expit, log="_logodds")
LOG_PROBABILITY = Scale("geometric mean probability of a token", np.exp, log="_logprob")

_SCALES = {"contrast": LOG_ODDS, "p_yes": PROBABILITY, "callable": OWN}


def scale_of(aim: Aim) -> Scale:
    """How the target's score becomes f: log-odds and log-probabilities by their inverse, a user's function not at all.

    f of a yes/no contrast is P(answer given) / (P(yes) + P(no)); f of words is the geometric mean of their tokens'
    probabilities.
    """
    return _SCALES.get(aim.target.kind, LOG_PROBABILITY)


class Scorer(Protocol):
    """Answers masks with scores. A score never depends on the other masks of a call."""

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, cols) of the cells."""

    @property
    def scale(self) -> Scale:
        """How a score becomes f."""

    def __call__(self, masks: np.ndarray, imputers: Sequence[str]) -> np.ndarray:
        """Scores (P,) of the picture without the cells of each mask, bool (P, rows, cols), True where removed.

        Args:
            masks: Never written.
            imputers: Of each mask, what stands in for its cells.
        """


class ModelScorer:
    """Asks a model about one picture; in `tokens` space removed cells take the imputed picture's image tokens.

    Raises:
        InputError: No such space or imputer.
    """

    def __init__(self, reading: Reading, aim: Aim, imputers: Sequence[str], space: Space = "pixels", seed: int = 0):
        self.reading, self.aim, self.space = reading, aim, space
        self.grid, self.scale = reading.model.grid, scale_of(aim)
        self.before = original(reading, space)
        self.fills = {name: self._fill(name, seed) for name in imputers}

    def __call__(self, masks: np.ndarray, imputers: Sequence[str]) -> np.ndarray:
        size = batch_size(self.reading, self.aim, "pixels" if BY_MASK & set(imputers) else self.space)
        names = np.asarray(imputers)

        def asked(at_once: int) -> np.ndarray:
            chunks = batches(np.arange(len(masks)), at_once, "altered pictures")
            return joined(self._scores(masks[chunk], names[chunk])[:count] for chunk, count in chunks)

        return in_smaller_batches(self.reading.model, size, asked)

    @torch.no_grad()
    def _scores(self, masks: np.ndarray, imputers: np.ndarray) -> np.ndarray:
        """float32 (B,), for one batch."""
        instead = torch.cat([self.fills[str(name)](mask[None]) for mask, name in zip(masks, imputers, strict=True)])
        removed = over(torch.from_numpy(masks).to(self.before.device), self.space, self.before)
        altered = torch.where(removed, instead, self.before)
        model, rows = self.reading.model, self.aim.rows
        tokens = altered if self.space == "tokens" else image_tokens(model, altered)  # (B, N, D)
        return scores_of(self.aim, logits_at(model, self.reading.ids(self.aim.forced), tokens, rows))

    def _fill(self, name: str, seed: int) -> Fill:
        pictures = imputer(self.reading, name, seed)
        if self.space == "pixels":
            return pictures
        with torch.no_grad():
            if name in BY_MASK:
                return lambda masks: image_tokens(self.reading.model, pictures(masks))
            tokens = image_tokens(self.reading.model, pictures(np.zeros((1, *self.grid), bool)))
        return lambda masks: tokens


class Memo:
    """Remembers every score, so that no altered picture is scored twice, whichever curve asks for it.

    Attributes:
        n_scorings: Altered pictures scored so far.
    """

    def __init__(self, scorer: Scorer):
        self.scorer = scorer
        self._known: dict[tuple[str, bytes], float] = {}

    @property
    def n_scorings(self) -> int:
        return len(self._known)

    @property
    def scores(self) -> np.ndarray:
        """All scores so far, float64 (n_scorings,)."""
        return np.array(list(self._known.values()))

    def scores_of(self, name: str) -> np.ndarray:
        """All scores so far under one imputer, that of the picture itself included."""
        return np.array([score for (imputer, _), score in self._known.items() if imputer in ("", name)])

    def learn(self, wanted: Iterable[tuple[str, np.ndarray]]) -> None:
        """Scores what is not known yet of (imputer, mask (rows, cols)), in one call and so with one progress bar.

        Raises:
            VisualizerError: The scorer gave no finite number for a mask.
        """
        missing: dict[tuple[str, bytes], tuple[str, np.ndarray]] = {}
        for name, mask in wanted:
            key = key_of(name, mask)
            if key not in self._known:
                missing.setdefault(key, (name, mask))
        if not missing:
            return
        names, masks = zip(*missing.values(), strict=True)
        scores = np.asarray(self.scorer(np.stack(masks), names), np.float64)
        if scores.shape != (len(missing),) or not np.isfinite(scores).all():
            raise VisualizerError(f"{len(missing)} masks need as many finite scores; shape {scores.shape} was given.")
        self._known.update(zip(missing, scores.tolist(), strict=True))

    def __call__(self, name: str, masks: np.ndarray) -> np.ndarray:
        """Scores float64 (P,) of masks (P, rows, cols)."""
        self.learn((name, mask) for mask in masks)
        return np.array([self._known[key_of(name, mask)] for mask in masks])


def key_of(name: str, mask: np.ndarray) -> tuple[str, bytes]:
    """What tells altered pictures apart; the picture itself is the same for every imputer."""
    return (name if mask.any() else "", np.packbits(mask).tobytes())


def erasures(order: np.ndarray, counts: Sequence[int], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Masks that remove the first cells of an order, and all but these: twice bool (F, rows, cols)."""
    first = np.stack([removed(order, count, shape) for count in counts])
    return first, ~first


def response(memo: Memo, name: str, order: np.ndarray, counts: Sequence[int], *, nats: bool = False) -> Response:
    """f, or the target's own score, as the first cells of an order go and as all others do."""
    to_f = np.asarray if nats else memo.scorer.scale.f
    without, alone = (to_f(memo(name, masks)) for masks in erasures(order, counts, memo.scorer.grid))
    return Response(np.array(counts) / order.size, without, alone)


def refuse_other_shape(values: np.ndarray, grid: tuple[int, int]) -> None:
    """Raises where a map is not on the model's grid.

    Raises:
        InputError: Another shape.
    """
    if values.shape != grid:
        raise InputError(f"The map has the shape {values.shape}; the model's grid is {grid[0]} × {grid[1]}.")
