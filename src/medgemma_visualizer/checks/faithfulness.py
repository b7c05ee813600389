"""Is the map true? Cells are taken away in the map's order, the model is asked again, and chance is asked alongside.

Knows which questions a person asks of one map or of many; the pictures are in `suite`, the formulas in `curves` and
`predictions`, what must be beaten in `controls`, and the asking in `scoring`. Does not know how a map was made.

f is the target's score as a probability (`scoring.scale_of`), p = f(x). For each imputer:
    deletion_auc (morf)       area of f as the top cells go, 0 to 100 %; [0, 1], lower is better. Petsiuk 2018.
    insertion_auc (lerf)      area of f as the top cells appear in the imputed picture; [0, 1], higher. Same source.
    srg                       lerf - morf; [-1, 1], higher, 0 for random maps. Samek 2017, Blücher 2024.
    comprehensiveness         p - f without the top 20 %; [-1, 1], higher. `_aopc`: mean over 1, 5, 10, 20, 50 %.
    sufficiency               p - f of the top 20 % alone; [-1, 1], lower. `_aopc` likewise. Both DeYoung 2020.
    infidelity                mean squared error of the best scaled map's predictions; ≥ 0, lower. Yeh 2019.
    faithfulness_correlation  of the map's sums over random sets with their drops; [-1, 1], higher. Bhatt 2020.
    prior                     f of the fully masked picture: what the language knows without the film.
Names ending in `_spec` are the specification's (7.2 to 7.4); those in `_logodds` or `_logprob` are in nats. The chance
level of all is the mean of the random maps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from medgemma_visualizer.checks.controls import Comparison, Standing, over_cases, standing_of, verdict
from medgemma_visualizer.checks.findings import findings_of
from medgemma_visualizer.checks.predictions import RADIUS, sensitivity_max
from medgemma_visualizer.checks.scoring import Memo, ModelScorer, Scale, Scorer
from medgemma_visualizer.checks.suite import Curves, Suite
from medgemma_visualizer.errors import InputError, unknown_name
from medgemma_visualizer.grid import finite_map
from medgemma_visualizer.heatmaps.methods import METHODS
from medgemma_visualizer.heatmaps.probing import Space, original
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.records import Score, Scores
from medgemma_visualizer.scores.maps import is_constant
from medgemma_visualizer.settings import DEFAULT_IMPUTERS

#: Shares at which controls are asked, in percent; between these their curves are taken as straight. Pictures are dear,
#: so controls get few there. Comparisons read the map's curves at the same shares, and straight between, too.
CONTROL_PERCENTS: Mapping[str, tuple[float, ...]] = {
    "pixels": (20, 50, 80),
    "tokens": (5, 20, 50, 80, 95),
}
#: Random sets of cells for infidelity and faithfulness correlation; 0 leaves both out.
SUBSETS: Mapping[str, int] = {"pixels": 0, "tokens": 100}


@dataclass(frozen=True)
class Faithfulness:
    """What asking the model again says about one map.

    Attributes:
        curves: By imputer, of f.
        scores: By "name:imputer"; `chance` is the mean of the random maps.
        controls: By the same keys, the same number of "random", "centre" and "inverse".
        comparisons: By the same keys, the map against random maps at the shares where both were asked.
        prior: f of the fully masked picture, by imputer.
        verdict: The comparison by SRG in words.
        standing: "better" or "worse" than random where two imputers agree, else "none".
        scale: What f is.
        space: "pixels" or "tokens".
        steps: Of the map's own areas.
        control_percents: Shares at which controls were asked.
        seed: Of ties, random maps and sets.
        n_scorings: Altered pictures that the model was asked about, the picture itself included; none twice.
        n_of_the_map: Of these, the ones for the map's own numbers; the rest are controls.
        seconds: Time spent.
    """

    curves: Mapping[str, Curves]
    scores: Scores
    controls: Mapping[str, Mapping[str, float]]
    comparisons: Mapping[str, Comparison]
    prior: Mapping[str, float]
    verdict: str
    standing: Standing
    scale: Scale
    space: str
    steps: int
    control_percents: tuple[float, ...]
    seed: int
    n_scorings: int
    n_of_the_map: int
    seconds: float


def faithfulness(
    reading: Reading,
    aim: Aim,
    grid: np.ndarray,
    *,
    imputers: Sequence[str] = DEFAULT_IMPUTERS,
    space: Space = "pixels",
    steps: int = 16,
    controls: int = 8,
    seed: int = 0,
    control_percents: Sequence[float] | None = None,
    subsets: int | None = None,
    remap: Callable[[torch.Tensor], np.ndarray] | None = None,
) -> Faithfulness:
    """Asks the model about pictures without the map's top cells, and about those of maps that know nothing.

    The verdict is the map's SRG less that of random maps, at the shares where both were asked; "better than random"
    needs two imputers that agree. A constant map has no order of its own and never wins.

    Args:
        reading: The picture and question, read.
        aim: What the map explains: a yes/no contrast, words, or a function (then f is in its own unit).
        grid: The map, (rows, cols) of the model; larger is more relevant, signed or not. Never written.
        imputers: Of `imputers.IMPUTERS`: "blur", "mean", "noisy_linear", "gray".
        space: "pixels" (cells of the picture), or "tokens" (image tokens become those of the imputed picture: cheaper,
            and another intervention).
        steps: Of the map's areas.
        controls: Random maps, at least 8; each is read backwards, too.
        seed: The same seed gives the same numbers.
        control_percents: Where controls are asked; `CONTROL_PERCENTS[space]` where None.
        subsets: Random sets for infidelity and correlation, 0 or at least 100; `SUBSETS[space]` where None.
        remap: Explains a disturbed picture (or tokens) anew, for `sensitivity_max`; see `remapping`.

    Raises:
        InputError: A map of another shape, or names, numbers or a target that do not fit.
        UnavailableError: Nothing that was removed changes the score, or the picture does not divide into whole cells.
    """
    start = time.perf_counter()
    scorer = ModelScorer(reading, aim, imputers, space, seed)
    found = measure(
        scorer,
        grid,
        imputers=imputers,
        steps=steps,
        controls=controls,
        seed=seed,
        control_percents=CONTROL_PERCENTS[space] if control_percents is None else control_percents,
        subsets=SUBSETS[space] if subsets is None else subsets,
    )
    if remap is not None:
        steady = sensitivity_max(remap, original(reading, space), radius=RADIUS, seed=seed)
        reason = "a map that ignores the picture scores 0: never read it alone"
        found.scores["sensitivity_max"] = Score("sensitivity_max", steady, "lower", reason=reason)
    return replace(found, space=space, seconds=time.perf_counter() - start)


def measure(
    scorer: Scorer,
    grid: np.ndarray,
    *,
    imputers: Sequence[str] = DEFAULT_IMPUTERS,
    steps: int = 16,
    controls: int = 8,
    seed: int = 0,
    control_percents: Sequence[float] = CONTROL_PERCENTS["tokens"],
    subsets: int = SUBSETS["tokens"],
) -> Faithfulness:
    """As `faithfulness`, for anything that answers masks with scores; `space` is left empty."""
    start = time.perf_counter()
    percents, values = tuple(control_percents), finite_map(grid)
    suite = Suite(Memo(scorer), values, tuple(imputers), steps, controls, seed, percents, subsets)
    suite.ask()
    curves = {name: suite.curves(name) for name in suite.imputers}
    findings = findings_of(suite)
    by_srg = [findings.comparisons[f"srg:{name}"] for name in suite.imputers]
    constant = is_constant(values)
    return Faithfulness(
        curves=curves,
        scores=findings.scores,
        controls=findings.controls,
        comparisons=findings.comparisons,
        prior={name: curve.prior for name, curve in curves.items()},
        verdict=verdict(by_srg, constant),
        standing="none" if constant else standing_of(by_srg),
        scale=scorer.scale,
        space="",
        steps=steps,
        control_percents=percents,
        seed=seed,
        n_scorings=suite.memo.n_scorings,
        n_of_the_map=suite.n_of_the_map,
        seconds=time.perf_counter() - start,
    )


def compare_cases(
    results: Sequence[Faithfulness],
    patients: Sequence[Hashable] | None = None,
    *,
    name: str = "srg",
    seed: int = 0,
) -> tuple[tuple[Comparison, ...], str]:
    """One method's maps over many cases: a number less that of random maps, by imputer, and the verdict in words.

    Args:
        results: One a case, in one space and under the same imputers.
        patients: Of each case, for the intervals.
        name: Which number ("srg", "srg_logodds", "comprehensiveness_aopc", …).
        seed: Of the intervals.

    Raises:
        InputError: No results, results that cannot be averaged, or a number that a case lacks.
    """
    kinds = {(one.space, tuple(one.prior), name in {c.name for c in one.comparisons.values()}) for one in results}
    if len(kinds) != 1 or not all(has for _, _, has in kinds):
        raise InputError(
            f"No mean of {name!r} over {len(results)} results; use one space, the same imputers and target."
        )
    ((_, imputers, _),) = kinds
    comparisons = tuple(
        over_cases([one.comparisons[f"{name}:{imputer}"] for one in results], patients, seed) for imputer in imputers
    )
    return comparisons, verdict(comparisons)


def remapping(
    reading: Reading, aim: Aim, method: str, space: Space = "pixels", **options: Any
) -> Callable[[torch.Tensor], np.ndarray]:
    """Explains the same target for another picture (1, 3, height, width), or other image tokens (1, N, D).

    The answer stays the one to the undisturbed picture, so that all maps explain one target.

    Raises:
        InputError: No such method.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    place = {"pixels": "pixel_values", "tokens": "image_tokens"}[space]

    def remap(inputs: torch.Tensor) -> np.ndarray:
        disturbed = replace(reading)
        kept = {"generated": reading.generated, "pixel_values": reading.pixel_values}
        disturbed.__dict__.update(kept | {place: inputs})  # where cached properties are kept
        return np.asarray(METHODS[method].compute(disturbed, aim, **options).values)

    return remap
