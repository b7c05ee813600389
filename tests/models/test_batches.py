"""Several prompts read together give what each gives alone: answers, attention and gradients."""

from __future__ import annotations

import gc
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.models import batches, graphs
from medgemma_visualizer.models.batches import Batch, Steps, go_together
from medgemma_visualizer.models.devices import Gpu
from medgemma_visualizer.models.forward import logits_at
from medgemma_visualizer.models.graphs import engine_of
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.models.trace import attention_rows
from tests.heatmaps.conftest import VARIANTS, read_tiny, tiny_model, tiny_prompt
from tests.models.standing_in import recording

#: Questions of different lengths.
WORDS = ((20, 21, 22, 23), (30,), (31, 32, 33, 34, 35, 36, 37, 38, 39))


def alone(**how: Any) -> list[Reading]:
    """Three pictures with a question each, read by the library's own decoder."""
    model = tiny_model(**how)
    for weight in model.text.parameters():
        if weight.ndim == 1:  # norms that do something
            torch.nn.init.normal_(weight, std=0.3)
    return [
        replaced(read_tiny(model, seed=seed), prompt=tiny_prompt(model, words=words))
        for seed, words in enumerate(WORDS, start=1)
    ]


def replaced(reading: Reading, **other: Any) -> Reading:
    new = replace(reading, **other)
    vars(new)["pixel_values"] = reading.pixel_values
    return new


def together(readings: list[Reading]) -> list[Reading]:
    """The same for the fast decoder, nothing computed yet."""
    fast = replace(readings[0].model, fast=True)
    return [replaced(reading, model=fast) for reading in readings]


