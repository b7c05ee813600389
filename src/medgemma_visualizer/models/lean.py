"""Gemma 3's decoder as a short sequence of tensor operations over the loaded model's own weights.

The same function as the library's modules, with masks and rotations made beforehand and a place where keys, values and
queries can be seen or replaced, so that a pass can be captured, keep its attention or go on from what was kept. Knows
layers; knows nothing about answers, captures or maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.activations import ACT2FN
from transformers.models.gemma3 import modeling_gemma3 as gemma3

from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import on_device
from medgemma_visualizer.models.kernels import (
    add_norm,
    attend_one,
    gated_one,
    gelu_times,
    norm,
    norm_rotate,
    times_one,
)

#: Sees a layer's query (B, H, Q, d), key and value (B, H_kv, Q, d); gives the keys and values that are attended to.
Tap = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Places:
    """What the decoder must know of a sequence besides its embeddings, for each kind of layer.

    Attributes:
        rotations: cos and sin, each (1 or B, Q, d), in the model's dtype.
        masks: (1 or B, 1, G · Q, K) in the model's dtype, 0 or −inf, each row of positions once for each of the G query
            heads that share a key.
    """

    rotations: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    masks: Mapping[str, torch.Tensor]


def can_run(model: Model) -> bool:
    """Whether this decoder computes what the model's own would; not where another attention is lent to the model."""
    config = model.text.config
    usual = (
        config.model_type == "gemma3_text"
        and config.hidden_activation == "gelu_pytorch_tanh"
        and config.attn_logit_softcapping is None
        and not config.use_bidirectional_attention
    )
    return usual and config._attn_implementation == "sdpa"


#: All that Gemma 3's decoder and head are made of.
USUAL = frozenset({
    gemma3.Gemma3TextModel, gemma3.Gemma3DecoderLayer, gemma3.Gemma3Attention, gemma3.Gemma3MLP, gemma3.Gemma3RMSNorm,
    gemma3.Gemma3RotaryEmbedding, gemma3.Gemma3TextScaledWordEmbedding, type(ACT2FN["gelu_pytorch_tanh"]),
    torch.nn.ModuleList, torch.nn.Linear,
})  # fmt: skip


def is_usual(model: Model) -> bool:
    """Whether decoder and head are made of nothing but the library's own modules with weights in plain numbers.

    Another module in a place, such as an adapter or a layer that packs its weights smaller, has a way of its own, which
    is neither known here nor, perhaps, to be captured.
    """
    inside = [module for part in (model.text, model.head) for module in part.modules()]
    weights = [weight for module in inside for weight in module.parameters(recurse=False)]
    return all(type(module) in USUAL for module in inside) and all(weight.is_floating_point() for weight in weights)


def kinds(model: Model) -> tuple[str, ...]:
    """The kinds of layers: global and local attention."""
    return tuple(dict.fromkeys(model.text.config.layer_types))


