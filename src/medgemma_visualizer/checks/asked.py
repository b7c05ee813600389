"""What a question asks: which finding, on which side, for or against it, and which words around it are an instruction.

Knows the names of findings and the ways of asking for them; does not know how a question could be asked otherwise, nor
models or files. A question is understood whole or in part: in part where it says more than that a finding is there
("in the left lower lobe", "has it grown?"), and then nobody may reword it as if it did not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from medgemma_visualizer.checks.sentences import SENTENCES, TEMPLATES, UNDERSTOOD, UNDERSTOOD_SENTENCES, Template
from medgemma_visualizer.data.findings import FINDINGS, SIDES, Side, Term
from medgemma_visualizer.data.inputs import check_question
from medgemma_visualizer.errors import InputError

#: What a film is called.
FILM = (
    r"(?:this|the|that|my|these)\s+(?:(?:chest|present)\s+)*"
    r"(?:radiographs?|x[-\s]?rays?|images?|films?|pictures?|cxrs?|studies|study|scan|examination)"
)
_BEFORE_SHORT = {
    "a", "an", "any", "the", "some", "no", "of", "for", "have", "has", "show", "shows", "see", "with", "is", "are",
    "and", "or", "left", "right", "bilateral", "left-sided", "right-sided", "sided", "small", "large", "moderate",
    "tiny", "big", "new", "old", "acute", "chronic", "clear", "there", "visible", "possible", "suspected", "that",
}  # fmt: skip
_AFTER = (
    r"on the (left|right)(?:(?: hand)? side)?|in the (left|right) (?:lung|side|hemithorax|chest)|"
    r"(on both sides|in both lungs|on either side|bilaterally)"
)
_PART = re.compile(r"\s+(?:in|at|of|on|near) the (left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Mention:
    """A finding's name in a sentence.

    Attributes:
        finding: A name of `FINDINGS`.
        term: As the table has it.
        side: "" where none is named.
        words: The finding and its side as the sentence has them, without article.
        start: First character, the article included.
        end: Past the last character.
        determiner: "a", "any", … or "".
        doubtful: Whether a word stands before it that may make it mean something else.
    """

    finding: str
    term: Term
    side: Side
    words: str
    start: int
    end: int
    determiner: str
    doubtful: bool


@dataclass(frozen=True)
class Asked:
    """A question, taken apart.

    Attributes:
        before: Words before the question itself ("Question: "), kept in every variation.
        core: The question itself, one sentence.
        after: Words after it (the answer instruction), kept in every variation.
        finding: A name of `FINDINGS`; None where none is named, or several are.
        side: Of the finding.
        term: The name used for it; None for whole sentences such as "Is the heart enlarged?".
        words: The name as asked, with its side; "" where there is none.
        template: The way of asking, slots in place of the name; None where the question is not understood whole.
        several: Findings, where more than one is named.
    """

    before: str
    core: str
    after: str
    finding: str | None = None
    side: Side = ""
    term: Term | None = None
    words: str = ""
    template: Template | None = None
    several: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing of the question is beyond finding, side and way of asking."""
        return self.template is not None


def understand(question: str) -> Asked:
    """Takes a question apart.

    Raises:
        InputError: No usable text, or two questions in one.
    """
    parts = _parts(check_question(question))
    if (sentence := _sentences().get(_key(parts.core))) is not None:
        return replace(parts, finding=sentence[0], template=sentence[1])
    mentions = tuple(_mentions(parts.core))
    if len(mentions) == 1 and (whole := _with_template(_naming(parts, mentions[0]), mentions[0])).whole:
        return whole
    mentions = tuple(mention for mention in mentions if not mention.doubtful)
    names = tuple(dict.fromkeys(mention.finding for mention in mentions))
    if len(names) != 1:
        return replace(parts, several=names)
    sides = {mention.side for mention in mentions if mention.side}
    return replace(_naming(parts, mentions[0]), side=sides.pop() if len(sides) == 1 else "")


def _naming(parts: Asked, mention: Mention) -> Asked:
    return replace(parts, finding=mention.finding, side=mention.side, term=mention.term, words=mention.words)


# --- the parts of a question -----------------------------------------------------------------------------------------

_LEAD = re.compile(r".*(?:[.!]\s+|\n\s*|\b(?:question|q|answer\b[^:?\n]*)\s*:\s*)", re.IGNORECASE | re.DOTALL)
_STATEMENT_END = re.compile(r"[.!](?=\s|$)|(?=\n)|$")


def _parts(text: str) -> Asked:
    if text.count("?") > 1:
        raise InputError(
            f"{_short(text)} asks {text.count('?')} questions; ask one, and vary the others by themselves."
        )
    end = text.find("?") + 1
    if not end:
        opening = re.match(r"(?:question|q)\s*:\s*", text, re.IGNORECASE)
        at = _STATEMENT_END.search(text, opening.end() if opening else 0)
        end = at.end() if at else len(text)
    lead = _LEAD.match(text[: end - 1])
    start = lead.end() if lead else 0
    return Asked(text[:start], text[start:end], text[end:])


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")


# --- names of findings -----------------------------------------------------------------------------------------------


