"""All pictures that a check of one map needs, asked in one go, and all numbers read off the answers.

Knows orders, counts and imputers; what answers is any `Scorer`. Controls are treated exactly as the map is, at fewer
shares. Knows nothing about what is good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medgemma_visualizer.checks.controls import centre_order, random_orders, rearranged
from medgemma_visualizer.checks.curves import (
    AOPC_PERCENTS,
    K_PERCENT,
    SPEC_PERCENTS,
    Response,
    closed,
    count_of,
    curve_metrics,
    specification_metrics,
    step_counts,
)
from medgemma_visualizer.checks.predictions import faithfulness_correlation, infidelity, random_subsets
from medgemma_visualizer.checks.scoring import Memo, erasures, key_of, refuse_other_shape, response
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import ranked_cells
from medgemma_visualizer.heatmaps.probing import refuse_rounding

FEWEST_SUBSETS = 100

#: Numbers of one map by name; None where one does not apply.
Numbers = dict[str, float | None]
Pictures = Iterator[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Curves:
    """All curves under one imputer, of f.

    Attributes:
        map: In the map's order.
        inverse: In the opposite order.
        centre: From the middle outwards.
        randoms: One a random map or its inverse.
    """

    map: Response
    inverse: Response
    centre: Response
    randoms: tuple[Response, ...]

    @property
    def prior(self) -> float:
        """f of the fully masked picture: what the language alone would say."""
        return float(self.map.alone[0])


@dataclass(frozen=True)
class Suite:
    """One map's check; everything is computed on first use.

    Attributes:
        memo: Who answers, and all answers so far.
        values: The map, float64 (rows, cols).
        imputers: Names that the scorer knows.
        steps: Of the map's own areas.
        controls: Number of random maps, besides their inverses.
        seed: Of ties, random maps and sets.
        control_percents: Where controls are asked.
        subsets: Random sets for infidelity and correlation; 0 leaves them out.

    Raises:
        InputError: A map of another shape or not finite, imputers missing or named twice, or too few random sets.
    """

    memo: Memo
    values: np.ndarray
    imputers: tuple[str, ...]
    steps: int
    controls: int
    seed: int
    control_percents: tuple[float, ...]
    subsets: int

    def __post_init__(self) -> None:
        refuse_other_shape(self.values, self.memo.scorer.grid)
        if not self.imputers or len(set(self.imputers)) < len(self.imputers):
            raise InputError(
                f"The imputers {', '.join(self.imputers) or '(none)'} must be different, and at least one."
            )
        if self.subsets and self.subsets < FEWEST_SUBSETS:
            raise InputError(f"{self.subsets} random sets say too little; use 0, or at least {FEWEST_SUBSETS}.")

    @property
    def n(self) -> int:
        return self.values.size

    @cached_property
    def order(self) -> np.ndarray:
        return ranked_cells(self.values, self.seed)

    @cached_property
    def random_orders(self) -> list[np.ndarray]:
        return random_orders(self.n, self.controls, self.seed)

    @cached_property
    def centre(self) -> np.ndarray:
        return centre_order(*self.memo.scorer.grid, self.seed)

    @cached_property
    def steps_at(self) -> tuple[int, ...]:
        return step_counts(self.n, self.steps)

    @cached_property
    def controls_at(self) -> tuple[int, ...]:
        return closed((count_of(percent, self.n) for percent in self.control_percents), self.n)

    @cached_property
    def map_at(self) -> tuple[int, ...]:
        named = {count_of(percent, self.n) for percent in (*AOPC_PERCENTS, *SPEC_PERCENTS, K_PERCENT)}
        return tuple(sorted({*self.steps_at, *self.controls_at, *named}))

    @cached_property
    def inverse_at(self) -> tuple[int, ...]:
        """Closed, so that each picture of the inverse is one of the map's own."""
        return tuple(sorted({*self.steps_at, *self.controls_at}))

    @cached_property
    def sets(self) -> np.ndarray:
        """bool (subsets, N), the same for the map and all controls."""
        return random_subsets(self.n, count_of(K_PERCENT, self.n), self.subsets, self.seed)

    def ask(self) -> None:
        """Scores everything at once.

        Raises:
            UnavailableError: Nothing that was removed changes the score.
        """
        self.memo.learn([*self.pictures_of_the_map(), *self.pictures_of_the_controls()])
        refuse_rounding(self.memo.scores)

    def pictures_of_the_map(self) -> Pictures:
        """Deletion, insertion, MoRF, LeRF and the inverse map, for every imputer."""
        for name in self.imputers:
            yield from self._pictures(name, self.order, self.map_at)

    def pictures_of_the_controls(self) -> Pictures:
        """Random maps, the centre, and random sets, for every imputer."""
        for name in self.imputers:
            for order in (*self.random_orders, self.centre):
                yield from self._pictures(name, order, self.controls_at)
            yield from ((name, mask.reshape(self.values.shape)) for mask in self.sets)

    @property
    def n_of_the_map(self) -> int:
        """Different pictures that the map's own numbers need, the picture itself included; controls come on top."""
        return len({key_of(name, mask) for name, mask in self.pictures_of_the_map()})

    def _pictures(self, name: str, order: np.ndarray, counts: Sequence[int]) -> Pictures:
        for masks in erasures(order, counts, self.memo.scorer.grid):
            yield from ((name, mask) for mask in masks)

    def response(self, name: str, order: np.ndarray, counts: Sequence[int]) -> Response:
        """f along an order."""
        return response(self.memo, name, order, counts)

    def curves(self, name: str) -> Curves:
        """All curves under one imputer."""
        return Curves(
            self.response(name, self.order, self.map_at),
            self.response(name, self.order[::-1], self.inverse_at),
            self.response(name, self.centre, self.controls_at),
            tuple(self.response(name, order, self.controls_at) for order in self.random_orders),
        )

    def numbers(self, name: str, order: np.ndarray, counts: Sequence[int], area_counts: Sequence[int]) -> Numbers:
        """Every number of one order under one imputer.

        Args:
            counts: At which the order was asked.
            area_counts: Of these, the ones for areas.
        """
        scale, shares = self.memo.scorer.scale, np.array(area_counts) / self.n
        curve = self.response(name, order, counts)
        found: Numbers = dict(curve_metrics(curve, shares, self.n))
        spec = specification_metrics(curve, self.n)
        found |= spec if scale.is_probability else dict.fromkeys(spec)
        if scale.log:
            nats = curve_metrics(response(self.memo, name, order, counts, nats=True), shares, self.n)
            found |= {key + scale.log: value for key, value in nats.items()}
        return found | self._predictions(name, order)

    def _predictions(self, name: str, order: np.ndarray) -> Numbers:
        scale, values = self.memo.scorer.scale, rearranged(self.values, order)
        found: Numbers = {}
        masks = np.concatenate([np.zeros((1, self.n), bool), self.sets]).reshape(-1, *self.values.shape)
        scores = self.memo(name, masks)  # the picture itself first
        for suffix in dict.fromkeys(("", scale.log)):
            f = scale.f(scores) if not suffix else scores
            drops = f[0] - f[1:]
            asked = drops.size > 0
            found[f"infidelity{suffix}"] = infidelity(values, self.sets, drops) if asked else None
            correlation = faithfulness_correlation(values, self.sets, drops) if asked else None
            found[f"faithfulness_correlation{suffix}"] = correlation
        return found
