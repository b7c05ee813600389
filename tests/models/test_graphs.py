"""The fast decoder is the library's, whatever shape comes next; without a GPU its passes are launched, not captured."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.models import graphs, lean
from medgemma_visualizer.models.forward import decode_embeddings, embed, generate, logits_at
from medgemma_visualizer.models.graphs import STEP, Engine, engine_of, rounded, rows_bucket
from medgemma_visualizer.models.trace import attention_kind, attention_rows
from tests.heatmaps.conftest import VARIANTS, read_tiny, tiny_model, tiny_prompt


def _pair(**how: Any) -> tuple[Any, Any]:
    """A reading by the library's decoder, and the same by ours."""
    model = tiny_model(**how)
    for weight in model.text.parameters():
        if weight.ndim == 1:  # norms that do something
            torch.nn.init.normal_(weight, std=0.3)
    plain = read_tiny(model)
    fast = replace(plain, model=replace(model, fast=True))
    vars(fast)["pixel_values"] = plain.pixel_values
    return plain, fast


def _gradient(reading: Any, ids: torch.Tensor, rows: list[int]) -> torch.Tensor:
    leaf = reading.image_tokens.detach().requires_grad_()
    return torch.autograd.grad(logits_at(reading.model, ids, leaf, rows)[..., :7].sum(), leaf)[0]


