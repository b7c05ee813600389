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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.models.adapter import Model
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
    with _processes(workers, load) as pool:
        yield lambda function, items, what: _shared(pool, function, items, what)


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
def _processes(workers: int, load: Load) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes, which end with the block, at once where it fails."""
    others = set(multiprocessing.active_children())
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


_own: list[Model] = []  # of a worker process, which has no other place to keep it between items


def _begin(load: Load) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # also where a process starts later than the others
    _own.append(load())


def _item(function: Callable[[Model, T], R], item: T) -> R:
    return _alone(function, _own[0], item)


def _shared(pool: ProcessPoolExecutor, function: Callable[[Model, T], R], items: Sequence[T], what: str) -> list[R]:
    futures: list[Future[R]] = [pool.submit(_item, function, item) for item in items]
    try:
        return [future.result() for future in track(futures, total=len(futures), what=what)]
    except BrokenProcessPool as error:
        raise VisualizerError(
            "A worker process ended before its work did, most likely for want of memory. Use fewer workers."
        ) from error
