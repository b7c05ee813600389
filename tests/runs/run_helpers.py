"""A small run over embedded cases, and everything that its parts hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgemma_visualizer.records import Case
from medgemma_visualizer.runs import start
from medgemma_visualizer.runs.folder import PARTS
from medgemma_visualizer.runs.local import Outcome
from medgemma_visualizer.runs.plan import RunPlan
from medgemma_visualizer.runs.results import read_frame

#: Quick: a map without gradients.
PLAN = RunPlan(("cross_attention",), max_new_tokens=4)


def run(model: Any, cases: Sequence[Case], folder: Path, plan: RunPlan = PLAN, **how: Any) -> Outcome:
    """In this process, two cases a shard where nothing else is said."""
    return start.run(start.local(model, plan), cases, folder, plan, **({"shard_size": 2} | how))


def parts_of(folder: Path) -> dict[str, bytes]:
    """Every part, byte by byte."""
    return {path.name: path.read_bytes() for path in sorted((folder / PARTS).glob("shard-*.parquet"))}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All rows in order."""
    return list(read_frame((folder / PARTS).glob("shard-*.parquet")).to_pylist())
