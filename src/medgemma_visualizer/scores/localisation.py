"""Does the map find the finding? Scores of a map against a region known to be right.

Knows a raw map and a mask at the image's own resolution (`grid.boxes_to_mask` and `grid.ellipses_to_mask` make one).
Does not know where either came from, and does not ask the model. All chance levels are those of a map that knows
nothing; a map that is equal everywhere scores exactly at chance, because ties count by their expected value.

Which cells lie inside, M: for each connected piece of the mask, the cells covered at least half as much as the piece
covers its best cell, and at least by half where it fills a cell: coverage ≥ ½ · min(1, largest coverage). So a large
region takes the cells that it mostly covers, a rim thinner than a cell keeps its whole course, and a mark smaller than
a cell takes the cell that holds it. Pieces under 1 % of the region's area (slips of the pen) need half a cell.
K = |M|, N = rows · cols. `relevance_mass` weighs by coverage instead and needs no M.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.stats import rankdata
from skimage.filters import threshold_otsu

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import coverage, finite, finite_map, overlap_weights, upsample
from medgemma_visualizer.records import Score
from medgemma_visualizer.scores.maps import CONSTANT, ZERO, distribution, is_constant, positive_part
from medgemma_visualizer.scores.verdict import not_applicable, scored

NAMES = (
    "pointing_game",
    "relevance_mass",
    "relevance_rank",
    "roc_auc",
    "average_precision",
    "iou_otsu",
    "hit_rate",
)

_SPECK = 0.01
_LEVEL = 1e-3  # a level that is whole but for single-precision rounding is that whole level
_PLATEAU = 1e-6  # share of the map's range within which interpolated pixels tie


def cells_inside(mask: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Which cells count as inside the region, bool (rows, cols); the rule is in the module's docstring.

    Args:
        mask: bool (height, width) of any size.
        rows: Rows of the map.
        cols: Columns of the map.

    Returns:
        At least one True for a mask that is not empty, none for an empty one.
    """
    region = _checked_mask(mask)
    inside = coverage(region, rows, cols) >= 0.5
    down, across = overlap_weights(region.shape[0], rows), overlap_weights(region.shape[1], cols)
    pieces, _ = ndimage.label(region, np.ones((3, 3)))
    for number, (y, x) in enumerate(ndimage.find_objects(pieces), start=1):
        piece = pieces[y, x] == number
        if piece.sum() >= _SPECK * region.sum():
            covered = down[:, y] @ piece @ across[:, x].T
            inside |= covered >= 0.5 * covered.max()
    return inside


def pointing_game(grid: np.ndarray, inside: np.ndarray) -> float:
    """Share of the tied largest cells that lie inside M.

    Range [0, 1], higher is better; chance K/N. Source: Zhang et al. 2016, "Top-down neural attention by excitation
    backprop"; ties shared instead of the first one winning.

    Args:
        grid: (rows, cols), signed or not.
        inside: bool (rows, cols), not empty: see `cells_inside`.

    Raises:
        InputError: An empty region, another shape, or a map that is not finite.
    """
    values, cells = _pair(grid, inside)
    return float(cells[values == values.max()].mean())


def relevance_mass(grid: np.ndarray, mask: np.ndarray) -> float:
    """Share of R⁺ inside the region, each cell weighted by the area that the region covers: Σ R⁺·C / ΣR⁺.

    Range [0, 1], higher is better; chance: the region's share of the image (K/N for whole cells). A region smaller
    than a cell can reach its coverage of that cell at most. Source: Arras et al. 2022, "CLEVR-XAI".

    Args:
        grid: (rows, cols); negative values count as 0.
        mask: bool (height, width) of any size, not empty.

    Raises:
        InputError: An empty region, or nothing positive in the map.
    """
    p = distribution(grid)
    return float((p * coverage(_filled(mask), *p.shape)).sum())


def relevance_rank(grid: np.ndarray, inside: np.ndarray) -> float:
    """|top-K ∩ M| / K: how many of the K largest cells are the right ones, K = |M|.

    Range [0, 1], higher is better; chance K/N. Cells tied at the last place count by their expected share. Source:
    Arras et al. 2022. Arguments and errors as in `pointing_game`.
    """
    values, cells = _pair(grid, inside)
    k = int(cells.sum())
    last = np.sort(values)[-k]
    above, tied = values > last, values == last
    return float((cells[above].sum() + (k - above.sum()) * cells[tied].mean()) / k)


def roc_auc(grid: np.ndarray, inside: np.ndarray) -> float:
    """Probability that a cell inside M ranks above one outside (ties one half).

    Range [0, 1], higher is better; chance 0.5. Source: the Mann-Whitney form, Hanley & McNeil 1982. Arguments as in
    `pointing_game`.

    Raises:
        InputError: No cell inside, or none outside.
    """
    values, cells = _pair(grid, inside)
    k, others = int(cells.sum()), int((~cells).sum())
    if others == 0:
        raise InputError("Every cell lies inside the region, so nothing can be told apart; use a smaller region.")
    return float((rankdata(values)[cells].sum() - k * (k + 1) / 2) / (k * others))


def average_precision(grid: np.ndarray, inside: np.ndarray) -> float:
    """Precision averaged over the recall gained at each distinct value, without interpolation.

    Range (0, 1], higher is better; chance K/N. Arguments and errors as in `pointing_game`.
    """
    values, cells = _pair(grid, inside)
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    hits = np.cumsum(cells[order])[last_of_tie]
    precision = hits / (last_of_tie + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / cells.sum())


