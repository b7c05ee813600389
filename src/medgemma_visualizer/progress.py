"""How long work tells whoever waits for it how far it is. Knows counts; knows nothing about screens.

A caller that wants to show progress, or to cancel, lends a listener:

>>> from medgemma_visualizer.progress import listening, track
>>> with listening(lambda done, total, what: print(done, total, what)):
...     for item in track("ab", total=2, what="probes"):
...         pass
0 2 probes
1 2 probes
2 2 probes
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

#: Called with (done, total, what); may raise to cancel the work between two steps.
Listener = Callable[[int, int, str], None]

T = TypeVar("T")

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_hears_parts: ContextVar[bool] = ContextVar("hears_parts", default=False)


@contextmanager
def listening(listener: Listener, *, parts: bool = False) -> Iterator[None]:
    """Sends the progress of everything inside the block to `listener`.

    Args:
        listener: Is told of every step.
        parts: Whether it also hears what is counted inside a step that stands for itself (`one_step`).
    """
    before, heard = _listener.set(listener), _hears_parts.set(parts)
    try:
        yield
    finally:
        _hears_parts.reset(heard)
        _listener.reset(before)


@contextmanager
def one_step() -> Iterator[None]:
    """What is counted inside the block is part of a step counted outside: only a listener for parts hears of it."""
    before = _listener.set(_listener.get() if _hears_parts.get() else None)
    try:
        yield
    finally:
        _listener.reset(before)


def tell(done: int, total: int, what: str) -> None:
    """Tells whoever listens, for work that is no loop over items."""
    listener = _listener.get()
    if listener is not None:
        listener(done, total, what)


def track(items: Iterable[T], *, total: int, what: str, weights: Callable[[T], int] | None = None) -> Iterator[T]:
    """Passes items through and reports how many are done.

    Args:
        items: The work.
        total: The sum of all weights.
        what: What is counted, in the plural.
        weights: How many units an item is (a batch of probes); one where None.
    """
    listener = _listener.get()
    done = 0
    for item in items:
        if listener is not None:
            listener(done, total, what)
        yield item
        done += 1 if weights is None else weights(item)
    if listener is not None:
        listener(done, total, what)
