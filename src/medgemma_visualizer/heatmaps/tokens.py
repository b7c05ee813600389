"""Every word of an answer at once: a map for each generated token, and, the other way round, the words behind a cell.

Knows tokens and their rows (the token at p is predicted by row p − 1); leaves the explaining to the methods.
"""

from __future__ import annotations

import numbers
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.cross_attention import attention_of_rows
from medgemma_visualizer.heatmaps.explain import explain_or_say_why, finished, unavailable
from medgemma_visualizer.heatmaps.methods import RawMap, check_options
from medgemma_visualizer.heatmaps.probing import Baseline, masked_logits
from medgemma_visualizer.heatmaps.targets import Aim, question_token, resolve
from medgemma_visualizer.heatmaps.ways import Way, sharing
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.models.trace import attention_rows
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Heatmap, Target, Token


def token_maps(reading: Reading, method: str = "cross_attention", **options: Any) -> list[Heatmap]:
    """A map for every generated token, in order, from as few passes as the method allows.

    "cross_attention" reads all tokens from one teacher-forced pass. Gradient methods that start from the image tokens
    or from attention share one forward pass and take one backward pass a token. Others explain each token in turn.

    Args:
        method: A name of `METHODS`.
        **options: Passed to the method.

    Returns:
        One heatmap a token, equal to `explain_reading(reading, method, "token:n")` up to rounding. Where the method
        cannot explain a token its heatmap is not available and carries the reason.

    Raises:
        InputError: The model answered nothing; unknown method or option, or a value that the method refuses.
    """
    count = len(reading.generated.ids)
    if not count:
        raise InputError("The model answered nothing, so there is no token to explain. Ask another question.")
    return _maps(reading, [resolve(reading, f"token:{n}") for n in range(count)], method, options)


def question_maps(reading: Reading, method: str = "cross_attention", **options: Any) -> list[Heatmap]:
    """A map for every token of the question, in order: what in the image makes that word likely, after those before.

    Arguments, cost and errors as of `token_maps`.

    Raises:
        InputError: The text precedes the image, so that no word can depend on it.
    """
    aims = [question_token(reading, position) for position in reading.prompt.question_positions]
    return _maps(reading, aims, method, options)


def _maps(reading: Reading, aims: Sequence[Aim], method: str, options: dict[str, Any]) -> list[Heatmap]:
    check_options([method], options)
    if method == "cross_attention":
        return _attention_maps(reading, aims, options)
    with sharing(_way_to_all(reading, aims, method)):
        steps = track(aims, total=len(aims), what="tokens")
        return [explain_or_say_why(reading, aim, method, options) for aim in steps]


def _way_to_all(reading: Reading, aims: Sequence[Aim], method: str) -> Way:
    """One pass over prompt and answer; nothing is computed until a method asks for it."""
    rows = [row for aim in aims for row in aim.rows]
    return Way(reading, aims[-1].forced, rows, attention=method == "relevance")


def _attention_maps(reading: Reading, aims: Sequence[Aim], options: dict[str, Any]) -> list[Heatmap]:
    """Row p − 1 of every generated token, from one pass over prompt and answer."""
    start = time.perf_counter()
    rows = [row for aim in aims for row in aim.rows]
    seen = attention_of_rows(reading, aims[-1].forced, rows, **options)
    seconds = (time.perf_counter() - start) / len(aims)
    return [_attention_map(reading, aim, seen.raw_map(reading, [n]), seconds) for n, aim in enumerate(aims)]


def _attention_map(reading: Reading, aim: Aim, raw: RawMap, seconds: float) -> Heatmap:
    try:
        return finished(reading, aim.target, "cross_attention", raw, seconds)
    except UnavailableError as error:
        return unavailable(reading, "cross_attention", aim.target, {"cross_attention": str(error)})


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


def _around(grid: tuple[int, int], row: Any, col: Any, window: Any) -> np.ndarray:
    """bool (rows, cols): the window around a cell."""
    if not all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in (row, col, window)):
        raise InputError(f"Row, column and window are whole numbers; given are {row!r}, {col!r} and {window!r}.")
    if not (0 <= row < grid[0] and 0 <= col < grid[1]):
        raise InputError(f"There is no cell ({row}, {col}): the grid has {grid[0]} × {grid[1]} cells, counted from 0.")
    if window < 1 or window % 2 == 0:
        raise InputError(f"The window must be an odd number of cells; given is {window}.")
    rows, cols = np.indices(grid)
    return (abs(rows - row) <= window // 2) & (abs(cols - col) <= window // 2)
