"""The figures that a newcomer feels, measured on this machine's CPU: `python benchmarks/cpu.py [--json]`.

Each is the median over fresh processes, which import and load everything anew, beside its target; a first process, not
counted, brings the files into memory. The peak of memory is the largest seen. Elapsed time depends on what else the
machine does, whose load is printed; the processor's time says what the work itself takes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

PROCESSES = 3
COMMAND = ("-m", "medgemma_visualizer")

Times = tuple[float, float]

#: What the command does, with two clocks: prints (elapsed, processor) seconds for loading, imports included, and for
#: each of five cases without and with its files.
_ANALYSE = """
import json, sys, time
from pathlib import Path

def now():
    return time.perf_counter(), time.process_time()

def since(start):
    return [after - before for before, after in zip(start, now())]

start = now()
from medgemma_visualizer.cli.output import write_analysis
import medgemma_visualizer as mv
model = mv.load_model("demo", device="cpu")
found = {"load": [since(start)], "analysis": [], "files": []}
for case in list(mv.load_cases("demo"))[:5]:
    start = now()
    result = mv.analyze(model, case)
    found["analysis"].append(since(start))
    write_analysis(result, Path(sys.argv[1]))
    found["files"].append(since(start))
print(json.dumps(found))
"""

#: Runs a command and prints the largest memory that it held, in GiB (Linux counts KiB, macOS bytes).
_PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], check=True, capture_output=True)
unit = 2**30 if sys.platform == "darwin" else 2**20
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit)
"""


def run(*words: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True).stdout


def seconds(*words: str) -> Times:
    """(elapsed, processor) seconds that a fresh Python takes, start and end included: medians over processes."""
    run(*words)
    found = []
    for _ in range(PROCESSES):
        start, used = time.perf_counter(), _children()
        run(*words)
        found.append((time.perf_counter() - start, _children() - used))
    return medians(found)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def medians(found: Iterable[Sequence[float]]) -> Times:
    elapsed, used = zip(*found, strict=True)
    return statistics.median(elapsed), statistics.median(used)


def measure(out: str) -> list[dict[str, object]]:
    """Every figure with its unit and target."""
    runs = [json.loads(run("-c", _ANALYSE, out)) for _ in range(1 + PROCESSES)][1:]
    load, analysis, files = (medians(pair for one in runs for pair in one[what]) for what in runs[0])
    peak = max(float(run("-c", _PEAK, *COMMAND, "analyze", "--out", out)) for _ in range(2))
    rows = [
        ("load the demo model, imports included", "s", *load, 5.0),
        ("one analysis: answer, map, scores", "s", *analysis, 1.0),
        ("the same with its four files written", "s", *files, None),
        ("peak memory of `analyze`", "GiB", peak, None, 1.5),
        ("import medgemma_visualizer", "s", *seconds("-c", "import medgemma_visualizer"), 1.0),
        ("medgemma-visualizer --help", "s", *seconds(*COMMAND, "--help"), 1.0),
        ("Python itself", "s", *seconds("-c", "pass"), None),
    ]
    return [dict(zip(("what", "unit", "value", "processor_s", "target"), row, strict=True)) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(str(Path(folder) / "result"))
    machine = {"cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS", "all"), "load_before": busy}
    if arguments.json:
        print(json.dumps({"machine": machine, "figures": rows}, indent=2))
        return
    for row in rows:
        used = "" if row["processor_s"] is None else f"processor {row['processor_s']:5.2f} s"
        target = "" if row["target"] is None else f"≤ {row['target']} {row['unit']}"
        print(f"{row['what']:<40}{row['value']:8.2f} {row['unit']:<4} {target:<9} {used}".rstrip())
    print(f"{machine['cores']} cores, {machine['threads']} threads, load before {busy:.1f}")


if __name__ == "__main__":
    main()
