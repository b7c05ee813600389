"""One GPU, a model of MedGemma 4B's exact shape with random weights: `python benchmarks/gpu.py [--out FOLDER]`.

Correctness first, on a few layers and then on all: the fast path against the library's eager attention, each difference
with a bound. Then, in one run and by CUDA events, medians: the specification's procedure (eager, every attention kept,
a second pass, Grad-CAM with gradients for all parameters), captum where it draws the same map, the package with the
library's own decoder, and the package as it is. The weights answer nonsense; what a pass costs does not depend on that.
Prints a table and writes gpu.json with the card, versions and clocks as found; ends with exit code 1 where a part
failed or a bound is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor, Gemma3Config, Gemma3ForConditionalGeneration

from medgemma_visualizer.checks.scoring import ModelScorer
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.errors import UnavailableError, VisualizerError
from medgemma_visualizer.heatmaps import METHODS, explain_reading
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.models.adapter import FAMILIES, Model
from medgemma_visualizer.models.devices import limit_memory
from medgemma_visualizer.models.forward import image_tokens, logits_at
from medgemma_visualizer.models.graphs import engine_of, forget
from medgemma_visualizer.models.loading import demo_folder, library_versions
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.models.trace import attention_kind, attention_rows
from medgemma_visualizer.records import Case

TOKENS = 8
OTHER = "Is there evidence of pneumothorax?"
REPEATS = 15
CUDA = torch.device("cuda")

#: google/medgemma-4b-it's configuration, but for the control tokens' ids, which are those of the embedded tokenizer.
TEXT = {
    "vocab_size": 262208, "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
    "sliding_window": 1024, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    },
    "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 5,
}  # fmt: skip
VISION = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
    "image_size": 896, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip

#: What differences may be at most, and what share of answers must be the same.
FLOAT32 = {"rows": 1e-5, "logits": 1e-4, "gradient": 1e-4, "same answer": 1}
BFLOAT16 = {"rows": 5e-3, "logits": 0.05, "gradient": 0.08, "same answer": 1}
SIX_LAYERS = {
    **{f"fp32, {name}": bound for name, bound in FLOAT32.items()},
    **{f"bf16 ÷ fp32, {name}": BFLOAT16[name] for name in ("logits", "gradient")},
}
ROWS = {"ours to float32": BFLOAT16["rows"], "ours to eager": BFLOAT16["rows"]}

#: Options with which a method takes its fewest passes.
CHEAPEST: dict[str, dict[str, Any]] = {
    "attention_knockout": {"window": 8, "stride": 8},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"window": 4, "stride": 4},
    "region_search": {"per_side": 4, "budget": 20},
    "rise": {"n": 16},
    "shapley": {"per_side": 2, "orders": 2},
    "smoothgrad": {"samples": 2},
    "consensus": {"methods": ["gradient_norm", "token_gradient"]},
}


def build(layers: int = 34, vision_layers: int = 27, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Model:
    """A random model of the shape, drawn on the GPU; the projector too, which starts at zero otherwise."""
    config = Gemma3Config(
        text_config={**TEXT, "num_hidden_layers": layers}, vision_config={**VISION, "num_hidden_layers": vision_layers},
        mm_tokens_per_image=256, image_token_index=8, boi_token_index=6, eoi_token_index=7, eos_token_id=[1, 5],
    )  # fmt: skip
    torch.manual_seed(seed)
    with CUDA:
        hf = Gemma3ForConditionalGeneration._from_config(config, dtype=dtype, attn_implementation="sdpa")
    with torch.no_grad():
        hf.model.multi_modal_projector.mm_input_projection_weight.normal_(0, 0.02)
        for name, weight in hf.model.language_model.named_parameters():
            if weight.ndim == 1 and "norm" in name:
                weight.normal_(0, 0.1)
    hf.eval().requires_grad_(False)
    hf.generation_config.eos_token_id = [1, 5]
    processor = AutoProcessor.from_pretrained(demo_folder(), local_files_only=True)
    processor.image_processor.size = {"height": 896, "width": 896}
    family = FAMILIES["Gemma3ForConditionalGeneration"]
    return Model("MedGemma 4B's shape", "random", hf, processor, family, versions=library_versions(), fast=True)


def halve(model: Model) -> None:
    """The same weights in bfloat16; buffers, such as the rotations' frequencies, stay as a checkpoint's would."""
    for weight in model.hf.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    gc.collect()
    torch.cuda.empty_cache()


def reading_of(model: Model, case: Any, most: int = TOKENS) -> Reading:
    return read(model, picture(case), case.question, options=case.options, max_new_tokens=most)


def again(reading: Reading, **known: Any) -> Reading:
    """The same picture, its pixel values on the GPU, and question, with nothing else computed."""
    new = replace(reading)
    vars(new).update({"pixel_values": reading.pixel_values} | known)
    return new


def milliseconds(work: Callable[[], Any], repeats: int = REPEATS, warm: int = 3) -> float:
    """Median by CUDA events, the processor's part included."""
    for _ in range(warm):
        work()
    found = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        work()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end))
    return statistics.median(found)


