"""What maps cost beside the passes they rest on, as ratios within one run: `python benchmarks/methods.py [--json]`.

Embedded model, CPU, medians of alternating repeats. Ratios hold where the machine's speed drifts; seconds do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile

from compare import clocks
from medgemma_visualizer import verbs
from medgemma_visualizer.checks import compare as compare_module
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.heatmaps import explain_reading, token_maps
from medgemma_visualizer.heatmaps.probing import score_masks, windows
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.models import forward, graphs, trace, vision
from medgemma_visualizer.models import reading as reading_module
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.forward import decode_embeddings, embed, generate, logits_at
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.models.trace import attention_rows
from medgemma_visualizer.records import Case
from medgemma_visualizer.settings import QUICK_METHOD
from versions import median_of

REPEATS = 7
TOKENS = 64
PAIRS = 60


def ratio(work: Callable[[], Any], plain: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median of work ÷ plain over alternating pairs, after one warm-up of each."""
    work(), plain()
    return statistics.median(_seconds(work) / _seconds(plain) for _ in range(repeats))


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fresh(reading: Reading) -> Reading:
    """The same picture and question with nothing computed yet."""
    return replace(reading)


def talkative(reading: Reading) -> Reading:
    """The same, with an answer of exactly TOKENS tokens: nothing stops the model before the limit."""
    model = replace(reading.model)
    model.__dict__["stop_ids"] = frozenset()
    return replace(reading, model=model, max_new_tokens=TOKENS)


def all_tokens(reading: Reading, method: str, repeats: int) -> float:
    """(answer of 64 tokens + a map for each) ÷ (the answer alone), picture encoded in both."""
    long = talkative(reading)

    def answer() -> Any:
        new = fresh(long)
        return generate(new.model, new.prompt, new.image_tokens, TOKENS)

    return ratio(lambda: token_maps(fresh(long), method), answer, repeats)


def gradcam(reading: Reading) -> float:
    """Grad-CAM at a vision layer ÷ a plain forward from pixels to the answer's row; no weight may have a gradient."""

    def cam() -> Any:
        new = fresh(reading)
        new.__dict__["generated"] = reading.generated
        return explain_reading(new, "gradcam_multi_token", "p_yes", layer=-2)

    def plain() -> Any:
        new = fresh(reading)
        with torch.no_grad():
            return logits_at(new.model, new.ids(), new.image_tokens, [len(new.prompt.ids) - 1])

    found = ratio(cam, plain)
    if any(p.grad is not None or p.requires_grad for p in reading.model.hf.parameters()):
        raise SystemExit("a parameter gradient was allocated")
    return found


def occlusion(reading: Reading) -> float:
    """The same 48 probes in pixel space ÷ in image-token space."""
    aim = resolve(reading)
    probes = windows(reading.model.grid, 3, 2)[:48]
    in_space = lambda space: lambda: score_masks(reading, aim, probes, space=space)  # noqa: E731
    return ratio(in_space("pixels"), in_space("tokens"), 3)


def capture_bytes(reading: Reading) -> float:
    """MB for each token of a 64-token answer by which the rows of all layers and heads raise the peak of a pass."""
    long = talkative(reading)
    forced = long.generated.ids
    ids, tokens, first = long.ids(forced[:-1]), long.image_tokens, len(long.prompt.ids) - 1
    rows = range(first, first + len(forced))

    @torch.no_grad()
    def plain() -> Any:
        return decode_embeddings(long.model, embed(long.model, ids, tokens), ids)

    captured = peak_bytes(lambda: attention_rows(long.model, ids, tokens, rows))
    return (captured - peak_bytes(plain)) / len(forced) / 1e6


def peak_bytes(work: Callable[[], Any]) -> int:
    """Most bytes that torch held at once, beyond those held before: every allocation and release, in order of time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        held = work()
    found = seen.profiler.kineto_results.events()
    del held  # what the work returns counts too
    memory = sorted((event for event in found if event.name() == "[memory]"), key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in memory), initial=0))  # work without tensors holds none


@contextmanager
def unasked() -> Iterator[None]:
    """Nobody asks whether the fast path runs: the answer, which on the CPU is no, is there already."""
    with ExitStack() as stack:
        for module in (forward, trace, vision, reading_module, compare_module, graphs):
            stack.enter_context(patch.object(module, "engine_of", lambda model: None))
        yield


def asking_for_the_fast_path(model: Model, case: Case, pairs: int = PAIRS) -> dict[str, dict[str, float]]:
    """One analysis as it is ÷ one in which nobody asks for the fast path, in turns, now one first and now the other."""

    def plain() -> Any:
        return verbs.analyze(model, case, method=QUICK_METHOD)

    def without() -> Any:
        with unasked():
            return plain()

    plain(), without()
    found = []
    for pair in range(pairs):
        order = (plain, without) if pair % 2 else (without, plain)
        seconds = {work: clocks(work) for work in order}
        found.append((seconds[plain], seconds[without]))
    return {name: median_of([one[k] / two[k] for one, two in found]) for k, name in enumerate(("wall", "processor"))}


def measure() -> list[dict[str, Any]]:
    """Every figure with its bound."""
    model, case = load_model("demo", device="cpu"), load_cases("demo")[0]
    reading = read(model, picture(case), case.question, options=case.options)
    rows = (
        ("64 tokens with cross_attention maps ÷ answer alone", all_tokens(reading, "cross_attention", 5), "≤ 1.5"),
        ("the same with relevance", all_tokens(reading, "relevance", 3), "–"),
        ("the same with token_gradient", all_tokens(reading, "token_gradient", 3), "–"),
        ("Grad-CAM ÷ plain forward (no parameter gradient)", gradcam(reading), "≤ 3"),
        ("occlusion, pixels ÷ image tokens, same probes", occlusion(reading), "≥ 3"),
        ("attention capture, peak MB a token", capture_bytes(reading), "≤ 1"),
    )
    found = [{"what": what, "value": value, "target": target} for what, value, target in rows]
    return found + [
        {"what": f"analysis that asks for the fast path ÷ not, {clock}", "value": one["ratio"], "target": "≤ 1.02",
         "interval": [one["low"], one["high"]]}
        for clock, one in asking_for_the_fast_path(model, case).items()
    ]  # fmt: skip


def interval_told(interval: Sequence[float] | None) -> str:
    """The 95 % interval of a median, where it is known."""
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}, median of {PAIRS} pairs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    rows = measure()
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['what']:<58}{row['value']:8.2f}   {row['target']:<8}{interval_told(row.get('interval'))}".rstrip())


if __name__ == "__main__":
    main()
