"""How much of an answer is the picture and how much the question: the same method on words as on image tokens.

Knows how to remove a word, or its path, or what a method's gradient says of it; knows nothing about drawing. An answer
that stays the same without the picture is the language prior's, however convincing the map.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.attention_knockout import score_cuts
from medgemma_visualizer.heatmaps.cross_attention import indices
from medgemma_visualizer.heatmaps.methods import METHODS, check_options
from medgemma_visualizer.heatmaps.probing import batch_size, batches, joined, refuse_rounding, score_masks, scores_of
from medgemma_visualizer.heatmaps.relevance import relevance
from medgemma_visualizer.heatmaps.targets import Aim, ScoreFunction, resolve
from medgemma_visualizer.heatmaps.text_gradients import BY_GRADIENT, embedded, logits_of
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.records import Target, Token


@dataclass(frozen=True)
class TextSide:
    """What the question's words contribute, beside the picture.

    Attributes:
        method: How it was measured.
        target: What is explained.
        words: Tokens of the question.
        values: float32 (words,). Where `signed`, above 0 where a word supports the target; else ≥ 0, larger is more.
            In units of the score; for "gradient_norm" of the score per unit of the embedding.
        image_effect: What the whole picture contributes, in the same units. Methods that remove something remove all of
            it at once; for the others it is the sum over image tokens.
        words_effect: What all words together contribute (not always the sum of `values`: removed words interact).
        image_share: |image_effect| / (|image_effect| + |words_effect|) in [0, 1]; 0.5 where both weigh the same.
        score: f(x), the score as asked.
        prior: f with every image token replaced by the mean token: what language alone says.
        requested: The method that was asked for.
        fallbacks: Method -> reason, where the one that was asked for gave no numbers for words.
        left_out: Options of the map that have no place here (a window, a vision layer), so that they were not used.
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
    requested: str
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def signed(self) -> bool:
        """Whether values speak for and against the target."""
        return METHODS[self.method].signed


#: (values of the words (W,), effect of the whole image, effect of all words)
_Effects = tuple[np.ndarray, float, float]


def explain_words(reading: Reading, method: str, target: str | ScoreFunction | None = None, **options: Any) -> TextSide:
    """As `text_side`, for the method of a map; by occlusion where that one has no numbers for words, and it says why.

    Args:
        method: A name of `METHODS`.
        target: As in `targets.resolve`.
        **options: As the map had them; `left_out` names those that have no place here.

    Raises:
        InputError: Unknown method or option, or a target that is not there.
        UnavailableError: Occlusion cannot tell either; the message says why.
    """
    check_options([method], options)
    aim = resolve(reading, target)
    if method in TEXT_METHODS:
        taken = {name: value for name, value in options.items() if name in _options(method)}
        try:
            side = text_side(reading, aim, method, **taken)
            return replace(side, left_out=tuple(name for name in options if name not in taken))
        except UnavailableError as error:
            if method == "occlusion":
                raise
            reason = str(error)
    else:
        reason = "It gives no numbers for the question's words."
    return replace(text_side(reading, aim, "occlusion"), requested=method, fallbacks={method: reason})


def text_side(reading: Reading, aim: Aim, method: str = "occlusion", **options: Any) -> TextSide:
    """The question's words under the method that explains the picture, and the picture's share of the answer.

    Args:
        method: A name of `TEXT_METHODS`. "occlusion": a word's embedding becomes the vocabulary's mean, image tokens
            become their mean. "attention_knockout": the target's rows are cut off. The gradient methods take the
            gradient at all embeddings at once, with the same baselines (`text_gradients`); "relevance" follows the same
            attention to both sides.
        **options: `layers` of "attention_knockout"; `steps` of "integrated_gradients"; `samples`, `noise` and `seed` of
            "smoothgrad".

    Raises:
        InputError: A method or option that is not there.
        UnavailableError: Neither picture nor words change the score, so there is no share to give; or the method cannot
            explain this target, as for its map.
    """
    measure = _measure(method, options)
    everything = np.ones((1, *reading.model.grid), dtype=bool)
    score, prior = score_masks(reading, aim, np.concatenate([~everything, everything]), what="passes")
    values, image, words = measure(reading, aim, **options)
    if image == 0 and words == 0:
        raise UnavailableError(f"By {method}, neither the picture nor the question changes the score of this target.")
    return TextSide(
        method=method,
        target=aim.target,
        words=_words(reading),
        values=values.astype(np.float32),
        image_effect=image,
        words_effect=words,
        image_share=abs(image) / (abs(image) + abs(words)),
        score=float(score),
        prior=float(prior),
        requested=method,
    )


