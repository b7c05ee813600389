"""From a model and cases to a run's folder, whoever does the work: this process, several, or a cluster.

Knows the order of things: plan, shards, manifest, work. Knows no screen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgemma_visualizer.data.photo import rendered
from medgemma_visualizer.errors import unknown_name
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.records import Case
from medgemma_visualizer.runs.changed import refuse_changed
from medgemma_visualizer.runs.cluster import Cluster
from medgemma_visualizer.runs.folder import begin, manifest_of, note_command, note_finished
from medgemma_visualizer.runs.local import Job, Outcome, carry_out
from medgemma_visualizer.runs.plan import RunPlan, asked_of, checked_plan, shards_of, share_of
from medgemma_visualizer.runs.work import Load

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Engine:
    """Who does the work.

    Attributes:
        asked: What it would compute, as `plan.asked_of` says of the model that does the work.
        work: Does what some shards of a job lack.
    """

    asked: Mapping[str, Any]
    work: Callable[..., Outcome]


def local(model: Model, plan: RunPlan, workers: int = 1, loads: Sequence[Load] = ()) -> Engine:
    """This machine; see `local.carry_out`. A model is not kept where workers load theirs: its card may hold no more."""
    own = None if workers > 1 and loads else model
    return Engine(asked_of(model, plan), functools.partial(carry_out, model=own, workers=workers, loads=loads))


def on_ray(cluster: Cluster, plan: RunPlan) -> Engine:
    """A Ray cluster; what it would compute is asked of one of its workers, as the driver may have no GPU."""
    return Engine(cluster.asked(plan), cluster.carry_out)


def refuse_unknown_engine(name: str) -> None:
    """Raises before any work.

    Raises:
        InputError: No such engine.
    """
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)


def run(
    engine: Engine,
    cases: Sequence[Case],
    folder: Path,
    plan: RunPlan,
    *,
    shard_size: int | None = None,
    shard: str | None = None,
    stamp: str = "",
    source: str = "",
    left_out: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    command: str = "",
    whole_command: str = "",
) -> Outcome:
    """Asks all cases, or goes on with a run that was begun in this folder.

    Args:
        engine: Who does the work.
        cases: With different ids.
        folder: Where parts go; that of an earlier start of the same run is gone on with.
        plan: What is asked.
        shard_size: Cases a shard; by the number of cases and the plan's batch where None.
        shard: "i/n": only this job's share of the shards.
        stamp: Of the source, as `folder.stamp_of` makes it; lets a finished run be found finished without its cases.
        source: For people.
        left_out: Reason -> rows of the source that made no case.
        notes: What must be known of the cases as a whole.
        command: What does the run again, without the places of files, as it travels with the plan and the page.
        whole_command: The same with all places; kept beside, in `folder.COMMANDS`.

    Raises:
        InputError: A name or number that does not fit, a folder that holds another run, or films that changed since.
        VisualizerError: The disk is full, a worker ended, or nothing but failures.
    """
    checked_plan(plan)
    cases = rendered(cases, plan.rendering)
    shards = shards_of(cases, shard_size, plan.batch)
    mine = share_of(shards, shard)
    about = {"source": source, "left_out": dict(left_out or {}), "notes": tuple(notes), "command": command}
    manifest = manifest_of(engine.asked, cases, shards, **about)
    begin(folder, manifest)
    refuse_changed(folder, mine)
    if whole_command:
        note_command(folder, whole_command)
    outcome = engine.work(Job(folder, plan, manifest), mine)
    if stamp and not outcome.state.open:
        note_finished(folder, stamp)
    return outcome