def _mentions(core: str) -> Iterator[Mention]:
    for match in _pattern().finditer(core):
        finding, term, side = _surfaces()[re.sub(r"\s+", " ", match["name"].lower())]
        part = _PART.match(core, match.end())  # "in the left lower lobe": a side, and more than a side
        said = (side, _front(match["front"]), _behind(match["after"]), _behind(part[1] if part else ""))
        named: set[Side] = {one for one in said if one}
        yield Mention(
            finding,
            term,
            named.pop() if len(named) == 1 else "",  # "a left effusion on the right" has none
            re.sub(r"\s+", " ", match.group()[len(match["det"] or "") :]).strip(),
            match.start(),
            match.end(),
            (match["det"] or "").strip().lower(),
            term.short and _qualified(core[: match.start("name")]),
        )


def _qualified(before: str) -> bool:
    """Whether the words before a short name end in one that may change its meaning."""
    words = before.lower().split()
    return bool(words) and words[-1].strip(",:;(\"'") not in _BEFORE_SHORT


@cache
def _surfaces() -> dict[str, tuple[str, Term, Side]]:
    """Every form of every name -> finding, term, side."""
    found: dict[str, tuple[str, Term, Side]] = {}
    for name, finding in FINDINGS.items():
        for term in finding.terms:
            forms = [(term.on(side).text, side) for side in SIDES if term.can_be(side)]
            for text, side in (*forms, *((alias, SIDES[0]) for alias in term.aliases)):
                found.setdefault(text.lower(), (name, term, side))
    return found


@cache
def _pattern() -> re.Pattern[str]:
    longest_first = sorted(_surfaces(), key=len, reverse=True)
    names = "|".join(re.escape(text).replace(r"\ ", r"\s+") for text in longest_first)
    return re.compile(
        rf"(?<![\w-])(?P<det>(?:an?|any|the|some)\s+)?(?P<front>(?:left|right)(?:[-\s]sided)?\s+|bilateral\s+)?"
        rf"(?P<name>{names})(?![\w-])(?P<after>\s+(?:{_AFTER}))?",
        re.IGNORECASE,
    )


def _front(text: str | None) -> Side:
    word = (text or "").lower()
    return "left" if word.startswith("left") else "right" if word.startswith("right") else "both" if word else ""


def _behind(text: str | None) -> Side:
    words = (text or "").lower()
    return "left" if "left" in words else "right" if "right" in words else "both" if words else ""


# --- ways of asking --------------------------------------------------------------------------------------------------

_SLOT = "\ue000"


def _with_template(asked: Asked, mention: Mention) -> Asked:
    """Adds the way of asking where the table knows it and the sentence names no side that the finding cannot have."""
    slotted = f"{asked.core[: mention.start]}{_SLOT}{asked.core[mention.end :]}"
    known = _keys().get(_key(slotted))
    if known is None or not mention.term.can_be(mention.side) or _contradicts(asked.core, mention):
        return asked
    return replace(asked, template=replace(known, name="as_asked", text=_as_template(slotted, mention)))


def _contradicts(core: str, mention: Mention) -> bool:
    """Whether the name carries sides that cannot both be meant."""
    words = set(re.findall(r"left|right|bilateral|both", core[mention.start : mention.end].lower()))
    return (mention.side == "" and bool(words)) or {"left", "right"} <= words


def _as_template(slotted: str, mention: Mention) -> str:
    """The sentence as asked, as a template: verbs agree with whatever is put in, capitals follow."""
    text = slotted.capitalize() if slotted.isupper() else slotted
    bare = mention.determiner in ("any", "the", "some") or re.search(rf"\bno\s+{_SLOT}", text, re.IGNORECASE)
    kept = f"{mention.determiner} " if mention.determiner in ("any", "the", "some") else ""
    before = rf"(?=\s+(?:there\s+)?(?:no\s+)?{_SLOT})"
    text = re.sub(rf"\b(?:is|are){before}", "{be}", text, flags=re.IGNORECASE)
    text = re.sub(rf"(?<=\bthere )(?:is|are)(?=\s+(?:no\s+)?{_SLOT})", "{be}", text, flags=re.IGNORECASE)
    text = re.sub(rf"\b(?:does|do)(?=\s+{_SLOT})", "{do}", text, flags=re.IGNORECASE)
    return text.replace(_SLOT, f"{kept}{{t}}" if bare else "{a}")


@cache
def _keys() -> dict[str, Template]:
    """The words of a way of asking -> the first template that asks so."""
    found: dict[str, Template] = {}
    for template in (*TEMPLATES, *UNDERSTOOD):
        if not template.wants_side:
            found.setdefault(_key(_slotted(template)), template)
    return found


def _slotted(template: Template) -> str:
    return template.text.format(a=_SLOT, t=_SLOT, be="is", do="does", side="", unsided=_SLOT)


@cache
def _sentences() -> dict[str, tuple[str, Template]]:
    """The words of a whole sentence -> the finding that it asks about, and the sentence."""
    own = (*UNDERSTOOD_SENTENCES.items(), *SENTENCES.items())
    return {_key(sentence.text): (name, sentence) for name, sentences in own for sentence in sentences}


def _key(sentence: str) -> str:
    """A sentence without what makes no difference: number of the verb, "any", which word means the film, its place."""
    text = re.sub(r"\s+", " ", sentence.lower()).strip(" ?.!").removeprefix("radiological assessment: ")
    text = re.sub(rf"\b{FILM}\b", "film", text)
    text = re.sub(r"\bany ", "", text)
    for forms, one in ((r"is|are", "be"), (r"do|does", "do"), (r"signs?", "sign"), (r"x[- ]?rays?", "film")):
        text = re.sub(rf"\b(?:{forms})\b", one, text)
    return re.sub(r" (?:in|on|from) film$|^(?:in|on|from) film, ", "", text)
