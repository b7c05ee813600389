"""Question files of every shape, and what is left out of them."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medgemma_visualizer.data.questions import QuestionSet, case_id, read_questions
from medgemma_visualizer.errors import InputError

HEADINGS = ["study_id", "question", "options", "correct_answer", "ImagePath"]
ROW = ["s50000001", "Is there an effusion?", "['yes', 'no', '', '']", "yes", "a.png"]

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a table beside two films, a.png and b.png."""
    for name in ("a.png", "b.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)

    def write_table(*rows: list[str], delimiter: str = ",") -> Path:
        with (tmp_path / "questions.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows(rows)
        return tmp_path / "questions.csv"

    return write_table


def swapped(row: list[str], **cells: str) -> list[str]:
    """The row with some cells replaced, named by heading."""
    return [cells.get(heading, cell) for heading, cell in zip(HEADINGS, row, strict=True)]


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_questions(path)
    message = str(caught.value)
    assert repr(str(path)) in message
    assert "\n" not in message
    return message


def test_the_columns_of_the_specification(write: Writer, tmp_path: Path) -> None:
    found = read_questions(write(HEADINGS, ROW))
    (case,) = found
    assert case.id.startswith("s50000001-")
    assert case.question == "Is there an effusion?"
    assert case.options == ("yes", "no")
    assert case.truth == "yes"
    assert case.image == tmp_path / "a.png"
    assert (case.finding, case.patient_id, case.view, case.simulated) == (None, None, None, False)
    assert case.source == found.source == "questions"
    assert found.left_out == ()


@pytest.mark.parametrize("heading", ["study_id", "StudyID", "study", "id", "Study ID", "STUDY_ID"])
def test_names_of_the_study(write: Writer, heading: str) -> None:
    (case,) = read_questions(write([heading, *HEADINGS[1:]], ROW))
    assert case.id.startswith("s50000001-")


@pytest.mark.parametrize("heading", ["question", "Question", "query", "text", "question_variant", "baseline_question"])
def test_names_of_the_question(write: Writer, heading: str) -> None:
    (case,) = read_questions(write([HEADINGS[0], heading, *HEADINGS[2:]], ROW))
    assert case.question == "Is there an effusion?"


@pytest.mark.parametrize("heading", ["correct_answer", "answer", "ground_truth", "label", "Label"])
def test_names_of_the_truth(write: Writer, heading: str) -> None:
    (case,) = read_questions(write([*HEADINGS[:3], heading, HEADINGS[4]], ROW))
    assert case.truth == "yes"


@pytest.mark.parametrize(
    ("heading", "cell"),
    [
        ("ImagePath", "a.png"),
        ("image_path", "['a.png']"),
        ("image_path", '["a.png"]'),
        ("image_path", "a.png"),
        ("dicom_id", "a"),
        ("image", "elsewhere/a.png"),
        ("image", "C:\\films\\a.png"),
        ("image", "/data/files/p10/a.png"),
    ],
)
def test_names_of_the_image(write: Writer, tmp_path: Path, heading: str, cell: str) -> None:
    (case,) = read_questions(write([*HEADINGS[:4], heading], swapped(ROW, ImagePath=cell)))
    assert case.image == tmp_path / "a.png"


def test_patient_view_and_finding(write: Writer) -> None:
    for patient in ("subject_id", "PatientID"):
        headings = [*HEADINGS, patient, "ViewPosition", "finding"]
        (case,) = read_questions(write(headings, [*ROW, "10000001", "PA", "pleural_effusion"]))
        assert (case.patient_id, case.view, case.finding) == ("10000001", "PA", "pleural_effusion")


def test_a_variant_is_what_was_asked_and_the_baseline_only_without_one(write: Writer) -> None:
    headings = [*HEADINGS, "baseline_question", "question_variant"]
    variant = [*ROW, "Is there an effusion?", "Any fluid?"]
    baseline = [*ROW, "Is there an effusion?", ""]
    found = read_questions(write(headings, variant, baseline))
    assert [case.question for case in found] == ["Any fluid?", "Is there an effusion?"]


def test_two_spellings_of_one_heading_the_first_filled_counts(write: Writer, tmp_path: Path) -> None:
    headings = [*HEADINGS, "image_path"]
    found = read_questions(
        write(headings, [*ROW, "['b.png']"], [*swapped(ROW, ImagePath="", question="Why?"), "['b.png']"])
    )
    assert [case.image for case in found] == [tmp_path / "a.png", tmp_path / "b.png"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_commas_semicolons_and_tabs(write: Writer, delimiter: str) -> None:
    row = swapped(ROW, question="Fluid, or\tair; or both?")
    (case,) = read_questions(write(HEADINGS, row, delimiter=delimiter))
    assert case.question == "Fluid, or\tair; or both?"


def test_a_packed_file_with_a_byte_order_mark(write: Writer, tmp_path: Path) -> None:
    content = write(HEADINGS, ROW).read_bytes()
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + content))
    assert read_questions(tmp_path / "packed.csv.gz")[0].id == read_questions(tmp_path / "questions.csv")[0].id


def test_films_in_another_folder(write: Writer, tmp_path: Path) -> None:
    deep = tmp_path / "films" / "p10" / "s5"
    deep.mkdir(parents=True)
    Image.new("L", (4, 4)).save(deep / "c.png")
    path = write(HEADINGS, swapped(ROW, ImagePath="/mimic/files/p10/s5/c.png"))
    assert read_questions(path, tmp_path / "films")[0].image == deep / "c.png"


def test_a_film_named_alike_is_not_taken_for_several(write: Writer) -> None:
    rows = [swapped(ROW, ImagePath="s1/a.png"), swapped(ROW, ImagePath="s2/a.png"), swapped(ROW, ImagePath="b.png")]
    found = read_questions(write(HEADINGS, *rows))
    assert [Path(case.image).name for case in found] == ["b.png"]  # type: ignore[arg-type]
    assert found.reasons == {"image file not found": 2}


# --- identifiers -----------------------------------------------------------------------------------------------------


def test_every_pair_of_image_and_question_has_its_own_id(write: Writer) -> None:
    rows = [swapped(ROW, ImagePath=image, question=q) for image in ("a.png", "b.png") for q in ("Fluid?", "Air?")]
    found = read_questions(write(HEADINGS, *rows))
    assert len({case.id for case in found}) == 4


def test_ids_do_not_depend_on_order_or_on_where_the_files_lie(write: Writer, tmp_path: Path) -> None:
    other = swapped(ROW, question="Air?")
    one = {case.id for case in read_questions(write(HEADINGS, ROW, other))}
    path = write(HEADINGS, other, ROW)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("a.png", "questions.csv"):
        (moved / name).write_bytes((tmp_path / name).read_bytes())
    assert {case.id for case in read_questions(path)} == one
    assert {case.id for case in read_questions(moved / "questions.csv")} == one


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_ids_differ_where_pairs_differ(one: tuple[str, str], other: tuple[str, str]) -> None:
    if "\0" not in "".join(one + other):
        assert (case_id("s", *one) == case_id("s", *other)) == (one == other)


# --- what is left out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (swapped(ROW, question=""), "The question is empty; type one"),
        (swapped(ROW, question="nan"), "The question is empty; type one"),
        (swapped(ROW, question="?" * 1001), "1,001 characters"),
        (swapped(ROW, question="a\x01b"), "control character"),
        (swapped(ROW, ImagePath=""), "no image named"),
        (swapped(ROW, ImagePath="c.png"), "image file not found"),
        (swapped(ROW, ImagePath="x" * 5000), "image file not found"),
        (swapped(ROW, ImagePath="['a.png', 'b.png']"), "the image is a list of several"),
        (swapped(ROW, ImagePath="['a.png'"), "the image cannot be read as a list"),
        (swapped(ROW, options="yes|no"), "the options cannot be read as a list"),
        (swapped(ROW, options="{'yes'}"), "the options cannot be read as a list"),
        (swapped(ROW, options="__import__('os').getcwd()"), "the options cannot be read as a list"),
        (swapped(ROW, options="[" * 3000), "the options cannot be read as a list"),
        (swapped(ROW, correct_answer="['yes', 'no']"), "the answer is a list of several"),
        ([*ROW, "more"], "more cells than headings"),
        (ROW[:1], "The question is empty; type one"),
        (ROW[:4], "no image named"),
        (ROW, "repeats an earlier row's image and question with the same answer"),
        (swapped(ROW, correct_answer="no"), "repeats an earlier row's image and question with another answer"),
    ],
)
def test_unusable_rows_are_told(write: Writer, row: list[str], reason: str) -> None:
    found = read_questions(write(HEADINGS, ROW, row))
    assert len(found) == 1
    (left_out,) = found.left_out
    assert left_out.line == 3
    assert reason in left_out.reason


