"""One analysis by another checkout beside one by this: `git worktree add ../before COMMIT`, then
`python benchmarks/versions.py ../before [--pairs 60] [--method NAME] [--json]`.

Each checkout has a process of its own that has loaded the embedded model and answered once; then both are asked about
the same case, now one first and now the other. Printed: the median of this ÷ the other over the pairs with the 95 %
interval of that median, by the wall clock and by the processor's time, which holds on a busy machine. Both use the
libraries of the Python that runs this file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from scipy import stats

HERE = Path(__file__).resolve().parents[1]

#: Says where its package is, then answers each number with (elapsed, processor) seconds of an analysis of that case.
_SERVED = """
import json, sys, time
import medgemma_visualizer as mv
model, cases, options = mv.load_model("demo", device="cpu"), mv.load_cases("demo"), json.loads(sys.argv[1])
mv.analyze(model, cases[0], **options)
print(mv.__file__, flush=True)
for line in sys.stdin:
    start, used = time.perf_counter(), time.process_time()
    mv.analyze(model, cases[int(line)], **options)
    print(json.dumps([time.perf_counter() - start, time.process_time() - used]), flush=True)
"""


def served(checkout: Path, method: str | None) -> subprocess.Popen[str]:
    """A process that analyses by a checkout's package, ready to be asked."""
    words = [sys.executable, "-c", _SERVED, json.dumps({"method": method})]
    given = os.environ | {"PYTHONPATH": str(checkout / "src")}
    started = subprocess.Popen(words, env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    package = _lines(started.stdout).readline().strip()
    if not package:
        raise SystemExit(f"The package of {checkout} could not analyse; why stands above.")
    if checkout not in Path(package).parents:
        raise SystemExit(f"{checkout} was asked for, and {package} was found; is there a package under src?")
    return started


def ask(process: subprocess.Popen[str], case: int) -> list[float]:
    """(elapsed, processor) seconds of one analysis."""
    print(case, file=_lines(process.stdin), flush=True)
    found: list[float] = json.loads(_lines(process.stdout).readline())
    return found


def _lines(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def median_of(ratios: Sequence[float], confidence: float = 0.95) -> dict[str, float]:
    """The median and its interval by the ranks between which it lies, whatever the distribution (binomial)."""
    ordered, n = sorted(ratios), len(ratios)
    below = int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))
    return {"ratio": statistics.median(ordered), "low": ordered[max(0, below - 1)], "high": ordered[-max(1, below)]}


def measure(other: Path, pairs: int, method: str | None, cases: int = 20) -> dict[str, Any]:
    """Ratios of this checkout to the other, and the other's median seconds."""
    both = [served(HERE, method), served(other, method)]
    try:
        found = []
        for pair in range(pairs):
            asked = {k: ask(both[k], pair % cases) for k in ((0, 1), (1, 0))[pair % 2]}
            found.append((asked[0], asked[1]))
    finally:
        for process in both:
            process.kill()
    clocks = {"wall": 0, "processor": 1}
    ratios = {name: median_of([one[k] / two[k] for one, two in found]) for name, k in clocks.items()}
    seconds = {name: statistics.median(two[k] for _, two in found) for name, k in clocks.items()}
    return {"pairs": pairs, "method": method, "other, s": seconds, "this ÷ other": ratios}


def told(name: str, found: dict[str, float]) -> str:
    """One line of a ratio."""
    return f"{name:<12}{found['ratio']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--method", help="of the map; what `analyze` asks where none is named")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    asked = parser.parse_args()
    busy = os.getloadavg()[0]
    found = measure(asked.other.resolve(), asked.pairs, asked.method) | {"load_before": busy}
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    for name, ratio in found["this ÷ other"].items():
        print(told(name, ratio))
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{asked.pairs} pairs, other {found['other, s']['wall']:.3f} s; {threads} threads, load before {busy:.1f}")


if __name__ == "__main__":
    main()