def test_lengths_and_rows_go_up_to_the_next_bucket() -> None:
    assert [rounded(n) for n in (0, 1, 64, 65, 298)] == [64, 64, 64, 128, 320]
    assert [rows_bucket(n) for n in (1, 16, 17, 64, 65)] == [16, 16, 64, 64, None]
    assert Engine.fits(298, [1, 2], 50)
    assert not Engine.fits(graphs.LONGEST + 1, [1])
    assert not Engine.fits(298, range(65))
    assert not Engine.fits(298, [1], graphs.ANSWER + 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_states_and_their_gradient_equal_the_librarys(variant: str) -> None:
    plain, _ = _pair(**VARIANTS[variant])
    model, ids = plain.model, plain.ids((30, 31, 32))
    leaf = plain.image_tokens.detach().requires_grad_()
    embeds = embed(model, ids, leaf)
    theirs = decode_embeddings(model, embeds, ids)
    ours = lean.decode(model, embeds, lean.places_of(model, ids.tolist()))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    slopes = [
        torch.autograd.grad(states[:, -1].square().sum(), leaf, retain_graph=True)[0] for states in (theirs, ours)
    ]
    torch.testing.assert_close(slopes[1], slopes[0], atol=1e-5, rtol=1e-4)
    assert float(slopes[0].abs().max()) > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_answer_probabilities_and_first_logits_equal_the_librarys(variant: str) -> None:
    plain, fast = _pair(**VARIANTS[variant])
    assert fast.generated.ids == plain.generated.ids
    assert fast.generated.stopped == plain.generated.stopped
    np.testing.assert_allclose(fast.generated.logprobs, plain.generated.logprobs, atol=1e-4)
    torch.testing.assert_close(fast.generated.first_logits, plain.generated.first_logits, atol=1e-4, rtol=1e-4)


def test_a_stop_token_ends_the_answer_and_is_left_out() -> None:
    plain, fast = _pair(tied=False)
    said = plain.generated.ids
    stop = next(n for n in range(1, len(said)) if said[n] not in said[:n])
    for reading in (plain, fast):
        vars(reading.model)["stop_ids"] = frozenset({said[stop]})
    found = [generate(r.model, r.prompt, r.image_tokens, 5) for r in (plain, fast)]
    assert found[0].ids == found[1].ids == said[:stop]
    assert found[0].stopped
    assert found[1].stopped


def test_one_pass_answers_gives_attention_and_is_differentiated() -> None:
    plain, fast = _pair()
    row = len(fast.prompt.ids) - 1
    said = fast.generated.ids
    (work,) = engine_of(fast.model).passes.values()
    forced = fast.ids(said[:3])
    rows = [row, row + 1, row + 3]
    traced = attention_rows(fast.model, forced, fast.image_tokens, rows)
    expected = attention_rows(plain.model, forced, plain.image_tokens, rows)
    np.testing.assert_allclose(traced.weights, expected.weights, atol=1e-5)
    torch.testing.assert_close(_gradient(fast, fast.ids(), [row]), _gradient(plain, plain.ids(), [row]))
    assert work.run == 1  # no further pass was needed


def test_a_way_back_still_fits_when_another_prompt_was_read_in_between() -> None:
    plain, fast = _pair()
    row, other = len(fast.prompt.ids) - 1, replace(fast, prompt=tiny_prompt(fast.model, words=(50, 51)))
    leaf = fast.image_tokens.detach().requires_grad_()
    logits = logits_at(fast.model, fast.ids(), leaf, [row])
    logits_at(fast.model, other.ids(), fast.image_tokens, [5])
    (slope,) = torch.autograd.grad(logits[..., :7].sum(), leaf)
    torch.testing.assert_close(slope, _gradient(plain, plain.ids(), [row]), atol=1e-5, rtol=1e-4)


def test_prompts_of_other_lengths_share_a_shape_and_do_not_disturb_each_other() -> None:
    plain, fast = _pair()
    for words in ((20,), (20, 21, 22, 23, 24, 25, 26), (60, 61)):
        prompt = tiny_prompt(plain.model, words=words)
        found = [generate(r.model, prompt, r.image_tokens, 4) for r in (plain, fast)]
        assert found[0].ids == found[1].ids
        torch.testing.assert_close(found[1].first_logits, found[0].first_logits, atol=1e-4, rtol=1e-4)
    assert len(engine_of(fast.model).passes) == 1


def test_weights_that_change_are_read_again() -> None:
    plain, fast = _pair()
    row = len(fast.prompt.ids) - 1
    before = logits_at(fast.model, fast.ids(), fast.image_tokens, [row])
    with torch.no_grad():
        torch.nn.init.normal_(fast.model.text.layers[0].mlp.down_proj.weight)
    after = logits_at(fast.model, fast.ids(), fast.image_tokens, [row])
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(
        after, logits_at(plain.model, plain.ids(), plain.image_tokens, [row]), atol=1e-4, rtol=1e-4
    )


def test_weights_that_move_take_the_captured_passes_with_them() -> None:
    _, fast = _pair()
    assert fast.generated.ids
    engine = engine_of(fast.model)
    (old,) = engine.passes.values()
    weight = fast.model.text.layers[1].mlp.up_proj.weight
    weight.data = weight.data.clone()
    generate(fast.model, fast.prompt, fast.image_tokens, 2)
    assert old not in engine.passes.values()


def test_more_rows_than_a_captured_pass_reads_are_read_all_the_same() -> None:
    plain, fast = _pair()
    ids, rows = fast.ids(tuple(range(50, 130))), [*range(10, 85)]
    theirs, ours = (attention_rows(r.model, ids, r.image_tokens, rows).weights for r in (plain, fast))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    found = [logits_at(r.model, ids, r.image_tokens, rows) for r in (plain, fast)]
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)


def test_another_attention_or_a_hook_gets_the_librarys_own_decoder() -> None:
    _, fast = _pair()
    assert engine_of(fast.model) is not None
    with attention_kind(fast.model, "eager"):
        assert engine_of(fast.model) is None
    handle = fast.model.text.register_forward_pre_hook(lambda *_: None)
    assert engine_of(fast.model) is None
    handle.remove()
    assert engine_of(replace(fast.model, fast=False)) is None


class Packed(torch.nn.Linear):
    """As a quantiser's layer: the same product, by a way of its own."""


def test_a_decoder_that_multiplies_in_its_own_way_is_left_to_the_library() -> None:
    for place in ("self_attn.o_proj", "mlp.down_proj", "self_attn.q_proj"):
        model = replace(tiny_model(), fast=True)
        assert lean.is_dense(model)
        layer = model.text.layers[-1].get_submodule(place)
        layer.__class__ = Packed
        assert not lean.is_dense(model)
        assert engine_of(model) is None
    model = replace(tiny_model(), fast=True)
    layer = model.text.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    assert engine_of(model) is None


