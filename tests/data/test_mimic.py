"""Roots of MIMIC-CXR: what their tables and folders say, whole, partial and contradictory."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tests.mimic_tree import tool, write_table

from medgemma_visualizer.data.mimic import MimicRoot, bare_id, is_mimic_root
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.data.tables import UnusableRow
from medgemma_visualizer.errors import InputError

KEYS = [f"{n:08x}-00000000-00000000-00000000-00000000" for n in range(6)]
METADATA = ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns")
SPLIT = ("dicom_id", "study_id", "subject_id", "split")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films in every layout."""
    out = tmp_path_factory.mktemp("tree")
    tool().write_tree(out, 12)
    return out


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six films of two patients: study 1 has a lateral, an AP and two PA films, study 2 a lateral, study 3 an AP."""
    rows = [
        (KEYS[0], 10000001, 50000001, "LATERAL", 40, 30),
        (KEYS[1], 10000001, 50000001, "AP", 40, 30),
        (KEYS[3], 10000001, 50000001, "PA", 40, 30),
        (KEYS[2], 10000001, 50000001, "PA", 40, 30),
        (KEYS[4], 10000001, 50000002, "LL", 40, 30),
        (KEYS[5], 10000002, 50000003, "AP", 40, 30),
    ]
    write_table(tmp_path / "mimic-cxr-2.0.0-metadata.csv", METADATA, *rows)
    split = [(key, study, patient, "train" if patient == 10000001 else "test") for key, patient, study, *_ in rows]
    write_table(tmp_path / "mimic-cxr-2.0.0-split.csv", SPLIT, *split)
    for key, patient, study, *_ in rows:
        film = tmp_path / f"files/p10/p{patient}/s{study}/{key}.jpg"
        film.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (30, 40)).save(film)
    return tmp_path


def labels(root: Path, *rows: tuple[object, ...], name: str = "mimic-cxr-2.0.0-chexpert") -> None:
    write_table(root / f"{name}.csv", ("subject_id", "study_id", "Pleural Effusion", "Pneumonia"), *rows)


def test_a_film_comes_with_all_that_the_tables_say(root: Path) -> None:
    opened = MimicRoot.open(root)
    film = opened.film(KEYS[5], "")
    assert film.path == root / f"files/p10/p10000002/s50000003/{KEYS[5]}.jpg"
    assert (film.key, film.patient, film.view, film.split) == (KEYS[5], "10000002", "AP", "test")
    assert opened.records[KEYS[5]].size == (40, 30)


@pytest.mark.parametrize("name", ["{}", "{}.dcm", "files/p10/p10000002/s50000003/{}.jpg", "/data/x/{}.jpg"])
def test_a_film_is_found_by_its_identifier_in_any_path(root: Path, name: str) -> None:
    assert MimicRoot.open(root).film(name.format(KEYS[5]), "").key == KEYS[5]


@pytest.mark.parametrize("study", ["50000001", "s50000001", "50000001.0"])
def test_a_study_means_its_pa_film_with_the_first_identifier(root: Path, study: str) -> None:
    assert MimicRoot.open(root).film("", study).key == KEYS[2]


def test_a_study_without_pa_means_its_ap_film(root: Path) -> None:
    assert MimicRoot.open(root).film("", "50000003").key == KEYS[5]


@pytest.mark.parametrize(
    ("image", "study", "reason"),
    [
        ("", "50000002", "no film that is known to be frontal"),
        ("", "59999999", "the study is not listed"),
        ("", "", "no image named"),
        ("unknown", "50000001", "image file not found"),
    ],
)
def test_what_is_no_film_of_the_root(root: Path, image: str, study: str, reason: str) -> None:
    with pytest.raises(UnusableRow, match=reason):
        MimicRoot.open(root).film(image, study)


def test_identifiers_as_programs_write_them() -> None:
    assert [bare_id(text) for text in ("p10000001", "s50000001", "50000001.0", "50000001", "patient", "")] == [
        *("10000001", "50000001", "50000001", "50000001", "patient", "")
    ]


def test_packed_tables_say_the_same(root: Path) -> None:
    plain = MimicRoot.open(root).records
    for path in list(root.glob("*.csv")):
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert MimicRoot.open(root).records == plain


def test_without_tables_the_folders_are_gone_through(root: Path) -> None:
    for path in root.glob("*.csv"):
        path.unlink()
    records = MimicRoot.open(root).records
    assert sorted(records) == KEYS
    assert records[KEYS[5]][:4] == ("10000002", "50000003", None, None)


def test_the_files_folder_stands_for_its_root(root: Path) -> None:
    assert is_mimic_root(root / "files")
    assert MimicRoot.open(root / "files").folder == root


def test_other_folders_are_no_roots(tmp_path: Path) -> None:
    assert not is_mimic_root(tmp_path)
    (tmp_path / "files" / "pictures").mkdir(parents=True)
    assert not is_mimic_root(tmp_path)
    assert not is_mimic_root(tmp_path / "nothing")


def test_a_missing_column_names_those_found(root: Path) -> None:
    write_table(root / "mimic-cxr-2.0.0-split.csv", ("dicom_id", "study_id", "fold"), (KEYS[0], 50000001, 1))
    with pytest.raises(InputError, match=r"split\.csv' lacks a column for the patient .* found: dicom_id, study_id, f"):
        MimicRoot.open(root)


def test_tables_of_different_copies_are_refused(root: Path) -> None:
    write_table(root / "mimic-cxr-2.0.0-split.csv", SPLIT, (KEYS[0], 50000001, 10000009, "train"))
    with pytest.raises(InputError, match=r"split\.csv' \(line 2\) gives a film another patient"):
        MimicRoot.open(root)


def test_a_root_without_films(tmp_path: Path) -> None:
    write_table(tmp_path / "mimic-cxr-2.0.0-metadata.csv", METADATA)
    with pytest.raises(InputError, match="no film listed or stored"):
        MimicRoot.open(tmp_path)


# --- questions of labels ---------------------------------------------------------------------------------------------


def test_labels_become_questions_of_every_frontal_film(root: Path) -> None:
    labels(root, (10000001, 50000001, "1.0", ""), (10000002, 50000003, "0.0", "1.0"))
    found = load_cases(root)
    told = {(Path(str(case.image)).stem, case.question): (case.truth, case.finding) for case in found}
    effusion = "Is there a pleural effusion?"
    assert told == {
        **{(KEYS[n], effusion): ("yes", "pleural_effusion") for n in (1, 2, 3)},
        (KEYS[5], effusion): ("no", "pleural_effusion"),
        (KEYS[5], "Is there pneumonia?"): ("yes", "pneumonia"),
    }
    assert found.reasons == {"view LATERAL": 1, "view LL": 1}
    assert {(case.patient_id, case.split) for case in found} == {("10000001", "train"), ("10000002", "test")}


def test_labels_that_make_no_question_are_counted(root: Path) -> None:
    headings = ("subject_id", "study_id", "No Finding", "Pleural Other", "Pneumonia")
    write_table(
        root / "mimic-cxr-2.0.0-chexpert.csv",
        headings,
        (10000001, 50000001, "1.0", "", "-1.0"),
        (10000001, 50000002, "", "", "1.0"),
        (10000002, 50000003, "", "1.0", "0.0"),
    )
    found = load_cases(root)
    assert [(case.truth, case.finding) for case in found] == [("no", "pneumonia")]
    assert found.reasons == {
        "view LATERAL": 1,
        "view LL": 1,
        "the label is uncertain": 1,
        "no one question asks for the label 'No Finding'": 1,
        "no one question asks for the label 'Pleural Other'": 1,
        "a label of a study without a frontal film that is stored": 1,
    }


def test_radiologists_labels_come_before_those_of_programs(root: Path) -> None:
    labels(root, (10000001, 50000001, "1.0", ""), (10000002, 50000003, "1.0", ""))
    name = root / "mimic-cxr-2.1.0-test-set-labeled.csv"
    write_table(name, ("study_id", "Airspace Opacity", "Pleural Effusion"), (50000003, 1, 0))
    told = {(case.finding, case.truth) for case in load_cases(root) if case.patient_id == "10000002"}
    assert told == {("lung_opacity", "yes"), ("pleural_effusion", "no")}


def test_a_label_of_another_kind_is_refused(root: Path) -> None:
    labels(root, (10000001, 50000001, "maybe", ""))
    with pytest.raises(InputError, match=r"line 2\) holds 'maybe' for 'Pleural Effusion'; labels are 1, 0, -1 or bl"):
        load_cases(root)


def test_a_root_without_labels_says_what_to_add(root: Path) -> None:
    with pytest.raises(InputError, match=r"no labels to ask for; add .*chexpert\.csv\.gz .*or ask a question of yours"):
        load_cases(root)


# --- partial copies, and question files of a root --------------------------------------------------------------------


def test_a_partial_copy_counts_the_films_that_are_missing(root: Path) -> None:
    (root / f"files/p10/p10000001/s50000001/{KEYS[2]}.jpg").unlink()
    found = load_cases(root, question="Why?")
    assert {Path(str(case.image)).stem for case in found} == {KEYS[1], KEYS[3], KEYS[5]}
    assert (found.reasons["image file not found"], found.missing_images) == (1, 1)


def test_rows_that_name_no_film_are_counted(root: Path) -> None:
    with (root / "mimic-cxr-2.0.0-metadata.csv").open("a") as file:
        file.write(f"{KEYS[0][:-1]}f,unknown,50000001,PA,40,30\n")
    found = load_cases(root, question="Why?")
    assert found.reasons["names no film: dicom_id, subject_id or study_id is missing or no identifier"] == 1


def test_question_files_get_patient_view_and_split_of_the_root(root: Path, tmp_path: Path) -> None:
    questions = write_table(tmp_path / "mine.csv", ("question", "dicom_id"), ("Why?", KEYS[5]))
    (case,) = load_cases(questions, images=root)
    assert (case.patient_id, case.view, case.split) == ("10000002", "AP", "test")


def test_a_row_of_another_patient_and_another_split_are_told(root: Path, tmp_path: Path) -> None:
    headings = ("question", "dicom_id", "subject_id", "split")
    rows = ("Why?", KEYS[5], 10000001, "test"), ("Where?", KEYS[5], "10000002.0", "train")
    found = load_cases(write_table(tmp_path / "mine.csv", headings, *rows), images=root)
    assert found.reasons == {"the row names another patient than the film's": 1}
    assert [case.split for case in found] == ["test"]
    assert found.notes[0].startswith("1 rows stand in another split")


def test_the_same_questions_on_dicom_and_jpg_are_the_same_cases(tree: Path) -> None:
    jpg, dicom = (load_cases(tree / "questions", images=tree / root) for root in ("mimic-cxr-jpg", "mimic-cxr"))
    assert [case.id for case in jpg] == [case.id for case in dicom]
    assert {case.rendering for case in jpg} == {None}
    assert {case.rendering for case in dicom} == {"dicom-voi"}
    assert {Path(str(case.image)).suffix for case in dicom} == {".dcm"}
    assert picture(jpg[0]).size == picture(dicom[0]).size == (512, 512)


def test_views_of_dicom_files_are_read_where_no_table_says_them(tree: Path) -> None:
    found = load_cases(tree / "mimic-cxr", question="Why?")
    assert ({case.view for case in found}, len(found), found.reasons) == ({"PA"}, 12, {"view LATERAL": 1})


def test_the_trees_labels(tree: Path, tmp_path: Path) -> None:
    found = load_cases(tree / "mimic-cxr-jpg")
    assert len(found) == 4 * 11  # four findings; the last of twelve studies has no row
    assert found.recognised == "MIMIC-CXR root"
    shutil.copytree(tree / "mimic-cxr-jpg" / "files", tmp_path / "files")
    with pytest.raises(InputError, match="view is not known: add the metadata table"):
        load_cases(tmp_path, question="Why?")
