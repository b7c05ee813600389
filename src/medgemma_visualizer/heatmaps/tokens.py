"""Every word of an answer at once: a map for each generated token, and, the other way round, the words behind a cell.

Knows tokens and their rows (the token at p is predicted by row p − 1); leaves the explaining to the methods.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.heatmaps.cross_attention import indices, join_heads
from medgemma_visualizer.heatmaps.explain import explain_reading, unavailable
from medgemma_visualizer.heatmaps.methods import METHODS, on_grid
from medgemma_visualizer.heatmaps.probing import Baseline, masked_logits
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.models.trace import attention_rows
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Heatmap, Target, Token


def token_maps(reading: Reading, method: str = "cross_attention", **options: Any) -> list[Heatmap]:
    """A map for every generated token, in order.

    With "cross_attention" one teacher-forced pass serves all tokens; every other method explains each token in turn.

    Args:
        method: A name of `METHODS`.
        **options: Passed to the method; for "cross_attention" `layers`, `heads` and `reduce`, as there.

    Returns:
        One heatmap a token, equal to `explain_reading(reading, method, "token:n")`. Where the method cannot explain a
        token its heatmap is not available and carries the reason.

    Raises:
        InputError: The model answered nothing; unknown method or option.
    """
    if not reading.generated.ids:
        raise InputError("The model answered nothing, so there is no token to explain. Ask another question.")
    if METHODS[method] is not METHODS["cross_attention"]:
        numbers = track(range(len(reading.generated.ids)), total=len(reading.generated.ids), what="tokens")
        return [_one(reading, method, n, options) for n in numbers]
    return _attention_maps(reading, **options)


def _one(reading: Reading, method: str, n: int, options: dict[str, Any]) -> Heatmap:
    try:
        return explain_reading(reading, method, f"token:{n}", **options)
    except InputError:
        raise
    except VisualizerError as error:
        return _unavailable(reading, method, n, str(error))


def _target(reading: Reading, n: int) -> Target:
    text = reading.answer.tokens[n].text
    return Target("token", text.strip() or text, (len(reading.prompt.ids) - 1 + n,))


def _unavailable(reading: Reading, method: str, n: int, reason: str) -> Heatmap:
    return unavailable(reading, method, _target(reading, n), {method: reason})


def _attention_maps(
    reading: Reading,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    reduce: Literal["mean", "max"] = "mean",
) -> list[Heatmap]:
    """Row p − 1 of every generated token, from one pass over prompt and answer."""
    start = time.perf_counter()
    model, forced = reading.model, reading.generated.ids
    chosen = indices("layer", layers, model.n_layers, default=(model.n_layers - 1,))
    selected = indices("head", heads, model.n_heads, default=tuple(range(model.n_heads)))
    rows = range(len(reading.prompt.ids) - 1, len(reading.prompt.ids) - 1 + len(forced))
    traced = attention_rows(model, reading.ids(forced[:-1]), reading.image_tokens, rows, chosen)
    weights = traced.on_image[:, list(selected)]  # (layers, heads, rows, N)
    values = join_heads(weights, reduce).mean(axis=0)  # (rows, N)
    seconds = (time.perf_counter() - start) / len(forced)
    return [_attention_map(reading, n, v, chosen, selected, seconds) for n, v in enumerate(values)]


def _attention_map(
    reading: Reading, n: int, values: np.ndarray, layers: tuple[int, ...], heads: tuple[int, ...], seconds: float
) -> Heatmap:
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return _unavailable(reading, "cross_attention", n, "its row gives every image token the same attention.")
    return Heatmap(
        grid=on_grid(reading, values),
        method="cross_attention",
        requested="cross_attention",
        target=_target(reading, n),
        layers=layers,
        heads=heads,
        model=reading.model.name,
        versions=reading.model.versions,
        seconds=seconds,
        extras={"share_on_image": float(values.sum())},
    )


@dataclass(frozen=True)
class CellLink:
    """How one token depends on one image cell.

    Attributes:
        token: The token; its own probability is `token.logprob` (nats), given everything before it.
        generated: False for a token of the question.
        attention: Share of attention that its row (p − 1) spends on the cell, mean over layers and heads, in [0, 1].
        effect: log P(token) with the cell minus log P(token) without it, in nats; above 0 where the cell supports it,
            0 where it does not matter.
    """

    token: Token
    generated: bool
    attention: float
    effect: float


def words_for_cell(
    reading: Reading, row: int, col: int, *, window: int = 1, baseline: Baseline | None = None
) -> tuple[CellLink, ...]:
    """Which words of the question and of the answer depend on an image cell: one tracing and one scoring pass.

    Args:
        row, col: The cell, from 0 at the top left; its window is cut at the border of the grid.
        window: Odd side, in cells, of the square around it that is looked at and replaced.
        baseline: What replaces it, as for `occlusion` in token space.

    Returns:
        Tokens in the order of the sequence. Words that precede the image are left out: they cannot depend on it.

    Raises:
        InputError: No such cell, or an even window.
    """
    mask = _around(reading.model.grid, row, col, window)
    forced = reading.generated.ids
    first, image_end = len(reading.prompt.ids), reading.prompt.image_positions[-1]
    asked = [p for p in reading.prompt.question_positions if p > image_end]
    positions = [*asked, *range(first, first + len(forced))]
    if not positions:
        raise InputError("No word follows the image: the text precedes it and the model answered nothing.")
    rows = tuple(p - 1 for p in positions)
    ids = reading.ids(forced)
    aim = Aim(Target("answer", reading.answer.text, rows), forced[:-1], lambda z: z[:, 0, 0])
    both = np.stack([np.zeros_like(mask), mask])
    logits = torch.cat(list(masked_logits(reading, aim, both, baseline=baseline, what="passes")))  # (2, R, V)
    logprobs = logits.log_softmax(-1)[:, range(len(rows)), ids[positions]].cpu().numpy()  # (2, R)
    traced = attention_rows(reading.model, reading.ids(aim.forced), reading.image_tokens, rows)
    share = traced.on_image.mean(axis=(0, 1))[:, mask.ravel()].sum(axis=-1)  # (R,)
    return tuple(
        CellLink(_token(reading, p, float(full)), p >= first, float(seen), float(full - without))
        for p, full, without, seen in zip(positions, *logprobs, share, strict=True)
    )


def _token(reading: Reading, position: int, logprob: float) -> Token:
    """The token at a position of prompt and answer."""
    prompt, first = reading.prompt, len(reading.prompt.ids)
    if position >= first:
        return reading.answer.tokens[position - first]
    start, end = prompt.offsets[position]
    return Token(prompt.text[start:end], prompt.ids[position], position, logprob)


def _around(grid: tuple[int, int], row: int, col: int, window: int) -> np.ndarray:
    """bool (rows, cols): the window around a cell."""
    if not (0 <= row < grid[0] and 0 <= col < grid[1]):
        raise InputError(f"There is no cell ({row}, {col}): the grid has {grid[0]} × {grid[1]} cells, counted from 0.")
    if window < 1 or window % 2 == 0:
        raise InputError(f"The window must be an odd number of cells; given is {window}.")
    rows, cols = np.indices(grid)
    return (abs(rows - row) <= window // 2) & (abs(cols - col) <= window // 2)
