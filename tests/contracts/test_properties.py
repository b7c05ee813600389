"""Laws that no method may break, whatever it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.heatmaps import METHODS, resolve
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.forward import logits_at
from medgemma_visualizer.models.reading import Reading
from tests.contracts.conftest import difference
from tests.heatmaps.conftest import GLOBAL, read_tiny, tiny_model

CELL = (2, 1)

#: Methods that ask what the score owes to a place, with options for a grid of 4 × 4 cells.
CAUSAL: dict[str, dict[str, Any]] = {
    "attention_knockout": {"window": 1},
    "cross_attention": {},
    "gradient_norm": {},
    "integrated_gradients": {"steps": 64},
    "occlusion": {"window": 1},
    "region_search": {"per_side": 4},
    "relevance": {},
    "attention_rollout": {},
    "rise": {"coarse": 4},
    "shapley": {"per_side": 4},
    "smoothgrad": {},
    "token_gradient": {},
    "consensus": {"methods": ("relevance", "token_gradient", "gradient_norm")},
}

#: Why the rest need not find the cell.
EXEMPT = {
    "activation_norm": "does not know the question",
    "tam": "reads what image tokens spell, not what the answer takes from them",
    "gradcam_multi_token": "pools the gradient over all places (Draelos & Carin 2020)",
    "gradcam_single": "pools the gradient over all places (Draelos & Carin 2020)",
    "hires_cam": "is refused: a normalisation follows the tokens",
}


def reader_of_one_cell() -> tuple[Reading, Any]:
    """One layer whose queries all seek feature 0, which only the token at CELL has; and a score that falls without it.

    Every other token has feature 0 with the other sign, so that its attention, and the slope of it, is about e⁻²⁰.
    """
    model = tiny_model(layers=(GLOBAL,))
    attention = model.text.layers[0].self_attn
    with torch.no_grad():
        model.text.get_input_embeddings().weight[:, 0] = -1
        for projection, feature in ((attention.q_proj, -1.0), (attention.k_proj, 1.0)):
            projection.weight.mul_(0.02)
            projection.weight[3::8, 0] = feature  # of each head's 8 dimensions the one that position turns least
        attention.q_norm.weight.fill_(1.0)
        attention.k_norm.weight.fill_(1.0)
    reading = read_tiny(model)
    reading.__dict__["image_tokens"] = _tokens(model)
    return reading, _towards_the_cell(reading)


def _tokens(model: Model) -> torch.Tensor:
    """Random image tokens (1, N, D); feature 0 is positive at CELL alone."""
    rows, cols = model.grid
    tokens = torch.randn(1, rows * cols, 32, generator=torch.Generator().manual_seed(3))
    tokens[..., 0] = -3
    tokens[0, CELL[0] * cols + CELL[1], 0] = 3
    return tokens


def _towards_the_cell(reading: Reading) -> Any:
    """The projection of the logits on what the token at CELL changes in them."""
    tokens, last = reading.image_tokens, [len(reading.prompt.ids) - 1]
    with torch.no_grad():
        seen = logits_at(reading.model, reading.ids(), tokens, last)
        blind = logits_at(reading.model, reading.ids(), tokens.mean(1, keepdim=True).expand_as(tokens), last)
    change = (seen - blind)[0, 0]
    return lambda logits: logits[:, 0] @ (change / change.norm()).to(logits.dtype)


def test_every_method_is_held_to_a_planted_cell_or_exempt_for_a_reason() -> None:
    assert set(METHODS) == set(CAUSAL) | set(EXEMPT)


@pytest.mark.parametrize("method", CAUSAL)
def test_the_only_cell_that_a_model_reads_is_the_one_found(method: str) -> None:
    reading, score = reader_of_one_cell()
    found = METHODS[method].compute(reading, resolve(reading, score), **CAUSAL[method]).values
    assert np.unravel_index(np.argmax(found), found.shape) == CELL


@pytest.mark.parametrize("method", ["attention_knockout", "gradient_norm", "occlusion", "relevance", "token_gradient"])
def test_cells_that_a_model_does_not_read_get_next_to_nothing(method: str) -> None:
    reading, score = reader_of_one_cell()
    found = np.abs(METHODS[method].compute(reading, resolve(reading, score), **CAUSAL[method]).values)
    assert np.sort(found.ravel())[-2] < 0.01 * found[CELL]


def test_gradient_times_token_is_refused_where_a_normalisation_makes_it_vanish() -> None:
    reading, score = reader_of_one_cell()
    with pytest.raises(UnavailableError, match="normalisation follows"):
        METHODS["hires_cam"].compute(reading, resolve(reading, score))


SIGNED: dict[str, dict[str, Any]] = {
    "attention_knockout": {"window": 2},
    "hires_cam": {},
    "integrated_gradients": {"steps": 16},
    "occlusion": {"window": 2},
    "rise": {"n": 32},
    "shapley": {"per_side": 2},
    "smoothgrad": {"samples": 2},
    "token_gradient": {},
}


def test_every_signed_method_is_held_to_the_law_of_scale() -> None:
    assert set(SIGNED) == {name for name, entry in METHODS.items() if entry.signed}


@pytest.mark.parametrize("factor", [-3.0, 0.25])
@pytest.mark.parametrize("method", SIGNED)
def test_a_signed_map_scales_and_turns_with_its_score(method: str, factor: float) -> None:
    reading = read_tiny(tiny_model())
    once, scaled = (
        METHODS[method].compute(reading, resolve(reading, score), **SIGNED[method]).values
        for score in (difference, lambda logits: factor * difference(logits))
    )
    np.testing.assert_allclose(scaled, factor * once, rtol=1e-3, atol=1e-5 * np.abs(once).max())


def permute_heads(model: Model, order: list[int]) -> None:
    """Gives every decoder layer its heads in another order, key heads with the queries that share them."""
    heads, keys = model.n_heads, model.text.config.num_key_value_heads
    queries = [h * (heads // keys) + n for h in order for n in range(heads // keys)]
    for layer in model.text.layers:
        attention = layer.self_attn
        for projection, wanted in ((attention.q_proj, queries), (attention.k_proj, order), (attention.v_proj, order)):
            weight = projection.weight.data
            projection.weight.data = weight.reshape(len(wanted), -1, weight.shape[1])[wanted].reshape(weight.shape)
        weight = attention.o_proj.weight.data  # (D, heads · head_dim)
        attention.o_proj.weight.data = weight.reshape(len(weight), heads, -1)[:, queries].reshape(weight.shape)


@pytest.mark.parametrize("method", ["cross_attention", "attention_rollout", "relevance", "gradient_norm", "occlusion"])
def test_the_order_of_heads_changes_no_mean_over_heads(method: str) -> None:
    reading = read_tiny(tiny_model(kv_heads=2))
    options = {"window": 2} if method == "occlusion" else {}
    before = METHODS[method].compute(reading, resolve(reading, difference), **options).values
    permute_heads(reading.model, [1, 0])
    after = METHODS[method].compute(reading, resolve(reading, difference), **options).values
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-5 * np.abs(before).max())


def test_a_selected_head_keeps_its_map_at_its_new_place() -> None:
    reading = read_tiny(tiny_model(kv_heads=2))
    aim = resolve(reading, difference)
    before = METHODS["cross_attention"].compute(reading, aim, heads=[0]).values
    permute_heads(reading.model, [1, 0])
    np.testing.assert_allclose(METHODS["cross_attention"].compute(reading, aim, heads=[2]).values, before, rtol=1e-4)
