"""The fast decoder is the library's, whatever shape comes next; without a GPU its passes are launched, not captured."""

from __future__ import annotations

import copy
import gc
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook, register_module_full_backward_hook

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.models import graphs, lean
from medgemma_visualizer.models.forward import decode_embeddings, embed, generate, logits_at
from medgemma_visualizer.models.graphs import Engine, engine_of, rounded, rows_bucket
from medgemma_visualizer.models.kernels import add_norm
from medgemma_visualizer.models.trace import attention_kind, attention_rows
from tests.heatmaps.conftest import VARIANTS, read_tiny, tiny_model, tiny_prompt
from tests.models.standing_in import recording


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
    assert engine_of(fast.model) is not engine
    assert old not in engine_of(fast.model).passes.values()


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
    text = fast.model.text
    for part in (text, text.layers[1], text.layers[0].mlp.up_proj, text.norm, fast.model.head):
        for register in (
            part.register_forward_hook,
            part.register_forward_pre_hook,
            part.register_full_backward_hook,
            part.register_full_backward_pre_hook,
        ):
            handle = register(lambda *_: None)
            assert engine_of(fast.model) is None
            handle.remove()
            assert engine_of(fast.model) is not None
    layer = text.layers[0].self_attn.o_proj
    layer.forward = lambda x: type(layer).forward(layer, x) * 2
    assert engine_of(fast.model) is None
    del layer.forward
    assert engine_of(fast.model) is not None
    for everywhere in (register_module_forward_pre_hook, register_module_full_backward_hook):
        handle = everywhere(lambda *_: None)
        assert engine_of(fast.model) is None
        handle.remove()
    assert engine_of(replace(fast.model, fast=False)) is None


def _other_parameter(model: Any) -> None:
    layer = model.text.layers[0].mlp.down_proj
    layer.weight = torch.nn.Parameter(torch.randn_like(layer.weight), requires_grad=False)


def _other_layer(model: Any) -> None:
    layer = copy.deepcopy(model.text.layers[1])
    torch.nn.init.normal_(layer.self_attn.q_proj.weight)
    model.text.layers[1] = layer


class Adapted(torch.nn.Module):
    """Adds something to what another module says, and passes for it otherwise, as adapters do."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, *given: Any, **named: Any) -> Any:
        out = self.inner(*given, **named)
        return out + 1 if isinstance(out, torch.Tensor) else (out[0] + 1, *out[1:])


def _adapted_product(model: Any) -> None:
    model.text.layers[0].mlp.up_proj = Adapted(model.text.layers[0].mlp.up_proj)


def _adapted_layer(model: Any) -> None:
    model.text.layers[1] = Adapted(model.text.layers[1])


def _adapted_norm(model: Any) -> None:
    model.text.norm = Adapted(model.text.norm)


def _in_a_row(model: Any) -> None:
    mlp = model.text.layers[0].mlp
    mlp.up_proj = torch.nn.Sequential(mlp.up_proj, torch.nn.Tanh())


def _other_decoder(model: Any) -> None:
    other = copy.deepcopy(model.text)
    torch.nn.init.normal_(other.layers[0].mlp.down_proj.weight)
    model.hf.model.language_model = other


CHANGES = [
    _other_parameter, _other_layer, _other_decoder, _adapted_product, _adapted_layer, _adapted_norm, _in_a_row
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_weights_and_layers_that_are_replaced_are_read(
    change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, fast = _pair()
    recording(monkeypatch)
    row = len(fast.prompt.ids) - 1
    tokens = plain.image_tokens
    before = [logits_at(fast.model, fast.ids(), tokens.clone(), [row]) for _ in range(3)][-1]
    change(plain.model)
    for _ in range(3):
        after = logits_at(fast.model, fast.ids(), tokens.clone(), [row])
        assert not torch.allclose(after, before, atol=1e-3)
        torch.testing.assert_close(after, logits_at(plain.model, plain.ids(), tokens, [row]), atol=1e-4, rtol=1e-4)
        said = [generate(r.model, r.prompt, tokens.clone(), 5) for r in (plain, fast)]
        assert said[0].ids == said[1].ids
        np.testing.assert_allclose(said[1].logprobs, said[0].logprobs, atol=1e-4)


def test_first_logits_stay_when_another_prompt_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fast = _pair()
    recording(monkeypatch)
    prompts = [tiny_prompt(plain.model, words=words) for words in ((20,), (20, 21, 22), (60, 61), (30, 31))]
    kept = [generate(fast.model, prompt, plain.image_tokens, 3) for prompt in prompts]
    for prompt, found in zip(prompts, kept, strict=True):
        wanted = generate(plain.model, prompt, plain.image_tokens, 3)
        torch.testing.assert_close(found.first_logits, wanted.first_logits, atol=1e-4, rtol=1e-4)
        assert found.ids == wanted.ids


def test_inference_mode_and_autocast_are_left_to_the_library_and_leave_nothing_behind() -> None:
    plain, fast = _pair()
    row = len(fast.prompt.ids) - 1
    with torch.inference_mode():
        assert engine_of(fast.model) is None
        made = plain.image_tokens.clone()  # does not count its changes
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert engine_of(fast.model) is None
    for factor in (1, 2):
        found = [logits_at(r.model, r.ids(), made, [row]) for r in (plain, fast)]
        torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)
        assert (attention_rows(fast.model, fast.ids(), made, [row]).weights > 0).any()
        with torch.inference_mode():
            made.mul_(factor + 1)


class Packed(torch.nn.Linear):
    """As a quantiser's layer: the same product, by a way of its own."""


