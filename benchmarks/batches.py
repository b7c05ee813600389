"""Cases a second on one GPU, MedGemma 4B's shape: `python benchmarks/batches.py [--sizes 1 4 8 16] [--out FOLDER]`.

Each case is another film with its question: answer, attention map and Grad-CAM, from pixel values on the card to arrays
on the processor; and a whole run's work on films from the disk (decoding, scores and rows included). Sizes are how many
go through the decoder together; size 1 is the captured pass of one. First, what goes together is compared with what
each gives alone, each difference with a bound. Random weights, as in `benchmarks/gpu.py`. Ends with exit code 1 where a
part failed or a bound is missed.
"""

from __future__ import annotations

import argparse
import functools
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gpu import (
    BFLOAT16,
    FLOAT32,
    TOKENS,
    Record,
    again,
    build,
    clocks,
    halve,
    off,
    peak_gib,
    reading_of,
    rooflines,
    worse,
)
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.errors import VisualizerError
from medgemma_visualizer.heatmaps.explain import explain_or_say_why, explain_reading
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.heatmaps.together import answer_together
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.batches import Batch, batch_for
from medgemma_visualizer.models.forward import image_tokens, logits_at
from medgemma_visualizer.models.loading import library_versions, load_model
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.models.trace import attention_rows
from medgemma_visualizer.runs import start
from medgemma_visualizer.runs.plan import RunPlan, shards_of
from medgemma_visualizer.runs.shards import ask_all
from run import apart, repeated

METHODS = ("cross_attention", "gradcam_multi_token")

#: The names that `compared` has for what `gpu.compared` compares.
NAMES = {"rows": "rows", "logits": "first logits", "gradient": "gradient", "same answer": "same tokens"}
TOGETHER32, TOGETHER16 = ({NAMES[name]: bound for name, bound in bounds.items()} for bounds in (FLOAT32, BFLOAT16))


def fresh(readings: Sequence[Reading]) -> list[Reading]:
    """The same pictures and questions, their image tokens from one pass of the vision tower."""
    new = [again(reading) for reading in readings]
    with torch.no_grad():
        tokens = image_tokens(new[0].model, torch.cat([reading.pixel_values for reading in new])).split(1)
    for reading, own in zip(new, tokens, strict=True):
        vars(reading)["image_tokens"] = own
    return new


def together(readings: Sequence[Reading], target: str) -> list[Any]:
    """Answer and both maps of each, in one pass of the decoder."""
    made = []
    for joint in answer_together(fresh(readings), target, METHODS):
        assert joint.aim is not None
        with joint.lent():
            made.append([explain_or_say_why(joint.reading, joint.aim, name, {}) for name in METHODS])
    return made


