"""Everything that is asked of one map, in one go: is it faithful, does it depend on the model and on the question, do
the image tokens lie where it paints them?

Knows which checks there are and in which order; what each of them does is in its own file, what they mean together in
`trust`. A check that cannot be made leaves its reason and never stops the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from medgemma_visualizer.checks.faithfulness import Faithfulness, faithfulness
from medgemma_visualizer.checks.imputers import IMPUTERS
from medgemma_visualizer.checks.random_target import RandomTarget, random_target
from medgemma_visualizer.checks.randomisation import MIN_SEEDS, Randomisation, randomisation, signed_map
from medgemma_visualizer.checks.token_order import QuadrantTest, TokenOrder, quadrant_test, token_order
from medgemma_visualizer.checks.trust import Place, Trust, judge
from medgemma_visualizer.checks.weights import last_of_each_part
from medgemma_visualizer.errors import UnavailableError, VisualizerError, unknown_name
from medgemma_visualizer.heatmaps.explain import as_made
from medgemma_visualizer.heatmaps.probing import BASELINES, Space
from medgemma_visualizer.heatmaps.targets import ScoreFunction, resolve
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.records import Answer, Case, Heatmap, Scores
from medgemma_visualizer.settings import DEFAULT_IMPUTERS

T = TypeVar("T")

#: What a map can be asked; attributes of `Check`.
PARTS = ("faithfulness", "randomisation", "random_target", "token_order", "quadrants")
#: Those of the model rather than of this map: whatever stops them is a reason.
OF_THE_MODEL = ("token_order", "quadrants")


@dataclass(frozen=True)
class Check:
    """One map with everything that was asked of it. What is None was not asked, or `failures` says why it is missing.

    Attributes:
        case: What was asked.
        answer: What the model said.
        heatmap: The map.
        faithfulness: What the model says of the picture without the map's top cells, beside random maps.
        randomisation: The map while the model forgets.
        random_target: The map for the opposite answer and for another question.
        token_order: Whether each image token is that of its cell.
        quadrants: The specification's test with a bright quadrant; reported, not required.
        failures: Name of an attribute above -> why there is no result.
        trust: The verdict on the map, with its reasons.
        seconds: Time spent on the checks.
    """

    case: Case
    answer: Answer
    heatmap: Heatmap
    faithfulness: Faithfulness | None
    randomisation: Randomisation | None
    random_target: RandomTarget | None
    token_order: TokenOrder | None
    quadrants: QuadrantTest | None
    failures: Mapping[str, str]
    trust: Trust
    seconds: float

    @property
    def verdict(self) -> str:
        """The comparison with random maps in one plain sentence, with its 95 % interval."""
        if self.faithfulness is not None:
            return f"This map is {self.faithfulness.verdict}."
        return f"This map was not compared with random ones: {self.failures.get('faithfulness', 'there is none')}."

    @cached_property
    def scores(self) -> Scores:
        """Every number of every check; faithfulness by "name:imputer"."""
        found = Scores()
        for part in (self.faithfulness, self.randomisation, self.random_target):
            found |= {} if part is None else part.scores
        for one in (self.token_order, self.quadrants):
            if one is not None:
                found[one.score.name] = one.score
        return found


@dataclass
class _Asked:
    """Results so far, and why others are missing."""

    failures: dict[str, str] = field(default_factory=dict)

    def __call__(self, name: str, ask: Callable[[], T], refused: type[VisualizerError] = UnavailableError) -> T | None:
        """The result, or None with the reason noted."""
        self.failures.pop(name, None)
        try:
            return ask()
        except refused as error:
            self.failures[name] = str(error)
            return None


def check_map(
    reading: Reading,
    case: Case,
    answer: Answer,
    heatmap: Heatmap,
    target: str | ScoreFunction | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    imputers: Sequence[str] = DEFAULT_IMPUTERS,
    space: Space = "pixels",
    steps: int = 16,
    controls: int = 8,
    seed: int = 0,
    seeds: int = MIN_SEEDS,
    faithful: bool = True,
    sanity: bool = True,
    full_sanity: bool = False,
    known: Check | None = None,
    place: Place | None = None,
    reference: str = "",
    against: Sequence[str] = (),
) -> Check:
    """Asks everything of a map that has been made already.

    Args:
        reading: The picture and question behind the map.
        case: What was asked.
        answer: What the model said.
        heatmap: The map; where it is not available nothing is asked and nothing is trusted.
        target: As the map was made for.
        options: Of the method, as the map was made with.
        imputers, space, steps, controls, seed: As in `faithfulness`.
        seeds: Random models; a verdict needs 5.
        faithful: Whether to ask what the model says without the map's top cells.
        sanity: Whether to ask about random weights, random targets and the order of the image tokens.
        full_sanity: A map after every block of the cascade, not only where a part of the model ends; the verdict,
            which rests on its end, is the same.
        known: What was found about this very map before; it is kept and not asked again.
        place: The method's place in the league table of this very model.
        reference: The method that the league compares with.
        against: What speaks against the answer itself.

    Raises:
        InputError: Names or numbers that do not fit.
    """
    start = time.perf_counter()
    refuse_unknown(imputers, space)
    found: dict[str, Any] = {name: None if known is None else getattr(known, name) for name in PARTS}
    asked, method = _Asked({} if known is None else dict(known.failures)), heatmap.method
    asks: dict[str, Callable[[], Any]] = {}
    if heatmap.available:
        aim, own = resolve(reading, target), as_made(heatmap, options or {})
        chosen: dict[str, Any] = {"imputers": imputers, "space": space, "steps": steps, "controls": controls}
        draws = {"seeds": seeds, "after": None if full_sanity else last_of_each_part(reading.model), **own}
        asks |= {"faithfulness": lambda: faithfulness(reading, aim, signed_map(heatmap), seed=seed, **chosen)}
        asks |= {"randomisation": lambda: randomisation(reading, aim, method, **draws)}
        asks |= {"random_target": lambda: random_target(reading, method, target=target, **own)}
        asks |= {"token_order": lambda: token_order(reading.model, seed=seed)}
        asks |= {"quadrants": lambda: quadrant_test(reading.model, method, **own)}
    for name, ask in asks.items():
        wanted = faithful if name == "faithfulness" else sanity
        if wanted and found[name] is None:
            found[name] = asked(name, ask, VisualizerError if name in OF_THE_MODEL else UnavailableError)
    told = asked.failures
    judged = {name: found[name] for name in PARTS if name != "quadrants"}
    trust = judge(heatmap, **judged, place=place, failures=told, against=against, reference=reference)
    spent = time.perf_counter() - start + (0.0 if known is None else known.seconds)
    return Check(case, answer, heatmap, **found, failures=told, trust=trust, seconds=spent)


def refuse_unknown(imputers: Sequence[str], space: str) -> None:
    """Raises before any work where a name is unknown.

    Raises:
        InputError: No such imputer or space.
    """
    for name in imputers:
        if name not in IMPUTERS:
            raise unknown_name("imputer", name, IMPUTERS)
    if space not in BASELINES:
        raise unknown_name("space", space, BASELINES)
