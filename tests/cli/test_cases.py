"""`cases` as a person or a program calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call, everything_in
from tests.mimic_tree import tool, write_table


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six films in every layout."""
    out = tmp_path_factory.mktemp("tree")
    tool().write_tree(out, 6)
    return out


def test_what_the_embedded_cases_are(call: Call) -> None:
    done = call("cases", "--json")
    document = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert document["recognised"] == "question file"
    assert document["cases"] == document["rows"] == sum(document["views"].values())
    assert document["images"] == {"found": document["regions"]["body"], "missing": 0}
    assert document["left_out"] == {}


def test_json_counts_everything_that_people_are_told(call: Call, tree: Path) -> None:
    words = ("cases", str(tree / "medical-diff-vqa"), "--images", str(tree / "mimic-cxr-jpg"))
    document = json.loads(call(*words, "--json").out)
    assert (document["recognised"], document["rows"], document["cases"]) == ("Medical-Diff-VQA", 25, 24)
    assert document["images"] == {"found": 6, "missing": 0}
    assert (document["patients"], document["views"]) == (6, {"PA": 24})
    assert document["splits"] == {"test": 8, "validate": 8, "train": 8}
    assert document["answer_types"] == {"yes or no": 24}
    assert document["columns"]["study"] == ["study_id"]
    (reason,) = document["left_out"]
    told = call(*words)
    assert told.code == 0
    for text in ("Medical-Diff-VQA", "24 of 25 rows", "6 found, 0 missing", "test 8, validate 8, train 8", "PA 24"):
        assert text in told.out
    assert " ".join(reason.split()[:6]) in told.out


def test_no_identifier_and_no_path_is_printed(call: Call, tree: Path) -> None:
    done = call("cases", str(tree / "mimic-cxr-jpg"), "--json")
    for film in tool()._films(6):
        for text in (film.key, film.patient, film.study):
            assert text not in done.out
    assert str(tree) not in done.out


def test_regions_of_another_source(call: Call, tree: Path) -> None:
    words = (
        "cases",
        str(tree / "questions"),
        "--images",
        str(tree / "mimic-cxr-jpg"),
        "--regions",
        str(tree / "masks"),
    )
    document = json.loads(call(*words, "--json").out)
    assert document["regions_from"] == "masks"
    films = [film for film in tool()._films(6) if "pleural_effusion" in film.findings]
    assert document["regions"]["pleural_effusion"] == len(films)
    assert "Regions" in call(*words).out


@pytest.mark.parametrize(
    ("folder", "name"),
    [("ms-cxr", "MS-CXR"), ("boxes", "boxes"), ("reflacx", "REFLACX"), ("chest-imagenome", "Chest ImaGenome")],
)
def test_regions_are_named_by_their_folder_too(call: Call, tree: Path, folder: str, name: str) -> None:
    words = ("cases", str(tree / "questions"), "--images", str(tree / "mimic-cxr-jpg"), "--regions", str(tree / folder))
    document = json.loads(call(*words, "--json").out)
    assert document["regions_from"] == name
    assert sum(document["regions"].values()) > 0


def test_a_question_of_ones_own(call: Call, tree: Path) -> None:
    document = json.loads(call("cases", str(tree / "mimic-cxr"), "-q", "Why?", "--json").out)
    assert (document["cases"], document["answer_types"]) == (6, {"no truth": 6})
    assert document["left_out"] == {"view LATERAL": 1}


def test_films_that_are_missing_are_counted(call: Call, tree: Path, tmp_path: Path) -> None:
    lines = [("Why?", f"{name}.jpg") for name in ("one", "two")] + [("Where?", "two.jpg")]
    table = write_table(tmp_path / "mine.csv", ("question", "image"), *lines)
    (tmp_path / "one.jpg").write_bytes(next(tree.rglob("*.jpg")).read_bytes())
    document = json.loads(call("cases", str(table), "--json").out)
    assert document["images"] == {"found": 1, "missing": 1}
    assert document["left_out"] == {"image file not found": 2}


ALONE = {"boxes": "boxes", "boxes/boxes.csv": "boxes", "masks": "masks", "ms-cxr": "MS-CXR"}