def groups(model: Model) -> int:
    """How many query heads share a key."""
    config = model.text.config
    return int(config.num_attention_heads // config.num_key_value_heads)


def allowed(model: Model, blocks: torch.Tensor, rows: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Which positions each row may attend to, for each kind of layer: bool (Q, K).

    Args:
        blocks: (K,) number of the image that a position belongs to, −1 for text.
        rows: (Q,) positions that attend; all where None.
    """
    key = torch.arange(len(blocks), device=blocks.device)
    query = key if rows is None else rows
    same = (blocks[query][:, None] == blocks[None]) & (blocks[None] >= 0)
    everywhere = (key[None] <= query[:, None]) | same  # (Q, K)
    near = key[None] > query[:, None] - int(model.text.config.sliding_window)
    return {kind: everywhere & near if kind == "sliding_attention" else everywhere for kind in kinds(model)}


def image_blocks(model: Model, ids: Sequence[int]) -> np.ndarray:
    """Number of the image that each position belongs to, −1 for text: int64 (S,)."""
    image = np.asarray(ids) == model.image_token_id
    starts = image & ~np.concatenate([[False], image[:-1]])
    return np.where(image, np.cumsum(starts) - 1, -1)


def additive(model: Model, sees: torch.Tensor) -> torch.Tensor:
    """bool (Q, K), or (B, Q, K) -> 0 or −inf (1 or B, 1, G · Q, K) in the model's dtype."""
    sees = sees if sees.ndim == 3 else sees[None]
    empty = torch.zeros(sees.shape, dtype=model.dtype, device=sees.device).masked_fill(~sees, -torch.inf)
    return empty.repeat(1, groups(model), 1)[:, None]


def rotations(model: Model, positions: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """cos and sin (1, Q, d) of positions (Q,), for each kind of layer."""
    like = torch.empty(0, dtype=model.dtype, device=positions.device)
    return {kind: model.text.rotary_emb(like, positions[None], kind) for kind in kinds(model)}


def places_of(model: Model, ids: Sequence[int]) -> Places:
    """Masks and rotations of a whole sequence."""
    blocks = torch.from_numpy(image_blocks(model, ids)).to(model.device)
    masks = {kind: additive(model, sees) for kind, sees in allowed(model, blocks).items()}
    return Places(rotations(model, torch.arange(len(ids), device=model.device)), masks)


def decode(model: Model, embeds: torch.Tensor, places: Places, tap: Tap | None = None) -> torch.Tensor:
    """Last hidden states (B, Q, D) of embeddings (B, Q, D); differentiable in them, never in a weight."""
    with on_device(model.device):
        return _decode(model, embeds, places, tap)


def _decode(model: Model, embeds: torch.Tensor, places: Places, tap: Tap | None) -> torch.Tensor:
    text, eps = model.text, float(model.text.config.rms_norm_eps)
    layers = text.layers[: text.config.num_hidden_layers]
    after = [*(layer.input_layernorm.weight for layer in layers[1:]), text.norm.weight]
    h, x = embeds, norm(embeds, layers[0].input_layernorm.weight, eps)
    for n, layer in enumerate(layers):
        kind = text.config.layer_types[n]
        seen = _attend(model, layer.self_attn, x, places.rotations[kind], places.masks[kind], n, tap)
        h, x = add_norm(h, seen, layer.post_attention_layernorm.weight, layer.pre_feedforward_layernorm.weight, eps)
        wide = _feed(layer.mlp, x)
        h, x = add_norm(h, wide, layer.post_feedforward_layernorm.weight, after[n], eps)
    return x


def _is_one(x: torch.Tensor, *layers: Any) -> bool:
    """Whether x (B, Q, D) is a single token's, without gradient, to go through linear layers without bias."""
    return x.shape[:2] == (1, 1) and not torch.is_grad_enabled() and all(layer.bias is None for layer in layers)


def _times(x: torch.Tensor, *layers: Any) -> tuple[torch.Tensor, ...]:
    """x (B, Q, D) through each of some linear layers."""
    if _is_one(x, *layers):
        return times_one(x, [layer.weight for layer in layers])
    return tuple(layer(x) for layer in layers)


def _feed(mlp: Any, x: torch.Tensor) -> torch.Tensor:
    """The gated feed-forward part of a layer, (B, Q, D) -> (B, Q, D)."""
    if _is_one(x, mlp.gate_proj, mlp.up_proj):
        wide = gated_one(x, mlp.gate_proj.weight, mlp.up_proj.weight)
    else:
        wide = gelu_times(mlp.gate_proj(x), mlp.up_proj(x))
    return _times(wide, mlp.down_proj)[0]


def logits_of(model: Model, state: torch.Tensor) -> torch.Tensor:
    """The head's logits (1, 1, V) of a last hidden state (1, 1, D)."""
    return _times(state, model.head)[0]


def _attend(
    model: Model,
    attention: Any,
    x: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor,
    layer: int,
    tap: Tap | None,
) -> torch.Tensor:
    """One layer's attention (B, Q, D) -> (B, Q, D); query heads that share a key lie one after another in one head."""
    config, (batch, length, _) = model.text.config, x.shape
    split = (batch, length, -1, config.head_dim)
    eps = float(config.rms_norm_eps)
    query, key, value = _times(x, attention.q_proj, attention.k_proj, attention.v_proj)
    query = norm_rotate(query.view(split), attention.q_norm.weight, eps, *rotation)
    key = norm_rotate(key.view(split), attention.k_norm.weight, eps, *rotation)
    value = value.view(split).transpose(1, 2)
    if tap is not None:
        key, value = tap(layer, query, key, value)
    shared = query.reshape(batch, key.shape[1], -1, config.head_dim)  # (B, H_kv, G · Q, d)
    scale = float(attention.scaling)
    if _is_one(x):
        out = attend_one(shared, key, value, mask, scale)
    else:
        out = torch.nn.functional.scaled_dot_product_attention(shared, key, value, attn_mask=mask, scale=scale)
    heads = out.reshape(batch, -1, length, config.head_dim).transpose(1, 2).reshape(batch, length, -1)
    (result,) = _times(heads, attention.o_proj)
    return result
