"""What `compare` writes and prints: its table for people, its JSON values and its picture.

Knows how to word what was found; measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from medgemma_visualizer import verbs
from medgemma_visualizer.checks.compare import CONTEXT, Asked, Comparison
from medgemma_visualizer.checks.trust import DISTRUST
from medgemma_visualizer.cli import output
from medgemma_visualizer.cli.checked import trust_part
from medgemma_visualizer.cli.output import NOTHING, Further, Part, line, printable, score_as_document
from medgemma_visualizer.records import Score
from medgemma_visualizer.scores.agreement import interpret_js_divergence

if TYPE_CHECKING:
    from medgemma_visualizer.records import Case

#: How to get a context value that is missing.
MISSING = {
    "same_prompt_twice": "",
    "other_picture": "add --other FILM",
    "other_finding": "add --other-question",
}
COLUMNS = {"js_divergence": "JS to 1", "spatial_stability": "Stability", "spearman": "Spearman", "ssim": "SSIM"}


def write(
    comparison: Comparison, case: Case, folder: Path, further: Further = NOTHING, **style: Any
) -> dict[str, Path]:
    """Writes result.json and comparison.png, replacing the files of an earlier run whole.

    Args:
        further: What else was asked of the first prompt.
        **style: As in `verbs.draw_comparison`.

    Raises:
        InputError: The folder cannot be written to.
    """
    text = json.dumps(document(comparison, case, further), indent=2, ensure_ascii=False, allow_nan=False)
    trusted = verbs.trust_of(verbs.analysis_of(comparison, case)).word != DISTRUST
    drawn = verbs.draw_comparison(comparison, case, trusted=trusted, **style)
    pictures = {"comparison.png": drawn} | further.pictures
    return output.write_files(folder, {"result.json": text + "\n"}, pictures)


def show(
    comparison: Comparison, case: Case, written: Mapping[str, Path], further: Further = NOTHING, *, as_json: bool
) -> None:
    """The result for people, or as one JSON document."""
    if as_json:
        output.print_json(document(comparison, case, further))
        return
    analysis = verbs.analysis_of(comparison, case)
    notices = dict.fromkeys(one.answer.notice for one in comparison.prompts if one.answer.notice)
    output.show(
        *(line(f"Prompt {n}", one.question) for n, one in enumerate(comparison.prompts, 1)),
        *(line("Notice", notice, "yellow") for notice in notices),
        line("Model", f"{analysis.model['name']} on {analysis.model['device']}"),
        line("Maps", f"{comparison.method}, target {analysis.heatmap.target.kind}"),
        answers(comparison),
        maps(comparison),
        *_failures(comparison),
        *_summary(comparison),
        *(row for part in further.parts.values() for row in part.rows),
        *trust_part(verbs.trust_of(analysis)).rows,
        *(line("Written", str(path)) for path in written.values()),
        Text("Research use only, not for clinical use.", style="dim"),
    )


def answers(comparison: Comparison) -> Table:
    """One row a prompt: what the model said, and whether that changed."""
    made = Table("", "Prompt", "Answer", "p(yes)", "Contrast", "Flip", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for n, one in enumerate(comparison.prompts):
        name = one.strategy or (one.label if one.label != one.question else "")
        made.add_row(str(n + 1), printable(name), *_said(one), _flip(comparison, n))
    return made


def maps(comparison: Comparison) -> Table:
    """One row a prompt: how far its map is from the first one's."""
    made = Table("", *COLUMNS.values(), "JS in words", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for n in range(1, len(comparison.prompts)):
        to_first = comparison.against_first(n)
        made.add_row(str(n + 1), *(_number(to_first[name]) for name in COLUMNS), _in_words(to_first["js_divergence"]))
    return made


def _said(one: Asked) -> tuple[str, str, str]:
    """Answer, p(yes) where yes and no hold half of the probability, and contrast."""
    said = one.answer
    told = said.p_yes is not None and (said.p_yes_no_mass or 0) >= 0.5
    text = said.text if said.label.casefold() == said.text.casefold().strip(" .") else f"{said.text} ({said.label})"
    return (
        printable(text),
        f"{said.p_yes:.3f}" if told else "–",
        f"{said.contrast:+.2f}" if told and said.contrast is not None else "–",
    )


def _flip(comparison: Comparison, n: int) -> str:
    """Whether the answer changed; an opposite should change it."""
    flipped, expected = comparison.flips[n], comparison.prompts[n].expected == "flipped"
    if expected:
        return "yes, as it should" if flipped else "NO, and it should"
    return "" if n == 0 else "YES" if flipped else "no"


def _number(score: Score) -> str:
    return f"{score.value:.3f}" if isinstance(score.value, float) else "–"


def _in_words(js: Score) -> str:
    return interpret_js_divergence(js.value) if isinstance(js.value, float) else js.reason


def _failures(comparison: Comparison) -> Iterator[Text]:
    for n, one in enumerate(comparison.prompts, 1):
        if not one.heatmap.available:
            yield line("No map", f"prompt {n}: {'; '.join(one.heatmap.fallbacks.values())}", "yellow")


def _summary(comparison: Comparison) -> Iterator[RenderableType]:
    """Consistency, and what the divergences are to be read beside."""
    same, opposite = ([one.expected == kind for one in comparison.prompts] for kind in ("same", "flipped"))
    agreed = comparison.consistency
    if isinstance(agreed.value, float):
        yield line("Answers", f"{agreed.value:.0%} of {sum(same)} prompts agree ({agreed.verdict}; target > 80%)")
    if any(opposite):
        turned = sum(flip for flip, wanted in zip(comparison.flips, opposite, strict=True) if wanted)
        yield line("Opposites", f"{turned} of {sum(opposite)} turned the answer round, as all should")
    for name, score in comparison.context.items():
        yield line("Context", _context(name, score))
    yield from _warnings(comparison)


def _warnings(comparison: Comparison) -> Iterator[Text]:
    """What the specification's words for a divergence, whose bounds know no model, would hide."""
    bounds = {name: score.value for name, score in comparison.context.items() if isinstance(score.value, float)}
    for name in ("other_finding", "other_picture"):
        if (bound := bounds.get(name)) is None:
            continue
        far = [str(n + 1) for n, js in enumerate(comparison.js[0]) if n and js >= bound]
        if far:
            yield line("Moved", f"as far from the first as {CONTEXT[name]}: prompt {', '.join(far)}", "yellow")
    signed = {one.heatmap.target.text for one in comparison.prompts if one.heatmap.target.kind == "contrast"}
    if len(signed) > 1:
        yield line("Targets", "each map explains its own answer; --target p_yes explains one and the same", "yellow")


def _context(name: str, score: Score) -> str:
    if isinstance(score.value, float):
        count = f", mean of {score.n}" if score.n > 1 else ""
        left = f" ({score.reason})" if score.reason else ""
        return f"JS {score.value:.3f} for {CONTEXT[name]}{count}{left}"
    hint = f"; {MISSING[name]}" if MISSING[name] and "nothing was given" in score.reason else ""
    return f"no JS for {CONTEXT[name]}: {score.reason}{hint}"


def document(comparison: Comparison, case: Case, further: Further = NOTHING) -> dict[str, Any]:
    """The first prompt's result as of `analyze`, and under `comparison` all prompts; plain JSON values, no path."""
    analysis = verbs.analysis_of(comparison, case)
    parts = {"trust": trust_part(verbs.trust_of(analysis)), "comparison": Part(_comparison(comparison), ())}
    return output.as_document(analysis, parts | further.parts)


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
