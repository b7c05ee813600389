"""Asks the model again about altered images: many masks in, one score each out, in batches.

A mask says which cells of the grid are REPLACED by a baseline. In `tokens` space the image tokens after the projector
are replaced, so the vision tower never runs again; in `pixels` space whole patch-aligned cells of the picture are, and
it does. Knows masks, baselines and batches; knows nothing about what a score is used for.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias, TypeVar

import cv2
import numpy as np
import torch

from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError, unknown_name
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models import graphs
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import free_bytes
from medgemma_visualizer.models.forward import ensure_finite, image_tokens, logits_at
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.progress import track

Space = Literal["tokens", "pixels"]

#: A baseline by name, or a tensor shaped as what it replaces: tokens (1, N, D), pixels (1, 3, height, width).
Baseline: TypeAlias = str | torch.Tensor

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Sequence positions in one batch: enough to fill a GPU; few enough for a processor's caches.
_POSITIONS_PER_BATCH = {"cpu": 2048, "cuda": 65536}

#: Logits in one batch, 256 MB in float32: long answers over large vocabularies travel in smaller batches.
_LOGITS_PER_BATCH = 2**26


def _mean_token(reading: Reading) -> torch.Tensor:
    tokens = reading.image_tokens
    return tokens.float().mean(dim=1, keepdim=True).to(tokens.dtype).expand_as(tokens)


def _blurred_pixels(reading: Reading) -> torch.Tensor:
    """Gaussian blur, σ = 10 px at a width of 224, scaled with the model's own image size."""
    pixels = reading.pixel_values
    image = np.ascontiguousarray(pixels[0].float().cpu().numpy().transpose(1, 2, 0))  # (height, width, 3)
    blurred = cv2.GaussianBlur(image, (0, 0), 10 * image.shape[1] / 224, borderType=cv2.BORDER_REFLECT)
    return torch.from_numpy(blurred.transpose(2, 0, 1)[None].copy()).to(pixels)


def _mean_pixels(reading: Reading) -> torch.Tensor:
    pixels = reading.pixel_values
    return pixels.float().mean(dim=(2, 3), keepdim=True).to(pixels.dtype).expand_as(pixels)


def _gray_pixels(reading: Reading) -> torch.Tensor:
    """Gray value 128 of 255 in the model's own normalisation."""
    processor, pixels = reading.model.processor.image_processor, reading.pixel_values
    mean, std = (
        torch.tensor(v, device=pixels.device)[:, None, None] for v in (processor.image_mean, processor.image_std)
    )
    return ((128 / 255 - mean) / std).to(pixels.dtype).expand_as(pixels)


def _blurred_tokens(reading: Reading) -> torch.Tensor:
    with torch.no_grad():
        return image_tokens(reading.model, _blurred_pixels(reading))


def _zero_token(reading: Reading) -> torch.Tensor:
    return torch.zeros_like(reading.image_tokens)


#: What stands in for removed cells, by space and name.
BASELINES: Mapping[str, Mapping[str, Callable[[Reading], torch.Tensor]]] = {
    "tokens": {"mean": _mean_token, "blur": _blurred_tokens, "zero": _zero_token},
    "pixels": {"blur": _blurred_pixels, "mean": _mean_pixels, "gray": _gray_pixels},
}


def original(reading: Reading, space: Space) -> torch.Tensor:
    """What masks alter: image tokens (1, N, D), or pixel values (1, 3, height, width).

    Raises:
        InputError: No such space.
    """
    if space not in BASELINES:
        raise unknown_name("space", space, BASELINES)
    return reading.image_tokens if space == "tokens" else reading.pixel_values


def baseline_for(reading: Reading, space: Space, baseline: Baseline | None = None) -> torch.Tensor:
    """The baseline, shaped and placed as `original(reading, space)`; the first of `BASELINES[space]` where None.

    Raises:
        InputError: No such space or baseline, or a tensor of another shape or with values that are not finite.
    """
    replaced = original(reading, space)
    if isinstance(baseline, torch.Tensor):
        if baseline.shape != replaced.shape:
            raise InputError(f"The baseline has the shape {tuple(baseline.shape)}, wanted is {tuple(replaced.shape)}.")
        if baseline.is_complex() or not bool(torch.isfinite(baseline).all()):
            raise InputError("The baseline holds values that are no finite real numbers. Give others.")
        return baseline.detach().to(replaced)
    known = BASELINES[space]
    name = next(iter(known)) if baseline is None else baseline
    if name not in known:
        raise unknown_name(f"baseline in {space} space", name, known)
    return known[name](reading)


