"""Roots of MIMIC-CXR (DICOM) and MIMIC-CXR-JPG: which films there are, and what their tables say of them.

Knows the folders and the tables named 2.0.0, packed or not; copies may lack any of both. Opens no film. The tables of
all releases keep 2.0.0 in their names; only the radiologists' labels of the test set say 2.1.0.

Source: Johnson et al. 2019, "MIMIC-CXR, a de-identified publicly available database of chest radiographs with
free-text reports", and PhysioNet's documentation of MIMIC-CXR 2.1.0 and MIMIC-CXR-JPG 2.1.0. A film lies at
files/p10/p10000032/s50414267/<dicom_id>.jpg (or .dcm). The columns of the radiologists' labels are known from the code
of others only: `study_id` and CheXpert's labels, with "Airspace Opacity" for "Lung Opacity".
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from medgemma_visualizer.data.films import NOT_FOUND, NOT_NAMED, Film
from medgemma_visualizer.data.tables import LeftOut, UnusableRow, columns_of, first_filled, open_table
from medgemma_visualizer.errors import InputError

FRONTAL = ("PA", "AP")
#: Kind of table -> how its name begins, to be followed by .csv or .csv.gz.
TABLES: Mapping[str, str] = {
    "metadata": "mimic-cxr-2.0.0-metadata",
    "split": "mimic-cxr-2.0.0-split",
    "records": "cxr-record-list",
    "test labels": "mimic-cxr-2.1.0-test-set-labeled",
    "chexpert": "mimic-cxr-2.0.0-chexpert",
    "negbio": "mimic-cxr-2.0.0-negbio",
}
#: Tables that list films; what each calls what it knows.
_FILM_TABLES = ("metadata", "split", "records")
_FILM_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "film": ("dicom_id",),
    "patient": ("subject_id",),
    "study": ("study_id",),
    "view": ("ViewPosition",),
    "split": ("split",),
    "rows": ("Rows",),
    "columns": ("Columns",),
}
#: Radiologists before programs; of the programs the usual one first.
_LABEL_TABLES = ("test labels", "chexpert", "negbio")
LABELS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture"),
    *("Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax"),
    "Support Devices",
)
_OTHER_LABELS = {"Lung Opacity": ("Airspace Opacity",)}
_SUFFIXES = (".jpg", ".dcm", ".png", ".jpeg")
_FOLDER = re.compile(r"p1\d")
_WRITTEN = {"1": True, "0": False, "-1": None}


class Record(NamedTuple):
    """What the tables say of a film; None where they do not.

    Attributes:
        patient: Eight digits.
        study: Eight digits.
        view: "PA", "AP", "LATERAL", "LL", …
        split: "train", "validate" or "test".
        size: (height, width) of the film as archived.
    """

    patient: str
    study: str
    view: str | None = None
    split: str | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Label:
    """What a table says of a finding in a study: True there, False not there, None uncertain."""

    line: int
    study: str
    name: str
    value: bool | None
    table: str


@dataclass(frozen=True)
class MimicRoot:
    """A root, and all films that its tables or, without any, its folders list.

    Attributes:
        folder: The root.
        records: dicom_id -> record; the film itself may be missing in a partial copy.
        left_out: Table -> rows of it that name no film.
        tables: Kind -> file, of `TABLES`, those that are there.
    """

    folder: Path
    records: Mapping[str, Record]
    tables: Mapping[str, Path]
    left_out: Mapping[str, tuple[LeftOut, ...]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> MimicRoot:
        """Reads the tables that list films.

        Raises:
            InputError: A table lacks a column or cannot be read, tables contradict each other, or neither tables nor
                folders list a film.
        """
        folder = folder.parent if folder.name == "files" and not _tables(folder) else folder
        tables = _tables(folder)
        records: dict[str, Record] = {}
        left_out = {}
        for kind in _FILM_TABLES:
            if kind in tables:
                left_out[kind] = tuple(_read_films(tables[kind], records))
        if not records:
            records = dict(_walked(folder))
        if not records:
            raise InputError(f"{str(folder)!r} has no film listed or stored; download {TABLES['metadata']}.csv.gz.")
        return cls(folder, records, tables, left_out)

    def film(self, image: str, study: str) -> Film:
        """See `films.Films`. Where a row names a study only: its frontal film, PA before AP, the first by identifier.

        Raises:
            UnusableRow: Not listed, not stored here, or a study without a frontal film.
        """
        key = _key(image)
        if key in self.records:
            return self._stored(key)
        if image:
            raise UnusableRow(NOT_FOUND)
        if not study:
            raise UnusableRow(NOT_NAMED)
        return self._stored(self._frontal(bare_id(study)))

    def _frontal(self, study: str) -> str:
        keys = self.studies.get(study)
        if keys is None:
            raise UnusableRow("the study is not listed")
        views = [(FRONTAL.index(view), key) for key in keys if (view := self.records[key].view) in FRONTAL]
        if not views:
            raise UnusableRow("the study has no film that is known to be frontal")
        return min(views)[1]

    @property
    def studies(self) -> Mapping[str, Sequence[str]]:
        """study -> dicom_ids; gone through once, when first needed."""
        if not self._studies:
            for key, record in self.records.items():
                self._studies[record.study].append(key)
        return self._studies

    _studies: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list), repr=False, compare=False)
    _films: dict[str, Film | None] = field(default_factory=dict, repr=False, compare=False)

    def _stored(self, key: str) -> Film:
        if key not in self._films:
            self._films[key] = self._looked_for(key)
        film = self._films[key]
        if film is None:
            raise UnusableRow(NOT_FOUND)
        return film

    def _looked_for(self, key: str) -> Film | None:
        record = self.records[key]
        stem = f"{self.folder}/files/p{record.patient[:2]}/p{record.patient}/s{record.study}/{key}"
        suffix = next((suffix for suffix in _SUFFIXES if os.path.isfile(stem + suffix)), None)
        return None if suffix is None else Film(Path(stem + suffix), key, record.patient, record.view, record.split)

    def labels(self) -> Iterator[Label]:
        """What is said of studies: each by radiologists where they labelled it, else by the first program there is.

        Raises:
            InputError: There is no table of labels, or one lacks its columns.
        """
        kinds = [kind for kind in _LABEL_TABLES if kind in self.tables]
        if not kinds:
            names = " or ".join(f"{TABLES[kind]}.csv.gz" for kind in _LABEL_TABLES)
            raise InputError(f"{str(self.folder)!r} has no labels to ask for; add {names}, or ask a question of yours.")
        seen: set[str] = set()
        for kind in kinds:
            studies = set()
            for label in _read_labels(self.tables[kind], kind):
                if label.study not in seen:
                    studies.add(label.study)
                    yield label
            seen |= studies
            if kind == "chexpert":  # negbio labels the same reports with an older program
                return


@dataclass(frozen=True)
class StudyFilms:
    """A root, and a file that says which film of it a study's questions are about.

    Attributes:
        root: The root.
        films: study -> dicom_id.
    """

    root: MimicRoot
    films: Mapping[str, str]

    @classmethod
    def beside(cls, path: Path, root: MimicRoot) -> StudyFilms:
        """Reads the file, packed or not; without one the root's own choice stands.

        Raises:
            InputError: It lacks a column, or cannot be read.
        """
        existing = next((file for file in (path, path.with_name(f"{path.name}.gz")) if file.is_file()), None)
        if existing is None:
            return cls(root, {})
        table = open_table(existing)
        meanings = {"study": ("study_id",), "film": ("dicom_id",)}
        columns = columns_of(table, meanings, (("study",), ("film",)))
        pairs = ((first_filled(row, columns["study"]), first_filled(row, columns["film"])) for _, row in table.rows())
        return cls(root, {bare_id(study): film for study, film in pairs if study and film})

    def film(self, image: str, study: str) -> Film:
        """See `films.Films`."""
        return self.root.film(image or self.films.get(bare_id(study), ""), study)


def is_mimic_root(folder: Path) -> bool:
    """Whether a folder is laid out as a root of MIMIC-CXR: it has one of the tables, or patients' folders."""
    if _tables(folder):
        return True
    files = folder if folder.name == "files" else folder / "files"
    try:
        return files.is_dir() and any(_FOLDER.fullmatch(path.name) and path.is_dir() for path in files.iterdir())
    except OSError:
        return False


