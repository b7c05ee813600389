"""Image tokens are the tower's own, whichever picture, weight or hook comes next; they are captured on a GPU only."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch

from medgemma_visualizer.models import vision
from medgemma_visualizer.models.forward import image_tokens
from medgemma_visualizer.models.trace import attention_kind
from tests.heatmaps.conftest import VARIANTS, read_tiny, tiny_model
from tests.models.test_graphs import _recording


def pictures(model: Any, count: int = 5) -> list[torch.Tensor]:
    return [read_tiny(model, seed=seed).pixel_values for seed in range(count)]


def seen(model: Any, values: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return image_tokens(model, values)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_picture_has_its_own_tokens_captured_or_not(
    variant: str, empty: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = tiny_model(**VARIANTS[variant])
    fast = replace(plain, fast=True)
    _recording(monkeypatch, empty=empty)
    films = pictures(plain)
    found = [seen(fast, film) for film in films]  # launched, captured, replayed; looked at when all have been
    for film, tokens in zip(films, found, strict=True):
        torch.testing.assert_close(tokens, seen(plain, film), atol=0, rtol=0)
    assert (vision._towers[fast.hf]._replay.graphs is None) is empty
    assert ("does nothing when it is replayed" in caplog.text) is empty


def test_weights_that_change_or_move_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny_model()
    fast = replace(plain, fast=True)
    _recording(monkeypatch, empty=False)
    film = pictures(plain)[0]
    before = [seen(fast, film) for _ in range(3)][-1]
    tower, weight = vision._towers[fast.hf], plain.vision_layers[0].mlp.fc1.weight
    with torch.no_grad():
        weight.mul_(2)
    after = seen(fast, film)
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after, seen(plain, film), atol=0, rtol=0)
    weight.data = weight.data / 2
    torch.testing.assert_close(seen(fast, film), before, atol=0, rtol=0)
    assert vision._towers[fast.hf] is not tower


def test_a_hook_in_the_tower_is_called_for_every_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny_model()
    fast = replace(plain, fast=True)
    _recording(monkeypatch, empty=False)
    films = pictures(plain)
    for film in films[:3]:
        seen(fast, film)
    heard: list[torch.Tensor] = []
    for part in (plain.vision_layers[-1], plain.projector):
        handle = part.register_forward_hook(lambda _module, _given, out: heard.append(out))
        for film in films:
            seen(fast, film)
        handle.remove()
    assert len(heard) == 2 * len(films)
    seen(fast, films[0])
    assert len(heard) == 2 * len(films)


def test_hooks_that_the_library_leaves_behind_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny_model()
    fast = replace(plain, fast=True)
    film = pictures(plain)[0]
    plain.hf.get_submodule(plain.family.tower)(pixel_values=film, output_hidden_states=True)
    assert any(module._forward_hooks for module in plain.hf.get_submodule(plain.family.tower).modules())
    _recording(monkeypatch, empty=False)
    for _ in range(3):
        torch.testing.assert_close(seen(fast, film), seen(plain, film), atol=0, rtol=0)
    assert vision._towers[fast.hf]._replay.graphs is not None


def test_what_cannot_be_replayed_is_left_to_the_tower() -> None:
    plain = tiny_model()
    fast = replace(plain, fast=True)
    film = pictures(plain)[0]
    leaf = film.clone().requires_grad_()
    (slope,) = torch.autograd.grad(image_tokens(fast, leaf).square().sum(), leaf)
    assert slope.abs().sum() > 0
    assert seen(fast, film.expand(3, -1, -1, -1)).shape[0] == 3
    with attention_kind(fast, "eager"):
        seen(fast, film)
    seen(plain, film)
    assert plain.hf not in vision._towers
    seen(fast, film)
    assert plain.hf in vision._towers


def test_a_captured_tower_goes_with_its_model() -> None:
    plain = tiny_model()
    seen(replace(plain, fast=True), pictures(plain)[0])
    before = len(vision._towers)
    del plain
    gc.collect()
    assert len(vision._towers) < before


@pytest.mark.gpu
def test_a_captured_tower_equals_the_launched_one_on_a_gpu() -> None:
    plain = tiny_model()
    plain = replace(plain, hf=plain.hf.to("cuda"))
    fast = replace(plain, fast=True)
    films = [film.to("cuda") for film in pictures(plain)]
    found = [seen(fast, film) for film in films]
    for film, tokens in zip(films, found, strict=True):
        torch.testing.assert_close(tokens, seen(plain, film), atol=1e-5, rtol=1e-4)
    assert vision._towers[fast.hf]._replay.graphs is not None
    with torch.cuda.stream(torch.cuda.Stream()):
        before = vision._towers[fast.hf]._tokens.clone()
        seen(fast, films[0])
        torch.testing.assert_close(vision._towers[fast.hf]._tokens, before, atol=0, rtol=0)
