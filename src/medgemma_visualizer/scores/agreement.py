"""Do two maps, or several answers, say the same? For prompts, seeds, methods and randomised weights alike.

Knows two grids of the same shape, or a list of labels. Does not know whether agreement is deserved: two maps that both
ignore the question agree perfectly, so every number here is read beside that of other images and other findings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import rel_entr
from scipy.stats import rankdata
from skimage.metrics import structural_similarity

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import finite_map, top_cells
from medgemma_visualizer.records import Direction, Score
from medgemma_visualizer.scores.maps import CONSTANT, ZERO, distribution, is_constant, positive_part
from medgemma_visualizer.scores.verdict import not_applicable, scored

SSIM_WINDOW = 7
TOP_SHARE = 0.1
DIRECTIONS: dict[str, Direction] = {
    "js_divergence": "lower",
    "spatial_stability": "higher",
    "spearman": "higher",
    "pearson": "higher",
    "cosine": "higher",
    "ssim": "higher",
}

_JS_LABELS = (
    (0.1, "Nearly identical attention patterns"),
    (0.3, "Similar with minor variations"),
    (0.5, "Moderate differences"),
)


def js_divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen-Shannon divergence of two maps in nats: ½KL(P‖M) + ½KL(Q‖M), M = ½(P + Q), 0·ln 0 = 0.

    Range [0, ln 2 = 0.693], lower is more alike; 0 for equal maps, ln 2 for maps that share no cell. This is the
    divergence, not its square root (the distance that SciPy returns). Source: Lin 1991.

    Args:
        first: (rows, cols); negative values count as 0.
        second: The same shape.

    Raises:
        InputError: Different shapes, nothing positive in a map, or a map that is not finite.
    """
    _same_shape(first, second)
    p, q = distribution(first), distribution(second)
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / 2
    return float(np.clip(divergence, 0, np.log(2)))


def interpret_js_divergence(js_value: float) -> str:
    """The specification's words for a Jensen-Shannon divergence in nats (bounds 0.1, 0.3, 0.5).

    Raises:
        InputError: Outside [0, ln 2], which no divergence in nats can be.
    """
    if not 0 <= js_value <= np.log(2) + 1e-9:
        raise InputError(f"{js_value} is no Jensen-Shannon divergence in nats; it lies between 0 and 0.693.")
    return next((label for bound, label in _JS_LABELS if js_value < bound), "Significant divergence")


