"""Gradients are taken at one activation only, from the target's rows, and the model does not notice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps import METHODS, resolve
from medgemma_visualizer.heatmaps.gradients import at_layer, at_tokens, first_row, gradient_at, with_tokens
from medgemma_visualizer.heatmaps.targets import score_tokens
from medgemma_visualizer.models.forward import logits_at
from medgemma_visualizer.models.trace import attention_kind
from tests.conftest import state_of
from tests.heatmaps.conftest import read_tiny, tiny_model
from tests.heatmaps.gradient_oracles import score_of_pixels

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("gradcam_single", {}),
    ("gradcam_multi_token", {}),
    ("gradcam_multi_token", {"layer": 0}),
    ("hires_cam", {}),
    ("hires_cam", {"layer": 0}),
    ("token_gradient", {}),
    ("gradient_norm", {}),
    ("integrated_gradients", {"steps": 4}),
    ("integrated_gradients", {"space": "pixels", "steps": 2}),
    ("smoothgrad", {"samples": 2}),
    ("activation_norm", {}),
    ("attention_rollout", {}),
    ("relevance", {}),
]


@pytest.mark.parametrize("target", ["contrast", "p_yes", "answer", "token:2", "word:w22"])
@pytest.mark.parametrize(("name", "options"), CALLS)
def test_every_method_maps_every_target_and_gives_the_model_back(
    small_reading: Any, name: str, options: dict[str, Any], target: str
) -> None:
    aim = resolve(small_reading, target)
    before = state_of(small_reading.model.hf)
    raw = METHODS[name].compute(small_reading, aim, **options)
    again = METHODS[name].compute(small_reading, aim, **options)
    assert raw.values.shape == small_reading.model.grid
    assert raw.values.dtype == "float32"
    assert torch.isfinite(torch.from_numpy(raw.values)).all()
    assert raw.values.max() > raw.values.min()
    assert (raw.values == again.values).all()
    assert state_of(small_reading.model.hf) == before
    assert all(p.grad is None and not p.requires_grad for p in small_reading.model.hf.parameters())


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_bf16_maps_agree_with_float32(name: str, options: dict[str, Any]) -> None:
    maps = []
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny_model()
        model.hf.to(dtype)
        reading = read_tiny(model)
        maps.append(torch.from_numpy(METHODS[name].compute(reading, resolve(reading, "contrast"), **options).values))
    assert torch.corrcoef(torch.stack([m.flatten() for m in maps]))[0, 1] > 0.98
    assert maps[1].dtype == torch.float32


@pytest.mark.parametrize(("name", "options"), [c for c in CALLS if c[0] != "activation_norm"])
def test_maps_do_not_depend_on_the_attention_implementation(
    small_reading: Any, name: str, options: dict[str, Any]
) -> None:
    aim = resolve(small_reading, "answer")
    usual = METHODS[name].compute(small_reading, aim, **options).values
    with attention_kind(small_reading.model, "eager"):
        eager = METHODS[name].compute(small_reading, aim, **options).values
        assert small_reading.model.text.config._attn_implementation == "eager"
    torch.testing.assert_close(torch.from_numpy(eager), torch.from_numpy(usual), atol=2e-5, rtol=1e-4)


def test_the_gradient_at_the_tokens_is_that_of_the_full_forward(tiny_reading: Any) -> None:
    aim = resolve(tiny_reading, "answer")
    kept: list[torch.Tensor] = []
    handle = tiny_reading.model.projector.register_forward_hook(lambda _m, _i, out: kept.append(out))
    score = score_of_pixels(tiny_reading, aim)(tiny_reading.pixel_values.clone().requires_grad_())
    handle.remove()
    (expected,) = torch.autograd.grad(score.sum(), kept[0])
    torch.testing.assert_close(at_tokens(tiny_reading, aim), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("layer", [0, 1, -1, -2])
def test_the_gradient_at_a_vision_layer_is_that_of_the_full_forward(tiny_reading: Any, layer: int) -> None:
    aim = resolve(tiny_reading, "contrast")
    kept: list[torch.Tensor] = []
    handle = tiny_reading.model.vision_layers[layer].register_forward_hook(lambda _m, _i, out: kept.append(out))
    score = score_of_pixels(tiny_reading, aim)(tiny_reading.pixel_values.clone().requires_grad_())
    handle.remove()
    (expected,) = torch.autograd.grad(score.sum(), kept[0])
    found = at_layer(tiny_reading, aim, layer)
    torch.testing.assert_close(found.gradient, expected[0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.values, kept[0][0].detach(), atol=1e-6, rtol=1e-5)
    assert found.grid[0] * found.grid[1] == len(found.values)


def test_a_batch_has_the_gradients_of_its_members(small_reading: Any) -> None:
    aim = resolve(small_reading, "answer")
    tokens = small_reading.image_tokens
    both = torch.cat([tokens, tokens * 0.5])
    scores, together = gradient_at(lambda leaf: score_tokens(small_reading, aim, leaf), both)
    alone = at_tokens(with_tokens(small_reading, tokens * 0.5), aim)
    torch.testing.assert_close(together[1:], alone, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(scores[:1], score_tokens(small_reading, aim, tokens))


def test_the_first_rows_gradient_is_that_of_its_own_log_probability(small_reading: Any) -> None:
    aim = resolve(small_reading, "answer")
    first = small_reading.generated.ids[0]

    def alone(leaf: torch.Tensor) -> torch.Tensor:
        return logits_at(small_reading.model, small_reading.ids(), leaf, aim.rows[:1]).log_softmax(-1)[:, 0, first]

    expected = gradient_at(alone, small_reading.image_tokens)[1] / len(aim.rows)
    torch.testing.assert_close(at_tokens(small_reading, first_row(aim)), expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("layer", [2, -3, "last", True])
def test_a_layer_that_is_not_there_is_refused(small_reading: Any, layer: Any) -> None:
    with pytest.raises(InputError, match=r"the model has 2, 0 to 1; or give 'projector'"):
        at_layer(small_reading, resolve(small_reading, "contrast"), layer)


def test_a_word_before_the_image_is_refused_with_the_reason() -> None:
    reading = read_tiny(tiny_model())
    aim = resolve(reading, "word:w22")
    text_first = read_tiny(reading.model, image_first=False)
    rows = tuple(p - 1 for p in text_first.prompt.question_positions)
    aim = type(aim)(type(aim.target)("prompt_word", "w22", rows), (), aim.score)
    for name in ("gradcam_multi_token", "token_gradient", "integrated_gradients", "attention_rollout", "relevance"):
        with pytest.raises(UnavailableError, match="before the image is read"):
            METHODS[name].compute(text_first, aim)


def test_an_untrained_projector_is_refused_with_the_reason() -> None:
    model = tiny_model()
    torch.nn.init.zeros_(model.projector.mm_input_projection_weight)
    reading = read_tiny(model)
    aim = resolve(reading, "contrast")
    for name in (
        "gradcam_multi_token",
        "gradcam_single",
        "hires_cam",
        "gradient_norm",
        "integrated_gradients",
        "relevance",
    ):
        with pytest.raises(UnavailableError, match="projector is not trained"):
            METHODS[name].compute(reading, aim)


def test_a_score_that_ignores_the_image_is_refused_with_the_reason(small_reading: Any) -> None:
    def constant(logits: torch.Tensor) -> torch.Tensor:
        return logits.new_zeros(len(logits))

    aim = resolve(small_reading, constant)
    for name in ("gradcam_multi_token", "gradient_norm", "integrated_gradients", "relevance"):
        with pytest.raises(UnavailableError, match="exactly zero"):
            METHODS[name].compute(small_reading, aim)


def test_the_model_is_given_back_after_an_error(small_reading: Any) -> None:
    def broken(logits: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("planned")

    aim = replace(resolve(small_reading, "contrast"), score=broken)  # resolved before it breaks
    before = state_of(small_reading.model.hf)
    for name, options in (("gradcam_multi_token", {"layer": 0}), ("relevance", {}), ("integrated_gradients", {})):
        with pytest.raises(RuntimeError, match="planned"):
            METHODS[name].compute(small_reading, aim, **options)
    assert state_of(small_reading.model.hf) == before


@pytest.mark.parametrize("name", ["hires_cam", "token_gradient", "integrated_gradients"])
def test_signed_maps_scale_and_turn_with_the_score(small_reading: Any, name: str) -> None:
    def plain(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, 0, 7]

    def turned(logits: torch.Tensor) -> torch.Tensor:
        return -3 * logits[:, 0, 7]

    maps = [
        torch.from_numpy(METHODS[name].compute(small_reading, resolve(small_reading, f)).values)
        for f in (plain, turned)
    ]
    torch.testing.assert_close(maps[1], -3 * maps[0], atol=1e-5, rtol=1e-3)
