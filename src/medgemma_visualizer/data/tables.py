"""Tables of text: comma-, semicolon- and tab-separated files, packed or not, and lists of JSON objects, row by row.

Knows headings, cells and what can be wrong with a file; does not know what a column means. Rows of separated files are
read as they are asked for, so that a file of any length takes the memory of one row.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, cast

from medgemma_visualizer.errors import InputError

Row: TypeAlias = dict[str, str]

#: A key of rows that have more cells than headings; headings are stripped, so none ends in a line break.
TOO_MANY = "cells beyond the headings\n"


class UnusableRow(Exception):
    """Why one row cannot be used; becomes a `LeftOut`, never leaves the readers of this folder."""


@dataclass(frozen=True)
class LeftOut:
    """A row that cannot be used.

    Attributes:
        line: Where it ends in the file; the headings are line 1. For JSON: which entry it is, counted from 1.
        reason: Worded alike for alike rows, so that reasons can be counted.
    """

    line: int
    reason: str


class Table(Protocol):
    """Headings and rows, which can be gone through several times."""

    @property
    def path(self) -> Path: ...
    @property
    def headings(self) -> tuple[str, ...]: ...
    def rows(self) -> Iterator[tuple[int, Row]]:
        """(line, row) of every row that is not blank; a row maps headings to cells."""
        ...


def open_table(path: Path) -> Table:
    """Reads the headings.

    Raises:
        InputError: The file cannot be read or is no table, or a heading stands twice. Damage further down is told when
            the rows are gone through.
    """
    return _JsonTable.of(path) if is_json(path) else _SeparatedTable.of(path)


def read_table(path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """Headings, and (line, row) of every row, all at once: for files that are known to be short.

    Raises:
        InputError: As `open_table`, for the whole file.
    """
    table = open_table(path)
    return list(table.headings), list(table.rows())


def is_json(path: Path) -> bool:
    """Whether a file is named like JSON."""
    return path.name.lower().endswith((".json", ".json.gz"))


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: The file cannot be read or is no JSON.
    """
    with _naming(path):
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is no readable JSON ({error}); download it again.") from error


def headings_for(names: Sequence[str], headings: Sequence[str]) -> tuple[str, ...]:
    """The exact heading first, then those that differ in case, blanks and underscores only."""
    wanted = [heading for name in names for heading in (name, *headings) if plain(heading) == plain(name)]
    return tuple(dict.fromkeys(heading for heading in wanted if heading in headings))


def columns_of(
    table: Table, meanings: Mapping[str, Sequence[str]], required: Sequence[Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Meaning -> the headings present that hold it, in order of preference.

    Args:
        table: Where.
        meanings: Meaning -> its possible headings.
        required: Groups of meanings; one of each group must be there.

    Raises:
        InputError: One is missing; the message names those found.
    """
    columns = {meaning: headings_for(names, table.headings) for meaning, names in meanings.items()}
    missing = [group for group in required if not any(columns[meaning] for meaning in group)]
    if missing:
        wanted = " and ".join(
            " or ".join(f"{meaning} (one of {', '.join(meanings[meaning])})" for meaning in group) for group in missing
        )
        found = ", ".join(table.headings)
        raise InputError(f"{str(table.path)!r} lacks a column for the {wanted}; found: {found}. Rename or add it.")
    return columns


def first_filled(row: Mapping[str, str], headings: Sequence[str]) -> str:
    """The first cell that says something, or ""; "nan" is how table programs write an empty one."""
    for heading in headings:  # a loop, because long tables ask this millions of times
        cell = row.get(heading, "").strip()
        if cell and not (len(cell) == 3 and cell.lower() == "nan"):
            return cell
    return ""


def plain(heading: str) -> str:
    """A heading by which spellings are compared."""
    return "".join(character for character in heading.lower() if character.isalnum())


# --- separated files -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _SeparatedTable:
    path: Path
    headings: tuple[str, ...]
    delimiter: str

    @classmethod
    def of(cls, path: Path) -> _SeparatedTable:
        with _text(path) as text:
            delimiter = max(",;\t", key=text.readline().count)
        _, first = next(_cells(path, delimiter), (0, None))
        if first is None:
            raise InputError(f"{str(path)!r} is empty; give a file with headings and rows.")
        headings = tuple(heading.strip() for heading in first)
        for heading, times in Counter(headings).items():
            if heading and times > 1:
                raise InputError(f"{str(path)!r} has the heading {heading!r} {times} times; rename all but one.")
        return cls(path, headings, delimiter)

    def rows(self) -> Iterator[tuple[int, Row]]:
        lines = _cells(self.path, self.delimiter)
        next(lines)  # the headings
        for line, cells in lines:
            row = dict(zip(self.headings, cells, strict=False))
            if len(cells) > len(self.headings):
                row[TOO_MANY] = ""
            yield line, row


def _cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Every line that is not blank."""
    with _text(path) as text:
        # Strict: an unclosed quote is an error here, where otherwise it would swallow all rows that follow.
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                if any(map(str.strip, cells)):
                    yield reader.line_num, cells
        except csv.Error as error:
            message = f"{str(path)!r} is no readable table ({error}, line {reader.line_num}); repair it."
            raise InputError(message) from error


@contextmanager
def _text(path: Path) -> Iterator[io.TextIOWrapper]:
    """The file's text as a stream, line ends as they are; what goes wrong while it is read is told in one sentence."""
    with _naming(path), _bytes(path) as opened, io.TextIOWrapper(opened, encoding="utf-8-sig", newline="") as text:
        yield text


def _bytes(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(path)) if path.suffix == ".gz" else path.open("rb")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{str(path)!r} does not exist; check the path of the file.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not UTF-8 text; save it in UTF-8.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{str(path)!r} is a damaged gzip archive; download it again.") from error
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror}); name a readable file.") from error


# --- lists of JSON objects -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _JsonTable:
    path: Path
    headings: tuple[str, ...]
    entries: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, path: Path) -> _JsonTable:
        entries = read_json(path)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{str(path)!r} is no list of questions, each an object with keys; name another file.")
        if not entries:
            raise InputError(f"{str(path)!r} is an empty list; give a file with entries.")
        return cls(path, tuple(dict.fromkeys(key for entry in entries for key in entry)), entries)

    def rows(self) -> Iterator[tuple[int, Row]]:
        for number, entry in enumerate(self.entries, start=1):
            yield number, {key: _cell(value) for key, value in entry.items()}


def _cell(value: Any) -> str:
    """A value as it would stand in a cell: lists as Python writes them, objects as JSON does."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, dict) else str(value)
