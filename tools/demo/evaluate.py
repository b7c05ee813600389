"""Judges the embedded model on films it never saw, as anyone would ask it, and fills its card with what was measured.

    python tools/demo/evaluate.py --volume ct.npz --model src/medgemma_visualizer/data/demo/model --write

Every question of a fixed list is asked once of every film, greedily, of the folder loaded from disk: the prompt from
the processor's chat template, the pixels from its picture part. An answer is right if its whole text is the true one.
Counted apart are wordings known from training, those looked at while its templates were chosen (`HELD_OUT_…` of
`language`), and new ones (`held_out`).

Knows films by image, findings and marks, and the texts of `language` and `held_out`; knows nothing of how the model
was trained. Does not measure names of findings that training lacked, other languages, or real radiographs.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

import erasure
import held_out
import language as lang
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.models.devices import choose_device, choose_dtype
from medgemma_visualizer.settings import MODEL_CONFIG

#: Seeds nobody trained on or looked at: training's lie below, those of the embedded cases from its end on.
FRESH_SEEDS = range(55_000_000, 900_000_000)
#: The specification's two wordings, its simple one, and the shortest.
SEEN_PRESENCE = (
    "Is there evidence of {t}?", "Radiological assessment: Is there evidence of {t} in this chest radiograph?",
    "Can you see any signs of {t} in this X-ray?", "Is there {a}?",
)  # fmt: skip
#: finding -> place of its lay name in `language.TERMS`.
LAY = {"pneumonia": 2, "pleural_effusion": 2, "pneumothorax": 1, "cardiomegaly": 1}
#: How many of a finding's names training asks where they are.
PLACED = 4
WATCHED, NEW = "watched wording", "unseen wording"
BATCH = 640
FILMS_A_WORKER = 8  # fewer are not worth the start of a process

Metrics = dict[str, dict[str, float]]
Pairs = dict[str, list[tuple[str, bool]]]


@dataclass(frozen=True)
class Film:
    """What is judged of a film.

    Attributes:
        image: (512, 512) uint8.
        findings: finding -> "left", "right", "both"; "middle" for cardiomegaly.
        marks: kind -> style.
        cells: finding, mark or "body" -> share of each cell that it covers, (16, 16); of those on the film.
    """

    image: npt.NDArray[np.uint8]
    findings: Mapping[str, str]
    marks: Mapping[str, str]
    cells: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


Truth = Callable[[Film], str]


@dataclass(frozen=True)
class Probe:
    """One question, the group its answers are counted in, and what is true of a film."""

    group: str
    question: str
    truth: Truth


# --- films -----------------------------------------------------------------------------------------------------------


def fresh_films(volume: Path, seeds: range, device: str, workers: int) -> list[Film]:
    """One film of each seed, rendered by up to `workers` processes.

    Raises:
        InputError: No seeds, or seeds that training or the embedded cases may have used.
    """
    import simulate

    if not seeds or seeds[0] not in FRESH_SEEDS or seeds[-1] not in FRESH_SEEDS:
        raise InputError(
            f"Films of seeds {seeds.start} to {seeds.stop - 1} cannot judge the model. "
            f"Ask for one film or more, of seeds from {FRESH_SEEDS.start} to {FRESH_SEEDS.stop - 1}."
        )
    ct = simulate.load_volume(volume, device)
    return list(simulate.render_many(ct, seeds, min(workers, len(seeds) // FILMS_A_WORKER), as_judged))


def as_judged(film: Any) -> Film:
    """Leaves out the masks but for what they cover of each cell, so that little travels between processes."""
    sides: dict[str, Sequence[str]] = {"both": ("_left", "_right"), "middle": ("",)}
    masks = {"body": film.masks["body"], **{kind: film.masks[kind] for kind in film.marks}}
    for name, side in film.findings.items():
        masks[name] = np.any([film.masks[name + end] for end in sides.get(side, (f"_{side}",))], axis=0)
    cells = {name: erasure.covered(mask).astype(np.float32) for name, mask in masks.items()}
    return Film(film.image, film.findings, film.marks, cells)


# --- questions -------------------------------------------------------------------------------------------------------


def probes() -> list[Probe]:
    """Everything that is asked of every film."""
    return [*_of_findings(), *_of_negations(), *_of_sides(), *_of_one_side(), *_of_reports(), *_of_marks(), *_of_all()]


def present(name: str, sides: Sequence[str] = ("left", "right", "both", "middle")) -> Truth:
    return lambda film: lang.yes_no(film.findings.get(name) in sides)


def absent(name: str) -> Truth:
    return lambda film: lang.yes_no(name not in film.findings)


def side_of(name: str) -> Truth:
    return lambda film: film.findings.get(name, "none")


def marked(kind: str) -> Truth:
    return lambda film: lang.yes_no(kind in film.marks)


def always(answer: str) -> Truth:
    return lambda film: answer


def plainly_and_instructed(questions: Sequence[str]) -> list[str]:
    """Each question as it is, and each with the specification's demand for yes or no."""
    return [*questions, *(lang.INSTRUCTION.format(q=q) for q in questions)]