def one_by_one(readings: Sequence[Reading], target: str) -> list[Any]:
    made = []
    for reading in readings:
        (new,) = fresh([reading])
        aim = resolve(new, target)
        made.append([explain_or_say_why(new, aim, name, {}) for name in METHODS])
    return made


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Median after two rounds that capture what can be captured."""
    found = []
    for n in range(repeats + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found += [time.perf_counter() - start] if n >= 2 else []
    return statistics.median(found)


def parts(readings: Sequence[Reading], target: str) -> dict[str, float]:
    """Milliseconds a case of each step, the GPU waited for after each; medians of three."""
    count, found = len(readings), {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        torch.cuda.synchronize()
        start = time.perf_counter()
        made = work()
        torch.cuda.synchronize()
        found.setdefault(name, []).append((time.perf_counter() - start) * 1e3 / count)
        return made

    for _ in range(5):
        new = timed("vision tower", lambda: fresh(readings))
        batch = timed("prompts and answers", lambda new=new: Batch(new))
        aims = timed("targets", lambda new=new: [resolve(one, target) for one in new])
        logits = timed("rows of logits", lambda b=batch, a=aims: b.logits([x.forced for x in a], [x.rows for x in a]))
        score = sum(aim.score(part).sum() for aim, part in zip(aims, logits, strict=True))
        timed("back to the image tokens", lambda s=score, b=batch: torch.autograd.grad(s, [b.leaf]))
        timed(
            "attention maps",
            lambda new=new, a=aims: [explain_or_say_why(r, x, METHODS[0], {}) for r, x in zip(new, a, strict=True)],
        )
    return {name: statistics.median(values[2:]) for name, values in found.items()}


def rates(readings: Sequence[Reading], size: int) -> dict[str, float]:
    """Cases a second: maps of the whole answer, of yes against no, and after a first token that is the answer."""
    groups = [readings[start : start + size] for start in range(0, len(readings), size)]
    ask = together if size > 1 else one_by_one
    found = {}
    for name, most, target in (
        ("answer", TOKENS, "answer"),
        ("contrast", TOKENS, "contrast"),
        ("yes/no", 1, "contrast"),
    ):
        asked = [[limited(one, most) for one in group] for group in groups]
        found[name] = len(readings) / seconds(lambda a=asked, t=target: [ask(group, t) for group in a])
    return found


def limited(reading: Reading, most: int) -> Reading:
    new = again(reading)
    object.__setattr__(new, "max_new_tokens", most)
    return new


def of_a_run(model: Model, size: int, number: int, methods: tuple[str, ...] = METHODS) -> dict[str, float]:
    """Cases a second of a run's work: films read, answered, explained, scored, in rows; but for the first quarter."""
    cases = [case for case in load_cases("demo")][:number]
    groups = [group for shard in shards_of(cases, number) for group in shard.groups]
    plan = RunPlan(methods, max_new_tokens=TOKENS, batch=size)
    done, began, after = 0, time.perf_counter(), 0
    failed = 0
    for one in ask_all(model, groups, plan):
        done += len(one.cases)
        failed += one.failed
        if after == 0 and done >= number / 4:
            began, after = time.perf_counter(), done
    return {"cases a second": (done - after) / (time.perf_counter() - began), "cases": done, "failed": failed}


def compared(model: Model, readings: Sequence[Reading]) -> dict[str, float]:
    """Largest differences of what goes together from what each gives alone, over launched and captured steps."""
    alone = fresh(readings)
    last = [len(reading.prompt.ids) - 1 for reading in alone]
    worst: dict[str, float] = {"rows": 0, "first logits": 0, "gradient": 0, "same tokens": 1}
    slopes = []
    for reading, row in zip(alone, last, strict=True):
        leaf = reading.image_tokens.detach().requires_grad_()
        with torch.enable_grad():
            logits = logits_at(model, reading.ids(), leaf, [row])
            slopes.append(torch.autograd.grad(logits[0, 0, 100] - logits[0, 0, 200], [leaf])[0][0])
    for _ in range(3):
        new = fresh(readings)
        batch = Batch(new)
        logits = batch.logits([()] * len(new), [[row] for row in last])
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(sum(one[0, 0, 100] - one[0, 0, 200] for one in logits), [batch.leaf])
        same = 0
        for n, (one, other) in enumerate(zip(new, alone, strict=True)):
            same += sum(a == b for a, b in zip(one.generated.ids, other.generated.ids, strict=False))
            traced = attention_rows(model, one.ids(), one.image_tokens, [last[n]]).weights
            wanted = attention_rows(model, other.ids(), other.image_tokens, [last[n]]).weights
            worst["rows"] = worse(worst["rows"], float(abs(traced - wanted).max()))
            first = off(one.generated.first_logits, other.generated.first_logits)
            worst["first logits"] = worse(worst["first logits"], first)
            worst["gradient"] = worse(worst["gradient"], off(slope[n], slopes[n]))
        worst["same tokens"] = min(worst["same tokens"], same / sum(len(one.generated.ids) for one in alone))
    return worst


