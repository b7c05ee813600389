"""The model's grid of image tokens laid over the image: the only place that resizes grids and masks.

Knows areas, edges and ranks of cells. Knows nothing about models, colours, or what a map means. A cell (r, c) of a
(rows, cols) grid over an image (height, width) is the rectangle [r, r + 1) · height/rows by [c, c + 1) · width/cols;
sizes need not divide. Arrays are indexed (y, x) from the upper left; no array that is passed in is ever written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from medgemma_visualizer.errors import InputError

Kind = Literal["nearest", "bilinear", "cubic"]
Box = tuple[float, float, float, float]

_CUBIC_SHARPNESS = -0.75  # Keys' parameter a, as in OpenCV and PyTorch


def finite(values: np.ndarray, name: str = "map") -> np.ndarray:
    """A two-dimensional array as it was given, after checking that every number in it is one.

    Args:
        values: (rows, cols), any real dtype.
        name: What the array is, for the message.

    Raises:
        InputError: Not two-dimensional, empty, not numeric, or holding NaN or infinity.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"The {name} has shape {array.shape}; pass a non-empty two-dimensional array (rows, cols).")
    if array.dtype.kind not in "biuf":
        raise InputError(f"The {name} has dtype {array.dtype}; pass real numbers.")
    broken = 0 if array.dtype.kind in "biu" else int(array.size - np.isfinite(array).sum())
    if broken:
        raise InputError(f"The {name} holds NaN or infinity in {broken} of {array.size} places; find where they arose.")
    return array


def finite_map(values: np.ndarray, name: str = "map") -> np.ndarray:
    """A float64 copy of what `finite` accepts.

    Raises:
        InputError: As `finite`.
    """
    return finite(values, name).astype(np.float64)


@lru_cache(maxsize=64)
def overlap_weights(pixels: int, cells: int) -> np.ndarray:
    """Share of each cell that each pixel covers along one axis, float64 (cells, pixels); every row sums to 1.

    Kept for the sizes asked for lately, and therefore not to be written.
    """
    cell, pixel = np.arange(cells)[:, None], np.arange(pixels)[None]
    # Lengths in units of pixel/cells are whole numbers, so nothing is rounded before the last division.
    right = np.minimum((cell + 1) * pixels, (pixel + 1) * cells)
    left = np.maximum(cell * pixels, pixel * cells)
    weights = np.maximum(right - left, 0) / pixels
    weights.flags.writeable = False
    return weights