def without_article(name: str, among: int | None = None) -> Iterator[tuple[str, str]]:
    """A finding's names over and over, those that fit any template: an article inside may clash with the template's."""
    return cycle(term for term in lang.TERMS[name][:among] if not term[0].startswith(("a ", "an ")))


def _of_findings() -> Iterator[Probe]:
    for name in lang.FINDINGS:
        technical, lay = lang.TERMS[name][0], lang.TERMS[name][LAY[name]]
        terms = (technical, technical, lay, technical)
        seen = [lang.fill(template, term) for template, term in zip(SEEN_PRESENCE, terms, strict=True)]
        yield from (Probe(f"finding/{name}", q, present(name)) for q in plainly_and_instructed(seen))
    yield from _of_findings_reworded(WATCHED, lang.HELD_OUT_PRESENCE, lang.HELD_OUT_HEART)
    yield from _of_findings_reworded(NEW, held_out.PRESENCE, held_out.HEART)


def _of_findings_reworded(group: str, templates: Sequence[str], of_the_heart: Sequence[str]) -> Iterator[Probe]:
    """Every other question with the instruction, every template with another of the finding's names."""
    for name in lang.FINDINGS:
        questions = [lang.fill(t, term) for t, term in zip(templates, without_article(name), strict=False)]
        questions += of_the_heart if name == "cardiomegaly" else ()
        for i, question in enumerate(questions):
            asked = lang.INSTRUCTION.format(q=question) if i % 2 else question
            yield Probe(f"{group}/{name}", asked, present(name))


def worded(
    group: str, seen: Sequence[str], watched: Sequence[str], new: Sequence[str]
) -> Iterator[tuple[str, Sequence[str]]]:
    """A group's three kinds of wording, each with the name it is counted under."""
    named = ((group, seen), (f"{group}, {WATCHED}", watched), (f"{group}, {NEW}", new))
    return ((name, templates) for name, templates in named if templates)


def _of_negations() -> Iterator[Probe]:
    for group, templates in worded("negation", lang.NEGATED[:2], lang.HELD_OUT_NEGATED, held_out.NEGATED):
        for name in lang.FINDINGS:
            for template in templates:
                yield Probe(group, lang.fill(template, lang.TERMS[name][0]), absent(name))


def _of_sides() -> Iterator[Probe]:
    for group, templates in worded("side", lang.WHERE[:3], lang.HELD_OUT_WHERE, held_out.WHERE):
        for name in lang.SIDED:
            for template, term in zip(templates, without_article(name, PLACED), strict=False):
                yield Probe(f"{group}/{name}", lang.fill(template, term), side_of(name))


def _of_one_side() -> Iterator[Probe]:
    for group, templates in worded("sided yes/no", lang.SIDE_PRESENCE[:2], (), held_out.SIDE_PRESENCE):
        for name in lang.SIDED:
            for side in ("left", "right"):
                for template in templates:
                    question = lang.fill(template, lang.TERMS[name][0], side)
                    yield Probe(f"{group}/{name}", question, present(name, (side, "both")))