def peak_gib(work: Callable[[], Any]) -> float:
    """Most memory held at once, beyond what was held before, in GiB; not-a-number where there is no GPU."""
    if not torch.cuda.is_available():
        work()
        return float("nan")
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


# -- correctness ---------------------------------------------------------------------------------------------------


@contextmanager
def plainly(model: Model) -> Iterator[None]:
    """The package with the library's own decoder."""
    model.fast, before = False, model.fast
    try:
        yield
    finally:
        model.fast = before


def eager_rows(reading: Reading, ids: torch.Tensor, row: int) -> torch.Tensor:
    """The library's eager attention of one row: float32 (layers, H, S)."""
    model = reading.model
    types = (ids == model.image_token_id).long()[None]
    with attention_kind(model, "eager"), torch.no_grad():
        out = model.hf(
            input_ids=ids[None], pixel_values=reading.pixel_values, token_type_ids=types, output_attentions=True
        )
    return torch.stack([weights[0, :, row].float() for weights in out.attentions])


def gradient(reading: Reading) -> torch.Tensor:
    """Gradient of one logit at the image tokens, by `logits_at`: float32 (N, D)."""
    leaf = reading.image_tokens.detach().requires_grad_()
    with torch.enable_grad():
        logits = logits_at(reading.model, reading.ids(), leaf, [len(reading.prompt.ids) - 1])
        (found,) = torch.autograd.grad(logits[0, 0, 100] - logits[0, 0, 200], [leaf])
    return found[0].float()


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """‖found − wanted‖ / ‖wanted‖; never of zeros."""
    norm = float(wanted.float().norm())
    if not norm > 0:
        raise SystemExit("a reference is zero, so nothing was compared")
    return float((found.float() - wanted.float()).norm()) / norm


def worse(known: float, found: float) -> float:
    """The larger difference; one that is no number is the worst, which `max` would pass over."""
    return known if found <= known or math.isnan(known) else found


def missed(found: Mapping[str, float], bounds: Mapping[str, float]) -> list[str]:
    """Figures beyond their bounds, each told; what is no number, or not there, is beyond."""
    told = []
    for name, bound in bounds.items():
        value, same = found.get(name, math.nan), "same" in name
        if not (value >= bound if same else value <= bound):
            told.append(f"{name} {value:.3g}, wanted {'≥' if same else '≤'} {bound:g}")
    return told


def compared(model: Model, case: Any, times: int = 3) -> dict[str, float]:
    """Largest differences of the fast path, over its launched, captured and replayed passes."""
    with plainly(model):
        plain = reading_of(model, case)
        slope, said, first = gradient(plain), plain.generated, plain.generated.first_logits
        last = len(plain.prompt.ids) - 1
        rows = eager_rows(plain, plain.ids(), last)
    worst: dict[str, float] = {"rows": 0, "logits": 0, "gradient": 0, "same answer": 1}
    for _ in range(times):
        fast = again(plain)
        traced = attention_rows(model, fast.ids(), fast.image_tokens, [last]).weights[:, :, 0]
        worst["rows"] = worse(worst["rows"], float(np.abs(traced - rows.cpu().numpy()).max()))
        worst["logits"] = worse(worst["logits"], off(fast.generated.first_logits, first))
        worst["gradient"] = worse(worst["gradient"], off(gradient(fast), slope))
        worst["same answer"] = min(worst["same answer"], float(fast.generated.ids == said.ids))
    return worst