def bare_id(text: str) -> str:
    """An identifier without what people and programs put around it: "s50414267" and "50414267.0" are 50414267."""
    bare = text.removesuffix(".0")
    return bare[1:] if bare[:1] in "ps" and bare[1:].isdecimal() else bare


# --- tables and folders ----------------------------------------------------------------------------------------------


def _tables(folder: Path) -> dict[str, Path]:
    """Kind -> file; the unpacked one where both are there."""
    candidates = {kind: [folder / f"{name}.csv{end}" for end in ("", ".gz")] for kind, name in TABLES.items()}
    return {kind: path for kind, paths in candidates.items() if (path := next((p for p in paths if p.is_file()), None))}


def _read_films(path: Path, records: dict[str, Record]) -> Iterator[LeftOut]:
    """Adds what a table says to the records; gives the rows that name no film."""
    table = open_table(path)
    columns = columns_of(table, _FILM_COLUMNS, (("film",), ("patient",), ("study",)))
    for line, row in table.rows():
        cells = {meaning: first_filled(row, headings) for meaning, headings in columns.items()}
        key, patient, study = cells["film"].removesuffix(".dcm"), bare_id(cells["patient"]), bare_id(cells["study"])
        if not (key and patient.isdecimal() and study.isdecimal()):
            yield LeftOut(line, "names no film: dicom_id, subject_id or study_id is missing or no identifier")
            continue
        size = _size(cells["rows"], cells["columns"])
        view, split = _once(cells["view"]) or None, _once(cells["split"]) or None
        told = Record(_once(patient), _once(study), view, split, size)
        records[_once(key)] = _joined(records.get(key), told, path, line)


