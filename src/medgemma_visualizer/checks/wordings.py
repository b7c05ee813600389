"""Many cases, each asked in many wordings: what the model said, and how far its map moved.

Knows how to ask; does not know what the numbers mean together (`sensitivity.py` does). Wordings belong together by
picture and question, never by the question's text alone: the same words about two films are two questions.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from PIL import Image

from medgemma_visualizer.checks.compare import read_once
from medgemma_visualizer.checks.prompts import FAMILIES, Variation, variations
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.heatmaps.explain import explain_or_say_why
from medgemma_visualizer.heatmaps.methods import METHODS
from medgemma_visualizer.heatmaps.targets import ScoreFunction, resolve
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.answer import yes_no
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Answer, Case, Heatmap
from medgemma_visualizer.scores.agreement import js_divergence

#: How wordings of a case's question are found; the number is the case's place, for seeds.
Wordings = Callable[[Case, int], Sequence[Variation]]
#: Digest of the picture, and question.
Group = tuple[str, str]
_OTHER = {"yes": "no", "no": "yes"}


@dataclass(frozen=True)
class Said:
    """What the model said to one question.

    Attributes:
        label: As of `Answer`.
        p_yes: None where yes and no do not hold half of the probability.
    """

    label: str
    p_yes: float | None = None


@dataclass(frozen=True)
class Wording:
    """One wording of one question about one picture, beside the question itself.

    Attributes:
        picture: Digest of the pixels.
        question: As the case has it; with `picture` it names the group.
        case_id: Of the case.
        patient: Whose picture it is; the picture itself where no patient is named.
        text: The wording.
        strategy: How it was reworded.
        expected: Whether the right answer is the question's own or, for an opposite, the other one.
        base: What the model said to the question.
        said: What it said to the wording.
        truth: Of the question, where known.
        js: Jensen-Shannon divergence of the wording's map from the question's, nats in [0, ln 2], both for what the
            model answered to the question; None without a map.
        js_answered: The same with each map for its own answer.
        reason: Why there is no divergence.
        maps: The two maps behind `js`, (rows, cols) each, the question's own first; None without a map.
    """

    picture: str
    question: str
    case_id: str
    patient: Hashable
    text: str
    strategy: str
    expected: Literal["same", "flipped"]
    base: Said
    said: Said
    truth: str | None = None
    js: float | None = None
    js_answered: float | None = None
    reason: str = ""
    maps: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False, compare=False)

    @property
    def group(self) -> Group:
        """Picture and question."""
        return self.picture, self.question

    @property
    def flipped(self) -> bool:
        """Whether the model said something else than to the question."""
        return self.said.label != self.base.label

    @property
    def right(self) -> bool | None:
        """Whether the answer is true; None where the truth is not known."""
        truth = None if self.truth is None else self.truth.casefold()
        if truth is None or (self.expected == "flipped" and truth not in _OTHER):
            return None
        return self.said.label.casefold() == (_OTHER[truth] if self.expected == "flipped" else truth)

    @property
    def base_right(self) -> bool | None:
        """Whether the answer to the question itself is true."""
        return None if self.truth is None else self.base.label.casefold() == self.truth.casefold()

    @property
    def drift(self) -> float | None:
        """|Δ p_yes| in [0, 1]; for an opposite, from 1 − p_yes of the question."""
        if self.said.p_yes is None or self.base.p_yes is None:
            return None
        base = 1 - self.base.p_yes if self.expected == "flipped" else self.base.p_yes
        return abs(self.said.p_yes - base)


@dataclass(frozen=True)
class Facts:
    """What is known of a group.

    Attributes:
        patient: As of `Wording`.
        finding: That the question asks about; None where unknown.
    """

    patient: Hashable
    finding: str | None = None


@dataclass(frozen=True)
class Asked:
    """Everything that was asked of a set.

    Attributes:
        wordings: In the order of the cases.
        maps: Group -> the question's own map (rows, cols), for context.
        facts: Group -> what is known of it.
        left_out: Reason -> cases that were left out for it.
        method: Of the maps.
    """

    wordings: tuple[Wording, ...]
    maps: Mapping[Group, np.ndarray] = field(default_factory=dict)
    facts: Mapping[Group, Facts] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    method: str = ""


def by_rules(number: int, seed: int = 0) -> Wordings:
    """So many rewordings of each question by every strategy in turn, opposites included; other ones for each case."""
    return lambda case, place: variations(case.question, strategies=FAMILIES, n=number, seed=seed + place)


def from_file(groups: Mapping[str, Sequence[Variation]]) -> Wordings:
    """The wordings that a file holds of each question (`checks.prompts.read_variations`).

    Raises (when asked):
        InputError: It has none of the case's question.
    """

    def found(case: Case, _: int) -> Sequence[Variation]:
        if case.question not in groups:
            raise InputError("the file has no wordings of the question")
        return groups[case.question]

    return found


def ask_all(model: Model, cases: Sequence[Case], wordings: Wordings, *, method: str, max_new_tokens: int = 50) -> Asked:
    """Asks every case's question and its wordings; each picture is read once.

    A case that cannot be asked, has no wordings, or repeats picture and question of an earlier one is left out and
    counted with the reason.

    Args:
        method: A name of `METHODS`, for all maps.

    Raises:
        InputError: No such method, or no case could be asked.
    """
    METHODS[method]
    left_out: Counter[str] = Counter()
    groups: dict[Group, _Group] = {}
    pictures = _by_picture(cases, left_out)
    steps = track(
        pictures, total=sum(len(one.cases) for one in pictures), what="cases", weights=lambda one: len(one.cases)
    )
    for film in steps:
        for group in _ask_about(model, film, wordings, method, max_new_tokens, left_out):
            groups[film.digest, group.case.question] = group
    if not groups:
        reasons = "; ".join(left_out) or "there are no cases"
        raise InputError(f"No case could be asked in other words: {reasons}. Give other cases or wordings.")
    return Asked(
        wordings=tuple(row for group in groups.values() for row in group.rows),
        maps={key: group.base.map for key, group in groups.items() if group.base.available},
        facts={key: Facts(_owner(group.case, key[0]), group.case.finding) for key, group in groups.items()},
        left_out=dict(left_out.most_common()),
        method=method,
    )


def digest_of(image: Image.Image) -> str:
    """What tells pictures apart: the first sixteen hex digits of the SHA-256 of size and pixels."""
    return hashlib.sha256(repr(image.size).encode() + np.asarray(image).tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class _Film:
    """A picture and the cases that ask about it, each with its place in the set."""

    digest: str
    image: Image.Image
    cases: dict[str, tuple[int, Case]]


@dataclass(frozen=True)
class _Group:
    """A case, the map of its own question, and its wordings."""

    case: Case
    base: Heatmap
    rows: list[Wording]


def _by_picture(cases: Sequence[Case], left_out: Counter[str]) -> list[_Film]:
    """Cases of one picture together, in the order of their first; a question about a picture is asked once."""
    films: dict[str, _Film] = {}
    for place, case in enumerate(cases):
        try:
            image = picture(case)
        except VisualizerError as error:
            left_out[str(error)] += 1
            continue
        digest = digest_of(image)
        own = films.setdefault(digest, _Film(digest, image, {})).cases
        if case.question in own:
            left_out["the same picture and question as an earlier case"] += 1
        own.setdefault(case.question, (place, case))
    return list(films.values())


def _ask_about(
    model: Model, film: _Film, wordings: Wordings, method: str, limit: int, left_out: Counter[str]
) -> Iterator[_Group]:
    """Every case of a picture, which is read once."""
    reading = read(model, film.image, next(iter(film.cases)), max_new_tokens=limit)
    with read_once(reading, method) as ask:
        for place, case in film.cases.values():
            try:
                yield _ask_case(ask, film.digest, case, wordings(case, place), method)
            except VisualizerError as error:
                left_out[str(error)] += 1


def _ask_case(
    ask: Callable[..., Reading], digest: str, case: Case, wordings: Sequence[Variation], method: str
) -> _Group:
    own = ask(case.question, case.options)
    aim = held(own)
    base = explain_or_say_why(own, resolve(own, aim), method, {})
    rows = []
    for one in wordings:
        other = ask(one.text, case.options)
        row = Wording(
            picture=digest,
            question=case.question,
            case_id=case.id,
            patient=_owner(case, digest),
            text=one.text,
            strategy=one.strategy,
            expected=one.expected,
            base=_said(own.answer),
            said=_said(other.answer),
            truth=case.truth,
        )
        rows.append(_with_maps(row, own, base, other, method))
    return _Group(case, base, rows)


def _with_maps(row: Wording, own: Reading, base: Heatmap, other: Reading, method: str) -> Wording:
    """With both divergences; where the answer is the expected one, the two targets are the same."""
    if not base.available:
        return replace(row, reason=f"the question itself: {'; '.join(base.fallbacks.values())}")
    turned = row.expected == "flipped"
    same = explain_or_say_why(other, resolve(other, held(own, turned)), method, {})
    if not same.available:
        return replace(row, reason="; ".join(same.fallbacks.values()))
    js = js_divergence(base.map, same.map)
    row = replace(row, maps=(base.map, same.map))
    if row.said.label == (_OTHER.get(row.base.label) if turned else row.base.label):
        return replace(row, js=js, js_answered=js)
    answered = explain_or_say_why(other, resolve(other), method, {})
    return replace(row, js=js, js_answered=js_divergence(base.map, answered.map) if answered.available else None)


def held(reading: Reading, turned: bool = False) -> str | ScoreFunction:
    """The target that all wordings of a question share: what the model answered to the question itself.

    Each wording's own answer would be another target as soon as the answer flips, and maps would differ for that alone.

    Args:
        reading: Of the question.
        turned: The other way round, for an opposite.
    """
    label = reading.answer.label
    if label not in _OTHER or not (reading.model.yes_ids and reading.model.no_ids):
        return f"phrase:{reading.answer.text}"
    sign = 1 if (label == "yes") != turned else -1

    def yes_against_no(logits: torch.Tensor) -> torch.Tensor:
        return sign * yes_no(reading.model, logits[:, 0])[2]

    yes_against_no.__name__ = "yes against no" if sign > 0 else "no against yes"
    return yes_against_no


def _said(answer: Answer) -> Said:
    sure = answer.p_yes is not None and (answer.p_yes_no_mass or 0) >= 0.5
    return Said(answer.label, answer.p_yes if sure else None)


def _owner(case: Case, digest: str) -> Hashable:
    return case.patient_id or digest
