"""What `compare` writes and prints: every divergence beside its context, and no soft word for a map that moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import jensenshannon

import medgemma_visualizer as mv
from medgemma_visualizer import verbs
from medgemma_visualizer.errors import InputError
from tests.cli.conftest import Call, everything_in
from tests.cli.test_unusable_input import assert_refused

pytestmark = pytest.mark.usefixtures("answering")

TECHNICAL = "Radiological assessment: Is there evidence of pleural effusion in this chest radiograph?"
SIMPLE = "Can you see any signs of fluid around the lungs in this X-ray?"
#: A map of one pass, where any will do.
QUICK = ("--method", "relevance")
KEYS = {"case", "answer", "heatmap", "scores", "model", "versions", "seconds", "trust", "comparison"}


def result(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    return document


def test_an_embedded_case_is_asked_in_the_technical_and_the_simple_form(call: Call) -> None:
    done = call("compare", "--out", "o")
    assert (done.code, done.err) == (0, "")
    assert set(everything_in(Path("o"))) == {"result.json", "comparison.png"}
    found = result(Path("o"))
    assert set(found) == KEYS
    prompts = found["comparison"]["prompts"]
    assert [one["question"] for one in prompts] == [TECHNICAL, SIMPLE]
    assert [one["label"] for one in prompts] == ["technical", "simple"]
    assert found["case"]["question"] == TECHNICAL
    assert found["case"]["truth"] is None  # known of the stored question only
    assert found["answer"]["text"] == prompts[0]["answer"]["text"]
    with Image.open("o/comparison.png") as picture:
        assert picture.width > 2 * picture.height  # three panels in a row
    for word in ("technical", "simple", "JS to 1", "Stability", "Spearman", "SSIM", "Research use only"):
        assert word in done.out


def test_the_numbers_of_the_result_follow_from_its_own_maps(call: Call) -> None:
    call("compare", "--out", "o", "--variations", "2", "--strategy", "opposite")
    comparison = result(Path("o"))["comparison"]
    grids = [np.array(one["heatmap"]["grid"]).ravel() for one in comparison["prompts"]]
    js = comparison["agreement"]["js_divergence"]
    for one in range(3):
        for two in range(3):
            expected = jensenshannon(grids[one].astype(float), grids[two].astype(float)) ** 2
            assert js[one][two] == pytest.approx(expected, abs=1e-9)
    labels = [one["answer"]["label"] for one in comparison["prompts"]]
    assert [one["flip"] for one in comparison["prompts"]] == [label != labels[0] for label in labels]
    assert [one["expected"] for one in comparison["prompts"]] == ["same", "flipped", "flipped"]
    assert comparison["consistency"]["value"] is None  # one prompt cannot disagree; opposites do not count
    assert comparison["context"]["same_prompt_twice"]["value"] == 0
    assert comparison["context"]["other_picture"]["n"] == 3


def test_a_map_as_far_as_another_findings_is_called_moved(call: Call) -> None:
    other = TECHNICAL.replace("pleural effusion", "pneumothorax")
    done = call("compare", *QUICK, "-p", TECHNICAL, "-p", other)
    comparison = result(Path("output"))["comparison"]
    assert comparison["agreement"]["js_divergence"][0][1] == comparison["context"]["other_finding"]["value"]
    assert "as far from the first as the same picture, another finding: prompt 2" in done.out
    assert "Moved" not in call("compare", *QUICK).out


def test_prompts_of_ones_own_about_a_picture_of_ones_own(call: Call, film: str) -> None:
    done = call("compare", film, *QUICK, "-p", "Is there an effusion?", "-p", "Do you see fluid?", "--json")
    found = json.loads(done.out)["comparison"]
    assert [one["question"] for one in found["prompts"]] == ["Is there an effusion?", "Do you see fluid?"]
    assert found["context"]["other_picture"]["value"] is None
    again = call("compare", film, *QUICK, "-q", "Is there an effusion?", "-p", "Do you see fluid?")
    assert "no JS for the same prompt, other pictures: nothing was given to compare with; add --other" in again.out
    beside = call("compare", film, *QUICK, "-q", "Is there an effusion?", "-p", "Fluid?", "--other", film, "--json")
    assert json.loads(beside.out)["comparison"]["context"]["other_picture"]["value"] == pytest.approx(0, abs=1e-6)


def test_of_a_foreign_film_the_embedded_model_is_not_to_be_trusted(call: Call, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "noise.png")
    done = call("compare", "noise.png", "-p", "Is there an effusion?", "-p", "Is there fluid in the chest?")
    assert "means nothing clinically" in done.out
    assert "do not trust" in done.out


def test_the_same_prompt_twice_differs_in_nothing(call: Call) -> None:
    call("compare", "-p", SIMPLE, "-p", SIMPLE)
    second = result(Path("output"))["comparison"]["prompts"][1]
    assert second["to_first"]["js_divergence"]["value"] == 0
    assert second["flip"] is False


@pytest.mark.usefixtures("unloadable")
def test_what_cannot_be_compared_is_refused_before_a_model_is_loaded(call: Call, film: str) -> None:
    assert_refused(call("compare", film), "--question")
    assert_refused(call("compare", film, "-p", "One?"), "1 prompts", "--variations")
    assert_refused(call("compare", "--strategy", "synonym"), "--variations")
    assert_refused(call("compare", "--variations", "2", "--strategy", "synonims"), "Did you mean 'synonym'")
    assert_refused(call("compare", "-q", "What do you see?"), "names no finding")
    assert_refused(call("compare", "--prompts", "absent.txt"), "cannot be read", "one prompt a line")
    assert_refused(call("compare", "-p", " ", "-p", "a?"), "empty")
    assert_refused(call("compare", "--other", "absent.png"), "absent.png")


def test_python_gives_what_the_command_gives(demo: Any, cases: Any) -> None:
    found = mv.compare(demo, cases[0])
    assert [one.label for one in found.prompts] == ["technical", "simple"]
    assert found.prompts[0].scores["normalized_entropy"].value is not None
    alone = verbs.analyze(demo, cases[0].asking(TECHNICAL))
    assert found.prompts[0].answer.text == alone.answer.text
    assert found.prompts[0].answer.contrast == pytest.approx(alone.answer.contrast, abs=1e-4)
    np.testing.assert_allclose(found.prompts[0].heatmap.map, alone.heatmap.map, atol=1e-5 * alone.heatmap.map.max())
    assert verbs.analysis_of(found, cases[0]).case.truth is None
    with pytest.raises(InputError, match="different methods"):
        mv.compare(demo, cases[0], method="auto")


def test_an_answer_that_is_an_option_is_known_and_so_is_a_yes(demo: Any, cases: Any) -> None:
    sided = next(case for case in cases if case.options and "yes" not in case.options)
    found = mv.compare(demo, sided, [sided.question, "Is there a pleural effusion?"], context=False)
    assert found.labels[0] in sided.options
    assert found.labels[1] in ("yes", "no")
    assert found.context == {}