def _measure(method: str, options: Mapping[str, Any]) -> Callable[..., _Effects]:
    """The method's function.

    Raises:
        InputError: It is no method, has no numbers for words, or does not take these options.
    """
    if method not in TEXT_METHODS:
        METHODS[method]
        raise InputError(
            f"Method {method!r} gives no numbers for the question's words. Those that do: {', '.join(TEXT_METHODS)}."
        )
    known = _options(method)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise InputError(
            f"For the question's words {method!r} does not take these options: {', '.join(unknown)}. "
            f"It takes: {', '.join(known) or 'none'}."
        )
    return TEXT_METHODS[method]


def _options(method: str) -> list[str]:
    function: Callable[..., Any] = BY_GRADIENT.get(method) or TEXT_METHODS[method]
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _words(reading: Reading) -> tuple[Token, ...]:
    prompt = reading.prompt
    spans = [(p, *prompt.offsets[p]) for p in prompt.question_positions]
    return tuple(Token(prompt.text[a:b], prompt.ids[p], p) for p, a, b in spans)


def _removals(reading: Reading, length: int) -> np.ndarray:
    """bool (3 + words, S): nothing, nothing but the image, all words, and each word alone."""
    words, image = list(reading.prompt.question_positions), list(reading.prompt.image_positions)
    removed = np.zeros((3 + len(words), length), dtype=bool)
    removed[1, image] = True
    removed[2, words] = True
    removed[range(3, 3 + len(words)), words] = True
    return removed


def _lost(scores: np.ndarray) -> _Effects:
    """Effects from the scores of `_removals`, in their order.

    Raises:
        UnavailableError: Image and words as a whole change the score by rounding only, whose share means nothing.
    """
    refuse_rounding(scores[:3])
    lost = scores[0] - scores[1:]
    return lost[2:], float(lost[0]), float(lost[1])


def _occlusion(reading: Reading, aim: Aim) -> _Effects:
    inside = embedded(reading, aim)
    removed = _removals(reading, inside.values.shape[1])

    def scored(chunk: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            gone = torch.from_numpy(chunk).to(inside.values.device)[..., None]  # (B, S, 1)
            return scores_of(aim, logits_of(reading, aim, torch.where(gone, inside.baseline, inside.values)))

    return _lost(joined(scored(chunk)[:new] for chunk, new in batches(removed, batch_size(reading, aim), "words")))


def _knockout(reading: Reading, aim: Aim, *, layers: Sequence[int] | None = None) -> _Effects:
    every = tuple(range(reading.model.n_layers))
    chosen = indices("layer", layers, reading.model.n_layers, default=every)
    removed = _removals(reading, len(reading.prompt.ids) + len(aim.forced))
    return _lost(score_cuts(reading, aim, removed, sorted(set(aim.rows)), chosen))


def _relevance(reading: Reading, aim: Aim) -> _Effects:
    raw = relevance(reading, aim)
    words = np.asarray(raw.extras["question_relevance"])
    return words, float(raw.values.sum(dtype=np.float64)), float(words.sum())


def _by_gradient(compute: Callable[..., torch.Tensor], reading: Reading, aim: Aim, **options: Any) -> _Effects:
    """Numbers (N + W,) of image tokens and words, summed on each side."""
    values = compute(reading, aim, **options).double().cpu().numpy()
    image, words = np.split(values, [len(reading.prompt.image_positions)])
    return words, float(image.sum()), float(words.sum())


#: Methods whose numbers for words mean the same as for image tokens: all gradient methods, occlusion and knockout.
TEXT_METHODS: dict[str, Callable[..., _Effects]] = {
    "occlusion": _occlusion,
    "attention_knockout": _knockout,
    "relevance": _relevance,
    **{name: partial(_by_gradient, compute) for name, compute in BY_GRADIENT.items()},
}
