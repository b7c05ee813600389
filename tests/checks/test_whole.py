"""Everything that is asked of one map, together: what a check finds, what it cannot make, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import medgemma_visualizer as mv
from medgemma_visualizer import verbs
from medgemma_visualizer.checks import whole
from medgemma_visualizer.checks.faithfulness import CONTROL_PERCENTS, SUBSETS
from medgemma_visualizer.checks.whole import check_map
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.explain import as_made, explain_reading, unavailable
from medgemma_visualizer.heatmaps.methods import METHODS, Method, RawMap
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.progress import listening
from medgemma_visualizer.records import Answer, Case
from tests.conftest import state_of
from tests.heatmaps.conftest import read_tiny, tiny_model

CASE = Case("tiny", "none.png", "w20?")
SAID = Answer("yes", "yes", None, None, None, (), True, "")


def planted_method(monkeypatch: pytest.MonkeyPatch, compute: Any, text_dependent: bool = True) -> str:
    entry = Method("Planted", "activation", "none", text_dependent, False, "none", compute)
    monkeypatch.setitem(METHODS._entries, "planted", entry)  # type: ignore[attr-defined]
    return "planted"


def checked(reading: Any, method: str, **how: Any) -> Any:
    target = how.pop("target", None)
    return check_map(reading, CASE, SAID, explain_reading(reading, method, target), target, **how)


def one_cell(row: int, col: int) -> Any:
    def compute(reading: Any, aim: Any) -> RawMap:
        grid = np.zeros(reading.model.grid)
        grid[row, col] = 1
        return RawMap(grid)

    return compute


@pytest.fixture
def wordless(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Tiny models have no chat to ask another question in: these checks only note what they are told."""
    told: dict[str, Any] = {}

    def refuse(name: str) -> Any:
        def ask(*_: Any, **options: Any) -> Any:
            told[name] = options
            raise UnavailableError("no other question")

        return ask

    for name in ("random_target", "quadrant_test"):
        monkeypatch.setattr(whole, name, refuse(name))
    return told


TOKENS = {"space": "tokens", "imputers": ("mean", "blur"), "sanity": False, "steps": 4}


def test_a_map_that_outlives_the_weights_is_not_to_be_trusted_and_the_model_comes_back_whole(
    monkeypatch: pytest.MonkeyPatch, wordless: dict[str, Any]
) -> None:
    reading = read_tiny(tiny_model(image=112, tokens=64))
    before = state_of(reading.model.hf)
    name = planted_method(monkeypatch, one_cell(2, 5), text_dependent=False)
    found = checked(reading, name, target="contrast", space="tokens", imputers=("mean", "blur"), steps=4)
    assert found.randomisation.verdict == "fail"
    assert found.trust.word == "do not trust"
    assert "all weights are random" in found.trust.reasons[0]
    assert state_of(reading.model.hf) == before


def test_what_is_known_of_a_map_is_kept_and_not_asked_again(monkeypatch: pytest.MonkeyPatch, wordless: Any) -> None:
    reading = read_tiny(tiny_model())
    told: dict[str, Any] = {"target": "contrast", "space": "tokens", "imputers": ("mean", "blur"), "steps": 4}
    first = checked(reading, "gradient_norm", sanity=False, **told)
    assert first.randomisation is None
    monkeypatch.setattr(whole, "faithfulness", lambda *_, **__: pytest.fail("asked twice"))
    both = checked(reading, "gradient_norm", faithful=False, known=first, **told)
    assert both.faithfulness is first.faithfulness
    assert both.randomisation is not None
    assert "dependence on the weights was not checked" in first.trust.reasons
    assert not any("was not checked" in reason for reason in both.trust.reasons)
    assert both.seconds > first.seconds


def test_faithfulness_may_be_left_out(wordless: Any) -> None:
    found = checked(read_tiny(tiny_model()), "gradient_norm", target="contrast", faithful=False)
    assert found.faithfulness is None
    assert found.randomisation is not None
    assert "faithfulness was not checked" in found.trust.reasons


