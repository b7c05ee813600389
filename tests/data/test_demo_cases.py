"""The embedded cases are what the data card says: balanced, exactly masked, and told by nothing but their pixels."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgemma_visualizer.data.photo import grayscale, picture
from medgemma_visualizer.data.questions import QuestionSet
from medgemma_visualizer.data.sources import demo_folder, is_demo_film, load_cases
from medgemma_visualizer.records import Case

FINDINGS = ("pneumonia", "pleural_effusion", "pneumothorax", "cardiomegaly")
SIDED = FINDINGS[:3]
MARKS = ("L", "R", "arrow", "pacemaker")
MARKER = "Which side marker is on the film?"
SIDE = 512
LEAST_PIXELS = 1500

Films = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder() -> Path:
    return demo_folder()


@pytest.fixture(scope="module")
def found() -> QuestionSet:
    return load_cases("demo")


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "questions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def films(folder: Path) -> Films:
    return json.loads((folder / "cases.json").read_text("utf-8"))["films"]


@pytest.fixture(scope="module")
def masks(folder: Path, films: Films) -> dict[str, dict[str, np.ndarray]]:
    """Film -> name -> bool (512, 512)."""
    return {
        film: {name: np.asarray(Image.open(folder / mask)) for name, mask in facts["masks"].items()}
        for film, facts in films.items()
    }


def presence(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row for row in rows if row["finding"] in FINDINGS and row["correct_answer"] in ("yes", "no")]


def film_of(case: Case) -> str:
    return f"films/{Path(str(case.image)).name}"


# --- how many --------------------------------------------------------------------------------------------------------


def test_there_are_enough_films_patients_and_questions(rows: list[dict[str, str]], films: Films) -> None:
    assert len(films) >= 96
    assert {row["ImagePath"] for row in presence(rows)} == set(films)
    of_patient = Counter(dict((row["dicom_id"], row["subject_id"]) for row in rows).values())
    assert len(of_patient) >= 48
    assert min(of_patient.values()) >= 2


def test_every_row_becomes_a_case(found: QuestionSet, rows: list[dict[str, str]]) -> None:
    assert found.left_out == ()
    assert len(found) == len(rows) == len({case.id for case in found})
    assert all(case.view == "PA" and case.simulated and case.truth in case.options for case in found)


def test_the_columns_are_those_of_the_specification(rows: list[dict[str, str]]) -> None:
    wanted = ["study_id", "question", "options", "correct_answer", "ImagePath"]
    assert list(rows[0])[:5] == wanted
    assert set(rows[0]) - set(wanted) == {"subject_id", "dicom_id", "finding", "side", "ViewPosition"}


def test_every_kind_of_film_is_there(films: Films) -> None:
    kinds = Counter(tuple(sorted(facts["findings"].items())) for facts in films.values())
    for name in SIDED:
        assert min(kinds[((name, side),)] for side in ("left", "right")) >= 6
    assert kinds[("cardiomegaly", "middle"),] >= 6
    assert kinds[()] >= 10
    how_many = Counter(len(facts["findings"]) for facts in films.values())
    assert how_many[2] >= 10
    assert how_many[3] >= 6
    assert sum(facts["findings"].get("pleural_effusion") == "both" for facts in films.values()) >= 3


@pytest.mark.parametrize("finding", FINDINGS)
def test_half_of_the_presence_questions_about_a_finding_are_answered_yes(
    rows: list[dict[str, str]], finding: str
) -> None:
    answers = Counter(row["correct_answer"] for row in presence(rows) if row["finding"] == finding)
    assert answers["yes"] == answers["no"] >= 12


def test_absent_findings_are_asked_of_films_that_show_others(rows: list[dict[str, str]], films: Films) -> None:
    denied = [row for row in presence(rows) if row["correct_answer"] == "no"]
    assert sum(bool(films[row["ImagePath"]]["findings"]) for row in denied) >= 24


def test_planted_marks_are_asked_for(rows: list[dict[str, str]]) -> None:
    answers = {
        word: Counter(r["correct_answer"] for r in rows if word in r["question"]) for word in ("arrow", "pacemaker")
    }
    for counts in answers.values():
        assert counts["yes"] == counts["no"] >= 8
    letters = Counter(row["correct_answer"] for row in rows if row["question"] == MARKER)
    assert min(letters[answer] for answer in ("L", "R", "none")) >= 8
    places = Counter(row["correct_answer"] for row in rows if row["question"] == "Where is the pleural effusion?")
    assert min(places[answer] for answer in ("left", "right", "both", "none")) >= 3


def test_most_films_carry_one_side_marker_and_it_is_on_its_side(films: Films, masks: dict) -> None:
    letters = Counter(sum(letter in facts["marks"] for letter in "LR") for facts in films.values())
    assert set(letters) == {0, 1}
    assert 0.8 <= letters[1] / len(films) <= 0.9
    for film in films:
        for letter, (first, last) in {"L": (SIDE * 2 // 3, SIDE), "R": (0, SIDE // 3)}.items():
            if letter in masks[film]:
                columns = np.flatnonzero(masks[film][letter].any(0))
                assert first <= columns.min() <= columns.max() <= last


def test_letters_come_in_many_styles(films: Films) -> None:
    styles = {facts["marks"][letter] for facts in films.values() for letter in "LR" if letter in facts["marks"]}
    assert len(styles) >= 6


# --- what is true ----------------------------------------------------------------------------------------------------


def test_every_yes_has_a_region_and_every_no_has_none(found: QuestionSet) -> None:
    for case in found:
        absent = case.truth in ("no", "none")
        assert (case.region is None) == absent, case.id
        if case.region is not None and case.finding in FINDINGS:
            assert case.region.sum() >= LEAST_PIXELS


def test_every_answer_agrees_with_the_index(rows: list[dict[str, str]], films: Films) -> None:
    for row in rows:
        facts = films[row["ImagePath"]]
        shown = facts["findings"] | facts["marks"]
        if row["question"] == MARKER:
            assert row["correct_answer"] == next((letter for letter in "LR" if letter in shown), "none")
        elif row["question"].startswith("Where"):
            assert row["correct_answer"] == shown.get(row["finding"], "none")
        else:
            assert row["correct_answer"] == ("yes" if row["finding"] in shown else "no")
        assert row["side"] == (shown.get(row["finding"], "") if row["finding"] in SIDED else "")


def test_a_film_has_the_masks_of_what_it_shows_and_no_others(films: Films) -> None:
    for facts in films.values():
        assert set(facts["masks"]) == {"body", *facts["findings"], *facts["marks"]}


def test_masks_are_one_bit_of_the_films_size(masks: dict) -> None:
    for of_film in masks.values():
        for name, mask in of_film.items():
            assert mask.dtype == bool, name
            assert mask.shape == (SIDE, SIDE)
            assert mask.any()


def test_findings_lie_inside_the_body(films: Films, masks: dict) -> None:
    for film, facts in films.items():
        for name in facts["findings"]:
            assert not (masks[film][name] & ~masks[film]["body"]).any()


def test_sides_are_the_patients_own(films: Films, masks: dict) -> None:
    """The patient's left is the viewer's right; the middle is that of the body's shadow."""
    for film, facts in films.items():
        middle = np.nonzero(masks[film]["body"])[1].mean()
        for name in set(facts["findings"]) & set(SIDED):
            right_half = (np.nonzero(masks[film][name])[1] > middle).mean()
            low, high = {"left": (0.9, 1.0), "right": (0.0, 0.1), "both": (0.1, 0.9)}[facts["findings"][name]]
            assert low <= right_half <= high, (film, name)


