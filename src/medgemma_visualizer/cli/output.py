"""What commands write and print. Results appear whole: files are finished elsewhere first, result.json comes last."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Score

if TYPE_CHECKING:
    from medgemma_visualizer.verbs import Analysis

#: Files of `analyze`; the last one appears last and marks a complete result.
RESULTS = ("heatmap.npz", "overlay.png", "scores.png", "result.json")


def check_folder(out: Path) -> Path:
    """Refuses an unusable --out before any work is done.

    Raises:
        InputError: Not a folder, or not to be written to.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {str(out)!r} is a file. Give a folder.")
    existing = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"--out {str(out)!r} cannot be written to. Give another folder.")
    return out


def check_style(colormap: str) -> None:
    """Refuses an unknown colour map before any work is done."""
    from matplotlib import colormaps

    from medgemma_visualizer.errors import unknown_name

    if colormap not in colormaps:
        raise unknown_name("colour map", colormap, ["inferno", "viridis", "magma", "plasma", "cividis", "jet", "turbo"])


def indices(**lists: str | None) -> dict[str, list[int]]:
    """Options such as layers="0,-1" as lists of whole numbers; those not given are left out."""
    found = {}
    for name, text in lists.items():
        if text is None:
            continue
        try:
            found[name] = [int(part) for part in text.split(",")]
        except ValueError:
            raise InputError(f"--{name} {text!r} is not a list of whole numbers such as '0,2' or '-1'.") from None
    return found


@contextmanager
def status(message: str, *, quiet: bool) -> Iterator[None]:
    """A spinner on standard error while something takes its time."""
    console = Console(stderr=True, quiet=quiet)
    with console.status(f"{message} …"):
        yield


def write_analysis(analysis: Analysis, folder: Path, **style: Any) -> dict[str, Path]:
    """Writes the files of `analyze`, replacing those of an earlier run whole.

    Raises:
        InputError: The folder cannot be written to.
    """
    from medgemma_visualizer.verbs import draw, scores_figure

    document = json.dumps(as_document(analysis), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as name:
            partial = Path(name)
            draw(analysis.heatmap, analysis.case, answer=analysis.answer.text, **style).save(partial / "overlay.png")
            if analysis.heatmap.available:
                scores_figure(analysis.scores).save(partial / "scores.png")
            analysis.heatmap.save(partial / "heatmap.npz")
            (partial / "result.json").write_text(document + "\n", encoding="utf-8")
            return _publish(partial, folder)
    except OSError as error:
        raise InputError(
            f"--out {str(folder)!r} cannot be written to ({error.strerror}). Give another folder."
        ) from error


def _publish(partial: Path, folder: Path) -> dict[str, Path]:
    """Moves finished files into place; until result.json is there, the folder holds no result."""
    for name in reversed(RESULTS):
        (folder / name).unlink(missing_ok=True)
    made = [name for name in RESULTS if (partial / name).exists()]
    for name in made:
        shutil.move(partial / name, folder / name)
    return {name: folder / name for name in made}


def as_document(analysis: Analysis) -> dict[str, Any]:
    """The result as plain JSON values; no path and no name of a file travels in it."""
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
    }


def score_as_document(score: Score) -> dict[str, Any]:
    """value, chance, direction and verdict always; the rest where it says something."""
    always = {name: getattr(score, name) for name in ("value", "chance", "direction", "verdict")}
    optional = {name: getattr(score, name) for name in ("threshold", "interval", "reason") if getattr(score, name)}
    return always | optional


def print_analysis(analysis: Analysis, written: dict[str, Path], *, as_json: bool) -> None:
    """The result for people, or as one JSON document."""
    if as_json:
        sys.stdout.write(json.dumps(as_document(analysis), ensure_ascii=False, allow_nan=False) + "\n")
        return
    console = Console(highlight=False)
    said, heatmap = analysis.answer, analysis.heatmap
    probability = "" if said.p_yes is None else f"   p(yes) = {said.p_yes:.3f}"
    right = {None: "", True: "   right", False: f"   wrong, the truth is {analysis.case.truth}"}[analysis.correct]
    console.print(f"[bold]Question[/]  {escape(analysis.case.question)}")
    console.print(f"[bold]Answer[/]    {escape(said.text)}{probability}{escape(right)}")
    if said.notice:
        console.print(f"[yellow]Notice[/]    {escape(said.notice)}")
    console.print(f"[bold]Model[/]     {escape(analysis.model['name'])} on {analysis.model['device']}")
    flag = ", text-independent" if heatmap.text_independent else ""
    console.print(f"[bold]Map[/]       {heatmap.method}{flag}, target: {escape(heatmap.target.text)}")
    for name, reason in heatmap.fallbacks.items():
        console.print(f"[yellow]Failed[/]    {name}: {escape(reason)}")
    if not heatmap.available:
        console.print("[yellow]No explanation is available.[/]")
    else:
        console.print(_table(analysis))
    for name, path in written.items():
        console.print(f"[bold]Written[/]   {escape(str(path))}" if name else "")
    console.print("Research use only, not for clinical use.", style="dim")


def _table(analysis: Analysis) -> Table:
    table = Table("Score", "Value", "Chance", "Better", "Verdict", box=None, padding=(0, 2, 0, 0))
    for name, score in analysis.scores.items():
        value = f"{score.value:.3f}" if isinstance(score.value, float) else escape(str(score.value or "not applicable"))
        chance = "" if score.chance is None else f"{score.chance:.3f}"
        better = "" if score.direction == "none" else score.direction
        table.add_row(name, value, chance, better, escape(score.verdict or score.reason))
    return table
