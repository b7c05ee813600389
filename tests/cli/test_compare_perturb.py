"""What `compare --perturb` writes and prints: every drift beside its noise floor, every flip with its strength."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from medgemma_visualizer import cli, verbs
from medgemma_visualizer.checks.perturbations import PERTURBATIONS, perturb
from medgemma_visualizer.checks.robustness import MEASURED
from medgemma_visualizer.cli import disturbed
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.scores.agreement import js_divergence
from tests.cli.conftest import QUESTION, Call, everything_in
from tests.cli.test_compare import KEYS, result
from tests.cli.test_unusable_input import assert_refused

SIMPLE = "Can you see any signs of fluid around the lungs in this X-ray?"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two strengths of every perturbation: what is asked costs little."""
    shorten(monkeypatch, 2)


def shorten(monkeypatch: pytest.MonkeyPatch, strengths: int) -> None:
    short = {name: replace(entry, ladder=entry.ladder[::3][:strengths]) for name, entry in PERTURBATIONS.items()}
    monkeypatch.setattr(PERTURBATIONS, "_entries", short)


@pytest.mark.usefixtures("answering", "short")
def test_without_prompts_the_film_is_only_disturbed(call: Call, demo: Any, cases: Any) -> None:
    done = call("compare", "--perturb", "brightness,shift_y", "--out", "o")
    assert (done.code, done.err) == (0, "")
    assert set(everything_in(Path("o"))) == {"result.json", "perturbations.png"}
    found = result(Path("o"))
    assert set(found) == KEYS - {"comparison"} | {"perturbations"}
    assert found["case"]["question"] == cases[0].question
    tried = found["perturbations"]["by"]
    assert {name: [level["strength"] for level in one["levels"]] for name, one in tried.items()} == {
        "brightness": [-40, 10],
        "shift_y": [-5, 5],
    }
    for word in ("Brightness", "-40 to 10", "grey levels", "Floor", "Flip at", "Noise", "Research use only"):
        assert word in done.out
    level = tried["brightness"]["levels"][0]
    darker = perturb(verbs.picture(cases[0]), "brightness", -40).image
    alone = [verbs.analyze(demo, case) for case in (cases[0], cases[0].showing(darker))]
    (trial,) = level["trials"]
    assert trial["answer"]["text"] == alone[1].answer.text
    assert trial["p_yes_drift"] == pytest.approx(abs(alone[1].answer.p_yes - alone[0].answer.p_yes), abs=1e-5)
    flipped = alone[0].answer.label != alone[1].answer.label
    assert (level["flips"], trial["flip"]) == (int(flipped), flipped)
    if not flipped:  # else the separate run explains its own, other answer
        expected = js_divergence(alone[0].heatmap.map, alone[1].heatmap.map)
        assert trial["js_divergence"] == pytest.approx(expected, abs=1e-5)
    assert level["noise_floor"] == {"p_yes_drift": 0, "js_divergence": 0}
    assert tried["shift_y"]["levels"][0]["noise_floor"]["js_divergence"] > 0  # moving a map over cells mixes them
    with Image.open("o/perturbations.png") as picture:
        assert np.asarray(picture).std() > 5


@pytest.mark.usefixtures("answering", "short")
def test_beside_a_comparison_the_first_prompt_is_asked_of_disturbed_films(call: Call) -> None:
    done = call(
        "compare", "--method", "relevance", "-p", SIMPLE, "-p", QUESTION, "--perturb", "blur", "--json", "--out", "o"
    )
    assert set(everything_in(Path("o"))) == {"result.json", "comparison.png", "perturbations.png"}
    found = json.loads(done.out)
    assert found == result(Path("o"))
    assert set(found) == KEYS | {"perturbations"}
    first = found["comparison"]["prompts"][0]
    assert first["question"] == SIMPLE
    assert found["perturbations"]["answer"] == {
        name: first["answer"][name] for name in found["perturbations"]["answer"]
    }
    assert found["perturbations"]["method"] == found["comparison"]["method"]
    again = call("compare", "--method", "relevance", "--out", "o")
    assert again.code == 0
    assert "perturbations.png" not in everything_in(Path("o"))  # nothing of an earlier run is left


@pytest.mark.usefixtures("answering", "short")
def test_a_film_of_ones_own_with_a_prompt_of_ones_own(call: Call, film: str) -> None:
    call("compare", film, "-p", "Is there an effusion?", "--perturb", "gaussian_noise", "--seed", "7")
    found = result(Path("output"))
    assert found["case"]["question"] == "Is there an effusion?"
    (noise,) = found["perturbations"]["by"].values()
    assert [one["seed"] for one in noise["levels"][0]["trials"]] == [7, 8, 9]


@pytest.mark.usefixtures("answering")
def test_every_perturbation_by_one_word(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, 1)
    done = call("compare", "--perturb", "all", "--method", "activation_norm")
    by = result(Path("output"))["perturbations"]["by"]
    assert list(by) == list(PERTURBATIONS)
    assert all(one["label"] in done.out for one in by.values())
    for one in by.values():
        flipping = [abs(level["strength"]) for level in one["levels"] if level["flips"]]
        assert one["smallest_flip"] is None if not flipping else abs(one["smallest_flip"]) == min(flipping)
        assert {*MEASURED} <= set(one["levels"][0]["scores"])


@pytest.mark.usefixtures("unloadable")
def test_what_cannot_be_disturbed_is_refused_before_a_model_is_loaded(call: Call, film: str) -> None:
    assert_refused(call("compare", "--perturb", "blurr"), "Did you mean 'blur'")
    assert_refused(call("compare", "--perturb", ""), "perturbation")
    assert_refused(call("compare", "--perturb", "blur", "--method", "auto"), "different methods")
    assert_refused(call("compare", "--perturb", "blur", "--other", film), "--other", "--prompt")
    assert_refused(call("compare", film, "--perturb", "blur"), "--question")


def test_a_map_that_may_change_its_method_is_not_compared(demo: Any, cases: Any) -> None:
    with pytest.raises(InputError, match="different methods"):
        verbs.disturb(verbs.analyze(demo, cases[0], method="auto"), ["blur"])


def test_a_mark_without_room_is_told_and_nothing_is_drawn(demo: Any, cases: Any) -> None:
    analysis = verbs.analyze(demo, cases[0], method="cross_attention")
    everywhere = np.ones((analysis.reading.image.height, analysis.reading.image.width), bool)
    found = verbs.disturb(analysis, ["marker"], strengths={"marker": (8,)}, seeds=(0,), avoid=everywhere)
    added = disturbed.further(found, "?")
    assert added.pictures == {}
    assert added.parts["perturbations"].document["by"] == {}
    assert "finds no place clear of the finding" in str(added.parts["perturbations"].rows[-1])


def test_the_help_names_every_perturbation() -> None:
    (option,) = [one for one in get_command(cli.app).commands["compare"].params if one.name == "perturb"]  # type: ignore[attr-defined]
    assert all(name in str(option.help) for name in PERTURBATIONS)
