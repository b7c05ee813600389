"""What a run costs beside the bare model, and what a large set costs: `python benchmarks/run.py [part …]`.

    rate      cases a second and peak memory over 200 and 2,000 cases (embedded films under other names), one worker
    overhead  the runner beside the bare model over the same cases, one after the other in turns, in one process
    large     opening, planning and resuming a question file of 377,110 rows

Without a part: rate over 200 cases, and overhead. `--cases` sets other numbers of cases, `--methods` other methods for
the rate. What a rate means for the whole of MIMIC-CXR: `benchmarks/plan.py`. Figures are of this machine
and of its load, which is printed; peaks of memory are of fresh processes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

#: MIMIC-CXR 2.1.0.
MIMIC_IMAGES = 377_110
#: Wanted: growth of the peak from the smaller to the larger set, overhead, and seconds of a large set.
GROWTH, OVERHEAD, OPEN_SECONDS, OPEN_GIB, RESUME_SECONDS = 0.10, 0.05, 20, 1.0, 10


def repeated(number: int) -> list[Any]:
    """So many cases: the embedded ones again and again, each time as other patients with pictures of their own."""
    from medgemma_visualizer.data.sources import load_cases

    known = list(load_cases("demo"))
    return [
        replace(case, id=f"{case.id}-{k // len(known)}", patient_id=f"{case.patient_id}-{k // len(known)}")
        for k, case in ((k, known[k % len(known)]) for k in range(number))
    ]


def _film_for(case: Any, folder: Path, turn: int) -> Path:
    """A link of another name to a case's film, so that pictures are not shared between turns."""
    link = folder / f"{turn}-{Path(case.image).name}"
    if not link.exists():
        link.symlink_to(case.image)
    return link


def apart(cases: Sequence[Any], folder: Path) -> list[Any]:
    """The cases with a film of their own for each turn through the embedded ones."""
    folder.mkdir(parents=True, exist_ok=True)
    return [replace(case, image=_film_for(case, folder, int(case.id.rpartition("-")[2]))) for case in cases]


