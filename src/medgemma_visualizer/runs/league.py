"""The league table's records: a case under a method, a method's place, and the table with all it takes to read it.

Knows names and numbers; does not know how they are measured (`measure`), summed up (`table`) or kept (`store`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from medgemma_visualizer.records import Score
from medgemma_visualizer.scores.statistics import Estimate
from medgemma_visualizer.settings import METHOD_PRIORITY

Probe = Literal["regions", "planted"]

#: What every method is compared with: the specification's default.
REFERENCE = METHOD_PRIORITY[0]
#: Before the name of an imputer: SRG under it.
SRG = "srg:"
UNIFORM, MEAN_MAP = "uniform", "mean_map"
#: Maps that know nothing of the case, with their names for people.
CONTROLS: Mapping[str, str] = {
    "random": "Random",
    "centre": "Centre prior",
    UNIFORM: "Uniform",
    MEAN_MAP: "Mean map of other patients",
}
#: What a table is split by, besides being shown whole; each is an attribute of `Row`.
SPLITS = ("finding", "side", "size", "answer")


@dataclass(frozen=True)
class Metric:
    """A column of the table.

    Attributes:
        label: For people.
        ranked: Whether methods are ranked and tested by it. Columns that repeat another one's question are only shown.
    """

    label: str
    ranked: bool


#: Columns by name, in order; SRG under each imputer follows. Higher is better in all. Definitions: docs/metrics.md.
METRICS: Mapping[str, Metric] = {
    "pointing": Metric("Pointing", True),
    "relevance_mass_lift": Metric("Mass ÷ chance", True),
    "relevance_rank": Metric("Relevance rank", True),
    "roc_auc": Metric("ROC-AUC", True),
    "average_precision": Metric("Average precision", False),
    "hit_rate": Metric("Hit rate", False),
    "iou_otsu_true_positives": Metric("IoU (answer right)", False),
    "iou_otsu_all_positives": Metric("IoU (all)", False),
}
RANKED = tuple(name for name, metric in METRICS.items() if metric.ranked)


def metric_of(name: str) -> Metric:
    """The column of that name; SRG is ranked under every imputer."""
    return Metric(f"SRG, {name.removeprefix(SRG)}", True) if name.startswith(SRG) else METRICS[name]


@dataclass(frozen=True)
class Curve:
    """How the target's score, as a probability, answers to one map under one imputer.

    Attributes:
        shares: Of the cells, the most relevant first; ascending from 0 to 1.
        without: The score with these removed (deletion, MoRF), one a share.
        alone: The score with only these left (insertion, LeRF read backwards), one a share.
    """

    shares: tuple[float, ...]
    without: tuple[float, ...]
    alone: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One case under one method.

    Attributes:
        case_id: Of the pair (image, question).
        patient_id: Groups cases for intervals; the case's own id where no patient is named.
        finding: What the question asks about; "" where unknown.
        side: "left" or "right" where at least three quarters of the region lie in that half of the patient, else
            "both"; "" without a region or a frontal view.
        size: Third of the regions of this set by their share of the film: "small", "medium", "large"; "" without.
        label: What the model said, as a label.
        truth: The right answer; "" where unknown.
        correct: Whether the label is the truth; None where that is unknown.
        method: A name of `METHODS`, or a control.
        available: Whether there is a map.
        reason: Why there is no map, or what else must be known; "" otherwise.
        numbers: Column -> value; columns that do not apply are left out.
        chances: Column -> what a uniform map gets on this case, with or without a map. Otsu's method finds nothing in
            it, so its IoU is 0.
        curves: Imputer -> what SRG is the area of; empty where SRG was not asked.
        forward_passes: Sequences that went through the decoder for this map, the answer not counted.
        seconds: Time spent on this map.
    """

    case_id: str
    patient_id: str
    finding: str
    side: str
    size: str
    label: str
    truth: str
    correct: bool | None
    method: str
    available: bool
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    chances: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    forward_passes: int = 0
    seconds: float = 0.0

    @property
    def answer(self) -> str:
        """ "right", "wrong", or "" where there is no truth: a map of a wrong answer is another thing."""
        return {True: "right", False: "wrong", None: ""}[self.correct]


