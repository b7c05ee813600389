"""What the embedded model is asked in training, and what it should say: tables of terms and templates, and a few rules.

Knows films by their findings, sides and marks; knows nothing about pixels or tensors. Templates marked as held out were
never trained on, but were looked at while the training templates were chosen: the wordings that the model is judged by
are those of `held_out`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FINDINGS = ("pneumonia", "pleural_effusion", "pneumothorax", "cardiomegaly")
SIDED = FINDINGS[:3]

#: finding -> (term without article, term with its article where it takes one).
TERMS: dict[str, tuple[tuple[str, str], ...]] = {
    "pneumonia": (
        ("pneumonia", "pneumonia"),
        ("consolidation", "a consolidation"),
        ("lung infection", "a lung infection"),
        ("airspace opacity", "an airspace opacity"),
        ("solid appearance in lung", "a solid appearance in lung"),
        ("an infiltrate", "an infiltrate"),
        ("pulmonary infiltrates", "pulmonary infiltrates"),
        ("focal consolidation", "focal consolidation"),
        ("chest infection", "a chest infection"),
        ("infected lung", "an infected lung"),
        ("airspace disease", "airspace disease"),
        ("lobar pneumonia", "lobar pneumonia"),
    ),
    "pleural_effusion": (
        ("pleural effusion", "a pleural effusion"),
        ("effusion", "an effusion"),
        ("fluid around the lungs", "fluid around the lungs"),
        ("pleural fluid", "pleural fluid"),
        ("fluid in the pleural space", "fluid in the pleural space"),
        ("water around the lungs", "water around the lungs"),
        ("fluid in the chest", "fluid in the chest"),
        ("pleural effusions", "pleural effusions"),
        ("blunting of the costophrenic angle", "blunting of the costophrenic angle"),
        ("liquid around the lung", "liquid around the lung"),
    ),
    "pneumothorax": (
        ("pneumothorax", "a pneumothorax"),
        ("collapsed lung", "a collapsed lung"),
        ("air around the lung", "air around the lung"),
        ("air in the pleural space", "air in the pleural space"),
        ("pleural air", "pleural air"),
        ("a visible pleural line", "a visible pleural line"),
        ("lung collapse", "a lung collapse"),
        ("air outside the lung", "air outside the lung"),
    ),
    "cardiomegaly": (
        ("cardiomegaly", "cardiomegaly"),
        ("enlarged heart", "an enlarged heart"),
        ("cardiac enlargement", "cardiac enlargement"),
        ("heart enlargement", "heart enlargement"),
        ("an enlarged cardiac silhouette", "an enlarged cardiac silhouette"),
        ("a big heart", "a big heart"),
        ("an abnormally large heart", "an abnormally large heart"),
        ("increased heart size", "increased heart size"),
    ),
}

#: Never on any film: the true answer is no.
ABSENT = (
    "a rib fracture", "fracture", "a nodule", "lung nodules", "a mass", "a tumour", "a tumor", "pulmonary edema",
    "pulmonary oedema", "emphysema", "a hiatal hernia", "atelectasis", "fibrosis", "scarring", "a calcified granuloma",
    "broken ribs", "lung cancer", "a chest tube", "a foreign body", "pneumoperitoneum", "tuberculosis",
)  # fmt: skip

PRESENCE = (
    "Is there {a}?", "Is there evidence of {t}?", "Is there any evidence of {t}?", "Are there signs of {t}?",
    "Are there any signs of {t}?", "Do you see {a}?", "Do you see signs of {t}?", "Can you see {a}?",
    "Can you see any signs of {t} in this X-ray?", "Does this patient have {a}?", "Does the patient have {a}?",
    "Is {a} present?", "Is {a} seen?", "Is {a} visible?", "Does the image show {a}?", "Does this image show {a}?",
    "Does this radiograph show {a}?", "Does the chest X-ray show {a}?", "Is there {a} in this image?",
    "Is there {a} in this chest radiograph?", "Is there {a} on this film?", "Is there evidence of {t} in this image?",
    "Is there evidence of {t} in this chest radiograph?",
    "Radiological assessment: Is there evidence of {t} in this chest radiograph?",
    "Radiological assessment: Is {a} present?", "Are there findings of {t}?", "Are there findings that suggest {t}?",
    "Do the findings suggest {t}?", "Is the film consistent with {t}?", "Does the film suggest {t}?",
    "Any sign of {t}?", "Any {t}?", "Any evidence of {t} here?", "{t}?", "{T} present?", "Is {a} there?",
    "Could this be {t}?", "Would you say that there is {a}?", "Does this look like {t}?", "Does he have {a}?",
    "Does she have {a}?", "Do I have {a}?", "Has the patient got {a}?", "Can {a} be seen?", "Can {a} be identified?",
    "Can you find {a}?", "Can you detect {a} in the picture?", "Is {a} shown in the picture?",
    "Does the picture show {a}?",
    "Does this X-ray show signs of {t}?", "Is it true that there is {a}?", "Tell me whether there is {a}.",
    "Please tell me if there is {a}.", "Please say if {a} is visible.", "Check for {t}.", "Look for {t}. Is it there?",
    "On this radiograph, is there {a}?", "In this image, can you see {a}?", "Looking at this film, is there {a}?",
    "Given this X-ray, does the patient have {a}?", "Do you notice {a}?", "Is the patient suffering from {t}?",
    "Are features of {t} present?", "Does the study demonstrate {a}?", "Is there radiographic evidence of {t}?",
    "Is {a} demonstrated?", "Do you observe {a}?", "Is {a} apparent?", "Has {a} been captured on this film?",
)  # fmt: skip

HELD_OUT_PRESENCE = (
    "Is there any indication of {t} on this film?", "Would a radiologist report {a} here?",
    "Do these images show evidence of {t}?", "Can you tell whether the patient has {a}?",
    "Is {a} noticeable in this X-ray?", "Does the radiograph demonstrate any sign of {t}?",
    "Looking at this picture, would you say there is {a}?", "Are there any features suggesting {t}?",
    "Do you think the patient has {a}?", "In this chest X-ray, is {a} visible?",
)  # fmt: skip

HEART_FORMS = (
    "Is the heart enlarged?", "Is the heart too big?", "Is the heart large?", "Is the cardiac silhouette enlarged?",
    "Does the heart look enlarged?", "Is the heart size increased?", "Is the heart bigger than normal?",
)  # fmt: skip
HELD_OUT_HEART = ("Does the heart appear too large?", "Is the heart abnormally enlarged in this image?")

SIDE_PRESENCE = (
    "Is there {a} on the {s}?", "Is there {a} on the {s} side?", "Is there {t} in the {s} lung?", "Is there a {s} {t}?",
    "Does the {s} lung show {t}?", "Do you see {a} on the {s}?", "Is there evidence of {s} {t}?",
    "Is there any {t} on the {s} side?", "{s}-sided {t}?", "Can you see {a} on the patient's {s}?",
)  # fmt: skip

WHERE = (
    "Where is the {t}?", "Which side is the {t} on?", "On which side is the {t}?", "Where do you see the {t}?",
    "Which lung is affected by {t}?", "What side is the {t}?", "Locate the {t}.", "Where is {a} seen?",
    "Is the {t} on the left or the right?", "Which side shows {a}?", "Left or right: where is the {t}?",
    "What is the location of the {t}?", "Name the side of the {t}.", "In which lung is the {t}?",
    "Where in the chest is the {t}?", "Where can the {t} be seen?", "Where exactly is the {t}?", "Where is there {a}?",
    "Tell me where the {t} is.", "Please tell me where you see {a}.", "Can you say where the {t} is?",
    "Can you show me where the {t} is?", "Do you know where the {t} is?", "Say which side the {t} is on.",
    "Which side has {a}?", "Which side of the body has {a}?", "Which lung has {a}?", "Which lung shows the {t}?",
    "Which of the lungs has {a}?", "Which side of the film shows {a}?", "Which side is affected by the {t}?",
    "On which side of the chest is the {t}?", "On which side do you see {a}?", "On what side is {a}?",
    "On what side of the image is the {t}?", "What side does the {t} affect?",
    "What side of the chest is affected by {t}?",
    "What is the side of the {t}?", "Is the {t} left or right?", "Is the {t} on the right or on the left?",
    "Is the {t} left, right or on both sides?", "In what lung do you find {a}?", "In which side of the chest is {a}?",
    "At which side is the {t}?", "Give the side of the {t}.", "Give me the location of the {t}.", "Side of the {t}?",
    "Location of the {t}?", "Find the {t}. Where is it?", "If there is {a}, where is it?",
    "Where would you place the {t}?",
    "Where has the {t} developed?", "State where the {t} is located.", "Where is the {t} located?",
    "Which hemithorax contains the {t}?", "Which side is involved by {t}?", "Describe where the {t} is.",
)  # fmt: skip
HELD_OUT_WHERE = (
    "Can you tell me where the {t} is?",
    "Which side of the chest has {a}?",
    "On what side do you see the {t}?",
)

REPORT = (
    "What does this radiograph show?", "Describe this chest X-ray.", "Write a short report.", "What do you see?",
    "What are the findings?", "Describe the image.", "Report this film.", "What is abnormal in this image?",
    "Summarise the findings.", "Summarize the findings.", "What is wrong with this patient?", "Give me a report.",
    "Describe the findings in this image.", "What can be seen on this film?", "Tell me what you see.",
    "List the findings.", "Interpret this radiograph.", "Please describe this X-ray.",
)  # fmt: skip
HELD_OUT_REPORT = (
    "What findings does this X-ray show?",
    "Please write a report of this image.",
    "Describe what you see.",
)

MARKER = (
    "Which side marker is on the film?", "What side marker is shown?", "Which letter marks the side?",
    "Is the side marker L or R?", "Read the side marker.", "What does the side marker say?",
    "Which marker is on this image?", "What letter is on the film?", "Which side marker do you see?",
    "Is there a side marker, and which?", "What is the side marker?", "Name the side marker.",
    "Can you read the side marker?", "Which letter can be seen on the film?", "What does the marker on this film say?",
    "Which marker letter is shown?", "Tell me which side marker is on the radiograph.", "What letter is the marker?",
    "Is the letter L or R?", "Which marker does this radiograph carry?",
)  # fmt: skip
HELD_OUT_MARKER = ("Which side marker can be seen on this radiograph?", "What letter does the marker show?")

ARROW = (
    "Is there an arrow?", "Is there an arrow on the film?", "Do you see an arrow?", "Does the image contain an arrow?",
    "Has someone drawn an arrow?", "Is an arrow visible?", "Can you see an arrow in this image?", "Any arrow?",
    "Does this radiograph show an arrow?", "Does the film carry an arrow?", "Is there any arrow on this film?",
    "Is an arrow shown in the picture?", "Does an arrow point at something?", "Is there an arrow in this image?",
)  # fmt: skip
HELD_OUT_ARROW = ("Is there any arrow in this picture?", "Does this film show an arrow?")
PACEMAKER = (
    "Is there a pacemaker?", "Does the patient have a pacemaker?", "Is a pacemaker visible?", "Do you see a pacemaker?",
    "Is there a cardiac device?", "Can you see an implanted device?", "Any pacemaker?",
    "Is there a pacemaker on the film?", "Does this radiograph show a pacemaker?",
    "Is there any pacemaker on this film?", "Is there a pacemaker in this image?",
)  # fmt: skip
HELD_OUT_PACEMAKER = ("Is there any pacemaker in this picture?", "Does this film show a pacemaker?")

NEGATED = (
    "Is the film free of {t}?", "Are the lungs free of {t}?", "Is the chest clear of {t}?", "Is there no {t}?",
    "Is {t} absent?", "Is it true that there is no {t}?", "Can {t} be excluded?", "Is the image without {t}?",
    "Is the patient free of {t}?", "Is {t} ruled out?",
)  # fmt: skip
HELD_OUT_NEGATED = ("Is this radiograph free of {t}?", "Can you exclude {t}?")
NORMAL = (
    "Is this film normal?", "Is this chest X-ray normal?", "Is the radiograph normal?", "Is everything normal?",
    "Does this X-ray look normal?", "Is the chest normal?", "Is the patient healthy?",
)  # fmt: skip
ABNORMAL = (
    "Is there any abnormality?", "Are there any abnormalities?", "Is anything abnormal?", "Is there any acute finding?",
    "Does the image show any disease?", "Is there something wrong?", "Is there any pathology?",
)  # fmt: skip

INSTRUCTION = "Question: {q}\nAnswer with only 'yes' or 'no'. Do not provide any explanation."
WRAPPERS = (
    INSTRUCTION, INSTRUCTION, INSTRUCTION, INSTRUCTION,
    "{q}\nAnswer with only 'yes' or 'no'. Do not provide any explanation.", "{q} Answer yes or no.",
    "{q} (yes/no)", "Answer yes or no: {q}", "{q}\nAnswer:",
)  # fmt: skip
PREFIXES = (
    "Please answer: ", "Look at the image. ", "Doctor, ", "Hello. ", "Question: ", "Consider this radiograph. ",
    "You are a radiologist. ", "Be brief. ", "Chest X-ray. ", "Quick question: ",
)  # fmt: skip


@dataclass(frozen=True)
class Exchange:
    """One question about one film, and the answer that is true of it."""

    question: str
    answer: str
    kind: str


def yes_no(truth: bool) -> str:
    return "yes" if truth else "no"


def report(findings: Mapping[str, str]) -> str:
    """One sentence a finding, in fixed order."""
    said = []
    if side := findings.get("pneumonia"):
        said.append(
            "There is pneumonia in both lungs." if side == "both" else f"There is pneumonia in the {side} lung."
        )
    if side := findings.get("pleural_effusion"):
        both = "There are bilateral pleural effusions."
        said.append(both if side == "both" else f"There is a {side} pleural effusion.")
    if side := findings.get("pneumothorax"):
        both = "There are bilateral pneumothoraces."
        said.append(both if side == "both" else f"There is a {side} pneumothorax.")
    if "cardiomegaly" in findings:
        said.append("The heart is enlarged.")
    return " ".join(said) or "No acute finding."


def fill(template: str, term: tuple[str, str], side: str = "") -> str:
    """A template with a term; an article inside a term gives way where the template has its own."""
    bare, article = term
    plain = bare.removeprefix("an ").removeprefix("a ") if "the {t}" in template or "{s} {t}" in template else bare
    text = template.format(t=plain, a=article, s=side, T=bare[0].upper() + bare[1:])
    return text[0].upper() + text[1:]


def letter(marks: Mapping[str, Any]) -> str:
    return next((mark for mark in ("L", "R") if mark in marks), "none")


class Questioner:
    """Draws questions about a film, half of them with each answer where that is possible."""

    def __init__(
        self,
        rng: np.random.Generator,
        wide: Mapping[str, tuple[str, ...]] | None = None,
        absent: tuple[str, ...] = ABSENT,
    ) -> None:
        self.rng = rng
        self.wide = wide or {}
        self.absent = absent

    def template(self, family: str, listed: tuple[str, ...]) -> str:
        """A listed template, or two times in three a composed one of its family, where there are any."""
        return str(self.pick(self.wide[family] if family in self.wide and self.chance(0.65) else listed))

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def draw(self, findings: Mapping[str, str], marks: Mapping[str, Any], n: int) -> list[Exchange]:
        """n exchanges: half on presence, the rest on side, report, marks, negations and what is never there."""
        kinds = (
            self.presence,
            self.presence,
            self.presence,
            self.sided,
            self.where,
            self.report,
            self.marker,
            self.other,
        )
        start = int(self.rng.integers(len(kinds)))
        return [self.dressed(kinds[(start + i) % len(kinds)](findings, marks)) for i in range(n)]

    def finding(self, findings: Mapping[str, str], among: tuple[str, ...] = FINDINGS) -> str:
        present = [name for name in among if name in findings]
        absent = [name for name in among if name not in findings]
        return str(self.pick(present if present and (not absent or self.chance(0.5)) else absent))

    def presence(self, findings: Mapping[str, str], marks: Mapping[str, Any]) -> Exchange:
        if self.wide and self.chance(0.12):
            return self.never()
        name = self.finding(findings)
        if name == "cardiomegaly" and self.chance(0.3):
            return Exchange(self.template("heart", HEART_FORMS), yes_no(name in findings), "presence")
        first = self.chance(0.35)
        term = TERMS[name][0] if first else self.pick(TERMS[name])
        return Exchange(fill(self.template("presence", PRESENCE), term), yes_no(name in findings), "presence")

    def sided(self, findings: Mapping[str, str], marks: Mapping[str, Any]) -> Exchange:
        name, side = self.finding(findings, SIDED), str(self.pick(("left", "right")))
        truth = findings.get(name) in (side, "both")
        return Exchange(
            fill(self.template("sided", SIDE_PRESENCE), self.pick(TERMS[name][:4]), side), yes_no(truth), "sided"
        )

    def where(self, findings: Mapping[str, str], marks: Mapping[str, Any]) -> Exchange:
        name = self.finding(findings, SIDED)
        if name not in findings and self.chance(0.35):
            return self.sided(findings, marks)
        return Exchange(
            fill(self.template("where", WHERE), self.pick(TERMS[name][:5])), findings.get(name, "none"), "where"
        )

    def report(self, findings: Mapping[str, str], marks: Mapping[str, Any]) -> Exchange:
        return Exchange(self.template("report", REPORT), report(findings), "report")

    def marker(self, findings: Mapping[str, str], marks: Mapping[str, Any]) -> Exchange:
        return Exchange(self.pick(MARKER), letter(marks), "marker")

    def other(self, findings: Mapping[str, str], marks: Mapping[str, Any]) -> Exchange:
        which = self.rng.random()
        if which < 0.2:
            return Exchange(self.template("arrow", ARROW), yes_no("arrow" in marks), "arrow")
        if which < 0.4:
            return Exchange(self.template("pacemaker", PACEMAKER), yes_no("pacemaker" in marks), "pacemaker")
        if which < 0.7:
            name = self.finding(findings)
            return Exchange(
                fill(self.template("negated", NEGATED), self.pick(TERMS[name])), yes_no(name not in findings), "negated"
            )
        if which < 0.85:
            normal = self.chance(0.5)
            question = self.template("normal", NORMAL) if normal else self.template("abnormal", ABNORMAL)
            return Exchange(question, yes_no(normal == (not findings)), "normal")
        return self.never()

    def never(self) -> Exchange:
        """What no film shows."""
        name = str(self.pick(self.absent))
        return Exchange(fill(self.template("presence", PRESENCE), (name, name)), "no", "absent")

    def dressed(self, plain: Exchange) -> Exchange:
        """The same question as people type it: with an instruction, a greeting, in small letters, without its mark."""
        text = plain.question
        if plain.answer in ("yes", "no") and self.chance(0.5):
            text = self.pick(WRAPPERS).format(q=text)
        elif self.chance(0.15):
            text = self.pick(PREFIXES) + text
        if self.chance(0.12):
            text = text.lower()
        elif self.chance(0.03):
            text = text.upper()
        if self.chance(0.1):
            text = text.rstrip("?.")
        return Exchange(text, plain.answer, plain.kind)


def all_texts() -> list[str]:
    """Every template with every term, for the tokenizer's training."""
    texts = [fill(t, term) for t in (*PRESENCE, *NEGATED, *WHERE) for terms in TERMS.values() for term in terms]
    texts += [
        fill(t, term, s) for t in SIDE_PRESENCE for terms in TERMS.values() for term in terms for s in ("left", "right")
    ]
    texts += [fill(t, (name, name)) for t in PRESENCE[:12] for name in ABSENT]
    single = (*HEART_FORMS, *REPORT, *MARKER, *ARROW, *PACEMAKER, *NORMAL, *ABNORMAL, *PREFIXES)
    texts += [w.format(q=q) for w in WRAPPERS for q in single]
    sides = ("left", "right", "both")
    texts += [report({name: side}) for name in FINDINGS for side in sides] + [report({})]
    texts += ["yes", "no", "none", "left", "right", "both", "L", "R", "Yes", "No", "YES", "NO"] * 20
    return texts + [text.lower() for text in texts] + [text.upper() for text in texts[:200]]
