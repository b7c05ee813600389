"""What may be taken of a GPU's memory is asked before it is taken; batches shrink where it is short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.heatmaps import probing
from medgemma_visualizer.heatmaps.probing import in_smaller_batches, score_masks, windows, within_memory
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.models import loading
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import free_bytes, limit_memory
from medgemma_visualizer.models.loading import demo_folder, load_model
from medgemma_visualizer.runs import league_of
from medgemma_visualizer.runs.plan import RunPlan, asked_of
from tests.heatmaps.conftest import read_tiny, tiny_model

GPU = torch.device("cuda", 0)


def test_a_limit_needs_a_gpu_and_a_size() -> None:
    with pytest.raises(InputError, match="bounds a GPU's memory, and the model goes to cpu"):
        load_model("demo", device="cpu", max_memory=4)
    for size in (0, -1, float("nan")):
        with pytest.raises(InputError, match="max_memory is"):
            limit_memory(GPU, size)


def test_weights_larger_than_the_limit_are_refused_with_their_size() -> None:
    size = sum(file.stat().st_size for file in demo_folder().glob("*.safetensors")) / 2**30
    loading._refuse_too_large(demo_folder(), "demo", size * 1.01, torch.bfloat16, None)
    loading._refuse_too_large(demo_folder(), "demo", size * 0.3, torch.bfloat16, "4bit")
    for limit, number, quantize in ((size * 0.99, torch.bfloat16, None), (size * 1.9, torch.float32, None)):
        with pytest.raises(InputError, match=r"take about .* GiB and max_memory allows"):
            loading._refuse_too_large(demo_folder(), "demo", limit, number, quantize)


def test_smaller_weights_need_a_known_name_a_gpu_and_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="8bit"):
        load_model("demo", device="cpu", quantize="8bits")
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

    assert in_smaller_batches(20, work) == 2
    assert asked == [20, 10, 5, 2]


def test_one_probe_that_does_not_fit_is_an_error_that_says_what_to_do() -> None:
    def work(size: int) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(VisualizerError, match="too small to score one altered picture"):
        in_smaller_batches(4, work)


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
