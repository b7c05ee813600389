"""Where cases are found: the embedded films, a folder, a question file, one picture.

Knows how such places are laid out; does not know how a film was made or what a model makes of it.

A folder of cases holds `questions.csv`, the films that it names, and, where the truth is known, an index `cases.json`:
{"films": {"films/….png": {"masks": {"pleural_effusion": "masks/….png"}}}}, all paths relative to the folder. A folder
without `questions.csv` is a folder of pictures, of which one question is asked; DICOM files in it that are no frontal
radiographs are left out, and counted.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medgemma_visualizer.data.inputs import check_question
from medgemma_visualizer.data.joining import (
    ask_regions,
    is_region_source,
    joined,
    named_regions,
    plain_regions,
    region_file,
    with_regions,
)
from medgemma_visualizer.data.labelled import ask_films, ask_labels
from medgemma_visualizer.data.layouts import SETS
from medgemma_visualizer.data.mimic import MimicRoot, is_mimic_root
from medgemma_visualizer.data.photo import SUFFIXES, check_picture_path, is_dicom, open_image
from medgemma_visualizer.data.questions import (
    QUESTION_FILE_SUFFIXES,
    LeftOut,
    QuestionSet,
    case_id,
    is_question_table,
    read_questions,
)
from medgemma_visualizer.data.region_sets import read_regions, reflacx_tables
from medgemma_visualizer.data.regions import DrawnRegions, mask_digest, read_mask
from medgemma_visualizer.data.tables import is_json
from medgemma_visualizer.errors import InputError, unknown_name
from medgemma_visualizer.records import Case
from medgemma_visualizer.settings import DEFAULT_RENDERING

DEMO = "demo"
_QUESTIONS, _INDEX = "questions.csv", "cases.json"


class Regions(Mapping[str, np.ndarray]):
    """Finding or structure -> bool mask (height, width) of the film, read from its file each time it is asked for.

    Args:
        files: Name -> a black-and-white picture, white inside the region.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)

    def __getitem__(self, name: str) -> np.ndarray:
        """The mask.

        Raises:
            KeyError: No such region on this film.
            InputError: The file is missing, damaged, or holds levels between black and white.
        """
        return read_mask(self._files[name])

    def digest(self, name: str) -> str:
        """As `DrawnRegions.digest`."""
        return mask_digest(self._files[name])

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"Regions({', '.join(self)})"


def region_digest(regions: Mapping[str, np.ndarray], name: str) -> str:
    """Sixteen hex digits that change when a region of a case does; masks are not drawn for it where that can be helped.

    Raises:
        InputError: The file of a mask cannot be read.
    """
    if isinstance(regions, ChainMap):
        return next(region_digest(each, name) for each in regions.maps if name in each)
    if isinstance(regions, DrawnRegions | Regions):
        return regions.digest(name)
    mask = np.ascontiguousarray(regions[name])
    return hashlib.sha256(repr((mask.shape, mask.dtype.str)).encode() + mask.tobytes()).hexdigest()[:16]


def load_cases(
    source: Path | str = DEMO,
    question: str | None = None,
    images: Path | str | None = None,
    regions: Path | str | None = None,
) -> QuestionSet:
    """Finds cases.

    Args:
        source: "demo" for the embedded films (a folder of that name is "./demo"); a question file or the folder of a
            question set (`layouts.SETS`); a root of MIMIC-CXR or MIMIC-CXR-JPG; regions of a data set
            (`region_sets.REGION_SETS`); a folder of pictures; a picture.
        question: What to ask of every film, where the source brings no questions. A root of MIMIC-CXR is else asked
            for its labels, regions for the findings that they mark.
        images: The folder of the films of a question file or of regions, where it is not the file's own.
        regions: Where to read regions for these cases from: a file or folder; see `region_sets.read_regions`.

    Returns:
        A sequence of cases that also knows what was left out and why.

    Raises:
        InputError: No such source, or nothing in it that can be used.
    """
    found = _load(source, question, images)
    if regions is None:
        return found
    return with_regions(found, named_regions(Path(regions)), Path(source) if images is None else Path(images))


def _load(source: Path | str, question: str | None, images: Path | str | None) -> QuestionSet:
    path = Path(source)
    if question is not None and str(source) == DEMO:
        raise _brings_its_own(source)
    if str(source) == DEMO:
        return demo_cases()
    if path.is_dir():
        return _from_folder(path, question, images)
    if path.name.lower().endswith(QUESTION_FILE_SUFFIXES) or is_json(path):
        return _from_file(path, question, images)
    if not path.exists() and not path.suffix and path.name == str(source):
        hint = "A folder, a question file (.csv) or a picture is named by its path."
        raise InputError(f"{unknown_name('source of cases', str(source), [DEMO])} {hint}")
    film = check_picture_path(str(source))
    return QuestionSet((_with_header(_asked_of(film, question, "user"), film),), recognised="a picture")


def _from_file(path: Path, question: str | None, images: Path | str | None) -> QuestionSet:
    """Questions, or regions."""
    if is_region_source(path):
        return ask_regions(read_regions(path), path.parent if images is None else Path(images), question)
    if question is not None:
        raise _brings_its_own(path)
    return read_questions(path, images)


def _brings_its_own(source: Path | str) -> InputError:
    return InputError(f"{str(source)!r} brings its own questions; leave yours out, or name a picture.")


@functools.cache
def demo_cases() -> QuestionSet:
    """The embedded cases: simulated films, which no patient ever had, with the mask of everything put in."""
    found = _from_question_file(demo_folder() / _QUESTIONS, demo_folder(), None)
    cases = tuple(replace(case, source=DEMO, simulated=True) for case in found)
    return replace(found, cases=cases, source=DEMO)