def test_reasons_are_counted_the_commonest_first(write: Writer) -> None:
    lost, mute = swapped(ROW, ImagePath="c.png"), swapped(ROW, question="")
    found = read_questions(write(HEADINGS, mute, lost, ROW, lost))
    assert list(found.reasons.items()) == [("image file not found", 2), ("The question is empty; type one", 1)]
    assert [row.line for row in found.left_out] == [2, 3, 5]


def test_blank_lines_are_no_rows(write: Writer) -> None:
    found = read_questions(write([], HEADINGS, [], ROW, ["", " ", "", "", ""]))
    assert (len(found), found.left_out) == (1, ())


@pytest.mark.parametrize(
    ("written", "truth"), [("Yes.", "yes"), ("NO", "no"), ("Left lung.", "Left lung."), ("No effusion", "No effusion")]
)
def test_yes_and_no_are_known_however_they_are_written(write: Writer, written: str, truth: str) -> None:
    (case,) = read_questions(write(["question", "image", "answer"], ["Is it?", "a.png", written]))
    assert case.truth == truth


def test_options_and_truth_may_be_missing(write: Writer) -> None:
    (case,) = read_questions(write(["question", "ImagePath"], ["Why?", "a.png"]))
    assert (case.options, case.truth) == ((), None)
    assert case.id.startswith("a-")


