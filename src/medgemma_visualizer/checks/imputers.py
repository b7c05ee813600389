"""What stands in for cells that are taken away from a picture. Each assumption flatters other maps, so two are asked.

Knows pictures in the model's own normalisation and masks on its grid; knows nothing about maps or scores. An imputer
gives a whole picture for each mask, of which only the removed cells are used. Masks are bool, True where a cell is
removed; the model's arrays are never written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu

from medgemma_visualizer.errors import unknown_name
from medgemma_visualizer.heatmaps.probing import baseline_for, cell_pixels
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.scores.body import body_mask

#: Masks (B, rows, cols) -> pictures (1 or B, 3, height, width) in the model's dtype.
Fill: TypeAlias = Callable[[np.ndarray], torch.Tensor]

NOISE = 0.01  # standard deviation in normalised grey, as in Rong 2022
#: Pixels a side at which the linear system is solved, larger pictures by whole factors of it. What fills a hole is
#: smooth, so little is lost: on embedded films the fill differs from that at 224 by 0.010 to 0.018 (root mean square,
#: normalised grey), one to two times the noise, and takes a sixth to an eighth of the time.
_WORKING_SIDE = 112
#: Rong 2022: a pixel is the weighted mean of its neighbours, (down, across) -> weight.
_NEIGHBOURS = {(0, 1): 1 / 6, (1, 0): 1 / 6, (1, 1): 1 / 12, (1, -1): 1 / 12}


def whole_cells(masks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Masks over cells as masks over pixels: bool (B, rows, cols) -> (B, height, width).

    Raises:
        UnavailableError: The picture does not divide into whole cells.
    """
    instead = "space='tokens' with the imputer blur, mean or gray"
    high, wide = cell_pixels((height, width), masks.shape[1:], instead)
    return masks.repeat(high, 1).repeat(wide, 2)


def mean_inside_body(reading: Reading) -> torch.Tensor:
    """The picture's mean over the pixels of the body, per channel: (1, 3, 1, 1) in float32."""
    pixels = reading.pixel_values[0].float()  # (3, height, width)
    body = torch.from_numpy(body_mask(pixels.mean(0).cpu().numpy())).to(pixels.device)
    return pixels[:, body].mean(1)[None, :, None, None]


def _fixed(picture: torch.Tensor) -> Fill:
    return lambda masks: picture


def _probing(name: str, reading: Reading, seed: int) -> Fill:
    return _fixed(baseline_for(reading, "pixels", name))


def _mean(reading: Reading, seed: int) -> Fill:
    pixels = reading.pixel_values
    return _fixed(mean_inside_body(reading).to(pixels.dtype).expand_as(pixels))


def _noisy_linear(reading: Reading, seed: int) -> Fill:
    """Removed pixels solve a linear system in their neighbours, plus noise (ROAD; Rong 2022).

    The noise belongs to the pixel and not to the probe, so equal masks give equal pictures in any order and company.
    Nothing is left to interpolate once all is removed: then the mean inside the body stands everywhere.
    """
    pixels = reading.pixel_values
    height, width = pixels.shape[-2:]
    shrink = _shrink(height, width, reading.model.grid)
    small = torch.nn.functional.avg_pool2d(pixels.float(), shrink)[0].cpu().numpy().astype(np.float64)  # (3, h, w)
    system = neighbour_system(*small.shape[1:])
    empty = mean_inside_body(reading).cpu().numpy().astype(np.float64)[0, :, 0]  # (3, 1)
    noise = NOISE * torch.from_numpy(np.random.default_rng((seed, 2)).standard_normal(tuple(pixels.shape[1:])))

    def fill(masks: np.ndarray) -> torch.Tensor:
        gone = whole_cells(masks, *small.shape[1:])
        filled = torch.from_numpy(np.stack([interpolated(small, one, system, empty) for one in gone]))
        large = torch.nn.functional.interpolate(filled, size=(height, width), mode="bilinear") if shrink > 1 else filled
        return (large + noise).to(pixels)

    return fill


def _shrink(height: int, width: int, grid: tuple[int, int]) -> int:
    """The largest whole factor that keeps cells whole and both sides at `_WORKING_SIDE` pixels or more."""
    common = math.gcd(height // grid[0], width // grid[1])
    return max(
        f for f in range(1, common + 1) if common % f == 0 and (f == 1 or min(height, width) // f >= _WORKING_SIDE)
    )


def neighbour_system(height: int, width: int) -> sparse.csr_matrix:
    """Every pixel times the weights of its neighbours, less their weighted sum: (height · width) squared, symmetric.

    Straight neighbours weigh 1/6 and diagonal ones 1/12 (Rong 2022); those beyond the edge do not count.
    """
    at = np.arange(height * width).reshape(height, width)
    weights = sparse.coo_matrix((height * width, height * width))
    for (down, across), weight in _NEIGHBOURS.items():
        here = at[: height - down, max(0, -across) : width - max(0, across)].ravel()
        there = at[down:, max(0, across) : width + min(0, across)].ravel()
        pair = sparse.coo_matrix((np.full(here.size, weight), (here, there)), shape=weights.shape)
        weights = weights + pair + pair.T
    return (sparse.diags(np.asarray(weights.sum(1)).ravel()) - weights).tocsr()


def interpolated(picture: np.ndarray, gone: np.ndarray, system: sparse.csr_matrix, empty: np.ndarray) -> np.ndarray:
    """The picture (channels, h, w) with removed pixels interpolated, a new float64 array.

    Args:
        picture: float64 (channels, h, w).
        gone: bool (h, w), True where removed.
        system: As from `neighbour_system(h, w)`.
        empty: (channels, 1), what stands everywhere if every pixel is removed.
    """
    flat = picture.reshape(len(picture), -1).copy()  # (channels, h · w)
    unknown, known = np.flatnonzero(gone), np.flatnonzero(~gone)
    if not known.size:
        flat[:] = empty
    elif unknown.size:
        rows = system[unknown]
        right = -(rows[:, known] @ flat[:, known].T)  # (unknown, channels)
        order = "MMD_AT_PLUS_A"  # least fill-in, as the system is symmetric
        solved = splu(rows[:, unknown].tocsc(), permc_spec=order, options={"SymmetricMode": True}).solve(right)
        flat[:, unknown] = solved.T
    return flat.reshape(picture.shape)


#: Imputers by name, (reading, seed) -> fill: Gaussian blur (σ = 10 px at 224), mean inside the body, ROAD, gray 128.
IMPUTERS: Mapping[str, Callable[[Reading, int], Fill]] = {
    "blur": partial(_probing, "blur"),
    "mean": _mean,
    "noisy_linear": _noisy_linear,
    "gray": partial(_probing, "gray"),
}

#: Imputers whose picture depends on what is removed.
BY_MASK = frozenset({"noisy_linear"})


def imputer(reading: Reading, name: str, seed: int = 0) -> Fill:
    """What stands in for removed cells of this picture.

    Raises:
        InputError: No imputer of that name.
    """
    if name not in IMPUTERS:
        raise unknown_name("imputer", name, IMPUTERS)
    return IMPUTERS[name](reading, seed)
