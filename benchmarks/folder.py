"""A checkpoint's folder, loaded as a user would, and asked once by every method: `python benchmarks/folder.py FOLDER`.

Run in a process of its own, so that host memory and the GPU's are those of this one model; `benchmarks/gpu.py` and
`benchmarks/quantised.py` do so. Prints one line of JSON last. With `--maps FILE` also keeps answers and maps of a few
films, for another process to compare.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu import CHEAPEST, every_method, reading_of, usable
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.errors import VisualizerError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.graphs import engine_of
from medgemma_visualizer.models.loading import load_model

#: Attention, gradients at the image tokens, gradients along a path: what smaller weights could change differently.
COMPARED = ("cross_attention", "gradcam_multi_token", "gradient_norm", "integrated_gradients")
FILMS = 16


def host_gib() -> float:
    """Most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def loaded(folder: Path, device: str, quantize: str | None) -> tuple[Model, dict[str, Any]]:
    """The model, with seconds of loading, host memory before and at most, and what the GPU holds, in GiB."""
    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.init()
    before, start = host_gib(), time.perf_counter()
    model = load_model(folder, device=device, quantize=quantize)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    found = {"seconds": time.perf_counter() - start, "host GiB before": before, "peak host GiB": host_gib()}
    held, most = (ask() / 2**30 for ask in (torch.cuda.memory_allocated, torch.cuda.max_memory_allocated))
    return model, found | {"GiB held": held, "peak GiB while loading": most, "revision": model.revision}


def way(model: Model) -> dict[str, Any]:
    """Which decoder ran: ours, and how many of its passes were captured."""
    engine = engine_of(model)
    captured = [work for work in engine.passes.values() if any(work._graphs.values())] if engine else []
    return {"fast": model.fast, "own decoder": engine is not None, "captured shapes": len(captured)}


def films(model: Model, number: int) -> dict[str, np.ndarray]:
    """Answers (ids, logits of the first token, seconds) and maps of films, by the film's number."""
    found: dict[str, np.ndarray] = {}
    for n, case in enumerate(load_cases("demo")[:number]):
        start = time.perf_counter()
        reading = reading_of(model, case)
        found[f"{n}/ids"] = np.asarray(reading.generated.ids)
        found[f"{n}/first"] = reading.generated.first_logits.float().cpu().numpy()
        for name in COMPARED:
            try:
                heatmap = explain_reading(reading, name, "contrast", **CHEAPEST.get(name, {}))
            except VisualizerError:  # some Grad-CAMs of random weights are all negative
                continue
            found[f"{n}/{name}"] = heatmap.grid
        found[f"{n}/seconds"] = np.asarray(time.perf_counter() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quantize")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--maps", type=Path, help="where answers and maps are kept")
    asked = parser.parse_args()
    try:
        model, found = loaded(asked.folder, asked.device, asked.quantize)
    except VisualizerError as error:
        raise SystemExit(str(error)) from None
    cases = load_cases("demo")
    try:
        case = usable(model, cases)
    except SystemExit:  # none has every map that is timed; any shows which methods work
        case = cases[0]
    found["every method once"] = every_method(model, case)
    if asked.maps is not None:
        np.savez(asked.maps, **films(model, FILMS))  # type: ignore[arg-type]
    found |= way(model)
    found["peak GiB of all"] = torch.cuda.max_memory_allocated() / 2**30
    print(json.dumps(found))


if __name__ == "__main__":
    main()
