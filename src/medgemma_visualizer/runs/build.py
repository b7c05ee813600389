"""From a model and cases to the league table, its rows and maps.

Knows the order of the work: which cases, every method on each, the mean map of other patients, sanity on a few, the
table. Does not know screens, nor where results go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medgemma_visualizer.checks.curves import step_counts
from medgemma_visualizer.checks.imputers import IMPUTERS
from medgemma_visualizer.checks.planted import planted_cases
from medgemma_visualizer.checks.randomisation import MIN_SEEDS
from medgemma_visualizer.data.questions import QuestionSet
from medgemma_visualizer.errors import InputError, VisualizerError, unknown_name
from medgemma_visualizer.heatmaps import METHODS
from medgemma_visualizer.heatmaps.probing import BASELINES
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.records import Case
from medgemma_visualizer.runs.league import CONTROLS, METRICS, REFERENCE, SRG, League, Probe, Row, Sanity
from medgemma_visualizer.runs.measure import Measured, Plan, Subject, measure_case, measure_map, subjects_of
from medgemma_visualizer.runs.sanity import summed_up, trials_of, try_out
from medgemma_visualizer.runs.store import identity_of
from medgemma_visualizer.runs.table import agreement, asked, controls_of, left_out, places_of, splits_of
from medgemma_visualizer.runs.work import Each, Load, crew
from medgemma_visualizer.scores.maps import distribution
from medgemma_visualizer.settings import DEFAULT_IMPUTERS

#: Marks tried where nobody says how many.
PLANTED = 200


@dataclass(frozen=True)
class Built:
    """All that was measured.

    Attributes:
        league: The table.
        rows: Sorted by case and method.
        maps: Case -> method -> float32 (rows, cols).
        cases: By their ids.
    """

    league: League
    rows: tuple[Row, ...]
    maps: Mapping[str, Mapping[str, np.ndarray]]
    cases: Mapping[str, Case]


def trust(
    model: Model,
    cases: Sequence[Case],
    *,
    methods: Sequence[str] | None = None,
    number: int | None = None,
    findings: Sequence[str] | None = None,
    probe: Probe = "regions",
    imputers: Sequence[str] = DEFAULT_IMPUTERS,
    space: str = "pixels",
    steps: int = 8,
    seed: int = 0,
    sanity_cases: int = 4,
    sanity_seeds: int = MIN_SEEDS,
    workers: int = 1,
    load: Load | None = None,
    source: str = "",
    command: str = "",
    agree_with: Sequence[Row] | None = None,
) -> Built:
    """The league table of a model: which methods' maps find the cause of its answers, beside chance and controls.

    Args:
        model: Asked.
        cases: With regions, where localisation is to be scored; all others count for SRG. For "planted" marks, whose
            films are used.
        methods: Names of `METHODS`; all where None. The specification's default is always among them.
        number: How many cases are drawn by lot, all where None; for "planted" how many marks are tried.
        findings: Only cases that show one of these and whose region of it is known; all cases where None.
        probe: "regions" of the cases, or "planted" marks, which need no annotation.
        imputers: Under which SRG is asked; two must agree on a winner.
        space: "pixels" or "tokens".
        steps: Of the areas of SRG.
        seed: The same seed gives the same table.
        sanity_cases: On how many cases each method is checked with random weights and targets.
        sanity_seeds: Random models a case; a verdict needs 5.
        workers: Processes; results are the same for any number.
        load: Loads the model in a worker; needed for more than one.
        source: Where the cases come from, for people; what they say themselves where empty.
        command: What builds the table again.
        agree_with: Rows of another league of this model, to compare its ranking with.

    Raises:
        InputError: A name or number that does not fit.
        UnavailableError: No answer is known to be owed to a planted mark.
        VisualizerError: No case could be measured.
    """
    plan, sanity = plan_for(methods, imputers, space, steps, seed), SanityPlan(sanity_cases, sanity_seeds)
    step_counts(int(np.prod(model.grid)), steps)
    known = cases if findings is None else _showing(cases, findings)
    chosen, dropped, notes = _chosen(model, known, probe, number, seed)
    unusable = dict(cases.reasons) if probe == "regions" and isinstance(cases, QuestionSet) else {}
    name = source or (cases.source if isinstance(cases, QuestionSet) else "")
    if findings is not None:
        notes = (f"only cases that show {' or '.join(findings)}: {len(known)} of {len(cases)}", *notes)
    about: dict[str, Any] = {"probe": probe, "source": name, "notes": notes, "command": command}
    found = build(model, chosen, plan, sanity=sanity, workers=workers, load=load, **about)
    league = replace(found.league, left_out=unusable | dropped | dict(found.league.left_out))
    if agree_with is not None:
        other = {name for row in agree_with for name in row.chances}
        common = [name for name in league.metrics if name in other]
        league = replace(league, agreement=agreement(found.rows, agree_with, common, seed))
    return replace(found, league=league)


def _showing(cases: Sequence[Case], findings: Sequence[str]) -> tuple[Case, ...]:
    """Cases that ask about one of the findings and whose region of it is known.

    Raises:
        InputError: A finding of which no case has a region.
    """
    there = {case.finding for case in cases if case.finding is not None and case.finding in case.regions}
    for name in findings:
        if name not in there:
            raise unknown_name("finding with a known region", name, there)
    return tuple(case for case in cases if case.finding in findings and case.finding in case.regions)


def _chosen(
    model: Model, cases: Sequence[Case], probe: Probe, number: int | None, seed: int
) -> tuple[tuple[Case, ...], dict[str, int], tuple[str, ...]]:
    """Cases, reason -> how many marks were dropped before anything was measured, and what a reader must know."""
    if probe not in ("regions", "planted"):
        raise unknown_name("probe", probe, ("regions", "planted"))
    if probe == "planted":
        found = planted_cases(model, cases, n=PLANTED if number is None else number, seed=seed)
        return found.kept, dict(found.dropped), (f"marks planted by us: {found}",)
    chosen = sample(cases, number, seed)
    notes = () if len(chosen) == len(cases) else (f"{len(chosen)} of {len(cases)} cases, drawn by lot",)
    return chosen, {}, notes


@dataclass(frozen=True)
class SanityPlan:
    """On how many cases, and with how many random models each, every method is checked; 0 cases leave it out."""

    cases: int = 4
    seeds: int = MIN_SEEDS


def plan_for(
    methods: Sequence[str] | None, imputers: Sequence[str], space: str = "pixels", steps: int = 8, seed: int = 0
) -> Plan:
    """A plan whose every name is known, before any model is asked. The reference is always among the methods.

    Raises:
        InputError: Unknown or repeated names, a control for a method, or a number of steps or a seed below its least.
    """
    names = list(METHODS) if methods is None else [*methods, *({REFERENCE} - set(methods))]
    for name in names:
        _ = METHODS[name]
    for name in imputers:
        if name not in IMPUTERS:
            raise unknown_name("imputer", name, IMPUTERS)
    if space not in BASELINES:
        raise unknown_name("space", space, BASELINES)
    for given in (names, imputers):
        if len(set(given)) < len(given) or not given:
            raise InputError(f"{', '.join(given) or 'An empty list'} must be different names, and at least one.")
    if steps < 2 or seed < 0:
        raise InputError(f"{steps} steps and seed {seed}: use at least 2 steps, and a seed of 0 or more.")
    return Plan(tuple(sorted(names, key=list(METHODS).index)), tuple(imputers), space, steps, seed)  # type: ignore[arg-type]


def sample(cases: Sequence[Case], number: int | None, seed: int) -> tuple[Case, ...]:
    """So many cases drawn by lot, in the order given; all where None or there are no more.

    Raises:
        InputError: No case at all.
    """
    if not cases or (number is not None and number < 1):
        raise InputError(f"{number} of {len(cases)} cases: a league needs at least one.")
    if number is None or number >= len(cases):
        return tuple(cases)
    drawn = np.random.default_rng((seed, 2)).choice(len(cases), number, replace=False)
    return tuple(cases[k] for k in sorted(drawn.tolist()))


def build(
    model: Model,
    cases: Sequence[Case],
    plan: Plan,
    *,
    probe: Probe = "regions",
    source: str = "",
    sanity: SanityPlan | None = None,
    workers: int = 1,
    load: Load | None = None,
    notes: Sequence[str] = (),
    command: str = "",
) -> Built:
    """Measures every method on every case and sums up. Results are the same for any number of workers.

    Args:
        model: Asked, and named in the table.
        cases: At least one.
        plan: As from `plan_for`.
        probe: Where the truth comes from.
        source: Where the cases come from, for people.
        sanity: How much of it.
        workers: Processes.
        load: Loads the model in a worker; needed for more than one.
        notes: What else a reader must know.
        command: What builds the table again.

    Raises:
        VisualizerError: No case could be asked; the message gives the commonest reason.
    """
    subjects = subjects_of(cases)
    with crew(model, workers, load) as each:
        measured = each(_Case(plan), subjects, "cases")
        rows = _refused_if_empty([row for one in measured for row in one.rows])
        rows += _mean_maps(each, subjects, measured, plan)
        verdicts = _sanity(each, cases, rows, plan, sanity or SanityPlan())
    ordered = tuple(sorted(rows, key=lambda row: (row.case_id, row.method)))
    about = {"probe": probe, "source": source, "notes": tuple(notes), "command": command}
    maps = {subject.case.id: one.maps for subject, one in zip(subjects, measured, strict=True) if one.maps}
    league = league_of_rows(ordered, model, plan, verdicts, **about)
    return Built(league, ordered, maps, {case.id: case for case in cases})


def league_of_rows(
    rows: Sequence[Row], model: Model, plan: Plan, sanity: Mapping[str, Sanity] | None = None, **about: Any
) -> League:
    """The table of these rows. `about`: what `League` holds of probe, source, notes and command."""
    labels = {name: METHODS[name].label for name in plan.methods}
    metrics = (*METRICS, *(SRG + name for name in plan.imputers))
    counted = asked(rows)
    return League(
        model=_about(model),
        identity=identity_of(model),
        seed=plan.seed,
        n=len({row.case_id for row in counted}),
        patients=len({row.patient_id for row in counted}),
        imputers=plan.imputers,
        space=plan.space,
        steps=plan.steps,
        reference=REFERENCE,
        places=places_of(rows, plan.methods, metrics, labels, sanity, plan.seed),
        controls=controls_of(rows, CONTROLS, metrics, plan.seed),
        splits=splits_of(rows, plan.methods, metrics, labels, plan.seed),
        left_out=left_out(rows),
        versions=dict(model.versions),
        **about,
    )


@dataclass(frozen=True)
class _Case:
    """`measure_case` with its plan, in a form that reaches another process."""

    plan: Plan

    def __call__(self, model: Model, subject: Subject) -> Measured:
        return measure_case(model, subject, self.plan)


@dataclass(frozen=True)
class _Map:
    """`measure_map` with its plan."""

    plan: Plan

    def __call__(self, model: Model, item: tuple[Subject, np.ndarray]) -> Row:
        return measure_map(model, *item, self.plan)


def _refused_if_empty(rows: list[Row]) -> list[Row]:
    if not asked(rows):
        reasons = left_out(rows)
        reason, count = next(iter(reasons.items())) if reasons else ("no case has a region or a score that varies", 0)
        raise VisualizerError(f"No case could be measured, so there is no league. {count} times: {reason}")
    return rows


def _mean_maps(each: Each, subjects: Sequence[Subject], measured: Sequence[Measured], plan: Plan) -> list[Row]:
    """Rows of the mean over all methods' maps of all other patients: where findings lie, whoever the patient is."""
    totals: dict[str, np.ndarray] = {}
    for subject, one in zip(subjects, measured, strict=True):
        for grid in one.maps.values():
            owner = _owner(subject)
            totals[owner] = totals.get(owner, 0) + distribution(grid)
    everything = sum(totals.values())
    items = [
        (subject, others)
        for subject, one in zip(subjects, measured, strict=True)
        if not one.problem and (others := np.maximum(everything - totals.get(_owner(subject), 0), 0)).any()
    ]
    return each(_Map(plan), items, "cases against the mean map")


def _owner(subject: Subject) -> str:
    return subject.case.patient_id or subject.case.id


def _sanity(
    each: Each, cases: Sequence[Case], rows: Sequence[Row], plan: Plan, sanity: SanityPlan
) -> dict[str, Sanity]:
    trials = trials_of(cases, rows, plan.methods, sanity.cases, sanity.seeds, plan.seed)
    outcomes = each(try_out, trials, "sanity checks")
    return {name: summed_up(name, outcomes, sanity.seeds) for name in plan.methods}


def _about(model: Model) -> dict[str, Any]:
    rows, cols = model.grid
    return {
        "name": model.name,
        "revision": model.revision,
        "dtype": str(model.dtype).removeprefix("torch."),
        "grid": [rows, cols],
    }
