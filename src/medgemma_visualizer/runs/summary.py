"""What a run's rows say together: how often answers are right, whether p(yes) holds, what the maps are worth.

Knows columns of numbers and who they belong to; opens no picture and words nothing. Shares have Wilson's intervals,
means those of drawing patients again; cases that failed are counted and never averaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.runs.folder import PARTS, State, survey
from medgemma_visualizer.runs.plan import differences
from medgemma_visualizer.runs.results import CHANCE, DIRECTIONS, VALUE, read_frame
from medgemma_visualizer.scores.agreement import answer_consistency
from medgemma_visualizer.scores.statistics import (
    Estimate,
    bootstrap_interval,
    holm,
    mcnemar,
    paired_difference,
    wilcoxon,
    wilson_interval,
)

#: What accuracy is split by: column -> its name for people.
PARTS_BY: Mapping[str, str] = {
    "finding": "finding",
    "kind": "answer type",
    "view": "view",
    "split": "split",
    "truth": "right answer",
}
#: Parts of more values than this are not told apart: each would hold a case or two.
MOST_VALUES = 40
BINS = 10
#: Under this share of the probability, yes and no were not what was answered; p(yes) then says little.
HELD = 0.5
_WORDS = ("map", "question", "asked", "answer", "target", "strategy")

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Share:
    """A part of some cases.

    Attributes:
        count: Of `n`.
        n: Cases.
        interval: Wilson's, 95 %.
    """

    count: int
    n: int
    interval: tuple[float, float]

    @property
    def value(self) -> float:
        return self.count / self.n


@dataclass(frozen=True)
class Bin:
    """Questions whose p(yes) lies in one tenth.

    Attributes:
        low: Bound of p(yes), inclusive.
        high: Bound, exclusive but for the last.
        mean: Of p(yes); None where nobody is in it.
        yes: For how many of them yes was right; None where nobody is in it.
    """

    low: float
    high: float
    mean: float | None
    yes: Share | None


@dataclass(frozen=True)
class Calibration:
    """Whether p(yes) is as often right as it says.

    Attributes:
        bins: Ten of equal width.
        ece: Expected calibration error, mean of |share of yes - mean p(yes)| weighted by bins; [0, 1], lower is better.
            Naeini 2015, Guo 2017. With few questions it is above 0 by chance alone.
        brier: Mean of (p(yes) - truth)², [0, 1], lower is better; 0.25 for always 0.5. Brier 1950.
        n: Questions.
        left_out: Yes/no questions with a known answer to which the model said neither with half of the probability.
    """

    bins: tuple[Bin, ...]
    ece: float
    brier: Estimate
    n: int
    left_out: int


@dataclass(frozen=True)
class Number:
    """One number of one method over cases.

    Attributes:
        value: Mean with its interval by patient.
        chance: Mean of the chance levels of the same cases; None where there is none.
        gain: Mean of value less chance, in the direction that is better; None without chance or direction.
        direction: Which way is better.
    """

    value: Estimate
    chance: float | None
    gain: Estimate | None
    direction: str


@dataclass(frozen=True)
class MethodLine:
    """One method.

    Attributes:
        method: Its name.
        maps: Cases with a map.
        n: Cases answered.
        numbers: Name -> number, over the cases to which it applies.
        why: Reason -> cases without a map, or without a check.
    """

    method: str
    maps: int
    n: int
    numbers: Mapping[str, Number]
    why: Mapping[str, int]


@dataclass(frozen=True)
class Wordings:
    """Whether the words matter.

    Attributes:
        questions: With other wordings.
        without: Questions without any.
        consistency: Share of a question's wordings, its own among them, with the commonest label; mean over questions.
        flips: Wordings with another label than the question's own.
        divergence: Jensen-Shannon divergence of a wording's map from the question's own, in nats, [0, ln 2].
        by_strategy: Strategy -> wordings with another label.
    """

    questions: int
    without: int
    consistency: Estimate
    flips: Share
    divergence: Estimate | None
    by_strategy: Mapping[str, Share]


@dataclass(frozen=True)
class Summary:
    """All that a page of a run says in numbers.

    Attributes:
        state: How far the run is, with its plan.
        accuracy: Over all answered questions whose answer can be judged; None where there is none.
        parts: What they are split by -> value -> accuracy.
        uncertain: Yes/no questions answered with neither; None where there is none.
        calibration: None where no yes/no question has a known answer and half of the probability on yes and no.
        methods: In the order of the plan.
        wordings: None where none were asked.
        patients: Of answered cases; a film counts for one where nobody is named.
        unnamed: Answered cases whose patient is not named.
        failed: Reason -> cases.
        unjudged: Answered cases whose answer cannot be judged.
        foreign: Cases that the embedded model was asked about although it knows no such film.
        cut_off: Answers that were cut off.
        noticed: Cases whose film comes with something to be known.
    """

    state: State
    accuracy: Share | None
    parts: Mapping[str, Mapping[str, Share]]
    uncertain: Share | None
    calibration: Calibration | None
    methods: tuple[MethodLine, ...]
    wordings: Wordings | None
    patients: int
    unnamed: int
    failed: Mapping[str, int]
    unjudged: int
    foreign: int
    cut_off: int
    noticed: int


def share_of(hits: np.ndarray) -> Share | None:
    """Of True (n,); None where n is 0."""
    n, count = int(hits.size), int(hits.sum())
    return Share(count, n, wilson_interval(count, n)) if n else None


def columns_of(folder: Path, *, words: bool = False) -> dict[str, np.ndarray]:
    """The columns of all rows, each (rows,): numbers and yes/no as float64 with NaN for none, the rest as objects.

    Args:
        folder: Of a run.
        words: Read what was asked and answered, too; maps never.

    Raises:
        InputError: No run, no part, or a damaged one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((folder / PARTS).glob("shard-*.parquet"))
    if not files:
        raise InputError(f"The run in {str(folder)!r} holds no part yet. Give its `run` command first.")
    left = {"map"} if words else set(_WORDS) - {"strategy"}
    names = [name for name in pq.read_schema(files[0]).names if name not in left]
    table = read_frame(files, names)
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
            found[name] = column.cast(pa.float64()).to_numpy()
        else:
            found[name] = column.to_numpy()
    return found


