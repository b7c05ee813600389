"""May this map be believed? One word and its reasons, by plain rules from what was measured.

Knows the results of checks and a method's place in the league table of the same model; measures nothing itself. The
worst finding decides:

    do not trust   there is no map; or something speaks against the answer itself; or the map outlives the model's
                   weights; or image tokens are not where the map paints them; or the method's label about its
                   dependence on the text is false; or the map is worse than random; or the method fails the sanity
                   check in the league table.
    with care      a check was not asked or could not be made, or is undecided; the map is not distinguishable from
                   random; it is the same for any question or for the opposite answer; the model has no league table;
                   or there the method beats neither random maps nor the specification's default.
    trust          none of these.

"trust" says that nothing that was tried speaks against the map. It does not say that the answer is right.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from medgemma_visualizer.checks.faithfulness import Faithfulness
from medgemma_visualizer.checks.random_target import RandomTarget
from medgemma_visualizer.checks.randomisation import PREFIX, Randomisation
from medgemma_visualizer.checks.token_order import TokenOrder
from medgemma_visualizer.records import Heatmap, Score

Word = Literal["trust", "with care", "do not trust"]
Finding = tuple[Word, str]

#: From best to worst.
WORDS: tuple[Word, ...] = ("trust", "with care", "do not trust")
TRUST, CARE, DISTRUST = WORDS

SRG = "srg:"
UNCHECKED: Finding = (CARE, "this very map was not checked: medgemma-visualizer check does")


class Difference(Protocol):
    """A mean over cases with its 95 % interval, None for one patient."""

    @property
    def interval(self) -> tuple[float, float] | None: ...


class Sanity(Protocol):
    """What the league table says of a method's dependence on weights."""

    @property
    def verdict(self) -> str: ...


class Place(Protocol):
    """A method's line in the league table of the model that made the map."""

    @property
    def method(self) -> str: ...

    @property
    def rank(self) -> int: ...

    @property
    def scores(self) -> Mapping[str, Score]: ...

    @property
    def differences(self) -> Mapping[str, Difference]: ...

    @property
    def sanity(self) -> Sanity: ...


@dataclass(frozen=True)
class Trust:
    """The verdict on one map.

    Attributes:
        word: "trust", "with care" or "do not trust".
        reasons: Why, the gravest first; for "trust", what was passed.
    """

    word: Word
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.word}: {'; '.join(self.reasons)}"


def judge(
    heatmap: Heatmap,
    faithfulness: Faithfulness | None = None,
    randomisation: Randomisation | None = None,
    random_target: RandomTarget | None = None,
    token_order: TokenOrder | None = None,
    place: Place | None = None,
    *,
    failures: Mapping[str, str] | None = None,
    against: Sequence[str] = (),
    reference: str = "",
) -> Trust:
    """The word that the rules above give, with every reason.

    Args:
        heatmap: The map.
        faithfulness: Of this very map; None where it was not asked, as with all that follows.
        randomisation: Of its method, for the same picture and target.
        random_target: The same.
        token_order: Of the model.
        place: Of its method in the league table of this very model, never of another.
        failures: "faithfulness", "randomisation", "random_target" or "token_order" -> why there is no result.
        against: What speaks against the answer itself.
        reference: The method that the league compares with, which need not beat itself.
    """
    if not heatmap.available:
        return Trust(DISTRUST, ("no explanation is available", *against))
    told = failures or {}
    checks: list[Finding] = [
        *_of_randomisation(randomisation, told),
        *_of_token_order(token_order, told),
        *_of_target(random_target, told),
        *_of_faithfulness(faithfulness, told),
    ]
    asked = (faithfulness, randomisation, random_target, token_order)
    if not told and all(one is None for one in asked):
        checks = [UNCHECKED]
    findings = [*((DISTRUST, reason) for reason in against), *checks, *_of_league(heatmap, place, reference)]
    word = max((found for found, _ in findings), key=WORDS.index)
    wanted = [reason for found, reason in sorted(findings, key=lambda f: -WORDS.index(f[0])) if found != TRUST]
    return Trust(word, tuple(wanted or [reason for _, reason in findings]))


