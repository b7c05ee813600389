"""What the commands make of a DICOM file: its film, its facts, and whether another rendering changes the result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.cli import inputs
from medgemma_visualizer.data import grayscale, picture
from medgemma_visualizer.data.dicom import BURNT_IN, FOR_PROCESSING
from tests.cli.conftest import QUESTION, Call
from tests.radiographs import radiograph, saved

pytestmark = pytest.mark.usefixtures("answering")

NAME = "DOE_JOHN"
#: Shows 8-bit values as they are.
PLAIN = {"bits": 8, "WindowCenter": 128, "WindowWidth": 256}


@pytest.fixture(scope="module")
def pixels(cases: Any) -> np.ndarray:
    """The first embedded film."""
    return grayscale(picture(cases[0]))


def asked(call: Call, path: Path, *words: str) -> dict[str, Any]:
    done = call("analyze", str(path), "-q", QUESTION, "--method", "relevance", "--target", "contrast", "--json", *words)
    assert (done.code, done.err) == (0, "")
    document: dict[str, Any] = json.loads(done.out)
    return document


def test_each_rendering_is_told_beside_the_other(call: Call, tmp_path: Path, pixels: Any, cases: Any) -> None:
    path = saved(radiograph(pixels, **PLAIN), tmp_path / f"{NAME}.dcm")
    viewer, jpg = asked(call, path), asked(call, path, "--rendering", "mimic-jpg")
    assert NAME not in json.dumps([viewer, jpg])
    assert (viewer["case"]["rendering"], jpg["case"]["rendering"]) == ("dicom-voi", "mimic-jpg")
    shown = hashlib.sha256(np.asarray(picture(cases[0])).tobytes()).hexdigest()  # the window leaves it as it is
    assert viewer["case"]["image_sha256"] == shown[:16] != jpg["case"]["image_sha256"]
    assert viewer["film"] == {
        "rendering": "dicom-voi",
        "voi": "window 1 of 1 (LINEAR)",
        "voi_choices": ["window 1 of 1 (LINEAR)"],
        "view": "PA",
        "spacing_mm": {"rows": 0.139, "columns": 0.139, "tag": "ImagerPixelSpacing", "plane": "detector"},
        "presentation_intent": "FOR PRESENTATION",
        "burnt_in_annotation": None,
        "notices": [],
    }
    ours, theirs = (found["renderings"]["against"] for found in (viewer, jpg))
    for name in ("p_yes_drift", "spearman", "js_divergence"):  # all are symmetric
        assert ours["mimic-jpg"][name]["value"] == pytest.approx(theirs["dicom-voi"][name]["value"], abs=1e-4)
    assert 0 < ours["mimic-jpg"]["js_divergence"]["value"] < np.log(2)
    for name, found in (("dicom-voi", viewer), ("mimic-jpg", jpg)):
        for result in (viewer, jpg):
            said = result["renderings"]["answers"][name]
            assert said["p_yes"] == pytest.approx(found["answer"]["p_yes"], abs=1e-5)
    flipped = viewer["answer"]["label"] != jpg["answer"]["label"]
    assert ours["mimic-jpg"]["flip"] is theirs["dicom-voi"]["flip"] is flipped


def test_people_are_told_of_film_rendering_and_burnt_in_names(call: Call, tmp_path: Path, pixels: Any) -> None:
    odd = {"PresentationIntentType": "FOR PROCESSING", "BurnedInAnnotation": "YES", "WindowWidth": 0}
    path = saved(radiograph(pixels, **(PLAIN | odd)), tmp_path / "film.dcm")
    done = call("analyze", str(path), "-q", QUESTION, "--method", "relevance", "--rendering", "mimic-jpg")
    assert (done.code, done.err) == (0, "")
    assert "DICOM as mimic-jpg; VOI: not used; view PA; 0.139 × 0.139 mm a pixel" in done.out
    assert f"{FOR_PROCESSING} {BURNT_IN}" in done.out
    assert "Rendering no dicom-voi: has a window whose width" in done.out
    failed = json.loads((tmp_path / "output/result.json").read_text("utf-8"))["renderings"]["failed"]
    assert list(failed) == ["dicom-voi"]
    assert "film.dcm" not in failed["dicom-voi"]


def test_windows_are_offered_and_the_chosen_one_is_asked_about(call: Call, tmp_path: Path, pixels: Any) -> None:
    several = {
        "WindowCenter": [128, 100],
        "WindowWidth": [256, 120],
        "WindowCenterWidthExplanation": ["NORMAL", "HARD"],
    }
    path = saved(radiograph(pixels, **(PLAIN | several)), tmp_path / "film.dcm")
    words = ("-q", QUESTION, "--method", "relevance")
    done = call("analyze", str(path), *words)
    assert "--rendering dicom-voi:1 is window 1 of 2 (LINEAR, NORMAL); dicom-voi:2 is" in " ".join(done.out.split())
    found = asked(call, path, "--rendering", "dicom-voi:2")
    assert found["film"]["voi"] == "window 2 of 2 (LINEAR, HARD)"
    assert found["case"]["rendering"] == "dicom-voi:2"
    assert set(found["renderings"]["against"]) == {"dicom-voi", "mimic-jpg"}
    refused = call("analyze", str(path), *words, "--rendering", "dicom-voi:3")
    assert (refused.code, refused.out) == (2, "")
    assert "2: window 2 of 2 (LINEAR, HARD)" in " ".join(refused.err.split())


def test_compare_reads_the_same_film(call: Call, tmp_path: Path, pixels: Any) -> None:
    path = saved(radiograph(pixels, **PLAIN), tmp_path / "film.dcm")
    words = ("-q", QUESTION, "--method", "relevance", "--rendering", "mimic-jpg", "--json")
    done = call("compare", str(path), *words)
    assert (done.code, done.err) == (0, "")
    assert NAME not in done.out


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize("command", ["analyze", "check", "compare"])
def test_what_cannot_be_shown_is_refused_before_a_model_is_loaded(call: Call, tmp_path: Path, command: str) -> None:
    side = saved(radiograph(np.arange(64).reshape(8, 8), 8, ViewPosition="LL"), tmp_path / "side.dcm")
    done = call(command, str(side), "-q", QUESTION)
    assert (done.code, done.out) == (2, "")
    assert "lateral view" in done.err
    done = call(command, str(side), "-q", QUESTION, "--rendering", "mimic")
    assert done.code == 2
    assert "Unknown rendering 'mimic'. Did you mean 'mimic-jpg'?" in done.err
    done = call(command, "--rendering", "mimic-jpg")
    assert done.code == 2
    assert "for DICOM files" in done.err


def test_a_lateral_film_is_taken_when_asked_for(tmp_path: Path) -> None:
    path = saved(radiograph(np.arange(64).reshape(8, 8), 8, ViewPosition="LL"), tmp_path / "side.dcm")
    case = inputs.case_of(path, QUESTION, None, None, None, allow_lateral=True)
    assert (case.view, case.rendering) == ("LL", "dicom-voi")
    assert picture(case).size == (8, 8)