def true_rows(model: Model, case: Any) -> torch.Tensor:
    """Attention of the last row by the eager implementation in float32."""
    reading = reading_of(model, case)
    return eager_rows(reading, reading.ids(), len(reading.prompt.ids) - 1)


def rows_against(model: Model, case: Any, truth: torch.Tensor) -> dict[str, float]:
    """Largest differences of bfloat16 rows to those of float32, and to each other."""
    reading, found = reading_of(model, case), {}
    last = len(reading.prompt.ids) - 1
    found["eager"] = eager_rows(reading, reading.ids(), last)
    ours = attention_rows(model, reading.ids(), reading.image_tokens, [last]).weights[:, :, 0]
    found["ours"] = torch.from_numpy(ours).to(truth)
    with plainly(model):
        plain = attention_rows(model, reading.ids(), reading.image_tokens, [last]).weights[:, :, 0]
    found["library's decoder"] = torch.from_numpy(plain).to(truth)
    worst = {f"{name} to float32": float((rows - truth).abs().max()) for name, rows in found.items()}
    between = {f"{name} to eager": float((rows - found["eager"]).abs().max()) for name, rows in found.items()}
    return worst | between | {"largest weight": float(truth.max())}


def steps_of(reading: Reading) -> dict[str, float]:
    """Milliseconds of each step of one analysis, the GPU waited for after each; medians of ten."""
    found: dict[str, list[float]] = {}
    for _ in range(10):
        new = again(reading)
        works: dict[str, Callable[[], Any]] = {
            "vision": lambda new=new: new.image_tokens,
            "answer": lambda new=new: new.generated,
            "words": lambda new=new: new.answer,
            "attention": lambda new=new: explain_reading(new, "cross_attention", "contrast"),
            "Grad-CAM": lambda new=new: explain_reading(new, "gradcam_multi_token", "contrast"),
            "Grad-CAM of the answer": lambda new=new: explain_reading(new, "gradcam_multi_token", "answer"),
        }
        for name, work in works.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            sent = time.perf_counter()
            torch.cuda.synchronize()
            found.setdefault(name, []).append((time.perf_counter() - start) * 1e3)
            found.setdefault(f"{name}, until sent", []).append((sent - start) * 1e3)
    return {name: statistics.median(values) for name, values in found.items()}


def half_against_full(case: Any) -> dict[str, float]:
    """bfloat16 against float32 on six layers with the same weights: logits and gradient of the fast path."""
    model = build(6, 2, torch.float32)
    full = reading_of(model, case)
    exact = compared(model, case)
    slope, first = gradient(full), full.generated.first_logits
    halve(model)
    half = reading_of(model, case)
    bf16 = {"logits": off(half.generated.first_logits, first), "gradient": off(gradient(half), slope)}
    with plainly(model):
        plain = reading_of(model, case)
        theirs = {"logits": off(plain.generated.first_logits, first), "gradient": off(gradient(plain), slope)}
    return {f"fp32, {k}": v for k, v in exact.items()} | {
        **{f"bf16 ÷ fp32, {k}": v for k, v in bf16.items()},
        **{f"bf16 ÷ fp32 by the library, {k}": v for k, v in theirs.items()},
    }


# -- what is timed -------------------------------------------------------------------------------------------------


def rooflines() -> dict[str, float]:
    """Matrix product in bfloat16 (TFLOP/s) and copy (TB/s, read and written), on random numbers."""
    a, b = (torch.randn(8192, 8192, device=CUDA, dtype=torch.bfloat16) for _ in range(2))
    product = milliseconds(lambda: a @ b)
    x = torch.randn(2**30, device=CUDA, dtype=torch.bfloat16)
    y = torch.empty_like(x)
    copy = milliseconds(lambda: y.copy_(x))
    return {"matmul TFLOP/s": 2 * 8192**3 / product / 1e9, "copy TB/s": 2 * x.nbytes / copy / 1e9}


