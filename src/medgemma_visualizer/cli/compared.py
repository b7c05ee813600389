"""What `compare` writes and prints: its tables and sentences for people, its JSON values and its picture.

Knows how a terminal shows what `telling` words; measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from medgemma_visualizer import verbs
from medgemma_visualizer.checks.compare import Comparison
from medgemma_visualizer.checks.trust import DISTRUST
from medgemma_visualizer.cli import output
from medgemma_visualizer.cli.checked import trust_part
from medgemma_visualizer.cli.output import NOTHING, Further, line, printable
from medgemma_visualizer.telling import comparison as telling

if TYPE_CHECKING:
    from medgemma_visualizer.records import Case

#: How to get a context value that is missing.
MISSING = {"other_picture": "add --other FILM", "other_finding": "add --other-question"}


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
        _table(telling.ANSWERS, telling.answers(comparison)),
        _table(telling.MAPS, telling.maps(comparison)),
        *(_said(one) for one in telling.failures(comparison)),
        *(_said(one) for one in telling.summary(comparison, MISSING)),
        *(row for part in further.parts.values() for row in part.rows),
        *trust_part(verbs.trust_of(analysis)).rows,
        *(line("Written", str(path)) for path in written.values()),
        Text("Research use only, not for clinical use.", style="dim"),
    )


def document(comparison: Comparison, case: Case, further: Further = NOTHING) -> dict[str, Any]:
    """The first prompt's result as of `analyze`, and under `comparison` all prompts; plain JSON values, no path."""
    return telling.document(comparison, case, {name: part.document for name, part in further.parts.items()})


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(*headings, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for row in rows:
        made.add_row(*(printable(cell) for cell in row))
    return made


def _said(one: telling.Sentence) -> Text:
    return line(one.label, one.text, "yellow") if one.grave else line(one.label, one.text)
