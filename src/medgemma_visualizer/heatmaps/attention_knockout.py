"""Attention knockout: what the score loses when rows may not attend to image tokens (Geva 2023).

The one idea: leave the image as it is and cut the path, setting attention to −inf, so that what is measured is what
these rows fetch from these tokens directly, in the chosen layers, and not what other tokens passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps.cross_attention import indices
from medgemma_visualizer.heatmaps.methods import RawMap, method
from medgemma_visualizer.heatmaps.probing import (
    batch_size,
    batches,
    joined,
    mean_over_masks,
    refuse_rounding,
    scores_of,
    windows,
)
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.forward import logits_at
from medgemma_visualizer.models.knockout import knockout
from medgemma_visualizer.models.reading import Reading

From = Literal["target", "text"]


@method(
    "attention_knockout",
    label="Attention Knockout",
    needs="scoring",
    cost="1 forward a window (196 on a 16 × 16 grid)",
    signed=True,
    paper="Geva 2023",
)
def attention_knockout(
    reading: Reading,
    aim: Aim,
    *,
    window: int = 3,
    stride: int = 1,
    layers: Sequence[int] | None = None,
    rows: From = "target",
) -> RawMap:
    """Score of the original minus score with a window cut off, averaged over the windows that cover a cell.

    Args:
        window: Side of the window in cells; 1 cuts single image tokens.
        stride: Step of the window in cells, at most `window`.
        layers: Decoder layers in which the path is cut, negative counted from the end; all where None.
        rows: Who loses sight: "target" (the rows that predict the target) or "text" (every row after the image, so that
            the question cannot pass on what it saw either).

    Returns:
        A signed map in units of the score; 0 (chance) where these rows take nothing from a cell in these layers.

    Raises:
        InputError: No such layer, window, stride or kind of rows.
        UnavailableError: No cut changes the score.
    """
    masks = windows(reading.model.grid, window, stride)
    chosen = indices("layer", layers, reading.model.n_layers, default=tuple(range(reading.model.n_layers)))
    columns = np.zeros((len(masks) + 1, len(reading.prompt.ids) + len(aim.forced)), dtype=bool)
    columns[1:, list(reading.prompt.image_positions)] = masks.reshape(len(masks), -1)
    scores = score_cuts(reading, aim, columns, cut_rows(reading, aim, rows), chosen)
    refuse_rounding(scores)
    extras = {"score": float(scores[0]), "n_scorings": len(columns), "rows": rows}
    return RawMap(mean_over_masks(scores[0] - scores[1:], masks), layers=chosen, extras=extras)


def score_cuts(
    reading: Reading,
    aim: Aim,
    columns: np.ndarray,
    rows: Sequence[int],
    layers: Sequence[int],
    *,
    batch: int | None = None,
) -> np.ndarray:
    """The target's score with `rows` cut off from sets of columns, bool (P, S), in `layers`: float32 (P,)."""
    model, ids = reading.model, reading.ids(aim.forced)

    def scored(chunk: np.ndarray) -> np.ndarray:
        tokens = reading.image_tokens.expand(len(chunk), -1, -1)  # (B, N, D)
        cut = torch.from_numpy(chunk).to(model.device)
        with torch.no_grad(), knockout(model, rows, cut, layers):
            return scores_of(aim, logits_at(model, ids, tokens, aim.rows))

    return joined(scored(chunk)[:new] for chunk, new in batches(columns, batch or batch_size(reading, aim), "windows"))


def cut_rows(reading: Reading, aim: Aim, rows: From) -> tuple[int, ...]:
    """Sequence positions that "target" and "text" stand for.

    Raises:
        InputError: Neither of them.
    """
    if rows not in ("target", "text"):
        raise InputError(f"rows={rows!r} is unknown. Choose 'target' or 'text'.")
    after_image = range(reading.prompt.image_positions[-1] + 1, len(reading.prompt.ids) + len(aim.forced))
    return tuple(sorted(set(aim.rows))) if rows == "target" else tuple(after_image)
