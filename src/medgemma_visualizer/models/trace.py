"""Rows of attention for chosen positions and layers, captured while the model runs as usual.

A registered attention function records softmax(q kᵀ · scale + mask) for the wanted rows and leaves the computation of
the output to scaled dot-product attention. No S × S matrix is ever kept; the eager implementation is never needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.forward import decode_embeddings, embed
from medgemma_visualizer.models.graphs import engine_of

_NAME = "medgemma_visualizer_rows"
_NAME_OF_MATRICES = "medgemma_visualizer_matrices"


@dataclass
class _Recorder:
    """What to record, and what has been recorded so far: layer -> (heads, rows, columns)."""

    rows: list[int]
    layers: frozenset[int]
    found: dict[int, torch.Tensor] = field(default_factory=dict)


_recorder: ContextVar[_Recorder | None] = ContextVar("recorder", default=None)


@dataclass(frozen=True)
class AttentionRows:
    """Attention of chosen rows over the whole sequence.

    Attributes:
        weights: float32 (layers, heads, rows, S); each row sums to 1 over the last axis.
        layers: Index of each layer.
        rows: Sequence position of each row.
        image_positions: The columns that are image tokens.
    """

    weights: np.ndarray
    layers: tuple[int, ...]
    rows: tuple[int, ...]
    image_positions: tuple[int, ...]

    @property
    def on_image(self) -> np.ndarray:
        """float32 (layers, heads, rows, N): the image tokens' columns, not renormalised."""
        return self.weights[..., list(self.image_positions)]


def _rows_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):  # type: ignore[no-untyped-def]
    """sdpa, with the wanted rows recorded on the way. query (B, H, Q, d), key and value (B, H_kv, K, d)."""
    recorder = _recorder.get()
    if recorder is not None and module.layer_idx in recorder.layers:
        recorder.found[module.layer_idx] = _softmax_rows(
            query[0].detach(), key[0].detach(), attention_mask, scaling, recorder.rows
        )
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


def _softmax_rows(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scaling: float | None, rows: list[int]
) -> torch.Tensor:
    """softmax(q kᵀ · scale + mask) in float32: query (H, Q, d), key (H_kv, K, d) -> (H, len(rows), K)."""
    groups = query.shape[0] // key.shape[0]
    keys = key.float().repeat_interleave(groups, dim=0)  # (H, K, d)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query[:, rows].float() @ keys.transpose(1, 2) * scale  # (H, R, K)
    allowed = _allowed(mask, rows, query.shape[1], key.shape[1], scores.device)  # (R, K)
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1)


def _allowed(mask: torch.Tensor | None, rows: list[int], queries: int, keys: int, device: torch.device) -> torch.Tensor:
    """Which keys each row may see, bool (len(rows), K). No mask means causal."""
    if mask is None:
        last = torch.tensor(rows, device=device)[:, None] + keys - queries
        return torch.arange(keys, device=device)[None] <= last
    chosen = mask[0, 0, rows]  # (R, K)
    return chosen if chosen.dtype == torch.bool else chosen >= 0


#: What `attention_matrices` keeps of a layer's weights (H, S, S).
Keep = Callable[[torch.Tensor], torch.Tensor]

_matrices: ContextVar[tuple[Keep, list[torch.Tensor]] | None] = ContextVar("matrices", default=None)


def _matrices_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):  # type: ignore[no-untyped-def]
    """Attention through explicit weights, part of the graph. query (1, H, S, d), key and value (1, H_kv, S, d)."""
    weights = _softmax_rows(query[0], key[0], attention_mask, scaling, list(range(query.shape[2])))  # (H, S, S)
    lent = _matrices.get()
    if lent is not None:
        keep, found = lent
        found.append(keep(weights))
    values = value[0].float().repeat_interleave(query.shape[1] // value.shape[1], dim=0)  # (H, S, d)
    return (weights @ values).to(query.dtype).transpose(0, 1)[None], None  # (1, S, H, d)


for _name, _function in ((_NAME, _rows_attention), (_NAME_OF_MATRICES, _matrices_attention)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, sdpa_mask)


@contextmanager
def attention_kind(model: Model, name: str) -> Iterator[None]:
    """Lends the decoder another attention implementation and gives its own back, whatever happens."""
    config = model.text.config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


@torch.no_grad()
def attention_rows(
    model: Model,
    ids: torch.Tensor,
    tokens: torch.Tensor,
    rows: Sequence[int],
    layers: Sequence[int] | None = None,
) -> AttentionRows:
    """One teacher-forced pass that records the attention of `rows` in `layers`.

    Args:
        ids: (S,) prompt and whatever was answered or is to be forced.
        tokens: Image tokens (1, N, D).
        rows: Positions to record; p − 1 for a token at p.
        layers: Layer indices; all where None.

    Returns:
        Weights equal to the eager implementation's within float rounding, for every head (heads that share keys
        through grouped queries included), local and global layers alike.
    """
    chosen = tuple(range(model.n_layers)) if layers is None else tuple(layers)
    image = tuple((ids == model.image_token_id).nonzero()[:, 0].tolist())
    engine = engine_of(model)
    if engine is not None and tokens.shape[0] == 1:
        found = engine.attention(tuple(ids.tolist()), tokens, rows, chosen)
        return AttentionRows(found.cpu().numpy(), chosen, tuple(rows), image)
    recorder = _Recorder(list(rows), frozenset(chosen))
    active = _recorder.set(recorder)
    try:
        with attention_kind(model, _NAME):
            decode_embeddings(model, embed(model, ids, tokens), ids)
    finally:
        _recorder.reset(active)
    weights = torch.stack([recorder.found[layer] for layer in chosen]).cpu().numpy()  # (L, H, R, S)
    return AttentionRows(weights, chosen, tuple(rows), image)


@contextmanager
def attention_matrices(model: Model, keep: Keep = lambda weights: weights) -> Iterator[list[torch.Tensor]]:
    """Collects every decoder layer's attention during forward passes of one sequence inside the block, lowest first.

    The weights are part of the graph where gradients are on, so that a score can be differentiated in them.

    Args:
        keep: What to keep of a layer's weights, float32 (H, S, S); their mean over heads takes H times less memory.
    """
    found: list[torch.Tensor] = []
    active = _matrices.set((keep, found))
    try:
        with attention_kind(model, _NAME_OF_MATRICES):
            yield found
    finally:
        _matrices.reset(active)
