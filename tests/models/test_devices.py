"""The freest GPU is chosen when it has room; names are checked before anything is loaded."""

from __future__ import annotations

import logging

import pytest
import torch

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.models import devices
from medgemma_visualizer.models.devices import (
    Gpu,
    choose_device,
    choose_devices,
    choose_dtype,
    on_device,
    select_best_gpu,
)


def _cards(monkeypatch: pytest.MonkeyPatch, *free: float) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: [Gpu(n, f"card {n}", gb, 80.0) for n, gb in enumerate(free)])


def test_the_freest_gpu_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    _cards(monkeypatch, 20.0, 60.0, 40.0)
    assert select_best_gpu(15) == 1
    assert choose_device("auto", 15) == torch.device("cuda", 1)


def test_a_gpu_without_room_is_passed_over_with_its_figures(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _cards(monkeypatch, 3.5)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto", 15) == torch.device("cpu")
    assert "3.5" in caplog.text
    assert "15.0" in caplog.text


def test_all_are_the_gpus_with_room_and_where_none_has_as_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    _cards(monkeypatch, 20.0, 3.0, 40.0)
    assert choose_devices("all", 15) == [torch.device("cuda", 0), torch.device("cuda", 2)]
    _cards(monkeypatch)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_devices("all", 15) == [torch.device("cpu")]


def test_several_are_named_with_commas_and_no_gpu_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    assert choose_devices("cuda:1, cuda:0") == [torch.device("cuda", 1), torch.device("cuda", 0)]
    assert choose_devices("cpu,cpu") == [torch.device("cpu")] * 2
    with pytest.raises(InputError, match="'cuda:0' is named twice in 'cuda:0,cuda:1,cuda:0'"):
        choose_devices("cuda:0,cuda:1,cuda:0")
    with pytest.raises(InputError, match="'cuda:7' is not on this machine"):
        choose_devices("cuda:0,cuda:7")
    with pytest.raises(InputError, match="Unknown device ''"):
        choose_devices("cuda:0,")


def test_a_gpu_is_the_current_one_inside_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now: list[object] = []

    class Current:
        def __init__(self, device: torch.device) -> None:
            self.device = device

        def __enter__(self) -> None:
            now.append(self.device)

        def __exit__(self, *_: object) -> None:
            now.pop()

    monkeypatch.setattr(torch.cuda, "device", Current)
    with on_device(torch.device("cuda", 1)):
        assert now == [torch.device("cuda", 1)]
        with on_device(torch.device("cpu")):
            assert now == [torch.device("cuda", 1)]
    assert now == []


def test_an_unknown_device_offers_the_closest() -> None:
    with pytest.raises(InputError, match="Did you mean 'cpu'"):
        choose_device("cpuu")


def test_a_device_that_is_not_here_names_those_that_are() -> None:
    with pytest.raises(InputError, match=r"not on this machine.*cpu"):
        choose_device("cuda:97")


def test_float16_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="65,504"):
        choose_dtype("float16", torch.device("cpu"))


def test_auto_is_float32_on_the_cpu_and_bfloat16_on_a_gpu() -> None:
    assert choose_dtype("auto", torch.device("cpu")) is torch.float32
    assert choose_dtype("auto", torch.device("cuda")) is torch.bfloat16


def test_an_unknown_number_format_is_refused() -> None:
    with pytest.raises(InputError, match="Did you mean 'float32'"):
        choose_dtype("float3", torch.device("cpu"))