def _once(text: str) -> str:
    """The same text kept once."""
    return sys.intern(text)


@functools.lru_cache(65536)
def _size(rows: str, columns: str) -> tuple[int, int] | None:
    height, width = rows.removesuffix(".0"), columns.removesuffix(".0")
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() else None


def _joined(known: Record | None, told: Record, path: Path, line: int) -> Record:
    if known is None:
        return told
    if (known.patient, known.study) != (told.patient, told.study):
        raise InputError(
            f"{str(path)!r} (line {line}) gives a film another patient or study than a table before it does; "
            "the tables are of different copies: download them again."
        )
    return Record(*known[:2], known.view or told.view, known.split or told.split, known.size or told.size)


def _walked(folder: Path) -> Iterator[tuple[str, Record]]:
    """(dicom_id, record) of every film stored."""
    for path in sorted((folder / "files").glob("p1*/p*/s*/*")):
        patient, study = bare_id(path.parent.parent.name), bare_id(path.parent.name)
        if path.suffix in _SUFFIXES and patient.isdecimal() and study.isdecimal():
            yield path.stem, Record(patient, study)


def _key(image: str) -> str:
    """The identifier in a name or path, with or without a suffix."""
    name = image.rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if "." in name else name


def _read_labels(path: Path, kind: str) -> Iterator[Label]:
    table = open_table(path)
    meanings = {"study": ("study_id",), **{name: (name, *_OTHER_LABELS.get(name, ())) for name in LABELS}}
    columns = columns_of(table, meanings, (("study",), LABELS))
    for line, row in table.rows():
        study = bare_id(first_filled(row, columns["study"]))
        for name in LABELS:
            cell = first_filled(row, columns[name]).removesuffix(".0")
            if cell:
                yield Label(line, _once(study), name, _value(cell, path, line, name), kind)


def _value(cell: str, path: Path, line: int, name: str) -> bool | None:
    if cell not in _WRITTEN:
        raise InputError(f"{str(path)!r} (line {line}) holds {cell!r} for {name!r}; labels are 1, 0, -1 or blank.")
    return _WRITTEN[cell]
