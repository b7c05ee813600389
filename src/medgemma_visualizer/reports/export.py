"""What of a run may leave the machine, and how: levels of export, salted identifiers, tables for spreadsheets.

Knows which columns tell of a person and which cells a spreadsheet would run; computes nothing.
"""

from __future__ import annotations

import csv
import hashlib
import io
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medgemma_visualizer.errors import unknown_name

#: Level -> what it holds, the least first.
LEVELS: Mapping[str, str] = {
    "aggregate": "counts and means only: no identifier, no question, no answer, no picture",
    "pseudonymous": "also single cases under salted identifiers, with labels, scores and maps; no words and no film",
    "full": "everything: identifiers, questions, answers and films",
}
DATA_USE = (
    "This file holds identifiers, words and pictures of single cases. If they come from a credentialed data set, such "
    "as MIMIC-CXR, its data use agreement covers this file as well: keep it where the data may be kept, give it to "
    "nobody who has not signed, and do not send it to an online service."
)
#: Columns with a person's words, a name given by an institution, or a fingerprint of a film.
_WORDS = ("question", "asked", "answer", "source", "notice", "why", "reason", "image_sha256")
_IDS = ("case_id", "patient_id")
#: With these a spreadsheet starts a formula; a tab or line end may hide one.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class Level:
    """How much may be shown.

    Attributes:
        name: Of `LEVELS`.
        salt: Of pseudonyms; drawn anew for every export where nobody gives one, and written nowhere.
    """

    name: str = "aggregate"
    salt: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def __post_init__(self) -> None:
        """Refuses a level that is none.

        Raises:
            InputError: It is none.
        """
        if self.name not in LEVELS:
            raise unknown_name("level", self.name, LEVELS)

    @property
    def cases(self) -> bool:
        """Whether single cases are shown."""
        return self.name != "aggregate"

    @property
    def films(self) -> bool:
        """Whether films and words are shown."""
        return self.name == "full"

    def called(self, identifier: str) -> str:
        """What a case or patient is called: below "full" hex digits, which nobody turns back without the salt."""
        if self.films:
            return identifier
        return hashlib.sha256(f"{self.salt}:{identifier}".encode()).hexdigest()[:12]


def exported(rows: Iterable[Mapping[str, Any]], level: Level) -> list[dict[str, Any]]:
    """Rows as they may be shown: identifiers salted and words left out unless the level is "full".

    At "aggregate" there are no rows.
    """
    if not level.cases:
        return []
    if level.films:
        return [dict(row) for row in rows]
    return [
        {name: level.called(value) if name in _IDS else value for name, value in row.items() if name not in _WORDS}
        | (
            {"truth": ""} if row.get("kind") == "open" else {}
        )  # the right answer to an open question is somebody's words
        for row in rows
    ]


def safe_cell(value: object) -> object:
    """A cell that no spreadsheet runs: text that would start a formula gets an apostrophe; numbers stay numbers.

    Yes and no are written "true" and "false", no value as an empty cell.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return "" if value is None or value != value else value
    return f"'{value}" if value.startswith(_FORMULA) else value


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table in UTF-8 with headings; all text quoted, every cell safe to open in a spreadsheet."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([safe_cell(name) for name in names])
    for row in rows:
        writer.writerow([safe_cell(row.get(name)) for name in names])
    return text.getvalue()
