"""Many more ways to say the same, composed from parts, so that the model answers what people really type.

A template too like a held-out one (`held_out.likeness`) is left out: those measure what training did not contain.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import product

import held_out
import language as lang

_PLACE = ("", " here", " in this image", " on this film", " in the picture", " on the X-ray", " in this scan")
_POLITE = (
    "Can you tell me",
    "Please say",
    "Tell me",
    "I would like to know",
    "Do you know",
    "Could you say",
    "I wonder",
)
_THINK = (
    "Do you think", "Would you say", "Do you believe", "Is it likely that", "Is it possible that",
    "Can you confirm that",
    "Is it correct that", "Am I right that", "Would you agree that", "Do you suspect that", "Does it seem that",
    "Does it look as if", "Would you guess that", "Are you confident that", "Is it fair to say that",
)  # fmt: skip
_WHETHER = (
    "Can you tell if",
    "Tell me if",
    "Let me know if",
    "Please check whether",
    "Say if",
    "Decide whether",
    "Judge if",
)
_STATED = (
    "there is {a}", "you see {a}", "the image shows {a}", "the film contains {a}", "the patient has {a}", "he has {a}",
    "this radiograph demonstrates {a}", "this is {t}", "{a} is present", "{a} can be seen",
    "this person suffers from {t}",
)  # fmt: skip
_FILM = (
    "the image", "this image", "the film", "this film", "the radiograph", "the X-ray", "the picture", "this scan",
    "the chest", "the study", "this exam",
)  # fmt: skip
_SHOWS = (
    "show", "demonstrate", "reveal", "depict", "display", "contain", "exhibit", "suggest", "include", "show signs of",
    "point to", "have", "give evidence of",
)  # fmt: skip
_SEEN = (
    "seen", "visible", "present", "noted", "detected", "recognisable", "suspected", "evident", "depicted", "found",
    "observable", "likely", "obvious", "displayed", "there", "identifiable", "shown",
)  # fmt: skip
_LIKE = (
    "typical of", "consistent with", "compatible with", "positive for", "suspicious for", "suggestive of", "a case of",
    "an example of", "indicative of", "diagnostic of",
)  # fmt: skip
_CLAIMS = (
    "I think I see {a}.",
    "There seems to be {a}.",
    "I suspect {t}.",
    "My colleague reports {t}.",
    "It may be {t}.",
)
_ASKED = ("Is that right?", "Do you agree?", "Is it there?", "Correct?", "Am I right?", "Can you confirm this?")
_SHORTLY = ("What about", "Any chance of", "Signs of", "Evidence of", "Could it be", "Any suspicion of", "Is it", "Got")
_WHAT_IT_IS = ("a finding here", "the diagnosis", "among the findings", "part of your impression", "the problem here")
_WORRY = ("think of", "worry about", "expect", "consider", "report", "treat", "reckon with", "be concerned about")
_DO = ("see", "find", "detect", "identify", "notice", "observe", "spot", "recognise", "make out", "discern", "diagnose")
_WHERE = (
    "where the {t} is",
    "which side the {t} is on",
    "which lung the {t} is in",
    "the side of the {t}",
    "where {a} is seen",
)
_SIDE = (
    "Which side", "Which lung", "What side", "Which half of the chest", "Which hemithorax", "Which side of the patient",
    "Which part of the chest", "What lung",
)  # fmt: skip
_HAS = ("shows {a}", "has the {t}", "contains {a}", "is affected", "carries the {t}", "displays {a}", "has {t} in it")
_SIDED = (
    " on the {s}", " on the {s} side", " in the {s} lung", " in the {s} chest", " on the patient's {s}",
    " on the patient's {s} side", " of the {s} lung", " at the {s}",
)  # fmt: skip
_TELL = (
    "Describe", "Summarise", "Report", "Explain", "Interpret", "Read", "Review", "Assess", "Comment on", "Characterise",
    "Document", "Outline", "Evaluate", "Give me", "Tell me about", "Write down", "Analyse",
)  # fmt: skip
_TOLD = (
    "this image", "the film", "the X-ray", "this chest radiograph", "the picture", "the findings", "what you see",
    "what is visible", "what is wrong", "the abnormalities", "the main findings", "the pathology", "the result",
    "what this shows", "your impression", "everything you see",
)  # fmt: skip
_KINDLY = ("", "Please ", "Can you ", "Could you ", "Would you ", "I want you to ")
_ABNORMAL = ("findings", "abnormalities", "problems", "changes", "diseases", "things")
_ARE = (
    "are there", "do you see", "can you see", "are visible", "are present", "does this X-ray show",
    "does the patient have",
    "would you report", "do you find", "are on this film", "should I know about",
)  # fmt: skip
_NOT = (
    "Is it {x} that there is no {t}?", "Do you {v} {t}?", "Can you {v} {t} here?", "Would you {v} {t}?",
    "May we {v} {t}?",
    "Is the {o} {f} {t}?", "Is {t} {n}?", "Has {t} been {n}?", "Does {i} lack {t}?", "Are you sure there is no {t}?",
)  # fmt: skip


def _negated() -> Iterable[str]:
    parts = {
        "x": ("true", "correct", "safe to say", "right", "certain"),
        "v": ("exclude", "rule out", "deny", "dismiss"),
        "o": ("film", "image", "chest", "lung field", "patient", "X-ray", "picture", "radiograph"),
        "f": ("free of", "free from", "clear of", "without", "devoid of", "negative for", "lacking"),
        "n": ("absent", "ruled out", "excluded", "missing", "not present", "not seen", "not there", "not visible"),
        "i": ("the image", "the film", "this X-ray", "the chest"),
    }
    for template in _NOT:
        used = [name for name in parts if f"{{{name}}}" in template]
        for words in product(*(parts[name] for name in used)):
            text = template
            for name, word in zip(used, words, strict=True):
                text = text.replace(f"{{{name}}}", word)
            yield text
    yield from (f"{think} there is no {{t}}{place}?" for think, place in product(_THINK, _PLACE[:4]))
    yield from ("No {t}?", "No sign of {t}?", "No evidence of {t}?", "Nothing like {t}?")


def _presence() -> Iterable[str]:
    yield from (f"{think} {stated}{place}?" for think, stated, place in product(_THINK, _STATED, _PLACE[:4]))
    yield from (f"{asks} {stated}." for asks, stated in product(_WHETHER, _STATED))
    yield from (f"Does {film} {verb} {{a}}?" for film, verb in product(_FILM, _SHOWS))
    yield from (f"{aux} {{a}} {seen}{place}?" for aux, seen, place in product(("Is",), _SEEN, _PLACE))
    yield from (f"Can {{a}} be {seen}{place}?" for seen, place in product(_SEEN[:12], _PLACE[:4]))
    yield from (
        f"{you} {do} {{a}}{place}?" for you, do, place in product(("Can you", "Do you", "Could you"), _DO, _PLACE)
    )
    yield from (f"{may} there be {{a}}{place}?" for may, place in product(("Could", "Might", "May", "Can"), _PLACE))
    nouns = ("evidence", "signs", "features", "a suspicion", "traces", "proof", "a hint", "a picture", "findings")
    yield from (f"Is there {noun} of {{t}}{place}?" for noun, place in product(nouns, _PLACE))
    yield from (
        f"Looking at {film}, {end}"
        for film, end in product(_FILM, ("is there {a}?", "do you see {a}?", "would you call it {t}?"))
    )


def _more_presence() -> Iterable[str]:
    """Ways to ask that a verb and a place do not make: as a claim, a worry, a diagnosis, in passing."""
    who = ("the patient", "this patient", "he", "she", "this person", "this man", "this woman")
    suffers = ("have {a}", "suffer from {t}", "show {a}", "present with {t}", "need treatment for {t}")
    yield from (f"Does {one} {verb}?" for one, verb in product(who, suffers))
    yield from (f"Has {one} {got}?" for one, got in product(who, ("got {a}", "developed {a}", "{a}")))
    yield from (f"Is {film} {like} {{t}}?" for film, like in product(_FILM, _LIKE))
    yield from (f"{claim} {asked}" for claim, asked in product(_CLAIMS, _ASKED))
    yield from (f"{start} {{t}}?" for start in _SHORTLY)
    yield from (f"Is {{a}} {what}?" for what in _WHAT_IT_IS)
    yield from (f"{should} {do} {{t}}?" for should, do in product(("Should I", "Should one", "Must we"), _WORRY))


def _health(words: Iterable[str]) -> Iterable[str]:
    """Questions on a film, a chest or a patient as a whole."""
    things = (*_FILM, "the patient", "this patient", "this chest", "everything", "all")
    starts = ("Is {x} {w}?", "Do you think {x} is {w}?", "Would you call {x} {w}?", "Would you say that {x} is {w}?")
    yield from (start.replace("{x}", x).replace("{w}", w) for start, x, w in product(starts, things, words))


def _normal() -> Iterable[str]:
    yield from _health(("normal", "healthy", "fine", "unremarkable", "clear", "in order", "all right"))
    nothing = ("no abnormality", "no finding", "nothing abnormal", "nothing wrong", "no disease", "nothing to report")
    yield from (f"{think} there is {none}?" for think, none in product(_THINK, nothing))
    yield from (f"Is there {none}{place}?" for none, place in product(nothing, _PLACE))


def _abnormal() -> Iterable[str]:
    yield from _health(("abnormal", "pathological", "diseased", "remarkable", "not normal", "unhealthy"))
    something = (
        "an abnormality", "any finding", "anything abnormal", "something abnormal", "anything wrong", "a disease",
        "any disease", "a problem", "any problem", "a pathology", "anything to report", "any abnormal finding",
        "anything unusual", "an abnormal finding", "anything remarkable",
    )  # fmt: skip
    yield from (f"Is there {some}{place}?" for some, place in product(something, _PLACE))
    yield from (f"{think} there is {some}?" for think, some in product(_THINK, something))
    yield from (f"{asks} there is {some}." for asks, some in product(_WHETHER, something))
    yield from (f"{you} {do} {some}?" for you, do, some in product(("Can you", "Do you"), _DO, something))
    yield from (f"Does {film} {verb} {some}?" for film, verb, some in product(_FILM, _SHOWS[:6], something))


def _hearts() -> Iterable[str]:
    """An enlarged heart, without its names."""
    hearts = ("the heart", "the cardiac silhouette", "the heart shadow", "the cardiac shadow", "this heart")
    large = ("enlarged", "large", "too big", "too large", "big", "wide", "too wide", "dilated", "oversized", "widened")
    starts = (
        "Is {h} {l}?",
        "Does {h} look {l}?",
        "Does {h} seem {l}?",
        "Do you find {h} {l}?",
        "Would you call {h} {l}?",
    )
    yield from (t.replace("{h}", h).replace("{l}", w) for t, h, w in product(starts, hearts, large))
    yield from (f"{think} {h} is {w}?" for think, h, w in product(_THINK, hearts, large))


def _places() -> Iterable[str]:
    yield from (f"{polite} {where}." for polite, where in product(_POLITE, _WHERE))
    yield from (
        f"{polite} {where}?" for polite, where in product(("Can you tell me", "Do you know", "Could you say"), _WHERE)
    )
    yield from (
        f"{side} {has}?" if "affected" not in has else f"{side} is affected by the {{t}}?"
        for side, has in product(_SIDE, _HAS)
    )
    seen = ("", " located", " situated", " visible", " seen", " found", " sitting", " to be found", " in this image")
    yield from (f"Where is the {{t}}{word}?" for word in seen)
    on = (
        "On which side",
        "In which lung",
        "On what side",
        "In which half of the chest",
        "At which side",
        "In what lung",
    )
    yield from (
        f"{which} {end}"
        for which, end in product(
            on, ("is the {t}?", "do you see {a}?", "is {a} found?", "does the {t} lie?", "would you place the {t}?")
        )
    )
    yield from (f"{verb} the {{t}}." for verb in ("Locate", "Localise", "Find", "Point out", "Show me", "Place"))


def _sides() -> Iterable[str]:
    plain = (
        "Is there {a}",
        "Do you see {a}",
        "Can you find {a}",
        "Does the patient have {a}",
        "Does the image show {a}",
        "Is {a} present",
        "Is {a} visible",
        "Do you think there is {a}",
        "Is it true that there is {a}",
        "Could there be {a}",
        "Would you report {a}",
        "Any {t}",
        "Is there evidence of {t}",
    )
    yield from (f"{start}{side}?" for start, side in product(plain, _SIDED))
    yield from (f"Is the {{s}} {part} affected by {{t}}?" for part in ("lung", "side", "chest", "hemithorax"))
    yield from (
        f"Does the {{s}} {part} {verb} {{a}}?"
        for part, verb in product(("lung", "side", "chest"), ("show", "have", "contain", "display"))
    )
    yield from (
        f"{side}, {end}"
        for side, end in product(
            ("On the {s}", "On the {s} side", "In the {s} lung"),
            ("is there {a}?", "do you see {a}?", "can you see {a}?"),
        )
    )


def _reports() -> Iterable[str]:
    yield from (
        f"{kind}{verb if not kind else verb[0].lower() + verb[1:]} {what}."
        for kind, verb, what in product(_KINDLY, _TELL, _TOLD)
    )
    yield from (f"{which} {noun} {are}?" for which, noun, are in product(("What", "Which"), _ABNORMAL, _ARE))
    kinds, forms = (
        ("a short ", "a brief ", "a full ", "a ", "a radiology "),
        ("report", "description", "summary", "interpretation", "reading"),
    )
    verbs = ("Write", "Give", "Provide", "Produce", "Draft", "Compose", "Dictate", "Make")
    yield from (f"{verb} {kind}{form}." for verb, kind, form in product(verbs, kinds, forms))
    yield from (
        f"What {rest}?"
        for rest in (
            "is on this film",
            "is your impression",
            "would you report",
            "can you say about this film",
            "is going on here",
            "is the diagnosis",
            "does the patient have",
            "stands out",
            "is there to see",
            "is your reading",
            "do we see here",
            "has happened to this chest",
            "is seen",
        )
    )


def _more_reports() -> Iterable[str]:
    """Asked for a description in the words of questions on abnormality: the verb tells them apart."""
    verbs = ("Report", "List", "Name", "Describe", "State", "Mention", "Note", "Summarise", "Write down", "Tell me")
    every = ("any", "all", "the", "all the", "any kind of", "every one of the", "your", "all of your")
    nouns = (
        "abnormalities", "abnormality", "findings", "abnormal findings", "finding", "abnormal finding", "pathology",
        "diseases", "problems", "observations", "relevant findings", "visible abnormalities", "changes",
    )  # fmt: skip
    yield from (f"{verb} {each} {noun}{place}." for verb, each, noun, place in product(verbs, every, nouns, _PLACE[:3]))
    yield from (
        f"{verb} {some}." for verb, some in product(verbs, ("anything abnormal", "whatever is wrong", "it all"))
    )
    yields = ("diagnosis", "opinion", "assessment", "conclusion", "impression", "verdict", "interpretation", "reading")
    yield from (f"{ask} {noun}{end}" for ask, noun, end in product(("What is your", "What is the"), yields, "?"))
    yield from (f"{ask} {noun}." for ask, noun in product(("Give a", "Give your", "State your", "Give me a"), yields))
    checks = ("Is there anything abnormal?", "Do you see anything?", "Is anything wrong?", "Any findings?", "Anything?")
    then = ("Describe it.", "Tell me what.", "What is it?", "If so, describe it.", "Then report it.", "What?", "Which?")
    yield from (f"{check} {what}" for check, what in product(checks, then))


def _things(thing: str, article: str) -> Iterable[str]:
    named = (thing, f"{article} {thing}")
    yield from (template.replace("{t}", named[0]).replace("{a}", named[1]) for template in _presence())


#: Never on any film.
ABSENT = (
    *lang.ABSENT,
    "a broken clavicle", "a hernia", "bronchiectasis", "a cavity", "a feeding tube", "a central venous catheter",
    "hilar enlargement", "lymphadenopathy", "asthma", "a kidney stone", "vascular congestion", "an aortic aneurysm",
    "metastases", "cancer", "COPD", "a dislocation", "a brain tumour", "gout", "a cat", "a dog", "a bicycle", "a key",
    "a coin", "a ring", "a shoe", "a bottle", "a knife", "a tree", "a clock", "appendicitis", "pancreatitis",
    "hepatitis", "diabetes", "anaemia", "arthritis", "osteoporosis", "a stent", "a bullet", "pregnancy", "a gallstone",
    "silicosis", "asbestosis", "a goitre", "rickets", "a wire", "surgical clips", "a thymoma",
    "a vertebral compression", "a lung tumour", "mesothelioma", "a pancoast tumour", "emboli", "pulmonary hypertension",
    "a nasogastric tube", "a tracheal tube", "a sternotomy", "a prosthetic valve", "a breast implant",
    "a calcified node", "calcified lymph nodes", "a bulla", "bullae", "hyperinflation", "air trapping",
    "a tracheal shift", "mediastinal widening", "an elevated diaphragm", "free air under the diaphragm",
    "subcutaneous emphysema", "a rib lesion", "a bone tumour", "a shoulder fracture", "osteomyelitis", "a kyphosis",
    "spondylosis", "a cervical rib", "a spine curvature", "a lung cyst", "an abscess", "a fungus ball", "sarcoid",
    "interstitial disease", "fibrosis of the lungs", "honeycombing", "septal lines", "croup", "bronchitis",
    "bronchiolitis", "cystic fibrosis", "a pulmonary artery aneurysm", "a dissection", "aortic sclerosis", "leukaemia",
    "lymphoma", "a melanoma", "breast cancer", "thyroid cancer", "a stroke", "a migraine", "malaria", "measles",
    "influenza", "a cold", "gastritis", "a stomach ulcer", "colitis", "a bladder stone", "a kidney cyst", "cirrhosis",
    "an ovarian cyst", "a knee injury", "a torn ligament", "a hip fracture", "a wrist fracture", "a cataract",
    "a banana", "a horse", "a bird", "a fish", "a flower", "a house", "a car", "a ship", "a plane", "a train",
    "a spoon", "a fork", "a pencil", "a button", "a zip", "a necklace", "an earring", "a watch", "a phone", "a lamp",
    "a chair", "a table", "a window", "a mountain", "a cloud", "the moon", "a star", "a foot", "a tooth", "a skull",
    "a baby", "a ruler", "a screw", "a needle", "a swallowed coin", "a toy", "a stethoscope", "a mask", "glasses",
    "a belt", "a shirt",
)  # fmt: skip


@cache
def wide() -> dict[str, tuple[str, ...]]:
    """Family -> composed templates, those too like a held-out one left out."""
    made = {
        "presence": (*_presence(), *_more_presence()), "negated": _negated(),
        "where": _places(), "sided": _sides(), "report": (*_reports(), *_more_reports()),
        "arrow": _things("arrow", "an"), "pacemaker": _things("pacemaker", "a"),
        "normal": _normal(), "abnormal": _abnormal(), "heart": _hearts(),
    }  # fmt: skip
    kept = {family: tuple(dict.fromkeys(text for text in texts if _allowed(text))) for family, texts in made.items()}
    absent = set(held_out.ABSENT)
    if overlap := absent & set(ABSENT):
        raise ValueError(f"held-out names are trained on: {overlap}")
    return kept


def _allowed(text: str) -> bool:
    return all(held_out.likeness(text, wording) < held_out.TOO_ALIKE for wording in held_out.WORDINGS)