def peak_gib() -> float:
    """The most memory that this process held (Linux counts KiB, macOS bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def one_rate(number: int, methods: Sequence[str]) -> dict[str, float]:
    """A run over so many cases in this process: cases a second, peak memory, bytes a case in its folder.

    Beyond the 202 embedded cases maps are repeated, which packs better than any real set: count bytes up to there.
    """
    from medgemma_visualizer.models.loading import load_model
    from medgemma_visualizer.runs import start
    from medgemma_visualizer.runs.plan import LARGEST_SHARD, RunPlan

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, plan = load_model("demo", device="cpu"), RunPlan(tuple(methods))
        cases = apart(repeated(number), folder / "films")
        outcome = start.run(start.local(model, plan), cases, folder / "run", plan, shard_size=LARGEST_SHARD)
        assert (outcome.asked, outcome.failed) == (number, 0)
        stored = sum(path.stat().st_size for path in (folder / "run").rglob("*.*") if path.parent.name != "run")
        return {"cases": number, "rate": number / outcome.seconds, "peak": peak_gib(), "bytes": stored / number}


def rate(numbers: Sequence[int], methods: str) -> dict[str, Any]:
    """`one_rate` of each number in a fresh process, and how the peak grows."""
    found = [json.loads(_fresh("--one-rate", str(number), "--methods", methods)) for number in numbers]
    growth = found[-1]["peak"] / found[0]["peak"] - 1
    for one in found:
        print(
            f"{one['cases']:.0f} cases: {one['rate']:.2f} a second, peak {one['peak']:.2f} GiB, "
            f"{one['bytes']:.0f} bytes a case on the disk"
        )
    if len(found) > 1:
        print(f"peak memory grows by {growth:+.1%} (wanted: at most {GROWTH:.0%})")
    return {"rates": found, "growth": growth}


def overhead(number: int) -> dict[str, float]:
    """Seconds of the bare model (answer, map and scores, as `analyze` does) and of the runner, turn by turn.

    Both do the same work on one thread; the runner encodes a picture once for all of its questions and reads the next
    one meanwhile, which may save more than it costs. Bare asks what the runner asks, by the same functions, without
    files, threads or rows.
    """
    from medgemma_visualizer import verbs
    from medgemma_visualizer.models.loading import load_model
    from medgemma_visualizer.runs import start
    from medgemma_visualizer.runs.plan import RunPlan, shards_of
    from medgemma_visualizer.runs.shards import ask_all
    from medgemma_visualizer.runs.work import one_thread

    model, plan = load_model("demo", device="cpu"), RunPlan(("relevance",))
    cases = repeated(number)
    verbs.analyze(model, cases[0], method="relevance")
    spent = {"analyze": 0.0, "asking alone": 0.0, "run": 0.0}
    with tempfile.TemporaryDirectory() as name:
        for turn, shard in enumerate(shards_of(cases, 20)):
            began = time.perf_counter()
            with one_thread():
                for case in shard.cases:
                    verbs.analyze(model, case, method="relevance")
            spent["analyze"] += time.perf_counter() - began
            began = time.perf_counter()
            for _ in ask_all(model, shard.groups, plan):
                pass
            spent["asking alone"] += time.perf_counter() - began
            began = time.perf_counter()
            start.run(start.local(model, plan), shard.cases, Path(name) / str(turn), plan, shard_size=20)
            spent["run"] += time.perf_counter() - began
    each = {name: seconds / number for name, seconds in spent.items()}
    told = ", ".join(f"{name} {seconds:.4f} s a case" for name, seconds in each.items())
    more = each["run"] / each["asking alone"] - 1
    print(f"{number} cases: {told}")
    print(f"plan, files and folders add {more:+.1%} to the asking (wanted: at most {OVERHEAD:.0%})")
    print(f"a run beside analyze, case by case: {each['run'] / each['analyze'] - 1:+.1%}")
    return {**each, "overhead": more}


def large(rows: int) -> dict[str, float]:
    """A question file of so many rows: opening and plan, then the resume of a run that is done; fresh processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_large(folder, rows)
        opened = json.loads(_fresh("--one-plan", str(folder)))
        print(
            f"{rows:,} rows: opened and planned in {opened['seconds']:.1f} s, peak {opened['peak']:.2f} GiB "
            f"(wanted: {OPEN_SECONDS} s, {OPEN_GIB} GiB)"
        )
        began = time.perf_counter()
        words = [sys.executable, "-m", "medgemma_visualizer", "run", str(folder / "questions.csv")]
        words += ["--images", str(folder / "films"), "--out", str(folder / "run"), "--method", "relevance", "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
        document = json.loads(done.stdout)
        assert document["this_time"]["asked"] == 0, document
        print(f"page: {opened['page']:.1f} s; resume of the finished run: {seconds:.1f} s (wanted: {RESUME_SECONDS} s)")
        return {**opened, "resume": seconds}


def write_large(folder: Path, rows: int) -> None:
    """Rows about as many films: links to one embedded film under identifiers of MIMIC's shape."""
    from medgemma_visualizer.data.sources import load_cases

    films = folder / "films"
    films.mkdir()
    film = Path(load_cases("demo")[0].image)
    shutil.copy(film, films / "film.jpg")
    with (folder / "questions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["study_id", "question", "options", "correct_answer", "ImagePath", "PatientID", "ViewPosition"])
        for k in range(rows):
            name = f"{k:08x}-{k:08x}-00000000-00000000-00000000.jpg"
            os.symlink("film.jpg", films / name)  # hard links have a limit
            patient = 10_000_000 + k // 6
            writer.writerow(
                [50_000_000 + k, "Is there a pleural effusion?", "['yes', 'no']", "yes", name, patient, "PA"]
            )


def one_plan(folder: Path) -> dict[str, float]:
    """Opens and plans the file, then leaves a finished run of made-up rows beside it."""
    from medgemma_visualizer.cli.run import _stamp
    from medgemma_visualizer.data.sources import load_cases
    from medgemma_visualizer.models.loading import load_model
    from medgemma_visualizer.reports.run import write_run_page
    from medgemma_visualizer.runs.folder import begin, manifest_of, note_finished, part_path
    from medgemma_visualizer.runs.plan import RunPlan, asked_of, shards_of
    from medgemma_visualizer.runs.results import Part, write_part
    from medgemma_visualizer.runs.shards import _known

    model, plan = load_model("demo"), RunPlan(("relevance",))
    began = time.perf_counter()
    cases = load_cases(folder / "questions.csv", images=folder / "films")
    shards = shards_of(cases)
    manifest = manifest_of(asked_of(model, plan), cases, shards, source="questions")
    told = {"seconds": time.perf_counter() - began, "peak": peak_gib(), "cases": float(len(cases))}
    begin(folder / "run", manifest)
    said = {"failed": False, "wording": 0, "method": "relevance", "available": True, "label": "yes", "correct": True}
    said |= {"p_yes": 0.9, "p_yes_no_mass": 1.0, "why": "", "reason": "", "foreign": False, "stopped": True}
    for shard in shards:
        rows = [_known(case) | said | {"image_sha256": "", "strategy": "", "asked": ""} for case in shard.cases]
        part = Part(shard.index, manifest.digest, shard.digest, len(rows), 0)
        write_part(part_path(folder / "run", shard.index), rows, plan, part)
    source, films = folder / "questions.csv", folder / "films"
    note_finished(folder / "run", _stamp(folder / "run", str(source), films, None, None, None, 0, None))
    began = time.perf_counter()
    write_run_page(folder / "run", folder / "run" / "report.html")
    return told | {"page": time.perf_counter() - began}


def _fresh(*words: str) -> str:
    """What a fresh process of this file prints."""
    done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help="rate, overhead or large")
    parser.add_argument("--cases", type=int, nargs="+", default=None)
    parser.add_argument("--rows", type=int, default=MIMIC_IMAGES)
    parser.add_argument("--methods", default="relevance", help="for rate, names with commas")
    parser.add_argument("--one-rate", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--one-plan", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one_rate:
        print(json.dumps(one_rate(chosen.one_rate, chosen.methods.split(","))))
        return
    if chosen.one_plan:
        print(json.dumps(one_plan(chosen.one_plan)))
        return
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for part in chosen.parts or ["rate", "overhead"]:
        if part == "rate":
            rate(chosen.cases or ([200, 2000] if chosen.parts else [200]), chosen.methods)
        elif part == "overhead":
            overhead((chosen.cases or [60])[0])
        elif part == "large":
            large(chosen.rows)
        else:
            parser.error(f"there is no part {part!r}")


if __name__ == "__main__":
    main()
