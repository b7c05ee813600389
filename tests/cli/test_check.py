"""What `check` writes and prints: a table in words, the verdict, and never a good word for what chance reaches."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgemma_visualizer import verbs
from medgemma_visualizer.checks.controls import Comparison
from medgemma_visualizer.checks.faithfulness import CONTROL_PERCENTS, SUBSETS, measure
from medgemma_visualizer.checks.token_order import QuadrantTest
from medgemma_visualizer.checks.trust import Trust
from medgemma_visualizer.checks.whole import Check
from medgemma_visualizer.cli import checked
from medgemma_visualizer.records import Heatmap, Score, Scores, Target
from medgemma_visualizer.scores.verdict import NO_BETTER
from tests.checks.toys import Toy, planted
from tests.cli.conftest import QUESTION, Call, everything_in

pytestmark = pytest.mark.usefixtures("answering", "few_scorings")

FILES = {"result.json", "heatmap.npz", "overlay.png", "scores.png", "curves.png", "sanity.png"}
#: In token space, with two cheap imputers: what is tested here does not depend on the space.
QUICK = ("--space", "tokens", "--imputers", "mean,blur")
GRID = (8, 8)
CAUSE = [18, 19, 26, 27]


@pytest.fixture(scope="module")
def few_scorings() -> Iterator[None]:
    """Controls at one share and no random sets: how many there are is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONTROL_PERCENTS, "tokens", (50,))  # type: ignore[arg-type]
        patch.setitem(SUBSETS, "tokens", 0)  # type: ignore[arg-type]
        yield