def chosen(columns: Columns, where: np.ndarray) -> dict[str, np.ndarray]:
    """The rows for which `where` is True."""
    return {name: values[where] for name, values in columns.items()}


def owned(columns: Columns) -> dict[str, np.ndarray]:
    """With the film in the patient's place where nobody is named: questions about one film are not independent."""
    known = (columns["patient_id"] != columns["case_id"]) | (columns["image_sha256"] == None)  # noqa: E711 by element
    return {**columns, "patient_id": np.where(known, columns["patient_id"], columns["image_sha256"])}


def questions_of(columns: Columns) -> dict[str, np.ndarray]:
    """One row for each answered case: its question's own, under the first method."""
    own = chosen(columns, (columns["failed"] == 0) & (columns["wording"] == 0))
    _, first = np.unique(own["case_id"].astype(str), return_index=True)
    return chosen(own, np.sort(first))


def summarise_run(folder: Path, seed: int = 0) -> Summary:
    """Everything of a run that is in its folder, whole or not.

    Args:
        folder: Of a run.
        seed: Of the intervals.

    Raises:
        InputError: No run, or a damaged part.
    """
    state, columns = survey(folder), owned(columns_of(folder))
    asked = questions_of(columns)
    judged = ~np.isnan(asked["correct"])
    failed = chosen(columns, columns["failed"] == 1)
    yes_no = asked["kind"] == "yes/no"
    prompts = state.manifest.fingerprint["asked"]["prompts"]
    return Summary(
        state=state,
        accuracy=share_of(asked["correct"][judged] == 1),
        parts=_parts(chosen(asked, judged)),
        uncertain=share_of(asked["label"][yes_no] == "uncertain"),
        calibration=calibration_of(asked, seed),
        methods=tuple(
            _method(chosen(columns, (columns["method"] == name) & (columns["wording"] == 0)), name, seed)
            for name in state.manifest.fingerprint["asked"]["methods"]
        ),
        wordings=_wordings(columns, asked, seed) if prompts else None,
        patients=len(set(asked["patient_id"])),
        unnamed=int((asked["patient_id"] == asked["image_sha256"]).sum()),
        failed=dict(Counter(failed["reason"].tolist()).most_common()),
        unjudged=int((~judged).sum()),
        foreign=int((asked["foreign"] == 1).sum()),
        cut_off=int((asked["stopped"] == 0).sum()),
        noticed=int((asked["notice"] != "").sum()),
    )


def _parts(judged: Columns) -> dict[str, dict[str, Share]]:
    """Accuracy of every part; "" is no part, and a split into one part says nothing new."""
    found: dict[str, dict[str, Share]] = {}
    for column in PARTS_BY:
        values = sorted(set(judged[column]) - {""})
        if 1 < len(values) <= MOST_VALUES:
            shares = {value: share_of(judged["correct"][judged[column] == value] == 1) for value in values}
            found[column] = {value: share for value, share in shares.items() if share is not None}
    return found


