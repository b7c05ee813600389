"""What a decoder keeps of a picture, read once and shared by every question that follows it.

With the image first, keys and values of everything up to the end of the image do not depend on the question (a decoder
reads forwards). Knows caches; knows nothing about questions or answers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.forward import decode_embeddings, embed
from medgemma_visualizer.models.prompt import Prompt


@dataclass(frozen=True)
class Prefix:
    """Keys and values of a prompt's beginning, image included.

    Attributes:
        ids: The ids that were read.
        cache: Never written: `continued` lends its tensors to a new one, which grows by concatenation.
    """

    ids: tuple[int, ...]
    cache: DynamicCache

    def begins(self, prompt: Prompt) -> bool:
        """Whether a prompt begins with what was read, and goes on."""
        return prompt.image_first and prompt.ids[: len(self.ids)] == self.ids and len(prompt.ids) > len(self.ids)

    @torch.no_grad()
    def continued(self, model: Model, prompt: Prompt) -> tuple[torch.Tensor, DynamicCache]:
        """Reads the rest of a prompt: hidden states (1, rest, D), and a cache of the whole that may be written."""
        return self.followed_by(model, prompt.ids[len(self.ids) :])

    def followed_by(self, model: Model, rest: Sequence[int]) -> tuple[torch.Tensor, DynamicCache]:
        """As `continued`, for ids that follow; differentiable in whatever this beginning was read from."""
        cache = _lent(self.cache)
        ids = torch.tensor([rest], device=model.device)
        states = model.hf.model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        return states, cache

    def detached(self) -> Prefix:
        """The same without a graph behind it."""
        cache = _lent(self.cache)
        for layer in map(vars, cache.layers):
            layer.update(keys=layer["keys"].detach(), values=layer["values"].detach())
        return Prefix(self.ids, cache)


def _lent(cache: DynamicCache) -> DynamicCache:
    """A cache with the same tensors, which may be written."""
    lent = copy.copy(cache)
    lent.layers = [copy.copy(layer) for layer in cache.layers]
    return lent


def prefix_of(model: Model, prompt: Prompt, tokens: torch.Tensor) -> Prefix:
    """Reads a prompt up to its last image token, with image tokens (1, N, D); differentiable in them."""
    ids = prompt.ids[: prompt.image_positions[-1] + 1]
    at = torch.tensor(ids, device=model.device)
    cache = DynamicCache(config=model.text.config)
    decode_embeddings(model, embed(model, at, tokens), at, cache=cache)
    return Prefix(ids, cache)
