"""What `compare --perturb` adds to a result: its table for people, its JSON values and its picture.

Knows how to word what was found; disturbs and measures nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from medgemma_visualizer import verbs
from medgemma_visualizer.checks.perturbations import PERTURBATIONS
from medgemma_visualizer.checks.robustness import DRIFT, MEASURED, Level, Robustness, Trial
from medgemma_visualizer.cli import output
from medgemma_visualizer.cli.checked import trust_part
from medgemma_visualizer.cli.output import Further, Part, line, score_as_document

JS = "js_divergence"
HEADINGS = ("Disturbed by", "Strengths", "Flips", "Flip at", "|Δp|", "JS", "Floor", "Unit")
LEGEND = (
    "Flip at: the smallest strength at which the answer flipped; |Δp|, JS: the largest change of p(yes) and of the map"
    " (nats); Floor: a JS that means nothing yet"
)


def further(found: Robustness, question: str) -> Further:
    """All that it adds; no picture where the film had no room for any disturbance."""
    drawn = {"perturbations.png": verbs.draw_perturbations(found, question)} if found.trials else {}
    return Further({"perturbations": Part(document(found), tuple(rows(found)))}, drawn)


def write(analysis: verbs.Analysis, folder: Path, added: Further) -> dict[str, Path]:
    """Writes result.json and perturbations.png, for a film that was asked one question only.

    Raises:
        InputError: The folder cannot be written to.
    """
    found = output.as_document(analysis, _parts(analysis, added))
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
    return output.write_files(folder, {"result.json": text + "\n"}, added.pictures)


def show(analysis: verbs.Analysis, written: dict[str, Path], added: Further, *, as_json: bool) -> None:
    """The result for people, or as one JSON document."""
    output.print_analysis(analysis, written, _parts(analysis, added), as_json=as_json)


def _parts(analysis: verbs.Analysis, added: Further) -> dict[str, Part]:
    return added.parts | {"trust": trust_part(verbs.trust_of(analysis))}


def rows(found: Robustness) -> Iterator[RenderableType]:
    """The table, its noise floor, and what has no number."""
    if found.levels:
        yield table(found)
        yield line("Columns", LEGEND)
    drift, divergence = (_value(found.again, name) for name in (DRIFT, JS))
    yield line("Noise", f"the same film, read again: |Δp(yes)| {_number(drift)}, JS {_number(divergence)}")
    flips = sum(one.flipped for one in found.trials)
    told = f"{flips} of {len(found.trials)} films got another answer than {found.answer.label!r}"
    yield line("Disturbed", f"{told}; between and beyond these strengths it may flip too")
    for reason, count in Counter(_reasons(found.trials)).items():
        yield line("No number", f"{count} × {reason}", "yellow")
    for (name, reason), count in Counter((one.perturbation, one.reason) for one in found.left_out).items():
        yield line("Left out", f"{count} × {name}: {reason}", "yellow")


def table(found: Robustness) -> Table:
    """One row a perturbation: where the answer first flips, and how far answer and map drift at most."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in HEADINGS:
        made.add_column(heading, no_wrap=heading != HEADINGS[-1])
    for name, levels in found.levels.items():
        made.add_row(PERTURBATIONS[name].label, *_cells(found, name, levels))
    return made


def _cells(found: Robustness, name: str, levels: Sequence[Level]) -> tuple[str, ...]:
    flips, trials = (sum(counts) for counts in zip(*((each.flips, len(each.trials)) for each in levels), strict=True))
    first = found.smallest_flip(name)
    farthest = max(levels, key=lambda each: np.nan_to_num(_largest(each.divergences), nan=-1.0))
    return (
        f"{levels[0].strength:g} to {levels[-1].strength:g}",
        f"{flips}/{trials}",
        "none" if first is None else f"{first:g}",
        _number(_largest(np.concatenate([each.drifts for each in levels]))),
        _number(_largest(farthest.divergences)),
        _number(farthest.floors[1]),
        PERTURBATIONS[name].unit,
    )


def _largest(values: np.ndarray) -> float:
    """NaN where there is none."""
    return float(np.nanmax(values)) if np.isfinite(values).any() else np.nan


def _number(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def _value(trial: Trial, name: str) -> float | None:
    value = trial.scores[name].value
    return value if isinstance(value, float) else None


def _reasons(trials: Sequence[Trial]) -> Iterator[str]:
    for trial in trials:
        for name in (DRIFT, JS):
            if trial.scores[name].value is None:
                yield f"{'|Δp(yes)|' if name == DRIFT else 'JS'}: {trial.scores[name].reason}"


def document(found: Robustness) -> dict[str, Any]:
    """Everything as plain JSON values."""
    return {
        "method": found.heatmap.requested,
        "target": {"kind": found.heatmap.target.kind, "text": found.heatmap.target.text},
        "answer": _said(found.answer),
        "again": {name: score_as_document(score) for name, score in found.again.scores.items()},
        "by": {name: _perturbation(found, name) for name in found.levels},
        "left_out": [vars(one) for one in found.left_out],
        "seed": found.seed,
    }


def _perturbation(found: Robustness, name: str) -> dict[str, Any]:
    return {
        "label": PERTURBATIONS[name].label,
        "unit": PERTURBATIONS[name].unit,
        "smallest_flip": found.smallest_flip(name),
        "levels": [_level(each) for each in found.levels[name]],
    }


def _level(level: Level) -> dict[str, Any]:
    floors = (None if np.isnan(floor) else float(floor) for floor in level.floors)
    return {
        "strength": level.strength,
        "flips": level.flips,
        "n": len(level.trials),
        "flip_interval": list(level.flip_interval),
        "noise_floor": dict(zip((DRIFT, JS), floors, strict=True)),
        "scores": {name: score_as_document(score) | {"n": score.n} for name, score in level.scores.items()},
        "trials": [_trial(one) for one in level.trials],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "seed": trial.seed,
        "answer": _said(trial.answer),
        "flip": trial.flipped,
        "compared": trial.compared,
        **{name: _value(trial, name) for name in MEASURED},
    }


def _said(answer: Any) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in ("text", "label", "p_yes", "p_yes_no_mass", "contrast")}