def calibration_of(asked: Columns, seed: int = 0) -> Calibration | None:
    """Of p(yes) over the yes/no questions with a known answer. None where none can be judged."""
    known = (asked["kind"] == "yes/no") & ~np.isnan(asked["correct"]) & ~np.isnan(asked["p_yes"])
    held = known & (asked["p_yes_no_mass"] >= HELD)
    if not held.any():
        return None
    p = asked["p_yes"][held]
    truth = np.array([answer.casefold() == "yes" for answer in asked["truth"][held]], float)
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    bins = [_bin(k, p[place == k], truth[place == k]) for k in range(BINS)]
    gaps = [one.yes.n * abs(one.yes.value - one.mean) for one in bins if one.yes and one.mean is not None]
    brier = bootstrap_interval((p - truth) ** 2, asked["patient_id"][held].tolist(), seed)
    return Calibration(tuple(bins), sum(gaps) / p.size, brier, int(p.size), int((known & ~held).sum()))


def _bin(number: int, p: np.ndarray, truth: np.ndarray) -> Bin:
    mean = float(p.mean()) if p.size else None
    return Bin(number / BINS, (number + 1) / BINS, mean, share_of(truth == 1))


def _method(rows: Columns, name: str, seed: int) -> MethodLine:
    answered = chosen(rows, rows["failed"] == 0)
    numbers = {column.removeprefix(VALUE): None for column in answered if column.startswith(VALUE)}
    found = {number: _number(answered, number, seed) for number in numbers}
    why = Counter(reason for reason in answered["why"].tolist() if reason)
    told = {number: one for number, one in found.items() if one is not None}
    return MethodLine(name, int((answered["available"] == 1).sum()), int(answered["available"].size), told, dict(why))


def _number(rows: Columns, name: str, seed: int) -> Number | None:
    values, chances = rows[VALUE + name], rows[CHANCE + name]
    there = ~np.isnan(values)
    if not there.any():
        return None
    patients, direction = rows["patient_id"][there].tolist(), DIRECTIONS[name.partition(":")[0]]
    value = bootstrap_interval(values[there], patients, seed)
    if np.isnan(chances[there]).any():
        return Number(value, None, None, direction)
    sign = {"higher": 1.0, "lower": -1.0}.get(direction)
    gain = None if sign is None else bootstrap_interval(sign * (values - chances)[there], patients, seed)
    return Number(value, float(chances[there].mean()), gain, direction)


def _wordings(columns: Columns, asked: Columns, seed: int) -> Wordings | None:
    """Of questions with other wordings; None where no question has any."""
    rows = chosen(columns, columns["wording"] > 0)
    if not rows["case_id"].size:
        return None
    own = dict(zip(asked["case_id"], asked["label"], strict=True))
    owner = dict(zip(asked["case_id"], asked["patient_id"], strict=True))
    labels: dict[str, list[str]] = {}
    for case_id, label in zip(rows["case_id"], rows["label"], strict=True):
        labels.setdefault(case_id, [own[case_id]]).append(label)
    flipped = np.array([label != own[case] for case, label in zip(rows["case_id"], rows["label"], strict=True)])
    moved = rows[f"{VALUE}js_divergence"]
    flips = share_of(flipped)
    assert flips is not None
    strategies = {name: share_of(flipped[rows["strategy"] == name]) for name in sorted(set(rows["strategy"]))}
    return Wordings(
        questions=len(labels),
        without=len(own) - len(labels),
        consistency=bootstrap_interval(
            [answer_consistency(each) for each in labels.values()], [owner[case] for case in labels], seed
        ),
        flips=flips,
        divergence=None if np.isnan(moved).all() else bootstrap_interval(moved, rows["patient_id"].tolist(), seed),
        by_strategy={name: share for name, share in strategies.items() if share is not None},
    )


