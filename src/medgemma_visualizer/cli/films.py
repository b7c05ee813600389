"""What `analyze` adds to a result about a DICOM file: what the film is, and whether its rendering matters.

Knows how to word what was read and measured; reads and measures nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_visualizer.checks.renderings import Rerendered, ask_rendered
from medgemma_visualizer.checks.robustness import DRIFT
from medgemma_visualizer.cli import output
from medgemma_visualizer.cli.output import Part, line, score_as_document
from medgemma_visualizer.data.dicom import RENDERINGS, DicomFilm, read_dicom
from medgemma_visualizer.errors import InputError

if TYPE_CHECKING:
    from rich.text import Text

    from medgemma_visualizer.records import Answer, Score
    from medgemma_visualizer.verbs import Analysis

_PLANES = {"calibrated": "calibrated", "detector": "at the detector", "not said": "plane not said"}


def parts(
    analysis: Analysis, image: Path | None, target: str | None, options: Mapping[str, Any], *, quiet: bool
) -> dict[str, Part]:
    """By key of result.json; none where no DICOM file was asked about."""
    used = analysis.case.rendering
    if image is None or used is None:
        return {}
    film = read_dicom(image, used, allow_lateral=True)
    with output.progress("Asking the other rendering", quiet=quiet):
        others = {name: _other(analysis, image, name, target, options) for name in RENDERINGS if name != used}
    return {"film": _film_part(film), "renderings": _renderings_part(analysis, used, others)}


def _other(
    analysis: Analysis, image: Path, name: str, target: str | None, options: Mapping[str, Any]
) -> Rerendered | str:
    """What the model says of the file in that rendering, or why there is no such film."""
    try:
        film = read_dicom(image, name, allow_lateral=True)
    except InputError as reason:
        return str(reason).removeprefix(f"{str(image)!r} ")  # no name of a file travels in a result
    return ask_rendered(analysis.reading, analysis.heatmap, film.picture.convert("RGB"), target, **options)


def _film_part(film: DicomFilm) -> Part:
    spacing = None if film.spacing is None else asdict(film.spacing)
    document = {
        "rendering": film.rendering,
        "voi": film.voi,
        "voi_choices": list(film.choices),
        "view": film.view,
        "spacing_mm": spacing,
        "presentation_intent": film.intent or None,
        "burnt_in_annotation": film.burnt_in,
        "notices": list(film.notices),
    }
    told = [f"DICOM as {film.rendering}", f"VOI: {film.voi}", f"view {film.view or 'not said'}", _spacing(film)]
    return Part(document, (line("Film", "; ".join(told)), *_choices(film)))


def _choices(film: DicomFilm) -> list[Text]:
    """Which VOI transformations there are, where one may choose."""
    if len(film.choices) < 2:
        return []
    named = "; ".join(f"dicom-voi:{number} is {name}" for number, name in enumerate(film.choices, start=1))
    return [line("Windows", f"the file offers several, and DICOM leaves the choice to you: --rendering {named}")]


def _spacing(film: DicomFilm) -> str:
    if film.spacing is None:
        return "pixel spacing not said"
    one = film.spacing
    return f"{one.rows:g} × {one.columns:g} mm a pixel ({one.tag}, {_PLANES[one.plane]})"


def _renderings_part(analysis: Analysis, used: str, others: Mapping[str, Rerendered | str]) -> Part:
    found = {name: other for name, other in others.items() if isinstance(other, Rerendered)}
    failed = {name: other for name, other in others.items() if isinstance(other, str)}
    document = {
        "used": used,
        "answers": {used: _said(analysis.answer), **{name: _said(other.answer) for name, other in found.items()}},
        "against": {name: _against(other) for name, other in found.items()},
        "failed": failed,
    }
    rows = [line("Rendering", _told(name, analysis.answer, other)) for name, other in found.items()]
    return Part(document, (*rows, *(line("Rendering", f"no {n}: {why}", "yellow") for n, why in failed.items())))


def _against(other: Rerendered) -> dict[str, Any]:
    return {"flip": other.flipped, **{name: score_as_document(score) for name, score in other.scores.items()}}


def _said(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in ("text", "label", "p_yes", "p_yes_no_mass", "contrast")}


def _told(name: str, first: Answer, other: Rerendered) -> str:
    same = f"ANOTHER answer, {other.answer.label} for {first.label}" if other.flipped else "the same answer"
    same += f", p(yes) {_share(other.answer.p_yes)} for {_share(first.p_yes)}"
    numbers = {"|Δp(yes)|": DRIFT, "Spearman": "spearman", "JS": "js_divergence"}
    told = ", ".join(f"{label} {_number(other.scores[key])}" for label, key in numbers.items())
    return f"as {name}: {same}; {told} (0, 1 and 0: the rendering does not matter)"


def _share(p_yes: float | None) -> str:
    return "not known" if p_yes is None else f"{p_yes:.3f}"


def _number(score: Score) -> str:
    return f"{score.value:.3f}" if isinstance(score.value, float) else f"not applicable ({score.reason})"
