"""Regions of data sets: decoded, drawn and joined with films; answers by hand, and one unusable entry a reason."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from tests.mimic_tree import tool, write_table

from medgemma_visualizer.data.questions import QuestionSet
from medgemma_visualizer.data.region_sets import RegionSet, read_regions
from medgemma_visualizer.data.regions import Box, MaskFile, Outline, RunLengths, decode_counts, draw, unpack
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.errors import InputError

BOXES = ("image", "finding", "x0", "y0", "x1", "y1")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films in every layout."""
    out = tmp_path_factory.mktemp("tree")
    tool().write_tree(out, 12)
    return out


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A film of 6 rows and 8 columns."""
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def rows(mask: np.ndarray) -> list[str]:
    return ["".join("#" if inside else "." for inside in row) for row in mask]


def only(found: RegionSet) -> Outline:
    ((outline,),) = (regions.values() for regions in found.films.values())
    return outline


# --- run lengths -----------------------------------------------------------------------------------------------------


def test_run_lengths_by_hand() -> None:
    # "2" is 50 - 48 = 2; "f" is 54 = 22 with the sign that more follows, "1" the next five bits: 22 + 32 = 54
    assert decode_counts("2") == (2,)
    assert decode_counts("f1") == (54,)
    # from the fourth number on, differences to the number two before: 3, 4, 5, then 4 + 1, then 5 - 2 ("N": 30, sign)
    assert decode_counts("3451N") == (3, 4, 5, 5, 3)


def test_the_empty_mask_of_chexlocalize() -> None:
    assert decode_counts("ifdl3") == (2021 * 2021,)
    assert not unpack(RunLengths(2021, 2021, "ifdl3")).any()


def test_runs_go_down_the_columns() -> None:
    assert rows(unpack(RunLengths(2, 3, "123"))) == [".#.", "#.."]  # one outside, two inside, three outside
    assert rows(unpack(RunLengths(2, 3, (0, 1, 5)))) == ["#..", "..."]


@given(arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
@settings(max_examples=50)
def test_what_is_packed_is_unpacked(mask: np.ndarray) -> None:
    assert (unpack(RunLengths(*mask.shape, tool().pack(mask))) == mask).all()


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        (RunLengths(2, 3, "12"), "do not make a mask of 2 x 3"),
        (RunLengths(2, 3, (1, -1, 6)), "do not make a mask"),
        (RunLengths(2, 3, "1 3"), "the character ' '"),
        (RunLengths(2, 3, "f"), "end within a number"),
    ],
)
def test_damaged_run_lengths(lengths: RunLengths, words: str) -> None:
    with pytest.raises(InputError, match=words):
        unpack(lengths)


# --- drawing ---------------------------------------------------------------------------------------------------------


def test_boxes_by_hand() -> None:
    two = Outline((Box(1, 0, 3, 2), Box(4, 2, 6, 3)))
    assert rows(draw(two, (3, 6))) == [".##...", ".##...", "....##"]


def test_a_box_on_a_film_of_half_the_size() -> None:
    # (2, 2) to (6, 5) becomes (1, 1) to (3, 2.5): half of the third row, which counts
    assert rows(draw(Outline((Box(2, 2, 6, 5),), (8, 12)), (4, 6))) == ["......", ".##...", ".##...", "......"]
    # (3, 2) to (6, 4) becomes (1.5, 1) to (3, 2): half of the second column
    assert rows(draw(Outline((Box(3, 2, 6, 4),), (8, 12)), (4, 6))) == ["......", ".##...", "......", "......"]


def test_an_ellipse_by_hand() -> None:
    # centre (2.5, 2.5), half axes 2.5: the centres of the corners are sqrt(8) away
    assert rows(draw(Outline((Box(0, 0, 5, 5, round=True),)), (5, 6))) == [
        *(".###..", "#####.", "#####.", "#####.", ".###..")
    ]


def test_a_mask_of_another_size_is_brought_by_area(tmp_path: Path) -> None:
    mask = np.zeros((4, 6), bool)
    mask[:2, :2] = True  # one pixel of the film
    mask[0, 4] = True  # a quarter of one
    mask[2:, 4] = True  # half of one
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for shape in (MaskFile(tmp_path / "mask.png"), RunLengths(4, 6, tool().pack(mask))):
        assert rows(draw(Outline((shape,)), (2, 3))) == ["#..", "..#"]
        assert (draw(Outline((shape,)), (4, 6)) == mask).all()


def test_shapes_of_one_region_are_united(tmp_path: Path) -> None:
    shapes = (Box(0, 0, 1, 1), RunLengths(2, 3, (5, 1)))
    assert rows(draw(Outline(shapes), (2, 3))) == ["#..", "..#"]


@pytest.mark.parametrize(
    ("outline", "words"),
    [
        (Outline((Box(0, 0, 1, 1),), (60, 40)), "another shape"),
        (Outline((RunLengths(60, 40, (2400,)),)), "another shape"),
        (Outline((Box(0, 0, 90, 20),)), "reaches beyond the film"),
        (Outline((Box(0, 0, 20, 20),), long_side=3000), "about 3000 pixels on its long side; this one has 40 x 60"),
    ],
)
def test_films_that_regions_were_not_drawn_on(outline: Outline, words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw(outline, (40, 60))


def test_regions_are_drawn_when_asked_for_and_not_before(film: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "boxes.csv", BOXES, ("a.png", "Edema", 0, 0, 2, 3))
    (case,) = load_cases(table)
    assert rows(pickle.loads(pickle.dumps(case)).region) == ["##......"] * 3 + ["........"] * 3
    film.unlink()
    assert list(case.regions) == ["edema"]
    assert "edema" in repr(case.regions)
    with pytest.raises(InputError, match="does not exist"):
        case.regions["edema"]
    with pytest.raises(KeyError):
        case.regions["pneumonia"]


# --- the sets --------------------------------------------------------------------------------------------------------

#: Place -> (set, regions whose masks have the finding's own box or the mask itself, what is left out).
SETS: dict[str, tuple[str, str, dict[str, int]]] = {
    "ms-cxr": ("MS-CXR", "box", {"the box has no area": 1}),
    "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.json": ("COCO regions", "box", {}),
    "chexlocalize": ("CheXlocalize", "mask", {"the mask is empty: the finding is not on the film": 34}),
    "reflacx": ("REFLACX", "ellipse", {"a certainty of 2 or less": 18, "no label holds of the ellipse": 7}),
    "vindr-cxr": (
        "VinDr-CXR",
        "box",
        {
            "the film shows nothing of what was looked for ('No finding')": 16,
            "marked by half of the film's readers or fewer": 1,
        },
    ),
    "boxes/boxes.csv": ("boxes", "box", {}),
}
OWN_FILMS = ("chexlocalize", "vindr-cxr")


@pytest.mark.parametrize("place", SETS)
def test_each_set_marks_what_was_put_into_the_films(tree: Path, place: str) -> None:
    name, kind, left_out = SETS[place]
    found = load_cases(tree / place, images=None if place in OWN_FILMS else tree / "mimic-cxr-jpg")
    films = {film.key: film for film in tool()._films(12)}
    marked = {(key, n) for key, film in films.items() for n in film.findings if n in film.masks}
    if name == "REFLACX":  # its tables here know two labels
        marked = {(key, n) for key, n in marked if n in ("pleural_effusion", "pneumonia")}
    assert (found.recognised, found.reasons, len(found)) == (name, left_out, len(marked))
    for case in found[:4]:
        own = _own_film(case.image, films)
        assert case.region is not None
        assert case.truth == "yes"
        _compare(case.region, own, str(case.finding), kind)


def _own_film(image: Any, films: dict[str, Any]) -> Any:
    """The film of a case: by its name, or, for sets with names of their own, by its place among the films."""
    stem = Path(str(image)).stem
    if stem in films:
        return films[stem]
    if "patient" in str(image):
        return list(films.values())[int(Path(str(image)).parts[-3].removeprefix("patient")) - 64000]
    return next(film for key, film in films.items() if key.replace("-", "").startswith(stem))


def _compare(region: np.ndarray, film: Any, finding: str, kind: str) -> None:
    if kind == "mask":
        assert (region == film.mask(finding)).all()
        return
    x0, y0, x1, y1 = film.box(finding)
    box = np.zeros(region.shape, bool)
    box[y0:y1, x0:x1] = True
    if kind == "box":
        assert (region == box).all()
    else:  # an ellipse fills pi / 4 of its box
        assert not (region & ~box).any()
        assert region.sum() / box.sum() == pytest.approx(np.pi / 4, abs=0.01)


def test_imagenome_is_read_in_the_films_own_coordinates(tree: Path) -> None:
    gold = tree / "chest-imagenome"
    found = load_cases(gold, question="Why?", images=tree / "mimic-cxr-jpg")
    film = tool()._films(12)[0]
    x0, y0, x1, y1 = film.box("body")
    case = next(case for case in found if Path(str(case.image)).stem == film.key)
    assert set(case.regions) == {"right_lung", "left_lung"}
    right = case.regions["right_lung"]
    assert right[y0:y1, x0 : (x0 + x1) // 2].all()
    assert right.sum() == (y1 - y0) * ((x0 + x1) // 2 - x0)
    with pytest.raises(InputError, match="marks parts of the body, not findings; say what to ask"):
        load_cases(gold, images=tree / "mimic-cxr-jpg")


def test_imagenome_on_shrunk_films_needs_their_archived_size(tree: Path, tmp_path: Path) -> None:
    """512 x 512 films copied at 256 x 256: refused by what the boxes say; drawn where the metadata says the size."""
    film = tool()._films(12)[0]
    copy = tmp_path / f"{film.place}.jpg"
    copy.parent.mkdir(parents=True)
    Image.open(film.path).resize((256, 256)).save(copy)
    gold = next((tree / "chest-imagenome").glob("*.csv"))
    (case,) = load_cases(gold, question="Why?", images=tmp_path)
    with pytest.raises(InputError, match=r"on a film of about 5\d\d pixels on its long side"):
        case.regions["right_lung"]
    metadata = "mimic-cxr-2.0.0-metadata.csv.gz"
    (tmp_path / metadata).write_bytes((tree / "mimic-cxr-jpg" / metadata).read_bytes())
    (case,) = load_cases(gold, question="Why?", images=tmp_path)
    mask, box = case.regions["right_lung"], film.box("body")
    assert mask.shape == (256, 256)
    assert mask.sum() == pytest.approx((box[3] - box[1]) * ((box[0] + box[2]) // 2 - box[0]) / 4, rel=0.02)


def test_more_than_half_of_the_readers_must_agree(tmp_path: Path) -> None:
    headings = ("image_id", "class_name", "rad_id", "x_min", "y_min", "x_max", "y_max")
    table = write_table(
        tmp_path / "annotations_train.csv",
        headings,
        ("a", "Edema", "R1", 0, 0, 1, 1),
        ("a", "Edema", "R2", 1, 1, 2, 2),
        ("a", "Pneumonia", "R3", 0, 0, 4, 4),
        ("b", "Pneumonia", "R1", 0, 0, 4, 4),
        ("b", "No finding", "R2", "", "", "", ""),
    )
    found = read_regions(table)
    assert {film: list(regions) for film, regions in found.films.items()} == {"a": ["edema"]}
    assert rows(draw(only(found), (2, 2))) == ["#.", ".#"]
    assert found.reasons["marked by half of the film's readers or fewer"] == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("", "Edema", 0, 0, 2, 3), "no film named"),
        (("a.png", "", 0, 0, 2, 3), "the region has no name"),
        (("a.png", "Edema", 0, "x", 2, 3), "a coordinate is missing or no number"),
        (("a.png", "Edema", 0, 0, "inf", 3), "a coordinate is missing or no number"),
        (("a.png", "Edema", 2, 0, 2, 3), "the box has no area"),
        (("a.png", "Edema", -5, 0, -2, 3), "the box lies outside the film"),
        (("b.png", "Edema", 0, 0, 2, 3), "image file not found"),
        (("a.png", "No Finding", 0, 0, 2, 3), "the film shows nothing of what was looked for ('No finding')"),
    ],
)
def test_boxes_that_cannot_be_used_are_counted(
    film: Path, tmp_path: Path, row: tuple[object, ...], reason: str
) -> None:
    found = load_cases(write_table(tmp_path / "boxes.csv", BOXES, ("a.png", "Pneumonia", 0, 0, 1, 1), row))
    assert (len(found), found.reasons) == (1, {reason: 1})
    assert found.missing_images == (reason == "image file not found")


@pytest.mark.parametrize("headings", [("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2"), BOXES[2:]])
def test_spellings_of_corners(film: Path, tmp_path: Path, headings: tuple[str, ...]) -> None:
    found = read_regions(write_table(tmp_path / "b.csv", ("image", "label", *headings), ("a.png", "Edema", 1, 2, 3, 5)))
    assert only(found).shapes == (Box(1, 2, 3, 5),)


def test_x_y_width_height_and_the_films_size(tmp_path: Path) -> None:
    headings = ("image", "label", "x", "y", "w", "h", "image_width", "image_height")
    outside = ("a.png", "Edema", 90, 0, 4, 4, 80, 60)
    found = read_regions(write_table(tmp_path / "b.csv", headings, ("a.png", "Edema", 1, 2, 3, 5, 80, 60), outside))
    assert only(found) == Outline((Box(1, 2, 4, 7),), (60, 80))
    assert found.reasons == {"the box lies outside the film": 1}


def test_a_table_of_masks(film: Path, tmp_path: Path) -> None:
    Image.new("1", (8, 6), 1).save(tmp_path / "m.png")
    lines = ("a.png", "Edema", "m.png"), ("a.png", "Edema", "none.png")
    (case,) = (found := load_cases(write_table(tmp_path / "b.csv", ("image", "finding", "mask"), *lines)))
    assert case.region is not None
    assert case.region.all()
    assert found.reasons == {"mask file not found": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": {"Edema": {"size": [2, 2]}}}, "no size and run lengths"),
        ({"a": {"Edema": {"size": [2, 2], "counts": "4"}}}, "the mask is empty: the finding is not on the film"),
        ({"a": {"Edema": {"size": [2, 2], "counts": [4]}}}, "the mask is empty: the finding is not on the film"),
        ({"a": {"Edema": {"size": [2, 2], "counts": [4, 0]}}}, "the mask is empty: the finding is not on the film"),
        ({"a": {"Edema": {"size": [2, 2], "counts": "1 3"}}}, "damaged run lengths"),
    ],
)
def test_run_lengths_that_cannot_be_used(tmp_path: Path, content: dict[str, Any], reason: str) -> None:
    good = {"z": {"Edema": {"size": [2, 2], "counts": "13"}}}
    (tmp_path / "gt_segmentations_val.json").write_text(json.dumps(good | content))
    assert read_regions(tmp_path / "gt_segmentations_val.json").reasons == {reason: 1}


def test_reflacx_readings_that_cannot_be_used(tree: Path, tmp_path: Path) -> None:
    headings = ("id", "image", "image_size_x", "image_size_y")
    lines = ("P1", "x/a.dcm", 8, 6), ("P2", "x/a.dcm", 8, 6), ("P3", "", 8, 6), ("P4", "x/b.dcm", 8, 6)
    write_table(tmp_path / "metadata_phase_3.csv", headings, *lines)
    ellipses = ("xmin", "ymin", "xmax", "ymax", "certainty", "Edema")
    for reading, row in (("P1", (0, 0, 4, 4, 3, True)), ("P2", (0, 0, 4, 4, "", True)), ("P3", (0, 0, 1, 1, 5, True))):
        write_table(tmp_path / "main_data" / reading / "anomaly_location_ellipses.csv", ellipses, row)
    with pytest.raises(InputError, match="marks no region") as caught:
        read_regions(tmp_path)  # one of the two readers of film a marked something: half is not enough
    for reason in (
        "no certainty given: 1",
        "no film named: 1",
        "the reading's anomaly_location_ellipses.csv is missing: 1",
        "marked by half of the film's readers or fewer: 1",
    ):
        assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("headings", "found"),
    [
        (("image_id", "bbox_name", "original_x1", "original_y1"), "x1 (one of original_x2)"),
        (("dicom_id", "category_name", "x", "y", "w", "h"), "image_height (one of image_height)"),
        (("image_id", "class_name", "x_min"), "y0"),
    ],
)
def test_a_missing_column_names_those_found(tmp_path: Path, headings: tuple[str, ...], found: str) -> None:
    with pytest.raises(InputError, match="lacks a column") as caught:
        read_regions(write_table(tmp_path / "regions.csv", headings))
    assert found in str(caught.value)
    assert f"found: {', '.join(headings)}." in str(caught.value)


def test_what_is_no_source_of_regions(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(InputError, match="holds neither CheXlocalize's films"):
        read_regions(tmp_path / "x.json")
    with pytest.raises(InputError, match=r"marks no region \(no entries\)"):
        read_regions(tmp_path)


# --- joined with questions -------------------------------------------------------------------------------------------


def asked(tmp_path: Path, *names: str, question: str = "Is there edema?") -> QuestionSet:
    """A question of each of these films, with the boxes of boxes.csv."""
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 6)).save(tmp_path / name)
    table = write_table(tmp_path / "questions.csv", ("question", "image"), *((question, name) for name in names))
    return load_cases(table, regions=tmp_path / "boxes.csv")


def test_questions_get_the_regions_of_their_films_and_the_finding_that_they_ask_for(tmp_path: Path) -> None:
    write_table(tmp_path / "boxes.csv", BOXES, ("a.png", "Edema", 0, 0, 1, 6), ("z.png", "Edema", 0, 0, 1, 1))
    first, second = found = asked(tmp_path, "a.png", "b.png")
    assert (first.finding, second.finding) == ("edema", "edema")
    assert first.region is not None
    assert rows(first.region) == ["#......."] * 6
    assert (dict(second.regions), second.region) == ({}, None)
    assert (found.regions_from, found.regions_left_out) == ("boxes", {"of a film that no case shows": 1})


@pytest.mark.parametrize("name", ["a.png", "a", "p1/a.png", "p1/a", "p1_a"])
def test_names_by_which_regions_know_a_film(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / "boxes.csv", BOXES, (name, "Edema", 0, 0, 1, 6))
    assert list(asked(tmp_path, "p1/a.png")[0].regions) == ["edema"]


def test_a_name_that_several_films_have_is_no_films(tmp_path: Path) -> None:
    write_table(tmp_path / "boxes.csv", BOXES, ("a.png", "Edema", 0, 0, 1, 6), ("b.png", "Edema", 0, 0, 1, 6))
    found = asked(tmp_path, "p1/a.png", "p2/a.png", "p1/b.png")
    assert [list(case.regions) for case in found] == [[], [], ["edema"]]
    assert found.regions_left_out == {"of a name that several films have": 1}


def test_masks_in_a_folder_a_film_or_beside_each_other(tmp_path: Path) -> None:
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    table = write_table(tmp_path / "questions.csv", ("question", "image"), ("Why?", "a.png"))
    for name in ("in/a/pleural_effusion.png", "flat/a_pleural_effusion.png", "flat/a_heart.png", "flat/odd.png"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("1", (8, 6), 1).save(tmp_path / "masks" / name)
    assert list(load_cases(table, regions=tmp_path / "masks" / "in")[0].regions) == ["pleural_effusion"]
    found = load_cases(table, regions=tmp_path / "masks" / "flat")
    assert set(found[0].regions) == {"pleural_effusion", "heart"}
    assert found[0].regions["heart"].all()
    assert found.regions_left_out == {"the mask's name is not of the form <film>_<region>": 1}


def test_regions_of_the_embedded_films_stay(tmp_path: Path) -> None:
    """Boxes for an embedded film come beside its masks."""
    case = load_cases("demo")[0]
    table = write_table(tmp_path / "boxes.csv", BOXES, (Path(str(case.image)).stem, "Edema", 0, 0, 1, 1))
    joined = load_cases("demo", regions=table)[0]
    assert set(joined.regions) == {*case.regions, "edema"}
    assert joined.regions["edema"].sum() == 1
    assert joined.region is not None
    assert case.region is not None
    assert (joined.region == case.region).all()
