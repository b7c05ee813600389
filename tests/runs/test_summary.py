"""What rows say together, against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.runs.folder import Manifest, begin, part_path
from medgemma_visualizer.runs.plan import RunPlan, digest_of
from medgemma_visualizer.runs.results import Part, failed_of, write_part
from medgemma_visualizer.runs.summary import calibration_of, summarise_run, versus

PLAN = RunPlan(("relevance",), prompts=2)


def row(case: str, **told: Any) -> dict[str, Any]:
    """A yes/no question, answered yes and right, with a map and half of it on the finding."""
    known = {"case_id": case, "patient_id": case, "finding": "effusion", "view": "PA", "kind": "yes/no", "truth": "yes"}
    known |= {"failed": False, "reason": "", "wording": 0, "strategy": "", "asked": "", "question": f"{case}?"}
    known |= {"answer": "yes", "label": "yes", "correct": True, "p_yes": 0.95, "p_yes_no_mass": 1.0, "stopped": True}
    known |= {"foreign": False, "method": "relevance", "available": True, "why": "", "notice": "", "split": ""}
    known |= {"value:roc_auc": 0.75, "chance:roc_auc": 0.5, "image_sha256": case}
    return known | told


def folder_of(path: Path, rows: Sequence[dict[str, Any]], *, cases: int | None = None, **about: Any) -> Path:
    """A run of one shard with these rows."""
    ids = list(dict.fromkeys(one["case_id"] for one in rows))
    asked = {"methods": ["relevance"], "prompts": 2, "checks": [], "imputers": ["blur"], "space": "pixels", "steps": 8}
    asked |= {"target": None, "seed": 0, "image_first": True} | about
    model = {"name": "made up", "revision": "r", "dtype": "float32", "device": "cpu"}
    fingerprint = {"model": model, "asked": asked, "versions": {"torch": "2"}, "code": "c", "cases": {"n": len(ids)}}
    manifest = Manifest(fingerprint, ((cases or len(ids), digest_of(ids)),), source="made up", command="run again")
    begin(path, manifest)
    part = Part(0, manifest.digest, digest_of(ids), len(ids), failed_of(rows))
    write_part(part_path(path, 0), rows, PLAN, part)
    return path


def test_accuracy_counts_answers_that_can_be_judged_and_every_part_of_them(tmp_path: Path) -> None:
    rows = [
        row("a"),
        row("b", label="no", correct=False, view="AP"),
        row("c", finding="cardiomegaly", truth="no", label="no"),
        row("d", kind="open", truth="left lower lobe", correct=None, label="uncertain"),
        row("e", failed=True, reason="gone", label=None, correct=None, method=""),
        row("f", label="uncertain", correct=False, finding=""),
    ]
    found = summarise_run(folder_of(tmp_path, rows))
    assert found.accuracy is not None
    assert (found.accuracy.count, found.accuracy.n) == (2, 4)
    # Wilson's interval of 2 of 4, from its formula with z = 1.96.
    assert found.accuracy.interval == pytest.approx((0.1500, 0.8500), abs=1e-4)
    assert {name: (one.count, one.n) for name, one in found.parts["view"].items()} == {"AP": (0, 1), "PA": (2, 3)}
    assert {name: one.n for name, one in found.parts["finding"].items()} == {"cardiomegaly": 1, "effusion": 2}
    assert "kind" not in found.parts  # only yes/no questions can be judged here: one part says nothing new
    assert found.uncertain is not None
    assert (found.uncertain.count, found.uncertain.n) == (1, 4)
    assert (found.unjudged, found.failed, found.patients) == (1, {"gone": 1}, 5)


def test_questions_about_one_film_are_of_one_patient_where_none_is_named(tmp_path: Path) -> None:
    rows = [row("a", image_sha256="film"), row("b", image_sha256="film"), row("c", patient_id="p"), row("d")]
    found = summarise_run(folder_of(tmp_path, rows))
    assert (found.patients, found.unnamed) == (3, 3)
    assert found.methods[0].numbers["roc_auc"].value.clusters == 3


def test_a_case_under_two_methods_is_one_answer(tmp_path: Path) -> None:
    rows = [row("a"), row("a", method="other"), row("b", correct=False)]
    found = summarise_run(folder_of(tmp_path, rows))
    assert found.accuracy is not None
    assert (found.accuracy.count, found.accuracy.n) == (1, 2)


def calibrated(*questions: tuple[float, str, float]) -> Any:
    """Of (p_yes, truth, mass)."""
    p, truth, mass = zip(*questions, strict=True)
    n = len(p)
    columns = {"kind": np.array(["yes/no"] * n, object), "correct": np.ones(n), "p_yes": np.array(p)}
    columns |= {"p_yes_no_mass": np.array(mass), "truth": np.array(truth, object)}
    return calibration_of(columns | {"patient_id": np.arange(n).astype(str).astype(object)})


def test_calibration_is_the_weighted_gap_of_the_bins() -> None:
    # Bin 0.9-1.0: mean 0.95, half are yes: gap 0.45 for 2 of 3. Bin 0.1-0.2: 0.15, none is yes: gap 0.15 for 1 of 3.
    found = calibrated((0.95, "yes", 1), (0.95, "No", 1), (0.15, "no", 1), (0.5, "yes", 0.4))
    assert found.ece == pytest.approx((2 * 0.45 + 0.15) / 3)
    assert found.brier.value == pytest.approx((0.05**2 + 0.95**2 + 0.15**2) / 3)
    assert (found.n, found.left_out) == (3, 1)
    assert [one.yes.n if one.yes else 0 for one in found.bins] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_a_model_that_is_sure_and_right_is_calibrated_and_one_that_says_neither_is_not_judged() -> None:
    found = calibrated((1.0, "yes", 1), (0.0, "no", 1))
    assert (found.ece, found.brier.value) == (0, 0)
    assert calibrated((0.9, "yes", 0.1)) is None


def test_a_method_has_its_mean_its_chance_and_its_gain_over_each_cases_own_chance(tmp_path: Path) -> None:
    rows = [
        row("a", **{"value:border_fraction": 0.1, "chance:border_fraction": 0.3}),
        row("b", **{"value:roc_auc": 0.25, "value:border_fraction": 0.2, "chance:border_fraction": 0.3}),
        row("c", available=False, why="nothing to see", **{"value:roc_auc": None, "chance:roc_auc": None}),
    ]
    (line,) = summarise_run(folder_of(tmp_path, rows)).methods
    assert (line.maps, line.n, line.why) == (2, 3, {"nothing to see": 1})
    auc, border = line.numbers["roc_auc"], line.numbers["border_fraction"]
    assert (auc.value.value, auc.chance, auc.value.n) == (0.5, 0.5, 2)
    assert auc.gain is not None
    assert auc.gain.value == 0
    assert border.gain is not None
    assert border.gain.value == pytest.approx(0.15)  # lower is better, so less than chance is a gain
    assert set(line.numbers) == {"roc_auc", "border_fraction"}


def test_wordings_are_held_against_the_question_they_are_of(tmp_path: Path) -> None:
    rows = [
        row("a"),
        row("a", wording=1, strategy="synonym", **{"value:js_divergence": 0.1}),
        row("a", wording=2, strategy="voice", label="no", **{"value:js_divergence": 0.3}),
        row("b", label="no"),
        row("b", wording=1, strategy="synonym", label="no"),
        row("c"),
    ]
    found = summarise_run(folder_of(tmp_path, rows)).wordings
    assert found is not None
    assert (found.questions, found.without) == (2, 1)
    assert found.consistency.value == pytest.approx((2 / 3 + 1) / 2)
    assert (found.flips.count, found.flips.n) == (1, 3)
    assert found.divergence is not None
    assert found.divergence.value == pytest.approx(0.2)
    assert {name: (one.count, one.n) for name, one in found.by_strategy.items()} == {"synonym": (0, 2), "voice": (1, 1)}


def test_a_run_in_which_everything_failed_has_reasons_and_no_numbers(tmp_path: Path) -> None:
    rows = [row(case, failed=True, reason="gone", label=None, correct=None, method="") for case in "ab"]
    found = summarise_run(folder_of(tmp_path, rows))
    assert (found.accuracy, found.calibration, found.wordings, found.failed) == (None, None, None, {"gone": 2})


def test_two_runs_are_compared_on_the_cases_of_both(tmp_path: Path) -> None:
    first = folder_of(tmp_path / "one", [row("a"), row("b"), row("c", correct=False, label="no")])
    rows = [row("b", correct=False, label="no", **{"value:roc_auc": 0.5}), row("a"), row("d")]
    second = folder_of(tmp_path / "two", rows, seed=9)
    found = versus(first, second)
    assert (found.n, found.only, found.alike) == (2, (1, 1), True)
    assert (found.agree.count, found.agree.n) == (1, 2)
    assert found.accuracy is not None
    assert (found.accuracy.first, found.accuracy.second, found.accuracy.difference.value) == (1.0, 0.5, 0.5)
    assert found.methods["relevance"]["roc_auc"].difference.value == pytest.approx(0.125)
    assert "asked.seed: 0 → 9" in found.differs
    again = versus(second, first)
    assert again.accuracy is not None
    assert again.accuracy.difference.value == -0.5


def test_other_pictures_under_the_same_names_are_told_and_strangers_are_refused(tmp_path: Path) -> None:
    first = folder_of(tmp_path / "one", [row("a"), row("b")])
    second = folder_of(tmp_path / "two", [row("a", image_sha256="another"), row("b")])
    assert not versus(first, second).alike
    with pytest.raises(InputError, match="no answered case in common"):
        versus(first, folder_of(tmp_path / "three", [row("x")]))
