"""Every metric of a map equals an independent oracle within 1e-6: another library, or its formula written out naively.

Oracles by library: captum (infidelity), scikit-image (block means), scikit-learn (areas, ROC, precision, overlaps),
SciPy (entropy, divergence, correlations), OpenCV (enlarging, Otsu); the rest are formulas over loops and pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from scipy import stats
from scipy.spatial import distance
from skimage.measure import block_reduce
from sklearn import metrics as sklearn

from medgemma_visualizer.checks.faithfulness import measure
from medgemma_visualizer.checks.findings import DIRECTIONS as FAITHFULNESS
from medgemma_visualizer.checks.predictions import random_subsets, sensitivity_max
from medgemma_visualizer.scores import agreement, localisation, quality
from tests.checks.toys import Toy

DRAWS = np.random.default_rng(11)
GRID, OTHER = DRAWS.gamma(0.6, size=(2, 16, 16))
GRID[4, 4] += GRID.max()  # inside the region, so that a hit is one
BODY, REGION = np.zeros((2, 64, 64), bool)
BODY[4:60, 10:50] = True
REGION[12:30, 8:26] = True  # cuts cells: 18 pixels are four and a half of them
CELLS = localisation.cells_inside(REGION, 16, 16)  # the rule itself is tested by hand in scores/test_localisation.py
P = GRID / GRID.sum()
FLAT, OTHER_FLAT, INSIDE = GRID.ravel(), OTHER.ravel(), CELLS.ravel()


def top(values: np.ndarray, k: int) -> np.ndarray:
    """The k largest, bool (N,)."""
    return np.isin(np.arange(values.size), np.argsort(values)[-k:])


def enlarged() -> np.ndarray:
    return np.asarray(cv2.resize(GRID, (64, 64), interpolation=cv2.INTER_LINEAR))


def otsu() -> float:
    heat = enlarged()
    levels = np.uint8(255 * ((heat - heat.min()) / (heat.max() - heat.min())))
    cut = cv2.threshold(levels, 0, 1, cv2.THRESH_OTSU)[1].astype(bool)
    return float(sklearn.jaccard_score(REGION.ravel(), cut.ravel()))


def structural() -> float:
    """Wang 2004 with a flat 7 × 7 window and sample covariances, over whole windows."""
    span = max(GRID.max(), OTHER.max()) - min(GRID.min(), OTHER.min())
    windows = [np.lib.stride_tricks.sliding_window_view(each, (7, 7)).reshape(-1, 49) for each in (GRID, OTHER)]
    each = []
    for one, other in zip(*windows, strict=True):
        (v1, cov), (_, v2) = np.cov(one, other)
        m1, m2, c1, c2 = one.mean(), other.mean(), (0.01 * span) ** 2, (0.03 * span) ** 2
        each.append((2 * m1 * m2 + c1) * (2 * cov + c2) / ((m1**2 + m2**2 + c1) * (v1 + v2 + c2)))
    return float(np.mean(each))


def shares(axis: int, parts: int) -> list[float]:
    """Of the map in equal parts along an axis, each cell cut into as many pieces as there are parts."""
    return [float(part.sum()) / parts for part in np.split(np.repeat(P, parts, axis), parts, axis)]


ON_ITS_FACE: dict[str, Callable[[], Any]] = {
    "inside_body_ratio": lambda: (P * block_reduce(BODY, (4, 4), np.mean)).sum(),
    "border_fraction": lambda: 1 - P[1:-1, 1:-1].sum(),
    "attention_entropy": lambda: stats.entropy(FLAT),
    "normalized_entropy": lambda: stats.entropy(FLAT, base=256),
    "peak_to_mean": lambda: FLAT.max() / FLAT.mean(),
    "gini": lambda: np.abs(FLAT[:, None] - FLAT[None]).sum() / (2 * 256**2 * FLAT.mean()),
    "regional_focus": lambda: quality._QUADRANTS[int(block_reduce(GRID, (8, 8), np.sum).argmax())],
    "left_fraction": lambda: shares(1, 2)[0],
    "right_fraction": lambda: shares(1, 2)[1],
    "apical_fraction": lambda: shares(0, 3)[0],
    "middle_fraction": lambda: shares(0, 3)[1],
    "basal_fraction": lambda: shares(0, 3)[2],
}

AGAINST_A_REGION: dict[str, Callable[[], Any]] = {
    "pointing_game": lambda: float(INSIDE[FLAT.argmax()]),
    "relevance_mass": lambda: (P * block_reduce(REGION, (4, 4), np.mean)).sum(),
    "relevance_rank": lambda: sklearn.precision_score(INSIDE, top(FLAT, int(INSIDE.sum()))),
    "roc_auc": lambda: sklearn.roc_auc_score(INSIDE, FLAT),
    "average_precision": lambda: sklearn.average_precision_score(INSIDE, FLAT),
    "iou_otsu": otsu,
    "hit_rate": lambda: float(REGION.ravel()[enlarged().argmax()]),
}

OF_TWO_MAPS: dict[str, Callable[[], Any]] = {
    "js_divergence": lambda: distance.jensenshannon(FLAT, OTHER_FLAT) ** 2,  # SciPy gives the root
    "spatial_stability": lambda: sklearn.jaccard_score(top(FLAT, 26), top(OTHER_FLAT, 26)),
    "spearman": lambda: stats.spearmanr(FLAT, OTHER_FLAT).statistic,
    "pearson": lambda: stats.pearsonr(FLAT, OTHER_FLAT).statistic,
    "cosine": lambda: 1 - distance.cosine(FLAT, OTHER_FLAT),
    "ssim": structural,
}

# --- faithfulness: a formula asked again and again, without the suite -------------------------------------------------

VALUES = DRAWS.random((8, 8))
ORDER = np.argsort(-VALUES, axis=None)
WEIGHTS = DRAWS.normal(size=64) / 2
SETS = random_subsets(64, 13, 100, seed=0)


def answer(left: torch.Tensor) -> torch.Tensor:
    """A probability that bends and in which cells work together: left (P, 64) -> (P,)."""
    return torch.sigmoid(left @ torch.from_numpy(WEIGHTS) + 2 * left[:, 3] * left[:, 40] - left[:, 9] * left[:, 21])


def f(left: np.ndarray) -> np.ndarray:
    return np.asarray(answer(torch.from_numpy(left.astype(np.float64))).numpy())


def without(order: np.ndarray, counts: list[int]) -> list[float]:
    """f with the first so many cells of an order removed."""
    left = [[index not in order[:count].tolist() for index in range(64)] for count in counts]
    return [float(value) for value in f(np.array(left))]


def alone(counts: list[int]) -> list[float]:
    """f with only the first so many cells left."""
    return without(ORDER[::-1], [64 - count for count in counts])


SIXTEENTHS = list(range(0, 65, 4))
ERASER, TENTHS = [1, 3, 6, 13, 32], [6, 13, 19, 32, 45, 58]  # of 64 cells: 1 … 50 %, and 10, 20, 30, 50, 70, 90 %
WHOLE = float(f(np.ones((1, 64)))[0])


def area(counts: list[int], values: list[float]) -> float:
    x = (np.array(counts) - counts[0]) / (counts[-1] - counts[0])
    return float(sklearn.auc(x, values))


def infidelity_by_captum() -> float:
    gone = torch.from_numpy(SETS.astype(np.float64))
    found = captum_infidelity(
        answer,
        lambda inputs: (gone, inputs * (1 - gone)),
        torch.ones(1, 64, dtype=torch.float64),
        torch.from_numpy(VALUES).reshape(1, 64),
        n_perturb_samples=len(SETS),
        normalize=True,
    )
    return float(found)


def steepest() -> float:
    """The largest relative change of x ↦ x² over the disturbances that `sensitivity_max` draws."""
    draws, changes = np.random.default_rng((0, 4)), []
    for _ in range(10):
        changed = VALUES + draws.uniform(-0.02, 0.02, VALUES.shape)
        changes.append(np.sqrt(((changed**2 - VALUES**2) ** 2).sum() / (VALUES**4).sum()))
    return float(max(changes))


BY_ASKING: dict[str, Callable[[], Any]] = {
    "deletion_auc": lambda: area(SIXTEENTHS, without(ORDER, SIXTEENTHS)),
    "insertion_auc": lambda: area(SIXTEENTHS, alone(SIXTEENTHS)),
    "morf": lambda: area(SIXTEENTHS, without(ORDER, SIXTEENTHS)),
    "lerf": lambda: area(SIXTEENTHS, without(ORDER[::-1], SIXTEENTHS)),
    "srg": lambda: np.trapezoid(np.subtract(without(ORDER[::-1], SIXTEENTHS), without(ORDER, SIXTEENTHS)), dx=1 / 16),
    "comprehensiveness": lambda: WHOLE - without(ORDER, [13])[0],
    "comprehensiveness_aopc": lambda: np.mean([WHOLE - value for value in without(ORDER, ERASER)]),
    "sufficiency": lambda: WHOLE - alone([13])[0],
    "sufficiency_aopc": lambda: np.mean([WHOLE - value for value in alone(ERASER)]),
    "deletion_auc_spec": lambda: area(TENTHS, [WHOLE - value for value in without(ORDER, TENTHS)]),
    "insertion_auc_spec": lambda: area(TENTHS, alone(TENTHS)),
    "comprehensiveness_spec": lambda: 1 - without(ORDER, [13])[0] / WHOLE,
    "sufficiency_spec": lambda: alone([13])[0] / WHOLE,
    "infidelity": infidelity_by_captum,
    "faithfulness_correlation": lambda: np.corrcoef(SETS @ VALUES.ravel(), WHOLE - f(~SETS))[0, 1],
    "sensitivity_max": steepest,
}

ORACLES = ON_ITS_FACE | AGAINST_A_REGION | OF_TWO_MAPS | BY_ASKING


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    """Name -> what the package says of the same maps."""
    asked = measure(Toy(f), VALUES, imputers=("blur",), steps=16, seed=0).scores
    found = quality.quality_scores(GRID, BODY) | localisation.localisation_scores(GRID, REGION)
    found |= agreement.agreement_scores(GRID, OTHER) | {name: asked[f"{name}:blur"] for name in FAITHFULNESS}
    values = {name: score.value for name, score in found.items()}
    return values | {"sensitivity_max": sensitivity_max(lambda x: (x**2).numpy(), torch.from_numpy(VALUES))}


def test_every_metric_of_a_map_has_an_oracle_and_there_are_more_than_fourteen() -> None:
    known = {*quality.DIRECTIONS, *localisation.NAMES, *agreement.DIRECTIONS, *FAITHFULNESS, "sensitivity_max"}
    assert set(ORACLES) == known
    assert len(ORACLES) >= 14


@pytest.mark.parametrize("name", ORACLES)
def test_the_metric_equals_its_oracle(ours: dict[str, Any], name: str) -> None:
    expected = ORACLES[name]()
    assert ours[name] == (expected if isinstance(expected, str) else pytest.approx(expected, abs=1e-6))
