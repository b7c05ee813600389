"""Weights in 8 and 4 bits beside bfloat16, on one GPU, MedGemma 4B's shape: `python benchmarks/quantised.py`.

Saves the random checkpoint of `benchmarks/gpu.py` (or takes `--folder`), loads it three times, each in a process of its
own, and compares: seconds, memory, answers, and how far the maps are from those of bfloat16. Random weights have no
outliers and no sharp answers, so what their maps lose says little about what a trained model's lose: give the folder of
one to learn that. Needs bitsandbytes. Ends with exit code 1 where a part failed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from folder import COMPARED
from gpu import Record, build, clocks, in_a_process, save
from medgemma_visualizer.models.loading import QUANTIZERS, library_versions
from medgemma_visualizer.scores.agreement import js_divergence, spearman

Films = dict[str, np.ndarray]


def films_of(file: Path) -> Films:
    with np.load(file) as kept:
        return dict(kept)


def answers_against(found: Films, wanted: Films) -> dict[str, Any]:
    """How many answers are the same, whole and in their first token, and the first logits' distance."""
    numbers = sorted({name.split("/")[0] for name in wanted})
    same = [np.array_equal(found[f"{n}/ids"], wanted[f"{n}/ids"]) for n in numbers]
    first = [found[f"{n}/first"].argmax() == wanted[f"{n}/first"].argmax() for n in numbers]
    away = [
        np.linalg.norm(found[f"{n}/first"] - wanted[f"{n}/first"]) / np.linalg.norm(wanted[f"{n}/first"])
        for n in numbers
    ]
    return {
        "films": len(numbers),
        "same answer": sum(same),
        "same first token": int(sum(first)),
        "‖first logits − wanted‖ ÷ ‖wanted‖, mean": float(np.mean(away)),
    }


def maps_against(found: Films, wanted: Films) -> dict[str, Any]:
    """Mean Jensen-Shannon divergence (0 to ln 2) and Spearman correlation of maps, where both have one."""
    table: dict[str, Any] = {}
    for method in COMPARED:
        there = [{name for name in films if name.endswith(f"/{method}")} for films in (found, wanted)]
        both = sorted(there[0] & there[1])
        pairs = [(found[name], wanted[name]) for name in both]
        table[method] = {
            "maps": len(both),
            "maps of one only": len(there[0] ^ there[1]),
            "JS divergence": float(np.mean([js_divergence(*pair) for pair in pairs])) if pairs else None,
            "Spearman": float(np.mean([spearman(*pair) for pair in pairs])) if pairs else None,
        }
    return table


def seconds_a_film(found: Films) -> float:
    """Median seconds of answer and all compared maps; the first two films, whose passes are captured, left out."""
    return float(np.median([found[f"{n}/seconds"] for n in range(2, sum(name.endswith("/ids") for name in found))]))


def measured(folder: Path, out: Path, name: str | None) -> dict[str, Any]:
    """One way of loading."""
    file = out / f"maps-{name or 'bfloat16'}.npz"
    file.unlink(missing_ok=True)  # of an earlier run
    told = in_a_process(folder, "--maps", str(file), *(("--quantize", name) if name else ()))
    if not file.exists():
        return told
    found, wanted = films_of(file), films_of(out / "maps-bfloat16.npz")
    told["seconds a film: answer and maps"] = seconds_a_film(found)
    if name is not None:
        told |= {"answers": answers_against(found, wanted), "maps": maps_against(found, wanted)}
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-output"))
    parser.add_argument("--folder", type=Path, help="of a checkpoint; that of random weights is made where None")
    parser.add_argument("--ways", nargs="+", choices=list(QUANTIZERS), default=list(QUANTIZERS))
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(
            "Weights are quantised on a CUDA device; none is here, and `medgemma-visualizer info` says why."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SystemExit("bitsandbytes is not installed; run `pip install bitsandbytes` first.")
    asked.out.mkdir(parents=True, exist_ok=True)
    versions = library_versions()
    record = Record(asked.out, (), {"card": clocks(), "versions": versions, "began": time.time()}, "quantised.json")
    with tempfile.TemporaryDirectory() as place:
        folder = asked.folder or Path(place)
        if asked.folder is None:
            model = build()
            record.note("checkpoint", lambda: save(model, folder))
            del model
            gc.collect()
            torch.cuda.empty_cache()
        for name in (None, *asked.ways):
            record.note(name or "bfloat16", lambda name=name: measured(folder, asked.out, name))
    record.end()


if __name__ == "__main__":
    main()