def test_a_decoder_that_multiplies_in_its_own_way_is_left_to_the_library() -> None:
    for place in ("self_attn.o_proj", "mlp.down_proj", "self_attn.q_proj"):
        model = replace(tiny_model(), fast=True)
        assert lean.is_usual(model)
        layer = model.text.layers[-1].get_submodule(place)
        layer.__class__ = Packed
        assert not lean.is_usual(model)
        assert engine_of(model) is None
    model = replace(tiny_model(), fast=True)
    layer = model.text.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    assert engine_of(model) is None


def _asked(model: Any, reading: Any, lengths: Sequence[int]) -> None:
    """Prompts of so many words, each read twice, so that its shape is captured."""
    for words in lengths:
        prompt = tiny_prompt(model, words=range(20, 20 + words))
        for _ in range(2):
            generate(replace(model, fast=True), prompt, reading.image_tokens.clone(), 2)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_what_passes_hold_stays_within_the_limit_the_least_used_given_up_first(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, fast = _pair()
    recording(monkeypatch, pool=10**9)
    engine = engine_of(fast.model)
    engine.limit = int((2 * kept + 0.5) * 10**9)  # for the pass over a prompt and for a step of decoding
    _asked(plain.model, plain, (10, 74, 138, 202))
    assert [shape.length for shape in engine.passes] == [64, 128, 192, 256][-kept:]
    assert engine.bytes <= engine.limit
    engine.limit = 0
    _asked(plain.model, plain, (10,))
    assert [shape.length for shape in engine.passes] == [64]  # the one in use never


def test_a_launched_pass_counts_what_it_keeps_and_lets_go_of_it_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, fast = _pair()
    held = [1000]
    monkeypatch.setattr(graphs, "allocated", lambda _device: held[0])
    forward = graphs._Pass._forward

    def growing(work: Any) -> None:
        assert work.logits.numel() == 0
        forward(work)
        held[0] += 300

    monkeypatch.setattr(graphs._Pass, "_forward", growing)
    row = len(plain.prompt.ids) - 1
    for word in (20, 21):
        logits_at(fast.model, fast.ids((word,)), fast.image_tokens, [row])
    (work,) = engine_of(fast.model).passes.values()
    assert work._passes.bytes == 300
    assert work.bytes > 300 + work.keys.nbytes + work.values.nbytes + work.queries.nbytes


def test_what_cannot_be_captured_is_launched_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, fast = _pair()

    def refused(_works: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(graphs, "captures", lambda _device: True)
    monkeypatch.setattr(graphs, "_recorded", refused)
    for _ in range(4):
        found = [generate(r.model, r.prompt, r.image_tokens, 3) for r in (plain, fast)]
        assert found[0].ids == found[1].ids
        vars(fast).pop("image_tokens")
    assert (
        caplog.text.count("operation not permitted when stream is capturing); it is launched") == 3
    )  # tower, pass, step
    assert "and more" not in caplog.text


def test_a_graph_that_does_not_fit_is_launched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, fast = _pair()

    def full(_works: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(graphs, "captures", lambda _device: True)
    monkeypatch.setattr(graphs, "_recorded", full)
    for _ in range(3):
        found = [generate(r.model, r.prompt, plain.image_tokens.clone(), 3) for r in (plain, fast)]
        assert found[0].ids == found[1].ids
    assert "Too little GPU memory to capture a pass; it is launched." in caplog.text


@pytest.mark.parametrize(
    ("captured", "error"),
    [
        (False, torch.OutOfMemoryError("CUDA out of memory")),  # a capture that meets it is launched
        (False, KeyboardInterrupt()),
        (True, KeyboardInterrupt()),
    ],
)
def test_a_pass_that_breaks_off_leaves_no_buffers_under_the_name_of_the_prompt_before(
    captured: bool, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, fast = _pair()
    if captured:
        recording(monkeypatch)
    row, tokens = len(plain.prompt.ids) - 1, plain.image_tokens
    generate(fast.model, fast.prompt, tokens, 4)
    wanted = attention_rows(plain.model, plain.ids(), tokens, [row]).weights
    calls = itertools.count()
    with monkeypatch.context() as broken:

        def breaks(*given: Any) -> Any:
            if next(calls) == 3:
                raise error
            return add_norm(*given)

        broken.setattr(lean, "add_norm", breaks)
        with pytest.raises(type(error)):
            generate(fast.model, tiny_prompt(plain.model, words=(50, 51)), tokens, 4)
    found = attention_rows(fast.model, fast.ids(), tokens, [row]).weights
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("moved", [False, True])
def test_weights_that_change_before_the_way_back_are_an_error(
    captured: bool, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fast = _pair()
    if captured:
        recording(monkeypatch)
    row, weight = len(fast.prompt.ids) - 1, fast.model.text.layers[-1].mlp.down_proj.weight
    for _ in range(3):
        leaf = fast.image_tokens.clone().requires_grad_()
        score = logits_at(fast.model, fast.ids(), leaf, [row])[..., :7].sum()
        torch.autograd.grad(score, leaf, retain_graph=True)
    if moved:
        weight.data = weight.data * 3
    else:
        with torch.no_grad():
            weight.mul_(3)
    with pytest.raises(VisualizerError, match="Weights were changed between a pass and its way back"):
        torch.autograd.grad(score, leaf)


def test_decoding_and_tower_count_among_what_is_held_and_old_decoding_is_given_up() -> None:
    _, fast = _pair()
    engine = engine_of(fast.model)
    assert fast.generated.ids
    passes = sum(work.bytes for work in engine.passes.values())
    assert engine.bytes == passes + engine.tower.bytes
    assert engine.tower.bytes > fast.pixel_values.nbytes
    (used,) = engine.passes.values()
    for n in (1, 2):
        engine.steps[n, 64, 64] = SimpleNamespace(bytes=1000)
    assert engine.bytes == passes + engine.tower.bytes + 2000
    engine.limit = passes + engine.tower.bytes + 1500
    engine._keep_within_limit(used)
    assert list(engine.steps) == [(2, 64, 64)]
    assert list(engine.passes.values()) == [used]


def test_what_was_captured_can_be_given_up() -> None:
    _, fast = _pair()
    assert fast.generated.ids
    engine = engine_of(fast.model)
    assert engine.bytes > 0
    graphs.forget(fast.model)
    assert engine_of(fast.model) is not engine
    assert engine_of(fast.model).bytes == 0


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


@pytest.mark.parametrize("empty", [False, True])
def test_graphs_are_replayed_where_they_do_their_work_and_never_where_they_hold_nothing(
    empty: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, fast = _pair()
    recording(monkeypatch, empty=empty)
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