def demo_folder() -> Path:
    """Where the embedded films lie."""
    return Path(str(resources.files("medgemma_visualizer.data").joinpath(DEMO)))


def is_demo_film(image: Image.Image) -> bool:
    """Whether this is one of the embedded films, pixel by pixel; of any other film the embedded model knows nothing."""
    return _fingerprint(open_image(image)) in _demo_fingerprints()


@functools.cache
def _demo_fingerprints() -> frozenset[str]:
    """Computed from the decoded films: decoders differ, so stored fingerprints of pixels would not hold everywhere."""
    return frozenset(_fingerprint(open_image(film)) for film in {case.image for case in demo_cases()})


def _fingerprint(rgb: Image.Image) -> str:
    return hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()


def _from_folder(folder: Path, question: str | None, images: Path | str | None) -> QuestionSet:
    """What a folder holds: its own questions first, then those that labels and regions make, then pictures."""
    if files := _question_files(folder):
        if question is not None:
            raise _brings_its_own(folder)
        return joined([_from_question_file(file, folder, images) for file in files], folder.name)
    if is_mimic_root(folder):
        root = MimicRoot.open(folder)
        return ask_labels(root) if question is None else ask_films(root, question)
    if (regions := region_file(folder) or _plain_regions(folder, question)) is not None:
        return ask_regions(read_regions(regions), folder if images is None else Path(images), question)
    return _from_pictures(folder, question)


def _plain_regions(folder: Path, question: str | None) -> Path | None:
    """A table of boxes beside films that are all asked one question is only read where it is named (`regions`)."""
    found = plain_regions(folder)
    return None if found != folder and question is not None and _pictures_in(folder) else found


def _question_files(folder: Path) -> list[Path]:
    """The files of a question set, or the one table of questions; none where there is none.

    Raises:
        InputError: Several tables, of which one has to be chosen.
    """
    *sets, plain = SETS.values()
    for layouts in ((plain,), sets):  # sets share names of files, so that all of those are one set's
        wanted = dict.fromkeys(name for layout in layouts for name in layout.files)
        if files := [folder / name for name in wanted if (folder / name).is_file()]:
            return files
    tables = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(QUESTION_FILE_SUFFIXES)]
    tables = [path for path in tables if is_question_table(path)]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise InputError(f"{str(folder)!r} holds several question files ({names}); name the one that is meant.")
    return tables


def _from_pictures(folder: Path, question: str | None) -> QuestionSet:
    films = _pictures_in(folder)
    if not films and reflacx_tables(folder.parent):
        raise InputError(
            f"{str(folder)!r} holds REFLACX's ellipses without the tables that say whose they are; name the folder "
            "above."
        )
    if not films:
        raise InputError(
            f"{str(folder)!r} holds neither {_QUESTIONS} nor pictures, and is no data set that is known; "
            "name a folder that does."
        )
    cases, left_out = [], []
    for number, film in enumerate(films, start=1):
        asked = _asked_of(film, question, folder.name)
        try:
            cases.append(_with_header(asked, film))
        except InputError as error:
            left_out.append(LeftOut(number, str(error).removeprefix(f"{str(film)!r} ")))
    found = QuestionSet(tuple(cases), tuple(left_out), source=folder.name, recognised="pictures")
    if not cases:
        reasons = "; ".join(f"{reason} ({count} ×)" for reason, count in found.reasons.items())
        raise InputError(f"{str(folder)!r} holds no picture that can be used: {reasons}")
    return found


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES or _unnamed_dicom(path))


def _unnamed_dicom(path: Path) -> bool:
    """Whether this is a DICOM file whose name does not say so, as archives export them."""
    return path.is_file() and is_dicom(path)


def _with_header(case: Case, film: Path) -> Case:
    """With what a DICOM file says of its film; other pictures say nothing.

    A file's name often holds a patient's, so that it does not become part of an id.

    Raises:
        InputError: The film will not be readable.
    """
    if not is_dicom(film):
        return case
    from medgemma_visualizer.data.dicom import read_header  # loads pydicom, which nobody else needs

    header = read_header(film)
    return replace(
        case,
        id=case_id("film", film.name, case.question),
        view=header.view,
        rendering=DEFAULT_RENDERING,
        notice=" ".join(header.notices),
    )


def _from_question_file(file: Path, folder: Path, images: Path | str | None) -> QuestionSet:
    """A file of a folder, with the masks that the folder's index names."""
    found = read_questions(file, images if images is not None else folder)
    masks = _indexed_masks(folder)
    cases = tuple(
        replace(case, source=folder.name, regions=Regions(files) if (files := masks.get(_path(case))) else {})
        for case in found
    )
    return replace(found, cases=cases, source=folder.name, regions_from=_INDEX if masks else "")


def _path(case: Case) -> Path:
    return Path(str(case.image))


def _indexed_masks(folder: Path) -> dict[Path, dict[str, Path]]:
    """Film -> name -> file of its mask."""
    path = folder / _INDEX
    if not path.is_file():
        return {}
    try:
        films: dict[str, Any] = json.loads(path.read_text("utf-8"))["films"]
        return {
            folder / film: {name: folder / mask for name, mask in facts["masks"].items()}
            for film, facts in films.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{str(path)!r} is no index of films and masks; repair or remove it.") from error


def _asked_of(film: Path, question: str | None, source: str) -> Case:
    if question is None:
        raise InputError(f"{str(film)!r} comes without a question; say what to ask of it.")
    asked = check_question(question)
    return Case(id=case_id("", film.name, asked), image=film, question=asked, source=source)
