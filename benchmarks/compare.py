"""What many prompts about one picture cost beside as many separate analyses: `python benchmarks/compare.py [--json]`.

Both sides do the same work for every prompt: answer, map, quality scores of the map. One side is `verbs.analyze`, the
other `verbs.compare` without its context, which needs other pictures and has no counterpart; the matrix of agreements,
which only the latter has, is timed by itself. Embedded model, CPU, medians of alternating pairs in one process, by the
wall clock and by the processor's own time, which holds on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from medgemma_visualizer import verbs
from medgemma_visualizer.checks.compare import Comparison
from medgemma_visualizer.checks.prompts import variations
from medgemma_visualizer.settings import QUICK_METHOD

PROMPTS, REPEATS, TARGET = 20, 5, 4.0
METHODS = (QUICK_METHOD, "token_gradient", "cross_attention")


def clocks(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the wall clock and of the processor."""
    wall, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - used


def measure(method: str, repeats: int) -> dict[str, Any]:
    """Seconds of both sides and their ratios."""
    model, case = verbs.load_model("demo", device="cpu"), verbs.load_cases("demo")[0]
    prompts = [case.question, *(one.text for one in variations(case.question, n=PROMPTS - 1))]
    if len(prompts) != PROMPTS:
        raise SystemExit(f"the question has {len(prompts)} wordings, not {PROMPTS}")

    def separate() -> list[verbs.Analysis]:
        return [verbs.analyze(model, case.asking(prompt), method=method) for prompt in prompts]

    def together() -> Comparison:
        return verbs.compare(model, case.asking(prompts[0]), prompts, method=method, context=False)

    alone, shared = separate(), together()  # a warm-up, and the proof that both give the same
    for one, other in zip(alone, shared.prompts, strict=True):
        if one.answer.text != other.answer.text or one.scores.keys() != other.scores.keys():
            raise SystemExit(f"{one.case.question!r} is not answered or scored alike by both")
    pairs = [(clocks(separate), clocks(together)) for _ in range(repeats)]
    fresh = [together() for _ in range(repeats)]
    return {
        "method": method,
        "separate_s": statistics.median(one[0] for one, _ in pairs),
        "together_s": statistics.median(other[0] for _, other in pairs),
        "ratio": statistics.median(one[0] / other[0] for one, other in pairs),
        "ratio_processor": statistics.median(one[1] / other[1] for one, other in pairs),
        "agreement_s": statistics.median(clocks(partial(getattr, each, "agreement"))[0] for each in fresh),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    told = parser.parse_args()
    busy = os.getloadavg()[0]
    rows = [measure(method, told.repeats) for method in METHODS]
    if told.json:
        print(json.dumps({"prompts": PROMPTS, "target": TARGET, "load_before": busy, "rows": rows}, indent=2))
        return
    print(f"{'method':<18}{'separate':>10}{'together':>10}{'ratio':>8}{'processor':>11}{'agreement':>11}")
    for row in rows:
        times = f"{row['separate_s']:9.2f}s{row['together_s']:9.2f}s"
        print(f"{row['method']:<18}{times}{row['ratio']:8.1f}{row['ratio_processor']:11.1f}{row['agreement_s']:10.2f}s")
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{PROMPTS} prompts, target ≥ {TARGET:g}; {os.cpu_count()} cores, {threads} threads, load before {busy:.1f}")


if __name__ == "__main__":
    main()