def _of_reports() -> Iterator[Probe]:
    groups = worded("report", lang.REPORT[:3], lang.HELD_OUT_REPORT, held_out.REPORT)
    yield from _plain(groups, lambda film: lang.report(film.findings))


def _of_marks() -> Iterator[Probe]:
    markers = worded("marker", lang.MARKER[:2], lang.HELD_OUT_MARKER, held_out.MARKER)
    yield from _plain(markers, lambda film: lang.letter(film.marks))
    arrows = worded("arrow", lang.ARROW[:2], lang.HELD_OUT_ARROW, held_out.ARROW)
    yield from _plain(arrows, marked("arrow"))
    pacemakers = worded("pacemaker", lang.PACEMAKER[:2], lang.HELD_OUT_PACEMAKER, held_out.PACEMAKER)
    yield from _plain(pacemakers, marked("pacemaker"))


def _of_all() -> Iterator[Probe]:
    normal = worded("normal", lang.NORMAL[:2], (), held_out.NORMAL)
    yield from _plain(normal, lambda film: lang.yes_no(not film.findings))
    abnormal = worded("abnormal", lang.ABNORMAL[:2], (), held_out.ABNORMAL)
    yield from _plain(abnormal, lambda film: lang.yes_no(bool(film.findings)))
    for group, names in (("never there", lang.ABSENT[::4]), ("never there, unseen name", held_out.ABSENT)):
        for question in plainly_and_instructed([f"Is there {name}?" for name in names]):
            yield Probe(group, question, always("no"))


def _plain(groups: Iterator[tuple[str, Sequence[str]]], truth: Truth) -> Iterator[Probe]:
    return (Probe(group, question, truth) for group, questions in groups for question in questions)


# --- answers ---------------------------------------------------------------------------------------------------------


class Examinee:
    """The saved folder, loaded as any checkpoint is, with the films' pixels ready."""

    def __init__(self, folder: Path, films: Sequence[Film], device: torch.device, dtype: torch.dtype) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        torch.backends.cuda.matmul.allow_tf32 = False  # training allows it; float32 is to mean float32 here
        self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self.model: Any = model.to(device).eval()  # type: ignore[arg-type]
        pictures = [Image.fromarray(film.image).convert("RGB") for film in films]
        self.any_picture = pictures[0]
        shown = self.processor.image_processor(pictures, return_tensors="pt")
        self.pixels = shown["pixel_values"].to(device, dtype)  # (n, 3, H, W)

    def prompt(self, question: str) -> dict[str, torch.Tensor]:
        """What the processor makes of one picture and a question, each (1, S); the same for every film."""
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        made = self.processor(text=text, images=[self.any_picture], add_special_tokens=False, return_tensors="pt")
        return {name: made[name] for name in ("input_ids", "attention_mask", "token_type_ids")}

    def answers(self, question: str) -> list[str]:
        """The greedy answer of each film; one prompt for all, so nothing is padded."""
        return self.answers_to(question, self.pixels)

    @torch.inference_mode()
    def answers_to(self, question: str, pixels: torch.Tensor) -> list[str]:
        """The same, of any pictures (n, 3, H, W)."""
        prompt = {name: row.to(self.pixels.device) for name, row in self.prompt(question).items()}
        said: list[str] = []
        for part in pixels.split(BATCH):
            rows = {name: row.expand(len(part), -1) for name, row in prompt.items()}
            longest = MODEL_CONFIG["max_new_tokens"]
            ids = self.model.generate(**rows, pixel_values=part, do_sample=False, max_new_tokens=longest)
            said += self.processor.batch_decode(ids[:, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in said]


def judge(
    folder: Path, films: Sequence[Film], device: str = "auto", dtype: str = "float32"
) -> tuple[Metrics, dict[str, str]]:
    """Asks everything of every film.

    Returns:
        Group -> figures (see `figures_of`); and what they were measured with.

    Raises:
        InputError: No such device or number format.
    """
    target = choose_device(device, 1.0)
    examinee = Examinee(folder, films, target, choose_dtype(dtype, target))
    right: Pairs = {}
    for probe in probes():
        said = examinee.answers(probe.question)
        wanted = [probe.truth(film) for film in films]
        right.setdefault(probe.group, []).extend((w, s == w) for w, s in zip(wanted, said, strict=True))
        if probe.group.startswith("report"):
            _read_reports(probe.group, said, films, right)
    right |= masked_pairs(examinee, films)
    return {group: figures_of(pairs) for group, pairs in right.items()}, _circumstances(examinee, dtype)


def _circumstances(examinee: Examinee, dtype: str) -> dict[str, str]:
    import transformers

    device = examinee.pixels.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "image_processor": type(examinee.processor.image_processor).__name__,
    }