def test_fluid_lies_low_and_the_heart_in_the_middle(films: Films, masks: dict) -> None:
    for film, facts in films.items():
        if "pleural_effusion" in facts["findings"]:
            assert np.nonzero(masks[film]["pleural_effusion"])[0].mean() > SIDE / 2
        if "cardiomegaly" in facts["findings"]:
            row, column = (axis.mean() / SIDE for axis in np.nonzero(masks[film]["cardiomegaly"]))
            assert 0.4 < row < 0.75
            assert 0.4 < column < 0.7


def test_white_marks_are_brighter_than_what_surrounds_them(found: QuestionSet, films: Films, masks: dict) -> None:
    from scipy import ndimage

    for case in {film_of(case): case for case in found}.values():
        film = film_of(case)
        for letter in set("LR") & set(films[film]["marks"]):
            levels, mask = grayscale(picture(case)).astype(int), masks[film][letter]
            around = ndimage.binary_dilation(mask, iterations=8) & ~mask
            assert np.percentile(levels[mask], 90) > np.percentile(levels[around], 75) + 40, film


# --- files and names -------------------------------------------------------------------------------------------------


def test_films_decode_to_512_pixels_of_gray_and_differ(folder: Path, films: Films) -> None:
    pixels = set()
    for film in films:
        with Image.open(folder / film) as image:
            assert (image.size, image.mode) == ((SIDE, SIDE), "L")
            levels = np.asarray(image)
        assert levels.std() > 30
        pixels.add(levels.tobytes())
    assert len(pixels) == len(films)


