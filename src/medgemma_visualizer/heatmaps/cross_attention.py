"""Attention of text rows over image columns: where the decoder looked while it wrote (specification 4.2.2, errata 2.3).

A decoder-only model has no cross-attention of its own; the name is kept for the rows of its self-attention that predict
the target's tokens, cut to the columns of the image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from medgemma_visualizer.errors import InputError, UnavailableError, unknown_name
from medgemma_visualizer.heatmaps.methods import RawMap, method, on_grid
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.models.trace import attention_rows

Reduce = Literal["mean", "max"]


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
    reduce: Reduce = "mean",
    sinks: float | None = None,
) -> RawMap:
    """Attention at the target's rows (p − 1), averaged over rows and layers, joined over heads.

    Args:
        layers: Decoder layers, negative counted from the end; the last one where None (the specification's choice).
        heads: Query heads; all where None.
        reduce: How heads are joined: "mean" or "max".
        sinks: Empties the columns of attention sinks: image tokens that draw more than `sinks` times the median of all
            image tokens from the question's own rows, whatever they say (Kang 2025). None keeps every column.

    Returns:
        A map ≥ 0 whose sum is the share of attention that these rows spend on the image, ≤ 1 for `mean`.

    Raises:
        InputError: No such layer, head or reduction, or a factor for sinks that is not above 1.
        UnavailableError: Sinks are asked for and the question precedes the image.
    """
    seen = attention_of_rows(reading, aim.forced, aim.rows, layers=layers, heads=heads, reduce=reduce, sinks=sinks)
    return seen.raw_map(reading, list(range(len(aim.rows))))


@dataclass(frozen=True)
class Seen:
    """What rows attend to on the image.

    Attributes:
        rows: (rows, N), heads joined and layers averaged.
        sinks: bool (N,), columns to empty; None where sinks are kept.
        layers, heads: Those that were read.
    """

    rows: np.ndarray
    sinks: np.ndarray | None
    layers: tuple[int, ...]
    heads: tuple[int, ...]

    def raw_map(self, reading: Reading, chosen: Sequence[int]) -> RawMap:
        """The mean over the chosen of `rows`."""
        values = self.rows[list(chosen)].mean(axis=0)
        extras: dict[str, object] = {"share_on_image": float(np.sum(values))}
        if self.sinks is not None:
            values = np.where(self.sinks, 0, values)
            extras["sinks"] = int(self.sinks.sum())
        return RawMap(on_grid(reading, values), self.layers, self.heads, extras)


def attention_of_rows(
    reading: Reading,
    forced: Sequence[int],
    rows: Sequence[int],
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    reduce: Reduce = "mean",
    sinks: float | None = None,
) -> Seen:
    """Attention of any rows of prompt and continuation, from one pass; options and errors of `cross_attention`."""
    model = reading.model
    if reduce not in get_args(Reduce):
        raise unknown_name("reduction of heads", reduce, get_args(Reduce))
    chosen = indices("layer", layers, model.n_layers, default=(model.n_layers - 1,))
    selected = indices("head", heads, model.n_heads, default=tuple(range(model.n_heads)))
    asked = reading.prompt.question_positions if sinks is not None and reading.prompt.image_first else ()
    traced = attention_rows(model, reading.ids(forced), reading.image_tokens, (*rows, *asked), chosen)
    weights = traced.on_image[:, list(selected)]  # (layers, heads, rows, N)
    joined = weights.mean(axis=1) if reduce == "mean" else weights.max(axis=1)  # (layers, rows, N)
    drawn = None if sinks is None else _sinks(joined[:, len(rows) :], sinks)
    return Seen(joined[:, : len(rows)].mean(axis=0), drawn, chosen, selected)


def _sinks(attention: np.ndarray, factor: Any) -> np.ndarray:
    """Which image tokens draw attention without regard to the target: attention (layers, rows, N) -> bool (N,)."""
    if not (isinstance(factor, int | float) and factor > 1):
        raise InputError(f"sinks is {factor!r}; give a factor above 1, such as 5, or None.")
    if attention.shape[1] == 0:
        raise UnavailableError("Sinks are seen from the question's rows, which here come before the image.")
    mean = attention.mean(axis=(0, 1))
    return np.asarray(mean > factor * np.median(mean))


def indices(kind: str, wanted: Any, count: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """Indices from 0 of layers or heads.

    Args:
        kind: What is counted, for the message.
        wanted: A list; negative ones count from the end; None stands for `default`.
        count: How many there are.

    Raises:
        InputError: One that is not there or stands twice, none at all, or no list of whole numbers.
    """
    if wanted is None:
        return default
    there = f"the model has {count}, 0 to {count - 1}."
    if not isinstance(wanted, list | tuple | range | np.ndarray) or not len(wanted):
        raise InputError(f"{kind.capitalize()}s are a list of whole numbers, not {wanted!r}: {there}")
    bad = [i for i in wanted if isinstance(i, bool) or not isinstance(i, int | np.integer) or not -count <= i < count]
    if bad:
        raise InputError(f"There is no {kind} {bad[0]!r}: {there}")
    found = tuple(int(i) % count for i in wanted)
    if len(set(found)) < len(found):
        raise InputError(f"{kind.capitalize()}s {list(wanted)} name one twice: {there}")
    return found
