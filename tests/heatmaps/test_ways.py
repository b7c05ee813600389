"""One reading of a picture for many questions: answers, maps and gradients are those of separate passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps.ways import Beginning, sharing_picture
from medgemma_visualizer.models.reading import Reading
from tests.conftest import state_of
from tests.heatmaps.conftest import VARIANTS, read_tiny, tiny_model, tiny_prompt

QUESTIONS = ((30, 31, 32), (33, 34, 35, 36, 37, 38), (30, 31, 32))


def asking(reading: Reading, words: tuple[int, ...]) -> Reading:
    """The same picture with other words after it."""
    other = replace(reading, prompt=tiny_prompt(reading.model, words=words))
    vars(other)["image_tokens"] = reading.image_tokens
    return other


@pytest.mark.parametrize("method", ["relevance", "token_gradient"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_shared_reading_gives_the_answer_and_the_map_of_a_separate_one(variant: str, method: str) -> None:
    first = read_tiny(tiny_model(**VARIANTS[variant]))
    beginning = Beginning(first, attention=method == "relevance")
    for words in QUESTIONS:
        shared, alone = asking(first, words), asking(first, words)
        beginning.answer(shared)
        assert shared.generated.ids == alone.generated.ids
        torch.testing.assert_close(shared.generated.first_logits, alone.generated.first_logits, atol=1e-5, rtol=0)
        with sharing_picture(beginning):
            found = explain_reading(shared, method, "answer")
        expected = explain_reading(alone, method, "answer")
        np.testing.assert_allclose(found.map, expected.map, atol=1e-4 * float(expected.map.max()))
        assert found.target == expected.target
        if method == "relevance":
            np.testing.assert_allclose(
                found.extras["question_relevance"], expected.extras["question_relevance"], atol=1e-4
            )


def test_the_picture_is_read_once_and_each_question_only_in_its_own_words() -> None:
    first = read_tiny(tiny_model())
    lengths: list[int] = []
    handle = first.model.text.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    try:
        beginning = Beginning(first, attention=True)
        with sharing_picture(beginning):
            for words in QUESTIONS:
                shared = asking(first, words)
                beginning.answer(shared)
                lengths.append(0)
                explain_reading(shared, "relevance", lambda logits: logits[:, 0, 100])
    finally:
        handle.remove()
    picture = first.prompt.image_positions[-1] + 1
    answers = [n for n in lengths if n > 1]
    assert answers[0] == picture  # once
    assert max(answers[1:]) < picture
    assert lengths[-1] == 0  # the map of the first row took no forward pass of its own


@pytest.mark.parametrize("limit", [1, 3, 5])
@pytest.mark.parametrize("stop", [False, True])
def test_an_answer_read_along_is_the_answer_of_a_separate_run(stop: bool, limit: int) -> None:
    first = replace(read_tiny(tiny_model()), max_new_tokens=limit)
    vars(first)["image_tokens"] = read_tiny(first.model).image_tokens
    said = asking(first, QUESTIONS[0]).generated.ids
    vars(first.model)["stop_ids"] = frozenset({said[-1]} if stop else ())  # so that answers end, or are cut off
    beginning = Beginning(first)
    for words in (QUESTIONS[0], QUESTIONS[0], QUESTIONS[1], QUESTIONS[0]):  # a draft that holds, and two that do not
        shared, alone = asking(first, words), asking(first, words)
        beginning.answer(shared)
        assert (shared.generated.ids, shared.generated.stopped) == (alone.generated.ids, alone.generated.stopped)
        torch.testing.assert_close(shared.generated.logprobs, alone.generated.logprobs, atol=1e-5, rtol=0)
        torch.testing.assert_close(shared.generated.first_logits, alone.generated.first_logits, atol=1e-5, rtol=0)


def test_the_same_answer_again_takes_one_pass() -> None:
    first = read_tiny(tiny_model())
    beginning = Beginning(first)
    beginning.answer(asking(first, QUESTIONS[0]))
    passes: list[int] = []
    handle = first.model.text.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        beginning.answer(asking(first, QUESTIONS[0]))
    finally:
        handle.remove()
    assert len(passes) == 1


def test_other_pictures_models_and_rows_before_the_end_of_the_picture_are_not_led_to() -> None:
    first = read_tiny(tiny_model())
    beginning = Beginning(first)
    other = read_tiny(first.model, seed=2)
    text_first = replace(first, prompt=tiny_prompt(first.model, image_first=False))
    vars(text_first)["image_tokens"] = first.image_tokens
    with sharing_picture(beginning):
        for reading in (other, text_first):
            alone = replace(reading)
            vars(alone)["image_tokens"] = reading.image_tokens.clone()
            found, expected = (explain_reading(r, "token_gradient", "answer").map for r in (reading, alone))
            np.testing.assert_array_equal(found, expected)


def test_the_model_is_given_back_and_no_weight_has_a_gradient() -> None:
    first = read_tiny(tiny_model())
    before = state_of(first.model.hf)
    beginning = Beginning(first, attention=True)
    shared = asking(first, QUESTIONS[0])
    with sharing_picture(beginning):
        beginning.answer(shared)
        explain_reading(shared, "relevance", "answer")
    assert state_of(first.model.hf) == before


def test_outside_the_block_nothing_is_shared(small_reading: Any) -> None:
    beginning = Beginning(small_reading, attention=True)
    with sharing_picture(beginning):
        pass
    explain_reading(small_reading, "relevance", "answer")
    assert beginning._last is None