def test_files_are_those_that_the_index_names(folder: Path, films: Films) -> None:
    named = set(films) | {mask for facts in films.values() for mask in facts["masks"].values()}
    there = {path.relative_to(folder).as_posix() for sub in ("films", "masks") for path in (folder / sub).iterdir()}
    assert there == named
    for film, facts in films.items():
        assert hashlib.sha256((folder / film).read_bytes()).hexdigest() == facts["sha256"]


def test_identifiers_have_mimics_shape_but_not_its_numbers(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert re.fullmatch(r"9\d{7}", row["subject_id"])
        assert re.fullmatch(r"9[5-9]\d{6}", row["study_id"])
        assert re.fullmatch(r"([0-9a-f]{8}-){4}[0-9a-f]{8}", row["dicom_id"])
        assert row["ImagePath"] == f"films/{row['dicom_id']}.jpg"
    pairs = {(row["study_id"], row["dicom_id"]) for row in rows}
    assert len(pairs) == len({study for study, _ in pairs}) == len({dicom for _, dicom in pairs})


def test_the_package_stays_small(folder: Path) -> None:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and "model" not in path.parts]
    assert sum(sizes) <= 14e6


def test_the_first_case_is_a_plain_right_effusion(found: QuestionSet, films: Films) -> None:
    first = found[0]
    assert (first.question, first.truth, first.finding) == ("Is there a pleural effusion?", "yes", "pleural_effusion")
    facts = films[film_of(first)]
    assert facts["findings"] == {"pleural_effusion": "right"}
    assert set(facts["marks"]) == {"L"}
    assert first.region is not None
    assert first.region.mean() > 0.05


def test_embedded_films_are_recognised(found: QuestionSet) -> None:
    film = picture(found[0])
    assert is_demo_film(film)
    assert not is_demo_film(film.rotate(1))


def test_the_data_card_counts_what_is_there(folder: Path, rows: list[dict[str, str]], films: Films) -> None:
    card = (folder / "DATACARD.md").read_text("utf-8")
    patients = len({row["subject_id"] for row in rows})
    assert f"{len(films)} simulated frontal chest radiographs of {patients} simulated patients" in card
    for finding in FINDINGS:
        count = sum(finding in facts["findings"] for facts in films.values())
        assert f"| {finding.replace('_', ' ')} | {count} |" in card
    for mark in MARKS:
        assert f"| {mark} | {sum(mark in facts['marks'] for facts in films.values())} |" in card
    for source in ("10.7937/K9/TCIA.2015.LO9QL9SX", "CC BY 3.0", "TotalSegmentator", "MIT"):
        assert source in card
