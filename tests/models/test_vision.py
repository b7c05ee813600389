"""Image tokens are the tower's own, whichever picture, weight or hook comes next; they are captured on a GPU only."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from medgemma_visualizer.models.forward import image_tokens
from medgemma_visualizer.models.graphs import engine_of
from medgemma_visualizer.models.trace import attention_kind
from tests.heatmaps.conftest import VARIANTS, read_tiny, tiny_model
from tests.models.standing_in import recording


def pictures(model: Any, count: int = 5) -> list[torch.Tensor]:
    return [read_tiny(model, seed=seed).pixel_values for seed in range(count)]


def both(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The tiny model as the library runs it, and with its passes captured as on a GPU."""
    recording(monkeypatch)
    plain = tiny_model()
    return plain, replace(plain, fast=True)


def captured(model: Any) -> Any:
    """The graphs of the tower's pass."""
    return engine_of(model).tower._replay.graphs


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
    recording(monkeypatch, empty=empty)
    films = pictures(plain)
    found = [seen(fast, film) for film in films]  # launched, captured, replayed; looked at when all have been
    for film, tokens in zip(films, found, strict=True):
        torch.testing.assert_close(tokens, seen(plain, film), atol=0, rtol=0)
    assert (captured(fast) is None) is empty
    assert ("does nothing when it is replayed" in caplog.text) is empty


def test_weights_that_change_or_move_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fast = both(monkeypatch)
    film = pictures(plain)[0]
    before = [seen(fast, film) for _ in range(3)][-1]
    tower, weight = engine_of(fast).tower, plain.vision_layers[0].mlp.fc1.weight
    with torch.no_grad():
        weight.mul_(2)
    after = seen(fast, film)
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after, seen(plain, film), atol=0, rtol=0)
    weight.data = weight.data / 2
    torch.testing.assert_close(seen(fast, film), before, atol=0, rtol=0)
    assert engine_of(fast).tower is not tower


def _other_parameter(model: Any) -> None:
    layer = model.vision_layers[0].mlp.fc1
    layer.weight = torch.nn.Parameter(layer.weight * 2, requires_grad=False)


def _other_layer(model: Any) -> None:
    other = copy.deepcopy(model.vision_layers[1])
    torch.nn.init.normal_(other.mlp.fc1.weight)
    model.vision_layers[1] = other


def _assigned(model: Any) -> None:
    state = {name: weight * 1.5 for name, weight in model.projector.state_dict().items()}
    model.projector.load_state_dict(state, assign=True)
    model.projector.requires_grad_(False)


@pytest.mark.parametrize("change", [_other_parameter, _other_layer, _assigned])
def test_weights_and_layers_that_are_replaced_are_read(
    change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, fast = both(monkeypatch)
    film = pictures(plain)[0]
    before = [seen(fast, film) for _ in range(3)][-1]
    change(plain)
    for _ in range(3):
        after = seen(fast, film)
        assert not torch.allclose(after, before, atol=1e-3)
        torch.testing.assert_close(after, seen(plain, film), atol=0, rtol=0)


def test_pictures_of_another_size_or_number_format_are_not_read_by_the_same_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, fast = both(monkeypatch)
    film = pictures(plain)[0]
    for _ in range(2):
        for values in (film, film.double(), film):
            torch.testing.assert_close(seen(fast, values), seen(plain, values), atol=0, rtol=0)


def test_a_hook_in_the_tower_is_called_for_every_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fast = both(monkeypatch)
    films = pictures(plain)
    for film in films[:3]:
        seen(fast, film)
    heard: list[torch.Tensor] = []
    layer, projector = plain.vision_layers[-1], plain.projector
    waiting: list[Callable[[], Any]] = [
        lambda: layer.register_forward_hook(lambda _module, _given, out: heard.append(out)),
        lambda: projector.register_forward_hook(lambda _module, _given, out: heard.append(out)),
        lambda: layer.register_forward_pre_hook(lambda _module, given: heard.append(given)),
        lambda: register_module_forward_hook(lambda m, _given, out: heard.append(out) if m is layer else None),
    ]
    for n, hook in enumerate(waiting):
        handle = hook()
        for film in films:
            seen(fast, film)
        handle.remove()
        assert len(heard) == (n + 1) * len(films)
    torch.testing.assert_close(seen(fast, films[0]), seen(plain, films[0]), atol=0, rtol=0)
    assert len(heard) == len(waiting) * len(films)
    assert captured(fast) is not None


def test_hooks_that_the_library_leaves_behind_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny_model()
    fast = replace(plain, fast=True)
    film = pictures(plain)[0]
    plain.hf.get_submodule(plain.family.tower)(pixel_values=film, output_hidden_states=True)
    assert any(module._forward_hooks for module in plain.hf.get_submodule(plain.family.tower).modules())
    recording(monkeypatch)
    for _ in range(3):
        torch.testing.assert_close(seen(fast, film), seen(plain, film), atol=0, rtol=0)
    assert captured(fast) is not None


def test_what_cannot_be_replayed_is_left_to_the_tower() -> None:
    plain = tiny_model()
    fast = replace(plain, fast=True)
    film = pictures(plain)[0]
    leaf = film.clone().requires_grad_()
    (slope,) = torch.autograd.grad(image_tokens(fast, leaf).square().sum(), leaf)
    assert slope.abs().sum() > 0
    assert seen(fast, film.expand(3, -1, -1, -1)).shape[0] == 3
    config = plain.hf.get_submodule(plain.family.tower).config
    with attention_kind(fast, "eager"), torch.autocast("cpu", dtype=torch.bfloat16):
        seen(fast, film)
    config._attn_implementation = "eager"
    seen(fast, film)
    config._attn_implementation = "sdpa"
    seen(plain, film)
    assert engine_of(fast).tower is None
    seen(fast, film)
    assert engine_of(fast).tower is not None


def test_inference_mode_and_autocast_get_their_own_tokens_and_leave_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, fast = both(monkeypatch)
    film = pictures(plain)[0]
    for _ in range(3):
        with torch.inference_mode():
            torch.testing.assert_close(image_tokens(fast, film), image_tokens(plain, film), atol=0, rtol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(seen(fast, film), seen(plain, film), atol=0, rtol=0)
        torch.testing.assert_close(seen(fast, film), seen(plain, film), atol=0, rtol=0)


@pytest.mark.gpu
def test_a_captured_tower_equals_the_launched_one_on_a_gpu() -> None:
    plain = tiny_model()
    plain = replace(plain, hf=plain.hf.to("cuda"))
    fast = replace(plain, fast=True)
    films = [film.to("cuda") for film in pictures(plain)]
    found = [seen(fast, film) for film in films]
    for film, tokens in zip(films, found, strict=True):
        torch.testing.assert_close(tokens, seen(plain, film), atol=1e-5, rtol=1e-4)
    assert captured(fast) is not None
    assert engine_of(fast).tower.bytes > 0
    with torch.cuda.stream(torch.cuda.Stream()):
        assert engine_of(fast) is None
