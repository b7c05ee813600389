"""One model, on one device or several, and many visitors: who asks now, how far long work is, how it is called off.

Knows threads and locks; knows nothing about pages, pictures or questions. Quick work (an answer, a map) and long work
(a check, a comparison, a league) each have one worker at each model's desk. They ask two copies of the model's modules,
since a method hooks into the modules that it asks, and a quick answer may not run through the hooks of somebody's long
check. The copies share their weights where these are large; small ones are copied too, so that a check that randomises
weights stops nobody's quick work. Large ones are copied for the time of such a check where the card has room for them;
only where it has none, quick work waits.
"""

from __future__ import annotations

import contextvars
import copy
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.models import graphs
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import cleanup_memory, free_bytes, is_out_of_memory, on_device, stay_on
from medgemma_visualizer.progress import listening

T = TypeVar("T")

#: Weights up to this many bytes are copied for long work.
SMALL = 2**30
#: Free memory that a copy of large weights wants, as a multiple of their bytes: what is asked of them takes some, too.
ROOM = 1.5
#: Seconds between two looks at how far long work is.
LOOK = 0.2
#: What work does that has its turn and has not counted yet.
BEGUN = "work"


class Cancelled(Exception):  # no error: a visitor's wish
    """The visitor called the work off, or left."""


@dataclass(frozen=True)
class Progress:
    """How far long work is.

    Attributes:
        done, total: Of what is counted; total is 0 while the work waits for its turn, or has not counted yet.
        what: What is counted, in the plural; "" while the work waits.
        seconds: Since the work was asked for.
        left: Seconds until all of these are counted, by the rate so far; None where nothing is known. Nobody knows what
            is counted after them.
        within: Done, total and name of what is counted within the present one; None where nothing is.
        stopping: Whether the work was called off and ends at its next step.
    """

    done: int
    total: int
    what: str
    seconds: float
    left: float | None
    within: tuple[int, int, str] | None = None
    stopping: bool = False


@dataclass(frozen=True)
class Result(Generic[T]):
    """What long work came to."""

    value: T


@dataclass(frozen=True)
class _Count:
    done: int
    total: int
    what: str
    since: float


class Job:
    """One piece of long work, as its visitor sees it."""

    def __init__(self) -> None:
        self._called_off = threading.Event()
        self._began = time.perf_counter()
        self._counts: tuple[_Count, ...] = ()  # of what is under way, the whole before its parts

    def cancel(self) -> None:
        """Ends the work at its next step."""
        self._called_off.set()

    def tell(self, done: int, total: int, what: str) -> None:
        """Notes a step. What begins while another count is under way is a part of that.

        Raises:
            Cancelled: The visitor has called the work off.
        """
        if self._called_off.is_set():
            raise Cancelled
        now, counts = time.perf_counter(), list(self._counts)
        known = next((n for n, one in enumerate(counts) if (one.what, one.total) == (what, total)), None)
        if known is None:
            around = [one for one in counts if one.done < one.total]
            since = now
        else:
            around, since = counts[:known], counts[known].since if done else now
        self._counts = (*around, _Count(done, total, what, since))

    def progress(self) -> Progress:
        """How far it is now."""
        now, counts = time.perf_counter(), self._counts
        if not counts:
            return Progress(0, 0, "", now - self._began, None, stopping=self._called_off.is_set())
        whole, *parts = counts
        left = (now - whole.since) / whole.done * (whole.total - whole.done) if whole.done else None
        within = (parts[-1].done, parts[-1].total, parts[-1].what) if parts else None
        counted = (whole.done, whole.total, whole.what)
        return Progress(*counted, now - self._began, left, within, self._called_off.is_set())


