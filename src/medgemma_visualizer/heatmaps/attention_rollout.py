"""Attention rollout (Abnar & Zuidema 2020): attention followed through all layers, residual connections included.

The one idea: with half of each layer's stream passing straight through, what a row holds of the input is the product
Â_L … Â_1 with Â = ½A + ½I, A averaged over heads. The top layer stands on the left, next to the row that is asked.
"""

from __future__ import annotations

import torch

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps.gradients import refuse_blind
from medgemma_visualizer.heatmaps.methods import RawMap, method, on_grid
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.forward import decode_embeddings, embed
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.models.trace import attention_matrices


@method(
    "attention_rollout",
    label="Attention Rollout",
    needs="attention",
    cost="1 forward",
    paper="Abnar & Zuidema 2020",
)
def attention_rollout(reading: Reading, aim: Aim, *, residual: float = 0.5) -> RawMap:
    """Rollout at the target's rows (p − 1), averaged over rows, cut to the image columns.

    Args:
        residual: Share of the stream that passes a layer unchanged, in [0, 1).

    Returns:
        A map ≥ 0 whose sum is the share of these rows that flows from the image, ≤ 1.

    Raises:
        InputError: `residual` outside [0, 1).
        UnavailableError: The rows come before the image.
    """
    if not 0 <= residual < 1:
        raise InputError(f"residual is {residual!r}; give a share of at least 0 and less than 1.")
    refuse_blind(reading, aim)
    ids = reading.ids(aim.forced)
    with torch.no_grad(), attention_matrices(reading.model, lambda weights: weights.mean(0)) as layers:
        decode_embeddings(reading.model, embed(reading.model, ids, reading.image_tokens), ids)
    flow = start(len(ids), aim.rows, ids.device)  # (S,)
    for attention in reversed(layers):  # (S, S), top layer first: a row times a matrix, never matrix times matrix
        flow = residual * flow + (1 - residual) * (flow @ attention)
    values = flow[list(reading.prompt.image_positions)]
    return RawMap(
        on_grid(reading, values.cpu()), tuple(range(len(layers))), None, {"share_on_image": float(values.sum())}
    )


def start(length: int, rows: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """The mean of the rows' unit vectors, float32 (S,)."""
    unit = torch.zeros(length, device=device)
    unit[list(rows)] = 1 / len(rows)
    return unit
