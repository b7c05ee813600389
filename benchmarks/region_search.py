"""How near region search comes to an exhaustive greedy search: `python benchmarks/region_search.py [--cases N]`.

Measured along one order of all regions (2 × 2 image tokens each, 64 on the embedded model): f is p(answer given), the
tokens of a hidden region become the picture's mean token, and

    gap = area under f with the first k regions alone - area under f without the first k regions, k = 0 … 64.

The greedy search adds, at each step, the region that makes the step's own term of the gap largest: f alone minus f
without. It asks about both for every region that is left: 2 · (64 + 63 + … + 1) = 4,160 scorings. An order and its
reverse have opposite gaps, so a random order has 0 on average.

Cases are embedded yes/no questions, the findings in turn. Where hiding the whole picture leaves the answer as it is, no
order has a gap worth the name; such cases are left out and counted. About 90 s of
one processor core a case; `--device cuda` where there is one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from medgemma_visualizer.checks.curves import area
from medgemma_visualizer.checks.scoring import Memo, Scale, response, scale_of
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.errors import VisualizerError
from medgemma_visualizer.grid import ranked_cells
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps.probing import regions, score_masks
from medgemma_visualizer.heatmaps.targets import Aim, resolve
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Case
from medgemma_visualizer.scores.statistics import Estimate, bootstrap_interval, paired_difference

PER_SIDE = 8
BASELINE = "mean"
GREEDY = "greedy, both ways"
ALONE = "each region alone"

#: Other methods whose maps are read as orders, the regions by their mean.
OTHERS = ("integrated_gradients", "occlusion", "relevance")
DIRECTIONS = ("both", "insertion", "deletion")


@dataclass(frozen=True)
class MeanTokens:
    """Scores pictures whose hidden cells hold the picture's mean token."""

    reading: Reading
    aim: Aim

    @property
    def grid(self) -> tuple[int, int]:
        return self.reading.model.grid

    @property
    def scale(self) -> Scale:
        return scale_of(self.aim)

    def __call__(self, masks: np.ndarray, imputers: Sequence[str]) -> np.ndarray:
        return score_masks(self.reading, self.aim, masks, baseline=BASELINE)


@dataclass(frozen=True)
class Found:
    """One order on one case."""

    insertion: float
    deletion: float
    scorings: int | None

    @property
    def gap(self) -> float:
        return self.insertion - self.deletion


def greedy(memo: Memo, masks: np.ndarray) -> list[int]:
    """The exhaustive search; asks about every region that is left at every step."""
    order: list[int] = []
    rest = list(range(len(masks)))
    while rest:
        sets = masks[order].any(axis=0) | masks[rest]  # (candidates, rows, cols)
        alone, without = (memo.scorer.scale.f(memo(BASELINE, hidden)) for hidden in (~sets, sets))
        order.append(rest.pop(int(np.argmax(alone - without))))
    return order


def judged(memo: Memo, masks: np.ndarray, order: Sequence[int], scorings: int | None = None) -> Found:
    """Both areas of an order of regions."""
    cells = [np.flatnonzero(masks[n]) for n in order]
    counts = np.cumsum([0, *map(len, cells)]).tolist()
    curve = response(memo, BASELINE, np.concatenate(cells), counts)
    return Found(area(curve.shares, curve.alone), area(curve.shares, curve.without), scorings)


def orders(
    reading: Reading, memo: Memo, masks: np.ndarray, seed: int
) -> Iterator[tuple[str, Sequence[int], int | None]]:
    """Every order that is compared, with the number of scorings it takes where it takes scorings."""
    yield GREEDY, greedy(memo, masks), len(masks) * (len(masks) + 1)
    corners = {tuple(int(v) for v in np.argwhere(mask)[0]): n for n, mask in enumerate(masks)}
    for direction in DIRECTIONS:
        extras = explain_reading(reading, "region_search", "contrast", direction=direction, per_side=PER_SIDE).extras
        yield f"region_search, {direction}", [corners[corner] for corner in extras["order"]], extras["n_scorings"]
    yield ALONE, np.argsort(-memo(BASELINE, ~masks), kind="stable").tolist(), len(masks)
    for name in OTHERS:
        heatmap = explain_reading(reading, name, "contrast")
        values = heatmap.map if heatmap.signed is None else heatmap.signed
        means = np.array([values[mask].mean() for mask in masks])
        yield name, ranked_cells(means[None], seed).tolist(), heatmap.extras.get("n_scorings")
    yield "random", np.random.default_rng(seed).permutation(len(masks)).tolist(), None


