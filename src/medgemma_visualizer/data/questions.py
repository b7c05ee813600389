"""Question files: one row, one question about one film.

Knows the columns of MIMIC-style question files and their aliases; does not know pixels, masks, or where the films of a
data set come from beyond a folder to look in. Every row becomes a case or is counted with its reason.
"""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, overload

from medgemma_visualizer.data.inputs import check_question
from medgemma_visualizer.data.photo import SUFFIXES, rendering_by_name
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case

Row: TypeAlias = dict[str, str]

#: What a column means -> the headings it goes by, the preferred one first. Upper and lower case, blanks and
#: underscores make no difference. Where a row fills several of them, the first that is filled counts: a variant of a
#: question is what was asked, its baseline only where nothing else is given.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "question": ("question_variant", "question", "query", "text", "baseline_question"),
    "image": ("ImagePath", "image_path", "image", "dicom_id"),
    "study": ("study_id", "StudyID", "study", "id"),
    "truth": ("correct_answer", "answer", "ground_truth", "label"),
    "options": ("options",),
    "patient": ("subject_id", "PatientID", "patient_id"),
    "view": ("ViewPosition", "view"),
    "finding": ("finding",),
}
_REQUIRED = ("question", "image")
_TOO_MANY = "cells beyond the headings\n"  # headings are stripped, so none ends in a line break
QUESTION_FILE_SUFFIXES = (".csv", ".tsv", ".csv.gz")


class UnusableRow(Exception):
    """Why one row makes no case; becomes a `LeftOut`, never leaves this module."""


@dataclass(frozen=True)
class LeftOut:
    """A row that makes no case.

    Attributes:
        line: Where it ends in the file; the headings are line 1.
        reason: Worded alike for alike rows, so that reasons can be counted.
    """

    line: int
    reason: str


