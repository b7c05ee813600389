"""What the benchmarks of a GPU say: nothing wrong goes by, memory counts from nothing, and no card is told plainly."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import appendix_c
import batches
import folder
import gpu
import methods
import quantised
import region_search
from medgemma_visualizer.models import graphs

FINE = {"rows": 1e-6, "logits": 1e-6, "gradient": 1e-6, "same answer": 1.0}


def record_in(path: Path) -> gpu.Record:
    return gpu.Record(path, (), {})


def test_what_is_within_its_bounds_is_fine() -> None:
    assert gpu.missed(FINE, gpu.FLOAT32) == gpu.missed(FINE, gpu.BFLOAT16) == []


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("value", [0.5, math.nan, None])
def test_what_is_beyond_its_bound_or_no_number_or_not_there_is_told(name: str, value: float | None) -> None:
    found = {key: old for key, old in FINE.items() if key != name} | ({} if value is None else {name: value})
    (told,) = gpu.missed(found, gpu.BFLOAT16)
    assert told.startswith(name)


def test_the_fast_decoder_of_the_embedded_model_is_within_the_bounds_of_float32(demo: Any, cases: Any) -> None:
    found = gpu.compared(replace(demo, fast=True), cases[0])
    assert gpu.missed(found, gpu.FLOAT32) == []
    assert found["gradient"] > 0  # two decoders were compared


@pytest.mark.parametrize("wrong", [1e-4, math.nan])
def test_rows_that_are_wrong_are_beyond_the_bound(
    wrong: float, demo: Any, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = gpu.attention_rows

    def spoilt(*told: Any) -> Any:
        traced = ask(*told)
        return replace(traced, weights=traced.weights + wrong)

    monkeypatch.setattr(gpu, "attention_rows", spoilt)
    (told,) = gpu.missed(gpu.compared(replace(demo, fast=True), cases[0], times=1), gpu.FLOAT32)
    assert told.startswith("rows")


def test_what_goes_together_is_within_the_bounds_and_a_gradient_that_is_no_number_is_not(
    demo: Any, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(demo, fast=True)
    readings = [gpu.reading_of(model, case) for case in cases[:2]]
    assert gpu.missed(batches.compared(model, readings), batches.TOGETHER32) == []
    monkeypatch.setattr(batches, "off", lambda found, wanted: math.nan)
    told = gpu.missed(batches.compared(model, readings), batches.TOGETHER32)
    assert [one.split(" nan")[0] for one in told] == ["first logits", "gradient"]


def test_a_figure_beyond_its_bound_ends_the_benchmark_with_one_and_is_written(tmp_path: Path) -> None:
    record = record_in(tmp_path)
    record.note("compared", lambda: FINE | {"rows": 1.0}, bounds=gpu.FLOAT32)
    record.note("other", lambda: {"ms": 3.0})
    with pytest.raises(SystemExit, match="compared: rows 1, wanted ≤ 1e-05"):
        record.end()
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert kept["other"] == {"ms": 3.0}
    assert kept["wrong"] == ["compared: rows 1, wanted ≤ 1e-05"]


def test_a_part_that_failed_ends_the_benchmark_with_one(tmp_path: Path) -> None:
    record = record_in(tmp_path)
    record.note("broken", lambda: 1 / 0)
    record.note("asked of another process", lambda: {"load": {"error": "Traceback\n  File\nKeyError: 3\n"}})
    record.note("fine", lambda: FINE, bounds=gpu.FLOAT32)
    with pytest.raises(SystemExit) as ended:
        record.end()
    assert "broken: failed: ZeroDivisionError" in str(ended.value)
    assert "asked of another process: load: KeyError: 3" in str(ended.value)
    assert "fine" not in str(ended.value)


def test_where_all_is_fine_the_benchmark_ends_as_usual(tmp_path: Path) -> None:
    record = record_in(tmp_path)
    record.note("fine", lambda: FINE, bounds=gpu.FLOAT32)
    record.note("every method once", lambda: {"gradcam": {"reason": "all negative"}})
    record.note("nothing there", lambda: None)
    record.end()
    assert json.loads((tmp_path / "gpu.json").read_text())["wrong"] == []


# -- memory and seconds of what is captured ----------------------------------------------------------------------------


@pytest.fixture
def captured(demo: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Something captured of the embedded model; whether it still is."""
    monkeypatch.setitem(graphs._engines, demo.hf, SimpleNamespace(passes={}))
    return lambda: demo.hf in graphs._engines


