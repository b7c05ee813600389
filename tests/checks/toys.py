"""Models that are formulas: scorers over masks whose right answers are known by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from medgemma_visualizer.checks.scoring import PROBABILITY, Scale


class Toy:
    """Scores a mask by a formula of what is left, (P, N) bool -> (P,); counts calls and refuses to be asked twice."""

    def __init__(
        self,
        formula: Callable[[np.ndarray], np.ndarray],
        grid: tuple[int, int] = (8, 8),
        scale: Scale = PROBABILITY,
        strength: dict[str, float] | None = None,
    ):
        self.formula, self.grid, self.scale = formula, grid, scale
        self.strength = strength or {}
        self.calls: list[int] = []
        self.seen: set[tuple[str, bytes]] = set()

    def __call__(self, masks: np.ndarray, imputers: Sequence[str]) -> np.ndarray:
        self.calls.append(len(masks))
        for mask, name in zip(masks, imputers, strict=True):
            key = (name if mask.any() else "", mask.tobytes())
            assert key not in self.seen, "the same picture was scored twice"
            self.seen.add(key)
        left = ~masks.reshape(len(masks), -1)
        strength = np.array([self.strength.get(name, 1.0) for name in imputers])
        whole = self.formula(np.ones((1, left.shape[1]), bool))
        return whole + strength * (self.formula(left) - whole)


def linear(weights: np.ndarray, base: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    """base + the sum of the weights of the cells left."""
    flat = np.asarray(weights, float).ravel()
    return lambda left: base + left @ flat


def planted(cells: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Share of the planted cells that is left, from 0.1 to 0.9."""
    return lambda left: 0.1 + 0.8 * left[:, list(cells)].mean(axis=1)