class Desk:
    """Where visitors ask one model.

    Attributes:
        model: Asked by quick work.
        double: Asked by long work.
        bytes: What the weights take.
        separate: Whether the double has weights of its own.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.bytes = model.weight_bytes
        self.separate = self.bytes <= SMALL
        self.double = doubled(model, weights=self.separate)
        self._quick, self._long = threading.Lock(), threading.Lock()
        # One thread for all: the libraries of numbers keep buffers for every thread that ever computed with them.
        self._hand = ThreadPoolExecutor(1, "quick", stay_on, (model.device,))

    def quick(self, work: Callable[[Model], T], still: Callable[[], None] | None = None) -> T:
        """Does short work, one visitor at a time, and waits for it; not to be called from within such work.

        Args:
            work: What to ask the model.
            still: Looked at while waiting; raises where nobody wants the result any more, which takes the work away
                unless it has begun.
        """
        asked = self._hand.submit(contextvars.copy_context().run, self._quickly, work)
        try:
            while still is not None and not wait([asked], LOOK).done:
                still()
        except BaseException:
            asked.cancel()
            raise
        return asked.result()

    def _quickly(self, work: Callable[[Model], T]) -> T:
        with self._quick:  # held by long work that changes shared weights
            return within_memory(work, self.model)

    def long(
        self, work: Callable[[Model], T], job: Job, *, changes_weights: bool = False
    ) -> Iterator[Progress | Result[T]]:
        """Does long work on another thread; gives its progress several times a second, at last its result.

        Args:
            changes_weights: Whether the work draws new weights for a while. Where the double shares them, the work gets
                a copy of its own, not to be kept; where there is no room for one, quick work waits.

        Raises:
            Cancelled: The job was called off. Closing the iterator calls it off as well.
        """
        outcome: list[Result[T] | BaseException] = []

        def do() -> None:
            try:
                with (
                    on_device(self.model.device),
                    self._turn(job, changes_weights) as model,
                    listening(job.tell, parts=True),
                ):
                    outcome.append(Result(within_memory(work, model)))
            except BaseException as error:  # handed to the visitor's thread below
                outcome.append(error)

        worker = threading.Thread(target=do, daemon=True)
        worker.start()
        try:
            while worker.is_alive():
                yield job.progress()
                worker.join(LOOK)
        finally:
            job.cancel()  # of no effect on work that is done
        (found,) = outcome
        if isinstance(found, BaseException):
            raise found
        yield found

    @contextmanager
    def _turn(self, job: Job, changes_weights: bool) -> Iterator[Model]:
        """Waits for the long worker's place, still ready to leave; gives whom it may ask."""
        while not self._long.acquire(timeout=LOOK):
            job.tell(0, 0, "")
        try:
            job.tell(0, 0, BEGUN)
            if self.separate or not changes_weights:
                yield self.double
            elif self._has_room():
                yield doubled(self.double, weights=True)  # not of the quick model, into which somebody may just hook
            else:
                with self._quick:
                    yield self.double
        finally:
            self._long.release()

    def _has_room(self) -> bool:
        cleanup_memory()  # the copy of an earlier check, whose modules point at each other
        free = free_bytes(self.model.device)
        return free is not None and free >= ROOM * self.bytes


class Desks:
    """One desk for each device: a visitor is sent to that with the fewest, and asks there until they leave.

    What was computed for a visitor lies on one device, so nobody moves. A visitor has left where nobody holds them any
    more.

    Args:
        desks: One or more, each with the same model.
    """

    def __init__(self, desks: Sequence[Desk]) -> None:
        self.desks = tuple(desks)
        self._places: list[tuple[weakref.ref[Any], Desk]] = []
        self._lock = threading.Lock()

    def of(self, visitor: object) -> Desk:
        """Where a visitor asks."""
        with self._lock:
            there = [(who(), desk) for who, desk in self._places]
            for who, desk in there:
                if who is visitor:
                    return desk
            self._places = [place for place, (who, _) in zip(self._places, there, strict=True) if who is not None]
            chosen = min(self.desks, key=lambda desk: sum(desk is taken for _, taken in self._places))
            self._places.append((weakref.ref(visitor), chosen))
            return chosen


def within_memory(work: Callable[[Model], T], model: Model) -> T:
    """Does work; a device whose memory is full is told as a sentence, with what the work held given back.

    Raises:
        UnavailableError: There was no memory for it.
    """
    try:
        return work(model)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    graphs.make_room(model)
    raise UnavailableError(
        f"The memory of {model.device} is full. Ask again when others are done, or choose a method of fewer passes."
    )


def doubled(model: Model, *, weights: bool) -> Model:
    """Another set of modules around the same weights, or around a copy of them."""
    held = [] if weights else [*model.hf.parameters(), *model.hf.buffers(), *_beside_weights(model)]
    return replace(model, hf=copy.deepcopy(model.hf, {id(tensor): tensor for tensor in held}))


def _beside_weights(model: Model) -> list[Any]:
    """What bitsandbytes keeps beside 8-bit weights, their scales above all.

    It takes these off the weight when the layer first runs; another layer around the same weight would find none and
    compute nonsense.
    """
    return [vars(module)["state"] for module in model.hf.modules() if "state" in vars(module)]
