"""The ways of asking whether a finding is there: a table of templates, each the example of one strategy.

Knows sentences with a place for a finding, and a few whole ones where a finding has a sentence of its own ("Is the
heart enlarged?"); knows nothing about which finding stands in the place, files or models. To add a way of asking, add a
line.

Slots: {a} the term with its article, {t} without, {be} is or are, {do} does or do, {side} the side, {unsided} the term
with its article and without its side. A slot at the start of a sentence is capitalised when it is filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Voice = Literal["", "active", "passive"]

#: The strategies of hard-positive question sets: the meaning stays.
STRATEGIES = ("synonym", "voice", "register", "clause_order", "phrasing", "combinations")
#: The family of questions whose right answer is the other one.
OPPOSITE = "opposite"


@dataclass(frozen=True)
class Template:
    """One way of asking.

    Attributes:
        name: Of the rule that asks so.
        strategy: Of `STRATEGIES`.
        text: With slots.
        register: "technical" or "lay" where it suits only terms of that register; "" where it suits both.
        voice: Of the verb; "" where it says that something is there, or is present.
        negative: Whether yes means that the finding is absent.
        wants_side: Whether it can be said only of a side that stands in front of the term.
    """

    name: str
    strategy: str
    text: str
    register: Literal["", "technical", "lay"] = ""
    voice: Voice = ""
    negative: bool = False
    wants_side: bool = False


#: The specification's two (section 6.2).
TECHNICAL = Template(
    "technical_template",
    "register",
    "Radiological assessment: Is there evidence of {t} in this chest radiograph?",
    "technical",
)
SIMPLE = Template("simple_template", "register", "Can you see any signs of {t} in this X-ray?", "lay", "active")

TEMPLATES: tuple[Template, ...] = (
    # The same verb, doing or being done to.
    Template("active_show", "voice", "Does this chest radiograph show {a}?", voice="active"),
    Template("active_reveal", "voice", "Does this image reveal {a}?", voice="active"),
    Template("active_see", "voice", "Do you see {a}?", voice="active"),
    Template("active_identify", "voice", "Can you identify {a} on this X-ray?", voice="active"),
    Template("passive_shown", "voice", "{be} {a} shown on this chest radiograph?", voice="passive"),
    Template("passive_revealed", "voice", "{be} {a} revealed by this image?", voice="passive"),
    Template("passive_seen", "voice", "Can {a} be seen?", voice="passive"),
    Template("passive_identified", "voice", "Can {a} be identified on this X-ray?", voice="passive"),
    # For a colleague, and for a patient.
    TECHNICAL,
    Template("technical_evidence", "register", "Is there radiographic evidence of {a}?", "technical"),
    Template("technical_evident", "register", "{be} {a} evident on the present examination?", "technical"),
    Template("technical_demonstrate", "register", "Does the study demonstrate {a}?", "technical", "active"),
    SIMPLE,
    Template("lay_have", "register", "Do I have {a}?", "lay", "active"),
    Template("lay_my_xray", "register", "Does my X-ray show {a}?", "lay", "active"),
    Template("lay_looks_as_if", "register", "Does it look as if there {be} {a} in this picture?", "lay"),
    # The same clauses, in another order.
    Template("film_last", "clause_order", "{be} there {a} on this chest radiograph?"),
    Template("film_first", "clause_order", "On this chest radiograph, {be} there {a}?"),
    Template("looking_first", "clause_order", "Looking at this X-ray, {be} there {a}?"),
    Template("going_by_first", "clause_order", "Going by this image, {be} {a} present?"),
    Template("going_by_last", "clause_order", "{be} {a} present, going by this image?"),
    Template("side_last", "clause_order", "{be} there {unsided} {side}?", wants_side=True),
    # Another question for the same thing.
    Template("is_there", "phrasing", "{be} there {a}?"),
    Template("is_present", "phrasing", "{be} {a} present?"),
    Template("evidence_of", "phrasing", "Is there any evidence of {a}?"),
    Template("sign_of", "phrasing", "Is there any sign of {a}?"),
    Template("appears", "phrasing", "{do} {a} appear in this image?"),
    Template("would_you_say", "phrasing", "Would you say that there {be} {a}?"),
    Template("findings_include", "phrasing", "Do the findings include {a}?"),
    Template("tell_whether", "phrasing", "Tell me whether there {be} {a}."),
    # Two changes in one sentence; combinations with other terms are made of the templates above.
    Template("film_first+passive", "combinations", "On this chest radiograph, can {a} be seen?", voice="passive"),
    Template("looking_first+active", "combinations", "Looking at this image, do you see {a}?", voice="active"),
    Template(
        "film_first+technical",
        "combinations",
        "On the present examination, {be} {a} demonstrated?",
        "technical",
        "passive",
    ),
    Template("looking_first+lay", "combinations", "Looking at my X-ray, do I have {a}?", "lay", "active"),
    # The other way round.
    Template("no", "phrasing", "{be} there no {t}?", negative=True),
    Template("free_of", "phrasing", "Is this chest radiograph free of any {t}?", negative=True),
    Template("absent", "phrasing", "{be} {a} absent?", negative=True),
    Template("would_you_say_no", "phrasing", "Would you say that there {be} no {t}?", negative=True),
    Template("active_show_no", "voice", "Does this chest radiograph show no {t}?", voice="active", negative=True),
    Template("film_first+no", "clause_order", "On this X-ray, {be} there no {t}?", negative=True),
    Template("film_last+no", "clause_order", "{be} there no {t} on this X-ray?", negative=True),
)

#: Understood when somebody asks so, and not written: they say a little more or less than that the finding is there.
UNDERSTOOD: tuple[Template, ...] = (
    *(
        Template("asked", "phrasing", text, voice="active")
        for text in (
            "Can you see {a}?", "Do you see any signs of {t}?", "Can you find {a}?", "Can you detect {a}?",
            "Does the patient have {a}?", "Does this patient have {a}?", "Does he have {a}?", "Does she have {a}?",
            "Has the patient got {a}?", "Does this patient show signs of {t}?",
            "Does this image show signs of {t}?", "Does this image show evidence of {t}?",
            "Does this image demonstrate {a}?", "Do you notice {a}?", "Do you observe {a}?",
        )
    ),
    *(
        Template("asked", "phrasing", text, voice="passive")
        for text in (
            "{be} {a} seen?", "Can {a} be detected?", "{be} {a} demonstrated?", "{be} {a} identified?",
        )
    ),
    *(
        Template("asked", "phrasing", text)
        for text in (
            "{be} {a} visible?", "Please say if {a} {be} visible.", "{be} {a} evident?", "{be} {a} apparent?",
            "{be} {a} there?", "Are there findings of {t}?", "{t}?", "{t} present?",
            "Evidence of {t}?", "Sign of {t}?", "Is it true that there {be} {a}?",
            "Please tell me whether there {be} {a}.", "Tell me if there {be} {a}.", "Please tell me if there {be} {a}.",
        )
    ),
    *(
        Template("asked", "phrasing", text, negative=True)
        for text in (
            "Is the lung free of {t}?", "Are the lungs free of {t}?", "Is the chest free of {t}?",
            "Is the chest clear of {t}?", "Are the lungs clear of {t}?", "Is the patient free of {t}?",
            "Can {a} be excluded?", "Can {a} be ruled out?", "Can you exclude {a}?", "Can you rule out {a}?",
            "{be} {a} excluded?", "{be} {a} ruled out?", "Is it true that there {be} no {t}?", "No {t}?",
            "Is there no evidence of {t}?", "Is there no sign of {t}?", "Is this image without {t}?",
            "Do you see no {t}?",
        )
    ),
)  # fmt: skip

#: Finding -> whole sentences that need no term.
SENTENCES: Mapping[str, tuple[Template, ...]] = {
    "cardiomegaly": (
        Template("technical_enlarged", "register", "Is the cardiac silhouette enlarged?", "technical"),
        Template("technical_size", "register", "Is the size of the cardiac silhouette increased?", "technical"),
        Template("lay_enlarged", "register", "Is the heart enlarged?", "lay"),
        Template("lay_too_big", "register", "Is the heart bigger than it should be?", "lay"),
        Template("normal_size", "phrasing", "Is the heart of normal size?", negative=True),
        Template("size_normal", "phrasing", "Is the size of the heart normal?", negative=True),
    ),
    "no_finding": (
        Template("normal", "phrasing", "Is this chest radiograph normal?"),
        Template("looks_normal", "phrasing", "Does this chest radiograph look normal?"),
        Template("call_normal", "voice", "Would you call this chest radiograph normal?", voice="active"),
        Template("called_normal", "voice", "Would this chest radiograph be called normal?", voice="passive"),
        Template("unremarkable", "synonym", "Is this chest radiograph unremarkable?"),
        Template("without_abnormality", "synonym", "Is this chest radiograph free of abnormality?"),
        Template(
            "technical_limits",
            "register",
            "Radiological assessment: Is this chest radiograph within normal limits?",
            "technical",
        ),
        Template("lay_fine", "register", "Does everything in this X-ray look normal?", "lay"),
        Template("looking_first", "clause_order", "Looking at this chest radiograph, is it normal?"),
        Template("normal_going_by", "clause_order", "Is the chest normal, going by this radiograph?"),
        Template("looking_first+active", "combinations", "Looking at this X-ray, would you call it unremarkable?"),
        Template("going_by+passive", "combinations", "Going by this image, would the chest be called normal?"),
        Template("any_abnormality", "phrasing", "Is there any abnormality on this chest radiograph?", negative=True),
        Template("abnormal", "phrasing", "Is this chest radiograph abnormal?", negative=True),
        Template("show_abnormal", "voice", "Does this image show any abnormality?", voice="active", negative=True),
    ),
}

#: The same, understood and not written.
UNDERSTOOD_SENTENCES: Mapping[str, tuple[Template, ...]] = {
    "cardiomegaly": (
        *(
            Template("asked", "register", text, "lay")
            for text in (
                "Is the heart too big?", "Is the heart too large?", "Is the heart large?",
                "Does the heart look enlarged?", "Is the heart bigger than normal?", "Is the heart size increased?",
            )
        ),
        Template("asked", "phrasing", "Is the heart size normal?", negative=True),
        Template("asked", "phrasing", "Is the heart normal in size?", negative=True),
    ),
    "no_finding": (
        Template("asked", "phrasing", "Is the chest normal?"),
        Template("asked", "phrasing", "Is everything normal?"),
        *(
            Template("asked", "phrasing", text, negative=True)
            for text in (
                "Are there any abnormalities?", "Is there an abnormality?", "Is anything abnormal?",
                "Is there anything abnormal?",
            )
        ),
    ),
}  # fmt: skip
