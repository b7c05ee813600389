"""What holds for every entry of the table of methods: a true map of the model's own grid, or the reason why not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps import METHODS, explain_reading, resolve
from medgemma_visualizer.heatmaps.targets import score_tokens
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.records import Heatmap
from tests.contracts.conftest import ATTENTION, FORMATS, MODELS, TARGETS, Subject

Subjects = Callable[..., Subject]

#: Methods whose map comes from no row: the question never enters.
NO_ROWS = {name for name, entry in METHODS.items() if not entry.text_dependent}


def explained(subject: Subject, method: str, target: str) -> Heatmap:
    return explain_reading(subject.reading, method, subject.targets[target].asked, **subject.options(method))


def assert_contract(subject: Subject, method: str, target: str, *, repeat: bool = True) -> None:
    """A finite, uneven, repeatable map from row p − 1, or an error of the family that gives a reason; nothing else."""
    found = outcome(subject, method, target)
    if isinstance(found, Heatmap):
        assert_true_map(subject, found, method, target)
    else:
        assert re.search(r"\w+ \w+ \w+.*\.$", found), found
    if repeat:
        again = outcome(subject, method, target)
        assert np.array_equal(found.grid, again.grid) if isinstance(found, Heatmap) else found == again
    subject.assert_untouched()


def outcome(subject: Subject, method: str, target: str) -> Heatmap | str:
    """The map, or the reason why there is none; any other error fails the test."""
    try:
        return explained(subject, method, target)
    except UnavailableError as error:
        return str(error)


def assert_true_map(subject: Subject, found: Heatmap, method: str, target: str) -> None:
    values = found.signed if METHODS[method].signed else found.grid
    assert found.grid.shape == values.shape == subject.reading.model.grid
    assert found.grid.dtype == values.dtype == np.float32
    assert np.isfinite(values).all()
    assert values.min() < values.max()
    assert found.grid.min() >= 0
    assert found.grid.max() > 0
    assert found.target.rows == subject.targets[target].rows
    assert (found.method, found.requested, found.fallbacks) == (method, method, {})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_on_a_model_without_degenerate_gradients_it_maps_every_target(
    subject: Subjects, method: str, target: str
) -> None:
    untied = subject("untied")
    assert_true_map(untied, explained(untied, method, target), method, target)
    untied.assert_untouched()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_on_the_embedded_model_it_maps_every_target_or_says_why_not(
    subject: Subjects, method: str, target: str
) -> None:
    assert_contract(subject("demo"), method, target, repeat=False)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_in_any_attention_and_format_it_maps_the_contrast_or_says_why_not(
    subject: Subjects, method: str, name: str, number_format: str, attention: str
) -> None:
    assert_contract(subject(name, attention, number_format), method, "contrast")


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_the_full_cross_product_holds_the_contract(
    subject: Subjects, method: str, target: str, name: str, number_format: str, attention: str
) -> None:
    assert_contract(subject(name, attention, number_format), method, target)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", ["answer", "token:1", "said", "unsaid", "word"])
def test_the_score_is_the_librarys_log_probability_at_row_p_minus_1(subject: Subjects, target: str, name: str) -> None:
    reading, wanted = subject(name).reading, subject(name).targets[target]
    aim = resolve(reading, wanted.asked)
    ids = torch.tensor([*reading.prompt.ids, *_continuation(reading, target, wanted.asked)])[None]  # (1, S)
    kinds = (ids == reading.model.image_token_id).long()
    with torch.no_grad():
        logits = reading.model.hf(input_ids=ids, pixel_values=reading.pixel_values, token_type_ids=kinds).logits[0]
        score = float(score_tokens(reading, aim, reading.image_tokens)[0])
    logprobs = [float(logits[row].log_softmax(-1)[ids[0, row + 1]]) for row in wanted.rows]
    assert score == pytest.approx(np.mean(logprobs), abs=1e-4)


def _continuation(reading: Any, target: str, asked: Any) -> Any:
    if target == "unsaid":
        return reading.model.tokenizer(asked, add_special_tokens=False)["input_ids"]
    return reading.generated.ids


@pytest.mark.parametrize("method", [name for name in METHODS if name not in NO_ROWS])
def test_other_rows_give_another_map(subject: Subjects, method: str) -> None:
    untied = subject("untied")
    aim = resolve(untied.reading, "token:1")
    earlier = replace(aim, target=replace(aim.target, rows=tuple(row - 1 for row in aim.rows)))
    here, there = (METHODS[method].compute(untied.reading, a, **untied.options(method)).values for a in (aim, earlier))
    assert not np.allclose(here, there, rtol=1e-3, atol=0)


class PlannedError(Exception):
    """Thrown by the tests alone."""


@pytest.mark.parametrize("calls", [0, 2, 4])  # while it is resolved, at its first use, at its third
@pytest.mark.parametrize("method", METHODS)
def test_a_score_that_fails_fails_loudly_and_the_model_comes_back_whole(
    subject: Subjects, method: str, calls: int
) -> None:
    untied, made = subject("untied"), []

    def failing(logits: torch.Tensor) -> torch.Tensor:
        made.append(len(logits))
        if len(made) > calls:
            raise PlannedError
        return logits[:, 0, 7] - logits[:, 0, 8]

    try:
        METHODS[method].compute(untied.reading, resolve(untied.reading, failing), **untied.options(method))
    except PlannedError:
        assert len(made) == calls + 1
    else:
        assert len(made) <= calls
    untied.assert_untouched()


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_fails_fails_loudly_and_the_model_comes_back_whole(
    subject: Subjects, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    untied = subject("untied")
    aim = resolve(untied.reading, "contrast")

    def failing(_: torch.Tensor) -> torch.Tensor:
        raise PlannedError

    with monkeypatch.context() as patch:
        for layer in (untied.reading.model.text.layers[-1], untied.reading.model.vision_layers[-1]):
            patch.setattr(layer.mlp, "forward", failing)
        with pytest.raises(PlannedError):
            METHODS[method].compute(untied.reading, aim, **untied.options(method))
    untied.assert_untouched()


@pytest.mark.parametrize("wrong", [lambda z: z.sum(), lambda z: z[:, 0, :3], lambda z: 1.0, lambda z: 1j * z[:, 0, 7]])
@pytest.mark.parametrize("method", [n for n, m in METHODS.items() if m.needs in ("gradient", "scoring")])
def test_a_function_that_gives_no_number_for_each_image_is_refused(subject: Subjects, method: str, wrong: Any) -> None:
    untied = subject("untied")
    with pytest.raises(InputError, match="one number for each"):
        explain_reading(untied.reading, method, wrong, **untied.options(method))


def test_two_images_worth_of_positions_are_refused_with_the_reason(
    demo: Any, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = demo.family.image_block
    twice = replace(demo.family, image_block=lambda processor: 2 * once(processor))
    monkeypatch.setattr(demo, "family", twice)
    with pytest.raises(InputError, match=r"holds 512 image tokens, its grid has 16 × 16"):
        read(demo, picture(cases[0]), cases[0].question)


@pytest.mark.parametrize("method", METHODS)
def test_with_text_first_words_of_the_question_are_refused_with_the_reason(demo: Any, cases: Any, method: str) -> None:
    reading = read(demo, picture(cases[0]), cases[0].question, image_first=False)
    with pytest.raises(InputError, match="cannot depend on the image"):
        explain_reading(reading, method, "word:effusion")


def test_an_entry_declares_what_it_is() -> None:
    for name, entry in METHODS.items():
        assert entry.needs in ("attention", "gradient", "activation", "scoring"), name
        assert entry.label, name
        assert entry.cost, name
        assert entry.paper, name