def iou_otsu(grid: np.ndarray, mask: np.ndarray) -> float:
    """Overlap of the mask with the map cut at Otsu's threshold, at the mask's own resolution.

    The map is enlarged bilinearly, scaled to 0 … 255 in whole numbers and cut. Range [0, 1], higher is better; no
    chance level. Source: the protocol of CheXlocalize, Saporta et al. 2022; over a set it is given for true positives
    only and for all positives, see `chexlocalize_slices`.

    Args:
        grid: (rows, cols), signed or not.
        mask: bool (height, width), not empty.

    Raises:
        InputError: An empty region, or a map that is equal everywhere and so has no threshold.
    """
    region = _at_least(_filled(mask), np.shape(grid))
    if is_constant(grid):
        raise InputError("The map is equal everywhere, so Otsu's method finds no threshold; use a map that explains.")
    values = finite_map(grid)
    heat = upsample(values / np.abs(values).max(), region.shape[0], region.shape[1], "bilinear")  # no scale is special
    heat = heat - heat.min()
    levels = (heat / heat.max() * 255 + _LEVEL).astype(np.uint8)
    cut = levels > threshold_otsu(levels)
    return float((cut & region).sum() / (cut | region).sum())


def hit_rate(grid: np.ndarray, mask: np.ndarray) -> float:
    """Whether the hottest pixel lies in the mask, at the mask's own resolution; tied pixels share.

    The map is enlarged bilinearly. Range [0, 1], 0 or 1 without ties, higher is better; chance: the mask's share of the
    image. Source: CheXlocalize, Saporta et al. 2022. Arguments as in `iou_otsu`.

    Raises:
        InputError: An empty region, or a map that is not finite.
    """
    region = _at_least(_filled(mask), np.shape(grid))
    if is_constant(grid):
        return float(region.mean())
    heat = upsample(grid, region.shape[0], region.shape[1], "bilinear")
    return float(region[heat >= heat.max() - _PLATEAU * np.ptp(heat)].mean())


def chexlocalize_slices(ious: Sequence[float], found: Sequence[bool]) -> dict[str, list[float]]:
    """The two sets over which CheXlocalize averages IoU.

    Args:
        ious: `iou_otsu` of every case that shows the finding.
        found: Whether the model said that the case shows it.

    Returns:
        "true_positives": values where the model found it; "all_positives": every case, 0 where it was missed.
    """
    pairs = list(zip(ious, found, strict=True))
    return {
        "true_positives": [iou for iou, hit in pairs if hit],
        "all_positives": [iou if hit else 0.0 for iou, hit in pairs],
    }


def localisation_scores(grid: np.ndarray, mask: np.ndarray) -> dict[str, Score]:
    """Every score of a raw map against a region, each with its chance level.

    Args:
        grid: (rows, cols), signed or not.
        mask: bool (height, width), at the image's own resolution; any size works.

    Returns:
        Name -> Score for all NAMES. An empty region gives no value anywhere, never a hit.

    Raises:
        InputError: NaN or infinity in the map, wrong dimensions, or a mask that is not one.
    """
    values, region = finite_map(grid), _checked_mask(mask)
    if not region.any():
        return {name: not_applicable(name, "higher", "the region is empty") for name in NAMES}
    inside = cells_inside(region, *values.shape)
    share, area = float(inside.mean()), float(region.mean())
    scores = [
        scored("pointing_game", pointing_game(values, inside), "higher", share),
        _mass_score(values, region, area),
        scored("relevance_rank", relevance_rank(values, inside), "higher", share),
        _auc_score(values, inside),
        scored("average_precision", average_precision(values, inside), "higher", share),
        _iou_score(values, region),
        scored("hit_rate", hit_rate(values, region), "higher", area),
    ]
    return {score.name: score for score in scores}


def _mass_score(grid: np.ndarray, region: np.ndarray, area: float) -> Score:
    if not positive_part(grid).any():
        return not_applicable("relevance_mass", "higher", ZERO)
    return scored("relevance_mass", relevance_mass(grid, region), "higher", area)


def _auc_score(grid: np.ndarray, inside: np.ndarray) -> Score:
    if inside.all():
        return not_applicable("roc_auc", "higher", "every cell lies inside the region")
    return scored("roc_auc", roc_auc(grid, inside), "higher", 0.5)


def _iou_score(grid: np.ndarray, region: np.ndarray) -> Score:
    if is_constant(grid):
        return not_applicable("iou_otsu", "higher", CONSTANT)
    return scored("iou_otsu", iou_otsu(grid, region), "higher")


def _checked_mask(mask: np.ndarray) -> np.ndarray:
    """The mask as bool (height, width); anything but False/True or 0/1 is refused."""
    values = finite(mask, "region's mask")
    if values.dtype == bool:  # a large one is asked about in every score
        return values
    if not np.isin(values, (0, 1)).all():
        low, high = values.min(), values.max()
        raise InputError(f"The region's mask holds values from {low:g} to {high:g}; pass a bool mask (mask > 0).")
    return values.astype(bool)


def _filled(mask: np.ndarray) -> np.ndarray:
    region = _checked_mask(mask)
    if not region.any():
        raise InputError("The region is empty, so no map can hit it; leave the case out or pass its mask.")
    return region


def _pair(grid: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat values and flat bool cells of the same grid."""
    values, cells = finite_map(grid), _filled(inside)
    if values.shape != cells.shape:
        raise InputError(f"The map has shape {values.shape}, the cells {cells.shape}; use cells_inside(mask, *shape).")
    return values.ravel(), cells.ravel()


def _at_least(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask coarser than the map, each pixel repeated until it is not; others unchanged."""
    repeats = [-(-cells // pixels) for cells, pixels in zip(shape, mask.shape, strict=True)]
    return mask.repeat(repeats[0], axis=0).repeat(repeats[1], axis=1)