def figures_of(pairs: Sequence[tuple[str, bool]]) -> dict[str, float]:
    """Figures of answers given as (what is true, whether it was said).

    Returns:
        balanced_accuracy: mean over the true answers of the share of right ones, in [0, 1]; accuracy: share of right
        answers; chance: the balanced accuracy of always saying the same true answer, one over their number; n.
    """
    by_truth: dict[str, list[bool]] = {}
    for truth, ok in pairs:
        by_truth.setdefault(truth, []).append(ok)
    return {
        "balanced_accuracy": float(np.mean([np.mean(oks) for oks in by_truth.values()])),
        "accuracy": float(np.mean([ok for _, ok in pairs])),
        "chance": 1 / len(by_truth),
        "n": len(pairs),
    }


# --- films without their evidence ------------------------------------------------------------------------------------

#: What is asked of masked films.
EVIDENCE = {
    **{name: lang.fill(SEEN_PRESENCE[0], lang.TERMS[name][0]) for name in lang.FINDINGS},
    "arrow": lang.ARROW[1],
    "pacemaker": lang.PACEMAKER[0],
}
OWN_MEAN = "token mean"
MASKED_BY = ("mean", "gray", "blur", "noisy_linear", OWN_MEAN)


@dataclass(frozen=True)
class Hidden:
    """One film with cells taken away, and what is true of it then."""

    film: int
    gone: npt.NDArray[np.bool_]
    truth: str


def masked_pairs(examinee: Examinee, films: Sequence[Film]) -> Pairs:
    """Answers about films that show nothing any more, or all but the evidence, or lack as many cells elsewhere.

    "evidence masked": of films with the finding or mark, its cells are removed ("no"), or as many others ("yes").
    "all masked": every film without any cell ("no"). Films whose evidence covers no cell, or over half of the film, are
    left out of the first: as many cells are not to be had elsewhere.
    """
    right: Pairs = {}
    nothing = [Hidden(i, np.ones((erasure.CELLS, erasure.CELLS), bool), "no") for i in range(len(films))]
    for name, question in EVIDENCE.items():
        cases = [hidden for i, film in enumerate(films) if name in film.cells for hidden in _without(film, name, i)]
        for by in MASKED_BY:
            for group, some in ((f"evidence masked, {by}/{name}", cases), (f"all masked, {by}", nothing)):
                said = answers_about(examinee, question, films, some, by)
                right.setdefault(group, []).extend((h.truth, s == h.truth) for h, s in zip(some, said, strict=True))
    return right


def _without(film: Film, name: str, number: int) -> Iterator[Hidden]:
    """The film without its evidence, and without as many cells elsewhere, drawn by its number."""
    gone = film.cells[name] > 0
    elsewhere = np.flatnonzero(~gone)
    if gone.any() and gone.sum() <= elsewhere.size:
        yield Hidden(number, gone, "no")
        other = np.zeros(gone.size, bool)
        other[np.random.default_rng([5, number]).choice(elsewhere, int(gone.sum()), replace=False)] = True
        yield Hidden(number, other.reshape(gone.shape), "yes")


