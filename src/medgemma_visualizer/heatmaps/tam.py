"""Token activation maps: which image tokens already spell the target, beyond what the context spells (Li et al. 2025).

The one idea: read every image token's last hidden state through the output head (the logit lens) as the target's
token; subtract what the words before the target activate at the same places, scaled by least squares; clean with a rank
filter.

Where this differs from the paper: logits are centred over the vocabulary before they are cut at 0, because a constant
added to all logits changes no probability and must not change a map; several target tokens (the spellings of "yes", a
phrase) are joined by how much each raises the score; context is the question and the answer so far, without the chat
template's own tokens; a context token that is the target itself is left out.
"""

from __future__ import annotations

import numpy as np
import torch

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.methods import RawMap, method, on_grid
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.forward import decode_embeddings, embed
from medgemma_visualizer.models.reading import Reading


@method("tam", label="Token Activation Map", needs="activation", cost="1 forward", paper="Li 2025")
def tam(reading: Reading, aim: Aim, *, window: int = 3) -> RawMap:
    """Logit-lens activation of the target at the image tokens, minus the context's, rank-filtered.

    Args:
        window: Side of the rank filter in cells, odd; 1 switches it off.

    Returns:
        A map ≥ 0 in logits. With the image first, image tokens cannot know the question: the map depends on it only
        through the target and the context. `extras["scale"]`: the least-squares scale of each target row.

    Raises:
        InputError: An even window, or one larger than the grid allows.
        UnavailableError: The score has no gradient in the logits, or no image token spells the target.
    """
    if window % 2 == 0 or not 1 <= window <= min(reading.model.grid):
        raise InputError(f"The window must be odd, from 1 to {min(reading.model.grid)}; given is {window}.")
    ids = reading.ids(aim.forced)
    with torch.no_grad():
        states = decode_embeddings(reading.model, embed(reading.model, ids, reading.image_tokens), ids)[0]  # (S, D)
        logits = reading.model.head(states[list(aim.rows)]).float()  # (R, V)
    classes = target_classes(aim, logits)  # (R, V)
    head = reading.model.head.weight  # (V, D)
    centre = _exact(head.mean(dim=0, dtype=torch.promote_types(head.dtype, torch.float32)))  # (D,)
    rows = (_row(reading, aim, states, row, shares, centre) for row, shares in zip(aim.rows, classes, strict=True))
    maps, scales = zip(*rows, strict=True)
    values = np.mean([rank_gaussian(on_grid(reading, m), window) for m in maps], axis=0)
    if not values.any():
        raise UnavailableError("No image token activates the target more than its context does.")
    return RawMap(values, extras={"scale": list(scales)})


def _row(
    reading: Reading, aim: Aim, states: torch.Tensor, row: int, shares: torch.Tensor, centre: np.ndarray
) -> tuple[np.ndarray, float]:
    """Map (N,) and scale of one target row, from last hidden states (S, D) and the target's tokens (V,)."""
    chosen = shares.nonzero()[:, 0]
    context, words = _context(reading, aim, row, chosen)
    direction = shares[chosen].numpy() @ (_read_out(reading, chosen) - centre)  # (D,)
    image = _exact(states[list(reading.prompt.image_positions)])  # (N, D)
    own = np.maximum(image @ direction, 0)  # (N,)
    theirs = np.maximum(image @ (_read_out(reading, words) - centre).T, 0)  # (N, C)
    weights = np.maximum(_exact(states[context]) @ direction, 0)  # (C,)
    return without_interference(own, theirs, weights)


def _exact(values: torch.Tensor) -> np.ndarray:
    """float64, because the scale divides by what may be small."""
    return values.cpu().double().numpy()


def _read_out(reading: Reading, ids: torch.Tensor) -> np.ndarray:
    """Rows of the output head: float64 (len(ids), D)."""
    head = reading.model.head.weight  # (V, D)
    return _exact(head[ids.to(head.device)])


def _context(reading: Reading, aim: Aim, row: int, target: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """Positions and ids of the words up to `row` that are not the target itself."""
    ids, first = reading.ids(aim.forced), len(reading.prompt.ids)
    words = [*reading.prompt.question_positions, *range(first, len(ids))]
    own = set(target.tolist())
    kept = [p for p in words if p <= row and int(ids[p]) not in own]
    return kept, ids[kept]


def target_classes(aim: Aim, logits: torch.Tensor) -> torch.Tensor:
    """Which tokens raise the score at each row, as shares that sum to 1: (R, V) -> float64 (R, V) on the CPU.

    For the log-probability of a token this is that token; for a contrast the spellings of the answer given.

    Raises:
        UnavailableError: The score does not react to the logits.
    """
    with torch.enable_grad():
        leaf = logits.detach().cpu().double()[None].requires_grad_()  # (1, R, V)
        score = aim.score(leaf).sum()
        if not score.requires_grad:
            raise UnavailableError("The target function has no gradient in the logits, so its tokens are unknown.")
        (gradient,) = torch.autograd.grad(score, leaf)
    raising = gradient[0].clamp(min=0)  # (R, V)
    total = raising.sum(-1, keepdim=True)
    if not bool((total > 0).all()):
        raise UnavailableError("No token raises the score of this target: it is already certain.")
    return raising / total


def without_interference(own: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """max(0, own − s · interference), s = argmin ‖own − s · interference‖².

    Args:
        own: (N,) activation of the target.
        theirs: (N, C) activation of each context token.
        weights: (C,) ≥ 0, how much the target is active at each context token.
    """
    if not weights.any():
        return own, 0.0
    interference = theirs @ (weights / weights.sum())  # (N,)
    power = float(interference @ interference)
    scale = float(own @ interference) / power if power > 0 else 0.0
    return np.maximum(own - scale * interference, 0), scale


def rank_gaussian(values: np.ndarray, window: int) -> np.ndarray:
    """Each cell becomes a mean of its sorted neighbourhood, weighted by a Gaussian around the median's rank.

    Its width is the neighbourhood's coefficient of variation (standard deviation ÷ mean): near the median where values
    agree, wider where they do not. values ≥ 0 (rows, cols); the border is reflected.
    """
    padded = np.pad(values.astype(np.float64), window // 2, mode="reflect")
    near = np.lib.stride_tricks.sliding_window_view(padded, (window, window))
    ordered = np.sort(near.reshape(*values.shape, -1), axis=-1)  # (rows, cols, window²)
    mean = ordered.mean(axis=-1, keepdims=True)
    width = np.divide(ordered.std(axis=-1, keepdims=True), mean, out=np.zeros_like(mean), where=mean > 0)
    rank = np.arange(window**2) - window**2 // 2
    weight = np.exp(-(rank**2) / (2 * np.maximum(width, 1e-6) ** 2))
    return ((ordered * weight).sum(axis=-1) / weight.sum(axis=-1)).astype(np.float32)