def spatial_stability(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """Overlap (intersection over union) of the hottest tenth of the cells of two maps.

    K = 10 % of N, rounded, at least 1; exactly K cells each, ties at the last place broken by one seeded permutation.
    Cells that are not positive are no peaks and never count, however few others there are. Range [0, 1], higher is
    better; chance K/(2N - K) for K cells each. Source: specification, section 10.3.

    Raises:
        InputError: Different shapes, nothing positive in a map, or a map that is equal everywhere.
    """
    one, other = _peaks(first, second, seed)
    return float((one & other).sum() / (one | other).sum())


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank. Range [-1, 1], higher is more alike; chance 0.

    Raises:
        InputError: Different shapes, or a map that is equal everywhere.
    """
    _same_shape(first, second)
    ranks = [rankdata(finite_map(each)).reshape(np.shape(each)) for each in (first, second)]
    return pearson(*ranks)


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Linear correlation of the cells. Range [-1, 1], higher is more alike; chance 0.

    Raises:
        InputError: Different shapes, or a map that is equal everywhere.
    """
    _same_shape(first, second)
    _varied(first, second)
    one, other = (_unit(finite_map(each)) for each in (first, second))
    return cosine(one - one.mean(), other - other.mean())


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine of the angle between two maps as vectors. Range [-1, 1] ([0, 1] without negative values), higher is
    more alike; two random positive maps are far above 0.

    Raises:
        InputError: Different shapes, or a map that is 0 everywhere.
    """
    _same_shape(first, second)
    one, other = (_unit(finite_map(each)) for each in (first, second))
    if not (one.any() and other.any()):
        raise InputError("A map that is 0 everywhere has no direction; use a map that explains.")
    return float(np.clip((one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other)), -1, 1))


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of two maps as pictures, 7 x 7 window, data range common to both.

    Range [-1, 1], higher is more alike; no chance level. Source: Wang et al. 2004, as in scikit-image.

    Raises:
        InputError: Different shapes, a side under 7 cells, or two maps that hold one and the same number.
    """
    _same_shape(first, second)
    if min(np.shape(first)) < SSIM_WINDOW:
        raise InputError(f"SSIM needs {SSIM_WINDOW} cells a side, not {np.shape(first)}; use another similarity.")
    pair = np.stack([finite_map(first), finite_map(second)])
    common = np.ptp(pair)
    if common == 0:
        raise InputError("Both maps hold the same single number, so SSIM has no range; use maps that explain.")
    first, second = pair / common  # the scale cancels; this keeps squares of huge or tiny values in range
    return float(structural_similarity(first, second, win_size=SSIM_WINDOW, data_range=1.0))


def answer_consistency(labels: Sequence[str]) -> float:
    """Share of prompts whose label is the most frequent one; "uncertain" is a label like any other.

    Range [1/n, 1], higher is better; no chance level. Source: specification, section 10.3.

    Raises:
        InputError: No labels.
    """
    if not labels:
        raise InputError("No answers were given; pass the label of at least one prompt.")
    return Counter(labels).most_common(1)[0][1] / len(labels)


def consistency_score(labels: Sequence[str]) -> Score:
    """`answer_consistency` with its verdict; not applicable to fewer than two prompts, which cannot disagree."""
    if len(labels) < 2:
        return not_applicable("answer_consistency", "higher", "one prompt cannot disagree with itself", n=len(labels))
    return scored("answer_consistency", answer_consistency(labels), "higher", n=len(labels))


def agreement_scores(first: np.ndarray, second: np.ndarray, seed: int = 0) -> dict[str, Score]:
    """Every agreement of two raw maps, with verdict and chance level where there is one.

    Args:
        first: (rows, cols), signed or not.
        second: The same shape.
        seed: Breaks ties among the hottest cells.

    Returns:
        Name -> Score for all names of DIRECTIONS; what a map that is zero, constant or small cannot have is left
        without a value, with the reason.

    Raises:
        InputError: Different shapes, NaN or infinity.
    """
    _same_shape(first, second)
    reasons = _obstacles(first, second)
    metrics: dict[str, Callable[[], float]] = {
        "js_divergence": lambda: js_divergence(first, second),
        "spatial_stability": lambda: spatial_stability(first, second, seed),
        "spearman": lambda: spearman(first, second),
        "pearson": lambda: pearson(first, second),
        "cosine": lambda: cosine(first, second),
        "ssim": lambda: ssim(first, second),
    }
    chances = {"spatial_stability": stability_chance(np.size(first)), "spearman": 0.0, "pearson": 0.0}
    return {
        name: not_applicable(name, DIRECTIONS[name], reasons[name])
        if reasons[name]
        else scored(name, metric(), DIRECTIONS[name], chances.get(name))
        for name, metric in metrics.items()
    }


def stability_chance(cells: int) -> float:
    """K/(2N - K): the overlap of two random sets of K of N cells, K a tenth of them."""
    k = _peak_count(cells)
    return k / (2 * cells - k)


def _obstacles(first: np.ndarray, second: np.ndarray) -> dict[str, str]:
    """Name -> why the agreement cannot be computed, "" where it can."""
    pair = (first, second)
    zero = "" if all(positive_part(each).any() for each in pair) else ZERO
    constant = CONSTANT if any(is_constant(each) for each in pair) else ""
    no_direction = "" if all(finite_map(each).any() for each in pair) else "the map is 0 everywhere"
    small = f"SSIM needs {SSIM_WINDOW} cells a side" if min(np.shape(first)) < SSIM_WINDOW else ""
    return {
        "js_divergence": zero,
        "spatial_stability": zero or constant,
        "spearman": constant,
        "pearson": constant,
        "cosine": no_direction,
        "ssim": small or constant,
    }


def _peaks(first: np.ndarray, second: np.ndarray, seed: int) -> list[np.ndarray]:
    _same_shape(first, second)
    _varied(first, second)
    k = _peak_count(np.size(first))
    peaks = [top_cells(each, k, seed) & (finite_map(each) > 0) for each in (first, second)]
    if not all(each.any() for each in peaks):
        raise InputError("A map without positive relevance has no peaks; use a map that explains.")
    return peaks


def _peak_count(cells: int) -> int:
    return max(1, round(TOP_SHARE * cells))


def _same_shape(first: np.ndarray, second: np.ndarray) -> None:
    if np.shape(first) != np.shape(second):
        raise InputError(f"The maps have shapes {np.shape(first)} and {np.shape(second)}; compare maps of one grid.")


def _varied(first: np.ndarray, second: np.ndarray) -> None:
    if is_constant(first) or is_constant(second):
        raise InputError("A map that is equal everywhere agrees with nothing in particular; use a map that explains.")


def _unit(values: np.ndarray) -> np.ndarray:
    """Divided by the largest magnitude, so that squares of huge or tiny values stay in range."""
    largest = np.abs(values).max()
    return values / largest if largest > 0 else values
