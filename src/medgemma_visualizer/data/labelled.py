"""Questions for roots of MIMIC-CXR: of the labels that come with them, or one question asked of every film.

Knows which films are asked (frontal ones that are stored) and which labels make a question with one answer; does not
read tables or films.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from medgemma_visualizer.data.films import NOT_FOUND, Film
from medgemma_visualizer.data.inputs import check_question
from medgemma_visualizer.data.mimic import FRONTAL, Label, MimicRoot
from medgemma_visualizer.data.photo import DICOM_SUFFIXES, rendering_by_name
from medgemma_visualizer.data.presence import finding_named, presence_question
from medgemma_visualizer.data.questions import QuestionSet, case_id, told_of
from medgemma_visualizer.data.tables import LeftOut, UnusableRow
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case

ROOT = "MIMIC-CXR root"


def ask_films(root: MimicRoot, question: str) -> QuestionSet:
    """One question of every frontal film that is stored. Lines of what is left out are the numbers of films.

    Raises:
        InputError: No such film, or no usable question.
    """
    asked = check_question(question)
    films, left_out = _asked_films(root)
    cases = tuple(_case(film, asked, root) for several in films.values() for film in several)
    return _checked(cases, left_out, root)


def ask_labels(root: MimicRoot) -> QuestionSet:
    """Whether a finding is there, of every frontal film that is stored and every label that says yes or no.

    A finding that a report does not mention is not asked for: it is not known. Of uncertain labels, and of "No Finding"
    and "Pleural Other", which no one question asks for, every one is counted as left out.

    Raises:
        InputError: No table of labels, or none of them of a film that is stored.
    """
    films, left_out = _asked_films(root)
    cases: list[Case] = []
    for label in root.labels():
        try:
            cases += _cases_of(label, films.get(label.study, ()), root)
        except UnusableRow as reason:
            left_out.append(LeftOut(label.line, str(reason)))
    return _checked(tuple(cases), left_out, root)


def _cases_of(label: Label, films: Sequence[Film], root: MimicRoot) -> list[Case]:
    question = None if label.name == "Pleural Other" else presence_question(label.name)
    if label.value is None:
        raise UnusableRow("the label is uncertain")
    if question is None:
        raise UnusableRow(f"no one question asks for the label {label.name!r}")
    if not films:
        raise UnusableRow("a label of a study without a frontal film that is stored")
    truth, finding = "yes" if label.value else "no", finding_named(label.name)
    return [_case(film, question, root, label.study, truth, finding) for film in films]


def _asked_films(root: MimicRoot) -> tuple[dict[str, list[Film]], list[LeftOut]]:
    """study -> its films that can be asked; and the films that cannot, each once."""
    films: dict[str, list[Film]] = defaultdict(list)
    left_out = [one for several in root.left_out.values() for one in several]
    for number, (key, record) in enumerate(root.records.items(), start=1):
        try:
            if record.view is not None and record.view not in FRONTAL:
                raise UnusableRow(f"view {record.view}")
            film = root.film(key, record.study)
            films[record.study].append(film if record.view else _viewed(film))
        except UnusableRow as reason:
            left_out.append(LeftOut(number, str(reason)))
    return films, left_out


def _viewed(film: Film) -> Film:
    """The film with the view that its DICOM file says, where no table does."""
    if film.path.suffix.lower() not in DICOM_SUFFIXES:
        raise UnusableRow("the view is not known: add the metadata table to the root")
    from medgemma_visualizer.data.dicom import read_header  # loads pydicom, which nobody else needs

    try:
        view = read_header(film.path, allow_lateral=True).view
    except InputError as error:
        raise UnusableRow(str(error).removeprefix(f"{str(film.path)!r} ")) from error
    if view not in FRONTAL:
        raise UnusableRow(f"view {view}" if view else "the view is not known: add the metadata table to the root")
    return replace(film, view=view)


def _case(
    film: Film, question: str, root: MimicRoot, study: str = "", truth: str | None = None, finding: str | None = None
) -> Case:
    return Case(
        id=case_id(study or root.records[film.key].study, film.key, question),
        image=film.path,
        question=question,
        options=("yes", "no") if truth else (),
        truth=truth,
        finding=finding,
        patient_id=film.patient,
        view=film.view,
        source=root.folder.name,
        rendering=rendering_by_name(film.path),
        split=film.split,
    )


def _checked(cases: tuple[Case, ...], left_out: list[LeftOut], root: MimicRoot) -> QuestionSet:
    missing = sum(one.reason == NOT_FOUND for one in left_out)
    found = QuestionSet(
        cases, tuple(left_out), source=root.folder.name, recognised=ROOT, missing_images=missing, notes=_notes(root)
    )
    if not cases:
        raise InputError(f"{str(root.folder)!r} has no film that can be asked ({told_of(found)}).")
    return found


def _notes(root: MimicRoot) -> tuple[str, ...]:
    tables = ", ".join(path.name for path in root.tables.values()) or "none; the folders were gone through"
    return (f"Tables read: {tables}.",)
