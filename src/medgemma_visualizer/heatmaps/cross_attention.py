"""Attention of text rows over image columns: where the decoder looked while it wrote (specification 4.2.2, errata 2.3).

A decoder-only model has no cross-attention of its own; the name is kept for the rows of its self-attention that predict
the target's tokens, cut to the columns of the image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.methods import RawMap, method, on_grid
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.models.trace import attention_rows


@method(
    "cross_attention",
    label="Cross-Attention",
    needs="attention",
    cost="1 forward",
    paper="Vaswani 2017; raw attention as in Jain & Wallace 2019",
)
def cross_attention(
    reading: Reading,
    aim: Aim,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    reduce: Literal["mean", "max"] = "mean",
    sinks: float | None = None,
) -> RawMap:
    """Attention at the target's rows (p − 1), averaged over rows and layers, joined over heads.

    Args:
        layers: Decoder layers, negative counted from the end; the last one where None (the specification's choice).
        heads: Query heads; all where None.
        reduce: How heads are joined.
        sinks: Empties the columns of attention sinks: image tokens that draw more than `sinks` times the median of all
            image tokens from the question's own rows, whatever they say (Kang 2025). None keeps every column.

    Returns:
        A map ≥ 0 whose sum is the share of attention that these rows spend on the image, ≤ 1 for `mean`.

    Raises:
        InputError: No such layer or head, or a factor for sinks that is not above 1.
    """
    model = reading.model
    chosen = indices("layer", layers, model.n_layers, default=(model.n_layers - 1,))
    selected = indices("head", heads, model.n_heads, default=tuple(range(model.n_heads)))
    asked = reading.prompt.question_positions if sinks is not None and reading.prompt.image_first else ()
    wanted = (*aim.rows, *asked)
    rows = attention_rows(model, reading.ids(aim.forced), reading.image_tokens, wanted, chosen)
    weights = rows.on_image[:, list(selected)]  # (layers, heads, rows, N)
    joined = join_heads(weights, reduce)  # (layers, rows, N)
    values = joined[:, : len(aim.rows)].mean(axis=(0, 1))
    extras: dict[str, object] = {"share_on_image": float(np.sum(values))}
    if sinks is not None:
        drawn = _sinks(joined[:, len(aim.rows) :], sinks)
        values = np.where(drawn, 0, values)
        extras["sinks"] = int(drawn.sum())
    return RawMap(on_grid(reading, values), chosen, selected, extras)


def join_heads(weights: np.ndarray, reduce: Literal["mean", "max"]) -> np.ndarray:
    """(layers, heads, rows, N) -> (layers, rows, N)."""
    return np.asarray(weights.mean(axis=1) if reduce == "mean" else weights.max(axis=1))


def _sinks(attention: np.ndarray, factor: float) -> np.ndarray:
    """Which image tokens draw attention without regard to the target: attention (layers, rows, N) -> bool (N,)."""
    if not factor > 1:
        raise InputError(f"sinks is {factor!r}; give a factor above 1, such as 5, or None.")
    if attention.shape[1] == 0:
        raise UnavailableError("Sinks are seen from the question's rows, which here come before the image.")
    mean = attention.mean(axis=(0, 1))
    return np.asarray(mean > factor * np.median(mean))


def indices(kind: str, wanted: Sequence[int] | None, count: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """Indices from 0 of layers or heads.

    Args:
        kind: What is counted, for the message.
        wanted: Negative ones count from the end; None stands for `default`.
        count: How many there are.

    Raises:
        InputError: One that is not there, or none at all.
    """
    if wanted is None:
        return default
    bad = [i for i in wanted if not -count <= i < count]
    if bad or not wanted:
        raise InputError(f"There is no {kind} {bad[0] if bad else wanted!r}: the model has {count}, 0 to {count - 1}.")
    return tuple(i % count for i in wanted)
