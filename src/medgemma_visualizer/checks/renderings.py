"""Does it matter how a DICOM file was made into a film? One question about two renderings of one radiograph.

Knows answers and agreement of maps; does not know DICOM, and draws nothing. Both maps explain the same target, that of
the first film, so that a flip alone does not turn a map round. The two films show the same pixels in other levels: an
answer or a map that moves with them hangs on the rendering, not on the patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from medgemma_visualizer.checks.robustness import DRIFT, answer_drift, compare_moved
from medgemma_visualizer.heatmaps.explain import as_made, explain_or_say_why
from medgemma_visualizer.heatmaps.targets import ScoreFunction, resolve
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.records import Answer, Heatmap, Score
from medgemma_visualizer.scores.agreement import DIRECTIONS
from medgemma_visualizer.scores.verdict import not_applicable

#: What is told of two maps of one film: do they rank the cells alike, and how far is their relevance apart?
TOLD = ("spearman", "js_divergence")


@dataclass(frozen=True)
class Rerendered:
    """What the model said of the same radiograph in another rendering.

    Attributes:
        answer: To the other film.
        heatmap: Of the other film; where there is none, it carries the reason. None where the first film has no map.
        flipped: Whether its label is another than that of the first film.
        scores: "p_yes_drift" (|Δp_yes| in [0, 1], lower is steadier), "spearman" ([-1, 1], higher) and "js_divergence"
            ([0, ln 2] nats, lower) of the two maps; or the reason why not.
    """

    answer: Answer
    heatmap: Heatmap | None = field(repr=False)
    flipped: bool
    scores: Mapping[str, Score]


def ask_rendered(
    reading: Reading,
    heatmap: Heatmap,
    film: Image.Image,
    target: str | ScoreFunction | None = None,
    **options: Any,
) -> Rerendered:
    """Asks the same question of another rendering: one more answer and one more map, nothing else.

    Args:
        reading: Of the first film.
        heatmap: Of the first film.
        film: The other rendering, RGB, of the same size.
        target: That of the first map.
        **options: Those of the first map.
    """
    other = replace(reading, image=film)
    mapped = _mapped(other, reading, heatmap, target, options)
    drift = answer_drift(reading.answer, other.answer)[DRIFT]
    flipped = other.answer.label != reading.answer.label
    return Rerendered(other.answer, mapped, flipped, {DRIFT: drift, **_agreement(heatmap, mapped)})


def _mapped(
    other: Reading, first: Reading, heatmap: Heatmap, target: str | ScoreFunction | None, options: dict[str, Any]
) -> Heatmap | None:
    if not heatmap.available:
        return None
    return explain_or_say_why(other, resolve(first, target), heatmap.method, as_made(heatmap, options))


def _agreement(first: Heatmap, other: Heatmap | None) -> dict[str, Score]:
    for heatmap in (first, other):
        if heatmap is None or not heatmap.available:
            why = "no map of one rendering" + ("" if heatmap is None else f": {'; '.join(heatmap.fallbacks.values())}")
            return {name: not_applicable(name, DIRECTIONS[name], why) for name in TOLD}
    assert other is not None
    scores, _ = compare_moved(first.map, other.map)
    return {name: scores[name] for name in TOLD}
