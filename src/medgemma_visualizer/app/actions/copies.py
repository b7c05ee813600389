"""The command line and the Python lines that make a result again, and its files. Knows how a case is named there.

A visitor's own picture stands as IMAGE: this page never learns where it lies on their machine.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medgemma_visualizer.app import words
from medgemma_visualizer.app.parts import Safe, copyable, download, downloads, escaped, one_file, png
from medgemma_visualizer.records import Case
from medgemma_visualizer.reports.export import safe_cell

if TYPE_CHECKING:
    from PIL.Image import Image

OWN = "-own"
PROGRAM = "medgemma-visualizer"
_WITH_INTERVAL = re.compile(r"-?\d+(\.\d+)? \(-?\d+(\.\d+)? to -?\d+(\.\d+)?\)")


def embedded(case: Case) -> bool:
    """Whether the case's film is an embedded one, as it is."""
    return case.source == "demo" and isinstance(case.image, Path | str)


def command(verb: str, case: Case, options: Mapping[str, Any]) -> str:
    """A line for a prompt.

    Args:
        verb: Of the command line.
        case: What is asked; its question is left out where `options` bring prompts of their own.
        options: "--name" -> value; a list repeats the option, True stands alone, None and False are left out.
    """
    said = [PROGRAM, verb, *(["--case", case.id.removesuffix(OWN)] if embedded(case) else ["IMAGE"])]
    if not embedded(case) or case.id.endswith(OWN):
        said += ["--question", case.question]
    for name, value in options.items():
        if isinstance(value, bool) or value is None:
            said += [name] if value else []
        else:
            said += [part for one in _listed(value) for part in (name, str(one))]
    return shlex.join(said)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def python(verb: str, case: Case, model: str, given: Mapping[str, Any], after: Sequence[str] = ()) -> str:
    """Lines of Python.

    Args:
        verb: Of the package.
        case: What is asked.
        model: Its name.
        given: Arguments by name; None is left out.
        after: Further lines, about `result`.
    """
    told = "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)
    lines = [
        "import medgemma_visualizer as mv",
        f"model = mv.load_model({model!r})",
        f"case = {_case_in_python(case)}",
        f"result = mv.{verb}(model, case{told})",
    ]
    return "\n".join([*lines, *after]) + "\n"


def _case_in_python(case: Case) -> str:
    if not embedded(case):
        return f'mv.Case(id="image", image="IMAGE", question={case.question!r})'
    asked = f".asking({case.question!r})" if case.id.endswith(OWN) else ""
    return f'next(case for case in mv.load_cases("demo") if case.id == {case.id.removesuffix(OWN)!r}){asked}'


def copies(as_command: str, as_python: str) -> Safe:
    """Both, to be copied."""
    return Safe(copyable(words.COPY_COMMAND, as_command) + copyable(words.COPY_PYTHON, as_python))


def part(links: Iterable[Safe], as_command: str = "", as_python: str = "", said: str = "") -> Safe:
    """What can be taken away of a part of a result, below it.

    Args:
        links: Downloads.
        as_command, as_python: What makes it again; "" where nothing does.
        said: Why there is no command, or what must be done before one.
    """
    offered = ((words.COPY_COMMAND, as_command), (words.COPY_PYTHON, as_python))
    told = "".join(copyable(label, text) for label, text in offered if text)
    before = f"<p>{escaped(said)}</p>" if said else ""
    return Safe(f'<div class="mv-take">{before}{told}{downloads(links)}</div>')


def as_png(name: str, image: Image) -> Safe:
    """A link that saves a picture."""
    return download(f"{name}.png", png(image), "image/png", f"PNG, {name}")


def as_npz(name: str, **arrays: np.ndarray) -> Safe:
    """A link that saves arrays."""
    return download(f"{name}.npz", npz(**arrays), "application/octet-stream", "NPZ")


def as_table(name: str, rows: Iterable[Sequence[object]]) -> Safe:
    """A link that saves a table, the headings first."""
    return download(f"{name}.csv", as_csv(rows), "text/csv", "CSV")


def files(
    name: str,
    *,
    pictures: Mapping[str, Any],
    arrays: bytes,
    document: Mapping[str, Any],
    rows: Iterable[Sequence[object]],
    page: str,
) -> Safe:
    """Downloads of a result.

    Args:
        name: Begins the names of the files.
        pictures: Name -> picture.
        arrays: An .npz.
        document: Plain JSON values.
        rows: Of a table, the headings first.
        page: The inside of a page that opens from disk.
    """
    return downloads(
        (
            *(as_png(each, image) for each, image in pictures.items()),
            download(f"{name}.npz", arrays, "application/octet-stream", "NPZ"),
            as_download(f"{name}.json", document),
            as_table(name, rows),
            download(f"{name}.html", one_file(words.TITLE, page), "text/html", words.ONE_FILE),
        )
    )


def as_download(name: str, document: Mapping[str, Any]) -> Safe:
    """A link that saves JSON."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return download(name, text.encode(), "application/json", "JSON")


def npz(**arrays: np.ndarray) -> bytes:
    """Arrays by name, compressed."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its own arguments are not among the names
    return buffer.getvalue()


def as_csv(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as comma-separated values, every cell safe to open in a spreadsheet; numbers in words stay as they are."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows([cell if _is_number(cell) else safe_cell(cell) for cell in row] for row in rows)
    return buffer.getvalue().encode()


def _is_number(cell: object) -> bool:
    """Whether it is a number, or text that is one, alone or with its interval as tables here write it."""
    if isinstance(cell, bool):
        return False
    if isinstance(cell, str) and _WITH_INTERVAL.fullmatch(cell):
        return True
    try:
        float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