def specification(reading: Reading) -> dict[str, Callable[[], Any]]:
    """The specification's three steps, as it writes them."""
    model = reading.model
    ids = reading.ids()[None]
    given = {
        "input_ids": ids, "pixel_values": reading.pixel_values, "attention_mask": torch.ones_like(ids),
        "token_type_ids": (ids == model.image_token_id).long(),
    }  # fmt: skip

    def generate() -> Any:
        with torch.no_grad():
            return model.hf.generate(
                **given, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, output_attentions=True,
                return_dict_in_generate=True,
            )  # fmt: skip

    def second() -> Any:
        with torch.no_grad():
            return model.hf(**given, output_attentions=True).attentions[-1][0].mean(0).float().cpu()

    def gradcam() -> Any:
        kept: list[torch.Tensor] = []
        handle = model.projector.register_forward_hook(lambda _m, _i, out: (out.retain_grad(), kept.append(out))[0])
        model.hf.requires_grad_(True)
        try:
            logits = model.hf(**given).logits[0, -1]
            logits[logits.argmax()].backward()
            cam = (kept[0].grad[0].float().mean(0) * kept[0][0].detach().float()).sum(-1).relu().cpu()
        finally:
            handle.remove()
            model.hf.zero_grad(set_to_none=True)
            model.hf.requires_grad_(False)
        return cam

    return {"generate": generate, "second pass": second, "Grad-CAM": gradcam}


def by_captum(reading: Reading) -> Callable[[], Any] | None:
    """The same Grad-CAM at the image tokens by captum; None where captum is not installed."""
    try:
        from captum.attr import LayerGradCam
    except ImportError:
        return None
    model = reading.model

    class Turned(torch.nn.Module):
        """captum averages over what follows axis 1, so positions are last while it looks."""

        def __init__(self) -> None:
            super().__init__()
            self.seen = torch.nn.Identity()

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            tokens = self.seen(image_tokens(model, values).transpose(1, 2)).transpose(1, 2)
            return logits_at(model, reading.ids(), tokens, [len(reading.prompt.ids) - 1])[:, 0]

    turned = Turned()
    cam = LayerGradCam(turned, turned.seen)
    leaf = reading.pixel_values.detach().requires_grad_()
    return lambda: cam.attribute(leaf, target=100, relu_attributions=True).float().cpu()


def whole(reading: Reading, target: str | None = "answer") -> Any:
    """Answer, attention map and Grad-CAM of one case, from its pixel values to arrays on the processor."""
    new = again(reading)
    said = new.answer
    return said, explain_reading(new, "cross_attention", target), explain_reading(new, "gradcam_multi_token", target)


def usable(model: Model, cases: Any) -> Any:
    """The first case of which the random model gives every map that is timed; some Grad-CAMs are all negative."""
    for case in cases[:40]:
        try:
            whole(reading_of(model, case))
            whole(reading_of(model, case), "contrast")
            whole(reading_of(model, case, 1), "contrast")
            new = reading_of(model, case, 1).asking(OTHER)
            explain_reading(new, "gradcam_multi_token", "contrast")
        except UnavailableError:
            continue
        return case
    raise SystemExit("no embedded case has all maps with these weights")


def parts(model: Model, case: Any) -> dict[str, float]:
    """Milliseconds of every part of the fast path."""
    reading, engine = reading_of(model, case), engine_of(model)
    assert engine is not None
    for _ in range(3):
        whole(reading)
    tower = milliseconds(lambda: again(reading).image_tokens)
    with plainly(model):
        launched = milliseconds(lambda: again(reading).image_tokens)
    start = time.perf_counter()
    for _ in range(5):
        _ = replace(reading).pixel_values
    found = {"preprocessing on the processor": (time.perf_counter() - start) * 200, "vision tower": tower}
    found["vision tower, launched"] = launched
    (work,) = [w for w in engine.passes.values() if w._graphs.get("step")]
    graphs = work._graphs
    found["prompt, captured"] = milliseconds(graphs["pass"]["forward"].replay)
    found["back to the image tokens, captured"] = milliseconds(graphs["pass"]["backward"].replay)

    def step() -> None:
        work.at.fill_(300), work.step.fill_(1), work.slot.fill_(20)
        graphs["step"]["step"].replay()

    found["one decoding step, captured"] = milliseconds(step)
    work.job = None  # its buffers were written over
    return found


