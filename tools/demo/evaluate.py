"""Judges the embedded model on fresh films, through the saved folder and the processor, and writes its card.

Every question is asked of every film, greedily. Balanced accuracy is the mean of the shares of right answers among
films where the true answer is yes, and where it is no.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import language as lang

_PLAIN = ("Is there evidence of {t}?", "Radiological assessment: Is there evidence of {t} in this chest radiograph?")
_SIMPLE = {
    "pneumonia": "lung infection",
    "pleural_effusion": "fluid around the lungs",
    "pneumothorax": "collapsed lung",
    "cardiomegaly": "enlarged heart",
}

Truth = Callable[[Mapping[str, Any]], str]


def _present(name: str) -> Truth:
    return lambda film: lang.yes_no(name in film["findings"])


def _absent(name: str) -> Truth:
    return lambda film: lang.yes_no(name not in film["findings"])


def questions() -> list[tuple[str, str, Truth]]:
    """(group, question, truth of a film)."""
    asked: list[tuple[str, str, Truth]] = []
    for name in lang.FINDINGS:
        term = lang.TERMS[name][0]
        plain = [lang.fill(template, term) for template in _PLAIN]
        plain.append(f"Can you see any signs of {_SIMPLE[name]} in this X-ray?")
        asked += [(f"finding/{name}", lang.INSTRUCTION.format(q=q), _present(name)) for q in plain]
        held = [lang.fill(t, lang.TERMS[name][i % 4]) for i, t in enumerate(lang.HELD_OUT_PRESENCE)]
        held += lang.HELD_OUT_HEART if name == "cardiomegaly" else ()
        asked += [(f"unseen wording/{name}", q, _present(name)) for q in held]
        asked += [("unseen negation", lang.fill(t, term), _absent(name)) for t in lang.HELD_OUT_NEGATED]
    for name in lang.SIDED:
        term = lang.TERMS[name][0]
        where: Truth = lambda film, name=name: film["findings"].get(name, "none")  # type: ignore[misc]
        asked += [
            (f"side/{name}", lang.fill(t, term), where) for t in (lang.WHERE[0], lang.WHERE[1], *lang.HELD_OUT_WHERE)
        ]
        for side in ("left", "right"):
            truth: Truth = lambda film, name=name, side=side: lang.yes_no(  # type: ignore[misc]
                film["findings"].get(name) in (side, "both")
            )
            asked.append((f"sided yes/no/{name}", lang.fill("Is there {a} on the {s}?", term, side), truth))
    asked += [
        ("report", q, lambda film: lang.report(film["findings"])) for q in (lang.REPORT[0], *lang.HELD_OUT_REPORT)
    ]
    asked += [("marker", q, lambda film: lang.letter(film["marks"])) for q in (lang.MARKER[0], *lang.HELD_OUT_MARKER)]
    asked += [
        ("arrow", q, lambda film: lang.yes_no("arrow" in film["marks"])) for q in (lang.ARROW[1], *lang.HELD_OUT_ARROW)
    ]
    asked += [
        ("pacemaker", q, lambda film: lang.yes_no("pacemaker" in film["marks"]))
        for q in (lang.PACEMAKER[0], *lang.HELD_OUT_PACEMAKER)
    ]
    asked += [
        ("never there", f"Is there {name}?", lambda film: "no") for name in ("a rib fracture", "a nodule", "emphysema")
    ]
    asked.append(("normal", lang.NORMAL[0], lambda film: lang.yes_no(not film["findings"])))
    return asked


@torch.inference_mode()
def judge(folder: Path, films: Any, device: str, batch: int = 240) -> dict[str, dict[str, float]]:
    """Group -> accuracy, balanced accuracy (for the groups with two answers or sides), n."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    right: dict[str, list[tuple[str, bool]]] = {}
    for group, question, truth in questions():
        said = ask(model, processor, films.images, question, batch)
        wanted = [truth(film) for film in films.about]
        right.setdefault(group, []).extend((w, s == w) for s, w in zip(said, wanted, strict=True))
    metrics = {group: _accuracy(pairs) for group, pairs in right.items()}
    for group, row in metrics.items():
        print(
            f"{group:<36} balanced {row['balanced_accuracy']:.4f}  accuracy {row['accuracy']:.4f}  n {row['n']:.0f}",
            flush=True,
        )
    return metrics