def test_the_least_used_shape_is_given_up_first_and_the_one_in_use_never() -> None:
    _, fast = _pair()
    engine = Engine(fast.model, limit=100)
    first, second, third = (engine._pass(graphs.Shape(STEP * n, 16, STEP)) for n in (1, 2, 3))
    first.bytes = second.bytes = third.bytes = 60
    engine._pass(first.shape)
    assert list(engine.passes.values()) == [first]
    first.bytes = 1000
    engine._pass(first.shape)
    assert list(engine.passes.values()) == [first]


def test_an_engine_goes_with_its_model() -> None:
    _, fast = _pair()
    assert fast.generated.ids
    before = len(graphs._engines)
    del fast, _
    gc.collect()
    assert len(graphs._engines) < before


def test_logits_that_are_not_finite_are_an_error_that_says_what_to_do() -> None:
    _, fast = _pair()
    with torch.no_grad():
        fast.model.text.norm.weight.fill_(float("nan"))
    with pytest.raises(VisualizerError, match=r"not finite.*float32"):
        generate(fast.model, fast.prompt, fast.image_tokens, 3)


def test_another_number_of_image_tokens_is_refused() -> None:
    _, fast = _pair()
    with pytest.raises(InputError, match="16 places for image tokens, 15 were given"):
        logits_at(fast.model, fast.ids(), fast.image_tokens[:, :15], [3])


class _Graph:
    """Stands in for a CUDA graph: does its work when it is replayed, or nothing."""

    def __init__(self, replay: Callable[[], None]) -> None:
        self.replay = replay


def _recording(monkeypatch: pytest.MonkeyPatch, *, empty: bool) -> None:
    def recorded(works: Mapping[str, Callable[[], None]]) -> dict[str, _Graph]:
        for work in (*works.values(), *works.values()):
            work()
        return {name: _Graph((lambda: None) if empty else work) for name, work in works.items()}

    monkeypatch.setattr(graphs, "captures", lambda _device: True)
    monkeypatch.setattr(graphs, "_recorded", recorded)


@pytest.mark.parametrize("empty", [False, True])
def test_graphs_are_replayed_where_they_do_their_work_and_never_where_they_hold_nothing(
    empty: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, fast = _pair()
    _recording(monkeypatch, empty=empty)
    row = len(plain.prompt.ids) - 1
    for words in ((20,), (20, 21, 22), (60, 61), (20,)):  # of one shape: launched, captured, replayed
        prompt = tiny_prompt(plain.model, words=words)
        slow, quick = replace(plain, prompt=prompt), replace(fast, prompt=prompt)
        vars(slow)["pixel_values"] = vars(quick)["pixel_values"] = plain.pixel_values
        row = len(prompt.ids) - 1
        assert quick.generated.ids == slow.generated.ids
        torch.testing.assert_close(
            _gradient(quick, quick.ids(), [row]), _gradient(slow, slow.ids(), [row]), atol=1e-5, rtol=1e-4
        )
    works = engine_of(fast.model).passes.values()
    assert [all(work._graphs[part] is None for part in ("pass", "step")) for work in works] == [empty]
    assert ("does nothing when it is replayed" in caplog.text) is empty


@pytest.mark.gpu
def test_captured_passes_equal_launched_ones_on_a_gpu() -> None:
    plain, _ = _pair()
    hf = plain.model.hf.to("cuda")
    slow, fast = (replace(plain, model=replace(plain.model, hf=hf, fast=is_fast)) for is_fast in (False, True))
    for reading in (slow, fast):
        vars(reading)["pixel_values"] = plain.pixel_values.to("cuda")
    row = len(slow.prompt.ids) - 1
    for _turn in range(4):  # launched, captured, replayed, replayed
        new = replace(fast)
        vars(new)["pixel_values"] = fast.pixel_values
        assert new.generated.ids == slow.generated.ids
        torch.testing.assert_close(
            _gradient(new, new.ids(), [row]), _gradient(slow, slow.ids(), [row]), atol=1e-4, rtol=1e-3
        )
