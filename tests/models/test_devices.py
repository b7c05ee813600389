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
    assert "--device cuda or --min-memory N takes it" in caplog.text


def test_all_are_the_gpus_with_room_and_where_none_has_as_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    _cards(monkeypatch, 20.0, 3.0, 40.0)
    assert choose_devices("all", 15) == [torch.device("cuda", 0), torch.device("cuda", 2)]
    _cards(monkeypatch)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_devices("all", 15) == [torch.device("cpu")]


def test_all_warns_of_each_card_that_it_leaves_out_and_of_none_that_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    _cards(monkeypatch, 20.0, 3.0, 4.0)
    choose_devices("all", 15)
    assert [line.split(";")[0] for line in caplog.messages] == [
        "GPU 1 (card 1) has 3.0 of 80.0 GiB free, 15.0 are asked for",
        "GPU 2 (card 2) has 4.0 of 80.0 GiB free, 15.0 are asked for",
    ]
    assert all("--min-memory N" in line for line in caplog.messages)
    caplog.clear()
    _cards(monkeypatch, 3.0)
    choose_devices("all", 15)
    assert len(caplog.messages) == 2
    assert caplog.messages[-1] == "'all' finds no GPU with room. One model computes on cpu."
    caplog.clear()
    _cards(monkeypatch)
    _builds(monkeypatch, None)
    choose_devices("all", 15)
    (told,) = caplog.messages
    assert told.startswith("'all' finds no GPU (torch ")
    assert told.endswith("). One model computes on cpu.")


def _builds(monkeypatch: pytest.MonkeyPatch, cuda: str | None) -> None:
    """A torch that is built for this CUDA, on a machine where it finds no card."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)


@pytest.mark.parametrize(
    ("cuda", "reason"), [(None, "is a build without CUDA; pytorch.org"), ("12.8", "sees no driver or no card; `nvidia")]
)
def test_why_there_is_no_gpu_is_said(cuda: str | None, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _builds(monkeypatch, cuda)
    with pytest.raises(InputError, match=rf"'cuda:1' is not on this machine: torch .* {reason}.*Use one of: auto, "):
        choose_device("cuda:1")
    assert reason in devices.cuda_facts()["CUDA"]
    assert ("12.8" in devices.cuda_facts()["CUDA"]) == (cuda is not None)


def test_a_gpu_is_the_one_of_torch_and_names_are_names(monkeypatch: pytest.MonkeyPatch) -> None:
    _cards(monkeypatch, 20.0, 60.0)
    monkeypatch.setattr(devices, "available_devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    assert choose_device(torch.device("cuda")) == torch.device("cuda", 1)
    assert choose_device(torch.device("cuda", 0)) == torch.device("cuda", 0)
    assert choose_device(torch.device("cpu")) == torch.device("cpu")
    for given, told in ((1, "such as 'cuda:1'"), (None, "such as 'auto'"), (True, "such as 'auto'")):
        with pytest.raises(InputError, match=told):
            choose_device(given)  # type: ignore[arg-type]
    for given, meant in (("gpu", "cuda"), ("GPU", "cuda"), ("gpu:1", "cuda:1"), ("gpu0", "cuda:0")):
        with pytest.raises(InputError, match=f"Did you mean '{meant}'"):
            choose_device(given)


def test_number_formats_are_torchs_own_too_and_smaller_weights_are_none() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype(torch.bfloat16, cpu) is torch.bfloat16
    assert choose_dtype(torch.float32, cpu) is torch.float32
    with pytest.raises(InputError, match="65,504"):
        choose_dtype(torch.float16, cpu)
    with pytest.raises(InputError, match="names no number format"):
        choose_dtype(None, cpu)  # type: ignore[arg-type]
    for name, meant in (("int8", "8bit"), (torch.int8, "8bit"), ("4bit", "4bit"), ("nf4", "4bit"), ("8-bit", "8bit")):
        with pytest.raises(InputError, match=f"--quantize {meant}"):
            choose_dtype(name, cpu)


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