def measured(model: Model, case: Case, seed: int) -> dict[str, Found] | None:
    """Every order on one case; None where the answer does not rest on the picture."""
    reading = read(model, picture(case), case.question, options=case.options)
    if reading.answer.label not in ("yes", "no"):
        return None
    memo = Memo(MeanTokens(reading, resolve(reading, "contrast")))
    hidden = memo.scorer.scale.f(memo(BASELINE, np.ones((1, *model.grid), bool)))
    if hidden[0] >= 0.5:
        return None
    masks = regions(model.grid, PER_SIDE)
    return {name: judged(memo, masks, order, n) for name, order, n in orders(reading, memo, masks, seed)}


def in_turn() -> list[Case]:
    """Embedded yes/no cases: the first of each finding, the second of each, and so on."""
    cases = [case for case in load_cases("demo") if case.truth in ("yes", "no")]
    findings = list(dict.fromkeys(case.finding for case in cases))
    rounds = zip_longest(*([case for case in cases if case.finding == finding] for finding in findings))
    return [case for case in chain.from_iterable(rounds) if case is not None]


def collected(model: Model, wanted: int) -> tuple[list[tuple[str, dict[str, Found]]], int]:
    """(patient, orders) of the first `wanted` cases that can be judged, and how many were left out before that."""
    found: list[tuple[str, dict[str, Found]]] = []
    left_out = 0
    for seed, case in enumerate(track(cases := in_turn(), total=len(cases), what="cases")):
        result = measured(model, case, seed)
        if result is None:
            left_out += 1
        else:
            found.append((str(case.patient_id), result))
            gaps = ", ".join(f"{name} {one.gap:.3f}" for name, one in result.items())
            print(f"{case.id}: {gaps}", file=sys.stderr, flush=True)  # a long run that is cut off has said something
        if len(found) == wanted:
            break
    return found, left_out


def show(found: list[tuple[str, dict[str, Found]]], left_out: int) -> None:
    """Prints the table; intervals by patient."""
    patients = [patient for patient, _ in found]
    print(f"{len(found)} cases of {len(set(patients))} patients.")
    print(f"{left_out} left out before the last of them: their answer stands without a picture.")
    print(f"{'order':<26}{'scorings':>10}{'insertion':>11}{'deletion':>10}{'gap':>25}{'of greedy':>11}{'- greedy':>28}")
    best = [result[GREEDY].gap for _, result in found]
    for name in found[0][1]:
        rows = [result[name] for _, result in found]
        gaps = [row.gap for row in rows]
        most = max((row.scorings for row in rows if row.scorings is not None), default="-")
        areas = f"{np.mean([row.insertion for row in rows]):>11.3f}{np.mean([row.deletion for row in rows]):>10.3f}"
        gap = _with_interval(bootstrap_interval(gaps, patients))
        behind = _with_interval(paired_difference(gaps, best, patients))
        print(f"{name:<26}{most:>10}{areas}{gap:>25}{np.mean(gaps) / np.mean(best):>11.1%}{behind:>28}")


def _with_interval(estimate: Estimate) -> str:
    interval = f" ({estimate.interval[0]:.3f} to {estimate.interval[1]:.3f})" if estimate.interval else ""
    return f"{estimate.value:.3f}{interval}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=40, help="how many cases to judge")
    parser.add_argument("--device", default="cpu", help="where the model runs")
    asked = parser.parse_args()
    try:
        model = load_model("demo", device=asked.device)
    except VisualizerError as error:
        raise SystemExit(str(error)) from None
    found, left_out = collected(model, asked.cases)
    if not found:
        raise SystemExit(f"None of {left_out} cases can be judged: every answer stands without a picture.")
    show(found, left_out)


if __name__ == "__main__":
    main()
