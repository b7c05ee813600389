"""One case under every method: what each map is worth, and what it cost.

Knows one case at a time; the maps are those of `heatmaps`, the numbers those of `scores` and `checks`. Does not know
what the other cases say: sums and ranks are `table`'s.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medgemma_visualizer.checks.controls import centre_order
from medgemma_visualizer.checks.curves import Response, curve_metrics, step_counts
from medgemma_visualizer.checks.randomisation import signed_map
from medgemma_visualizer.checks.scoring import Memo, ModelScorer, erasures, response
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import UnavailableError, VisualizerError
from medgemma_visualizer.grid import ranked_cells
from medgemma_visualizer.heatmaps.explain import explain_or_say_why
from medgemma_visualizer.heatmaps.probing import Space, refuse_rounding
from medgemma_visualizer.heatmaps.targets import Aim, resolve
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Case, Score
from medgemma_visualizer.runs.judging import judged
from medgemma_visualizer.runs.league import MEAN_MAP, SRG, UNIFORM, Curve, Row
from medgemma_visualizer.scores.localisation import chexlocalize_slices, localisation_scores
from medgemma_visualizer.scores.quality import FRONTAL, side_fractions
from medgemma_visualizer.scores.verdict import lift
from medgemma_visualizer.settings import DEFAULT_IMPUTERS

#: A region belongs to a side where this share of it lies there.
MOSTLY = 0.75

#: Columns that are a localisation score as it is; the others are made of one.
_PLAIN = {
    "pointing": "pointing_game",
    "relevance_rank": "relevance_rank",
    "roc_auc": "roc_auc",
    "average_precision": "average_precision",
    "hit_rate": "hit_rate",
}
Numbers = dict[str, float]
Responses = dict[str, Response]  # by imputer


@dataclass(frozen=True)
class Plan:
    """What is asked of every case.

    Attributes:
        methods: Names of `METHODS`.
        imputers: Under which SRG is asked.
        space: "pixels" or "tokens".
        steps: Of the areas of SRG.
        seed: Of ties and random maps.
    """

    methods: tuple[str, ...]
    imputers: tuple[str, ...] = DEFAULT_IMPUTERS
    space: Space = "pixels"
    steps: int = 8
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """A case, and what its region says of it among all others; `side` and `size` are as in `Row`."""

    case: Case
    side: str = ""
    size: str = ""


@dataclass(frozen=True)
class Measured:
    """One case.

    Attributes:
        rows: One a method, then the controls; of a case that failed, methods only, each with the reason.
        maps: Method -> float32 (rows, cols), ≥ 0, of those that gave one.
        problem: Why the case could not be asked at all; "" where it could.
    """

    rows: tuple[Row, ...]
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    problem: str = ""


def subjects_of(cases: Sequence[Case]) -> tuple[Subject, ...]:
    """Cases with the side and the size of their regions; thirds are those of this set."""
    regions = [_share_and_side(case) for case in cases]
    shares = [share for share, _ in regions if share is not None]
    cuts = np.quantile(shares, [1 / 3, 2 / 3]) if shares else np.zeros(2)
    return tuple(
        Subject(case, side, "" if share is None else ("small", "medium", "large")[int((share > cuts).sum())])
        for case, (share, side) in zip(cases, regions, strict=True)
    )


def _share_and_side(case: Case) -> tuple[float | None, str]:
    try:
        region = case.region
    except VisualizerError:  # told when the case is measured
        return None, ""
    if region is None or not region.any():
        return None, ""
    share = float(region.mean())
    if case.view is not None and case.view.upper() not in FRONTAL:
        return share, ""
    halves = side_fractions(region.astype(np.float64))
    patient = {"right": halves["left_fraction"], "left": halves["right_fraction"]}  # the film is seen from the front
    return share, next((side for side, part in patient.items() if part >= MOSTLY), "both")


def measure_case(model: Model, subject: Subject, plan: Plan) -> Measured:
    """Every method and control of one case; the picture is encoded once and no altered picture is scored twice.

    A case that cannot be read or asked is measured by no method; its rows say why.
    """
    try:
        return _measured(_Asked.of(model, subject, plan))
    except VisualizerError as error:
        reason = without_paths(str(error), subject.case)
        return Measured(tuple(row_of(subject, name, reason=reason) for name in plan.methods), problem=reason)


def without_paths(reason: str, case: Case) -> str:
    """A reason worded alike for alike cases, so that it can be counted, and without the names of anybody's files."""
    return re.sub(r"'[^']*[/\\][^']*'", "a file", reason.replace(repr(str(case.image)), "the picture"))


