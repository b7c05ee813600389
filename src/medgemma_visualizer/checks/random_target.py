"""Does a map depend on what was asked? The opposite answer, and another question about the same picture.

Knows two targets and how alike their maps are; does not know which of the maps is right. Whether a method depends on
the text is measured here, never taken from its label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from medgemma_visualizer.checks.randomisation import signed_map, similarities
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.explain import explain_aim
from medgemma_visualizer.heatmaps.methods import METHODS
from medgemma_visualizer.heatmaps.targets import Aim, ScoreFunction, flipped, resolve
from medgemma_visualizer.models.prompt import render
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.records import Score, Scores
from medgemma_visualizer.scores.verdict import not_applicable

#: Asked in place of a question that does not contain the word before.
OTHER_QUESTIONS = (("pneumothorax", "Is there a pneumothorax?"), ("effusion", "Is there a pleural effusion?"))
OPPOSITE, OTHER = "random_target_opposite", "random_target_other"
#: Share of the largest value under which a difference is rounding: a map computed twice may differ by that.
ROUNDING = 1e-5


@dataclass(frozen=True)
class RandomTarget:
    """A method's maps for one picture and different targets.

    Attributes:
        method: The method, by name.
        question: What was asked.
        other_question: What was asked instead.
        opposite: (3,) similarities of the maps for a target and for its opposite, in the order of
            `randomisation.SIMILARITIES`: 1 for a method that is blind to it; a method that follows the sign has
            −1 first. None where one of them has no map.
        other: (3,) similarities of the maps for the two questions, both scored towards the same answer; None as above.
        target_blind: Whether the opposite target has the same map; None where it has none.
        text_independent: Whether the other question has the same map; None where it has none.
        declared_text_independent: What the method's label says.
        reasons: Why a map is missing, by the name of the comparison.
    """

    method: str
    question: str
    other_question: str
    opposite: tuple[float, ...] | None
    other: tuple[float, ...] | None
    target_blind: bool | None
    text_independent: bool | None
    declared_text_independent: bool
    reasons: dict[str, str]

    @property
    def label_holds(self) -> bool | None:
        """Whether the method's label is true; None where there was nothing to compare."""
        return None if self.text_independent is None else self.text_independent == self.declared_text_independent

    @cached_property
    def scores(self) -> Scores:
        """`random_target_opposite` and `random_target_other` (Spearman, lower is better) and `text_dependence`."""
        blind = "target-blind: the map is the same for the opposite answer" if self.target_blind else ""
        same = "the map is the same for another question" if self.text_independent else ""
        made = (
            self._similarity(OPPOSITE, self.opposite, blind),
            self._similarity(OTHER, self.other, same),
            self._label(),
        )
        return Scores({score.name: score for score in made})

    def _similarity(self, name: str, values: tuple[float, ...] | None, blind: str) -> Score:
        if values is None:
            return not_applicable(name, "lower", self.reasons[name])
        return Score(name, values[0], "lower", verdict="poor" if blind else "", reason=blind)

    def _label(self) -> Score:
        name = "text_dependence"
        if self.text_independent is None:
            return not_applicable(name, "none", self.reasons[OTHER])
        names = {True: "text-independent", False: "text-dependent"}
        declared = names[self.declared_text_independent]
        reason = "as the method declares" if self.label_holds else f"but the method declares itself {declared}"
        return Score(name, names[self.text_independent], verdict="good" if self.label_holds else "poor", reason=reason)


def random_target(
    reading: Reading,
    method: str,
    *,
    target: str | ScoreFunction | None = None,
    other_question: str | None = None,
    **options: Any,
) -> RandomTarget:
    """Maps of one picture for a target, for its opposite, and for the same target of another question.

    Args:
        method: A name of `METHODS`; "auto" is the method that "auto" chooses for the question as asked.
        target: As in `targets.resolve`; where the other question lacks it, such as a word, the two are not compared.
        other_question: Asked about the same picture; where None, about a finding that the question does not name.
        **options: Passed to the method.

    Returns:
        Similarities in [−1, 1], lower is better, 1 for methods that are blind to the target. No chance level: the maps
        of two questions may rightly share a part. Source: Adebayo 2018, data randomisation, without a new training.

    Raises:
        InputError: Unknown method, or the other question is the same.
        UnavailableError: The question as asked has no map.
    """
    aim, asked = resolve(reading, target), _question(reading)
    instead = _other_question(asked) if other_question is None else other_question.strip()
    if instead == asked:
        raise InputError(f"The other question, {instead!r}, is the same. Ask about another finding.")
    original = explain_aim(reading, aim, method, **options)
    signed_map(original)  # an unavailable map is the caller's to hear about
    other = _asked(reading, instead)
    aims = {OPPOSITE: lambda: (reading, flipped(aim)), OTHER: lambda: (other, _resolved(other, target, aim))}
    maps, reasons = _maps(aims, original.method, options)
    compared = {name: _compared(signed_map(original), maps.get(name), reading.model.dtype) for name in aims}
    return RandomTarget(
        method=original.method,
        question=asked,
        other_question=instead,
        opposite=compared[OPPOSITE][0],
        other=compared[OTHER][0],
        target_blind=compared[OPPOSITE][1],
        text_independent=compared[OTHER][1],
        declared_text_independent=not METHODS[original.method].text_dependent,
        reasons=reasons,
    )


def _resolved(other: Reading, target: str | ScoreFunction | None, aim: Aim) -> Aim:
    """The target in the other question, whose words need not be those of the first.

    Raises:
        UnavailableError: The target is not there.
    """
    try:
        return _towards_the_same(aim, resolve(other, target))
    except InputError as error:
        raise UnavailableError(f"the target belongs to the question as asked ({error})") from error


def _maps(
    aims: Mapping[str, Callable[[], tuple[Reading, Aim]]], method: str, options: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Name -> map, and name -> why there is none."""
    maps, reasons = {}, {}
    for name, wanted in aims.items():
        try:
            reading, aim = wanted()
            maps[name] = signed_map(explain_aim(reading, aim, method, **options))
        except UnavailableError as error:
            reasons[name] = f"no map to compare with: {error}"
    return maps, reasons


def _compared(
    original: np.ndarray, other: np.ndarray | None, dtype: torch.dtype
) -> tuple[tuple[float, ...] | None, bool | None]:
    """Similarities, and whether the two maps are the same up to rounding."""
    if other is None:
        return None, None
    tolerance = max(ROUNDING, 4 * torch.finfo(dtype).eps) * np.abs(original).max()
    return similarities(original, other), bool(np.abs(original - other).max() <= tolerance)


def _towards_the_same(aim: Aim, other: Aim) -> Aim:
    """The other question's contrast with the polarity of the first: evidence for yes is compared with such."""
    turned = aim.target.kind == "contrast" and aim.target.text != other.target.text
    return flipped(other) if turned else other


def _question(reading: Reading) -> str:
    start, end = reading.prompt.question
    return reading.prompt.text[start:end]


def _other_question(asked: str) -> str:
    others = (question for word, question in OTHER_QUESTIONS if word not in asked.casefold())
    return next(others, OTHER_QUESTIONS[0][1])


def _asked(reading: Reading, question: str) -> Reading:
    """Another question about the same picture, whose tokens need not be computed again."""
    prompt = render(reading.model, question, image_first=reading.prompt.image_first)
    other = replace(reading, prompt=prompt)
    kept = {name: getattr(reading, name) for name in ("pixel_values", "image_tokens")}
    vars(other).update(kept)  # where cached_property keeps its results
    return other
