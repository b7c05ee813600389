"""Does image token n stand for cell n of the picture? Every map rests on it, so it is tried cell by cell.

Knows how to change one cell of the picture and which token answers; knows nothing about heatmap methods, except in the
quadrant test, which asks whether a method's map follows a bright quadrant (specification 7.5.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.grid import downsample
from medgemma_visualizer.heatmaps.explain import explain_reading
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.forward import image_tokens
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Score
from medgemma_visualizer.scores.verdict import NO_BETTER, not_applicable
from medgemma_visualizer.settings import METHOD_PRIORITY

Cell = tuple[int, int]

BATCH = 16
QUADRANTS = ("upper left", "upper right", "lower left", "lower right")
#: Mass in the bright quadrant that the specification asks for; a map that knows nothing has a quarter.
BRIGHT, QUARTER = 0.5, 0.25
QUESTION = "Describe this image."


@dataclass(frozen=True)
class TokenOrder:
    """Which token changes most when one cell of the picture does.

    Attributes:
        answers: int (rows, cols), for each cell the index in reading order of the token that changed most.
        pictures: int (rows, cols), how many pictures it took to tell.
    """

    answers: np.ndarray
    pictures: np.ndarray

    @property
    def misses(self) -> dict[Cell, Cell]:
        """Cell -> the other cell whose token answered."""
        wrong = np.argwhere(self.answers != np.arange(self.answers.size).reshape(self.answers.shape))
        cols = self.answers.shape[1]
        found = {}
        for row, col in wrong:
            other_row, other_col = divmod(int(self.answers[row, col]), cols)
            found[int(row), int(col)] = (other_row, other_col)
        return found

    @property
    def score(self) -> Score:
        """Share of cells that are found, in [0, 1], higher is better; chance 1/N; all must be."""
        cells, missed = self.answers.size, self.misses
        reason = f"{cells - len(missed)} of {cells} cells, {int((self.pictures == 1).sum())} from one picture"
        if missed:
            examples = [f"{cell} answered by {other}" for cell, other in list(missed.items())[:3]]
            reason += f"; missed: {', '.join(examples)}"
        share = 1 - len(missed) / cells
        return Score("token_order", share, "higher", 1 / cells, "poor" if missed else "good", 1.0, cells, reason=reason)


def token_order(model: Model, *, pictures: int = 8, seed: int = 0, batch: int = BATCH) -> TokenOrder:
    """Changes one cell of a picture at a time and looks for the image token that changes most.

    The vision tower mixes the whole picture: every token changes a little, and some change much whichever cell does. A
    cell whose own token does not lead in one picture is tried in others; the geometric mean of the changes decides.

    Args:
        pictures: How many to try a cell in before it counts as missed.
        seed: Of the noise that the pictures and the changed cells are made of: no cell is like another.
        batch: Pictures at once.

    Raises:
        InputError: The model's cells are no whole number of pixels, or no token depends on the picture.
    """
    rows, cols = model.grid
    cells = np.arange(rows * cols)
    answers, needed = np.full(cells.size, -1), np.zeros(cells.size, int)
    totals = np.zeros((cells.size, cells.size))  # logarithms of changes
    for number in range(pictures):
        left = cells[answers != cells]
        if left.size:
            totals[left] += _log_changes(model, left, _noise(model, seed + number), batch)
            answers[left], needed[left] = totals[left].argmax(axis=1), number + 1
    return TokenOrder(answers.reshape(rows, cols), needed.reshape(rows, cols))


def _log_changes(model: Model, cells: np.ndarray, noise: tuple[torch.Tensor, torch.Tensor], batch: int) -> np.ndarray:
    """Logarithm of the length of each token's change, float64 (cells, N)."""
    picture, other = noise
    chunks = [cells[start : start + batch] for start in range(0, cells.size, batch)]
    with torch.no_grad():
        before = image_tokens(model, picture)  # (1, N, D)
        tracked = track(chunks, total=cells.size, what="cells", weights=len)
        changes = torch.cat([_changes(model, picture, other, chunk, before) for chunk in tracked])
    if not bool(changes.any()):
        raise InputError(f"No image token of {model.name!r} depends on the picture. Load a trained model.")
    return np.log(np.maximum(changes.double().cpu().numpy(), np.finfo(np.float32).tiny))


