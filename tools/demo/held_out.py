"""Wordings, and names of what no film shows, that the embedded model never met in training: they measure generality.

Knows text only. Rules of this file: a wording is written down before any model is asked it, is never trained on, and
is not exchanged because of how a model answers it. `language.HELD_OUT_*` were never trained on either, but they were
looked at while the training templates were chosen, so no figure rests on them; here they count as known.

A wording is new if it is like no known template: `likeness` below `TOO_ALIKE` for each.
"""

from __future__ import annotations

import re

import language as lang

#: Likeness from which on two wordings count as the same.
TOO_ALIKE = 0.8

PRESENCE = (
    "Has {t} been picked up on this examination?", "Do you find anything pointing to {t}?",
    "Might this patient be suffering from {t}?", "Are the appearances those of {t}?",
    "Would you diagnose {t} from this picture?", "I would like to know whether {a} can be made out.",
    "Is {t} among your findings?", "Confirm or deny: {t} on this radiograph.",
    "Should I be worried about {t} after seeing this scan?", "Does anything on the film make you think of {t}?",
    "Am I right in thinking that {a} is visible?", "Could you let me know if the chest film has {a}?",
)  # fmt: skip
HEART = (
    "Would you call this heart enlarged?",
    "Does the heart take up too much room?",
    "Is this heart larger than it should be?",
)
NEGATED = (
    "Would you say that there is no {t} here?",
    "Has {t} been ruled out by this film?",
    "Does the X-ray show no sign of {t}?",
    "Am I right that {t} is not present?",
)
SIDE_PRESENCE = (
    "Is the {s} lung affected by {t}?",
    "Looking at the {s} half of the chest, is {t} visible?",
    "Would you report {t} on the {s}?",
)
WHERE = (
    "In which half of the chest does the {t} lie?",
    "To which side does the {t} belong?",
    "Point out the side with the {t}.",
    "Is it the left or the right lung that has {a}?",
    "Whereabouts is the {t}?",
)
REPORT = (
    "Put your findings into words.",
    "How would you report this radiograph?",
    "What would you tell the referring doctor about this film?",
    "Give a short summary of this chest X-ray.",
    "Dictate a report for this examination.",
)
MARKER = (
    "Which of the two letters, L or R, marks the film?",
    "What is written on the side marker?",
    "Can you make out a side marker, and which letter is it?",
    "Does the marker read L or R?",
)
ARROW = (
    "Has an arrow been placed on this radiograph?",
    "Can an arrow be made out anywhere?",
    "Do you notice an arrow in the picture?",
)
PACEMAKER = (
    "Has this patient been given a pacemaker?",
    "Can a pacemaker be made out?",
    "Do you notice a pacemaker in the picture?",
)
NORMAL = ("Would you call this a normal film?", "Does the chest look healthy to you?")
ABNORMAL = ("Do you notice anything unusual?", "Is there a reason for concern on this film?")

#: Names of what no film shows; none of them, nor anything that means a finding, is in `language`.
ABSENT = (
    "scoliosis", "sarcoidosis", "a lung abscess", "pleural thickening", "a dislocated shoulder",
    "enlarged lymph nodes",
)  # fmt: skip

WORDINGS = (
    *PRESENCE, *HEART, *NEGATED, *SIDE_PRESENCE, *WHERE, *REPORT, *MARKER, *ARROW, *PACEMAKER, *NORMAL, *ABNORMAL,
)  # fmt: skip


def known_templates() -> tuple[str, ...]:
    """What the model was trained on, and what was looked at while that was chosen."""
    trained = (
        *lang.PRESENCE, *lang.HEART_FORMS, *lang.SIDE_PRESENCE, *lang.WHERE, *lang.REPORT, *lang.MARKER, *lang.ARROW,
        *lang.PACEMAKER, *lang.NEGATED, *lang.NORMAL, *lang.ABNORMAL,
    )  # fmt: skip
    looked_at = (
        *lang.HELD_OUT_PRESENCE, *lang.HELD_OUT_HEART, *lang.HELD_OUT_WHERE, *lang.HELD_OUT_REPORT,
        *lang.HELD_OUT_MARKER, *lang.HELD_OUT_ARROW, *lang.HELD_OUT_PACEMAKER, *lang.HELD_OUT_NEGATED,
    )  # fmt: skip
    return (*trained, *looked_at)


def likeness(one: str, other: str) -> float:
    """Jaccard index of two templates' sets of words, 0 (nothing shared) to 1 (the same words in any order).

    Capitals and punctuation do not count; a finding's name is one word, with its article or without.
    """
    first, second = _words(one), _words(other)
    return len(first & second) / len(first | second)


def _words(template: str) -> set[str]:
    return set(re.findall(r"\{\w\}|[\w'-]+", template.lower().replace("{a}", "{t}")))


def nearest_known(wording: str) -> tuple[float, str]:
    """The likeness and the text of the known template most like a wording."""
    return max((likeness(wording, known), known) for known in known_templates())