@pytest.fixture(scope="module")
def whole(demo: Any, few_scorings: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One whole check by the command, for all who read it."""
    from medgemma_visualizer.cli import main

    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verbs, "load_model", lambda *_, **__: demo)
        with pytest.raises(SystemExit) as done:
            main(["check", "--out", str(folder), *QUICK])
    assert done.value.code == 0
    return folder, json.loads((folder / "result.json").read_text("utf-8"))


def test_a_check_writes_the_files_of_an_analysis_and_its_own_pictures(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, document = whole
    assert {file.name for file in folder.iterdir()} == FILES
    for name in ("curves.png", "sanity.png"):
        with Image.open(folder / name) as picture:
            picture.load()
            assert min(picture.size) > 300
    keys = {"case", "answer", "heatmap", "scores", "model", "versions", "seconds", "trust"}
    assert set(document) == keys | {"check"}
    assert set(document["trust"]) == {"word", "reasons"}
    assert Heatmap.load(folder / "heatmap.npz").method == document["heatmap"]["method"]


def test_the_result_holds_every_number_with_its_controls_and_the_curves_behind_it(
    whole: tuple[Path, dict[str, Any]],
) -> None:
    check = whole[1]["check"]
    assert check["failures"] == {}
    assert check["token_order"]["found"] == check["token_order"]["cells"] == 256
    assert check["randomisation"]["blocks"] == ["text.0", "projector", "vision.embeddings"]
    assert np.shape(check["randomisation"]["similarities"]) == (5, 3, 3)
    assert check["random_target"]["text_independent"] is False
    faithful = check["faithfulness"]
    assert faithful["n_of_the_map"] < faithful["n_scorings"]
    for imputer in ("mean", "blur"):
        curve = faithful["curves"][imputer]["map"]
        told = check["scores"][f"insertion_auc:{imputer}"]
        steps = np.interp(np.arange(17) / 16, curve["shares"], curve["alone"])
        assert told["value"] == pytest.approx(np.trapezoid(steps, np.arange(17) / 16), abs=1e-2)
        assert set(told["controls"]) == {"random", "centre", "inverse"}
        low, high = told["against_random"]["interval"]
        assert low <= told["against_random"]["difference"] <= high
        assert curve["without"][-1] == faithful["prior"][imputer]


def test_every_status_is_in_words_and_none_is_good_where_random_maps_do_as_well(
    whole: tuple[Path, dict[str, Any]],
) -> None:
    scores = whole[1]["check"]["scores"]
    for key, told in scores.items():
        against = told.get("against_random")
        if against is not None and against["standing"] != "better":
            assert re.match("no better than random|worse than random|says nothing", told["status"]), key
        if told["value"] is None:
            assert told["status"], key


def test_people_read_the_table_the_verdict_and_whether_to_trust(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    done = call("check", "--no-sanity", "--out", "results", *QUICK)
    assert (done.code, done.err) == (0, "")
    assert re.search(r"Metric +Value +Target +Chance +Status", done.out)
    for row in (r"deletion_auc_spec, mean +[\d.-]+ +≥ 0.5, above ", r"insertion_auc, blur +[\d.-]+ +above random "):
        assert re.search(row, done.out), row
    assert re.search(r"Verdict +This map is .*95 % interval", done.out)
    assert re.search(r"Trust +(with care|do not trust): ", done.out)
    assert "dependence on the weights was not checked" in done.out
    assert re.search(r"\d+ altered pictures in tokens, none twice: \d+ of the map's own", done.out)
    assert {path.name for path in (tmp_path / "results").iterdir()} == FILES - {"sanity.png"}


def test_json_is_the_file_and_nothing_else(call: Call, tmp_path: Path) -> None:
    done = call("check", "--json", "--no-sanity", "--out", "results", *QUICK)
    assert (done.err, done.out.count("\n")) == ("", 1)
    assert json.loads(done.out) == json.loads((tmp_path / "results/result.json").read_text("utf-8"))


def test_an_analysis_in_the_same_folder_leaves_no_curves_of_an_earlier_check(call: Call, tmp_path: Path) -> None:
    call("check", "--no-sanity", "--out", "results", *QUICK)
    call("analyze", "--out", "results")
    assert "curves.png" not in everything_in(tmp_path / "results")
    assert "check" not in json.loads((tmp_path / "results/result.json").read_text("utf-8"))


def test_a_film_that_the_embedded_model_cannot_know_is_not_to_be_trusted(call: Call, film: str, tmp_path: Path) -> None:
    Image.open(film).convert("L").rotate(5).save(tmp_path / "own.png")
    done = call("check", "own.png", "-q", QUESTION, "--no-sanity", "--out", "results", *QUICK)
    assert "Trust     do not trust: the embedded model knows simulated films only" in done.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--imputers", "blur"), "is one imputer, and two must agree"),
        (("--imputers", "mean,mean"), "is one imputer, and two must agree"),
        (("--imputers", "blur,meen"), "Unknown imputer 'meen'. Did you mean 'mean'?"),
        (("--space", "pixel"), "Unknown space 'pixel'. Did you mean 'pixels'?"),
        (("--no-sanity", "--full-sanity"), "exclude each other"),
        (("--method", "gradcm"), "Unknown method"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_weights_are_loaded(
    words: tuple[str, ...], told: str, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verbs, "load_model", lambda *_, **__: pytest.fail("A model was loaded."))
    done = call("check", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert everything_in(tmp_path) == {}


# What the table says, by hand.


def toy_check(values: np.ndarray, **changes: Any) -> Check:
    faithful = measure(Toy(planted(CAUSE)), values)
    heatmap = Heatmap(values.astype(np.float32), "planted", "planted", Target("contrast", "yes", (3,)))
    empty = dict.fromkeys(("case", "answer", "randomisation", "random_target", "token_order", "quadrants"))
    told = {**empty, "faithfulness": faithful, "failures": {}, "trust": Trust("with care", ("it is",)), "seconds": 1.0}
    return Check(heatmap=heatmap, **{**told, **changes})


def cause() -> np.ndarray:
    grid = np.zeros(GRID)
    grid.flat[CAUSE] = 1
    return grid


def test_planted_evidence_is_better_than_random_its_opposite_worse_and_noise_neither() -> None:
    right = toy_check(cause())
    assert checked.status(right, "comprehensiveness_spec:blur") == "better than random, good"
    assert checked.status(right, "srg:mean") == "better than random"
    assert right.verdict.startswith("This map is better than random by ")
    assert checked.status(toy_check(-cause()), "srg:blur") == "worse than random"
    noise = toy_check(np.random.default_rng(2).random(GRID))
    assert checked.status(noise, "insertion_auc_spec:blur").startswith("no better than random (")
    assert noise.scores["insertion_auc_spec:blur"].value > noise.scores["insertion_auc_spec:blur"].threshold


def test_a_constant_map_and_a_mute_imputer_get_no_good_word() -> None:
    assert checked.status(toy_check(np.ones(GRID)), "srg:blur").startswith("no better than random")
    mute = Comparison("srg", "blur", "higher", 0.3, (0.2, 0.4), mute="blur changes f by less than 0.01")
    score = Score("srg", 0.3, "higher", 0.0, NO_BETTER)
    faithful = SimpleNamespace(comparisons={"srg:blur": mute}, scores=Scores({"srg:blur": score}))
    found = toy_check(cause(), faithfulness=faithful)
    assert checked.status(found, "srg:blur") == "says nothing: blur changes next to nothing"


def test_the_quadrant_test_is_reported_and_neither_passed_nor_failed() -> None:
    quadrants = QuadrantTest("planted", {"upper left": 0.2, "upper right": 0.9}, {})
    said = checked.status(toy_check(cause(), quadrants=quadrants), "quadrant_test")
    assert said == "not more than half in all four; upper left 0.20, upper right 0.90"


def test_a_target_is_the_rule_that_decides_the_status() -> None:
    right, noise = toy_check(cause()), toy_check(np.random.default_rng(2).random(GRID))
    assert checked.rule(right, "srg:blur") == "above random maps (95 %)"
    assert checked.rule(noise, "insertion_auc_spec:blur") == "≥ 0.3, above random maps (95 %)"
    assert checked.rule(right, "prior:blur") == ""
    quadrants = QuadrantTest("planted", {"upper left": 0.2, "upper right": 0.9}, {})
    assert checked.rule(toy_check(cause(), quadrants=quadrants), "quadrant_test") == "> 0.5 in all four (not required)"


def test_a_smooth_map_that_passes_over_the_mark_has_the_second_way_to_pass_beside_it() -> None:
    name, reason = "randomisation_spearman", "spearman; p = 0.21 against shifted maps"
    over = Score(name, 0.247, "lower", 0.2, "good", 0.1, 5, reason=reason)
    found = toy_check(cause(), randomisation=SimpleNamespace(scores=Scores({name: over})))
    (row,) = [row for row in checked.rows(found) if row[0] == name]
    assert row == (name, "0.247", "≤ 0.1, or no more than shifted maps (p ≥ 0.05)", "0.200", f"passed; {reason}")


@pytest.mark.parametrize("name", ["random_target_opposite", "random_target_other"])
def test_a_map_for_another_target_must_not_be_the_same(name: str) -> None:
    for verdict, said in (("poor", "failed; blind"), ("", "another map")):
        score = Score(name, 0.5, "lower", verdict=verdict, reason="blind" if verdict else "")
        found = toy_check(cause(), random_target=SimpleNamespace(scores=Scores({name: score})))
        assert (checked.rule(found, name), checked.status(found, name)) == ("not the same map", said)


def test_targets_are_thresholds_and_the_side_of_chance() -> None:
    assert checked.target_of(Score("x", 1.0, "higher", 0.1, threshold=0.5)) == "≥ 0.5, above chance"
    assert checked.target_of(Score("x", 1.0, "lower", threshold=0.1)) == "≤ 0.1"
    assert checked.target_of(Score("x", 1.0, "lower", 0.1)) == "below chance"
    assert checked.target_of(Score("x", 1.0, "higher")) == ""
    assert checked.target_of(Score("prior", 1.0)) == ""


def test_numbers_that_are_none_become_null() -> None:
    assert checked.plain(np.array([[1.0, np.nan], [np.inf, 2.0]])) == [[1.0, None], [None, 2.0]]
