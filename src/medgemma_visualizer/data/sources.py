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
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medgemma_visualizer.data.inputs import check_question
from medgemma_visualizer.data.photo import (
    SUFFIXES,
    check_picture_path,
    grayscale,
    is_dicom,
    open_image,
)
from medgemma_visualizer.data.questions import QUESTION_FILE_SUFFIXES, LeftOut, QuestionSet, case_id, read_questions
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
        return _mask(self._files[name])

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"Regions({', '.join(self)})"


def load_cases(source: Path | str = DEMO, question: str | None = None, images: Path | str | None = None) -> QuestionSet:
    """Finds cases.

    Args:
        source: "demo" for the embedded films (a folder of that name is "./demo"); a folder; a question file; a picture.
        question: What to ask of every film, for pictures that come without a question file.
        images: The folder of a question file's films, where it is not the file's own.

    Returns:
        A sequence of cases that also knows what was left out and why.

    Raises:
        InputError: No such source, or nothing in it that can be used.
    """
    path = Path(source)
    if question is not None and _brings_questions(path):
        raise InputError(f"{str(source)!r} brings its own questions; leave yours out, or name a picture.")
    if str(source) == DEMO:
        return demo_cases()
    if path.is_dir():
        return _from_folder(path, question, images)
    if path.name.lower().endswith(QUESTION_FILE_SUFFIXES):
        return read_questions(path, images)
    if not path.exists() and not path.suffix and path.name == str(source):
        hint = "A folder, a question file (.csv) or a picture is named by its path."
        raise InputError(f"{unknown_name('source of cases', str(source), [DEMO])} {hint}")
    film = check_picture_path(str(source))
    return QuestionSet((_with_header(_asked_of(film, question, "user"), film),))


@functools.cache
def demo_cases() -> QuestionSet:
    """The embedded cases: simulated films, which no patient ever had, with the mask of everything put in."""
    found = _from_question_folder(demo_folder(), None)
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


def _brings_questions(path: Path) -> bool:
    named_so = str(path) == DEMO or path.name.lower().endswith(QUESTION_FILE_SUFFIXES)
    return named_so or (path / _QUESTIONS).is_file()


def _from_folder(folder: Path, question: str | None, images: Path | str | None) -> QuestionSet:
    if (folder / _QUESTIONS).is_file():
        return _from_question_folder(folder, images)
    films = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES or _unnamed_dicom(path))
    if not films:
        raise InputError(f"{str(folder)!r} holds neither {_QUESTIONS} nor pictures; name a folder that does.")
    cases, left_out = [], []
    for number, film in enumerate(films, start=1):
        asked = _asked_of(film, question, folder.name)
        try:
            cases.append(_with_header(asked, film))
        except InputError as error:
            left_out.append(LeftOut(number, str(error).removeprefix(f"{str(film)!r} ")))
    found = QuestionSet(tuple(cases), tuple(left_out), source=folder.name)
    if not cases:
        reasons = "; ".join(f"{reason} ({count} ×)" for reason, count in found.reasons.items())
        raise InputError(f"{str(folder)!r} holds no picture that can be used: {reasons}")
    return found


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


def _from_question_folder(folder: Path, images: Path | str | None) -> QuestionSet:
    found = read_questions(folder / _QUESTIONS, images if images is not None else folder)
    masks = _indexed_masks(folder)
    cases = tuple(
        replace(case, source=folder.name, regions=Regions(masks.get(Path(str(case.image)), {}))) for case in found
    )
    return replace(found, cases=cases, source=folder.name)


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


def _mask(path: Path) -> np.ndarray:
    """A black-and-white picture as bool (height, width)."""
    levels = grayscale(open_image(path))
    if not np.isin(levels, (0, 255)).all():
        raise InputError(f"The mask {str(path)!r} holds levels between black and white; save it with one bit a pixel.")
    return levels > 0


def _asked_of(film: Path, question: str | None, source: str) -> Case:
    if question is None:
        raise InputError(f"{str(film)!r} comes without a question; say what to ask of it.")
    asked = check_question(question)
    return Case(id=case_id("", film.name, asked), image=film, question=asked, source=source)
