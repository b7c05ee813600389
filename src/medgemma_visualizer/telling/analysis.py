"""An answer with its map and scores, as plain JSON values. No path and no name of a file travels in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from medgemma_visualizer.records import Score

if TYPE_CHECKING:
    from medgemma_visualizer.heatmaps import TextSide
    from medgemma_visualizer.verbs import Analysis


def document(analysis: Analysis, further: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The result as plain JSON values.

    Args:
        further: Key -> what else stands in it.
    """
    case, said, heatmap = analysis.case, analysis.answer, analysis.heatmap
    return {
        "case": {
            "id": case.id,
            "question": case.question,
            "options": list(case.options),
            "truth": case.truth,
            "correct": analysis.correct,
            "source": case.source,
            "simulated": case.simulated,
            "rendering": case.rendering,
            "image_sha256": analysis.image_digest,
        },
        "answer": {**asdict(said), "tokens": [asdict(token) for token in said.tokens]},
        "heatmap": {
            **json.loads(json.dumps(heatmap.about(), default=list)),
            "grid": None if heatmap.grid is None else heatmap.grid.tolist(),
        },
        "scores": {name: score_as_document(score) for name, score in analysis.scores.items()},
        "model": analysis.model,
        "versions": dict(heatmap.versions),
        "seconds": round(analysis.seconds, 3),
        **(further or {}),
    }


def score_as_document(score: Score) -> dict[str, Any]:
    """value, chance, direction and verdict always; the rest where it says something."""
    always = {name: getattr(score, name) for name in ("value", "chance", "direction", "verdict")}
    optional = {name: getattr(score, name) for name in ("threshold", "interval", "reason") if getattr(score, name)}
    return always | optional


def words_as_document(side: TextSide) -> dict[str, Any]:
    """What the question's words weigh beside the picture, as plain JSON values."""
    tokens = [asdict(word) | {"value": float(value)} for word, value in zip(side.words, side.values, strict=True)]
    for token in tokens:
        del token["logprob"]  # words of a prompt are given, not predicted
    names = ("method", "requested", "fallbacks", "signed", "image_share", "image_effect", "words_effect")
    told = {name: getattr(side, name) for name in (*names, "score", "prior")}
    return told | {"left_out": list(side.left_out), "target": asdict(side.target), "tokens": tokens}


def value_of(score: Score) -> str:
    """A score's value as words: three decimals, or that it does not apply."""
    return f"{score.value:z.3f}" if isinstance(score.value, float) else str(score.value or "not applicable")


def chance_of(score: Score) -> str:
    """Its chance level as words; "" where there is none."""
    return "" if score.chance is None else f"{score.chance:z.3f}"


def target_of(score: Score) -> str:
    """The rule that makes it good, as words: the threshold, and on which side of chance it must lie; "" without one."""
    if score.direction == "none":
        return ""
    higher = score.direction == "higher"
    bound = "" if score.threshold is None else f"{'≥' if higher else '≤'} {score.threshold:g}"
    side = "" if score.chance is None else f"{'above' if higher else 'below'} chance"
    return ", ".join(part for part in (bound, side) if part)


def plain(values: np.ndarray) -> Any:
    """An array as nested lists, None in place of what is not a finite number."""
    found = values.astype(object)
    found[~np.isfinite(values)] = None
    return found.tolist()