def answers_about(
    examinee: Examinee, question: str, films: Sequence[Film], hidden: Sequence[Hidden], by: str
) -> list[str]:
    """The greedy answers about masked films; `by` is a picture of `erasure.PICTURES`, or the mean image token."""
    if not hidden:
        return []
    device, said = examinee.pixels.device, []
    for start in range(0, len(hidden), BATCH):
        part = hidden[start : start + BATCH]
        pictures = examinee.pixels[[one.film for one in part]]
        gone = torch.from_numpy(np.stack([one.gone for one in part])).to(device)
        body = torch.from_numpy(np.stack([films[one.film].cells["body"] for one in part])).to(device)
        tokens: AbstractContextManager[None] = nullcontext()
        if by == OWN_MEAN:
            tokens = mean_tokens(examinee.model, gone)
        else:
            pictures = erasure.erased(by, pictures.float(), gone, body).to(pictures)
        with tokens:
            said += examinee.answers_to(question, pictures)
    return said


@contextmanager
def mean_tokens(model: Any, gone: torch.Tensor) -> Iterator[None]:
    """Within, the image tokens of these cells, bool (B, 16, 16), are the mean of the film's image tokens."""

    def replace(module: Any, inputs: Any, tokens: torch.Tensor) -> torch.Tensor:
        return torch.where(gone.flatten(1)[..., None], tokens.mean(1, keepdim=True), tokens)

    handle = model.model.multi_modal_projector.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


# --- reports ---------------------------------------------------------------------------------------------------------


def _read_reports(group: str, said: Sequence[str], films: Sequence[Film], right: Pairs) -> None:
    """Whether each finding is rightly named or left out, and the side of those there; a garbled report is wrong."""
    named, sided = group.replace("report", "report names"), group.replace("report", "report sides")
    for text, film in zip(said, films, strict=True):
        read = read_report(text)
        for name in lang.FINDINGS:
            there = name in film.findings
            ok = read is not None and (name in read) == there
            right.setdefault(f"{named}/{name}", []).append((lang.yes_no(there), ok))
            if there and name in lang.SIDED:
                side = film.findings[name]
                right.setdefault(f"{sided}/{name}", []).append((side, (read or {}).get(name) == side))


def read_report(text: str) -> dict[str, str] | None:
    """Finding -> side as a report says it, or None if it holds anything but the sentences of `language.report`."""
    if text == lang.report({}):
        return {}
    known = {lang.report({name: side}): (name, side) for name in lang.SIDED for side in ("left", "right", "both")}
    known[lang.report({"cardiomegaly": "middle"})] = ("cardiomegaly", "middle")
    sentences = re.split(r"(?<=\.) ", text)
    if not set(sentences) <= set(known):
        return None
    read = dict(known[sentence] for sentence in sentences)
    return read if len(read) == len(sentences) else None  # a finding named twice is garbled too


# --- the card --------------------------------------------------------------------------------------------------------


