"""A picture is read once for all questions: every answer is the one that the question gets on its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.models.prefix import prefix_of
from medgemma_visualizer.models.reading import read
from tests.heatmaps.conftest import VARIANTS, read_tiny, tiny_model, tiny_prompt

QUESTIONS = (
    "Is there a pneumothorax?",
    "What does this radiograph show?",
    "Where is the pleural effusion?",
    "Can you see any signs of fluid around the lungs in this X-ray?",
)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_shared_picture_gives_the_answer_of_a_separate_run(demo: Any, cases: Any, question: str) -> None:
    first = read(demo, picture(cases[0]), cases[0].question)
    shared, alone = first.asking(question), read(demo, picture(cases[0]), question)
    assert shared.generated.ids == alone.generated.ids
    torch.testing.assert_close(shared.generated.first_logits, alone.generated.first_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(shared.generated.logprobs, alone.generated.logprobs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_holds_for_other_models_and_where_the_window_is_shorter_than_the_picture(variant: str) -> None:
    alone = read_tiny(tiny_model(**VARIANTS[variant]))
    shared = replace(alone, prompt=tiny_prompt(alone.model, words=(30, 31, 32, 33, 34, 35)))
    alone = replace(shared)
    for each in (shared, alone):
        vars(each)["image_tokens"] = read_tiny(alone.model).image_tokens
    vars(shared)["prefix"] = prefix_of(alone.model, tiny_prompt(alone.model), shared.image_tokens)
    assert shared.generated.ids == alone.generated.ids
    torch.testing.assert_close(shared.generated.first_logits, alone.generated.first_logits, atol=1e-5, rtol=0)


def test_a_prefix_of_other_words_is_not_used() -> None:
    small_reading = read_tiny(tiny_model())
    prefix = small_reading.prefix
    assert prefix.begins(small_reading.prompt)
    assert not prefix.begins(tiny_prompt(small_reading.model, image_first=False))
    assert not replace(prefix, ids=(9, *prefix.ids[1:])).begins(small_reading.prompt)


def test_neither_vision_nor_the_decoder_reads_the_picture_again(demo: Any, cases: Any) -> None:
    first = read(demo, picture(cases[0]), cases[0].question)
    seen: list[int] = []
    others = [first.asking(question) for question in QUESTIONS]
    vision = demo.vision_layers[0].register_forward_hook(lambda *_: seen.append(-1))
    decoder = demo.text.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    try:
        for other in others:
            assert other.answer.text
    finally:
        vision.remove()
        decoder.remove()
    assert -1 not in seen
    assert max(seen) < demo.grid[0] * demo.grid[1]


def test_one_question_does_not_change_the_next(demo: Any, cases: Any) -> None:
    first = read(demo, picture(cases[0]), cases[0].question)
    before = [layer.keys.clone() for layer in first.prefix.cache.layers]
    answers = [first.asking(QUESTIONS[1]).answer for _ in range(2)]
    assert answers[0] == answers[1]
    assert all(torch.equal(a, layer.keys) for a, layer in zip(before, first.prefix.cache.layers, strict=True))


def test_with_the_text_first_only_vision_is_shared(demo: Any, cases: Any) -> None:
    first = read(demo, picture(cases[0]), cases[0].question, image_first=False)
    shared, alone = first.asking(QUESTIONS[0]), read(demo, picture(cases[0]), QUESTIONS[0], image_first=False)
    assert "prefix" not in vars(shared)
    assert shared.generated.ids == alone.generated.ids
