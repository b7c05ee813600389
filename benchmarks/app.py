"""What visitors of the page wait for, measured on this machine: `python benchmarks/app.py [--json]`.

Starts the page in a process of its own. First one browser (skipped where no Chromium is installed): until something can
be used, until the first film is analysed, from a click on a token to its map. Then a crowd over HTTP, who each analyse
several films of their own at the same time: no error, nobody gets another's answer, and the memory comes back. Times
depend on what else the machine does, whose load is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from crowd import Caller, calling, crowd

VISITORS, ANALYSES, CLICKS, PAINTS = 16, 5, 20, 5
TARGETS = {"useful paint": 2.0, "first film analysed": 3.0, "click on a token": 0.3, "memory kept": 0.05}
#: Between two clicks: one is not heard while the one before is still being answered.
PAUSE_MS = 400


@contextmanager
def page() -> Iterator[tuple[str, psutil.Process]]:
    """A running page on the embedded model: its address and its process."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port = tried.getsockname()[1]
    command = [sys.executable, "-m", "medgemma_visualizer", "app", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait(f"http://127.0.0.1:{port}/", process)
        yield f"http://127.0.0.1:{port}/", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until the page answers."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the page did not start")


def memory(process: psutil.Process) -> float:
    """MiB that the process holds."""
    return float(process.memory_info().rss) / 2**20


def settled(process: psutil.Process, seconds: float = 15.0) -> float:
    """MiB once visitors who left have been forgotten: the least within some seconds."""
    until, least = time.monotonic() + seconds, float("inf")
    while time.monotonic() < until:
        least = min(least, memory(process))
        time.sleep(0.5)
    return least


# --- a crowd ---------------------------------------------------------------------------------------------------------


def cases_of(caller: Caller) -> list[str]:
    """What the menu of cases offers."""
    return [value for _, value in caller.choices("analysis-case")]


def analysed(caller: Caller, case: str) -> tuple[str, str]:
    """Chooses a case, which analyses it: the answer and the map that are shown."""
    caller.puts("analysis-case", case)
    caller.does("analysis-case", "input")
    return str(caller.shows("analysis-answer")), str(caller.shows("analysis-viewer")["map"])


