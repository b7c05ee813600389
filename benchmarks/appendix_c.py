"""The rows of the specification's appendix C, measured: `python benchmarks/appendix_c.py [--into PAGE]`.

What one case costs, step by step (time and memory), and what the answers and maps of the embedded cases are worth. By
default the embedded model on the processor; `--device cuda --shape 4b` times the steps with random weights in MedGemma
4B's shape, of which accuracy says nothing. `--json FILE` keeps what was found, `--from FILE` shows what was kept, and
`--into PAGE` writes the part of a page between its marks. `make benchmark` does so with docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gpu
from medgemma_visualizer import verbs
from medgemma_visualizer.checks.randomisation import signed_map
from medgemma_visualizer.checks.scoring import Memo, ModelScorer
from medgemma_visualizer.checks.suite import Suite
from medgemma_visualizer.data.findings import FINDINGS
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.grid import finite_map
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps.explain import explain_or_say_why
from medgemma_visualizer.heatmaps.probing import refuse_rounding
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.forward import logits_at, pixels
from medgemma_visualizer.models.graphs import forget
from medgemma_visualizer.models.loading import library_versions, load_model
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.progress import listening, track
from medgemma_visualizer.records import Case, write_whole
from medgemma_visualizer.reports.sensitivity import rewritten
from medgemma_visualizer.runs.judging import judged, kind_of
from medgemma_visualizer.runs.measure import seed_of
from medgemma_visualizer.scores.statistics import bootstrap_interval, wilson_interval
from medgemma_visualizer.settings import METHOD_PRIORITY, RECOMMENDED_METHOD
from methods import peak_bytes

REPEATS, WARM = 9, 3
TARGET = "contrast"
IMPUTER, STEPS, SEED = "blur", 16, 0
#: What the package asks by default, and what the specification does.
METHODS = (RECOMMENDED_METHOD, METHOD_PRIORITY[0])
RANDOM = "random order"
PARTS = {("cpu", "demo"): "make benchmark"}

#: Row -> (the specification's ms, its MB, what is measured).
STEPS_OF_A_CASE: dict[str, tuple[int, int, str]] = {
    "image preprocessing": (15, 10, "the film's file opened and made into the model's pixel values, on its device"),
    "model forward pass": (250, 2000, "pixel values to the logits of the answer's first token, without gradients"),
    "cross-attention extraction": (5, 50, "map of the last layer; its rows are read in a pass of the decoder over "
    "prompt and answer on the CPU, from what the answering pass has kept on CUDA"),
    "Grad-CAM computation": (300, 500, "`gradcam_multi_token` of yes against no, the picture encoded already; its "
    "forward pass is kept from the answer on CUDA only"),
    "visualisation": (100, 200, "`draw`: film opened again, body outlined, overlay drawn; no file written"),
    "total": (670, 2760, "one case anew from its file: answer of at most 8 tokens, both maps, one overlay; "
    "not the sum of the rows"),
}  # fmt: skip

#: Column of `Suite.numbers` -> (name for people, the specification's figure).
FAITHFUL: dict[str, tuple[str, str]] = {
    "deletion_auc_spec": ("deletion AUC as the specification defines it, `deletion_auc_spec` ↑", "0.62 ± 0.08"),
    "deletion_auc": ("deletion AUC by Petsiuk 2018, `deletion_auc` ↓", "–"),
    "comprehensiveness_spec": ("comprehensiveness as specified, `comprehensiveness_spec` ↑", "0.41 ± 0.12"),
    "comprehensiveness": ("comprehensiveness by DeYoung 2020 at 20 %, `comprehensiveness` ↑", "–"),
}

Values = dict[str, list[float]]


# -- time and memory -----------------------------------------------------------------------------------------------


def steps(model: Model, case: Case) -> dict[str, Callable[[], Any]]:
    """Each row's work, what comes before it done already."""
    reading = gpu.reading_of(model, case)
    heatmap = explain_reading(reading, METHODS[1], TARGET)

    def known() -> Reading:
        return gpu.again(reading, image_tokens=reading.image_tokens, generated=reading.generated)

    def forward() -> torch.Tensor:
        new = gpu.again(reading)
        with torch.no_grad():
            return logits_at(model, new.ids(), new.image_tokens, [len(new.prompt.ids) - 1])

    works = (
        lambda: pixels(model, [picture(case)]),
        forward,
        lambda: explain_reading(known(), "cross_attention", TARGET),
        lambda: explain_reading(known(), METHODS[1], TARGET),
        lambda: verbs.draw(heatmap, case),
        lambda: everything(model, case),
    )
    return dict(zip(STEPS_OF_A_CASE, works, strict=True))


