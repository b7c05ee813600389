"""The same function asked of many items, in this process or in several, with the same results to the last bit.

Knows processes, threads and progress; does not know what is asked. Sums on several threads depend on their number, so
a model computes on one thread here, in every process and also where there is just one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import cleanup_memory, is_out_of_memory
from medgemma_visualizer.progress import one_step, track

T = TypeVar("T")
R = TypeVar("R")

#: Loads a worker's own copy of the model; must survive pickling.
Load = Callable[[], Model]


class Each(Protocol):
    """Asks a function of the model and every item; results come in the order of the items."""

    def __call__(self, function: Callable[[Model, T], R], items: Sequence[T], what: str) -> list[R]:
        """`what` names the items for whoever watches the progress."""


@contextmanager
def crew(model: Model, workers: int = 1, load: Load | None = None) -> Iterator[Each]:
    """Whoever does the work inside the block.

    Args:
        model: Asked in this process where there is one worker.
        workers: Processes; each loads the model once.
        load: Loads it there; needed for more than one.

    Raises:
        InputError: No worker, or several without a way to load the model.
    """
    if workers < 1 or (workers > 1 and load is None):
        raise InputError(f"{workers} workers: use 1 or more, and tell how each loads the model.")
    if workers == 1 or load is None:
        yield lambda function, items, what: [
            _alone(function, model, item) for item in track(items, total=len(items), what=what)
        ]
        return
    others = set(multiprocessing.active_children())
    with _processes(workers, load, others) as pool:
        yield lambda function, items, what: _shared(pool, others, function, items, what)


def cores() -> int:
    """Processor cores that this process may use, as a scheduler or `taskset` left them; at least one.

    A container's quota of processor time is not seen, and elsewhere than on Linux all of the machine's are counted.
    """
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch inside the block, as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _alone(function: Callable[[Model, T], R], model: Model, item: T) -> R:
    """Items are counted; steps inside one are heard by those only who want to know of parts."""
    with one_thread(), one_step():
        return function(model, item)


@contextmanager
def _processes(workers: int, load: Load, others: set[Any]) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes, which end with the block, at once where it fails; `others` stay."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (load,))
    try:
        with _deaf():
            for _ in range(workers):
                pool.submit(_awake)
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that start inside the block do not hear Ctrl-C: their parent does, and ends them."""
    if threading.current_thread() is not threading.main_thread():  # only there can signals be set
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _awake() -> None:
    """Nothing to do but to be there."""


#: Of a worker process, which has no other place to keep it between items: its model, or why there is none.
_own: list[Model | VisualizerError] = []


def _begin(load: Load) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # also where a process starts later than the others
    _own.append(loaded(load, AGAIN))


#: What to do once whatever ended the work has been mended.
AGAIN = "then start again"


def loaded(load: Load, again: str) -> Model | VisualizerError:
    """A worker's model, or why there is none, in words that travel: other libraries' errors may not, and hold memory.

    To be raised where the first item is asked: what is raised while a worker starts only breaks the pool.
    """
    try:
        return load()
    except Exception as error:
        story = traceback.format_exc()
        full = any(_is_full(one) for one in (error, error.__cause__, error.__context__) if one is not None)
        if isinstance(error, VisualizerError):
            failure = type(error)(f"{error} Fewer workers need less." if full else str(error))
        else:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            step = "Use fewer workers" if full else "Mend that"
            failure = VisualizerError(f"A worker could not load the model ({reason}). {step}; {again}.")
    with suppress(RuntimeError):  # of a card that answers no more
        cleanup_memory()
    failure.add_note(story)  # for --debug
    return failure


def _is_full(error: BaseException) -> bool:
    """Whether memory was missing; a card on which not even a context finds room says so in words only."""
    return is_out_of_memory(error) or "out of memory" in str(error)


def why_ended(codes: Iterable[int | None], again: str) -> str:
    """Why a pool broke, by the exit codes of its workers: those that the pool then ended have 0 or SIGTERM's."""
    code = next((code for code in codes if code not in (None, 0, -signal.SIGTERM)), None)
    if code == -signal.SIGKILL:
        return f"A worker process was killed by the system, most likely for want of memory. Use fewer workers; {again}."
    how = "" if code is None else f"exit code {code}" if code > 0 else signal.strsignal(-code) or f"signal {-code}"
    return (
        f"A worker process ended before its work did{how and f' ({how})'}. With one worker the model is asked in this "
        f"process, which may show why; {again}."
    )


def _item(function: Callable[[Model, T], R], item: T) -> R:
    (own,) = _own
    if isinstance(own, VisualizerError):
        raise own
    return _alone(function, own, item)


def _shared(
    pool: ProcessPoolExecutor, others: set[Any], function: Callable[[Model, T], R], items: Sequence[T], what: str
) -> list[R]:
    futures: list[Future[R]] = [pool.submit(_item, function, item) for item in items]
    there = set(multiprocessing.active_children()) - others
    try:
        return [future.result() for future in track(futures, total=len(futures), what=what)]
    except BrokenProcessPool as error:
        pool.shutdown()  # afterwards it is known how each of them ended
        raise VisualizerError(why_ended((process.exitcode for process in there), AGAIN)) from error