def capture_seconds(model: Model, case: Any) -> dict[str, float]:
    """Seconds of the first four analyses of a shape that is new: launched, captured, replayed twice."""
    reading, found = reading_of(model, case), {}
    forget(model)
    for name in ("launched", "captured", "replayed", "replayed again"):
        torch.cuda.synchronize()
        start = time.perf_counter()
        whole(reading)
        torch.cuda.synchronize()
        found[name] = time.perf_counter() - start
    return found


def scorings(reading: Reading) -> Callable[[], Any]:
    """140 altered pictures in pixel space, blur and mean, as the faithfulness suite asks for them."""
    aim = resolve(reading, "contrast")
    masks = np.random.default_rng(0).random((140, *reading.model.grid)) < 0.5
    names = ["blur", "mean"] * 70
    return lambda: ModelScorer(again(reading), aim, ["blur", "mean"])(masks, names)


def timed(model: Model, case: Any) -> dict[str, Any]:
    """Every figure of the fast path and of the package with the library's decoder."""
    reading, one = reading_of(model, case), reading_of(model, case, 1)

    def new_question(seen: Reading) -> Any:
        asked = seen.asking(OTHER)
        return whole_of(asked, "contrast")

    def whole_of(asked: Reading, target: str) -> Any:
        said = asked.answer
        return (
            said,
            explain_reading(asked, "cross_attention", target),
            explain_reading(asked, "gradcam_multi_token", target),
        )

    seen = again(one)
    _ = seen.image_tokens
    known = again(reading)
    _ = known.answer
    works: dict[str, tuple[Callable[[], Any], int]] = {
        "answer of 8 tokens, attention map, Grad-CAM of the answer": (lambda: whole(reading), REPEATS),
        "the same, maps of yes against no": (lambda: whole(reading, "contrast"), REPEATS),
        "yes or no from the first token, both maps": (lambda: whole(one, "contrast"), REPEATS),
        "the same from the picture, preprocessing included": (lambda: whole_of(replace(one), "contrast"), 5),
        "new question on a picture already seen: first token, both maps": (lambda: new_question(seen), REPEATS),
        "integrated gradients, 16 steps": (
            lambda: explain_reading(known, "integrated_gradients", "contrast", steps=16),
            3,
        ),
        "occlusion, 256 windows, image tokens": (lambda: explain_reading(known, "occlusion", "contrast", window=1), 2),
        "140 scorings, pixels": (scorings(known), 2),
    }
    return {name: milliseconds(work, repeats, 3 if repeats > 3 else 1) for name, (work, repeats) in works.items()}


def kernels(work: Callable[[], Any], most: int = 14) -> list[str]:
    """Where the GPU's time goes: the costliest kernels of one piece of work."""
    from torch.profiler import ProfilerActivity, profile

    work()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    rows = sorted(seen.key_averages(), key=lambda row: -row.self_device_time_total)
    total = sum(row.self_device_time_total for row in rows)
    lines = [f"{row.self_device_time_total / 1e3:8.2f} ms {row.count:5d} × {row.key[:90]}" for row in rows[:most]]
    return [f"{total / 1e3:8.2f} ms in all, {sum(row.count for row in rows)} kernels", *lines]


def save(model: Model, folder: Path) -> dict[str, float]:
    """Saves the random checkpoint with its processor, as a hub's would lie in a folder: GiB and seconds."""
    start = time.perf_counter()
    model.hf.save_pretrained(folder, max_shard_size="2GB")
    model.processor.save_pretrained(folder)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**30
    return {"checkpoint GiB": size, "save seconds": time.perf_counter() - start}