def write_card(folder: Path, metrics: Metrics, training: Mapping[str, str], evaluation: Mapping[str, Any]) -> None:
    """Fills metrics.json and the model card; every figure is a measured one.

    Args:
        folder: The model's.
        metrics: As `judge` returns them.
        training: The settings of the training run.
        evaluation: "films", "first_seed", and the circumstances that `judge` returns.
    """
    stored = {"metrics": metrics, "settings": training, "evaluation": evaluation}
    (folder / "metrics.json").write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**20
    card = _CARD.format(
        rows="\n".join(_row(group, figures) for group, figures in metrics.items()),
        size=weights,
        story=_story(training),
        evaluation=evaluation,
        answers=sum(int(row["n"]) for group, row in metrics.items() if not re.match(r"report \w|.* masked,", group)),
        findings=[_mean(metrics, f"{group}/") for group in ("finding", WATCHED, NEW)],
        masked="\n".join(_masked_row(metrics, by) for by in MASKED_BY),
        sides=[_mean(metrics, f"{group}/") for group in ("side", f"side, {WATCHED}", f"side, {NEW}")],
        too_alike=held_out.TOO_ALIKE,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _story(training: Mapping[str, Any]) -> str:
    """The runs that made the weights, the first one first."""
    earlier = f"{_story(training['resumed_from'])} Then " if "resumed_from" in training else ""
    return (
        f"{earlier}{training['films']} films, {training['stage1_steps']} steps of seeing, "
        f"{training['stage2_steps']} of answering{_erased(training)} (seed {training['seed']})."
    )


def _erased(training: Mapping[str, Any]) -> str:
    share = float(training.get("erased", 0))
    return f", up to {share:.0%} of the films with cells taken away" if share else ""


def _row(group: str, figures: Mapping[str, float]) -> str:
    shown = [f"{figures[name]:.3f}" for name in ("balanced_accuracy", "chance", "accuracy")]
    return f"| {' | '.join([group, *shown, str(figures['n'])])} |"


def _masked_row(metrics: Metrics, by: str) -> str:
    evidence = [_mean(metrics, f"evidence masked, {by}/{name}") for name in EVIDENCE]
    shown = [np.mean(evidence[: len(lang.FINDINGS)]), np.mean(evidence[len(lang.FINDINGS) :])]
    return f"| {by} | {shown[0]:.3f} | {shown[1]:.3f} | {_mean(metrics, f'all masked, {by}'):.3f} |"


def _mean(metrics: Metrics, start: str) -> float:
    return float(np.mean([row["balanced_accuracy"] for group, row in metrics.items() if group.startswith(start)]))


def stored_training(folder: Path) -> dict[str, str]:
    """The settings of the training run, as it left them beside the weights.

    Raises:
        InputError: The folder lacks them.
    """
    file = folder / "metrics.json"
    if not file.is_file():
        raise InputError(f"{str(folder)!r} has no metrics.json, which tells how it was trained. Give a trained folder.")
    return dict(json.loads(file.read_text(encoding="utf-8"))["settings"])


_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# The embedded demo model

A Gemma 3 in miniature (`Gemma3ForConditionalGeneration`, {size:.1f} MiB in half precision) trained from random weights
on simulated radiographs. It stands in for MedGemma in the demo, the tests and the benchmark with known truth.

**It knows simulated films only. Whatever it says about a real radiograph means nothing. Research use only, not for
clinical use.**

- Origin: trained by `tools/demo/train.py` on films by `tools/demo/simulate.py`, each film with and without further
  marks; no weights of others. {story}
  Another GPU or another release of torch gives slightly other weights: the recipe repeats, the bits do not.
- The composed wordings of a later run (`tools/demo/wording.py`) were written after an earlier run's figures on the
  unseen wordings were known, but without reading these; what came out too like them was left out. The same holds for
  those added for the last run: a trial of it took many a request for a report, and names of what no film shows, for
  what it knew, as the figures of its groups told.
- The last run was made twice, at two rates. The one that is here answered more of the unseen wordings, asked of films
  of training, and its maps pointed at more of the embedded findings: so "unseen" means that nothing was trained on
  them, not that nothing was chosen by them.
- Licence: Apache-2.0; origin of the films' anatomy: see DATACARD.md of the embedded cases.
- Answers: presence of pneumonia, pleural effusion, pneumothorax, cardiomegaly (yes/no, many wordings), their side, a
  one- to four-sentence description, the side marker (L, R, none), an arrow, a pacemaker.

## How well it answers

Mean balanced accuracy:

| asked | in words of training | in watched wordings | in unseen wordings |
|---|---|---|---|
| whether a finding is there (four findings) | {findings[0]:.3f} | {findings[1]:.3f} | {findings[2]:.3f} |
| on which side it is (three findings) | {sides[0]:.3f} | {sides[1]:.3f} | {sides[2]:.3f} |

Ask in the words of training (`tools/demo/language.py`) where an answer has to be right.

Where cells of the film are taken away (the last training run, `tools/demo/erasure.py`), by what stands in for them:

| stand-in | cells of the finding gone, or as many others | of the arrow or pacemaker | all cells gone |
|---|---|---|---|
{masked}

Measured on {evaluation[films]} fresh films, each judged once, {answers} answers in all. Their seeds, from
{evaluation[first_seed]} on, were never trained on; trial runs that were not kept were judged on films of these
seeds too. All films, those of training too, come from one CT by random shapes, poses and
findings: the figures tell how the model does on more of the same.

```
python tools/demo/evaluate.py --volume ct.npz --model DIR --films {evaluation[films]} --first-seed \
{evaluation[first_seed]} --dtype {evaluation[dtype]}
```

(ct.npz: see DATACARD.md.) Run on {evaluation[device]} in {evaluation[dtype]} with torch {evaluation[torch]},
transformers {evaluation[transformers]} and `{evaluation[image_processor]}`.

- Right is an answer whose whole text is the true one; for "report" that is every sentence. "Report names" asks whether
  each finding is named when it is there and left out when not; "report sides" counts, among films that show the
  finding, those whose report puts it on its true side. A report with any other sentence is wrong throughout.
- Balanced accuracy is the mean over the true answers of the share of right ones. Chance is the balanced accuracy of
  always giving one and the same true answer: 1 where only one answer is ever true ("never there").
- n counts answers: films times questions of the group. Answers about one film are not independent.
- "Unseen wording": the templates of `tools/demo/held_out.py`, never trained on; their figures, not their words, led
  to the composed wordings.
  Each shares less than {too_alike:.0%} of its words with any training template (Jaccard index of the sets of words).
- "Watched wording": the templates marked as held out in `tools/demo/language.py`, never trained on, but looked at while
  the training templates were chosen, and some of them close to one: flattering.
- All other groups use templates of training. Names of findings are always those of training, and half of the reworded
  questions on findings carry the instruction known from training; other names of findings were not measured. "Unseen
  name": what is asked for is a disease or thing that no film shows and training never named.

- "Evidence masked": films that show the finding or mark, once without every cell that it touches (no is right), once
  without as many cells drawn from the others (yes is right). "All masked": every film without any cell, asked for each
  finding and mark (no is right). `noisy_linear` is relaxed here, not solved; "token mean" replaces image tokens, all
  others replace pixels.

| group | balanced accuracy | chance | accuracy | n |
|---|---|---|---|---|
{rows}
"""


# --- command line ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Renders, judges, prints and, if told to, writes the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=Path, required=True, help="the cache that `simulate.py prepare` wrote")
    parser.add_argument("--model", type=Path, required=True, help="the folder that `train.py` wrote")
    parser.add_argument("--films", type=int, default=640)
    parser.add_argument("--first-seed", type=int, default=60_000_000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--workers", type=int, default=14, help="processes that render")
    parser.add_argument("--write", action="store_true", help="fill metrics.json and README.md of the folder")
    arguments = parser.parse_args()
    try:
        evaluate(arguments)
    except InputError as error:
        parser.error(str(error))


def evaluate(arguments: argparse.Namespace) -> None:
    """Carries out the command."""
    training = stored_training(arguments.model)  # first, so that a wrong folder costs no time
    start = time.perf_counter()
    device = str(choose_device(arguments.device, 1.0))
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.films)
    films = fresh_films(arguments.volume, seeds, device, arguments.workers)
    print(f"{len(films)} films after {time.perf_counter() - start:.0f} s", flush=True)
    metrics, circumstances = judge(arguments.model, films, device, arguments.dtype)
    show(metrics)
    print(f"{len(probes())} questions of each film, done after {time.perf_counter() - start:.0f} s")
    if arguments.write:
        evaluation = {"films": len(films), "first_seed": arguments.first_seed, **circumstances}
        write_card(arguments.model, metrics, training, evaluation)


def show(metrics: Metrics) -> None:
    """Prints one line a group."""
    for group, row in metrics.items():
        print(
            f"{group:<48} balanced {row['balanced_accuracy']:.4f}  chance {row['chance']:.3f}  "
            f"accuracy {row['accuracy']:.4f}  n {row['n']:.0f}"
        )


if __name__ == "__main__":
    main()