def _accuracy(pairs: list[tuple[str, bool]]) -> dict[str, float]:
    by_truth: dict[str, list[bool]] = {}
    for truth, ok in pairs:
        by_truth.setdefault(truth, []).append(ok)
    balanced = float(np.mean([np.mean(oks) for oks in by_truth.values()]))
    return {"balanced_accuracy": balanced, "accuracy": float(np.mean([ok for _, ok in pairs])), "n": float(len(pairs))}


def ask(model: Any, processor: Any, images: torch.Tensor, question: str, batch: int) -> list[str]:
    """One question of many films, uint8 (n, 224, 224): the same prompt for all, so no padding."""
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    text = text.replace(processor.boi_token, processor.full_image_sequence)
    ids = torch.tensor(processor.tokenizer(text, add_special_tokens=False)["input_ids"], device=model.device)
    said = []
    for part in images.split(batch):
        pixels = (part.to(model.device).float() / 127.5 - 1)[:, None].expand(-1, 3, -1, -1)
        rows = ids.expand(len(part), -1)
        out = model.generate(
            input_ids=rows, attention_mask=torch.ones_like(rows), pixel_values=pixels,
            token_type_ids=(rows == model.config.image_token_id).long(), do_sample=False, max_new_tokens=48,
        )  # fmt: skip
        said += processor.tokenizer.batch_decode(out[:, len(ids) :], skip_special_tokens=True)
    return [text.strip() for text in said]


def write_card(folder: Path, metrics: Mapping[str, Mapping[str, float]], settings: Mapping[str, str]) -> None:
    """metrics.json and the card; every figure is a measured one."""
    (folder / "metrics.json").write_text(json.dumps({"metrics": metrics, "settings": settings}, indent=2) + "\n")
    rows = "\n".join(
        f"| {group} | {row['balanced_accuracy']:.3f} | {row['accuracy']:.3f} | {row['n']:.0f} |"
        for group, row in metrics.items()
    )
    findings = [row["balanced_accuracy"] for group, row in metrics.items() if group.startswith("finding/")]
    sizes = sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 2**20
    (folder / "README.md").write_text(
        _CARD.format(rows=rows, mean=np.mean(findings), size=sizes, **settings), encoding="utf-8"
    )


_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# The embedded demo model

A Gemma 3 in miniature (`Gemma3ForConditionalGeneration`, {size:.1f} MiB in half precision) trained from random weights on
{films} simulated radiographs. It stands in for MedGemma in the demo, the tests and the benchmark with known truth.

**It knows simulated films only. Whatever it says about a real radiograph means nothing. Research use only, not for
clinical use.**

- Origin: trained by `tools/demo/train.py` (seed {seed}) on films by `tools/demo/simulate.py`; no weights of others.
- Licence: Apache-2.0; origin of the films' anatomy: see DATACARD.md of the embedded cases.
- Answers: presence of pneumonia, pleural effusion, pneumothorax, cardiomegaly (yes/no, many wordings), their side, a
  one- to four-sentence description, the side marker (L, R, none), an arrow, a pacemaker.
- Judged by `tools/demo/evaluate.py` on {test_films} fresh films whose seeds were never trained on. Mean balanced accuracy
  over the four findings: {mean:.3f}. "Unseen" wordings and negations are templates never used in training; for
  side, marker and report the rows mix seen and unseen wordings, and accuracy means the exact text.

| group | balanced accuracy | accuracy | n |
|---|---|---|---|
{rows}
"""