# --- two runs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """One number of both runs on the same cases.

    Attributes:
        first: Mean over the cases where both have it.
        second: The same.
        difference: First less second, with its interval by patient.
        p_value: Wilcoxon's by patient, or McNemar's for accuracy; corrected by Holm for all of the page.
        direction: Which way is better.
    """

    first: float
    second: float
    difference: Estimate
    p_value: float
    direction: str


@dataclass(frozen=True)
class Versus:
    """Two runs on the cases that both answered.

    Attributes:
        first: The fingerprint of one.
        second: Of the other.
        differs: What differs between the two, a line each.
        n: Cases that both answered.
        only: Cases that only one of them answered.
        agree: Cases with the same label in both.
        accuracy: Where answers can be judged.
        methods: Method of both -> number -> pair.
        alike: Whether all of the pictures that both name are the same to the last bit.
    """

    first: Mapping[str, Any]
    second: Mapping[str, Any]
    differs: tuple[str, ...]
    n: int
    only: tuple[int, int]
    agree: Share
    accuracy: Paired | None
    methods: Mapping[str, Mapping[str, Paired]] = field(default_factory=dict)
    alike: bool = True


def versus(folder: Path, other: Path, seed: int = 0) -> Versus:
    """Paired differences of two runs (models, versions, prompts) on the same cases.

    Raises:
        InputError: No run, or no case in common.
    """
    states = [survey(each) for each in (folder, other)]
    tables = [owned(columns_of(each)) for each in (folder, other)]
    asked = [questions_of(each) for each in tables]
    common = _common(*asked)
    if not common.size:
        raise InputError(
            f"{str(folder)!r} and {str(other)!r} have no answered case in common; compare runs of one set."
        )
    one, two = (_aligned(each, common) for each in asked)
    prints = [state.manifest.fingerprint for state in states]
    agree = share_of(one["label"] == two["label"])
    assert agree is not None
    accuracy = _accuracy(one, two, seed)
    names = [name for name in prints[0]["asked"]["methods"] if name in prints[1]["asked"]["methods"]]
    methods = {name: _paired_method(tables, name, seed) for name in names}
    accuracy, methods = _corrected(accuracy, methods)
    return Versus(
        first=prints[0],
        second=prints[1],
        differs=tuple(differences(*prints)),
        n=int(common.size),
        only=(len(asked[0]["case_id"]) - common.size, len(asked[1]["case_id"]) - common.size),
        agree=agree,
        accuracy=accuracy,
        methods=methods,
        alike=bool((one["image_sha256"] == two["image_sha256"]).all()),
    )


def _common(one: Columns, two: Columns) -> np.ndarray:
    """Identifiers of the cases of both, sorted."""
    return np.intersect1d(one["case_id"].astype(str), two["case_id"].astype(str))


def _aligned(rows: Columns, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of these cases, in their order."""
    order = np.argsort(rows["case_id"].astype(str))
    return chosen(rows, order[np.searchsorted(rows["case_id"].astype(str)[order], ids)])


def _accuracy(one: Columns, two: Columns, seed: int) -> Paired | None:
    both = ~np.isnan(one["correct"]) & ~np.isnan(two["correct"])
    if not both.any():
        return None
    first, second = one["correct"][both], two["correct"][both]
    difference = paired_difference(first, second, one["patient_id"][both].tolist(), seed)
    p_value = mcnemar((first == 1).tolist(), (second == 1).tolist())
    return Paired(float(first.mean()), float(second.mean()), difference, p_value, "higher")


def _paired_method(tables: Sequence[Columns], method: str, seed: int) -> dict[str, Paired]:
    rows = [chosen(t, (t["method"] == method) & (t["wording"] == 0) & (t["failed"] == 0)) for t in tables]
    common = _common(*rows)
    one, two = (_aligned(each, common) for each in rows)
    numbers = [name for name in one if name.startswith(VALUE) and name in two]
    found = {}
    for name in numbers:
        both = ~np.isnan(one[name]) & ~np.isnan(two[name])
        bare = name.removeprefix(VALUE)
        if both.any():
            first, second, patients = one[name][both], two[name][both], one["patient_id"][both].tolist()
            difference = paired_difference(first, second, patients, seed)
            p_value = wilcoxon(first, second, patients).p_value
            direction = DIRECTIONS[bare.partition(":")[0]]
            found[bare] = Paired(float(first.mean()), float(second.mean()), difference, p_value, direction)
    return found


def _corrected(
    accuracy: Paired | None, methods: Mapping[str, Mapping[str, Paired]]
) -> tuple[Paired | None, dict[str, dict[str, Paired]]]:
    """P-values corrected for all questions that the page asks."""
    raw = {f"{name}\n{number}": pair.p_value for name, pairs in methods.items() for number, pair in pairs.items()}
    raw |= {} if accuracy is None else {"": accuracy.p_value}
    fixed = holm(raw)
    told = {
        name: {number: replace(pair, p_value=fixed[f"{name}\n{number}"]) for number, pair in pairs.items()}
        for name, pairs in methods.items()
    }
    return (None if accuracy is None else replace(accuracy, p_value=fixed[""])), told
