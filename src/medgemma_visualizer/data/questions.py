"""Question files: one row, one question about one film.

Knows what the rows of a question set mean; the sets' headings stand in `layouts`. Does not know pixels, masks, or where
the films of a data set come from (`films`). Every row becomes a case or is counted with its reason.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from medgemma_visualizer.data.films import NOT_FOUND, Films, FolderFilms
from medgemma_visualizer.data.inputs import check_question
from medgemma_visualizer.data.layouts import ALIASES, SETS, SPLITS, Layout
from medgemma_visualizer.data.mimic import MimicRoot, StudyFilms, bare_id, is_mimic_root
from medgemma_visualizer.data.photo import rendering_by_name
from medgemma_visualizer.data.tables import (
    TOO_MANY,
    LeftOut,
    Row,
    Table,
    UnusableRow,
    columns_of,
    first_filled,
    headings_for,
    open_table,
    plain,
    read_table,
)
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case

__all__ = [
    "ALIASES",
    "QUESTION_FILE_SUFFIXES",
    "LeftOut",
    "QuestionSet",
    "Row",
    "case_id",
    "first_filled",
    "headings_for",
    "is_question_table",
    "layout_of",
    "read_questions",
    "read_table",
    "told_of",
]

QUESTION_FILE_SUFFIXES = (".csv", ".tsv", ".csv.gz")


@dataclass(frozen=True)
class QuestionSet(Sequence[Case]):
    """The cases of a source, in its order, and what was left out.

    Attributes:
        cases: One for each usable (image, question); their ids are unique.
        left_out: Rows that made no case.
        columns: Meaning -> the headings that hold it, for sources that have headings.
        source: Where the cases come from.
        recognised: What the source was taken for: a name of `layouts.SETS`, of `region_sets.REGION_SETS`, or words.
        missing_images: How many images rows name that are not there.
        regions_from: What the regions were read from; "" where from nothing.
        regions_left_out: Reason -> entries of the regions' source that mark nothing on a film of these cases.
        notes: What must be known of the set as a whole.
    """

    cases: tuple[Case, ...]
    left_out: tuple[LeftOut, ...] = ()
    columns: Mapping[str, tuple[str, ...]] | None = None
    source: str = "user"
    recognised: str = ""
    missing_images: int = 0
    regions_from: str = ""
    regions_left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
    """Reads a question file: .csv or .tsv (commas, semicolons or tabs), .json (a list of objects), or .gz of these.

    Args:
        path: The file, UTF-8. `layouts.SETS` lists the sets that are known by their headings; `ALIASES` the headings
            of any other.
        images: The folder of the films; the file's own folder where not given. In a root of MIMIC-CXR or
            MIMIC-CXR-JPG a film is found by its identifier, or by its study. In any other folder it is looked for by
            the path in its row, then by the end of that path, then by its identifier with any picture suffix.

    Raises:
        InputError: The file cannot be read, a needed column is missing (the message names those found), or no row
            makes a case.
    """
    path = Path(path)
    table = open_table(path)
    layout = layout_of(table)
    columns = columns_of(table, layout.columns, layout.required)
    part = path.stem if path.name in layout.files and path.stem in SPLITS else ""
    reading = _Rows(columns, _films(table, layout, columns, images), path.stem, layout, part)
    found = _sorted_out(table, reading)
    if not found.cases:
        taken = f", taken for {layout.name}," if layout.marks else ""
        raise InputError(
            f"{str(path)!r}{taken} has no usable row ({told_of(found)}); correct the file or name its image folder "
            "(--images)."
        )
    return found


def layout_of(table: Table) -> Layout:
    """The question set that a file is of, by its headings."""
    there = {plain(heading) for heading in table.headings}
    for layout in SETS.values():
        marks, without = ({plain(name) for name in names} for names in (layout.marks, layout.without))
        if marks <= there and not without & there:
            return layout
    raise AssertionError("the last layout takes everything")


def is_question_table(path: Path) -> bool:
    """Whether a file is a table with the columns of questions about films."""
    try:
        table = open_table(path)
        layout = layout_of(table)
        columns_of(table, layout.columns, layout.required)
    except InputError:  # told where the file is named
        return False
    return True


def told_of(found: QuestionSet) -> str:
    """What was left out, in a few words."""
    return "; ".join(f"{reason}: {count} rows" for reason, count in found.reasons.items()) or "headings only"


def case_id(study: str, image: str, question: str) -> str:
    """An identifier of the pair (image, question), the same on every machine and for every order of rows."""
    digest = hashlib.sha256("\0".join((study, image, question)).encode()).hexdigest()
    return f"{study or Path(image).stem}-{digest[:12]}"


# --- the rows --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """What it takes to make a case of a row.

    Attributes:
        columns: Meaning -> headings.
        films: Finds them.
        source: The name that the cases carry.
        layout: The set.
        part: The split that the file's own name says, for rows that do not; "" where it says none.
    """

    columns: Mapping[str, Sequence[str]]
    films: Films
    source: str
    layout: Layout
    part: str = ""

    def case(self, row: Row) -> Case:
        self.layout.refuse(row)
        image, study = _image_name(row, self.columns), self._cell(row, "study")
        question = sys.intern(_question(self._cell(row, "question")))
        film = self.films.film(image, study)
        return Case(
            id=case_id(study, film.key or image, question),
            image=film.path,
            question=question,
            options=_options(self._cell(row, "options")),
            truth=_known(_truth(_one(self._cell(row, "truth"), "answer"))),
            finding=_known(self._cell(row, "finding") or self.layout.finding(row, question) or ""),
            patient_id=film.patient or _known(self._cell(row, "patient")),
            view=film.view or _known(self._cell(row, "view")),
            source=self.source,
            rendering=rendering_by_name(film.path),
            split=film.split or self._split(row),
        )

    def _split(self, row: Row) -> str | None:
        cell = self._cell(row, "split") or self.part
        return _known(self.layout.split(cell)) if cell else None

    def contradicts(self, row: Row, case: Case) -> bool:
        """Whether the file puts a film into another split than the root of the films does."""
        own = self._split(row)
        return own is not None and own != case.split

    def refuse_another_patient(self, row: Row, case: Case) -> None:
        """Raises `UnusableRow` where the row's patient is not the film's."""
        patient = self._cell(row, "patient")
        if patient and bare_id(patient) != bare_id(case.patient_id or ""):
            raise UnusableRow("the row names another patient than the film's")

    def _cell(self, row: Row, meaning: str) -> str:
        return first_filled(row, self.columns[meaning])


def _sorted_out(table: Table, read: _Rows) -> QuestionSet:
    cases: dict[str, Case] = {}
    left_out, missing, contradictions = [], set(), 0
    for line, row in table.rows():
        try:
            case = read.case(row)
            read.refuse_another_patient(row, case)
            _refuse_repeated(case, cases.get(case.id))
            cases[case.id] = case
            contradictions += read.contradicts(row, case)
        except UnusableRow as error:
            left_out.append(LeftOut(line, sys.intern(str(error))))
            if str(error) == NOT_FOUND:
                missing.add(_image_name(row, read.columns) or first_filled(row, read.columns["study"]))
    return QuestionSet(
        cases=tuple(cases.values()),
        left_out=tuple(left_out),
        columns={meaning: tuple(headings) for meaning, headings in read.columns.items()},
        source=read.source,
        recognised=read.layout.name,
        missing_images=len(missing),
        notes=(_CONTRADICTED.format(contradictions),) if contradictions else (),
    )


_CONTRADICTED = (
    "{} rows stand in another split of the question file than their films do in MIMIC-CXR; the films' own counts."
)


def _refuse_repeated(case: Case, earlier: Case | None) -> None:
    if earlier is not None:
        same = "the same" if earlier.truth == case.truth else "another"
        raise UnusableRow(f"repeats an earlier row's image and question with {same} answer")


def _image_name(row: Mapping[str, str], columns: Mapping[str, Sequence[str]]) -> str:
    if TOO_MANY in row:
        raise UnusableRow("more cells than headings")
    return _one(first_filled(row, columns["image"]), "image").replace("\\", "/")


@functools.lru_cache(4096)
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


def _truth(text: str) -> str:
    """The right answer; "Yes." and "NO" are how some write yes and no."""
    bare = text.rstrip(". ").casefold()
    return bare if bare in ("yes", "no") else text


@functools.lru_cache(4096)
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


def _known(text: str) -> str | None:
    """The text, kept once however many cases have it; None for none."""
    return sys.intern(text) if text else None


# --- the films -------------------------------------------------------------------------------------------------------


def _films(table: Table, layout: Layout, columns: Mapping[str, Sequence[str]], images: Path | str | None) -> Films:
    """Who finds the films: a root of MIMIC-CXR, or the folder by names."""
    beside = table.path.parent
    folder = beside if images is None else Path(images)
    if is_mimic_root(folder):
        root = MimicRoot.open(folder)
        return StudyFilms.beside(beside / layout.studies, root) if layout.studies else root
    return FolderFilms(_image_names(table, columns), folder, layout.within)


def _image_names(table: Table, columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for _, row in table.rows():
        with suppress(UnusableRow):  # told when the row's own turn comes
            yield _image_name(row, columns)
