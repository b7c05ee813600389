"""A run on this machine: shard after shard, in this process or in several, until all is done or somebody says stop.

Knows processes, signals and progress; what is done to a shard is `shards`, where it is kept is `folder`. A run that is
ended in any way goes on with the same command: what stands in a part is not asked again, unless it failed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medgemma_visualizer.errors import VisualizerError
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import trim_memory
from medgemma_visualizer.progress import tell
from medgemma_visualizer.runs.changed import marks_of
from medgemma_visualizer.runs.folder import Beat, Manifest, State, Took, note_took, part_path, say, survey, took
from medgemma_visualizer.runs.plan import RunPlan, Shard, asked_of
from medgemma_visualizer.runs.results import (
    Part,
    Row,
    failed_of,
    in_order,
    read_rows,
    settled,
    write_part,
)
from medgemma_visualizer.runs.shards import Answered, ask_all
from medgemma_visualizer.runs.work import Load, loaded, why_ended

#: A run in which so many cases failed and none was answered is stopped: what fails so often fails always.
HOPELESS = 50
#: Seconds between two words for `status`, and between two looks at the workers.
_EVERY, _LOOK = 2.0, 0.2

#: Told of cases asked and of cases failed, as they come.
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """What every worker needs to do any shard of a run.

    Attributes:
        folder: Of the run.
        plan: What is asked.
        manifest: What was planned.
        sharers: Processes that work on it on one machine, and share its cores.
    """

    folder: Path
    plan: RunPlan
    manifest: Manifest
    sharers: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: What stands in the folder.
        asked: Cases asked this time, failed ones included.
        failed: Of these.
        stopped: Whether somebody said stop before all was done.
        seconds: Time spent.
    """

    state: State
    asked: int
    failed: int
    stopped: bool
    seconds: float


