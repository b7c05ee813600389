"""The plan for the whole of MIMIC-CXR in docs/runs.md is what its script prints for the rate that it names."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "benchmarks" / "plan.py"
    spec = importlib.util.spec_from_file_location("whole_of_mimic", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_the_table_of_the_docs_is_that_of_its_rate(script: ModuleType) -> None:
    text = (ROOT / "docs" / "runs.md").read_text("utf-8")
    found = re.search(
        r"\*\*([\d.]+) cases a second on one GPU\*\*, (\w+) process(?:es)? on each; [\d,]+ cases, one question a film, "
        r"(\d+) method",
        text,
    )
    assert found is not None
    processes = 1 if found[2] == "one" else int(found[2])
    plan = script.Plan(float(found[1]), methods=int(found[3]), processes=processes)
    assert script.put(text, script.lines(plan)) == text


def test_hours_and_dollars_are_those_of_a_calculation_by_hand(script: ModuleType) -> None:
    plan = script.Plan(2.0, (3.0, 4.0), cases=57_600, methods=3)
    # 57,600 cases at 2 a second on 8 GPUs: one hour; 60 s to start and 128 s for the last shard come to it
    assert plan.hours(8) == pytest.approx(1 + 188 / 3600)
    # two processes on each: the model is loaded twice, one after another, and the last shard takes twice as long
    assert replace(plan, processes=2).hours(8) == pytest.approx(1 + (60 + 40 + 256) / 3600)
    assert plan.dollars(8) == pytest.approx((24 * (1 + 188 / 3600), 32 * (1 + 188 / 3600)))
    assert plan.gibibytes == pytest.approx(57_600 * (script.BYTES + 2 * script.BYTES_MORE) / 1024**3)
    assert plan.cores(8) == pytest.approx(16 * script.FILM_SECONDS)
    assert plan.megabytes_a_second(8) == pytest.approx(24)
