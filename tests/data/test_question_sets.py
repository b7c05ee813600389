"""Question sets in their own layouts, and a row that cannot be used for each reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.mimic_tree import tool, write_table

from medgemma_visualizer.data.layouts import SETS
from medgemma_visualizer.data.presence import asked_finding, finding_named, presence_question, region_name
from medgemma_visualizer.data.questions import QuestionSet, layout_of
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.data.tables import open_table
from medgemma_visualizer.errors import InputError

QUESTIONS = 4 * 12  # four findings are asked of each of twelve films
#: Folder -> (set, cases, what is left out).
TREE: dict[str, tuple[str, int, dict[str, int]]] = {
    "questions": ("question file", QUESTIONS, {}),
    "medical-cxr-vqa": ("Medical-CXR-VQA", QUESTIONS + 1, {}),
    "medical-diff-vqa": (
        "Medical-Diff-VQA",
        QUESTIONS,
        {"question of type 'difference': only those of type 'presence' ask one film for yes or no": 1},
    ),
    "mimic-ext-mimic-cxr-vqa": (
        "MIMIC-Ext-MIMIC-CXR-VQA",
        QUESTIONS,
        {"the answer is a list of several": 1, "the answer is an empty set": 1},
    ),
    "vqa-rad": ("VQA-RAD", QUESTIONS - 1, {"not of the chest (image_organ 'HEAD')": 1}),
    "slake": (
        "SLAKE",
        QUESTIONS - 3,
        {
            "not in English (q_lang 'zh')": 1,
            "no radiograph (modality 'CT')": 1,
            "not of the chest (location 'Abdomen')": 1,
        },
    ),
}
WITH_OWN_FILMS = ("vqa-rad", "slake")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films in every layout."""
    out = tmp_path_factory.mktemp("tree")
    tool().write_tree(out, 12)
    return out


def of(tree: Path, name: str) -> QuestionSet:
    return load_cases(tree / name, images=None if name in WITH_OWN_FILMS else tree / "mimic-cxr-jpg")


@pytest.mark.parametrize("name", TREE)
def test_each_set_is_recognised_and_every_row_is_a_case_or_counted(tree: Path, name: str) -> None:
    recognised, cases, left_out = TREE[name]
    found = of(tree, name)
    assert (found.recognised, len(found), found.reasons) == (recognised, cases, left_out)
    assert len({case.id for case in found}) == cases
    assert found.missing_images == 0


@pytest.mark.parametrize("name", TREE)
def test_each_set_says_patient_and_split(tree: Path, name: str) -> None:
    found = of(tree, name)
    assert len({case.patient_id for case in found}) == 12
    known = {"train", "test"} if name == "vqa-rad" else {"train", "validate", "test"}
    assert {case.split for case in found} == known


@pytest.mark.parametrize("name", [name for name in TREE if name != "questions"])
def test_the_finding_asked_for_is_known(tree: Path, name: str) -> None:
    films = {film.key: film for film in tool()._films(12)}
    for case in of(tree, name):
        if case.truth in ("yes", "no") and Path(str(case.image)).stem in films:
            there = films[Path(str(case.image)).stem].findings
            assert (case.truth == "yes") == (case.finding in there), case


def test_a_folder_of_several_files_is_read_whole(tree: Path) -> None:
    files = [load_cases(tree / "slake" / f"{part}.json", images=tree / "slake") for part in ("train", "test")]
    assert {case.split for case in files[0]} == {"train"}
    assert {case.id for found in files for case in found} < {case.id for case in of(tree, "slake")}