def in_a_process(folder: Path, *options: str) -> dict[str, Any]:
    """What `folder.py` says of a folder; why it failed where it did."""
    script = Path(__file__).with_name("folder.py")
    command = [sys.executable, str(script), str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, Any] = (
        json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"error": done.stderr[-1500:]}
    )
    return found


def from_folder(model: Model, folder: Path) -> dict[str, Any]:
    """Saves the checkpoint, loads it as a user would, and runs every method once at its cheapest."""
    return {**save(model, folder), "load": in_a_process(folder)}


def every_method(model: Model, case: Any) -> dict[str, Any]:
    """Milliseconds and peak GiB of every method once, at its cheapest; its reason where it cannot explain."""
    reading, found = reading_of(model, case), {}
    for name in METHODS:

        def work(name: str = name) -> None:
            explain_reading(
                again(reading, image_tokens=reading.image_tokens, generated=reading.generated),
                name,
                "contrast",
                **CHEAPEST.get(name, {}),
            )

        try:
            start = time.perf_counter()
            peak = peak_gib(work)
            found[name] = {"seconds": time.perf_counter() - start, "peak GiB": peak}
        except VisualizerError as error:  # random weights do not have every map
            found[name] = {"reason": str(error)[:200]}
        except Exception as error:  # a benchmark reports what fails and goes on
            found[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
    return found


def clocks() -> str:
    """Card, driver and clocks as found; nothing is set."""
    asked = "name,driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:  # some containers have a card and no nvidia-smi
        return f"not known: {error}"
    return done.stdout.strip()


def errors_in(found: Any) -> list[str]:
    """What a finding says of errors, each by the name of what failed and its last line."""
    if not isinstance(found, Mapping):
        return []
    own = [str(found["error"]).strip().rpartition("\n")[2]] if "error" in found else []
    return [*own, *(f"{name}: {each}" for name, one in found.items() for each in errors_in(one))]


@dataclass
class Record:
    """What was found so far, on the disk after every part: a run that is cut off has said something.

    Attributes:
        folder: Where it is written.
        skip: Parts that are left out.
        found: Part -> what it found, or why it failed.
        name: Of the file.
        wrong: Parts that failed, and figures beyond their bounds.
    """

    folder: Path
    skip: Sequence[str]
    found: dict[str, Any]
    name: str = "gpu.json"
    wrong: list[str] = field(default_factory=list)

    def note(
        self, name: str, work: Callable[[], Any], part: str = "", bounds: Mapping[str, float] | None = None
    ) -> None:
        """Does a part, unless it is skipped. One that fails must not cost the others; it stands there as failed."""
        if part in self.skip:
            return
        start = time.perf_counter()
        try:
            found = self.found[name] = work()
            self.wrong += [f"{name}: {each}" for each in (*errors_in(found), *missed(found, bounds or {}))]
        except Exception as error:
            self.found[name] = f"failed: {type(error).__name__}: {error}"[:600]
            self.wrong.append(f"{name}: {self.found[name][:200]}")
            traceback.print_exc()
        print(f"[{time.perf_counter() - start:6.1f} s] {name}", flush=True)
        self.save()

    def save(self) -> None:
        (self.folder / self.name).write_text(self.text, encoding="utf-8")

    @property
    def text(self) -> str:
        return json.dumps({**self.found, "wrong": self.wrong}, indent=1, default=str)

    def end(self) -> None:
        """Writes and prints all of it.

        Raises:
            SystemExit: With code 1, where anything is not as it should be.
        """
        self.save()
        print(self.text)
        if self.wrong:
            raise SystemExit("\n".join(["Not as it should be:", *self.wrong]))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-output"))
    parser.add_argument(
        "--skip", nargs="*", default=[], help="parts to leave out: small, spec, captum, plain, methods, load, profile"
    )
    parser.add_argument(
        "--max-memory", type=float, help="GiB that all may take once the weights are there, as --max-memory"
    )
    return parser.parse_args()


def of_the_package(record: Record, model: Model, case: Case, truth: Any, cases: Sequence[Case]) -> Reading:
    """Ours: correct first, then times, steps and memory. Returns the reading that the others are asked about."""
    record.note("all layers, bf16, against eager and the library", lambda: compared(model, case), bounds=BFLOAT16)
    record.note("seconds of a new shape", lambda: capture_seconds(model, case))
    record.note("parts, ms", lambda: parts(model, case))
    record.note("ours, ms", lambda: timed(model, case))
    reading = reading_of(model, case)
    if truth is not None:
        record.note("rows, bf16", lambda: rows_against(model, cases[0], truth), bounds=ROWS)
    record.note("steps, ms", lambda: steps_of(reading))
    forget(model)
    record.note("ours, peak GiB", lambda: peak_gib(lambda: [whole(reading) for _ in range(3)]))
    return reading


def profiled(record: Record, model: Model) -> None:
    """The kernels of each captured graph."""
    engine = engine_of(model)
    work = next(w for w in engine.passes.values() if w._graphs.get("step"))  # type: ignore[union-attr]
    for name, part in (("forward", "pass"), ("backward", "pass"), ("step", "step")):
        replay = work._graphs[part][name].replay  # type: ignore[index]
        record.note(f"kernels of {name}", lambda replay=replay: kernels(replay))
    work.job = None


def plain(model: Model, case: Case, reading: Reading) -> dict[str, float]:
    """The package over the library's own decoder, in milliseconds."""
    with plainly(model):
        return {
            "whole": milliseconds(lambda: whole(reading), 3, 1),
            "yes/no": milliseconds(lambda: whole(reading_of(model, case, 1), "contrast"), 3, 1),
        }


def captum(model: Model, reading: Reading) -> dict[str, float] | None:
    """The same Grad-CAM by captum; None where it is not installed."""
    with plainly(model):
        work = by_captum(reading)
        return None if work is None else {"Grad-CAM ms": milliseconds(work, 5, 1), "peak GiB": peak_gib(work)}


def as_specified(model: Model, reading: Reading) -> dict[str, dict[str, float]]:
    """The specification's procedure, step by step."""
    model.hf.set_attn_implementation("eager")
    try:
        steps = specification(reading)
        return {name: {"ms": milliseconds(step, 3, 1), "peak GiB": peak_gib(step)} for name, step in steps.items()}
    finally:
        model.hf.set_attn_implementation("sdpa")


def main() -> None:
    asked = parsed()
    if not torch.cuda.is_available():
        raise SystemExit(
            "No CUDA device is here; benchmarks/cpu.py and benchmarks/methods.py measure on the processor."
        )
    asked.out.mkdir(parents=True, exist_ok=True)
    cases = load_cases("demo")
    about = {"card": clocks(), "versions": library_versions(), "began": time.time()}
    record = Record(asked.out, asked.skip, about)
    record.note("six layers", lambda: half_against_full(cases[0]), "small", SIX_LAYERS)
    gc.collect()
    torch.cuda.empty_cache()
    record.note("rooflines", rooflines)
    limited = asked.max_memory is not None  # float32 weights would have taken it all
    model = build(dtype=torch.bfloat16 if limited else torch.float32)
    truth = None if limited else true_rows(model, cases[0])
    halve(model)
    if limited:
        limit_memory(torch.device("cuda", 0), asked.max_memory)
    record.found["weights GiB"] = torch.cuda.memory_allocated() / 2**30
    with plainly(model):
        case = usable(model, cases)
    reading = of_the_package(record, model, case, truth, cases)
    if "profile" not in asked.skip:
        profiled(record, model)
    record.note("every method once", lambda: every_method(model, case), "methods")
    record.note("with the library's decoder, ms", lambda: plain(model, case, reading), "plain")
    record.note("captum", lambda: captum(model, reading), "captum")
    record.note("the specification's procedure", lambda: as_specified(model, reading), "spec")
    with tempfile.TemporaryDirectory() as name:
        record.note("from a folder", lambda: from_folder(model, Path(name)), "load")
    record.found["card at the end"] = clocks()
    record.found["peak GiB of all"] = torch.cuda.max_memory_allocated() / 2**30
    record.end()


if __name__ == "__main__":
    main()
