"""Memory that visitors leave behind goes back to the system. Knows the C library's allocator; knows no visitor.

glibc gives every thread that finds its heap taken another one, up to eight a core, and keeps what is freed in each: a
server of many threads grows by half without holding anything. Elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import threading

from medgemma_visualizer.models.devices import cleanup_memory, is_glibc, trim_memory

#: mallopt's name of the number of heaps, and how many are enough where one visitor asks at a time.
_M_ARENA_MAX, _HEAPS = -8, 2
_DELAY_S = 2.0
_WAITING = threading.Lock()


def keep_few_heaps() -> None:
    """To be called before threads start."""
    if is_glibc():
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _HEAPS)


def give_back() -> None:
    """Frees what nobody holds any more, and hands free pages to the system; some tenths of a second."""
    cleanup_memory()
    trim_memory()


def give_back_soon() -> None:
    """The same on a thread of its own, once for all who leave within the next seconds."""
    if _WAITING.acquire(blocking=False):
        timer = threading.Timer(_DELAY_S, _give_back_now)
        timer.daemon = True
        timer.start()


def _give_back_now() -> None:
    _WAITING.release()
    give_back()
