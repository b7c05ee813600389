"""A map that is the same whatever is asked explains no answer; labels that say so are measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.checks.random_target import random_target
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.explain import explain_reading
from medgemma_visualizer.heatmaps.methods import METHODS, RawMap
from medgemma_visualizer.models.reading import read


def relabelled(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> str:
    monkeypatch.setitem(METHODS._entries, "planted", replace(METHODS[name], **changes))  # type: ignore[attr-defined]
    return "planted"


def test_a_signed_gradient_turns_round_with_the_answer_and_changes_with_the_question(reading):
    found = random_target(reading, "token_gradient")
    assert found.opposite[:2] == pytest.approx((-1, 1))
    assert found.other[0] < 0.95
    assert (found.target_blind, found.text_independent, found.label_holds) == (False, False, True)
    assert found.scores["text_dependence"].value == "text-dependent"


def test_activation_norm_is_blind_to_answer_and_question_and_says_so(reading):
    found = random_target(reading, "activation_norm")
    assert found.opposite == found.other == pytest.approx((1, 1, 1))
    assert (found.target_blind, found.text_independent, found.label_holds) == (True, True, True)
    assert "target-blind" in found.scores["random_target_opposite"].reason
    assert found.scores["random_target_opposite"].verdict == "poor"
    assert found.scores["text_dependence"].verdict == "good"


def test_attention_knows_the_question_but_not_which_answer_is_explained(reading):
    found = random_target(reading, "cross_attention")
    assert (found.target_blind, found.text_independent) == (True, False)


@pytest.mark.parametrize(
    ("method", "truth"), [("activation_norm", "text-independent"), ("gradient_norm", "text-dependent")]
)
def test_a_false_label_is_found_out(reading, monkeypatch, method, truth):
    name = relabelled(monkeypatch, method, text_dependent=not METHODS[method].text_dependent)
    found = random_target(reading, name)
    assert found.label_holds is False
    score = found.scores["text_dependence"]
    assert (score.value, score.verdict) == (truth, "poor")
    assert "declares itself" in score.reason


def test_the_other_question_is_read_as_if_it_had_been_asked_alone(reading, monkeypatch):
    asked = {}

    def remember(given: Any, aim: Any) -> RawMap:
        asked[given.prompt.text[slice(*given.prompt.question)]] = given
        return METHODS["gradient_norm"].compute(given, aim)

    found = random_target(reading, relabelled(monkeypatch, "gradient_norm", compute=remember))
    other = asked[found.other_question]
    alone = read(reading.model, reading.image, found.other_question, options=reading.options)
    assert other.prompt == alone.prompt
    assert np.array_equal(explain_reading(other, "gradient_norm").map, explain_reading(alone, "gradient_norm").map)
    assert other.answer == alone.answer


def test_the_other_question_is_about_another_finding_and_never_the_same(reading):
    assert "effusion" in reading.prompt.text
    assert random_target(reading, "activation_norm").other_question == "Is there a pneumothorax?"
    with pytest.raises(InputError, match="is the same"):
        random_target(
            reading, "activation_norm", other_question=f" {random_target(reading, 'activation_norm').question}"
        )


def test_a_target_that_only_the_asked_question_has_leaves_the_other_question_uncompared(reading):
    found = random_target(reading, "gradient_norm", target="word:effusion")
    assert found.opposite[1] == pytest.approx(1)
    assert (found.other, found.text_independent) == (None, None)
    assert "'effusion' is not in the question" in found.scores["text_dependence"].reason


def test_an_opposite_without_a_map_is_told_and_scored_by_nothing(reading, monkeypatch):
    calls = iter(range(10))

    def first_only(given: Any, aim: Any) -> RawMap:
        if next(calls):
            raise UnavailableError("nothing speaks for the target")
        return METHODS["gradient_norm"].compute(given, aim)

    found = random_target(reading, relabelled(monkeypatch, "gradient_norm", compute=first_only))
    assert (found.opposite, found.target_blind, found.label_holds) == (None, None, None)
    for score in found.scores.values():
        assert score.value is None
        assert "nothing speaks for the target" in score.reason
