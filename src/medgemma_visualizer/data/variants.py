"""Files of reworded questions: one row, one wording of a baseline question, maybe about one film.

Knows the columns of hard-positive question sets; does not know what a question means, nor pixels. Every row becomes a
variant or is counted with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medgemma_visualizer.data.inputs import check_question
from medgemma_visualizer.data.questions import ALIASES, LeftOut, Row, first_filled, headings_for, read_table
from medgemma_visualizer.errors import InputError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "baseline_question": ("baseline_question", "baseline"),
    "question_variant": ("question_variant", "variant"),
    "strategy": ("strategy",),
    "image": ALIASES["image"],
    "study": ALIASES["study"],
}
_REQUIRED = ("baseline_question", "question_variant")


@dataclass(frozen=True)
class Variant:
    """One row.

    Attributes:
        baseline: The question that it is a wording of.
        text: The wording.
        strategy: How it was reworded; "" where the file does not say.
        image: The film's name as the file writes it; "" where the wording belongs to no film.
        study: The study's name; "" where the file has none.
        line: Where the row ends in the file.
    """

    baseline: str
    text: str
    strategy: str
    image: str
    study: str
    line: int


@dataclass(frozen=True)
class VariantSet:
    """The rows of a file, in its order, and what was left out."""

    rows: tuple[Variant, ...]
    left_out: tuple[LeftOut, ...]


def read_variants(path: Path | str) -> VariantSet:
    """Reads a file with the columns baseline_question and question_variant; strategy, image and study may be missing.

    Raises:
        InputError: The file cannot be read, one of the two columns is missing, or no row can be used.
    """
    path = Path(path)
    headings, lines = read_table(path)
    columns = {meaning: headings_for(names, headings) for meaning, names in COLUMNS.items()}
    if missing := [meaning for meaning in _REQUIRED if not columns[meaning]]:
        raise InputError(
            f"{str(path)!r} lacks the column {' and '.join(missing)}; found: {', '.join(headings)}. Rename or add it."
        )
    read = [_variant(line, row, columns) for line, row in lines]
    rows = tuple(one for one in read if isinstance(one, Variant))
    left_out = tuple(one for one in read if isinstance(one, LeftOut))
    if not rows:
        reasons = Counter(one.reason for one in left_out).most_common()
        told = "; ".join(f"{reason}: {count} rows" for reason, count in reasons) or "headings only"
        raise InputError(f"{str(path)!r} has no usable row ({told}); correct the file.")
    return VariantSet(rows, left_out)


def _variant(line: int, row: Row, columns: Mapping[str, Sequence[str]]) -> Variant | LeftOut:
    cells = {meaning: first_filled(row, names) for meaning, names in columns.items()}
    for meaning in _REQUIRED:
        try:
            cells[meaning] = check_question(cells[meaning])
        except InputError as error:
            return LeftOut(line, f"{meaning}: {str(error).rstrip('.')}")
    if cells["baseline_question"] == cells["question_variant"]:
        return LeftOut(line, "the variant is the baseline itself")
    return Variant(
        baseline=cells["baseline_question"],
        text=cells["question_variant"],
        strategy=cells["strategy"],
        image=cells["image"].replace("\\", "/"),
        study=cells["study"],
        line=line,
    )
