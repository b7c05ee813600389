"""Questions that ask whether a finding is there: how to put one, and which finding one asks about.

Knows the names of `findings` and the frames that question sets put around them; anything else is no such question.
"""

from __future__ import annotations

import functools
import re

from medgemma_visualizer.data.findings import FINDINGS

#: Names that data sets use and nobody says.
_OTHER_NAMES = {"airspace opacity": "lung_opacity", "pleural thickening": "pleural_other"}

_ARTICLE = r"(?:an?|any|the|some)\s+"
_FRAMES = (
    rf"(?:is|are) there (?:{_ARTICLE})?(?:(?:evidence|signs?|indications?|presence) of )?(?:{_ARTICLE})?(?P<what>.+)",
    rf"(?:does|do) (?:the|this) \w+(?: \w+)? (?:have|show|contain|demonstrate|suffer from)"
    rf" (?:{_ARTICLE})?(?:(?:evidence|signs?) of )?(?:{_ARTICLE})?(?P<what>.+)",
)
_PLACE = r"\s+(?:in|on) (?:the|this) (?:\w+ )?(?:image|picture|film|x-ray|xray|radiograph|scan|patient)$"


def finding_named(text: str) -> str | None:
    """The name in `FINDINGS` of what data sets, radiologists or patients call by that text; None for anything else."""
    return _names().get(_folded(text))


def region_name(text: str) -> str:
    """How a region that a data set calls so is named here: the finding's name, or the text in lower case with `_`."""
    return finding_named(text) or re.sub(r"[^0-9a-z]+", "_", text.lower()).strip("_")


def presence_question(text: str) -> str | None:
    """Asks for the finding of that name, label or term; None where no one question does.

    A name that is no finding of ours is asked for as it is written.
    """
    finding = finding_named(text)
    if finding is None:
        return f"Is there evidence of {text.strip().lower().replace('_', ' ')} in this chest radiograph?"
    if not FINDINGS[finding].technical:
        return None
    term = FINDINGS[finding].technical[0]
    return f"{'Are' if term.number == 'many' else 'Is'} there {term.on('').indefinite}?"


@functools.lru_cache(4096)
def asked_finding(question: str) -> str | None:
    """The finding that a question of presence asks for; None where it asks for something else, or for more."""
    asked = re.sub(_PLACE, "", question.strip().rstrip("?. ").lower())
    for frame in _FRAMES:
        if found := re.fullmatch(frame, asked):
            return finding_named(found["what"])
    return None


@functools.cache
def _names() -> dict[str, str]:
    names = dict(_OTHER_NAMES)
    for name, finding in FINDINGS.items():
        terms = [text for term in finding.terms for text in (term.text, *term.aliases)]
        names |= {_folded(text): name for text in (name, finding.label, *terms)}
    return names


def _folded(text: str) -> str:
    return " ".join(text.lower().replace("_", " ").split())
