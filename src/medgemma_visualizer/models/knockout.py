"""Cuts attention between chosen rows and columns while the model runs as usual, and gives the model back whole.

Knows masks of attention; knows nothing about scores or maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.trace import attention_kind

_NAME = "medgemma_visualizer_knockout"


@dataclass(frozen=True)
class _Cut:
    rows: list[int]
    columns: torch.Tensor  # bool (B, S)
    layers: frozenset[int]

    def open(self, mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """What may still be attended to: bool (B, 1, Q, K)."""
        batch, queries, keys = query.shape[0], query.shape[2], key.shape[2]
        if mask is None:
            before = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
        else:
            before = mask if mask.dtype == torch.bool else mask >= 0
        left = before.expand(batch, 1, queries, keys).clone()
        left[:, :, self.rows] &= ~self.columns[:, None, None]
        left[:, :, self.rows, self.rows] = True  # a row that saw nothing at all would have no softmax
        return left


_cut: ContextVar[_Cut | None] = ContextVar("cut", default=None)


def _knockout_attention(module, query, key, value, attention_mask, **kwargs):  # type: ignore[no-untyped-def]
    """sdpa with the cut applied. query (B, H, Q, d), key and value (B, H_kv, K, d)."""
    cut = _cut.get()
    if cut is not None and module.layer_idx in cut.layers:
        attention_mask = cut.open(attention_mask, query, key)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(_NAME, _knockout_attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)


@contextmanager
def knockout(model: Model, rows: Sequence[int], columns: torch.Tensor, layers: Sequence[int]) -> Iterator[None]:
    """Inside the block, `rows` do not attend to `columns` in `layers`: their scores are −inf before the softmax.

    A row always sees itself.

    Args:
        rows: Sequence positions that lose sight.
        columns: bool (B, S), one set of positions for each entry of the batch.
        layers: Decoder layers in which they do.
    """
    active = _cut.set(_Cut(list(rows), columns, frozenset(layers)))
    try:
        with attention_kind(model, _NAME):
            yield
    finally:
        _cut.reset(active)