def test_a_check_that_cannot_be_made_leaves_its_reason_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, wordless: dict[str, Any]
) -> None:
    def no_score(*_: Any, **__: Any) -> Any:
        raise UnavailableError("nothing that was hidden changes the score")

    def no_order(*_: Any, **__: Any) -> Any:
        raise InputError("no whole cells")

    monkeypatch.setattr(whole, "faithfulness", no_score)
    monkeypatch.setattr(whole, "token_order", no_order)
    found = checked(read_tiny(tiny_model()), "gradient_norm", target="contrast")
    assert found.faithfulness is found.token_order is found.quadrants is None
    assert found.randomisation.method == "gradient_norm"
    assert set(found.failures) == {"faithfulness", "token_order", "random_target", "quadrants"}
    assert "nothing that was hidden" in found.verdict
    assert "faithfulness could not be checked: nothing that was hidden changes the score" in found.trust.reasons
    assert "randomisation_spearman" in found.scores


def test_nothing_is_asked_of_a_map_that_is_not_there() -> None:
    reading = read_tiny(tiny_model())
    heatmap = unavailable(reading, "auto", resolve(reading, "contrast").target, {"gradcam_single": "zero"})
    heard: list[Any] = []
    with listening(lambda *step: heard.append(step)):
        found = check_map(reading, CASE, SAID, heatmap, "contrast")
    assert heard == []
    assert found.trust.word == "do not trust"
    assert found.scores == {}
    assert "not compared with random ones" in found.verdict


@pytest.mark.parametrize("wrong", [{"imputers": ("blur", "meen")}, {"space": "voxels"}, {"seeds": 0}])
def test_names_and_numbers_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        checked(
            read_tiny(tiny_model()), "gradient_norm", **{"target": "contrast", "space": "tokens", "steps": 4} | wrong
        )


def test_options_reach_the_method_in_every_check_and_auto_takes_those_of_the_method_it_chose(
    monkeypatch: pytest.MonkeyPatch, wordless: dict[str, Any]
) -> None:
    seen = set()

    def remember(reading: Any, aim: Any, *, layers: Any = None) -> RawMap:
        seen.add(layers)
        return METHODS["gradient_norm"].compute(reading, aim)

    reading = read_tiny(tiny_model())
    name = planted_method(monkeypatch, remember)
    heatmap = explain_reading(reading, name, "contrast", layers=1)
    how = {"space": "tokens", "steps": 4, "options": {"layers": 1}}
    found = check_map(reading, CASE, SAID, heatmap, "contrast", **how)
    assert seen == {1}
    assert found.randomisation is not None
    assert wordless == {"random_target": {"target": "contrast", "layers": 1}, "quadrant_test": {"layers": 1}}
    chosen = replace(heatmap, requested="auto")
    again = check_map(reading, CASE, SAID, chosen, "contrast", **how | {"options": {"layers": 1, "window": 3}})
    assert seen == {1}
    assert again.failures == found.failures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "independent"), [("activation_norm", True), ("relevance", False), ("cross_attention", False)]
)
def test_a_whole_check_of_an_embedded_case_measures_whether_the_label_about_the_text_is_true(
    demo: Any, cases: Any, method: str, independent: bool
) -> None:
    heard: dict[str, int] = {}
    with listening(lambda done, total, what: heard.update({what: total})):
        found = mv.check(demo, cases[0], method=method)
    assert found.random_target.text_independent is independent
    assert found.random_target.label_holds
    assert found.heatmap.text_independent is independent
    assert ("the map is the same for any question, so it explains no answer" in found.trust.reasons) == independent
    assert found.token_order.misses == {}
    assert set(heard) == {"altered pictures", "random models", "cells", "quadrants"}
    assert heard["altered pictures"] == found.faithfulness.n_scorings
    assert found.faithfulness.n_of_the_map <= 140


def test_the_public_verb_is_the_analysis_and_its_check(demo: Any, cases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUBSETS, "tokens", 0)  # type: ignore[arg-type]
    monkeypatch.setitem(CONTROL_PERCENTS, "tokens", (50,))  # type: ignore[arg-type]
    found = mv.check(demo, cases[0], method="cross_attention", options={"layers": [0]}, **TOKENS)
    alone = verbs.analyze(demo, cases[0], method="cross_attention", layers=[0])
    assert np.array_equal(found.heatmap.map, alone.heatmap.map)
    assert (found.case, found.answer) == (cases[0], alone.answer)
    assert found.faithfulness.space == "tokens"


def test_maps_that_are_only_compared_with_a_map_are_made_as_it_was(reading):
    made = explain_reading(reading, "integrated_gradients")
    assert as_made(made, {}) == {"steps": made.extras["steps"]}
    assert as_made(explain_reading(reading, "integrated_gradients", steps=3), {"steps": 3}) == {"steps": 3}
    assert as_made(explain_reading(reading, "relevance"), {}) == {}