def masked_logits(
    reading: Reading,
    aim: Aim,
    masks: np.ndarray,
    *,
    space: Space = "tokens",
    baseline: Baseline | None = None,
    batch: int | None = None,
    what: str = "probes",
) -> Iterator[torch.Tensor]:
    """Logits at the target's rows for altered images, batch by batch, so that several scores can share one pass.

    Args:
        masks: (P, rows, cols) bool, True where a cell is replaced; or float in [0, 1], the share replaced.
        space: What is replaced.
        baseline: What it is replaced by.
        batch: Probes in one forward pass; chosen for the device where None. It never changes a score.
        what: What the progress bar counts.

    Yields:
        float32 (b, R, V), the batches in order, P in all; without gradient.
    """
    model, ids = reading.model, reading.ids(aim.forced)
    before, after = original(reading, space), baseline_for(reading, space, baseline)
    for chunk, count in batches(_checked(masks, model.grid), batch or batch_size(reading, aim, space), what):
        with torch.no_grad():
            share = torch.from_numpy(chunk.astype(np.float32)).to(before)
            altered = torch.lerp(before, after, over(share, space, before))
            tokens = altered if space == "tokens" else image_tokens(model, altered)
            logits = logits_at(model, ids, tokens, aim.rows)
        yield logits[:count]


def score_masks(
    reading: Reading,
    aim: Aim,
    masks: np.ndarray,
    *,
    space: Space = "tokens",
    baseline: Baseline | None = None,
    batch: int | None = None,
    what: str = "probes",
) -> np.ndarray:
    """The target's score for each altered image: float32 (P,). Arguments as in `masked_logits`.

    A score does not depend on which other masks share its batch.

    Raises:
        InputError: No such space or baseline; or a target function that does not give one number for each image.
        UnavailableError: The picture does not divide into whole cells.
        VisualizerError: A logit or a score is not finite.
    """

    def asked(size: int) -> np.ndarray:
        all_logits = masked_logits(reading, aim, masks, space=space, baseline=baseline, batch=size, what=what)
        return joined(scores_of(aim, logits) for logits in all_logits)

    original(reading, space)  # refuses an unknown space first
    return in_smaller_batches(reading.model, batch or batch_size(reading, aim, space), asked)


