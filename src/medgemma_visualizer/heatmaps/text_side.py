"""How much of an answer is the picture and how much the question: the same method on words as on image tokens.

Knows how to remove a word, or its path, or follow its gradient; knows nothing about drawing. An answer that stays the
same without the picture is the language prior's, however convincing the map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from medgemma_visualizer.errors import UnavailableError, unknown_name
from medgemma_visualizer.heatmaps.attention_knockout import score_cuts
from medgemma_visualizer.heatmaps.probing import (
    baseline_for,
    batch_size,
    batches,
    joined,
    score_masks,
    scores_of,
)
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.forward import decode_embeddings, embed, ensure_finite
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.records import Target, Token

#: Gauss-Legendre points on the straight path of integrated gradients.
_STEPS = 24


@dataclass(frozen=True)
class TextSide:
    """What the question's words contribute, beside the picture.

    Attributes:
        method: How it was measured.
        target: What is explained.
        words: Tokens of the question.
        values: float32 (words,), signed, in units of the score: above 0 where a word supports the target.
        image_effect: What the whole picture contributes, in the same units.
        words_effect: What all words together contribute (not always the sum of `values`: words interact).
        image_share: |image_effect| / (|image_effect| + |words_effect|) in [0, 1]; 0.5 where both weigh the same.
        score: f(x), the score as asked.
        prior: f with every image token replaced by the mean token: what language alone says.
    """

    method: str
    target: Target
    words: tuple[Token, ...]
    values: np.ndarray
    image_effect: float
    words_effect: float
    image_share: float
    score: float
    prior: float


#: (values of the words (W,), effect of the whole image, effect of all words)
_Effects = tuple[np.ndarray, float, float]


def text_side(reading: Reading, aim: Aim, method: str = "occlusion") -> TextSide:
    """The question's words under the method that explains the picture, and the picture's share of the answer.

    Args:
        method: "occlusion" (a word's embedding becomes the vocabulary's mean, image tokens become their mean),
            "attention_knockout" (the target's rows are cut off, in all layers), "token_gradient"
            ((embedding − the same baselines) · gradient) or "integrated_gradients" (its mean over the path).

    Raises:
        InputError: Another method.
        UnavailableError: Neither picture nor words change the score, so there is no share to give.
    """
    if method not in TEXT_METHODS:
        raise unknown_name("method for the question's words", method, TEXT_METHODS)
    everything = np.ones((1, *reading.model.grid), dtype=bool)
    score, prior = score_masks(reading, aim, np.concatenate([~everything, everything]), what="passes")
    values, image, words = TEXT_METHODS[method](reading, aim)
    if image == 0 and words == 0:
        raise UnavailableError(f"By {method}, neither the picture nor the question changes the score of this target.")
    share = abs(image) / (abs(image) + abs(words))
    return TextSide(
        method, aim.target, _words(reading), values.astype(np.float32), image, words, share, float(score), float(prior)
    )


def _words(reading: Reading) -> tuple[Token, ...]:
    prompt = reading.prompt
    spans = [(p, *prompt.offsets[p]) for p in prompt.question_positions]
    return tuple(Token(prompt.text[a:b], prompt.ids[p], p) for p, a, b in spans)


def _removals(reading: Reading, length: int) -> np.ndarray:
    """bool (2 + words, S): nothing but the image, all words, and each word alone."""
    words, image = list(reading.prompt.question_positions), list(reading.prompt.image_positions)
    removed = np.zeros((2 + len(words), length), dtype=bool)
    removed[0, image] = True
    removed[1, words] = True
    removed[range(2, 2 + len(words)), words] = True
    return removed


def _lost(scores: np.ndarray) -> _Effects:
    """Effects from scores of: nothing removed, then `_removals` in their order."""
    lost = scores[0] - scores[1:]
    return lost[2:], float(lost[0]), float(lost[1])


def _occlusion(reading: Reading, aim: Aim) -> _Effects:
    ids = reading.ids(aim.forced)
    before, after = _embeddings(reading, aim)
    removed = np.concatenate([np.zeros((1, len(ids)), dtype=bool), _removals(reading, len(ids))])

    def scored(chunk: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            altered = torch.where(torch.from_numpy(chunk).to(before.device)[..., None], after, before)  # (B, S, D)
            return scores_of(aim, _logits(reading, aim, altered))

    return _lost(joined(scored(chunk)[:new] for chunk, new in batches(removed, batch_size(reading, aim), "words")))


def _knockout(reading: Reading, aim: Aim) -> _Effects:
    length = len(reading.prompt.ids) + len(aim.forced)
    removed = np.concatenate([np.zeros((1, length), dtype=bool), _removals(reading, length)])
    rows = sorted(set(aim.rows))
    return _lost(score_cuts(reading, aim, removed, rows, range(reading.model.n_layers)))


def _gradient(reading: Reading, aim: Aim) -> _Effects:
    return _along(reading, aim, [1.0], [1.0])


def _integrated(reading: Reading, aim: Aim) -> _Effects:
    nodes, weights = np.polynomial.legendre.leggauss(_STEPS)  # on −1 … 1
    return _along(reading, aim, (nodes + 1) / 2, weights / 2)


def _along(reading: Reading, aim: Aim, shares: Iterable[float], weights: Iterable[float]) -> _Effects:
    """(embedding − baseline) · weighted gradients between baseline (0) and input (1), summed over features."""
    before, after = _embeddings(reading, aim)
    words, image = list(reading.prompt.question_positions), list(reading.prompt.image_positions)
    moved = torch.zeros(before.shape[1], 1, dtype=torch.bool, device=before.device)
    moved[words + image] = True
    start = torch.where(moved, after, before)
    total = torch.zeros_like(before, dtype=torch.float32)
    for share, weight in zip(shares, weights, strict=True):
        with torch.enable_grad():
            point = torch.lerp(start, before, float(share)).detach().requires_grad_()  # (1, S, D)
            (gradient,) = torch.autograd.grad(aim.score(_logits(reading, aim, point)).sum(), point)
        total += gradient.float() * weight
    values = ((before - start).float() * ensure_finite(total, "the gradients")).sum(-1)[0].cpu().numpy()  # (S,)
    return values[words], float(values[image].sum()), float(values[words].sum())


def _embeddings(reading: Reading, aim: Aim) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings as read, and with every position at its baseline: two (1, S, D)."""
    model, ids = reading.model, reading.ids(aim.forced)
    with torch.no_grad():
        before = embed(model, ids, reading.image_tokens)
        table = model.text.get_input_embeddings()
        some = ids[list(reading.prompt.question_positions)[:1]]
        scale = table(some).float().norm() / table.weight[some].float().norm()  # Gemma scales its embeddings
        mean = (table.weight.mean(0, dtype=torch.float32) * scale).to(before.dtype)
        after = mean.expand_as(before).clone()
        after[:, list(reading.prompt.image_positions)] = baseline_for(reading, "tokens")
    return before, after


def _logits(reading: Reading, aim: Aim, embeds: torch.Tensor) -> torch.Tensor:
    """Embeddings (B, S, D) -> logits (B, R, V) at the target's rows."""
    states = decode_embeddings(reading.model, embeds, reading.ids(aim.forced))[:, list(aim.rows)]
    return ensure_finite(reading.model.head(states).float(), "the logits")


#: Methods whose numbers for words mean the same as for image tokens.
TEXT_METHODS: dict[str, Callable[[Reading, Aim], _Effects]] = {
    "occlusion": _occlusion,
    "attention_knockout": _knockout,
    "token_gradient": _gradient,
    "integrated_gradients": _integrated,
}
