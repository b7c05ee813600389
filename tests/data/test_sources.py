"""Where cases are found, and the embedded ones."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgemma_visualizer.data import sources
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.sources import Regions, is_demo_film, load_cases
from medgemma_visualizer.errors import InputError

EFFUSION = np.array([[False, True, True], [False, False, True]])
FILM = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of cases: one film with an effusion, two questions."""
    root = tmp_path / "little"
    (root / "films").mkdir(parents=True)
    (root / "masks").mkdir()
    Image.fromarray(FILM).save(root / "films" / "one.png")
    Image.fromarray(EFFUSION).save(root / "masks" / "one.png")
    (root / "questions.csv").write_text(
        "study_id,question,options,correct_answer,ImagePath,subject_id,finding,ViewPosition\n"
        "s1,Is there an effusion?,\"['yes', 'no']\",yes,films/one.png,p1,pleural_effusion,PA\n"
        "s1,Is there a pneumothorax?,\"['yes', 'no']\",no,films/one.png,p1,pneumothorax,PA\n"
    )
    index = {"films": {"films/one.png": {"masks": {"pleural_effusion": "masks/one.png"}}}}
    (root / "cases.json").write_text(json.dumps(index))
    return root


@pytest.fixture
def little_demo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in the place of the embedded one."""
    sources.demo_cases.cache_clear()
    sources._demo_fingerprints.cache_clear()
    monkeypatch.setattr(sources, "demo_folder", lambda: folder)
    yield folder
    sources.demo_cases.cache_clear()
    sources._demo_fingerprints.cache_clear()


def test_a_folder_of_cases_brings_its_masks(folder: Path) -> None:
    present, absent = load_cases(folder)
    assert (present.truth, present.patient_id, present.view, present.source) == ("yes", "p1", "PA", "little")
    assert present.region is not None
    assert present.region.dtype == bool
    assert (present.region == EFFUSION).all()
    assert absent.region is None
    assert not present.simulated


def test_masks_are_read_when_asked_for_and_not_before(folder: Path) -> None:
    (folder / "masks" / "one.png").unlink()
    case = load_cases(folder)[0]
    assert list(case.regions) == ["pleural_effusion"]
    assert "pneumothorax" not in case.regions
    with pytest.raises(InputError, match="does not exist"):
        case.regions["pleural_effusion"]
    with pytest.raises(KeyError):
        case.regions["pneumothorax"]


def test_a_mask_with_gray_levels_is_refused(folder: Path) -> None:
    Image.fromarray(FILM).save(folder / "masks" / "one.png")
    with pytest.raises(InputError, match="between black and white"):
        load_cases(folder)[0].regions["pleural_effusion"]


def test_cases_travel_between_processes(folder: Path) -> None:
    case = load_cases(folder)[0]
    assert (pickle.loads(pickle.dumps(case)).region == EFFUSION).all()
    assert "pleural_effusion" in repr(Regions({"pleural_effusion": Path("x")}))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"films": {"a": 1}}', '{"films": {"a": {"masks": [1]}}}'])
def test_a_broken_index(folder: Path, content: str) -> None:
    (folder / "cases.json").write_text(content)
    with pytest.raises(InputError, match=r"cases\.json' is no index"):
        load_cases(folder)


def test_a_folder_without_an_index_has_no_masks(folder: Path) -> None:
    (folder / "cases.json").unlink()
    assert [dict(case.regions) for case in load_cases(folder)] == [{}, {}]


def test_a_question_file_is_named_by_its_path(folder: Path) -> None:
    assert [case.id for case in load_cases(folder / "questions.csv")] == [case.id for case in load_cases(folder)]


def test_one_question_asked_of_a_picture_or_a_folder_of_them(folder: Path) -> None:
    (folder / "films" / "notes.txt").write_text("x")
    (alone,) = load_cases(folder / "films" / "one.png", question=" Why? ")
    (found,) = load_cases(folder / "films", question="Why?")
    assert alone.id == found.id
    assert (alone.question, alone.truth, alone.source, found.source) == ("Why?", None, "user", "films")
    assert (np.asarray(picture(alone))[:, :, 0] == FILM).all()


def test_a_picture_needs_a_question_and_a_question_file_none(folder: Path) -> None:
    with pytest.raises(InputError, match="comes without a question"):
        load_cases(folder / "films" / "one.png")
    for source in (folder, folder / "questions.csv", "demo"):
        with pytest.raises(InputError, match="brings its own questions"):
            load_cases(source, question="Why?")


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown source of cases 'demoo'\. Did you mean 'demo'\?"):
        load_cases("demoo")
    with pytest.raises(InputError, match=r"film\.png' does not exist"):
        load_cases(tmp_path / "film.png", question="Why?")
    with pytest.raises(InputError, match=r"q\.csv' does not exist"):
        load_cases(tmp_path / "q.csv")
    with pytest.raises(InputError, match="never opened"):
        load_cases("https://example.org/film.png", question="Why?")
    with pytest.raises(InputError, match=r"neither questions\.csv nor pictures"):
        load_cases(tmp_path)


def test_embedded_films_are_known_by_their_pixels(little_demo: Path) -> None:
    film = Image.open(little_demo / "films" / "one.png")
    assert is_demo_film(film)
    assert is_demo_film(film.convert("RGB"))
    changed = FILM.copy()
    changed[1, 1] += 1
    assert not is_demo_film(Image.fromarray(changed))
    assert not is_demo_film(Image.fromarray(FILM.reshape(3, 2)))  # the same bytes in another shape


def test_embedded_cases_say_that_they_are_simulated(little_demo: Path) -> None:
    found = load_cases("demo")
    assert found.source == "demo"
    assert {(case.source, case.simulated) for case in found} == {("demo", True)}
    assert load_cases() is found


def test_reading_cases_needs_no_heavy_library() -> None:
    script = (
        "import sys, medgemma_visualizer.data\n"
        "print(sorted({'torch', 'scipy', 'pandas', 'matplotlib', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not sources.demo_folder().is_dir(), reason="the embedded films are not rendered yet")
def test_the_embedded_cases_are_complete() -> None:
    found = load_cases("demo")
    assert found.left_out == ()
    assert all(case.truth and case.patient_id and case.view for case in found)
    films = {case.image: case for case in found}
    assert len(films) >= 96
    for case in films.values():
        width, height = picture(case).size
        assert case.regions
        for name in case.regions:
            assert case.regions[name].shape == (height, width), (case.id, name)
            assert case.regions[name].any(), (case.id, name)
