"""Weights are lent and come back bit for bit, and memory never holds a second copy of them."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
import tracemalloc
from collections import namedtuple
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medgemma_visualizer.checks import weights
from medgemma_visualizer.checks.weights import Loan, blocks_of, chosen_blocks, lent, redraw
from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from tests.conftest import state_of
from tests.heatmaps.conftest import tiny_model


def model_bytes(model: Any) -> int:
    return sum(p.nbytes for p in model.hf.parameters())


def test_the_blocks_run_from_the_output_down_and_hold_every_weight_but_the_words_once(demo):
    blocks = blocks_of(demo)
    layers = [f"vision.{n}" for n in (5, 4, 3, 2, 1, 0)]
    assert [b.name for b in blocks] == [
        "text.3",
        "text.2",
        "text.1",
        "text.0",
        "projector",
        *layers,
        "vision.embeddings",
    ]
    held = [id(p) for block in blocks for p in block.weights]
    words = demo.text.get_input_embeddings().weight
    assert len(held) == len(set(held))
    assert {*held, id(words)} == {id(p) for p in demo.hf.parameters()}
    assert [b.name for b in blocks if not b.makes_tokens] == ["text.3", "text.2", "text.1", "text.0"]


def test_a_head_that_is_not_the_table_of_words_is_the_first_block():
    assert [blocks_of(tiny_model(tied=tied))[0].name for tied in (True, False)] == ["text.2", "head"]


def test_a_redrawn_block_has_the_initialisers_scale_neutral_norms_and_a_projector_that_is_not_zero():
    model = tiny_model()
    by_name = {block.name: block for block in blocks_of(model)}
    for block in by_name.values():
        redraw(block, seed=3)
    layer = model.text.layers[0]
    assert float(layer.mlp.gate_proj.weight.std()) == pytest.approx(model.text.config.initializer_range, rel=0.05)
    assert float(model.projector.mm_input_projection_weight.std()) == pytest.approx(0.02, rel=0.1)
    states = torch.randn(1, 5, 32)
    unit = states / states.pow(2).mean(-1, keepdim=True).add(1e-6).sqrt()
    assert torch.allclose(layer.input_layernorm(states), unit, atol=1e-4)
    vision = model.vision_layers[0]
    assert vision.layer_norm1.weight.eq(1).all()
    assert vision.layer_norm1.bias.eq(0).all()
    assert vision.mlp.fc1.bias.eq(0).all()
    assert float(vision.mlp.fc1.weight.std()) == pytest.approx((2 / (24 + 48)) ** 0.5, rel=0.1)


def test_a_draw_depends_on_seed_and_block_and_on_nothing_else():
    def drawn(seed: int, before: str | None = None) -> torch.Tensor:
        model = tiny_model()
        for name in (before, "text.1"):
            if name is not None:
                redraw(*chosen_blocks(model, [name]), seed)
        return model.text.layers[1].mlp.up_proj.weight.clone()

    assert torch.equal(drawn(0), drawn(0, before="projector"))
    assert not torch.equal(drawn(0), drawn(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("end", [None, KeyboardInterrupt, RuntimeError])
def test_weights_come_back_bit_for_bit_however_the_loan_ends(dtype, end):
    model = tiny_model(tied=False)
    model.hf.to(dtype)
    before = state_of(model.hf)

    def use() -> None:
        with lent(model, blocks_of(model)) as loan:
            for seed in (0, 1):
                for block in blocks_of(model):
                    loan.redraw(block, seed)
            assert state_of(model.hf)[0] != before[0]
            if end is not None:
                raise end

    if end is None:
        use()
    else:
        with pytest.raises(end):
            use()
    assert state_of(model.hf) == before


def test_an_interruption_during_the_return_waits_until_everything_is_back(monkeypatch):
    model = tiny_model()
    before, calls = state_of(model.hf), iter(range(1000))
    honest = torch.frombuffer

    def interrupted(*args: Any, **kwargs: Any) -> torch.Tensor:
        if next(calls) in (2, 9):
            raise KeyboardInterrupt
        return honest(*args, **kwargs)

    monkeypatch.setattr(torch, "frombuffer", interrupted)

    def use() -> None:
        with lent(model, blocks_of(model)) as loan:
            for block in blocks_of(model):
                loan.redraw(block, 0)

    with pytest.raises(KeyboardInterrupt):
        use()
    assert state_of(model.hf) == before


def all_random(model: Any) -> None:
    """A loan in which every block is drawn anew."""
    with lent(model, blocks_of(model)) as loan:
        for block in blocks_of(model):
            loan.redraw(block, 0)


def test_an_interruption_on_the_first_step_of_the_return_does_not_keep_the_rest_from_coming_back(monkeypatch):
    model = tiny_model()
    before, honest, calls = state_of(model.hf), Loan.restore, iter(range(100))

    def interrupted(loan: Loan) -> None:
        if next(calls) == 0:
            raise KeyboardInterrupt
        honest(loan)

    monkeypatch.setattr(Loan, "restore", interrupted)
    with pytest.raises(KeyboardInterrupt):
        all_random(model)
    assert state_of(model.hf) == before


def interrupted_at(place: int, use: Callable[[], None]) -> int:
    """Lines of the loan and of context managers that were passed before an interruption fell on the wanted one."""
    seen = 0

    def at_each_line(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename not in (weights.__file__, contextlib.__file__):
            return None
        if event in ("line", "return"):
            seen += 1
            if seen == place:
                sys.settrace(None)
                raise KeyboardInterrupt
        return at_each_line

    tracer = sys.gettrace()
    sys.settrace(at_each_line)
    try:
        use()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(tracer)
        torch.set_grad_enabled(True)  # it may fall into the end of torch's own `no_grad`
    return seen


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_weights_come_back_and_can_be_lent_again_after_an_interruption_at_any_line(monkeypatch):
    # A tracer may raise on the step that gives a lock back, where the interpreter lets no signal in.
    monkeypatch.setattr(weights, "_lending", contextlib.nullcontext())
    model = tiny_model()
    before, last = state_of(model.hf), blocks_of(model)[-2:]

    def use() -> None:
        with lent(model, last) as loan:
            for block in last:
                loan.redraw(block, 0)

    places = interrupted_at(0, use)
    assert places > 100
    for place in range(1, places + 1):
        assert interrupted_at(place, use) == place
        assert state_of(model.hf) == before, place
        use()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
# Where the signal falls between the opening of the nameless file and its `with`, the interpreter closes it and says so.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_weights_come_back_whenever_a_signal_falls_as_of_control_c():
    model = tiny_model(tied=False)
    before, start = state_of(model.hf), time.perf_counter()
    all_random(model)
    whole, interrupted = time.perf_counter() - start, 0
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for n in range(1, 41):
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, whole * n / 40)
                    all_random(model)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            assert state_of(model.hf) == before
    finally:
        signal.signal(signal.SIGALRM, previous)
        torch.set_grad_enabled(True)  # as above
    assert interrupted > 0


def test_weights_larger_than_a_piece_come_back_too(monkeypatch):
    monkeypatch.setattr(weights, "PIECE", 100)
    model = tiny_model()
    before = state_of(model.hf)
    with lent(model, blocks_of(model)) as loan:
        loan.redraw(blocks_of(model)[0], 0)
    assert state_of(model.hf) == before


class Largest(TorchDispatchMode):
    """The most bytes that any single operation has newly allocated."""

    bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() not in given:
            self.bytes = max(self.bytes, out.untyped_storage().nbytes())
        return out


def test_memory_beyond_the_model_stays_under_a_twentieth_of_it_with_every_block_random(demo):
    tracemalloc.start()
    try:
        with Largest() as torch_side, lent(demo, blocks_of(demo)) as loan:
            for block in blocks_of(demo):
                loan.redraw(block, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 < peak + torch_side.bytes <= 0.05 * model_bytes(demo)


def test_a_model_is_lent_to_one_only_and_may_be_lent_again():
    model = tiny_model()
    refused = []

    def try_too() -> None:
        with pytest.raises(VisualizerError, match="already"), lent(model, blocks_of(model)):
            pass
        refused.append(True)

    with lent(model, blocks_of(model)):
        thread = threading.Thread(target=try_too)
        thread.start()
        thread.join()
    assert refused
    with lent(model, blocks_of(model)):
        pass


def test_a_full_disk_is_told_before_any_weight_changes(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: usage(10, 10, 0))
    model = tiny_model()
    before = state_of(model.hf)
    with pytest.raises(VisualizerError, match="TMPDIR"), lent(model, blocks_of(model)):
        pass
    assert state_of(model.hf) == before


def test_originals_that_were_damaged_on_disk_are_an_error_and_never_loaded_in_silence():
    model = tiny_model()

    def use() -> None:
        with lent(model, blocks_of(model)) as loan:
            loan.redraw(blocks_of(model)[0], 0)
            loan.file.seek(10)
            loan.file.write(b"damage")

    with pytest.raises(VisualizerError, match=r"text\.2 could not be restored"):
        use()


@pytest.mark.parametrize(("names", "message"), [(["text.9"], "Did you mean"), ([], "No blocks")])
def test_blocks_that_are_not_there_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        chosen_blocks(tiny_model(), names)


def test_weights_that_are_packed_into_fewer_bits_cannot_be_drawn_anew():
    model = tiny_model()
    layer = model.text.layers[1].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(UnavailableError, match=r"packed into fewer bits .* without quantize"):
        chosen_blocks(model, None)
