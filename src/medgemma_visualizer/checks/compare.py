"""Does the wording change the answer, or the map? Several prompts about one picture, read once.

Knows prompts, answers and agreement of maps; does not know where the wordings come from, nor how anything is drawn.
A number that says how far two maps differ means little alone, so three others stand beside it: the same prompt asked
twice (what is noise), the same prompt of other pictures, and another finding in the same picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from PIL import Image

from medgemma_visualizer.checks.context import text_of
from medgemma_visualizer.checks.prompts import Variation
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps.explain import explain_or_say_why
from medgemma_visualizer.heatmaps.methods import METHODS
from medgemma_visualizer.heatmaps.targets import ScoreFunction, resolve
from medgemma_visualizer.heatmaps.ways import Beginning, sharing_picture
from medgemma_visualizer.models.graphs import engine_of
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Answer, Heatmap, Score, Scores
from medgemma_visualizer.scores.agreement import DIRECTIONS, agreement_scores, consistency_score
from medgemma_visualizer.scores.verdict import not_applicable

#: Names of the context values, in the order in which they are read.
CONTEXT = {
    "same_prompt_twice": "the same prompt asked twice",
    "other_picture": "the same prompt, other pictures",
    "other_finding": "the same picture, another finding",
}


@dataclass(frozen=True)
class Asked:
    """One prompt about the picture.

    Attributes:
        label: For people; the prompt itself where it has no other name.
        question: The prompt, as asked.
        answer: What the model said.
        heatmap: Where it looked; not available where the method could not tell, and it carries the reason.
        strategy: How it was reworded, where that is known.
        expected: Whether the right answer is the first prompt's own or, for an opposite, the other one.
        scores: What the map is worth on its face, where that was asked.
        reading: Picture and prompt as read, for whoever asks more of them.
    """

    label: str
    question: str
    answer: Answer
    heatmap: Heatmap
    strategy: str = ""
    expected: Literal["same", "flipped"] = "same"
    scores: Scores = field(default_factory=Scores)
    reading: Reading | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Comparison:
    """Several prompts about one picture.

    Attributes:
        prompts: In the order given; the first is what the others are compared with.
        method: By which the maps were made.
        context: Name of `CONTEXT` -> Jensen-Shannon divergence of the first prompt's map from that; with a reason where
            there is none.
        seed: Of ties.
        seconds: Time from the read image to the last map.
    """

    prompts: tuple[Asked, ...]
    method: str
    context: dict[str, Score] = field(default_factory=dict)
    seed: int = 0
    seconds: float = 0.0

    @property
    def labels(self) -> list[str]:
        """What the model said to each prompt, as a label."""
        return [asked.answer.label for asked in self.prompts]

    @property
    def flips(self) -> list[bool]:
        """Whether each prompt got another label than the first one; for an opposite that is what should happen."""
        return [label != self.labels[0] for label in self.labels]

    @property
    def consistency(self) -> Score:
        """Share of prompts with the commonest label, in [1/n, 1]; opposites mean something else and are left out."""
        return consistency_score([one.answer.label for one in self.prompts if one.expected == "same"])

    @cached_property
    def agreement(self) -> dict[str, np.ndarray]:
        """Name of `agreement.DIRECTIONS` -> float64 (n, n), symmetric; NaN where a map is missing or cannot have it."""
        n = len(self.prompts)
        found = {name: np.full((n, n), np.nan) for name in DIRECTIONS}
        for one in range(n):
            for two in range(one, n):
                for name, score in self._pair(one, two).items():
                    if isinstance(score.value, float):
                        found[name][one, two] = found[name][two, one] = score.value
        return found

    @property
    def js(self) -> np.ndarray:
        """Jensen-Shannon divergence of every two maps in nats, float64 (n, n) in [0, ln 2]; NaN without a map."""
        return self.agreement["js_divergence"]

    def against_first(self, n: int) -> dict[str, Score]:
        """Every agreement of prompt n's map with the first one's, with verdict, chance, or the reason."""
        return self._pair(0, n)

    def difference(self, n: int) -> np.ndarray:
        """First map less map n, each scaled to sum 1: float64 (rows, cols); above 0 the first looked more.

        Raises:
            InputError: One of the two has no map.
        """
        first, other = (self.prompts[i].heatmap.map.astype(np.float64) for i in (0, n))
        return np.asarray(first / first.sum() - other / other.sum())

    def _pair(self, one: int, two: int) -> dict[str, Score]:
        first, other = self.prompts[one].heatmap, self.prompts[two].heatmap
        for n, heatmap in ((one, first), (two, other)):
            if not heatmap.available:
                reason = f"no map for prompt {n + 1}: {'; '.join(heatmap.fallbacks.values())}"
                return {name: not_applicable(name, direction, reason) for name, direction in DIRECTIONS.items()}
        return agreement_scores(first.map, other.map, self.seed)


def compare_prompts(
    reading: Reading,
    prompts: Sequence[str | Variation],
    *,
    method: str,
    target: str | ScoreFunction | None = None,
    labels: Sequence[str] | None = None,
    other_pictures: Sequence[Image.Image] = (),
    other_finding: str | None = None,
    context: bool = True,
    seed: int = 0,
    **options: Any,
) -> Comparison:
    """Asks several prompts about one picture: the vision tower runs once, the decoder reads the picture once.

    A method that looks into the vision tower or alters the picture runs the tower again for each of its maps.

    Args:
        reading: The picture with any question; only the picture and the answer's options are used.
        prompts: As a person would type them, or as `checks.prompts` makes them; two or more.
        method: A name of `METHODS`, for all maps.
        target: As in `targets.resolve`, resolved for each prompt on its own.
        labels: Names of the prompts, for people.
        other_pictures: For the context: the first prompt is asked of these too.
        other_finding: For the context: a question about another finding in the same picture.
        context: False leaves the context out.
        seed: Breaks ties among the hottest cells.
        **options: Passed to the method.

    Raises:
        InputError: Fewer than two prompts, other numbers of labels than prompts, an unknown method or option, or a
            target that one of the prompts lacks.
    """
    names = [text_of(prompt) for prompt in prompts] if labels is None else list(labels)
    if len(prompts) < 2 or len(names) != len(prompts):
        raise InputError(f"{len(prompts)} prompts with {len(names)} labels: give two prompts or more, one label each.")
    METHODS[method]
    start = time.perf_counter()
    first = text_of(prompts[0])
    with read_once(reading, method) as ask:
        steps = track(list(zip(names, prompts, strict=True)), total=len(prompts), what="prompts")
        asked = tuple(_asked(ask(text_of(prompt)), prompt, name, method, target, options) for name, prompt in steps)
        found: dict[str, Score] = {}
        if context:
            beside = _Context(asked[0].heatmap, method, target, options)
            found = {
                "same_prompt_twice": beside.against([ask(first)]),
                "other_picture": beside.against([_other(reading, image, first) for image in other_pictures]),
                "other_finding": beside.against([] if other_finding is None else [ask(other_finding)]),
            }
    return Comparison(asked, method, found, seed, time.perf_counter() - start)


@contextmanager
def read_once(reading: Reading, *methods: str) -> Iterator[Callable[..., Reading]]:
    """Lends a function that asks further prompts of a picture, each answered and explained from one reading of it.

    The function takes the question and the answer's options, those of the reading where not given.

    For methods by gradient the decoder's pass over the picture is kept with its graph: answer and map of a prompt come
    from one forward pass over its own words and one backward pass through everything.
    """
    by_gradient = any(METHODS[method].needs == "gradient" for method in methods)
    quick = engine_of(reading.model) is not None and "relevance" not in methods  # one captured pass a prompt
    if quick or not by_gradient or not reading.prompt.image_first:
        yield lambda question, options=reading.options: reading.asking(question, options)
        return
    beginning = Beginning(reading, attention="relevance" in methods)
    vars(reading)["prefix"] = beginning.prefix.detached()

    def ask(question: str, options: Sequence[str] = reading.options) -> Reading:
        other = reading.asking(question, options)
        beginning.answer(other)
        return other

    with sharing_picture(beginning):
        yield ask


def _asked(
    reading: Reading,
    prompt: str | Variation,
    label: str,
    method: str,
    target: str | ScoreFunction | None,
    options: dict[str, Any],
) -> Asked:
    start, end = reading.prompt.question
    question = reading.prompt.text[start:end]
    heatmap = explain_or_say_why(reading, resolve(reading, target), method, options)
    asked = Asked(label, question, reading.answer, heatmap, reading=reading)
    return asked if isinstance(prompt, str) else replace(asked, strategy=prompt.strategy, expected=prompt.expected)


def _other(reading: Reading, image: Image.Image, question: str) -> Reading:
    first = reading.prompt.image_first
    limit = reading.max_new_tokens
    return read(reading.model, image, question, options=reading.options, image_first=first, max_new_tokens=limit)


@dataclass(frozen=True)
class _Context:
    """What a divergence of the first prompt's map is read beside."""

    first: Heatmap
    method: str
    target: str | ScoreFunction | None
    options: dict[str, Any]

    def against(self, others: Sequence[Reading]) -> Score:
        """Mean divergence from the maps of other readings; those without a map are left out and counted."""
        if not self.first.available:
            return not_applicable("js_divergence", "lower", "the first prompt has no map", n=0)
        if not others:
            return not_applicable("js_divergence", "lower", "nothing was given to compare with", n=0)
        maps = [_asked(other, "", "", self.method, self.target, self.options).heatmap for other in others]
        values = [agreement_scores(self.first.map, one.map)["js_divergence"].value for one in maps if one.available]
        numbers = [value for value in values if isinstance(value, float)]
        left = len(others) - len(numbers)
        reason = f"{left} of {len(others)} without a map" if left else ""
        if not numbers:
            return not_applicable("js_divergence", "lower", reason, n=0)
        return Score("js_divergence", float(np.mean(numbers)), "lower", n=len(numbers), reason=reason)