cells = st.sampled_from(["", "nan", "Why?", "['yes','no']", "a.png", "b.png", "zz", "[", "x,y", 'a"b', "s1", "é🫁"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(cells, min_size=1, max_size=7), max_size=8))
def test_every_row_is_a_case_or_left_out(write: Writer, rows: list[list[str]]) -> None:
    found = read_questions(write(HEADINGS, ROW, *rows))
    filled = [row for row in rows if any(cell for cell in row)]
    assert len(found) + len(found.left_out) == 1 + len(filled)
    assert len({case.id for case in found}) == len(found)


# --- files that cannot be used at all --------------------------------------------------------------------------------


def test_a_missing_column_names_those_found(write: Writer) -> None:
    message = refusal(write(["study_id", "remark"], ["s1", "x"]))
    assert "question (one of question_variant, question, query" in message
    assert "image (one of ImagePath, image_path" in message
    assert "found: study_id, remark" in message


def test_a_heading_that_stands_twice(write: Writer) -> None:
    assert "the heading 'question' 2 times" in refusal(write([*HEADINGS, "question"], [*ROW, "Why?"]))


def test_no_usable_row(write: Writer) -> None:
    message = refusal(write(HEADINGS, swapped(ROW, ImagePath="c.png")))
    assert "no usable row (image file not found: 1 rows)" in message
    assert "headings only" in refusal(write(HEADINGS))


def test_an_unclosed_quote_swallows_nothing(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text('question,ImagePath\n"Why?,a.png\nAir?,a.png\n')
    assert "line 3" in refusal(tmp_path / "q.csv")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("q.csv", b"", "is empty"),
        ("q.csv", b"\n\n", "is empty"),
        ("q.csv", "question,ImagePath\nGröße?,a.png".encode("latin-1"), "not UTF-8"),
        ("q.csv", b"PK\x03\x04\xff\xfe", "not UTF-8"),
        ("q.csv.gz", b"no archive", "damaged gzip"),
        ("q.csv.gz", gzip.compress(b"question,ImagePath\nWhy?,a.png\n", mtime=0)[:-6], "damaged gzip"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


def test_no_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "q.csv")
    assert "cannot be read" in refusal(tmp_path)


def test_a_set_is_a_sequence(write: Writer) -> None:
    found = read_questions(write(HEADINGS, ROW, swapped(ROW, ImagePath="b.png")))
    assert isinstance(found, QuestionSet)
    assert len(found) == 2
    assert found[-1] is found.cases[1]
    assert found[:1] == found.cases[:1]
    assert list(found) == list(found.cases)
