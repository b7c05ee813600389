"""Relevance and rollout equal the papers' matrix products, written out on a model of two layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import resolve
from medgemma_visualizer.heatmaps.attention_rollout import attention_rollout
from medgemma_visualizer.heatmaps.cross_attention import cross_attention
from medgemma_visualizer.heatmaps.relevance import relevance
from medgemma_visualizer.models.forward import decode_embeddings, embed
from medgemma_visualizer.models.trace import attention_kind, attention_matrices
from tests.conftest import state_of
from tests.heatmaps.conftest import GLOBAL, LOCAL, read_tiny, tiny_model

TARGETS = ["contrast", "answer", "token:3", "word:w22"]
MODELS = {"shared keys": {"kv_heads": 2}, "one key head": {"kv_heads": 1}, "own keys": {"kv_heads": 4}}


@pytest.fixture(params=MODELS)
def two_layers(request: pytest.FixtureRequest) -> Any:
    return read_tiny(tiny_model(layers=(LOCAL, GLOBAL), **MODELS[request.param]))


def _eager(reading: Any, aim: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Attention (H, S, S) of each layer from the library's eager implementation, and the score's gradient in it."""
    ids = reading.ids(aim.forced)[None]
    kinds = (ids == reading.model.image_token_id).long()
    pixels = reading.pixel_values.clone().requires_grad_()
    with attention_kind(reading.model, "eager"):
        out = reading.model.hf(
            input_ids=ids, pixel_values=pixels, token_type_ids=kinds, output_attentions=True, use_cache=False
        )
    slopes = torch.autograd.grad(aim.score(out.logits[:, list(aim.rows)]).sum(), out.attentions)
    return [a.detach()[0] for a in out.attentions], [s[0] for s in slopes]


def _rows(matrix: torch.Tensor, reading: Any, aim: Any) -> np.ndarray:
    return matrix[list(aim.rows)].mean(0)[list(reading.prompt.image_positions)].reshape(reading.model.grid).numpy()


@pytest.mark.parametrize("target", TARGETS)
def test_relevance_is_the_update_of_chefer_with_full_matrices(two_layers: Any, target: str) -> None:
    aim = resolve(two_layers, target)
    (low, high), (slope_low, slope_high) = _eager(two_layers, aim)
    first = (slope_low * low).clamp(min=0).mean(0)  # (S, S)
    second = (slope_high * high).clamp(min=0).mean(0)
    held = torch.eye(len(first))
    held = held + first @ held
    held = held + second @ held
    raw = relevance(two_layers, aim)
    np.testing.assert_allclose(raw.values, _rows(held, two_layers, aim), atol=1e-6)
    assert raw.values.min() >= 0
    words = list(two_layers.prompt.question_positions)
    beside = (held - torch.eye(len(held)))[list(aim.rows)].mean(0)[words]
    np.testing.assert_allclose(raw.extras["question_relevance"], beside.numpy(), atol=1e-6)
    total = raw.values.sum() + beside.sum()
    assert raw.extras["image_share"] == pytest.approx(float(raw.values.sum() / total), abs=1e-5)


@pytest.mark.parametrize("residual", [0.5, 0.2])
@pytest.mark.parametrize("target", TARGETS)
def test_rollout_is_the_product_with_the_top_layer_on_the_left(two_layers: Any, target: str, residual: float) -> None:
    aim = resolve(two_layers, target)
    (low, high), _ = _eager(two_layers, aim)
    eye = torch.eye(low.shape[-1])
    first, second = (residual * eye + (1 - residual) * a.mean(0) for a in (low, high))
    raw = attention_rollout(two_layers, aim, residual=residual)
    np.testing.assert_allclose(raw.values, _rows(second @ first, two_layers, aim), atol=1e-6)
    assert not np.allclose(raw.values, _rows(first @ second, two_layers, aim), atol=1e-4)
    assert 0 < raw.extras["share_on_image"] <= 1


def test_rollout_of_one_layer_without_residual_is_its_mean_attention() -> None:
    reading = read_tiny(tiny_model(layers=(GLOBAL,)))
    aim = resolve(reading, "contrast")
    rolled = attention_rollout(reading, aim, residual=0.0).values
    np.testing.assert_allclose(rolled, cross_attention(reading, aim).values, atol=1e-6)


def test_matrices_are_the_eager_implementations(tiny_reading: Any) -> None:
    aim = resolve(tiny_reading, "answer")
    expected, _ = _eager(tiny_reading, aim)
    before = state_of(tiny_reading.model.hf)
    ids = tiny_reading.ids(aim.forced)
    with torch.no_grad(), attention_matrices(tiny_reading.model) as found:
        states = decode_embeddings(tiny_reading.model, embed(tiny_reading.model, ids, tiny_reading.image_tokens), ids)
    with torch.no_grad():
        usual = decode_embeddings(tiny_reading.model, embed(tiny_reading.model, ids, tiny_reading.image_tokens), ids)
    assert len(found) == len(expected) == tiny_reading.model.n_layers
    for ours, eager in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, eager, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(states, usual, atol=1e-5, rtol=1e-4)
    assert state_of(tiny_reading.model.hf) == before


def test_the_order_of_heads_does_not_matter() -> None:
    """Heads and the output's columns permuted alike: another way of writing the same model."""
    maps = []
    for permuted in (False, True):
        model = tiny_model(layers=(GLOBAL, GLOBAL), kv_heads=4)
        if permuted:
            _permute_heads(model, [2, 0, 3, 1])
        reading = read_tiny(model)
        aim = resolve(reading, "contrast")
        maps.append((relevance(reading, aim).values, attention_rollout(reading, aim).values))
    for one, other in zip(*maps, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def _permute_heads(model: Any, order: list[int]) -> None:
    for layer in model.text.layers:
        attention = layer.self_attn
        width = attention.head_dim
        places = torch.cat([torch.arange(h * width, (h + 1) * width) for h in order])
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            projection.weight.data = projection.weight.data[places]
        attention.o_proj.weight.data = attention.o_proj.weight.data[:, places]


@pytest.mark.parametrize("residual", [-0.1, 1.0])
def test_a_residual_that_is_no_share_is_refused(small_reading: Any, residual: float) -> None:
    with pytest.raises(InputError, match="residual"):
        attention_rollout(small_reading, resolve(small_reading, "contrast"), residual=residual)