def gradient(reading: Reading, forced: tuple[int, ...], rows: list[int]) -> torch.Tensor:
    leaf = reading.image_tokens.detach().requires_grad_()
    return torch.autograd.grad(logits_at(reading.model, reading.ids(forced), leaf, rows)[..., :7].sum(), leaf)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_answers_their_probabilities_and_first_logits_are_those_of_each_alone(variant: str) -> None:
    plain = alone(**VARIANTS[variant])
    fast = together(plain)
    Batch(fast)
    for one, other in zip(plain, fast, strict=True):
        assert "generated" in vars(other)
        assert other.generated.ids == one.generated.ids
        assert other.generated.stopped == one.generated.stopped
        np.testing.assert_allclose(other.generated.logprobs, one.generated.logprobs, atol=1e-4)
        torch.testing.assert_close(other.generated.first_logits, one.generated.first_logits, atol=1e-4, rtol=1e-4)
    assert len({reading.generated.ids for reading in plain}) > 1  # the three do answer differently


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_way_back_gives_each_picture_the_gradient_of_its_own_score(variant: str) -> None:
    plain = alone(**VARIANTS[variant])
    fast = together(plain)
    batch = Batch(fast)
    last = [len(reading.prompt.ids) - 1 for reading in plain]
    forced = [(), plain[1].generated.ids[:3], (50, 51)]
    rows = [[last[0], last[0] - 3], [last[1], last[1] + 3], [last[2] + 2]]
    logits = batch.logits(forced, rows)
    score = sum(part[..., :7].sum() for part in logits)
    (found,) = torch.autograd.grad(score, batch.leaf)
    for n, one in enumerate(plain):
        wanted = logits_at(one.model, one.ids(forced[n]), one.image_tokens, rows[n])
        torch.testing.assert_close(logits[n].detach(), wanted, atol=1e-4, rtol=1e-4)
        slope = gradient(one, forced[n], rows[n])
        assert float(slope.abs().max()) > 1e-3
        torch.testing.assert_close(found[n : n + 1], slope, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_of_prompt_and_answer_is_read_off_the_pass_that_answered(variant: str, monkeypatch: Any) -> None:
    plain = alone(**VARIANTS[variant])
    fast = together(plain)
    batch = Batch(fast)
    batch.forget()
    monkeypatch.setattr(graphs, "launched_attention", None)  # no other pass may be needed
    monkeypatch.setattr(graphs, "_Pass", None)
    for one, other in zip(plain, fast, strict=True):
        said = one.generated.ids[:3]
        last = len(one.prompt.ids) - 1
        rows = [last - 2, last, last + len(said)]
        expected = attention_rows(one.model, one.ids(said), one.image_tokens, rows)
        traced = attention_rows(other.model, other.ids(said), other.image_tokens, rows)
        np.testing.assert_allclose(traced.weights, expected.weights, atol=1e-5)


def test_every_question_about_one_picture_is_read_off_the_pass_that_answered_it(monkeypatch: Any) -> None:
    plain = alone()
    other = replaced(plain[0], prompt=plain[2].prompt)
    fast = together([plain[0], plain[1], other])
    vars(fast[2])["image_tokens"] = fast[0].image_tokens
    batch = Batch(fast)
    monkeypatch.setattr(graphs, "launched_attention", None)  # no other pass may be needed
    monkeypatch.setattr(graphs, "_Pass", None)
    for one, quick in zip((plain[0], other), (fast[0], fast[2]), strict=True):
        rows = [len(one.prompt.ids) - 1]
        assert batch.knows(quick.prompt.ids, quick.image_tokens, rows)
        traced = attention_rows(quick.model, quick.ids(), quick.image_tokens, rows)
        expected = attention_rows(one.model, one.ids(), one.image_tokens, rows)
        np.testing.assert_allclose(traced.weights, expected.weights, atol=1e-5)


def test_what_a_later_batch_has_written_over_is_not_read_as_ones_own() -> None:
    plain = alone()
    first, second = together(plain), together(plain[::-1])
    kept = Batch(first)
    other = Batch(second)
    rows = [len(plain[0].prompt.ids) - 1]
    assert not kept.knows(plain[0].prompt.ids, first[0].image_tokens, rows)
    assert other.knows(plain[0].prompt.ids, second[2].image_tokens, rows)
    traced = attention_rows(first[0].model, first[0].ids(), first[0].image_tokens, rows)
    expected = attention_rows(plain[0].model, plain[0].ids(), plain[0].image_tokens, rows)
    np.testing.assert_allclose(traced.weights, expected.weights, atol=1e-5)


def test_a_batch_knows_only_its_own_words_and_the_answer_that_was_given() -> None:
    fast = together(alone())
    batch = Batch(fast)
    one = fast[0]
    row = len(one.prompt.ids) - 1
    said = one.generated.ids
    assert batch.knows((*one.prompt.ids, *said[:2]), one.image_tokens, [row + 2])
    assert not batch.knows((*one.prompt.ids, 599 - said[0]), one.image_tokens, [row])
    assert not batch.knows(fast[1].prompt.ids, one.image_tokens, [5])
    assert not batch.knows(one.prompt.ids, torch.zeros_like(one.image_tokens), [5])
    one.model.text.layers[0].mlp.up_proj.weight.mul_(1.0)  # weights that were written may be others
    assert not batch.knows(one.prompt.ids, one.image_tokens, [row])


def test_each_answer_ends_at_its_own_stop_token() -> None:
    plain = alone(tied=False)
    said = plain[0].generated.ids
    stop = next(n for n in range(1, len(said)) if said[n] not in said[:n])
    vars(plain[0].model)["stop_ids"] = frozenset({said[stop]})
    plain = [replaced(reading) for reading in plain]
    fast = together(plain)
    vars(fast[0].model)["stop_ids"] = frozenset({said[stop]})
    Batch(fast)
    assert fast[0].generated.ids == said[:stop]
    assert fast[0].generated.stopped
    assert [reading.generated.ids for reading in fast] == [reading.generated.ids for reading in plain]


@pytest.mark.parametrize("empty", [False, True])
def test_a_step_is_replayed_where_its_graph_does_its_work_and_launched_where_it_holds_nothing(
    empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = alone()
    fast = together(plain)
    recording(monkeypatch, empty=empty)
    for _ in range(3):
        again = together(fast)
        Batch(again)
        assert [reading.generated.ids for reading in again] == [reading.generated.ids for reading in plain]
    (steps,) = engine_of(fast[0].model).steps.values()
    assert (steps._graphs is None) is empty


def _rows(reading: Any) -> np.ndarray:
    return attention_rows(reading.model, reading.ids(), reading.image_tokens, [len(reading.prompt.ids) - 1]).weights


def test_a_batch_that_breaks_off_leaves_no_buffers_under_the_name_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = alone()
    fast, others = together(plain), together(plain)
    kept = Batch(fast)
    for reading in others:
        vars(reading)["image_tokens"] = reading.image_tokens * 3

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(Steps, "answer", full)
        with pytest.raises(torch.OutOfMemoryError):
            Batch(others)
    for one, reading in zip(plain, fast, strict=True):
        np.testing.assert_allclose(_rows(reading), _rows(one), atol=1e-5)
    del kept


def test_image_tokens_that_are_written_to_are_read_anew() -> None:
    plain = alone()
    fast = together(plain)
    kept = Batch(fast)
    for one, reading in zip(plain, fast, strict=True):
        before = _rows(reading)
        for each in {id(r.image_tokens): r.image_tokens for r in (one, reading)}.values():
            each.mul_(-3)
        np.testing.assert_allclose(_rows(reading), _rows(one), atol=1e-5)
        assert not np.allclose(_rows(reading), before, atol=1e-3)
    del kept


def test_shapes_of_decoding_are_kept_and_graphs_let_go() -> None:
    fast = together(alone())
    engine = engine_of(fast[0].model)
    for number in (3, 2, 3, 1):
        Batch(together(fast)[:number])
    gc.collect()
    assert [shape[0] for shape in engine.steps] == [3, 1]
    assert len(engine.batches) == 0


def test_only_what_one_pass_can_read_goes_together() -> None:
    plain = alone()
    fast = together(plain)
    assert go_together(fast)
    assert not go_together(plain)  # not by the library's decoder
    assert not go_together([])
    first = fast[0]
    text_first = replace(first, prompt=tiny_prompt(first.model, image_first=False))
    assert not go_together([first, text_first])
    assert not go_together([first, replace(first, max_new_tokens=4)])
    assert not go_together([first, replace(first, model=replace(first.model))])
    assert not go_together([replace(first, prompt=tiny_prompt(first.model, words=(20,) * graphs.LONGEST))])


def of_4b_shape(monkeypatch: Any, *gib: float) -> Any:
    """MedGemma 4B's shape: 30,720 + 20,480 numbers of two bytes in each of 34 layers and 320 positions, 1.04 GiB; and
    8 GiB of weights, held on the first of the cards, which have so many GiB free beside them."""
    config = SimpleNamespace(intermediate_size=10240, hidden_size=2560)
    there = [Gpu(index, "a card", free, 80) for index, free in enumerate(gib)]
    monkeypatch.setattr(batches, "free_bytes", lambda _device: int(gib[0] * 2**30))
    monkeypatch.setattr(batches, "gpus", lambda: there)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 0 if index else 2**33)
    return SimpleNamespace(
        device=torch.device("cuda", 0),
        dtype=torch.bfloat16,
        grid=(16, 16),
        n_layers=34,
        text=SimpleNamespace(config=config),
        weight_bytes=2**33,
    )


@pytest.mark.parametrize(("gib", "size"), [(0.0, 1), (2, 1), (4, 2), (8, 4), (16, 8), (32, 16), (100, 16)])
def test_as_many_go_together_as_fit_into_the_free_memory(gib: float, size: int, monkeypatch: Any) -> None:
    assert batches.batch_for(of_4b_shape(monkeypatch, gib)) == size


@pytest.mark.parametrize(("gib", "others", "size"), [(70, 1, 16), (70, 3, 8), (70, 4, 4), (70, 8, 1), (7, 1, 4)])
def test_workers_on_one_card_share_its_memory_with_that_which_the_process_before_them_gives_up(
    gib: float, others: int, size: int, monkeypatch: Any
) -> None:
    assert batches.batch_for(of_4b_shape(monkeypatch, gib), others) == size


@pytest.mark.parametrize(("limit", "size"), [(100, 8), (24, 8), (14, 4), (12, 2), (8, 1)])
def test_a_limit_is_that_of_each_process_and_is_not_shared(limit: float, size: int, monkeypatch: Any) -> None:
    model = of_4b_shape(monkeypatch, 70)
    monkeypatch.setattr(batches, "free_bytes", lambda _device: int(max(0, min(70, limit - 8)) * 2**30))
    assert batches.batch_for(model, 3, limit=limit) == size


def test_what_goes_together_fits_on_the_fullest_of_the_cards_that_are_taken(monkeypatch: Any) -> None:
    model = of_4b_shape(monkeypatch, 70, 20, 9)
    assert [batches.batch_for(model, 1, cards) for cards in ((0,), (0, 1), (0, 1, 2))] == [16, 8, 1]


def test_on_a_processor_nothing_is_won_by_going_together() -> None:
    assert batches.batch_for(tiny_model()) == 1