def everything(model: Model, case: Case) -> Any:
    """What a person gets who asks for both maps, from the film's file to the picture."""
    reading = gpu.reading_of(model, case)
    said = reading.answer
    attention = explain_reading(reading, "cross_attention", TARGET)
    cam = explain_reading(reading, METHODS[1], TARGET)
    return said, attention, verbs.draw(cam, case)


def milliseconds(work: Callable[[], Any], device: torch.device) -> float:
    """Median over runs by the wall clock, the GPU waited for."""
    found = []
    for n in range(WARM + REPEATS):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        found += [time.perf_counter() - start] if n >= WARM else []
    return statistics.median(found) * 1e3


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_mb(work: Callable[[], Any], model: Model) -> float:
    """Most memory held at once beyond what was held before, in MB.

    CUDA: by torch's allocator, captured passes included, which are made anew. CPU: torch's tensors and, added, Python's
    and NumPy's arrays; Pillow's own buffers are not seen.
    """
    if model.device.type == "cuda":
        forget(model)
        return gpu.peak_gib(lambda: [work() for _ in range(WARM)]) * 2**30 / 1e6  # launched, captured, replayed
    work()
    tracemalloc.start()
    try:
        work()
        arrays = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return (peak_bytes(work) + arrays) / 1e6


def timed(model: Model, cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Row -> ms and MB, of the first case that has all maps."""
    with gpu.plainly(model):
        case = gpu.usable(model, cases)
    works = steps(model, case)
    seconds = {name: milliseconds(work, model.device) for name, work in works.items()}
    return {name: {"ms": seconds[name], "MB": peak_mb(work, model)} for name, work in works.items()}


# -- answers and maps ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Numbers of some cases.

    Attributes:
        values: One a case that has it, with the case's patient.
        why: Reason -> cases without.
    """

    values: Sequence[tuple[str, float]]
    why: Mapping[str, int]

    def summary(self) -> dict[str, Any]:
        """Mean, standard deviation over cases, n, and the 95 % interval by patient."""
        numbers = [value for _, value in self.values]
        if not numbers:
            return {"n": 0, "why": dict(self.why)}
        found = bootstrap_interval(numbers, [patient for patient, _ in self.values], SEED)
        spread = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
        return {"mean": found.value, "sd": spread, "n": found.n, "interval": found.interval, "why": dict(self.why)}


def of_test_split(cases: Sequence[Case]) -> list[Case]:
    """The test split, where there is one; else all."""
    return [case for case in cases if case.split == "test"] or list(cases)


def drawn(cases: Sequence[Case], number: int) -> list[Case]:
    """So many yes/no questions about findings, at random, another patient each as long as there are some."""
    known = [case for case in cases if kind_of(case) == "yes/no" and case.finding in FINDINGS]
    turns, seen = [], Counter[str]()
    for index in np.random.default_rng(SEED).permutation(len(known)):
        turns.append((seen[owner(known[index])], known[index]))
        seen[owner(known[index])] += 1
    return [case for _, case in sorted(turns, key=lambda turn: turn[0])[:number]]


def owner(case: Case) -> str:
    return case.patient_id or case.id


def accuracy(model: Model, cases: Sequence[Case]) -> Sample:
    """1 for a right answer and 0 for a wrong one, of each case whose answer can be judged."""
    found, why = [], Counter[str]()
    for case in track(list(cases), total=len(cases), what="answers"):
        right = judged(verbs.answer(model, case).label, case)
        if right is None:
            why["no answer of it can be judged"] += 1
        else:
            found.append((owner(case), float(right)))
    return Sample(found, why)


def removed(model: Model, case: Case) -> dict[str, dict[str, float | None] | str]:
    """Method or random order -> every number of taking cells away in that order, or why there is none."""
    reading = gpu.reading_of(model, case)
    aim = resolve(reading)
    maps = {name: explain_or_say_why(reading, aim, name, {}) for name in METHODS}
    grids: dict[str, np.ndarray] = {name: signed_map(one) for name, one in maps.items() if one.available}
    seed = seed_of(case, SEED)
    grids[RANDOM] = np.random.default_rng((seed, 1)).random(model.grid)
    memo = Memo(ModelScorer(reading, aim, (IMPUTER,), "pixels", seed))
    suites = {name: Suite(memo, finite_map(grid), (IMPUTER,), STEPS, 8, seed, (), 0) for name, grid in grids.items()}
    memo.learn(each for suite in suites.values() for each in suite.pictures_of_the_map())
    why = {name: "; ".join(one.fallbacks.values()) for name, one in maps.items() if not one.available}
    try:
        refuse_rounding(memo.scores)
    except UnavailableError as error:
        return why | dict.fromkeys(grids, str(error))
    return why | {
        name: suite.numbers(IMPUTER, suite.order, suite.map_at, suite.steps_at) for name, suite in suites.items()
    }


def faithfulness(model: Model, cases: Sequence[Case]) -> dict[str, dict[str, Sample]]:
    """Column -> method or random order -> its values."""
    values: dict[tuple[str, str], list[tuple[str, float]]] = {}
    why: dict[str, Counter[str]] = {name: Counter() for name in (*METHODS, RANDOM)}
    for case in track(list(cases), total=len(cases), what="cases with cells taken away"):
        for name, numbers in removed(model, case).items():
            if isinstance(numbers, str):
                why[name][numbers] += 1
                continue
            for column in FAITHFUL:
                if (value := numbers[column]) is not None:
                    values.setdefault((column, name), []).append((owner(case), value))
    return {
        column: {name: Sample(values.get((column, name), []), why[name]) for name in (*METHODS, RANDOM)}
        for column in FAITHFUL
    }


def divergence(model: Model, cases: Sequence[Case], method: str) -> Sample:
    """Jensen-Shannon divergence of the maps of the technical and the simple wording, in nats."""
    found, why = [], Counter[str]()
    for case in track(list(cases), total=len(cases), what=f"pairs of wordings, {method}"):
        js = verbs.compare(model, case, method=method, context=False).against_first(1)["js_divergence"]
        if isinstance(js.value, float):
            found.append((owner(case), js.value))
        else:
            why[js.reason] += 1
    return Sample(found, why)


def metrics(model: Model, cases: Sequence[Case], number: int) -> dict[str, Any]:
    """All that appendix C calls accuracy, summed up."""
    some = drawn(of_test_split(cases), number)
    right = accuracy(model, of_test_split(cases)).summary()
    maps = {
        column: {name: sample.summary() for name, sample in by_method.items()}
        for column, by_method in faithfulness(model, some).items()
    }
    js = {method: divergence(model, some, method).summary() for method in METHODS}
    about = {
        "cases": len(some),
        "patients": len({owner(case) for case in some}),
        "no": sum(case.truth == "no" for case in some),
    }
    return {"accuracy": right, **maps, "js": js, "about": about}


# -- telling -------------------------------------------------------------------------------------------------------


def told(found: Mapping[str, Any]) -> str:
    """Everything as a part of a page in Markdown."""
    about = found["about"]
    head = (
        f"{about['model']}, {about['device']}, {about['dtype']}; torch {about['torch']}, transformers "
        f"{about['transformers']}{about['threads']}. Medians of {REPEATS} runs after {WARM}, one case."
    )
    lines = [
        "| operation | ms | MB | specification (unspecified GPU): ms | MB | what is measured |",
        "|---|---|---|---|---|---|",
    ]
    for name, (ms, mb, what) in STEPS_OF_A_CASE.items():
        own = found["times"][name]
        lines.append(f"| {name} | {own['ms']:.1f} | {own['MB']:.1f} | {ms:,} | {mb:,} | {what} |")
    return "\n\n".join([head, "\n".join(lines), _memory_told(about), *_metrics_told(found["metrics"])])


def _memory_told(about: Mapping[str, Any]) -> str:
    counted = (
        "by torch's allocator, buffers of captured passes included; weights are not counted"
        if about["device"].startswith("cuda")
        else "tensors, Python's and NumPy's arrays; neither weights nor Pillow's own buffers are counted"
    )
    return (
        f"Memory is the peak of one step beyond what was held before it: {counted}. The specification adds its rows up "
        "to a total of time and of memory, which no peak is; here the total is measured. No data support its figures."
    )


def _metrics_told(found: Mapping[str, Any]) -> list[str]:
    if "why" in found:
        rows = ["answer accuracy", "deletion AUC", "comprehensiveness", "JS divergence (prompts)"]
        return ["\n".join(["| metric | value |", "|---|---|", *(f"| {row} | {found['why']} |" for row in rows)])]
    names = (*METHODS, RANDOM)
    lines = [
        f"| metric: mean ± standard deviation over cases (n) | `{METHODS[0]}` (asked by default) | `{METHODS[1]}` "
        "(specification's default) | random order | specification |",
        "|---|---|---|---|---|",
    ]
    lines += [
        _row(what, [found[column][name] for name in names], theirs) for column, (what, theirs) in FAITHFUL.items()
    ]
    js = [found["js"][method] for method in METHODS]
    lines.append(_row("JS divergence of the maps of two wordings, nats ↓", [*js, None], "0.18 ± 0.09"))
    return [_accuracy_told(found["accuracy"]), "\n".join(lines), _differences(found)]


def _row(what: str, cells: Sequence[Mapping[str, Any] | None], theirs: str) -> str:
    return f"| {what} | {' | '.join(map(_cell, cells))} | {theirs} |"


def _cell(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "–"
    if not one["n"]:
        return "no map (0)"
    spread_told = "" if one["sd"] is None else f" ± {one['sd']:.2f}"
    return f"{one['mean']:.2f}{spread_told} ({one['n']})".replace("-", "−")


def _accuracy_told(right: Mapping[str, Any]) -> str:
    n = right["n"]
    low, high = wilson_interval(round(right["mean"] * n), n)
    return (
        f"**Answer accuracy** {right['mean']:.1%} ± {right['sd']:.1%} (standard deviation over {n} cases; 95 % by "
        f"Wilson, as if no two shared a patient, {low:.1%} to {high:.1%}) over all embedded questions whose answer can "
        "be judged: presence, sides, marks; of simulated films, which are easier than radiographs and were looked at "
        "when the model was chosen ([other films and words](#how-well-the-embedded-model-answers)). The specification "
        "has 78.3 % ± 2.1 % and does not say what ± is: a standard deviation of right and wrong answers would be 41 %."
    )


def _differences(found: Mapping[str, Any]) -> str:
    about = found["about"]
    missing = {name: sum(found["deletion_auc"][name]["why"].values()) for name in METHODS}
    without = "; ".join(f"`{name}` {count}" for name, count in missing.items() if count) or "none"
    return (
        f"{about['cases']} yes/no questions about findings in films of {about['patients']} patients, drawn at random, "
        f"of which the answer to {about['no']} is no, where little can be taken away. Cases without a number: "
        f"{without}. Deletion and comprehensiveness take cells away by {IMPUTER}, in pixels and in probabilities "
        "([their definitions](metrics.md)); the specification takes log-probabilities, whose ratio grows as the model "
        "gets surer. Petsiuk's deletion is the area under the score itself, the specification's that of its drop. "
        "The two wordings are the specification's technical and simple form with the same answer instruction, each map "
        "for the answer to its own."
    )


# -- as called -----------------------------------------------------------------------------------------------------


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Times, and metrics where weights are real."""
    cases, real = verbs.load_cases("demo"), asked.shape == "demo"
    model = load_model("demo", device=asked.device) if real else gpu.build()
    threads = f", {torch.get_num_threads()} of {os.cpu_count()} cores used, load before {os.getloadavg()[0]:.1f}"
    about = {
        "model": "embedded model" if real else f"{model.name}, random weights",
        "device": asked.device if asked.device == "cpu" else f"cuda ({torch.cuda.get_device_name()})",
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": threads if asked.device == "cpu" else "",
        "shape": asked.shape,
        **{name: library_versions()[name] for name in ("torch", "transformers")},
    }
    times = timed(model, cases)
    said = metrics(model, cases, asked.cases) if real else {"why": "does not apply: random weights"}
    return {"about": about, "times": times, "metrics": said}


def command_of(about: Mapping[str, Any]) -> str:
    """Whose marks stand around the part."""
    device = about["device"].partition(" ")[0]
    other = f"python benchmarks/appendix_c.py --device {device} --shape {about['shape']}"
    return PARTS.get((device, about["shape"]), other)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--shape", choices=("demo", "4b"), default="demo", help="embedded model, or MedGemma 4B's shape"
    )
    parser.add_argument("--cases", type=int, default=12, help="of which cells are taken away and wordings are compared")
    parser.add_argument("--json", type=Path, help="a file to keep what was found in")
    parser.add_argument("--from", dest="kept", type=Path, help="show what such a file holds instead of measuring")
    parser.add_argument("--into", type=Path, help="a page whose generated part is written anew")
    asked = parser.parse_args()
    if asked.kept is None and asked.shape == "4b" and asked.device != "cuda":
        parser.error("MedGemma 4B's shape is measured on a GPU: add --device cuda")
    if asked.device == "cuda" and asked.kept is None and not torch.cuda.is_available():
        parser.error("no CUDA device is here")
    if asked.cases < 2:
        parser.error("--cases: a standard deviation needs 2 or more")
    return asked


def main() -> None:
    asked = parsed()
    page = None if asked.into is None else asked.into.read_text("utf-8")
    with listening(lambda done, total, what: print(f"\r{done} of {total} {what}    ", end="", file=sys.stderr)):
        found = json.loads(asked.kept.read_text("utf-8")) if asked.kept else measured(asked)
    print(file=sys.stderr)
    if asked.json is not None:
        kept = json.dumps(found, indent=1).encode("utf-8")
        write_whole(asked.json, lambda file: file.write(kept))
    text = told(found)
    print(text if asked.kept or asked.json else f"{json.dumps(found, indent=1)}\n\n{text}")
    if asked.into is not None and page is not None:
        whole = rewritten(page, text, command_of(found["about"])).encode("utf-8")
        write_whole(asked.into, lambda file: file.write(whole))


if __name__ == "__main__":
    main()