def measure_map(model: Model, subject: Subject, grid: np.ndarray, plan: Plan) -> Row:
    """The row of one map made elsewhere: the mean map of other patients.

    Raises:
        VisualizerError: The case cannot be asked.
    """
    asked = _Asked.of(model, subject, plan)
    (row,) = asked.rows([_Map(MEAN_MAP, grid, ranked_cells(grid, asked.seed))])
    return row


def _measured(asked: _Asked) -> Measured:
    names = asked.plan.methods
    made = [asked.map_of(name) for name in track(names, total=len(names), what="methods")]
    rows = asked.rows([*made, *asked.controls()])
    return Measured((*rows, asked.uniform(rows)), {one.method: one.grid for one in made if one.grid is not None})


@dataclass(frozen=True)
class _Map:
    """A method's or control's map of one case.

    Attributes:
        method: Its name.
        grid: (rows, cols), ≥ 0, for localisation; None where there is no map.
        order: Cells from the most to the least relevant, negative ones last; None where there is no map.
        reason: Why there is none.
        forward_passes: As in `Row`, as is `seconds`.
    """

    method: str
    grid: np.ndarray | None = None
    order: np.ndarray | None = None
    reason: str = ""
    forward_passes: int = 0
    seconds: float = 0.0


def _by_rank(method: str, order: np.ndarray, grid: tuple[int, int]) -> _Map:
    """A map whose values fall evenly along an order."""
    values = np.empty(order.size)
    values[order] = np.linspace(1, 0, order.size, endpoint=False)
    return _Map(method, values.reshape(grid), order)


@dataclass(frozen=True)
class _Asked:
    """A case that the model has answered."""

    subject: Subject
    plan: Plan
    reading: Reading
    aim: Aim
    region: np.ndarray | None
    seed: int

    @classmethod
    def of(cls, model: Model, subject: Subject, plan: Plan) -> _Asked:
        case = subject.case
        reading = read(model, picture(case), case.question, options=case.options)
        return cls(subject, plan, reading, resolve(reading), case.region, seed_of(case, plan.seed))

    @property
    def grid(self) -> tuple[int, int]:
        return self.reading.model.grid

    @property
    def label(self) -> str:
        return self.reading.answer.label

    @property
    def correct(self) -> bool | None:
        return judged(self.label, self.subject.case)

    def map_of(self, name: str) -> _Map:
        """A method's map, with the sequences and seconds that it took beyond the answer, which is there already."""
        start = time.perf_counter()
        with counting(self.reading.model) as sequences:
            heatmap = explain_or_say_why(self.reading, self.aim, name, {})
        spent: dict[str, Any] = {"forward_passes": sum(sequences), "seconds": time.perf_counter() - start}
        if not heatmap.available:
            return _Map(name, reason="; ".join(heatmap.fallbacks.values()), **spent)
        return _Map(name, heatmap.map, ranked_cells(signed_map(heatmap), self.seed), **spent)

    def controls(self) -> list[_Map]:
        drawn = np.random.default_rng((self.seed, 1)).permutation(int(np.prod(self.grid)))
        orders = {"random": drawn, "centre": centre_order(*self.grid, self.seed)}
        return [_by_rank(name, order, self.grid) for name, order in orders.items()]

    def rows(self, maps: Sequence[_Map]) -> list[Row]:
        """One a map; all altered pictures are asked at once."""
        erased, silent = self._erased_or_why({one.method: one.order for one in maps if one.order is not None})
        chances = self._chances(bool(erased))
        return [
            row_of(
                self.subject,
                one.method,
                label=self.label,
                correct=self.correct,
                available=one.grid is not None,
                reason=one.reason or silent,
                numbers=self._localised(one.grid) | self._srgs(erased.get(one.method, {})),
                chances=chances,
                curves={imputer: _curve(found) for imputer, found in erased.get(one.method, {}).items()},
                forward_passes=one.forward_passes,
                seconds=one.seconds,
            )
            for one in maps
        ]

    def uniform(self, rows: Sequence[Row]) -> Row:
        """Exactly at chance, which needs no asking."""
        free: dict[str, Any] = {"curves": {}, "forward_passes": 0, "seconds": 0.0}
        return replace(rows[-1], method=UNIFORM, available=True, numbers=rows[-1].chances, **free)

    def _localised(self, grid: np.ndarray | None) -> Numbers:
        if grid is None or self.region is None:
            return {}
        return _columns(localisation_scores(grid, self.region), self.correct)

    def _chances(self, with_srg: bool) -> Numbers:
        """What a uniform map gets: a random order and its reverse have an SRG of 0 on average."""
        srg = {SRG + imputer: 0.0 for imputer in self.plan.imputers} if with_srg else {}
        return self._localised(np.ones(self.grid)) | srg

    def _erased_or_why(self, orders: Mapping[str, np.ndarray]) -> tuple[dict[str, Responses], str]:
        """What every order does under every imputer; nothing and the reason where nothing that is removed counts."""
        try:
            return erased(self.reading, self.aim, orders, self.plan), ""
        except UnavailableError as error:
            return {}, f"no SRG: {error}"

    def _srgs(self, erased: Responses) -> Numbers:
        n = int(np.prod(self.grid))
        return {SRG + name: curve_metrics(found, found.shares, n)["srg"] for name, found in erased.items()}