def _missing(check: str, words: str, told: Mapping[str, str]) -> Finding:
    return CARE, f"{words} could not be checked: {told[check]}" if check in told else f"{words} was not checked"


def _of_randomisation(found: Randomisation | None, told: Mapping[str, str]) -> Iterator[Finding]:
    if found is None:
        yield _missing("randomisation", "dependence on the weights", told)
        return
    score = found.scores[f"{PREFIX[found.order]}_spearman"]
    if found.verdict == "fail":
        yield DISTRUST, f"the map stays when all weights are random (mean |ρ| {score.value:.2f})"
    elif found.verdict == "undecided":
        yield CARE, f"random weights decide nothing: {score.reason}"
    else:
        yield TRUST, "the map vanishes when all weights are random"


def _of_token_order(found: TokenOrder | None, told: Mapping[str, str]) -> Iterator[Finding]:
    if found is None:
        yield _missing("token_order", "the order of the image tokens", told)
    elif found.misses:
        cells = found.answers.size
        yield (
            DISTRUST,
            f"{len(found.misses)} of {cells} image tokens do not belong to the cell where the map paints them",
        )
    else:
        yield TRUST, "every image token belongs to its cell"


def _of_target(found: RandomTarget | None, told: Mapping[str, str]) -> Iterator[Finding]:
    if found is None:
        yield _missing("random_target", "dependence on the target", told)
        return
    if found.label_holds is False:
        measured = "text-independent" if found.text_independent else "text-dependent"
        yield DISTRUST, f"the map is {measured} and its method declares the opposite"
    if found.text_independent is None:
        yield CARE, f"dependence on the question was not compared: {found.scores['text_dependence'].reason}"
    elif found.text_independent:
        yield CARE, "the map is the same for any question, so it explains no answer"
    elif found.target_blind:
        yield CARE, "the map is the same for the opposite answer"
    else:
        yield TRUST, "another question has another map"


def _of_faithfulness(found: Faithfulness | None, told: Mapping[str, str]) -> Iterator[Finding]:
    if found is None:
        yield _missing("faithfulness", "faithfulness", told)
        return
    words: dict[str, Word] = {"worse": DISTRUST, "none": CARE, "better": TRUST}
    undecided, _, _ = found.verdict.partition(":")  # the numbers stand in the verdict itself
    decided = f"{found.standing} than random under {' and '.join(found.prior)}"
    yield words[found.standing], undecided if found.standing == "none" else decided


def _of_league(heatmap: Heatmap, place: Place | None, reference: str) -> Iterator[Finding]:
    if place is None:
        command = f"medgemma-visualizer trust --model {shlex.quote(heatmap.model)}"
        yield CARE, f"no league table of this model knows {heatmap.method}; make one: {command}"
        return
    if place.sanity.verdict == "fail":
        yield DISTRUST, "the method fails the sanity check in the league table of this model"
    compared = _against_chance(place.scores)
    lost = [name for name, score in compared.items() if not _above(score)]
    if lost or not compared:
        yield CARE, f"in the league table of this model it does not beat random maps ({', '.join(lost) or 'no number'})"
    elif place.method != reference and not _beats(place.differences):
        yield CARE, "in the league table of this model it does not beat the specification's default"
    else:
        yield TRUST, f"place {place.rank} in the league table of this model"


def _against_chance(scores: Mapping[str, Score]) -> Mapping[str, Score]:
    """SRG under each imputer; every other number with a chance level where the league holds no SRG."""
    told = {name: score for name, score in scores.items() if score.chance is not None and score.value is not None}
    return {name: score for name, score in told.items() if name.startswith(SRG)} or told


def _above(score: Score) -> bool:
    return score.interval is not None and score.chance is not None and score.interval[0] > score.chance


def _beats(differences: Mapping[str, Difference]) -> bool:
    """Better by one number at least and worse by none, each with its interval on one side of 0."""
    bounds = [one.interval for one in differences.values() if one.interval is not None]
    return any(low > 0 for low, _ in bounds) and not any(high < 0 for _, high in bounds)
