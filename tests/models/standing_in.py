"""A stand-in for CUDA graphs on the processor: what was recorded is done again, with the addresses of the recording.

As a real graph it calls no Python, reads tensors where they lay when it was recorded, and writes its results over those
of the time before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medgemma_visualizer.models import graphs


class _Recording(TorchDispatchMode):
    """Notes every operation inside the block, with its inputs and results."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, out))
        return out


class Graph:
    """What was recorded."""

    def __init__(self, work: Callable[[], None]) -> None:
        with _Recording() as found:
            work()
        self._done = found.done

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, out in self._done:
            for kept, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(kept, torch.Tensor) and kept.data_ptr() != new.data_ptr():
                    kept.data.copy_(new)


class Empty:
    """A graph that recorded nothing."""

    def replay(self) -> None:
        pass


def recording(monkeypatch: pytest.MonkeyPatch, *, empty: bool = False, pool: int = 0) -> None:
    """Passes are captured as on a GPU from now on.

    Args:
        empty: Into graphs that hold nothing.
        pool: Bytes that each of their pools is said to take.
    """

    def recorded(works: Mapping[str, Callable[[], None]]) -> tuple[dict[str, Any], None]:
        for work in works.values():
            work()
        if empty:
            for work in works.values():
                work()
        return {name: Empty() if empty else Graph(work) for name, work in works.items()}, None

    monkeypatch.setattr(graphs, "captures", lambda _device: True)
    monkeypatch.setattr(graphs, "_recorded", recorded)
    monkeypatch.setattr(graphs, "_pool_bytes", lambda _pool: pool)
