"""Question sets: what each calls its columns, which of its rows ask one chest radiograph, and where its films lie.

Knows headings and key names; reads nothing. Those of credentialed sets are stated as their documentation and the code
of others that reads them state them; a set that turns out to use another heading is refused with the headings found,
or read as a plain question file where it has the columns of one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from medgemma_visualizer.data.presence import asked_finding, finding_named
from medgemma_visualizer.data.tables import Row, UnusableRow, first_filled
from medgemma_visualizer.registry import Registry

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
    "split": ("split",),
}
SPLITS = {"train": "train", "val": "validate", "valid": "validate", "validate": "validate", "test": "test"}


def _nothing(row: Row) -> None:
    pass


def _no_finding(row: Row, question: str) -> str | None:
    return None


def _asked(row: Row, question: str) -> str | None:
    return asked_finding(question)


@dataclass(frozen=True)
class Layout:
    """A question set.

    Attributes:
        name: Of the set.
        files: Patterns of its files' names, for finding them in a folder.
        marks: Headings by which a file is known to be of this set: all of them are there,
        without: and none of these is.
        columns: Meaning -> headings, as `ALIASES`.
        required: Groups of meanings of which one must be there.
        within: Folders beside the file in which the set keeps its films.
        studies: A file beside it that says which film a study has, with the columns study_id and dicom_id.
        refuse: Raises `UnusableRow` for rows that do not ask one chest radiograph.
        finding: The finding that a row asks about, where no column says it.
        split: The row's part of the set, where the column's own word is not it.
    """

    name: str
    files: tuple[str, ...]
    marks: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: ALIASES)
    required: tuple[tuple[str, ...], ...] = (("question",), ("image",))
    within: tuple[str, ...] = ()
    studies: str = ""
    refuse: Callable[[Row], None] = _nothing
    finding: Callable[[Row, str], str | None] = _no_finding
    split: Callable[[str], str] = lambda word: SPLITS.get(word.lower(), word)


#: Name -> layout, the most particular first; the last one takes what no other knows.
SETS: Registry[Layout] = Registry("question set")

_BY_FILM_OR_STUDY = (("question",), ("image", "study"))


def _columns(**headings: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Headings of a set; meanings that it has no column for are said to have none."""
    return {meaning: headings.get(meaning, ()) for meaning in ALIASES}


def _presence_only(row: Row) -> None:
    kind = first_filled(row, ("question_type",))
    if kind != "presence":
        raise UnusableRow(f"question of type {kind!r}: only those of type 'presence' ask one film for yes or no")


def _answered(row: Row) -> None:
    if row.get("answer", "").replace(" ", "") == "[]":
        raise UnusableRow("the answer is an empty set")


def _about_the_chest(row: Row) -> None:
    organ = first_filled(row, ("image_organ",))
    if organ.upper() != "CHEST":
        raise UnusableRow(f"not of the chest (image_organ {organ!r})")


def _english_radiograph_of_the_chest(row: Row) -> None:
    language, modality, place = (first_filled(row, (name,)) for name in ("q_lang", "modality", "location"))
    if language != "en":
        raise UnusableRow(f"not in English (q_lang {language!r})")
    if plain_word(modality) != "xray":
        raise UnusableRow(f"no radiograph (modality {modality!r})")
    if not any(part in place.lower() for part in ("lung", "chest", "heart")):
        raise UnusableRow(f"not of the chest (location {place!r})")


def plain_word(text: str) -> str:
    """Letters only, in lower case."""
    return "".join(character for character in text.lower() if character.isalpha())


def _template_finding(row: Row, question: str) -> str | None:
    """The one object that a question's template was filled with, where it is a finding and nothing else was asked."""
    try:
        arguments = json.loads(row.get("template_arguments") or "{}")
        objects = list(arguments.get("object", {}).values())
    except (ValueError, AttributeError):
        return None
    return finding_named(str(objects[0])) if len(objects) == 1 else None


SETS.add(
    "MIMIC-Ext-MIMIC-CXR-VQA",
    Layout(
        name="MIMIC-Ext-MIMIC-CXR-VQA",
        files=("train.json", "valid.json", "test.json"),
        marks=("semantic_type", "content_type", "template", "image_id"),
        columns=_columns(
            question=("question",),
            image=("image_id", "image_path"),
            study=("study_id",),
            truth=("answer",),
            patient=("subject_id",),
            split=("split",),
        ),
        refuse=_answered,
        finding=_template_finding,
    ),
)
SETS.add(
    "Medical-Diff-VQA",
    Layout(
        name="Medical-Diff-VQA",
        files=("mimic_pair_questions.csv", "mimic_pair_questions.csv.gz"),
        marks=("ref_id", "question_type", "study_id"),
        columns=_columns(
            question=("question",),
            image=("dicom_id",),
            study=("study_id",),
            truth=("answer",),
            patient=("subject_id",),
            split=("split",),
        ),
        required=_BY_FILM_OR_STUDY,
        studies="mimic_all.csv",
        refuse=_presence_only,
        finding=_asked,
    ),
)
SETS.add(
    "Medical-CXR-VQA",
    Layout(
        name="Medical-CXR-VQA",
        files=("medical-cxr-vqa-questions.csv", "medical-cxr-vqa-questions.csv.gz"),
        marks=("question_type", "question", "answer", "subject_id"),
        without=("ImagePath", "image_path", "correct_answer", "ref_id", "baseline_question"),
        columns=_columns(
            question=("question",),
            image=("dicom_id", "image_id"),
            study=("study_id",),
            truth=("answer",),
            patient=("subject_id",),
            view=("ViewPosition", "view"),
            split=("split",),
        ),
        required=_BY_FILM_OR_STUDY,
        studies="mimic_all.csv",
        finding=_asked,
    ),
)
SETS.add(
    "VQA-RAD",
    Layout(
        name="VQA-RAD",
        files=("VQA_RAD Dataset Public.json",),
        marks=("image_organ", "phrase_type", "image_name", "qid"),
        columns=_columns(
            question=("question",),
            image=("image_name",),
            truth=("answer",),
            patient=("image_case_url",),
            split=("phrase_type",),
        ),
        within=("VQA_RAD Image Folder",),
        refuse=_about_the_chest,
        finding=_asked,
        split=lambda phrase: "test" if phrase.startswith("test_") else "train",
    ),
)
SETS.add(
    "SLAKE",
    Layout(
        name="SLAKE",
        files=("train.json", "validate.json", "test.json"),
        marks=("img_name", "q_lang", "modality", "location"),
        columns=_columns(
            question=("question",),
            image=("img_name",),
            truth=("answer",),
            patient=("img_id",),
            split=("split",),
        ),
        within=("imgs",),
        refuse=_english_radiograph_of_the_chest,
        finding=_asked,
    ),
)
SETS.add("question file", Layout(name="question file", files=("questions.csv", "questions.csv.gz", "questions.tsv")))
