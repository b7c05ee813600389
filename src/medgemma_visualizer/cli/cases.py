"""`cases`: what a folder or file of cases is taken for, and what of it can be used. Asks no model, opens no film."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from medgemma_visualizer.cli import options as o

if TYPE_CHECKING:
    from rich.console import RenderableType

    from medgemma_visualizer.data.questions import QuestionSet
    from medgemma_visualizer.data.region_sets import RegionSet

#: Counted parts that are said in one line each, in this order.
_PARTS = ("splits", "views", "answer_types", "findings", "regions")
UNKNOWN = "not said"
_FINDINGS_ALONE = (
    "Regions without questions, and none of their films is beside them: name the films' folder (--images), then each "
    "marked finding is asked for; or give this as --regions to a set of questions or films."
)
_PARTS_ALONE = (
    "Parts of the body, for which nobody asks: give this as --regions to a set of questions or films; or name the "
    "films' folder (--images) and a question (-q)."
)


def cases(
    path: Annotated[
        str, typer.Argument(help="'demo', a question file or set, a root of MIMIC-CXR, regions, a folder, a picture.")
    ] = "demo",
    images: Annotated[Path | None, typer.Option(help="The folder of its films, where it is not its own.")] = None,
    regions: Annotated[Path | None, typer.Option(help="Regions for its films: boxes, ellipses, masks.")] = None,
    question: o.Question = None,
    as_json: o.AsJson = False,
) -> None:
    """Say what PATH is recognised as: cases, films, patients, splits, views, regions, and what is left out and why.

    Nothing is asked of a model. Films are looked for, not opened.
    """
    from medgemma_visualizer.cli import output

    with output.status(f"Reading {path}", quiet=as_json):
        document = _document(path, question, images, regions)
    if as_json:
        output.print_json(document)
    else:
        output.show(*_told(document))


def _document(path: str, question: str | None, images: Path | None, regions: Path | None) -> dict[str, Any]:
    """What is known of the cases, or of the regions that a path holds nothing but."""
    from medgemma_visualizer.data.joining import RegionsAloneError
    from medgemma_visualizer.data.sources import load_cases

    try:
        return as_document(load_cases(path, question, images, regions))
    except RegionsAloneError as alone:
        if images is not None:  # then films were expected
            raise
        return _regions_alone(alone.regions)


def as_document(found: QuestionSet) -> dict[str, Any]:
    """What is known of a set, as plain JSON values: counts and reasons, no identifier and no path."""
    films = {str(case.image) for case in found}
    return {
        "recognised": found.recognised or "cases",
        "source": found.source,
        "rows": len(found) + len(found.left_out),
        "cases": len(found),
        "images": {"found": len(films), "missing": found.missing_images},
        "patients": len({case.patient_id for case in found} - {None}),
        "splits": _counted(case.split for case in found),
        "views": _counted(case.view for case in found),
        "answer_types": _counted(_answer_type(case.truth, case.options) for case in found),
        "findings": _counted(case.finding for case in found),
        "regions": _regions(found),
        "regions_from": found.regions_from,
        "regions_left_out": dict(found.regions_left_out),
        "left_out": found.reasons,
        "columns": {meaning: list(names) for meaning, names in (found.columns or {}).items() if names},
        "notes": list(found.notes),
    }


def _regions_alone(regions: RegionSet) -> dict[str, Any]:
    """The same keys for regions without cases, with the next step as a note."""
    from medgemma_visualizer.data.joining import films_found
    from medgemma_visualizer.data.questions import QuestionSet

    source = regions.source
    there = films_found(regions, source if source.is_dir() else source.parent)
    empty = QuestionSet((), regions.left_out, source=source.stem, recognised=regions.name)
    counts = Counter(name for outlines in regions.films.values() for name in outlines)
    return as_document(empty) | {
        "rows": regions.entries + len(regions.left_out),
        "images": {"found": there, "missing": len(regions.films) - there},
        "regions": dict(counts.most_common()),
        "regions_from": regions.name,
        "notes": [_FINDINGS_ALONE if regions.asks else _PARTS_ALONE],
    }


def _counted(values: Iterable[str | None]) -> dict[str, int]:
    """Value -> cases, the commonest first."""
    return dict(Counter(value or UNKNOWN for value in values).most_common())


def _answer_type(truth: str | None, options: tuple[str, ...]) -> str:
    """What kind of answer is known to be right."""
    if truth is None:
        return "no truth"
    if truth.strip().rstrip(".").lower() in ("yes", "no"):
        return "yes or no"
    return "one of several" if options else "open"


def _regions(found: QuestionSet) -> dict[str, int]:
    """Region -> films that have it."""
    films = {str(case.image): case.regions for case in found if case.regions}
    return dict(Counter(name for regions in films.values() for name in regions).most_common())


def _told(document: Mapping[str, Any]) -> list[RenderableType]:
    from medgemma_visualizer.cli.output import line, printable

    images = document["images"]
    rows: list[RenderableType] = [
        line("Set", f"{document['recognised']} ({document['source']})"),
        line("Cases", f"{document['cases']:,} of {document['rows']:,} rows"),
        line("Images", f"{images['found']:,} found, {images['missing']:,} missing"),
        line("Patients", f"{document['patients']:,}" if document["patients"] else UNKNOWN),
        *(line(_heading(part), _list(document[part])) for part in _PARTS if document[part]),
        *(line("Columns", _columns(document["columns"])) for _ in range(bool(document["columns"]))),
        *(line("Note", note, "yellow") for note in document["notes"]),
    ]
    for heading, part in (("Left out", "left_out"), ("Regions left out", "regions_left_out")):
        if document[part]:
            table = Table(heading, "Why", box=None, padding=(0, 2, 0, 0), pad_edge=False)
            for reason, count in document[part].items():
                table.add_row(f"{count:,}", printable(reason))
            rows.append(table)
    return rows


def _heading(part: str) -> str:
    return part.replace("_types", "s").capitalize()


def _list(counts: Mapping[str, int], most: int = 12) -> str:
    told = [f"{name} {count:,}" for name, count in list(counts.items())[:most]]
    more = len(counts) - len(told)
    return ", ".join([*told, f"{more} more"] if more > 0 else told)


def _columns(columns: Mapping[str, list[str]]) -> str:
    return ", ".join(f"{meaning}: {' or '.join(names)}" for meaning, names in columns.items())