def test_memory_of_a_step_is_counted_with_nothing_captured(
    demo: Any, captured: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    monkeypatch.setattr(gpu, "peak_gib", lambda _work: there.append(captured()) or 0.0)
    on_a_card: Any = SimpleNamespace(device=torch.device("cuda"), hf=demo.hf, fast=True)
    appendix_c.peak_mb(lambda: None, on_a_card)
    assert there == [False]


def test_seconds_of_a_new_shape_begin_with_nothing_captured(
    demo: Any, captured: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(gpu, "reading_of", lambda *_: None)
    monkeypatch.setattr(gpu, "engine_of", lambda model: graphs._engines[model.hf])
    monkeypatch.setattr(gpu, "whole", lambda _reading: there.append(captured()))
    gpu.capture_seconds(demo, None)
    assert not any(there)


def test_memory_of_an_analysis_is_counted_with_nothing_captured(
    demo: Any, captured: Callable[[], bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there: list[bool] = []
    for name in ("compared", "capture_seconds", "parts", "timed", "reading_of", "steps_of"):
        monkeypatch.setattr(gpu, name, lambda *_: FINE)
    monkeypatch.setattr(gpu, "engine_of", lambda model: graphs._engines[model.hf])
    monkeypatch.setattr(gpu, "peak_gib", lambda _work: there.append(captured()) or 0.0)
    gpu.of_the_package(record_in(tmp_path), demo, None, None, ())  # type: ignore[arg-type]
    assert there == [False]


def test_nobody_asks_for_the_fast_path_where_it_is_to_be_left_out(demo: Any) -> None:
    with methods.unasked():
        asking = [
            name
            for name, module in list(sys.modules.items())
            if name.startswith("medgemma_visualizer") and getattr(module, "engine_of", None) is graphs_engine_of
        ]
    assert asking == []


graphs_engine_of = graphs.engine_of


# -- without a card ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        (quantised, (), "none is here, and `medgemma-visualizer info` says why"),
        (gpu, (), "No CUDA device is here"),
        (batches, (), "No CUDA device is here"),
        (folder, ("FOLDER",), "'cuda' is not on this machine"),
        (region_search, ("--device", "cuda"), "'cuda' is not on this machine"),
    ],
)
def test_a_benchmark_without_a_card_says_so_in_a_sentence_and_writes_nothing(
    script: ModuleType, words: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medgemma_visualizer.models.loading import demo_folder

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["x.py", *(str(demo_folder()) if word == "FOLDER" else word for word in words)])
    with pytest.raises(SystemExit, match=told):
        script.main()
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_is_told_before_a_checkpoint_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(quantised, "build", lambda: pytest.fail("A checkpoint is made."))
    monkeypatch.setattr(sys, "argv", ["quantised.py"])
    with pytest.raises(SystemExit, match="pip install bitsandbytes"):
        quantised.main()


def test_maps_of_an_earlier_run_are_not_taken_for_those_of_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "maps-8bit.npz").write_bytes(b"of yesterday")
    monkeypatch.setattr(quantised, "in_a_process", lambda *_: {"error": "out of memory"})
    assert quantised.measured(tmp_path, tmp_path, "8bit") == {"error": "out of memory"}


def test_a_machine_without_the_cards_own_program_has_no_clocks_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert gpu.clocks().startswith("not known")
