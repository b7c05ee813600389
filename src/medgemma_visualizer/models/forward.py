"""The forward passes that everything else is made of: image to tokens, tokens to logits, greedy decoding.

Knows tensors; knows nothing about words or pictures. Image tokens are computed once and passed around, so that
prompts, targets and methods share them. `token_type_ids` are always passed: without them image tokens would not see
each other in both directions, and another computation would be explained than the one that answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.models import lean
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.graphs import engine_of
from medgemma_visualizer.models.prompt import Prompt
from medgemma_visualizer.models.vision import captured_tokens


def pixels(model: Model, images: Sequence[Image.Image]) -> torch.Tensor:
    """Pixel values (B, 3, height, width) as the model's own processor makes them; pan-and-scan off."""
    return prepared(model.processor, images).to(model.device, model.dtype)


def prepared(processor: Any, images: Sequence[Image.Image]) -> torch.Tensor:
    """Pixel values (B, 3, height, width), float32 on the CPU; asks nothing of a device, so that any thread may."""
    batch = processor.image_processor(list(images), do_pan_and_scan=False, return_tensors="pt")
    values: torch.Tensor = batch["pixel_values"]
    return values


def processor_view(processor: Any, image: Image.Image) -> np.ndarray:
    """The picture as a model with this processor sees it, uint8 (height, width, 3): resized, squashed to its square."""
    inner = processor.image_processor
    values = prepared(processor, [image])[0].float().numpy()  # (3, height, width)
    mean, std = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (inner.image_mean, inner.image_std))
    return np.clip((values * std + mean) * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def image_tokens(model: Model, pixel_values: torch.Tensor) -> torch.Tensor:
    """Image tokens after the projector: (B, 3, height, width) -> (B, N, D), N = rows × cols."""

    def encode(values: torch.Tensor) -> torch.Tensor:
        return project(model, model.hf.get_submodule(model.family.tower)(pixel_values=values).last_hidden_state)

    found = captured_tokens(model, pixel_values, encode)
    return encode(pixel_values) if found is None else found


def project(model: Model, features: torch.Tensor) -> torch.Tensor:
    """Vision features (B, patches, D_vision) -> image tokens (B, N, D)."""
    tokens: torch.Tensor = model.projector(features)
    return tokens


def embed(model: Model, ids: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Embeddings (B, S, D) of ids (S,) with image tokens (B, N, D) in their places; differentiable in `tokens`."""
    at = ids == model.image_token_id  # (S,)
    if int(at.sum()) != tokens.shape[1]:
        raise InputError(
            f"The prompt has {int(at.sum())} places for image tokens, {tokens.shape[1]} were given. One image a prompt."
        )
    words = model.text.get_input_embeddings()(ids.masked_fill(at, 0))  # (S, D)
    embeds = words.to(tokens.dtype).expand(tokens.shape[0], -1, -1).clone()  # (B, S, D)
    embeds[:, at] = tokens
    return embeds


def decode_embeddings(
    model: Model, embeds: torch.Tensor, ids: torch.Tensor, *, cache: DynamicCache | None = None
) -> torch.Tensor:
    """Last hidden states (B, S, D) for embeddings (B, S, D) that hold an image block."""
    if cache is None and engine_of(model) is not None:
        return lean.decode(model, embeds, lean.places_of(model, ids.tolist()))
    kinds = (ids == model.image_token_id).long().expand(embeds.shape[0], -1)  # (B, S): 1 at image tokens
    out = model.hf.model(inputs_embeds=embeds, token_type_ids=kinds, past_key_values=cache, use_cache=cache is not None)
    states: torch.Tensor = out.last_hidden_state
    return states


def logits_at(model: Model, ids: torch.Tensor, tokens: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Logits in float32 at chosen rows: ids (S,), image tokens (B, N, D) -> (B, len(rows), V).

    Row p − 1 predicts the token at p.

    Raises:
        VisualizerError: A logit is not finite.
    """
    engine = engine_of(model)
    if engine is not None and tokens.shape[0] == 1 and engine.fits(len(ids), rows):
        return ensure_finite(engine.logits_at(tuple(ids.tolist()), tokens, rows), "the logits")
    states = decode_embeddings(model, embed(model, ids, tokens), ids)[:, list(rows)]  # (B, R, D)
    return ensure_finite(model.head(states).float(), "the logits")


def ensure_finite(values: torch.Tensor, where: str) -> torch.Tensor:
    """Returns `values`; not-a-number and infinity are errors that name the place, never zeros."""
    if not bool(torch.isfinite(values).all()):
        raise VisualizerError(
            f"{where[0].upper()}{where[1:]} are not finite. Load the model with dtype='float32' and try again."
        )
    return values


@dataclass(frozen=True)
class Generated:
    """Greedy continuation of a prompt.

    Attributes:
        ids: Generated ids, the stop token left out.
        logprobs: log P of each at its row.
        stopped: Whether a stop token ended it.
        first_logits: float32 (V,) at the row that predicts the first answer token.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stopped: bool
    first_logits: torch.Tensor


@torch.no_grad()
def generate(model: Model, prompt: Prompt, tokens: torch.Tensor, max_new_tokens: int) -> Generated:
    """Greedy decoding with a key/value cache; the same tokens as transformers' `generate(do_sample=False)`.

    Args:
        tokens: Image tokens (1, N, D).
        max_new_tokens: Bound on the answer's length.
    """
    engine = engine_of(model)
    if engine is not None and max_new_tokens > 0 and engine.fits(len(prompt.ids), [0], max_new_tokens):
        said, logprobs, stopped, first = engine.answer(prompt.ids, tokens, model.stop_ids, max_new_tokens)
        return Generated(tuple(said), tuple(logprobs), stopped, first)
    ids = torch.tensor(prompt.ids, device=model.device)
    cache = DynamicCache(config=model.text.config)
    states = decode_embeddings(model, embed(model, ids, tokens), ids, cache=cache)
    return go_on(model, states, cache, max_new_tokens)


@torch.no_grad()
def go_on(model: Model, states: torch.Tensor, cache: DynamicCache, max_new_tokens: int) -> Generated:
    """Greedy decoding after a prompt that has been read: its last hidden states (1, S, D), and a cache that grows."""
    logits = ensure_finite(model.head(states[:, -1]).float()[0], "the logits of the answer")  # (V,)
    first = logits
    out: list[int] = []
    logprobs: list[float] = []
    for _ in range(max_new_tokens):
        best = int(logits.argmax())
        if best in model.stop_ids:
            return Generated(tuple(out), tuple(logprobs), True, first)
        out.append(best)
        logprobs.append(float(logits.log_softmax(-1)[best]))
        logits = _next_logits(model, best, cache)
    return Generated(tuple(out), tuple(logprobs), False, first)


@torch.no_grad()
def confirmed(model: Model, logits: torch.Tensor, draft: Sequence[int], max_new_tokens: int) -> Generated | None:
    """The greedy answer, where it goes as a draft that was read after the prompt; None where it goes another way.

    Args:
        logits: float32 (len(draft) + 1, V) at the rows that predict the draft's tokens and what follows them.
        draft: Ids that an answer to a similar prompt had.
        max_new_tokens: As of `generate`.
    """
    logprobs: list[float] = []
    for n, guess in enumerate((*draft, None)):
        best = int(logits[n].argmax())
        stops = best in model.stop_ids
        if stops or n == max_new_tokens:
            return Generated(tuple(draft[:n]), tuple(logprobs), stops and n < max_new_tokens, logits[0].clone())
        if best != guess:
            return None
        logprobs.append(float(logits[n].log_softmax(-1)[best]))
    return None


def _next_logits(model: Model, token: int, cache: Any) -> torch.Tensor:
    """Logits (V,) after one more token."""
    ids = torch.tensor([[token]], device=model.device)
    state = model.hf.model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]
    return ensure_finite(model.head(state).float()[0], "the logits of the answer")
