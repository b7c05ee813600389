"""What a whole `check` of one case costs, part by part: `python benchmarks/check.py [--cases N] [--method M] [--json]`.

Embedded model, CPU. Seconds depend on the machine and on what else it does; the numbers of scorings do not. Where
"processor" exceeds what the cores give in "all", something else was running.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

from medgemma_visualizer import verbs
from medgemma_visualizer.checks import whole
from medgemma_visualizer.cli import checked
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.settings import DEFAULT_IMPUTERS, RECOMMENDED_METHOD

PARTS = ("faithfulness", "randomisation", "random_target", "token_order", "quadrant_test")


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Notes the time of each part of a check made inside the block."""
    before = {name: getattr(whole, name) for name in PARTS}

    def noted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*words, **options)
            finally:
                seconds[name] = time.perf_counter() - start

        return run

    for name, work in before.items():
        setattr(whole, name, noted(name, work))
    try:
        yield
    finally:
        for name, work in before.items():
            setattr(whole, name, work)


def measured(model: Any, case: Any, method: str, imputers: Sequence[str]) -> dict[str, float]:
    """Seconds of each part, of the whole with its pictures, and how many scorings there were."""
    found: dict[str, float] = {}
    start, busy = time.perf_counter(), time.process_time()
    with timed(found):
        analysis = verbs.analyze(model, case, method=method)
        found["analysis"] = time.perf_counter() - start
        check = verbs.check_analysis(analysis, imputers=imputers)
    before = time.perf_counter()
    checked.pictures(check)
    verbs.draw(analysis.heatmap, case, trust=check.trust)
    found["pictures"] = time.perf_counter() - before
    found |= {"all": time.perf_counter() - start, "processor": time.process_time() - busy}
    if check.faithfulness is not None:
        found["scorings"] = check.faithfulness.n_scorings
        found["of the map"] = check.faithfulness.n_of_the_map
    return found


def main() -> None:
    """Prints the medians over the first N embedded cases, for several pairs of imputers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--method", default=RECOMMENDED_METHOD)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    model, cases = load_model("demo", device="cpu", dtype="float32"), load_cases("demo")[: told.cases]
    pairs = dict.fromkeys((DEFAULT_IMPUTERS, ("blur", "mean"), ("mean", "noisy_linear")))
    results = {}
    for pair in pairs:
        each = [measured(model, case, told.method, pair) for case in cases]
        names = dict.fromkeys(name for one in each for name in one)
        results[" + ".join(pair)] = {n: statistics.median(one[n] for one in each if n in one) for n in names}
    if told.json:
        print(json.dumps(results, indent=2))
        return
    for pair_name, found in results.items():
        print(f"{pair_name}, {told.method}, median of {len(cases)} cases")
        for name, value in found.items():
            unit = "" if name in ("scorings", "of the map") else " s"
            print(f"  {name:<16}{value:8.2f}{unit}" if unit else f"  {name:<16}{value:8.0f}")


if __name__ == "__main__":
    main()
