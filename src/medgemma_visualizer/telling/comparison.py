"""Several prompts about one picture: rows of tables, sentences, JSON values. Knows how to word it; measures nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medgemma_visualizer import verbs
from medgemma_visualizer.checks.compare import CONTEXT, Asked, Comparison
from medgemma_visualizer.records import Score
from medgemma_visualizer.scores.agreement import interpret_js_divergence
from medgemma_visualizer.telling.analysis import document as analysis_document
from medgemma_visualizer.telling.analysis import score_as_document

if TYPE_CHECKING:
    from medgemma_visualizer.records import Case

ANSWERS = ("", "Prompt", "Answer", "p(yes)", "Contrast", "Flip")
_AGREEMENT = {"js_divergence": "JS to 1", "spatial_stability": "Stability", "spearman": "Spearman", "ssim": "SSIM"}
MAPS = ("", *_AGREEMENT.values(), "JS in words")


@dataclass(frozen=True)
class Sentence:
    """A line of the summary.

    Attributes:
        label: What it is about.
        text: What is said.
        grave: Whether it warns of a reading that would be wrong.
    """

    label: str
    text: str
    grave: bool = False


def answers(comparison: Comparison) -> list[tuple[str, ...]]:
    """One row a prompt, under `ANSWERS`: what the model said, and whether that changed."""
    return [
        (str(n + 1), one.strategy or (one.label if one.label != one.question else ""), *_said(one), flip(comparison, n))
        for n, one in enumerate(comparison.prompts)
    ]


def maps(comparison: Comparison) -> list[tuple[str, ...]]:
    """One row a prompt after the first, under `MAPS`: how far its map is from the first one's."""
    found = []
    for n in range(1, len(comparison.prompts)):
        to_first = comparison.against_first(n)
        js = to_first["js_divergence"]
        in_words = interpret_js_divergence(js.value) if isinstance(js.value, float) else js.reason
        found.append((str(n + 1), *(_number(to_first[name]) for name in _AGREEMENT), in_words))
    return found


def _said(one: Asked) -> tuple[str, str, str]:
    """Answer, p(yes) where yes and no hold half of the probability, and contrast."""
    said = one.answer
    told = said.p_yes is not None and (said.p_yes_no_mass or 0) >= 0.5
    text = said.text if said.label.casefold() == said.text.casefold().strip(" .") else f"{said.text} ({said.label})"
    return (
        text,
        f"{said.p_yes:.3f}" if told else "–",
        f"{said.contrast:+.2f}" if told and said.contrast is not None else "–",
    )


def flip(comparison: Comparison, n: int) -> str:
    """Whether the answer changed; an opposite should change it."""
    flipped, expected = comparison.flips[n], comparison.prompts[n].expected == "flipped"
    if expected:
        return "yes, as it should" if flipped else "NO, and it should"
    return "" if n == 0 else "YES" if flipped else "no"


def _number(score: Score) -> str:
    return f"{score.value:.3f}" if isinstance(score.value, float) else "–"


def failures(comparison: Comparison) -> Iterator[Sentence]:
    """Why prompts have no map."""
    for n, one in enumerate(comparison.prompts, 1):
        if not one.heatmap.available:
            yield Sentence("No map", f"prompt {n}: {'; '.join(one.heatmap.fallbacks.values())}", True)


def summary(comparison: Comparison, hints: Mapping[str, str] | None = None) -> Iterator[Sentence]:
    """Consistency, and what the divergences are to be read beside.

    Args:
        hints: Name of `CONTEXT` -> how to get that value where nothing was given to compare with.
    """
    same, opposite = ([one.expected == kind for one in comparison.prompts] for kind in ("same", "flipped"))
    agreed = comparison.consistency
    if isinstance(agreed.value, float):
        text = f"{agreed.value:.0%} of {sum(same)} prompts agree ({agreed.verdict}; target > 80%)"
        yield Sentence("Answers", text)
    if any(opposite):
        turned = sum(turn for turn, wanted in zip(comparison.flips, opposite, strict=True) if wanted)
        yield Sentence("Opposites", f"{turned} of {sum(opposite)} turned the answer round, as all should")
    for name, score in comparison.context.items():
        yield Sentence("Context", _context(name, score, (hints or {}).get(name, "")))
    yield from _warnings(comparison)


def _warnings(comparison: Comparison) -> Iterator[Sentence]:
    """What the specification's words for a divergence, whose bounds know no model, would hide."""
    bounds = {name: score.value for name, score in comparison.context.items() if isinstance(score.value, float)}
    for name in ("other_finding", "other_picture"):
        if (bound := bounds.get(name)) is None:
            continue
        far = [str(n + 1) for n, js in enumerate(comparison.js[0]) if n and js >= bound]
        if far:
            yield Sentence("Moved", f"as far from the first as {CONTEXT[name]}: prompt {', '.join(far)}", True)
    signed = {one.heatmap.target.text for one in comparison.prompts if one.heatmap.target.kind == "contrast"}
    if len(signed) > 1:
        yield Sentence("Targets", "each map explains its own answer; the target p_yes explains one and the same", True)


def _context(name: str, score: Score, hint: str) -> str:
    if isinstance(score.value, float):
        count = f", mean of {score.n}" if score.n > 1 else ""
        left = f" ({score.reason})" if score.reason else ""
        return f"JS {score.value:.3f} for {CONTEXT[name]}{count}{left}"
    told = f"; {hint}" if hint and "nothing was given" in score.reason else ""
    return f"no JS for {CONTEXT[name]}: {score.reason}{told}"


def document(comparison: Comparison, case: Case, further: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The first prompt's result as of `analyze`, and under `comparison` all prompts; plain JSON values, no path."""
    analysis = verbs.analysis_of(comparison, case)
    parts = {"trust": asdict(verbs.trust_of(analysis)), "comparison": _comparison(comparison)}
    return analysis_document(analysis, {**parts, **(further or {})})


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "method": comparison.method,
        "prompts": [_prompt(comparison, n) for n in range(len(comparison.prompts))],
        "agreement": {name: _matrix(values) for name, values in comparison.agreement.items()},
        "consistency": score_as_document(comparison.consistency),
        "context": {name: {**score_as_document(score), "n": score.n} for name, score in comparison.context.items()},
        "seed": comparison.seed,
    }


def _prompt(comparison: Comparison, n: int) -> dict[str, Any]:
    one = comparison.prompts[n]
    said = one.answer
    fields = ("text", "label", "p_yes", "p_yes_no_mass", "contrast", "stopped", "notice")
    heatmap = {**json.loads(json.dumps(one.heatmap.about(), default=list))}
    return {
        "label": one.label,
        "question": one.question,
        "strategy": one.strategy,
        "expected": one.expected,
        "answer": {name: getattr(said, name) for name in fields},
        "flip": comparison.flips[n],
        "to_first": {name: score_as_document(score) for name, score in comparison.against_first(n).items()},
        "heatmap": heatmap | {"grid": None if one.heatmap.grid is None else one.heatmap.grid.tolist()},
        "scores": {name: score_as_document(score) for name, score in one.scores.items()},
    }


def _matrix(values: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]
