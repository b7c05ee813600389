"""Visitors of the page at several devices, without the page: `python benchmarks/desks.py --devices cuda:0,cuda:1`.

As many visitors as asked, a thread each, first all at one device and then spread: seconds, who went where, and whether
every answer and map is the same as at the one device. `--model FOLDER` for other weights than the embedded ones. The
CPU twice ("cpu,cpu") tries the code, not the speed.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgemma_visualizer import verbs
from medgemma_visualizer.app.desk import Desk, Desks, Job, Result
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import choose_devices
from medgemma_visualizer.models.loading import enough_free
from medgemma_visualizer.records import Case

QUICK, LONG = "cross_attention", "integrated_gradients"


class Visitor:
    """Asks quick work about cases of their own, and at last one piece of long work."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.session, self.cases = Session(), cases
        self.found: list[Any] = []
        self.error = ""

    def go(self, desks: Desks) -> None:
        try:
            for case in self.cases:
                self.found.append(desks.of(self.session).quick(lambda model, case=case: asked(model, case, QUICK)))
            *_, last = desks.of(self.session).long(lambda model: asked(model, self.cases[0], LONG), Job())
            assert isinstance(last, Result)
            self.found.append(last.value)
        except Exception as error:  # a thread's error would be lost
            self.error = f"{type(error).__name__}: {error}"[:300]


def asked(model: Model, case: Case, method: str) -> tuple[str, np.ndarray]:
    """The answer's text and the map, or why there is none: random weights do not have every map."""
    try:
        analysis = verbs.analyze(model, case, method=method)
    except UnavailableError as error:
        return str(error), np.zeros(0)
    return analysis.answer.text, np.asarray(analysis.heatmap.grid)


def crowd(desks: Sequence[Desk], visitors: int, asks: int) -> tuple[dict[str, Any], list[Visitor]]:
    """Seconds of a crowd, and where its visitors were."""
    cases, places = load_cases("demo"), Desks(desks)
    people = [Visitor([cases[(n * asks + k) % len(cases)] for k in range(asks)]) for n in range(visitors)]
    at = Counter(f"{number}: {desk.model.device}" for desk in (places.of(one.session) for one in people)
                 for number, each in enumerate(desks) if each is desk)  # fmt: skip
    threads = [threading.Thread(target=one.go, args=(places,)) for one in people]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    errors = [one.error for one in people if one.error]
    return {"seconds": seconds, "visitors": dict(at), "errors": errors}, people


def differences(people: Sequence[Visitor], wanted: Sequence[Visitor]) -> dict[str, Any]:
    """How many answers and maps are not the same, and by how much maps differ at most."""
    pairs = [
        pair for one, other in zip(people, wanted, strict=True) for pair in zip(one.found, other.found, strict=True)
    ]
    shapes = [a[1].shape == b[1].shape for a, b in pairs]
    away = [float(np.abs(a[1] - b[1]).max(initial=0)) for (a, b), same in zip(pairs, shapes, strict=True) if same]
    answers = sum(a[0] != b[0] for a, b in pairs)
    return {
        "asked": len(pairs), "other answers": answers, "maps of one only": shapes.count(False),
        "maps differ at most": max(away),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="all", help="as --device of the page")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--visitors", type=int, default=8)
    parser.add_argument("--asks", type=int, default=10, help="of quick work, each about another case")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    start = time.perf_counter()
    devices = choose_devices(given.devices, enough_free(given.model))
    desks = [Desk(verbs.load_model(given.model, device=str(device))) for device in devices]
    found: dict[str, Any] = {"devices": [str(device) for device in devices], "load": time.perf_counter() - start}
    for name in ("first crowd, shapes are captured", "at one device"):
        found[name], alone = crowd(desks[:1], given.visitors, given.asks)
    for name in ("spread, shapes are captured", "spread"):
        found[name], people = crowd(desks, given.visitors, given.asks)
    found["one ÷ spread"] = found["at one device"]["seconds"] / found["spread"]["seconds"]
    found["against one device"] = differences(people, alone)
    if torch.cuda.is_available():
        found["GiB held"] = [torch.cuda.memory_allocated(n) / 2**30 for n in range(torch.cuda.device_count())]
    print(json.dumps(found, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