@pytest.mark.parametrize(("name", "recognised"), ALONE.items())
def test_regions_without_their_films_are_recognised_with_the_next_step(
    call: Call, tree: Path, name: str, recognised: str
) -> None:
    found = call("cases", str(tree / name), "--json")
    document = json.loads(found.out)
    assert (found.code, found.err) == (0, "")
    marked = [film for film in tool()._films(6) if any(one in film.masks for one in film.findings)]
    regions = sum(finding in film.masks for film in marked for finding in film.findings)
    assert (document["recognised"], document["cases"]) == (recognised, 0)
    assert document["images"] == {"found": 0, "missing": len(marked)}
    assert sum(document["regions"].values()) == regions == document["rows"] - sum(document["left_out"].values())
    for film in marked:
        assert film.key not in found.out
    told = " ".join(call("cases", str(tree / name)).out.split())
    assert f"0 found, {len(marked)} missing" in told
    assert "name the films' folder (--images), then each marked finding is asked for" in told
    named = json.loads(call("cases", str(tree / name), "--images", str(tree / "mimic-cxr-jpg"), "--json").out)
    assert named["cases"] == regions
    assert call("cases", str(tree / name), "--images", str(tree / "slake")).code == 2


def test_parts_of_the_body_are_recognised_and_ellipses_send_to_their_tables(call: Call, tree: Path) -> None:
    document = json.loads(call("cases", str(tree / "chest-imagenome"), "--json").out)
    assert (document["recognised"], document["regions"]) == ("Chest ImaGenome", {"right_lung": 6, "left_lung": 6})
    assert "nobody asks" in document["notes"][0]
    assert json.loads(call("cases", str(tree / "reflacx"), "--json").out)["recognised"] == "REFLACX"
    done = call("cases", str(tree / "reflacx" / "main_data"))
    assert done.code == 2
    assert "name the folder above" in done.err


def test_masks_are_never_taken_for_films(call: Call, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for path in (tree / "masks").rglob("*.png"):
        (tmp_path / "flat" / f"{path.parent.name}_{path.name}").write_bytes(path.read_bytes())
    for words in (("flat",), ("flat", "-q", "Why?")):
        document = json.loads(call("cases", *words, "--json").out)
        assert (document["recognised"], document["cases"]) == ("masks", 0)
    for path in (tmp_path / "flat").iterdir():  # gray ones are films whatever they are called
        path.write_bytes(next(tree.rglob("*.jpg")).read_bytes())
    assert json.loads(call("cases", "flat", "-q", "Why?", "--json").out)["recognised"] == "pictures"


def test_a_table_of_boxes_beside_films_is_read_where_nothing_else_is_asked(
    call: Call, tree: Path, tmp_path: Path
) -> None:
    film = next(film for film in tool()._films(6) if "pleural_effusion" in film.findings)
    (tmp_path / "mine").mkdir()
    for name in ("one.jpg", "two.jpg"):
        (tmp_path / "mine" / name).write_bytes(film.path.read_bytes())
    write_table(
        tmp_path / "mine" / "boxes.csv", ("image", "finding", "x", "y", "w", "h"), ("one.jpg", "edema", 1, 1, 9, 9)
    )
    document = json.loads(call("cases", "mine", "--json").out)
    assert (document["recognised"], document["findings"]) == ("boxes", {"edema": 1})
    document = json.loads(call("cases", "mine", "-q", "Why?", "--json").out)
    assert (document["recognised"], document["cases"]) == ("pictures", 2)
    write_table(
        tmp_path / "mine" / "more.csv", ("image", "finding", "x", "y", "w", "h"), ("one.jpg", "edema", 1, 1, 9, 9)
    )
    assert "several files of regions (boxes.csv, more.csv)" in call("cases", "mine").err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nothing",), "Unknown source of cases 'nothing'"),
        (("empty",), "neither questions.csv nor pictures"),
        (("bad.csv",), "lacks a column for the question"),
        (("demo", "--regions", "bad.csv"), "lacks a column for the film"),
        (("demo", "-q", "Why?"), "brings its own questions"),
    ],
)
def test_what_cannot_be_used(call: Call, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    (tmp_path / "empty").mkdir()
    write_table(tmp_path / "bad.csv", ("remark", "x"), ("none", 1))
    before = everything_in(tmp_path)
    done = call("cases", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert everything_in(tmp_path) == before
