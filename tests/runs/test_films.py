"""Pictures are read by as many threads as there are cores for it."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from medgemma_visualizer.runs import films
from medgemma_visualizer.runs.films import readers
from medgemma_visualizer.runs.work import cores


def on(kind: str) -> Any:
    """A model on such a device."""
    return SimpleNamespace(device=SimpleNamespace(type=kind))


@pytest.mark.parametrize(
    ("there", "sharers", "threads"), [(16, 1, 15), (16, 3, 4), (16, 8, 1), (4, 8, 1), (1, 1, 1), (128, 1, 32)]
)
def test_beside_a_gpu_processes_share_the_cores_and_each_keeps_one_to_ask(
    there: int, sharers: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "cores", lambda: there)
    assert readers(on("cuda"), sharers) == threads
    assert readers(on("cpu"), sharers) == 1  # where the model computes on the same cores


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody is kept to some of the cores")
def test_only_cores_that_this_process_may_use_are_counted() -> None:
    before = os.sched_getaffinity(0)
    assert cores() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