def test_a_case_of_two_files_is_left_out_of_the_later(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    entry = {"img_name": "a.png", "question": "Why?", "q_lang": "en", "modality": "X-Ray", "location": "Lung"}
    for part in ("train", "test"):
        (tmp_path / f"{part}.json").write_text(json.dumps([entry]))
    found = load_cases(tmp_path)
    assert [case.split for case in found] == ["train"]
    assert found.reasons == {"repeats the image and question of another file": 1}


def test_studies_without_a_list_of_films_get_the_roots_frontal_film(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_bytes((tree / "medical-diff-vqa" / "mimic_pair_questions.csv").read_bytes())
    found = load_cases(tmp_path / "pairs.csv", images=tree / "mimic-cxr-jpg")
    assert {(case.id, case.image) for case in found} == {(c.id, c.image) for c in of(tree, "medical-diff-vqa")}


def test_a_broken_list_of_films_is_told(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_bytes((tree / "medical-diff-vqa" / "mimic_pair_questions.csv").read_bytes())
    write_table(tmp_path / "mimic_all.csv", ("study_id", "picture"))
    with pytest.raises(InputError, match=r"mimic_all\.csv' lacks a column for the film .* found: study_id, picture"):
        load_cases(tmp_path / "pairs.csv", images=tree / "mimic-cxr-jpg")


# --- recognising -----------------------------------------------------------------------------------------------------

HEADINGS: dict[str, tuple[str, ...]] = {
    "Medical-CXR-VQA": ("question_type", "question", "answer", "subject_id", "study_id"),
    "Medical-Diff-VQA": ("study_id", "ref_id", "question_type", "question", "answer"),
    "question file": ("study_id", "question", "options", "correct_answer", "ImagePath", "question_type", "subject_id"),
}


@pytest.mark.parametrize("name", HEADINGS)
def test_a_set_is_known_by_its_headings(tmp_path: Path, name: str) -> None:
    assert layout_of(open_table(write_table(tmp_path / "any.csv", HEADINGS[name]))).name == name


def test_reworded_questions_with_a_type_are_no_medical_cxr_vqa(tmp_path: Path) -> None:
    headings = ("question_type", "question", "answer", "subject_id", "baseline_question", "image")
    assert layout_of(open_table(write_table(tmp_path / "any.csv", headings))).name == "question file"


@pytest.mark.parametrize(
    ("headings", "words"),
    [
        (("question_type", "question", "answer", "subject_id", "x"), r"for the image \(one of dicom_id, .*\) or study"),
        (("ref_id", "question_type", "study_id", "x"), r"for the question \(one of question\)"),
    ],
)
def test_a_missing_column_names_those_found(tmp_path: Path, headings: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=rf"lacks a column {words}.*found: {', '.join(headings)}\."):
        load_cases(write_table(tmp_path / "set.csv", headings))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "no readable JSON"),
        ("[]", "an empty list"),
        ('{"a": 1}', "no list of questions"),
        ("[1]", "no list of questions"),
        ('[{"a": 1}]', "lacks a column for the question"),
    ],
)
def test_json_that_is_no_question_set(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "set.json").write_text(content)
    with pytest.raises(InputError, match=words):
        load_cases(tmp_path / "set.json")


def test_questions_bring_themselves(tree: Path) -> None:
    for source in (tree / "slake", tree / "slake" / "train.json", tree / "questions"):
        with pytest.raises(InputError, match="brings its own questions"):
            load_cases(source, question="Why?")


def test_a_folder_of_images_with_one_table(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    write_table(tmp_path / "notes.csv", ("remark",), ("none",))
    write_table(tmp_path / "asked.csv", ("query", "image", "split"), ("Why?", "a.png", "val"))
    (case,) = load_cases(tmp_path)
    assert (case.question, case.image, case.split) == ("Why?", tmp_path / "a.png", "validate")
    write_table(tmp_path / "more.csv", ("query", "image"), ("Where?", "a.png"))
    with pytest.raises(InputError, match=r"several question files \(asked\.csv, more\.csv\); name the one"):
        load_cases(tmp_path)


def test_a_json_cell_is_what_it_would_be_in_a_table(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    entries: list[dict[str, Any]] = [
        {"question": "Why?", "image": "a.png", "answer": ["yes"], "options": ["yes", "no"]}
    ]
    entries.append({"question": "Where?", "image": ["a.png"], "answer": None})
    (tmp_path / "set.json").write_text(json.dumps(entries))
    first, second = load_cases(tmp_path / "set.json")
    assert (first.truth, first.options, second.truth, second.image) == ("yes", ("yes", "no"), None, tmp_path / "a.png")


def test_every_set_says_what_its_columns_mean() -> None:
    for layout in SETS.values():
        assert {"question", "image", "study", "truth", "split"} <= set(layout.columns)
        assert all(any(layout.columns[meaning] for meaning in group) for group in layout.required)


# --- questions of presence -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "finding"),
    [
        ("Is there a pleural effusion?", "pleural_effusion"),
        ("is there any evidence of pneumothorax in the image?", "pneumothorax"),
        ("Are there signs of an enlarged heart in this chest radiograph?", "cardiomegaly"),
        ("does the patient have edema?", "edema"),
        ("Does this image show any consolidation ?", "consolidation"),
        ("Is there a large pleural effusion?", None),
        ("Is there a pleural effusion or pneumonia?", None),
        ("Where is the pleural effusion?", None),
        ("Is the heart enlarged?", None),
    ],
)
def test_the_finding_that_a_question_asks_for(question: str, finding: str | None) -> None:
    assert asked_finding(question) == finding


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("Pleural Effusion", "Is there a pleural effusion?"),
        ("cardiomegaly", "Is there cardiomegaly?"),
        ("Support Devices", "Are there support devices?"),
        ("Airspace Opacity", "Is there a lung opacity?"),
        ("Nodule/Mass", "Is there evidence of nodule/mass in this chest radiograph?"),
        ("No Finding", None),
    ],
)
def test_asking_for_a_finding(name: str, question: str | None) -> None:
    assert presence_question(name) == question
    if question is not None and finding_named(name):
        assert asked_finding(question) == finding_named(name)


def test_names_of_regions() -> None:
    assert [region_name(text) for text in ("Pleural effusion", "Nodule/Mass", "right lung")] == [
        *("pleural_effusion", "nodule_mass", "right_lung")
    ]