def usable(model: Model, number: int) -> list[Reading]:
    """Readings of so many films of which the random model gives an attention map."""
    found: dict[str, Reading] = {}
    for case in load_cases("demo"):
        if str(case.image) in found:
            continue
        reading = reading_of(model, case)
        try:
            explain_reading(reading, METHODS[0], "contrast")
        except VisualizerError:
            continue
        found[str(case.image)] = reading
        if len(found) == number:
            break
    return list(found.values())


def of_workers(folder: Path, workers: int, numbers: tuple[int, int] = (192, 768)) -> dict[str, float]:
    """Cases a second of `run` with so many processes on this card: what the cases between two numbers took."""
    spent = []
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            cases = apart(repeated(number), Path(name) / "films")
            model = load_model(str(folder), device="cuda")
            plan = RunPlan(METHODS, max_new_tokens=TOKENS, batch=batch_for(model) if workers == 1 else 8)
            loads = [functools.partial(load_model, str(folder), device="cuda")]
            begun = time.perf_counter()
            engine = start.local(model, plan, workers, loads if workers > 1 else ())
            del model  # as `run` does before workers load theirs
            gc.collect()
            torch.cuda.empty_cache()
            outcome = start.run(engine, cases, Path(name) / "run", plan)
            spent.append(time.perf_counter() - begun)
            if outcome.failed or outcome.asked != number:
                raise SystemExit(f"{outcome.failed} of {outcome.asked} cases failed")
            del engine
            gc.collect()
            torch.cuda.empty_cache()
    rate = (numbers[1] - numbers[0]) / (spent[1] - spent[0])
    return {"workers": workers, "batch": plan.batch, "cases a second": rate, "seconds": spent}  # type: ignore[dict-item]


def small() -> dict[str, float]:
    """Six layers in float32, where differences are those of the arithmetic's order only."""
    model = build(6, 2, torch.float32)
    return compared(model, usable(model, 8))


def of_one_process(record: Record, sizes: Sequence[int], films: int, folder: Path | None) -> None:
    """All but what several processes reach; saves the checkpoint for them where there is a folder."""
    model = build(dtype=torch.bfloat16)
    halve(model)
    readings = usable(model, films)
    alone = "all layers, bf16, eight together against alone"
    record.note(alone, lambda: compared(model, readings[:8]), bounds=TOGETHER16)
    for size in sizes:
        some = readings[:size]
        if size > 1:
            record.note(f"{size} together, ms a case", lambda some=some: parts(some, "answer"))
            record.note(f"{size} together, peak GiB", lambda some=some: peak_gib(lambda: together(some, "answer")))
        record.note(f"{size} together, cases a second", lambda size=size: rates(readings, size))
        record.note(f"run, --batch {size}", lambda size=size: of_a_run(model, size, 160))
    if folder is not None:
        model.hf.save_pretrained(folder, max_shard_size="2GB")
        model.processor.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-output"))
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 4, 8, 16])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 3], help="processes of `run` on this card")
    parser.add_argument(
        "--folder", type=Path, help="of a checkpoint for `run`; that of random weights is made where None"
    )
    parser.add_argument("--films", type=int, default=32)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("No CUDA device is here; benchmarks/run.py measures runs on the processor.")
    asked.out.mkdir(parents=True, exist_ok=True)
    record = Record(asked.out, (), {"card": clocks(), "versions": library_versions()}, "batches.json")
    with tempfile.TemporaryDirectory() as name:
        folder = asked.folder or Path(name) / "checkpoint"
        record.note("rooflines", rooflines)
        if asked.sizes:
            record.note("six layers, fp32, eight together against alone", small, bounds=TOGETHER32)
        if asked.sizes or not asked.folder:
            of_one_process(record, asked.sizes, asked.films, None if asked.folder or not asked.workers else folder)
        gc.collect()
        torch.cuda.empty_cache()
        for workers in asked.workers:
            record.note(f"run with {workers} workers", lambda workers=workers: of_workers(folder, workers))
    record.found["card at the end"] = clocks()
    record.end()


if __name__ == "__main__":
    main()