@dataclass(frozen=True)
class QuestionSet(Sequence[Case]):
    """The cases of a source, in its order, and what was left out.

    Attributes:
        cases: One for each usable (image, question); their ids are unique.
        left_out: Rows that made no case.
        columns: Meaning -> the headings that hold it, for sources that have headings.
        source: Where the cases come from.
    """

    cases: tuple[Case, ...]
    left_out: tuple[LeftOut, ...] = ()
    columns: Mapping[str, tuple[str, ...]] | None = None
    source: str = "user"

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> how many rows were left out for it, the commonest first."""
        return dict(Counter(row.reason for row in self.left_out).most_common())

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Case, ...]: ...
    def __getitem__(self, index: int | slice) -> Case | tuple[Case, ...]:
        return self.cases[index]

    def __len__(self) -> int:
        return len(self.cases)


def read_questions(path: Path | str, images: Path | str | None = None) -> QuestionSet:
    """Reads a question file (.csv, .tsv, .csv.gz; commas, semicolons or tabs; UTF-8).

    Args:
        path: The file. `ALIASES` lists the headings that are understood.
        images: The folder of the films; the file's own folder where not given. A film is looked for by the path in its
            row, then by the end of that path under the folder, then by its identifier with any picture suffix.

    Raises:
        InputError: The file cannot be read, a needed column is missing (the message names those found), or no row
            makes a case.
    """
    path = Path(path)
    headings, rows = read_table(path)
    columns = _columns(headings, path)
    films = _find_films((row for _, row in rows), columns, path.parent if images is None else Path(images))
    cases, left_out = _sorted_out(rows, _Rows(columns, films, path.stem))
    found = QuestionSet(tuple(cases), tuple(left_out), columns, path.stem)
    if not cases:
        raise InputError(
            f"{str(path)!r} has no usable row ({_told(found)}); correct the file or name its image folder."
        )
    return found


def case_id(study: str, image: str, question: str) -> str:
    """An identifier of the pair (image, question), the same on every machine and for every order of rows."""
    digest = hashlib.sha256("\0".join((study, image, question)).encode()).hexdigest()
    return f"{study or Path(image).stem}-{digest[:12]}"


# --- the table -------------------------------------------------------------------------------------------------------


def read_table(path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """Headings, and (line, row) of every row that is not blank; a row maps headings to cells.

    Raises:
        InputError: The file cannot be read or is no table, or a heading stands twice.
    """
    lines = _cells(path)
    if not lines:
        raise InputError(f"{str(path)!r} is empty; give a question file with headings and rows.")
    headings = [heading.strip() for heading in lines[0][1]]
    for heading, times in Counter(headings).items():
        if heading and times > 1:
            raise InputError(f"{str(path)!r} has the heading {heading!r} {times} times; rename all but one.")
    return headings, [(line, _row(headings, cells)) for line, cells in lines[1:]]


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    text = _text(path)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    # Strict: an unclosed quote is an error here, where otherwise it would swallow all rows that follow.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{str(path)!r} is no readable table ({error}, line {reader.line_num}); repair it.") from error


def _row(headings: Sequence[str], cells: Sequence[str]) -> Row:
    too_many = {_TOO_MANY: ""} if len(cells) > len(headings) else {}
    return dict(zip(headings, cells, strict=False)) | too_many


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{str(path)!r} does not exist; check the path of the question file.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not UTF-8 text; save it as CSV in UTF-8.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{str(path)!r} is a damaged gzip archive; download it again.") from error
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror}); name a readable question file.") from error


def _columns(headings: Sequence[str], path: Path) -> dict[str, tuple[str, ...]]:
    """Meaning -> the headings present that hold it, in order of preference."""
    columns = {meaning: headings_for(names, headings) for meaning, names in ALIASES.items()}
    missing = [meaning for meaning in _REQUIRED if not columns[meaning]]
    if missing:
        wanted = " and ".join(f"{meaning} (one of {', '.join(ALIASES[meaning])})" for meaning in missing)
        found = ", ".join(headings)
        raise InputError(f"{str(path)!r} lacks a column for the {wanted}; found: {found}. Rename or add it.")
    return columns


def headings_for(names: Sequence[str], headings: Sequence[str]) -> tuple[str, ...]:
    """The exact heading first, then those that differ in case and underscores only."""
    wanted = [heading for name in names for heading in (name, *headings) if _plain(heading) == _plain(name)]
    return tuple(dict.fromkeys(heading for heading in wanted if heading in headings))


def _plain(heading: str) -> str:
    return "".join(character for character in heading.lower() if character.isalnum())


# --- the rows --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """What it takes to make a case of a row.

    Attributes:
        columns: Meaning -> headings.
        films: The name of an image as the rows write it -> its file.
        source: The name that the cases carry.
    """

    columns: Mapping[str, Sequence[str]]
    films: Mapping[str, Path]
    source: str

    def case(self, row: Mapping[str, str]) -> Case:
        image, study = _image_name(row, self.columns), first_filled(row, self.columns["study"])
        question = _question(first_filled(row, self.columns["question"]))
        if image not in self.films:
            raise UnusableRow("image file not found" if image else "no image named")
        return Case(
            id=case_id(study, image, question),
            image=self.films[image],
            question=question,
            options=_options(first_filled(row, self.columns["options"])),
            truth=_one(first_filled(row, self.columns["truth"]), "answer") or None,
            finding=first_filled(row, self.columns["finding"]) or None,
            patient_id=first_filled(row, self.columns["patient"]) or None,
            view=first_filled(row, self.columns["view"]) or None,
            source=self.source,
            rendering=rendering_by_name(self.films[image]),
        )


def _sorted_out(rows: Sequence[tuple[int, Row]], read: _Rows) -> tuple[list[Case], list[LeftOut]]:
    cases: dict[str, Case] = {}
    left_out = []
    for line, row in rows:
        try:
            case = read.case(row)
            _refuse_repeated(case, cases.get(case.id))
            cases[case.id] = case
        except UnusableRow as error:
            left_out.append(LeftOut(line, str(error)))
    return list(cases.values()), left_out


def _refuse_repeated(case: Case, earlier: Case | None) -> None:
    if earlier is not None:
        same = "the same" if earlier.truth == case.truth else "another"
        raise UnusableRow(f"repeats an earlier row's image and question with {same} answer")


def first_filled(row: Mapping[str, str], headings: Sequence[str]) -> str:
    """The first cell that says something, or ""; "nan" is how table programs write an empty one."""
    cells = (row.get(heading, "").strip() for heading in headings)
    return next((cell for cell in cells if cell.lower() not in ("", "nan")), "")


def _image_name(row: Mapping[str, str], columns: Mapping[str, Sequence[str]]) -> str:
    if _TOO_MANY in row:
        raise UnusableRow("more cells than headings")
    return _one(first_filled(row, columns["image"]), "image").replace("\\", "/")


def _question(text: str) -> str:
    try:
        return check_question(text)
    except InputError as error:
        raise UnusableRow(str(error).rstrip(".")) from error


def _one(text: str, what: str) -> str:
    """The cell itself, or the only entry of a list written as Python or JSON would."""
    entries = _listed(text, what) if text.startswith("[") else (text,)
    if len(entries) > 1:
        raise UnusableRow(f"the {what} is a list of several")
    return entries[0] if entries else ""


def _options(text: str) -> tuple[str, ...]:
    return tuple(option for option in _listed(text, "options") if option) if text else ()


def _listed(text: str, what: str) -> tuple[str, ...]:
    try:
        entries = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise UnusableRow(f"the {what} cannot be read as a list") from error
    if not isinstance(entries, list | tuple):
        raise UnusableRow(f"the {what} cannot be read as a list")
    return tuple(str(entry).strip() for entry in entries)


# --- the films -------------------------------------------------------------------------------------------------------


def _find_films(rows: Iterable[Row], columns: Mapping[str, Sequence[str]], folder: Path) -> dict[str, Path]:
    """Image name -> its file. A file to which several names lead only by their last parts belongs to none of them."""
    found = {}
    for name in dict.fromkeys(_image_names(rows, columns)):
        path = _film(name, folder)
        if path is not None:
            found[name] = path
    claims = Counter(found.values())
    return {name: path for name, path in found.items() if claims[path] == 1 or path == folder / name}


def _image_names(rows: Iterable[Row], columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for row in rows:
        with suppress(UnusableRow):  # told when the row's own turn comes
            yield _image_name(row, columns)


def _film(name: str, folder: Path) -> Path | None:
    """The path as written, then ever shorter tails of it under the folder, then the last part with any suffix."""
    parts = Path(name).parts
    tails = [folder.joinpath(*parts[first:]) for first in range(len(parts))]
    suffixed = [folder / f"{parts[-1]}{suffix}" for suffix in SUFFIXES] if parts else []
    try:
        return next((path for path in (*tails, *suffixed) if path.is_file()), None)
    except OSError:  # a name that no file system takes
        return None


def _told(found: QuestionSet) -> str:
    return "; ".join(f"{reason}: {count} rows" for reason, count in found.reasons.items()) or "headings only"