def do_shard(
    job: Job,
    shard: Shard,
    model: Model,
    tell_cases: Tell = lambda asked, failed: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[int, int]:
    """Asks what a shard lacks and writes its part: (cases asked, of these failed).

    Pictures of which any case failed or is missing are asked again with all of their questions, so that the part is
    the same to the last bit as one that was written in one go. Doing a shard twice does no harm.

    Raises:
        InputError: The model is another one than was planned.
        VisualizerError: The part cannot be written or is damaged; an earlier one stays as it is.
    """
    job.manifest.refuse_other(asked_of(model, job.plan))
    path, ids = part_path(job.folder, shard.index), [case.id for case in shard.cases]
    before = read_rows(path) if path.exists() else []
    good = settled(before)
    todo = [group for group in shard.groups if any(case.id not in good for case in group)]
    again = {case.id for group in todo for case in group}
    rows = [row for row in before if row["case_id"] not in again]
    marks = marks_of(todo)  # before the films are read: one that changes meanwhile is looked at again later
    answered: list[Answered] = []
    for one in ask_all(model, todo, job.plan, stop, job.sharers):
        answered.append(one)
        tell_cases(len(one.cases), one.failed)
    rows += [row for one in answered for row in one.rows]
    if answered:
        done = {row["case_id"] for row in rows}
        rows += [row for row in before if row["case_id"] not in done]  # asked again and not reached before the stop
        _keep(job, shard, in_order(rows, ids), answered, marks)
    trim_memory()
    return sum(len(one.cases) for one in answered), sum(one.failed for one in answered)


def _keep(job: Job, shard: Shard, rows: Sequence[Row], answered: Sequence[Answered], marks: Mapping[str, str]) -> None:
    """Seconds first, so that whoever sees a part finds them; of cases that were not asked now, the earlier ones."""
    known = took(job.folder, shard.index)
    seconds = {**known.seconds, **{case: spent for one in answered for case, spent in one.seconds.items()}}
    films = {**known.films, **{case: marks[case] for case in (one.cases[0].id for one in answered)}}
    note_took(job.folder, shard.index, Took(socket.gethostname(), round(time.time(), 1), seconds, films))
    cases = len({row["case_id"] for row in rows})
    part = Part(shard.index, job.manifest.digest, shard.digest, cases, failed_of(rows))
    write_part(part_path(job.folder, shard.index), rows, job.plan, part)


@dataclass
class Pulse:
    """Counts cases, and tells whoever waits here and in other terminals.

    Attributes:
        folder: Of the run.
        total: Cases to be asked.
        hopeful: Whether a case has been answered, now or in an earlier run.
    """

    folder: Path
    total: int
    hopeful: bool
    started: float = field(default_factory=time.time)
    asked: int = 0
    failed: int = 0
    kept: int = 0
    _said: float = 0.0

    def cases(self, asked: int, failed: int) -> None:
        """Counts some more.

        Raises:
            VisualizerError: Nothing but failures from the beginning.
        """
        self.asked += asked
        self.failed += failed
        self.hopeful = self.hopeful or self.asked > self.failed
        self.look()
        if not self.hopeful and self.failed >= HOPELESS:
            raise VisualizerError(
                f"The first {self.failed} cases all failed, so the run was stopped. See why with `status`, mend it, "
                "then give the same command again."
            )

    def look(self) -> None:
        """Tells how far the work is."""
        tell(self.asked, self.total, "cases")
        if self.failed:
            tell(self.failed, self.total, "failed")
        if time.time() - self._said > _EVERY:
            self.say("running")

    def say(self, state: str) -> None:
        """Leaves word for `status`; that it cannot be left is no reason to stop."""
        self._said = time.time()
        beat = Beat(socket.gethostname(), os.getpid(), self.started, self._said, self.total)
        with suppress(OSError):
            say(self.folder, replace(beat, done=self.asked, failed=self.failed, kept=self.kept, state=state))


def to_do(state: State, shards: Sequence[Shard]) -> tuple[list[Shard], int]:
    """Shards with missing or failed cases, and how many cases of theirs will be asked."""
    wanted = set(state.open)
    chosen = [shard for shard in shards if shard.index in wanted]
    return chosen, sum(_lacking(state, shard) for shard in chosen)


def _lacking(state: State, shard: Shard) -> int:
    part = state.parts[shard.index]
    return len(shard.cases) if part is None else len(shard.cases) - part.cases + part.failed


def carry_out(
    job: Job, shards: Sequence[Shard], model: Model | None, *, workers: int = 1, loads: Sequence[Load] = ()
) -> Outcome:
    """Does what these shards lack. Results are the same for any number of workers.

    SIGTERM and Ctrl-C end the work after the pictures in hand; what was asked until then is kept.

    Args:
        job: The run; its folder has been begun.
        shards: Those of this job, all or some of the run's.
        model: Asked in this process where there is one worker; None where workers load theirs.
        workers: Processes.
        loads: Load a worker's own model; taken in turn, so that each worker can have a device of its own.

    Raises:
        VisualizerError: The disk is full, a worker could not load its model or ended, or nothing but failures.
    """

    def work(todo: Sequence[Shard], pulse: Pulse, stop: Callable[[], bool]) -> None:
        if todo:
            pulse.say("running")
        if workers == 1 or not loads:
            assert model is not None
            _alone(job, todo, model, pulse, stop)
        else:
            crew = min(workers, max(len(todo), 1))
            _together(replace(job, sharers=crew), todo, pulse, stop, crew, loads)

    return overseen(job, shards, work)


#: Does shards, told to the pulse, until it is done or stopped.
Work = Callable[[Sequence[Shard], Pulse, Callable[[], bool]], None]


def overseen(job: Job, shards: Sequence[Shard], work: Work) -> Outcome:
    """Has done what these shards lack, whoever does it: signals are heard, `status` is told, the end is surveyed."""
    state = survey(job.folder, job.manifest)
    todo, total = to_do(state, shards)
    pulse = Pulse(job.folder, total, state.asked > state.failed)
    with stopping() as stop:
        try:
            work(todo, pulse, stop)
            pulse.say("stopped" if stop() else "done")
        except BaseException:
            pulse.say("stopped")
            raise
        ended = stop()
    found = survey(job.folder, job.manifest)
    return Outcome(found, pulse.asked, pulse.failed, ended, time.time() - pulse.started)


def _alone(job: Job, shards: Sequence[Shard], model: Model, pulse: Pulse, stop: Callable[[], bool]) -> None:
    for shard in shards:
        if stop():
            return
        asked, _ = do_shard(job, shard, model, pulse.cases, stop)
        pulse.kept += asked
    pulse.look()


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Lends a function that says whether SIGTERM or Ctrl-C came; the second one ends the work at once, as usual."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only there can signals be set
        yield lambda: False
        return

    def hear(number: int, frame: Any) -> None:
        came.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


#: What to do once whatever ended a run has been mended.
AGAIN = "the same command goes on from here"


# --- several processes -----------------------------------------------------------------------------------------------


def _together(
    job: Job, shards: Sequence[Shard], pulse: Pulse, stop: Callable[[], bool], workers: int, loads: Sequence[Load]
) -> None:
    """Each worker takes the next shard; counts are shared, so that progress shows single cases."""
    context = multiprocessing.get_context("spawn")
    turn, asked, failed = (context.Value("q", 0) for _ in range(3))
    halt = context.Event()
    begin = (tuple(loads), turn, asked, failed, halt)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _begin, begin)
    crew: set[Any] = set()
    try:
        with _deaf():
            futures = {pool.submit(_one, job, shard) for shard in shards}
        crew = set(multiprocessing.active_children()) - others
        _watch(futures, pulse, stop, halt, asked, failed)
    except BrokenProcessPool as error:
        halt.set()
        pool.shutdown()  # it ends the other workers; afterwards it is known how each of them ended
        if not stop():  # else whoever said stop told a worker too that was still loading
            raise VisualizerError(why_ended((process.exitcode for process in crew), AGAIN)) from error
    finally:
        halt.set()
        pool.shutdown(cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()


def _watch(
    futures: set[Future[tuple[int, int]]], pulse: Pulse, stop: Callable[[], bool], halt: Any, asked: Any, failed: Any
) -> None:
    while futures:
        if stop() and not halt.is_set():
            halt.set()
        done, futures = wait(futures, _LOOK, FIRST_COMPLETED)
        for future in done:
            pulse.kept += future.result()[0]
        pulse.cases(asked.value - pulse.asked, failed.value - pulse.failed)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that start inside the block do not hear Ctrl-C: their parent does, and tells them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if _is_main() else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


@dataclass
class _Worker:
    """What a worker process keeps between shards; it has no other place for it."""

    model: Model
    asked: Any
    failed: Any
    halt: Any
    heard: bool = False


#: The worker that this process is, or why it is none.
_own: list[_Worker | VisualizerError] = []


def _begin(loads: tuple[Load, ...], turn: Any, asked: Any, failed: Any, halt: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with turn.get_lock():
        number = turn.value
        turn.value += 1
    model = loaded(loads[number % len(loads)], AGAIN)
    if isinstance(model, VisualizerError):
        _own.append(model)  # told by the first shard that comes here: what is raised here only breaks the pool
        return
    worker = _Worker(model, asked, failed, halt)
    _own.append(worker)

    def hear(signal_number: int, frame: Any) -> None:  # a scheduler tells every process of a job
        worker.heard = True

    signal.signal(signal.SIGTERM, hear)


def _one(job: Job, shard: Shard) -> tuple[int, int]:
    worker = _own[0]
    if isinstance(worker, VisualizerError):
        raise worker

    def stop() -> bool:
        return worker.heard or worker.halt.is_set()

    def count(asked: int, failed: int) -> None:
        for value, more in ((worker.asked, asked), (worker.failed, failed)):
            with value.get_lock():
                value.value += more

    return (0, 0) if stop() else do_shard(job, shard, worker.model, count, stop)