def visit(url: str, number: int, analyses: int, expected: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """One visitor, who analyses `analyses` cases one after the other, others than their neighbours."""
    wrong, cases = 0, list(expected)
    with calling(url) as caller:
        caller.opens()
        for step in range(analyses):
            case = cases[(number * analyses + step) % len(cases)]
            wrong += not same(analysed(caller, case), expected[case])
        return {"wrong": wrong, "seconds": caller.seconds}


def same(shown: tuple[str, str], expected: tuple[str, str]) -> bool:
    """Whether this is the answer and the map of the case when nobody else asks; times may differ."""
    return without_time(shown[0]) == without_time(expected[0]) and shown[1] == expected[1]


def without_time(answer: str) -> str:
    before, mark, after = answer.partition("<dt>Time</dt>")
    return before + mark + after.partition("</dd>")[2]


def crowded(url: str, process: psutil.Process, visitors: int, analyses: int) -> dict[str, Any]:
    """What a crowd meets: latencies, mistakes, and the memory before and after."""
    with calling(url) as caller:
        caller.opens()
        cases = cases_of(caller)[: visitors * analyses]
        expected = {case: analysed(caller, case) for case in cases}
    begun = settled(process)
    # As many once before the second reading: their threads bring buffers that stay for the next ones. What grows from
    # crowd to crowd would be visitors who are not forgotten.
    crowd(visitors, lambda number: visit(url, number, 1, expected))
    before = settled(process)
    start = time.perf_counter()
    seen = crowd(visitors, lambda number: visit(url, number, analyses, expected))
    took = time.perf_counter() - start
    during = memory(process)
    after = settled(process)
    seconds = [entry for one in seen for entry in one["seconds"]]
    return {
        "visitors": visitors,
        "analyses": visitors * analyses,
        "wrong": sum(one["wrong"] for one in seen),
        "seconds": took,
        "latency_s": {
            "first film": spread([t for what, t in seconds if what == "open"]),
            "analysis": spread([t for what, t in seconds if what == "analysis-case"]),
        },
        "memory_mib": {"at the start": begun, "after a first crowd": before, "at the end": during, "after": after},
        "grown": after / begun - 1,
        "kept": after / before - 1,
    }


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, the slowest in twenty, the slowest."""
    ordered = sorted(seconds)
    return {"median": statistics.median(ordered), "p95": ordered[int(0.95 * (len(ordered) - 1))], "max": ordered[-1]}


# --- one browser -----------------------------------------------------------------------------------------------------

#: Resolves when the selector fits something that is seen; gives the milliseconds since the page was asked for.
_SEEN = """(selector) => new Promise(done => { const look = () => {
  const found = [...document.querySelectorAll(selector)].find(e => e.offsetParent !== null);
  if (found) done(performance.now()); else requestAnimationFrame(look); }; look(); })"""
#: Clicks a token and waits until another map is painted; gives the milliseconds.
_CLICK = """(index) => new Promise(done => {
  const tokens = [...document.querySelectorAll("#tokens-strip button")];
  const map = document.querySelector("#tokens-viewer-map");
  const before = map.src, start = performance.now();
  const look = () => { if (map.src !== before && map.complete) done(performance.now() - start);
    else requestAnimationFrame(look); };
  tokens[index % tokens.length].click(); look(); })"""


def browsed(url: str) -> dict[str, Any] | None:
    """Medians, in seconds, of what one visitor with a browser waits for; None without a browser."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        return None
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        paints, films = [], []
        for _ in range(PAINTS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(url, wait_until="commit")
            paints.append(page.evaluate(_SEEN, "#analysis-run"))
            films.append(page.evaluate(_SEEN, "#analysis-viewer .mv-viewer[data-empty=false] .mv-map"))
            if len(films) < PAINTS:
                page.close()
        clicks = clicked(page)
        browser.close()
    return {"useful paint": median_s(paints), "first film analysed": median_s(films), "click on a token": clicks}


def clicked(page: Any) -> float:
    """Median seconds from a click on a token to its map, after the tab has been opened."""
    page.get_by_role("tab", name="Token-Conditioned Analysis").click()
    page.evaluate(_SEEN, "#tokens-viewer .mv-viewer[data-empty=false]")
    taken = []
    for number in range(CLICKS):
        page.wait_for_timeout(PAUSE_MS)
        taken.append(page.evaluate(_CLICK, number + 1))
    return median_s(taken)


def median_s(milliseconds: list[float]) -> float:
    return statistics.median(milliseconds) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--visitors", type=int, default=VISITORS)
    parser.add_argument("--analyses", type=int, default=ANALYSES, help="by each visitor")
    told = parser.parse_args()
    busy = os.getloadavg()[0]
    with page() as (url, process):
        idle = settled(process, 3)
        browser = browsed(url)
        load = crowded(url, process, told.visitors, told.analyses)
    found = {"idle_memory_mib": idle, "browser_s": browser, "crowd": load, "targets": TARGETS, "load_before": busy}
    print(json.dumps(found, indent=2) if told.json else table(found))


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{'what':<34}{'measured':>10}{'target':>10}"]
    for what, seconds in (found["browser_s"] or {}).items():
        lines.append(f"{what + ', median':<34}{seconds:>9.2f}s{TARGETS[what]:>9.1f}s")
    load = found["crowd"]
    lines += [
        f"{'memory, idle':<34}{found['idle_memory_mib']:>6.0f} MiB",
        f"{load['visitors']} visitors, {load['analyses']} analyses in {load['seconds']:.1f} s; wrong: {load['wrong']}",
    ]
    for what, s in load["latency_s"].items():
        lines.append(
            f"  {what:<16} median {s['median']:5.2f} s, 95 % within {s['p95']:5.2f} s, slowest {s['max']:5.2f} s"
        )
    held = ", ".join(f"{when} {mib:.0f} MiB" for when, mib in load["memory_mib"].items())
    lines += [f"  memory: {held}"]
    lines += [f"  against the start {load['grown']:+.1%} (target ≤ {TARGETS['memory kept']:.0%})"]
    lines += [f"  against that after a first crowd {load['kept']:+.1%}"]
    lines += [f"{os.cpu_count()} cores, load before {found['load_before']:.1f}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