def _changes(
    model: Model, picture: torch.Tensor, other: torch.Tensor, cells: np.ndarray, before: torch.Tensor
) -> torch.Tensor:
    """Length of each token's change (cells, N) for each changed cell."""
    cols = model.grid[1]
    height, width = _cell_size(model, picture)
    altered = picture.repeat(len(cells), 1, 1, 1)  # (b, 3, height, width)
    for n, cell in enumerate(cells.tolist()):
        top, left = cell // cols * height, cell % cols * width
        inside = (slice(top, top + height), slice(left, left + width))
        altered[n, :, *inside] = other[0, :, *inside]
    return (image_tokens(model, altered).float() - before.float()).norm(dim=-1)


def _cell_size(model: Model, picture: torch.Tensor) -> tuple[int, int]:
    (rows, cols), (height, width) = model.grid, picture.shape[-2:]
    if height % rows or width % cols:
        raise InputError(f"A picture of {height} × {width} pixels has no whole cells on a grid of {rows} × {cols}.")
    return height // rows, width // cols


def _noise(model: Model, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two unlike pictures (1, 3, height, width) in the model's own range of −1 to 1, one value for each patch."""
    size = int(model.hf.config.vision_config.image_size)
    rows, cols = model.family.patches(model.hf.config)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(2, 3, rows, cols, generator=generator) * 2 - 1
    one, other = torch.nn.functional.interpolate(drawn, size=(size, size)).to(model.device, model.dtype).split(1)
    return one, other


@dataclass(frozen=True)
class QuadrantTest:
    """Share of a map in the bright quadrant of an otherwise black picture.

    Attributes:
        method: The method, by name.
        shares: Quadrant -> share of the map inside it, in [0, 1]; quadrants without a map are left out.
        failures: Quadrant -> why there was no map.
    """

    method: str
    shares: Mapping[str, float]
    failures: Mapping[str, str]

    @cached_property
    def score(self) -> Score:
        """Mean share, higher is better, chance 0.25; "good" where every quadrant has more than half of its map."""
        if not self.shares:
            return not_applicable("quadrant_test", "higher", next(iter(self.failures.values())), n=0)
        shares = list(self.shares.values())
        mean = float(np.mean(shares))
        complete = len(shares) == len(QUADRANTS) and min(shares) > BRIGHT
        label = NO_BETTER if mean <= QUARTER else "good" if complete else "poor"
        parts = [f"{name} {share:.2f}" for name, share in self.shares.items()]
        parts += [f"{name} has no map" for name in self.failures]
        return Score("quadrant_test", mean, "higher", QUARTER, label, BRIGHT, len(shares), reason=", ".join(parts))


def quadrant_test(model: Model, method: str, question: str = QUESTION, **options: Any) -> QuadrantTest:
    """The specification's checkerboard for all four quadrants: does the map follow the only bright one?

    It is reported, not required: what answers a question need not be what is bright. Whether tokens lie in the order of
    the cells is `token_order`'s to say.

    Raises:
        InputError: Unknown method.
    """
    shares, failures = {}, {}
    for name in track(QUADRANTS, total=len(QUADRANTS), what="quadrants"):
        reading = read(model, bright_quadrant(model, name), question)
        try:
            shares[name] = _share(explain_reading(reading, method, **options).map, name)
        except UnavailableError as error:
            failures[name] = str(error)
    return QuadrantTest(method, shares, failures)


def bright_quadrant(model: Model, name: str) -> Image.Image:
    """A black picture of the model's own size with one white quadrant."""
    size = int(model.hf.config.vision_config.image_size)
    row, col = divmod(QUADRANTS.index(name), 2)
    pixels = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    pixels[row * half : (row + 1) * half, col * half : (col + 1) * half] = 255
    return Image.fromarray(pixels)


def _share(grid: np.ndarray, name: str) -> float:
    """Share of a map ≥ 0 in one quadrant; middle rows and columns are shared by area."""
    quarters = downsample(grid, 2, 2)
    return float(quarters.ravel()[QUADRANTS.index(name)] / quarters.sum())


def checkerboard_test(
    model: Model, method: str = METHOD_PRIORITY[0], question: str = "describe this image"
) -> tuple[bool, float]:
    """The specification's test (7.5.1): whether more than half of the map lies in a bright upper left, and its share.

    Raises:
        UnavailableError: The method has no map of that picture.
    """
    reading = read(model, bright_quadrant(model, QUADRANTS[0]), question)
    share = _share(explain_reading(reading, method).map, QUADRANTS[0])
    return share > BRIGHT, share
