"""The figures that a newcomer feels, measured on this machine's CPU: `python benchmarks/cpu.py [--json]`.

Loading, one analysis, memory, import and `--help`, each in processes of their own, beside its target. Medians; times
depend on the machine, so read them as an order of magnitude and compare only within one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 5

_IMPORT = "import medgemma_visualizer"
_LOAD = """
import time
import medgemma_visualizer as mv
mv.load_model, mv.load_cases
start = time.perf_counter()
model = mv.load_model("demo", device="cpu")
print(time.perf_counter() - start)
"""
_ANALYSE = """
import time, tempfile
from pathlib import Path
import medgemma_visualizer as mv
from medgemma_visualizer.cli.output import write_analysis
model = mv.load_model("demo", device="cpu")
cases = mv.load_cases("demo")
times = []
for case in list(cases)[:6]:
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        write_analysis(mv.analyze(model, case), Path(out))
        times.append(time.perf_counter() - start)
print(sorted(times[1:])[2])
"""
_PEAK = """
import resource, subprocess, sys
command = [sys.executable, "-c", "from medgemma_visualizer.cli import main; main()", "analyze", "--out", sys.argv[1]]
subprocess.run(command, check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20)
"""


def _printed(code: str, *arguments: str) -> float:
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _wall(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - start


def measure() -> list[dict[str, object]]:
    """Every figure with its unit and target; medians over repeats."""
    main = "from medgemma_visualizer.cli import main; main()"
    with tempfile.TemporaryDirectory() as out:
        peak = _printed(_PEAK, str(Path(out) / "result"))
    bare = statistics.median(_wall("-c", "pass") for _ in range(REPEATS))
    rows = [
        ("load the demo model", "s", statistics.median(_printed(_LOAD) for _ in range(3)), 5.0),
        ("one analysis, pictures written", "s", statistics.median(_printed(_ANALYSE) for _ in range(3)), 1.0),
        ("peak memory of `analyze`", "GiB", peak, 1.5),
        ("import medgemma_visualizer", "s", statistics.median(_wall("-c", _IMPORT) for _ in range(REPEATS)), 1.0),
        (
            "medgemma-visualizer --help",
            "s",
            statistics.median(_wall("-c", main, "--help") for _ in range(REPEATS)),
            1.0,
        ),
        ("python itself", "s", bare, None),
    ]
    return [{"what": what, "unit": unit, "value": value, "target": target} for what, unit, value, target in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    rows = measure()
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        target = "" if row["target"] is None else f"≤ {row['target']} {row['unit']}"
        print(f"{row['what']:<34}{row['value']:8.2f} {row['unit']:<4} {target}")


if __name__ == "__main__":
    main()
