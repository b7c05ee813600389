"""What the findings of chest radiographs are called: by radiologists, by patients, in American and British spelling.

Knows words, their articles, numbers and sides; knows nothing about sentences, films or models. The findings are the
fourteen labels of CheXpert (Irvin 2019), and nodules, which the specification names. The terms of one finding mean the
same; a word for a part of a finding (a nodule is one kind of lesion) is a finding of its own or stands nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medgemma_visualizer.registry import Registry

Side = Literal["", "left", "right", "both"]
Register = Literal["technical", "lay"]
Number = Literal["one", "many", "mass"]

SIDES: tuple[Side, ...] = ("", "left", "right", "both")


@dataclass(frozen=True)
class Term:
    """One name of a finding.

    Attributes:
        text: Without article and side.
        number: "one" takes an article, "many" takes a plural verb, "mass" neither.
        sided: The text with "{side}" where left or right stands; "" where it is not said of one side.
        both: The text for both sides; "" where it is not said of both.
        both_number: Number of `both`.
        short: The word alone may mean something else after another word ("pericardial effusion").
        aliases: Other forms that are understood and not written: plurals, "lung" for "lungs".
    """

    text: str
    number: Number
    sided: str = ""
    both: str = ""
    both_number: Number = "mass"
    short: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def side_in_front(self) -> bool:
        """Whether the side is a word before the unchanged text, so that it may also follow it."""
        return self.sided in (f"{{side}} {self.text}", f"{{side}}-sided {self.text}")

    def can_be(self, side: Side) -> bool:
        """Whether the term can be said with that side."""
        return {"": True, "both": bool(self.both)}.get(side, bool(self.sided))

    def on(self, side: Side) -> Phrase:
        """The term with a side, where `can_be` allows it."""
        if side == "":
            return Phrase(self.text, self.number)
        if side == "both":
            return Phrase(self.both, self.both_number)
        return Phrase(self.sided.format(side=side), self.number)


@dataclass(frozen=True)
class Phrase:
    """A term as it stands in a sentence, without its article."""

    text: str
    number: Number

    @property
    def indefinite(self) -> str:
        """With "a" or "an" where it takes one."""
        if self.number != "one":
            return self.text
        return f"{'an' if self.text[0] in 'aeiou' else 'a'} {self.text}"


@dataclass(frozen=True)
class Finding:
    """What a film may show.

    Attributes:
        name: As regions and cases name it.
        label: As CheXpert writes it.
        technical: Terms of radiologists, the usual one first.
        lay: Terms of patients, the specification's first where it has one.
    """

    name: str
    label: str
    technical: tuple[Term, ...]
    lay: tuple[Term, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        """Every term, technical ones first."""
        return (*self.technical, *self.lay)

    def register_of(self, term: Term) -> Register:
        """Who says the term."""
        return "technical" if term in self.technical else "lay"


#: Name -> finding. "no_finding" has no terms: it is asked in whole sentences.
FINDINGS: Registry[Finding] = Registry("finding")


def same_but_for_spelling(one: Term, other: Term) -> bool:
    """Whether two terms are the American and the British spelling of one."""
    return _american(one.text) == _american(other.text)


def _american(text: str) -> str:
    return text.replace("oedema", "edema").replace("centre", "center").replace("air-space", "airspace")


# --- how terms are written down --------------------------------------------------------------------------------------


def _one(text: str, plural: str = "", *aliases: str, short: bool = False) -> Term:
    """A countable term with the side in front: "left pleural effusion", "bilateral pleural effusions"."""
    many = plural or f"{text}s"
    return Term(text, "one", f"{{side}} {text}", f"bilateral {many}", "many", short, (many, *aliases))


def _mass(text: str, *aliases: str, short: bool = False) -> Term:
    """An uncountable term with the side in front: "left atelectasis", "bilateral atelectasis"."""
    return Term(text, "mass", f"{{side}} {text}", f"bilateral {text}", "mass", short, aliases)


def _in_lung(text: str, number: Number, sided: str, both: str, both_number: Number = "mass", *aliases: str) -> Term:
    """A term in which the lung itself is named: "fluid around the left lung", "fluid around both lungs"."""
    return Term(text, number, sided, both, both_number, aliases=aliases)


def _never_sided(text: str, number: Number, *aliases: str, short: bool = False) -> Term:
    return Term(text, number, short=short, aliases=aliases)


def _add(name: str, label: str, technical: tuple[Term, ...], lay: tuple[Term, ...]) -> None:
    FINDINGS.add(name, Finding(name, label, technical, lay))


def _patch(words: str, several: str) -> Term:
    """Something that lies in a lung and can be counted."""
    return _in_lung(
        f"{words} in the lung", "one", f"{words} in the {{side}} lung", f"{several} in both lungs", "many",
        f"{several} in the lung", f"{several} in the lungs", f"{words} in the lungs",
    )  # fmt: skip


def _about_lungs(words: str) -> Term:
    """Something uncountable about the lungs."""
    text = f"{words} the lungs"
    return _in_lung(text, "mass", f"{words} the {{side}} lung", f"{words} both lungs", "mass", f"{words} the lung")


# --- the table -------------------------------------------------------------------------------------------------------

_add(
    "enlarged_cardiomediastinum",
    "Enlarged Cardiomediastinum",
    (
        _never_sided("enlarged cardiomediastinum", "one"),
        _never_sided("enlarged cardiomediastinal silhouette", "one"),
        _never_sided("widened cardiomediastinal silhouette", "one"),
        _never_sided("cardiomediastinal enlargement", "mass"),
    ),
    (
        _never_sided("widening of the centre of the chest", "mass"),
        _never_sided("widening of the center of the chest", "mass"),
        _never_sided("widened shadow of the heart and the middle of the chest", "one"),
    ),
)
_add(
    "cardiomegaly",
    "Cardiomegaly",
    (
        _never_sided("cardiomegaly", "mass"),
        _never_sided("cardiac enlargement", "mass"),
        _never_sided("enlarged cardiac silhouette", "one"),
        _never_sided("enlarged cardiac shadow", "one"),
    ),
    (
        _never_sided("enlarged heart", "one"),
        _never_sided("overly large heart", "one"),
        _never_sided("heart enlargement", "mass", "enlargement of the heart"),
    ),
)
_add(
    "lung_opacity",
    "Lung Opacity",
    (
        _one("lung opacity", "lung opacities", "opacity in the lung", "opacity in the lungs", "opacities in the lungs"),
        _one("pulmonary opacity", "pulmonary opacities"),
        _one("parenchymal opacity", "parenchymal opacities"),
        _mass("lung opacification"),
        _mass("pulmonary opacification"),
        _one("opacity", "opacities", short=True),
    ),
    (
        _patch("white patch", "white patches"),
        _patch("cloudy area", "cloudy areas"),
        _patch("hazy area", "hazy areas"),
    ),
)
_add(
    "lung_lesion",
    "Lung Lesion",
    (_one("lung lesion"), _one("pulmonary lesion"), _one("parenchymal lung lesion"), _one("lesion", short=True)),
    (
        _in_lung(
            "spot on the lung", "one", "spot on the {side} lung", "spots on both lungs", "many",
            "spots on the lung", "spots on the lungs",
        ),
        _patch("abnormal spot", "abnormal spots"),
    ),
)  # fmt: skip
_add(
    "edema",
    "Edema",
    (
        _mass("pulmonary edema"),
        _mass("pulmonary oedema"),
        _mass("lung edema"),
        _mass("lung oedema"),
        _mass("edema", short=True),
        _mass("oedema", short=True),
    ),
    (
        _about_lungs("fluid in"),
        _about_lungs("water in"),
        _in_lung(
            "build-up of fluid in the lungs", "one", "build-up of fluid in the {side} lung",
            "build-up of fluid in both lungs", "one", "fluid build-up in the lungs",
        ),
    ),
)  # fmt: skip
_add(
    "consolidation",
    "Consolidation",
    (
        _mass("consolidation", "consolidations"),
        _mass("lung consolidation"),
        _mass("pulmonary consolidation"),
        _mass("airspace consolidation", "air space consolidation"),
        _mass("air-space consolidation"),
    ),
    (
        _in_lung(
            "solid appearance in lung", "one", "solid appearance in the {side} lung", "solid appearance in both lungs",
            "one", "solid appearance in the lung", "solid appearance in the lungs",
        ),
        _patch("solid-looking area", "solid-looking areas"),
    ),
)  # fmt: skip
_add(
    "pneumonia",
    "Pneumonia",
    (_mass("pneumonia", "pneumonias"), _one("pulmonary infection"), _one("pneumonic infection")),
    (
        _in_lung(
            "lung infection", "one", "infection in the {side} lung", "infection in both lungs", "mass",
            "lung infections", "infection in the lung", "infection in the lungs",
        ),
        _in_lung(
            "infection of the lungs", "one", "infection of the {side} lung", "infection of both lungs", "mass",
            "infection of the lung",
        ),
    ),
)  # fmt: skip
_add(
    "atelectasis",
    "Atelectasis",
    (_mass("atelectasis"), _mass("pulmonary atelectasis"), _mass("lung atelectasis"), _mass("atelectatic change")),
    (
        _in_lung(
            "partly collapsed lung", "one", "partly collapsed {side} lung", "partly collapsed lungs on both sides",
            "many", "partially collapsed lung",
        ),
        _in_lung(
            "partly deflated lung", "one", "partly deflated {side} lung", "partly deflated lungs on both sides", "many",
        ),
        _in_lung(
            "partial collapse of the lung", "mass", "partial collapse of the {side} lung",
            "partial collapse of both lungs",
        ),
    ),
)  # fmt: skip
_add(
    "pneumothorax",
    "Pneumothorax",
    (
        _one("pneumothorax", "pneumothoraces"),
        _mass("pleural air"),
        _in_lung(
            "air in the pleural space", "mass", "air in the {side} pleural space", "air in both pleural spaces",
        ),
        _in_lung(
            "air in the pleural cavity", "mass", "air in the {side} pleural cavity", "air in both pleural cavities",
        ),
    ),
    (
        _in_lung(
            "collapsed lung", "one", "collapsed {side} lung", "collapsed lungs on both sides", "many",
            "collapsed lungs",
        ),
        _about_lungs("air around"),
        _about_lungs("air outside"),
    ),
)  # fmt: skip
_add(
    "pleural_effusion",
    "Pleural Effusion",
    (
        _one("pleural effusion"),
        _mass("pleural fluid"),
        _one("pleural fluid collection"),
        _in_lung(
            "fluid in the pleural space", "mass", "fluid in the {side} pleural space", "fluid in both pleural spaces",
        ),
        _one("effusion", short=True),
    ),
    (_about_lungs("fluid around"), _about_lungs("water around"), _about_lungs("liquid around")),
)  # fmt: skip
# The commonest pleural abnormality other than fluid or air; the label itself is no question that has one meaning.
_add(
    "pleural_other",
    "Pleural Other",
    (
        _mass("pleural thickening"),
        _in_lung(
            "thickening of the pleura", "mass", "thickening of the {side} pleura",
            "thickening of the pleura on both sides",
        ),
        _in_lung("thickened pleura", "one", "thickened {side} pleura", "thickened pleura on both sides", "one"),
    ),
    (
        _about_lungs("thickening of the lining of"),
        _in_lung(
            "thickened lining around the lung", "one", "thickened lining around the {side} lung",
            "thickened lining around both lungs", "one",
        ),
    ),
)  # fmt: skip
_add(
    "fracture",
    "Fracture",
    (
        Term("fracture", "one", "{side}-sided fracture", "bilateral fractures", "many", True, ("fractures",)),
        _in_lung("bone fracture", "one", "{side}-sided bone fracture", "bilateral bone fractures", "many",
                 "bone fractures"),
        _in_lung("bony fracture", "one", "{side}-sided bony fracture", "bilateral bony fractures", "many",
                 "bony fractures"),
        _in_lung("fractured bone", "one", "fractured bone on the {side} side", "fractured bones on both sides", "many",
                 "fractured bones"),
    ),
    (
        _in_lung("broken bone", "one", "broken bone on the {side} side", "broken bones on both sides", "many",
                 "broken bones"),
        _in_lung("break in a bone", "one", "break in a bone on the {side} side", "breaks in bones on both sides",
                 "many"),
    ),
)  # fmt: skip
_add(
    "support_devices",
    "Support Devices",
    (
        _never_sided("support devices", "many"),
        _never_sided("support device", "one"),
        _never_sided("medical support devices", "many"),
        _never_sided("medical support device", "one"),
    ),
    (
        _never_sided("tubes, lines or other medical devices", "many"),
        _never_sided("medical devices", "many"),
        _never_sided("medical device", "one"),
        _never_sided("medical equipment", "mass"),
    ),
)
_add(
    "lung_nodule",
    "Lung Nodule",
    (_one("lung nodule"), _one("pulmonary nodule"), _one("parenchymal lung nodule"), _one("nodule", short=True)),
    (_patch("small round spot", "small round spots"), _patch("small lump", "small lumps")),
)
_add("no_finding", "No Finding", (), ())