def in_smaller_batches(model: Model, size: int, work: Callable[[int], T]) -> T:
    """What work gives with a batch of that size, or, where the GPU's memory is too small, of half that size, and so on.

    All is asked again at the smaller size, since equal probes score equal to the last bit in batches of one size only.
    What was captured of models on the device is given up first, even for one probe, which is asked once more.

    Raises:
        VisualizerError: Not even one probe fits.
    """
    last = False
    while True:
        try:
            return work(size)
        except torch.OutOfMemoryError:
            if last:
                raise VisualizerError(
                    "The GPU's memory is too small to score one altered picture. Free some, or load the model with "
                    "dtype='bfloat16' or quantize='8bit'."
                ) from None
        last, size = size == 1, max(1, size // 2)
        logger.warning("The GPU's memory is too small for that batch; asking again with %d at once.", size)
        graphs.make_room(model)


def scores_of(aim: Aim, logits: torch.Tensor) -> np.ndarray:
    """Logits (B, R, V) -> float32 (B,), refused where they are not finite."""
    with torch.no_grad():
        scores = aim.score(logits)
    return ensure_finite(scores.float(), "the target's scores").cpu().numpy()


def joined(chunks: Iterator[np.ndarray]) -> np.ndarray:
    """float32 (P,) of all batches; empty where there was none."""
    return np.concatenate([np.zeros(0, dtype=np.float32), *chunks])


def batches(probes: np.ndarray, size: int, what: str) -> Iterator[tuple[np.ndarray, int]]:
    """Batches (b, …) of one and the same b ≤ `size`, with how many of each are new; counted by one progress bar.

    Equal shapes make equal probes score equal to the last bit, so that "no influence" is an exact 0 and not rounding;
    the last batch is filled up with its own last probe.
    """
    number = max(1, math.ceil(len(probes) / size))
    even = math.ceil(len(probes) / number)
    starts = range(0, len(probes), even or 1)
    filled = (probes[np.minimum(np.arange(start, start + even), len(probes) - 1)] for start in starts)
    counted = ((chunk, min(even, len(probes) - start)) for chunk, start in zip(filled, starts, strict=True))
    return track(counted, total=len(probes), what=what, weights=lambda item: item[1])


def refuse_rounding(scores: np.ndarray) -> None:
    """Raises where scores (P,) differ by float32 rounding only.

    Raises:
        UnavailableError: Nothing that was tried changes the score.
    """
    limit = 16 * np.finfo(np.float32).eps * max(1.0, float(np.abs(scores).max()))
    if np.ptp(scores) <= limit:
        raise UnavailableError(f"Nothing that was hidden changes the score of this target: it stays {scores[0]:.6g}.")


def batch_size(reading: Reading, aim: Aim, space: Space = "tokens") -> int:
    """How many probes share a forward pass: by positions in decoder and vision tower, logits, and free GPU memory."""
    patches = math.prod(reading.model.family.patches(reading.model.hf.config)) if space == "pixels" else 0
    length = max(len(reading.prompt.ids) + len(aim.forced), patches)
    budget = _POSITIONS_PER_BATCH.get(reading.model.device.type, _POSITIONS_PER_BATCH["cpu"])
    positions, numbers = within_memory(budget, reading.model, free_bytes(reading.model.device))
    logits = len(aim.rows) * reading.model.head.weight.shape[0]
    return max(1, min(positions // length, numbers // logits))


def within_memory(budget: int, model: Model, free: int | None) -> tuple[int, int]:
    """Positions and logits that a batch may hold: at most `budget` positions, and half of the free memory.

    A position holds its widest layer about four times and its hidden state eight times; a logit is held three times in
    float32 while a score is computed.
    """
    if free is None:
        return budget, _LOGITS_PER_BATCH
    config = model.text.config
    each = model.dtype.itemsize * (4 * config.intermediate_size + 8 * config.hidden_size)
    return min(budget, free // 4 // each), min(_LOGITS_PER_BATCH, free // 4 // 12)


def _checked(masks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    masks = np.asarray(masks)
    if masks.ndim != 3 or masks.shape[1:] != grid:
        raise ValueError(f"Masks have the shape {masks.shape}, wanted is (probes, {grid[0]}, {grid[1]}).")
    return masks


def over(cells: torch.Tensor, space: Space, before: torch.Tensor) -> torch.Tensor:
    """Values of cells (B, rows, cols), ready to broadcast over what masks alter (`original`).

    Returns:
        (B, N, 1) over tokens, (B, 1, height, width) over pixels.

    Raises:
        UnavailableError: The picture does not divide into whole cells.
    """
    if space == "tokens":
        return cells.flatten(1)[..., None]
    high, wide = cell_pixels(before.shape[-2:], cells.shape[1:])
    return cells.repeat_interleave(high, 1).repeat_interleave(wide, 2)[:, None]


def cell_pixels(picture: Sequence[int], grid: Sequence[int], instead: str = "space='tokens'") -> tuple[int, int]:
    """Pixels (down, across) of one cell of a picture.

    Args:
        picture: (height, width).
        grid: (rows, cols).
        instead: What the message offers where there are no whole cells.

    Raises:
        UnavailableError: The picture does not divide into whole cells.
    """
    (height, width), (rows, cols) = picture, grid
    if height % rows or width % cols:
        raise UnavailableError(
            f"The model's picture of {height} × {width} pixels does not divide into {rows} × {cols} whole cells; "
            f"use {instead}."
        )
    return height // rows, width // cols


def windows(grid: tuple[int, int], size: int, stride: int) -> np.ndarray:
    """Every position of a square window: bool (P, rows, cols); together they cover every cell.

    The last window of a row or column is cut at the border where the stride does not divide.

    Raises:
        InputError: A window or stride that does not fit the grid.
    """
    if not (1 <= size <= min(grid) and 1 <= stride <= size):
        raise InputError(
            f"A window of {size} with stride {stride} does not fit the grid of {grid[0]} × {grid[1]} cells. "
            f"Choose 1 ≤ stride ≤ window ≤ {min(grid)}."
        )
    tops, lefts = (range(0, math.ceil((n - size) / stride) * stride + 1, stride) for n in grid)
    masks = np.zeros((len(tops) * len(lefts), *grid), dtype=bool)
    for n, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        masks[n, top : top + size, left : left + size] = True
    return masks


def regions(grid: tuple[int, int], per_side: int) -> np.ndarray:
    """The grid in at most per_side × per_side rectangles: bool (P, rows, cols); each cell is in exactly one.

    Raises:
        InputError: Not even one region a side.
    """
    if per_side < 1:
        raise InputError(f"per_side is {per_side}; give at least 1 region along each side of the grid.")
    height, width = (math.ceil(n / per_side) for n in grid)
    row, col = np.indices(grid)
    labels = row // height * math.ceil(grid[1] / width) + col // width  # (rows, cols)
    return np.arange(labels.max() + 1)[:, None, None] == labels


def seeded(seed: int) -> np.random.Generator:
    """A stream of random numbers; the same seed gives the same ones.

    Raises:
        InputError: A seed below 0.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; give a whole number of at least 0.")
    return np.random.default_rng(seed)


def mean_over_masks(effects: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """For each cell the mean effect (P,) of the masks (P, rows, cols) that cover it: float32 (rows, cols)."""
    total = np.tensordot(effects.astype(np.float64), masks, axes=1)  # (rows, cols)
    return (total / masks.sum(axis=0)).astype(np.float32)
