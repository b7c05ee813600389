"""What may be taken of a GPU's memory is asked before it is taken; batches shrink where it is short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.heatmaps import probing
from medgemma_visualizer.heatmaps.probing import in_smaller_batches, score_masks, windows, within_memory
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.models import devices, loading
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import Gpu, free_bytes, limit_memory, limited_memory
from medgemma_visualizer.models.graphs import engine_of
from medgemma_visualizer.models.loading import demo_folder, enough_free, load_model
from medgemma_visualizer.models.sizes import KNOWN_SIZES, Size, size_of
from medgemma_visualizer.runs import league_of
from medgemma_visualizer.runs.plan import RunPlan, asked_of
from tests.heatmaps.conftest import read_tiny, tiny_model

GPU = torch.device("cuda", 0)


def test_a_limit_needs_a_gpu_and_a_size() -> None:
    with pytest.raises(InputError, match="bounds a GPU's memory, and the model goes to cpu"):
        load_model("demo", device="cpu", max_memory=4)
    for size in (0, -1, float("nan"), float("inf"), "12", True, None):
        with pytest.raises(InputError, match="max_memory is"):
            limit_memory(GPU, size)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"max_memory is '12'; give the GiB"):
        load_model("demo", device="cpu", max_memory="12")  # type: ignore[arg-type]


def test_weights_larger_than_the_limit_are_refused_with_their_size() -> None:
    size = size_of(demo_folder())
    assert size is not None
    whole, packed = size.gib(torch.bfloat16), size.gib(torch.bfloat16, "4bit")
    loading._refuse_too_large(size, "demo", whole * 1.01, torch.bfloat16, None)
    loading._refuse_too_large(size, "demo", packed * 1.01, torch.bfloat16, "4bit")
    for limit, number, quantize in ((whole * 0.99, torch.bfloat16, None), (whole * 1.9, torch.float32, None)):
        with pytest.raises(InputError, match=r"take about .* GiB and max_memory allows"):
            loading._refuse_too_large(size, "demo", limit, number, quantize)


@pytest.mark.parametrize(
    ("limit", "number", "quantize", "advice"),
    [
        (9, torch.float32, None, "dtype='bfloat16' (8.0 GiB) or quantize='8bit' (4.6 GiB) or quantize='4bit' (3.2"),
        (8, torch.bfloat16, None, "load them smaller: quantize='8bit' (4.6 GiB) or quantize='4bit' (3.2 GiB)."),
        (4, torch.bfloat16, None, "load them smaller: quantize='4bit' (3.2 GiB)."),
        (4, torch.bfloat16, "8bit", "load them smaller: quantize='4bit' (3.2 GiB)."),
        (3, torch.bfloat16, "4bit", "Allow more, or take a smaller model."),
    ],
)
def test_who_is_refused_is_told_what_was_not_done_yet_and_fits(
    limit: float, number: torch.dtype, quantize: str | None, advice: str
) -> None:
    with pytest.raises(InputError) as refused:
        loading._refuse_too_large(size_of(None, "google/medgemma-4b-it"), "m4b", limit, number, quantize)
    assert advice in str(refused.value)


def test_weights_are_counted_by_number_not_by_the_bytes_of_their_files(tmp_path: Path) -> None:
    held = {
        "layers.0.mlp.up_proj.weight": torch.zeros(64, 32),
        "embed_tokens.weight": torch.zeros(16, 32),
        "norm.weight": torch.ones(32),
        "filters.weight": torch.zeros(2, 3, 4, 4),
    }
    save_file(held, tmp_path / "model.safetensors")  # in float32
    size = size_of(tmp_path)
    assert size == Size(64 * 32, 16 * 32 + 32 + 96)
    assert size.gib(torch.bfloat16) * 2**30 == 2 * (64 * 32 + 640)
    assert size.gib(torch.bfloat16, "8bit") * 2**30 == 64 * 32 + 2 * 640
    assert size.gib(torch.bfloat16, "4bit") * 2**30 == 64 * 32 * 0.5625 + 2 * 640
    (tmp_path / "other.safetensors").write_bytes(b"no header")
    assert size_of(tmp_path) is None


def test_known_sizes_are_what_was_measured() -> None:
    """On a card 8.0 GiB in bfloat16, 4.7 in 8 bits, 3.2 in 4 (docs/performance.md)."""
    size = size_of(None, "google/medgemma-4b-it")
    assert size is not None
    found = [size.gib(torch.bfloat16, packed) for packed in (None, "8bit", "4bit")]
    assert found == pytest.approx([8.0, 4.7, 3.2], abs=0.07)
    assert set(KNOWN_SIZES) == set(loading.KNOWN_MODELS) - {"demo"}
    assert size_of(None, "somebody/else") is None


def test_auto_asks_less_of_a_card_where_the_model_may_take_less() -> None:
    name = "google/medgemma-4b-it"
    assert (enough_free(name), enough_free("demo"), enough_free(name, 3)) == (15, 1, 3)
    assert enough_free(name, quantize="8bit") == pytest.approx(6.6, abs=0.1)
    assert enough_free(name, quantize="4bit") == pytest.approx(5.2, abs=0.1)
    assert enough_free(name, max_memory=14) == pytest.approx(10, abs=0.1)
    assert enough_free(name, max_memory=14, dtype="float32") == 14
    assert enough_free(name, max_memory=9) == 9
    assert enough_free("somebody/else", max_memory=40, quantize="8bit") == 15
    for number in ("12", -1, True, float("nan")):
        with pytest.raises(InputError, match="min_free_gb is"):
            enough_free(name, number)  # type: ignore[arg-type]


def test_a_card_of_16_gib_is_taken_where_the_model_is_to_take_less(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[torch.device] = []

    class Taken(Exception):
        pass

    def load(_source: str, _local: bool, device: torch.device, *_: Any, **__: Any) -> Any:
        asked.append(device)
        raise Taken

    monkeypatch.setattr(devices, "gpus", lambda: [Gpu(0, "RTX 4080", 14.6, 15.6)])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(loading, "_load", load)
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr("transformers.BitsAndBytesConfig", lambda **how: how)
    _fake_card(monkeypatch)
    for how in ({"max_memory": 14}, {"quantize": "8bit"}, {"quantize": "4bit", "max_memory": 12}):
        with pytest.raises(Taken):
            load_model("google/medgemma-4b-it", **how)  # type: ignore[arg-type]
    assert asked == [torch.device("cuda", 0)] * 3
    assert caplog.text == ""
    with pytest.raises(Taken):
        load_model("google/medgemma-4b-it")
    assert asked[-1] == torch.device("cpu")
    assert "14.6 of 15.6 GiB free, 15.0 are asked for; it is not used. --device cuda or --min-memory N" in caplog.text


@pytest.mark.parametrize("how", [{"max_memory": 14}, {"quantize": "8bit"}])
def test_what_needs_a_gpu_names_the_one_that_was_passed_over(
    how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: [Gpu(1, "RTX 4080", 14.6, 15.6)])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    told = r"goes to cpu\. GPU 1 \(RTX 4080\) has 14.6 of 15.6 GiB free: --device cuda .* takes it\. Or leave"
    with pytest.raises(InputError, match=told):
        load_model("google/medgemma-4b-it", min_free_gb=15, **how)
    monkeypatch.setattr(devices, "gpus", list)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(InputError, match=r"goes to cpu\. torch .* is a build without CUDA; .*\. Or leave"):
        load_model("google/medgemma-4b-it", **how)


def _fake_card(monkeypatch: pytest.MonkeyPatch, gib: int = 16) -> dict[int, float]:
    """Shares of a card of so many GiB that the process may take, as they are set."""
    shares: dict[int, float] = {}
    monkeypatch.setattr(devices, "_LIMITS", {})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=gib * 2**30))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, index: shares.update({index: share})
    )
    return shares


def test_a_refused_load_leaves_no_limit_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = _fake_card(monkeypatch)
    monkeypatch.setattr(loading, "choose_device", lambda *_: GPU)
    with pytest.raises(InputError, match="max_memory allows 4"):
        load_model("google/medgemma-4b-it", max_memory=4)
    assert (devices._LIMITS, shares) == ({}, {})

    def full(*_: Any, **__: Any) -> Any:
        assert devices._LIMITS == {0: 12 * 2**30}
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loading, "_load", full)
    with pytest.raises(VisualizerError, match=r"do not fit .* load them smaller: quantize='8bit' \(4.6 GiB\) or"):
        load_model("google/medgemma-4b-it", max_memory=12)
    assert (devices._LIMITS, shares) == ({}, {0: 1.0})
    limit_memory(GPU, 8)
    with pytest.raises(VisualizerError):
        load_model("google/medgemma-4b-it", max_memory=12)
    assert (devices._LIMITS, shares) == ({0: 8 * 2**30}, {0: 0.5})


def test_a_limit_holds_after_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = _fake_card(monkeypatch)
    with limited_memory(GPU, 4):
        assert shares == {0: 0.25}
    assert (devices._LIMITS, shares) == ({0: 4 * 2**30}, {0: 0.25})
    with limited_memory(GPU, None):
        pass
    assert shares == {0: 0.25}


def test_smaller_weights_need_a_known_name_a_gpu_and_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="8bit"):
        load_model("demo", device="cpu", quantize="8bits")
    for name, meant in (("int8", "8bit"), (8, "8bit"), ("nf4", "4bit"), ([4], "4bit")):
        with pytest.raises(InputError, match=f"Did you mean '{meant}'"):
            load_model("demo", device="cpu", quantize=name)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs a CUDA GPU, and the model goes to cpu"):
        load_model("demo", device="cpu", quantize="8bit")
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="needs the package bitsandbytes"):
        loading._quantizer("4bit", GPU, torch.bfloat16)


def test_smaller_weights_are_another_model_which_no_league_and_no_run_takes_for_its_own(
    demo: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "version", lambda name: f"1.0 of {name}")
    packed = loading._packed(demo, "4bit")
    assert packed.revision == f"{demo.revision}+4bit"
    assert packed.versions["bitsandbytes"] == "1.0 of bitsandbytes"
    assert league_of(demo) is not None
    assert league_of(packed) is None
    plan = RunPlan(("relevance",))
    assert asked_of(packed, plan) != asked_of(demo, plan)


def test_nobody_counts_a_processors_memory() -> None:
    assert free_bytes(torch.device("cpu")) is None


def test_a_batch_keeps_within_half_of_what_is_free() -> None:
    model = tiny_model()  # float32, 64 wide in its middle and 32 in its hidden states: 4 · (4 · 64 + 8 · 32) bytes
    assert within_memory(2048, model, None) == (2048, 2**26)
    assert within_memory(2048, model, 2**40) == (2048, 2**26)
    assert within_memory(2048, model, 4 * 2048 * 100) == (100, 4 * 2048 * 100 // 48)


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    asked: list[int] = []

    def work(size: int) -> int:
        asked.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return size

    fast = replace(read_tiny(tiny_model()), max_new_tokens=2)
    fast = replace(fast, model=replace(fast.model, fast=True))
    vars(fast)["pixel_values"] = read_tiny(fast.model).pixel_values
    assert fast.generated.ids
    held = engine_of(fast.model)
    assert in_smaller_batches(fast.model, 20, work) == 2
    assert asked == [20, 10, 5, 2]
    assert engine_of(fast.model) is not held  # what was captured is given up for it
    kept = engine_of(fast.model)
    assert in_smaller_batches(fast.model, 3, work) == 3
    assert engine_of(fast.model) is kept


def test_one_probe_that_does_not_fit_is_an_error_that_says_what_to_do() -> None:
    asked: list[int] = []

    def work(size: int) -> int:
        asked.append(size)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(VisualizerError, match="too small to score one altered picture"):
        in_smaller_batches(tiny_model(), 4, work)
    assert asked == [4, 2, 1, 1]  # the last time without what was captured


def test_scores_are_the_same_when_memory_runs_out_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = read_tiny(tiny_model())
    aim = resolve(reading, "contrast")
    masks = windows(reading.model.grid, 2, 1)
    expected = score_masks(reading, aim, masks)
    whole = probing.logits_at
    sizes: list[int] = []

    def small(model: Any, ids: Any, tokens: torch.Tensor, rows: Any) -> torch.Tensor:
        sizes.append(len(tokens))
        if len(tokens) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(model, ids, tokens, rows)

    monkeypatch.setattr(probing, "logits_at", small)
    np.testing.assert_allclose(score_masks(reading, aim, masks), expected, atol=1e-5)
    assert sizes[0] > 4 >= max(sizes[-2:])