def erased(reading: Reading, aim: Aim, orders: Mapping[str, np.ndarray], plan: Plan) -> dict[str, Responses]:
    """How f answers to every order of the cells, by imputer; no altered picture is scored twice.

    Raises:
        UnavailableError: Nothing that is removed changes the score.
    """
    grid = reading.model.grid
    memo = Memo(ModelScorer(reading, aim, plan.imputers, plan.space, plan.seed))
    counts = step_counts(int(np.prod(grid)), plan.steps)
    memo.learn(
        (imputer, mask)
        for imputer in plan.imputers
        for order in orders.values()
        for masks in erasures(order, counts, grid)
        for mask in masks
    )
    refuse_rounding(memo.scores)
    return {
        name: {imputer: response(memo, imputer, order, counts) for imputer in plan.imputers}
        for name, order in orders.items()
    }


def row_of(subject: Subject, method: str, **measured: Any) -> Row:
    """The row of a case under a method, with what is known before anything is measured."""
    case = subject.case
    told: dict[str, Any] = {"label": "", "correct": None, "available": False} | measured
    return Row(
        case_id=case.id,
        patient_id=case.patient_id or case.id,
        finding=case.finding or "",
        side=subject.side,
        size=subject.size,
        truth=case.truth or "",
        method=method,
        **told,
    )


def seed_of(case: Case, seed: int) -> int:
    """A case's own seed, whichever cases are measured before it."""
    return zlib.crc32(f"{seed}:{case.id}".encode())


def _curve(found: Response) -> Curve:
    return Curve(*(tuple(values.tolist()) for values in (found.shares, found.without, found.alone)))


def _columns(scores: Mapping[str, Score], correct: bool | None) -> Numbers:
    """The league's columns of a map's localisation scores; those that do not apply are left out.

    A map that is equal everywhere has no threshold after Otsu and overlaps with nothing: its IoU is 0.
    """
    numbers = {column: scores[name].value for column, name in _PLAIN.items()}
    numbers["relevance_mass_lift"] = lift(scores["relevance_mass"])
    if numbers["pointing"] is not None and correct is not None:
        for name, values in chexlocalize_slices([float(scores["iou_otsu"].value or 0)], [correct]).items():
            numbers |= {f"iou_otsu_{name}": value for value in values}
    return {name: float(value) for name, value in numbers.items() if value is not None}


@contextmanager
def counting(model: Model) -> Iterator[list[int]]:
    """Counts the sequences that go through the decoder inside the block: their number for each call."""
    sequences: list[int] = []

    def count(module: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        given = next(
            value for value in (named.get("inputs_embeds"), named.get("input_ids"), *args) if value is not None
        )
        sequences.append(int(given.shape[0]))

    handle = model.text.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield sequences
    finally:
        handle.remove()