@dataclass(frozen=True)
class Sanity:
    """Whether a method's map depends on what the model has learned and on what was asked, over a few cases.

    Attributes:
        verdict: "pass", "fail", "undecided", or "not asked". A method fails where at least half of the cases that
            decide fail.
        rho: Mean |Spearman| to the original map once every weight is random, in [0, 1]; lower is better.
        interval: 95 %, over cases; None for a single one.
        chance: The same for maps shifted against each other.
        opposite: Mean Spearman of the maps for a target and for its opposite, in [-1, 1]; 1 is blind to the target.
        other: Mean Spearman of the maps for two questions about the same picture, in [-1, 1].
        text_independent: Whether another question had the same map in every case, as measured; None where unknown.
        declared_text_independent: What the method's label says.
        cases: How many were asked.
        failed: How many of these failed.
        seeds: Random models a case.
        reason: Why it was not asked or says nothing; "" otherwise.
    """

    verdict: Literal["pass", "fail", "undecided", "not asked"] = "not asked"
    rho: float | None = None
    interval: tuple[float, float] | None = None
    chance: float | None = None
    opposite: float | None = None
    other: float | None = None
    text_independent: bool | None = None
    declared_text_independent: bool | None = None
    cases: int = 0
    failed: int = 0
    seeds: int = 0
    reason: str = ""

    @property
    def label_holds(self) -> bool | None:
        """Whether the method's label about its dependence on the text is true; None where that is unknown."""
        return None if self.text_independent is None else self.text_independent == self.declared_text_independent


@dataclass(frozen=True)
class Place:
    """One method's line.

    Attributes:
        method: A name of `METHODS`, or of a control.
        label: For people.
        scores: Column -> mean over the cases with a map, with chance, n and interval, and why others were left out.
        counted: Column -> mean over all cases to which the column applies, a missing map at its chance level: a map
            that knows nothing. Ranks and tests rest on this.
        differences: Column -> counted less that of the reference, on the same cases; chance 0.
        p_values: Ranked column -> Wilcoxon's signed-rank test against the reference, Holm over all of the table.
        ranks: Ranked column -> place by `counted`, 1 is best; equal values share.
        mean_rank: Mean of the ranks; None for controls, which are not ranked.
        mean_rank_interval: 95 %, patients drawn with replacement.
        rank: By mean rank; methods tie with the better one where the interval of the difference of their mean ranks
            holds 0. 0 for controls.
        tied: Whether another method shares the rank.
        maps: Cases with a map.
        n: Cases.
        forward_passes: Sequences through the decoder, mean over the cases with a map; None without any.
        seconds: The same of seconds; None also where read from a file, which does not keep them.
        sanity: What randomisation and random targets say.
    """

    method: str
    label: str
    scores: Mapping[str, Score]
    counted: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    p_values: Mapping[str, float]
    ranks: Mapping[str, float]
    mean_rank: float | None
    mean_rank_interval: tuple[float, float] | None
    rank: int
    tied: bool
    maps: int
    n: int
    forward_passes: Estimate | None
    seconds: Estimate | None
    sanity: Sanity = field(default_factory=Sanity)


@dataclass(frozen=True)
class League:
    """The league table of one model.

    Attributes:
        model: Name, revision, dtype and grid.
        identity: Of the weights, whatever they are called and in whichever number format they are loaded; "" where
            the model has no revision to tell it by.
        probe: "regions": cases with known regions; "planted": marks put in by us.
        source: Where the cases come from.
        seed: Of everything drawn by lot.
        n: Cases measured.
        patients: Of these, patients.
        imputers: Under which SRG was asked.
        space: "pixels" or "tokens".
        steps: Of the areas of SRG.
        reference: The method that all others are compared with.
        places: Methods, best first.
        controls: Maps that know nothing of the case: "random", "centre", "uniform", "mean_map". Not ranked.
        splits: "finding", "side", "size" or "answer" -> value -> places of that part of the cases.
        left_out: Reason -> how many cases were not measured for it.
        notes: What else a reader must know.
        versions: Of the libraries.
        command: What builds it again.
        agreement: Spearman correlation of the methods' mean ranks with those of another league, with its interval;
            None where there was none to compare with.
    """

    model: Mapping[str, Any]
    identity: str
    probe: Probe
    source: str
    seed: int
    n: int
    patients: int
    imputers: tuple[str, ...]
    space: str
    steps: int
    reference: str
    places: tuple[Place, ...]
    controls: tuple[Place, ...]
    splits: Mapping[str, Mapping[str, tuple[Place, ...]]]
    left_out: Mapping[str, int]
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    command: str
    agreement: Estimate | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Columns of this table, in order."""
        return (*METRICS, *(SRG + name for name in self.imputers))

    @property
    def best(self) -> str | None:
        """The method with the lowest mean rank among those that pass the sanity check; None where none does."""
        return next((place.method for place in self.places if place.sanity.verdict == "pass"), None)

    def place(self, method: str) -> Place | None:
        """The line of a method; None where the league does not hold it."""
        return _named(method, (*self.places, *self.controls))


def _named(method: str, places: Iterable[Place]) -> Place | None:
    return next((place for place in places if place.method == method), None)