def downsample(values: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Area-weighted mean of a (height, width) array in each cell, float64 (rows, cols); the mean is preserved.

    Also spreads a coarse array over a finer grid, each value over the cells that it covers.

    Raises:
        InputError: Not a finite two-dimensional array, or a grid without cells.
    """
    array = finite_map(values)
    _check_size(rows, cols, "grid")
    height, width = array.shape
    return overlap_weights(height, rows) @ array @ overlap_weights(width, cols).T


def coverage(mask: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Share of each cell's area that a mask covers.

    Args:
        mask: (height, width) of any size; bool, or numbers in [0, 1] for soft edges.
        rows: Rows of the grid.
        cols: Columns of the grid.

    Returns:
        float32 (rows, cols) in [0, 1], exact also where sizes do not divide; its mean is the mask's mean.

    Raises:
        InputError: Values outside [0, 1] (a 0/255 mask, say), or not a finite two-dimensional array.
    """
    array = finite(mask, "mask")
    low, high = array.min(), array.max()
    if low < 0 or high > 1:
        raise InputError(f"The mask holds values from {low:g} to {high:g}; pass a bool mask (for 0/255: mask > 0).")
    return np.clip(downsample(array, rows, cols), 0, 1).astype(np.float32)


def boxes_to_coverage(boxes: Sequence[Box] | np.ndarray, height: int, width: int, rows: int, cols: int) -> np.ndarray:
    """Share of each cell's area inside the union of boxes, exact for fractional edges.

    Args:
        boxes: (x0, y0, x1, y1) each, in pixels of the image, edges continuous: a whole image is (0, 0, width, height).
        height: Rows of the image.
        width: Columns of the image.
        rows: Rows of the grid.
        cols: Columns of the grid.

    Returns:
        float32 (rows, cols) in [0, 1]; zeros without boxes.

    Raises:
        InputError: A box without area, or one that lies outside the image.
    """
    clipped = _checked_boxes(boxes, height, width)
    _check_size(rows, cols, "grid")
    y_edges = _edges(height, rows, clipped[:, [1, 3]])
    x_edges = _edges(width, cols, clipped[:, [0, 2]])
    inside = np.zeros((len(y_edges) - 1, len(x_edges) - 1), bool)
    for x0, y0, x1, y1 in clipped:
        inside[np.ix_(_between(y_edges, y0, y1), _between(x_edges, x0, x1))] = True
    down, across = _piece_weights(y_edges, height, rows), _piece_weights(x_edges, width, cols)
    return np.clip(down @ inside @ across.T, 0, 1).astype(np.float32)


def boxes_to_mask(boxes: Sequence[Box] | np.ndarray, height: int, width: int) -> np.ndarray:
    """Union of boxes as a bool mask (height, width): pixels covered by half or more.

    Boxes that cover half of no pixel mark the pixels that they cover most. Arguments and errors as in
    `boxes_to_coverage`.
    """
    covered = boxes_to_coverage(boxes, height, width, height, width)
    most = float(covered.max())
    return covered >= min(0.5, most) if most > 0 else np.zeros((height, width), bool)


def ellipses_to_mask(ellipses: Sequence[Box] | np.ndarray, height: int, width: int) -> np.ndarray:
    """Union of upright ellipses, each given by its bounding box, as a bool mask (height, width) of pixel centres.

    An ellipse that holds no pixel centre marks the pixel under its own centre.

    Raises:
        InputError: A bounding box without area, or one that lies outside the image.
    """
    _checked_boxes(ellipses, height, width)
    y, x = np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5
    mask = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in np.asarray(ellipses, np.float64).reshape(-1, 4):
        centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
        one = ((x - centre_x) / (x1 - x0) * 2) ** 2 + ((y - centre_y) / (y1 - y0) * 2) ** 2 <= 1
        if not one.any():
            one[_clamped(centre_y, height), _clamped(centre_x, width)] = True
        mask |= one
    return mask


def upsample(grid: np.ndarray, height: int, width: int, kind: Kind = "nearest") -> np.ndarray:
    """A grid read at every pixel centre of an image.

    Args:
        grid: (rows, cols), any real numbers.
        height: Rows of the image, at least `rows`.
        width: Columns of the image, at least `cols`.
        kind: "nearest" shows each cell as the rectangle that it is; "bilinear" stays between the cells' values;
            "cubic" (Keys 1981, a = -0.75) is smoothest and may pass the smallest and largest value, below 0 too.

    Returns:
        float32 (height, width); cells at the edge go on unchanged outwards.

    Raises:
        InputError: An image smaller than the grid (use `downsample`), an unknown kind, a grid that is not finite.
    """
    array = finite_map(grid, "grid")
    rows, cols = array.shape
    if height < rows or width < cols:
        raise InputError(f"A {rows} x {cols} grid cannot be enlarged to {height} x {width}; use downsample instead.")
    return (_reading_weights(height, rows, kind) @ array @ _reading_weights(width, cols, kind).T).astype(np.float32)


def ranked_cells(grid: np.ndarray, seed: int = 0) -> np.ndarray:
    """Flat indices of all cells, largest value first, int64 (rows · cols,); ties in a seeded random order."""
    values = finite_map(grid, "grid").ravel()
    shuffled = np.random.default_rng(seed).permutation(values.size)
    return shuffled[np.argsort(-values[shuffled], kind="stable")]


def top_cells(grid: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """The k cells with the largest values, bool (rows, cols) with exactly k True.

    Ties are broken by a seeded permutation, so a constant grid gives a random set; a larger k only adds cells.

    Raises:
        InputError: k outside 0 … rows · cols, or a grid that is not finite.
    """
    shape = np.shape(grid)
    order = ranked_cells(grid, seed)
    if not 0 <= k <= order.size:
        raise InputError(f"k is {k}; choose between 0 and the {order.size} cells of the grid.")
    top = np.zeros(order.size, bool)
    top[order[:k]] = True
    return top.reshape(shape)


def factor_to_grid(n_tokens: int, H: int, W: int) -> tuple[int, int]:
    """The (rows, cols) with rows · cols = n_tokens whose shape is nearest to an image of H by W.

    Nearness is |log((cols/rows) / (W/H))|, so that twice too wide and twice too tall are equally far; both
    orientations are tried, and a tie goes to the wider grid. A model's own grid is to be preferred where it is known:
    a count that does not factor well (a class token left in, say) still gets its best, possibly useless, answer here.

    Raises:
        InputError: A count or size under 1.
    """
    _check_size(H, W, "image")
    if n_tokens < 1:
        raise InputError(f"{n_tokens} image tokens make no grid; pass the number of image tokens, at least 1.")
    factors = [(rows, n_tokens // rows) for rows in range(1, n_tokens + 1) if n_tokens % rows == 0]
    return min(factors, key=lambda shape: (round(abs(math.log(shape[1] * H / (shape[0] * W))), 12), shape[0]))


def strip_border(grid: np.ndarray, k: int = 1) -> np.ndarray:
    """A float32 copy of a grid (rows, cols) whose outer k rings are 0. For pictures; scores use the raw grid.

    Raises:
        InputError: k is negative or leaves no cell.
    """
    array = finite_map(grid, "grid").astype(np.float32)
    rows, cols = array.shape
    if k < 0 or 2 * k >= min(rows, cols):
        raise InputError(f"Stripping {k} rings of a {rows} x {cols} grid leaves nothing; choose a smaller k.")
    inner = (slice(k, rows - k), slice(k, cols - k))
    stripped = np.zeros_like(array)
    stripped[inner] = array[inner]
    return stripped


def cell_of_pixel(y: float, x: float, height: int, width: int, rows: int, cols: int) -> tuple[int, int]:
    """The (row, col) of the cell that holds the centre of the pixel at (y, x) of an image (height, width).

    Raises:
        InputError: The pixel lies outside the image.
    """
    _check_size(rows, cols, "grid")
    row, col = math.floor(y), math.floor(x)
    if not (0 <= row < height and 0 <= col < width):
        raise InputError(f"Pixel (y={y:g}, x={x:g}) lies outside the image of {height} x {width} pixels.")
    return (2 * row + 1) * rows // (2 * height), (2 * col + 1) * cols // (2 * width)


def token_mask_from_body(body_mask: np.ndarray, grid_h: int, grid_w: int, border: int = 1) -> np.ndarray:
    """Cells that lie mostly inside the body, the outer rings left out.

    Args:
        body_mask: bool (height, width).
        grid_h: Rows of the grid.
        grid_w: Columns of the grid.
        border: Rings left out whatever lies there; 1 as specified, 0 keeps all.

    Returns:
        bool (grid_h, grid_w), True where more than half of the cell is body.

    Raises:
        InputError: As in `coverage` and `strip_border`.
    """
    return strip_border(coverage(body_mask, grid_h, grid_w) > 0.5, border) > 0


def _check_size(rows: int, cols: int, name: str) -> None:
    if rows < 1 or cols < 1:
        raise InputError(f"The {name} is {rows} x {cols}; both sides must be at least 1.")


def _checked_boxes(boxes: Sequence[Box] | np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes cut off at the image's edges, float64 (n, 4)."""
    _check_size(height, width, "image")
    array = np.asarray(boxes, np.float64).reshape(-1, 4)
    clipped = np.clip(array, 0, [width, height, width, height])
    for given, (x0, y0, x1, y1) in zip(array.tolist(), clipped.tolist(), strict=True):
        if not (np.isfinite(given).all() and given[0] < given[2] and given[1] < given[3]):
            raise InputError(f"Box {given} has no area; pass (x0, y0, x1, y1) in pixels with x0 < x1 and y0 < y1.")
        if x0 >= x1 or y0 >= y1:
            raise InputError(f"Box {given} lies outside the image of {height} x {width} pixels (height x width).")
    return clipped


def _edges(pixels: int, cells: int, cuts: np.ndarray) -> np.ndarray:
    return np.unique(np.concatenate([np.arange(cells + 1) * pixels / cells, cuts.ravel()]))


def _between(edges: np.ndarray, low: float, high: float) -> np.ndarray:
    """Which pieces between consecutive edges lie in [low, high]."""
    return np.flatnonzero((edges[:-1] >= low) & (edges[1:] <= high))


def _piece_weights(edges: np.ndarray, pixels: int, cells: int) -> np.ndarray:
    """Share of each cell that each piece between edges makes up, (cells, pieces)."""
    middle = (edges[1:] + edges[:-1]) / 2
    owner = np.clip((middle * cells / pixels).astype(int), 0, cells - 1)
    weights = np.zeros((cells, middle.size))
    weights[owner, np.arange(middle.size)] = np.diff(edges) * cells / pixels
    return weights


def _clamped(position: float, size: int) -> int:
    return min(max(math.floor(position), 0), size - 1)


def _reading_weights(pixels: int, cells: int, kind: str) -> np.ndarray:
    """What each cell contributes to each pixel along one axis, float64 (pixels, cells); every row sums to 1."""
    if kind not in ("nearest", "bilinear", "cubic"):
        raise InputError(f"Unknown kind {kind!r}; choose 'nearest', 'bilinear' or 'cubic'.")
    pixel = np.arange(pixels)
    weights = np.zeros((pixels, cells))
    if kind == "nearest":
        weights[pixel, (2 * pixel + 1) * cells // (2 * pixels)] = 1
        return weights
    place = (pixel + 0.5) * cells / pixels - 0.5  # of the pixel's centre, in cell centres
    first, reach = np.floor(place).astype(int), 1 if kind == "bilinear" else 2
    for step in range(1 - reach, reach + 1):
        near = np.abs(place - (first + step))
        share = 1 - near if kind == "bilinear" else _cubic(near)
        np.add.at(weights, (pixel, np.clip(first + step, 0, cells - 1)), share)
    return weights


def _cubic(distance: np.ndarray) -> np.ndarray:
    a, d = _CUBIC_SHARPNESS, distance
    inner = (a + 2) * d**3 - (a + 3) * d**2 + 1
    outer = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0))
