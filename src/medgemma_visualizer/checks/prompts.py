"""One question in many words: variations that keep what is asked, and opposites that turn the answer round.

Knows findings, ways of asking, and how to put them together; does not know models, answers or films. Nothing is
guessed: a question that is not understood whole is varied only by rules that leave its own words as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np

from medgemma_visualizer.checks.asked import FILM, Asked, understand
from medgemma_visualizer.checks.sentences import OPPOSITE, SENTENCES, SIMPLE, STRATEGIES, TECHNICAL, TEMPLATES, Template
from medgemma_visualizer.data.findings import FINDINGS, Finding, Register, Side, Term, same_but_for_spelling
from medgemma_visualizer.data.inputs import check_question
from medgemma_visualizer.data.variants import read_variants
from medgemma_visualizer.errors import InputError, unknown_name

#: All that `variations` can be asked for.
FAMILIES = (*STRATEGIES, OPPOSITE)


@dataclass(frozen=True)
class Variation:
    """Another wording of a question.

    Attributes:
        text: Ready to be asked, with the question's own answer instruction.
        strategy: Of `FAMILIES`; for other people's wordings, what they call it.
        rules: What was changed, by name.
        finding: A name of `FINDINGS`; None where the table does not know what is asked.
        side: Of the finding; "" where none is named.
        expected: Whether the right answer is the question's own or the other one.
    """

    text: str
    strategy: str
    rules: tuple[str, ...]
    finding: str | None
    side: Side
    expected: Literal["same", "flipped"]


def extract_medical_term(question: str) -> str:
    """The finding that a question asks about, in its own words, side included and article left out.

    "Is there a left pleural effusion?" gives "left pleural effusion"; "Is the heart enlarged?" gives "enlarged heart".

    Raises:
        InputError: The table of findings knows no name in the question, or several.
    """
    asked = _about_a_finding(question)
    if asked.words:
        return asked.words.lower()
    if asked.finding == "no_finding":
        return FINDINGS["no_finding"].label.lower()
    return _default_term(asked).on(asked.side).text


def generate_prompt_variations(base_question: str) -> tuple[str, str]:
    """The specification's technical and simple version of a question, both with the question's own answer instruction.

    Returns:
        (technical, simple). A patient's word becomes the radiologist's in the first, and the other way round.

    Raises:
        InputError: The question names no finding of the table, or several, or says more than that the finding is there
            ("in the left lower lobe"), which the templates would drop; or it asks for the absence.
    """
    asked = _about_a_finding(base_question)
    if asked.template is None or asked.template.negative:
        why = "asks for the absence" if asked.template else f"says more than whether {asked.words!r} is there"
        raise InputError(f"{asked.core!r} {why}, which the two templates cannot say; write the two prompts yourself.")
    if asked.finding == "no_finding":
        own = SENTENCES["no_finding"]
        technical, simple = (next(t.text for t in own if t.register == register) for register in ("technical", "lay"))
    else:
        technical = TECHNICAL.text.format(t=_words(asked, "technical"))
        simple = SIMPLE.text.format(t=_words(asked, "lay"))
    return _dressed(asked, technical), _dressed(asked, simple)


def variations(
    question: str, *, strategies: Sequence[str] = STRATEGIES, n: int | None = None, seed: int = 0
) -> tuple[Variation, ...]:
    """Other wordings of a question, all different, the strategies in turn.

    A strategy's wordings are the same whichever others are asked for, and those of a smaller n are the first of a
    larger one's.

    Args:
        question: With or without an answer instruction, which every variation repeats as it stands.
        strategies: Of `FAMILIES`; "opposite" asks for the absence, so that the right answer is the other one.
        n: How many at most; None for all.
        seed: Not negative; decides the order. The same seed gives the same wordings.

    Raises:
        InputError: No such strategy, n or seed out of range, unusable text, or no rule applies to the question.
    """
    wanted = tuple(dict.fromkeys(strategies))
    for strategy in wanted:
        if strategy not in FAMILIES:
            raise unknown_name("strategy", strategy, FAMILIES)
    if not wanted or (n is not None and n < 1) or seed < 0:
        raise InputError(
            f"{n} variations by {len(wanted)} strategies with the seed {seed} cannot be made; "
            "name a strategy or more, give n from 1 and a seed from 0."
        )
    pool = _pool(question)
    found = tuple(_in_turn([_shuffled(pool, strategy, seed) for strategy in wanted]))
    if not found:
        raise InputError(_nothing(understand(question), wanted))
    return found[:n]


def written_variations(
    baseline: str, texts: Sequence[str], *, strategies: Sequence[str] | None = None
) -> tuple[Variation, ...]:
    """Wordings that somebody wrote, taken as they are; where both are understood, an opposite is found out as such.

    Args:
        baseline: The question that they are wordings of.
        texts: In the order wanted.
        strategies: What each is called; "own" where not given.

    Raises:
        InputError: Unusable text, a text twice, or another number of strategies than of texts.
    """
    names = ["own"] * len(texts) if strategies is None else list(strategies)
    if len(names) != len(texts):
        raise InputError(f"{len(texts)} wordings came with {len(names)} strategies; give one for each.")
    checked = [check_question(text) for text in texts]
    if repeated := next((text for text in checked if checked.count(text) > 1), None):
        raise InputError(f"The wording {repeated!r} stands {checked.count(repeated)} times; give it once.")
    base = _if_understood(baseline)
    return tuple(_written(base, text, name) for text, name in zip(checked, names, strict=True))


def read_variations(path: Path | str) -> dict[str, tuple[Variation, ...]]:
    """Baseline question -> its wordings, from a table with baseline_question, question_variant and maybe strategy.

    A wording that stands in several rows (one for each film) comes once.

    Raises:
        InputError: The file cannot be read, lacks a column, or holds no usable row.
    """
    groups: dict[str, dict[str, str]] = {}
    for row in read_variants(path).rows:
        groups.setdefault(row.baseline, {}).setdefault(row.text, row.strategy or "own")
    return {
        baseline: written_variations(baseline, list(texts), strategies=list(texts.values()))
        for baseline, texts in groups.items()
    }


# --- what is asked ---------------------------------------------------------------------------------------------------


def _about_a_finding(question: str) -> Asked:
    asked = understand(question)
    if asked.finding is None:
        known = ", ".join(finding.label for finding in FINDINGS.values())
        named = f"names {' and '.join(asked.several)}" if asked.several else "names no finding of the table"
        raise InputError(f"{asked.core!r} {named}; ask about one of {known}, or write the prompts yourself.")
    return asked


def _finding(asked: Asked) -> Finding:
    return FINDINGS[str(asked.finding)]


def _default_term(asked: Asked) -> Term:
    """The question's own term; for a whole sentence the usual one of its register."""
    if asked.term is not None:
        return asked.term
    lay = asked.template is not None and asked.template.register != "technical"
    return (_finding(asked).lay if lay else _finding(asked).technical)[0]


def _words(asked: Asked, register: Register) -> str:
    """The question's own words where they are of that register, else the usual ones."""
    finding, term = _finding(asked), _default_term(asked)
    if finding.register_of(term) == register:
        return asked.words.lower() or term.text
    terms = finding.technical if register == "technical" else finding.lay
    return next(term for term in terms if term.can_be(asked.side)).on(asked.side).text


def _dressed(asked: Asked, core: str) -> str:
    return f"{asked.before}{core}{asked.after}"


# --- all variations of a question ------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _pool(question: str) -> tuple[Variation, ...]:
    """Every variation once, those with fewer changes first, none of which is the question itself."""
    asked = understand(question)
    worded = _framed(asked) if asked.template is None else _reworded(_Base(asked, _finding(asked), asked.template))
    made = sorted(worded, key=lambda one: len(one.rules))
    found: dict[str, Variation] = {_plain(asked.core): Variation("", "", (), None, "", "same")}
    for one in made:
        found.setdefault(_plain(one.text), one)
    return tuple(_complete(asked, one) for one in list(found.values())[1:])


def _plain(sentence: str) -> str:
    return re.sub(r"\s+", " ", sentence.lower()).strip(" ?.!")


def _complete(asked: Asked, one: Variation) -> Variation:
    return Variation(_dressed(asked, one.text), one.strategy, one.rules, one.finding, one.side, one.expected)


@dataclass(frozen=True)
class _Base:
    """A question that is understood whole."""

    asked: Asked
    finding: Finding
    template: Template

    @property
    def side(self) -> Side:
        return self.asked.side

    @property
    def term(self) -> Term:
        return _default_term(self.asked)


def _reworded(base: _Base) -> Iterator[Variation]:
    """Every way of asking with every term, the question's own among both."""
    for sentence in SENTENCES.get(base.finding.name, ()):
        yield _made(base, sentence, sentence.text, (sentence.name,), _strategy_of(sentence, base))
    for term in (term for term in base.finding.terms if term.can_be(base.side)):
        change = _change_of_term(base.finding, base.term, term)
        for template in (base.template, *TEMPLATES):
            if _suits(template, term, base):
                rules, strategy = _told(change, template, base.template)
                yield _made(base, template, _filled(template, term, base.side), rules, strategy)


def _strategy_of(sentence: Template, base: _Base) -> str:
    """A sentence of a finding's own; one in the question's register is no change of register."""
    if sentence.strategy != "register":
        return sentence.strategy
    if base.asked.term is not None:
        return "phrasing" if base.finding.register_of(base.term) == sentence.register else "register"
    return "synonym" if base.template.register == sentence.register else "register"


def _suits(template: Template, term: Term, base: _Base) -> bool:
    """Whether a template can take a term, and is no second name for the question's own way of asking."""
    if template is base.template and base.asked.term is None:  # a whole sentence has no place for a term
        return False
    if template.register not in ("", base.finding.register_of(term)):
        return False
    if template.wants_side and not (base.side and term.side_in_front):
        return False
    if template.negative != base.template.negative:
        return term == base.term
    same_voice = bool(base.template.voice) and template.voice == base.template.voice
    return template is base.template or template.strategy != "voice" or not same_voice


def _change_of_term(finding: Finding, old: Term, new: Term) -> tuple[str, str] | None:
    """(rule, strategy) of saying the new term for the old one."""
    if new == old:
        return None
    if finding.register_of(new) != finding.register_of(old):
        return f"{finding.register_of(new)}_term", "register"
    return ("spelling" if same_but_for_spelling(old, new) else "another_term"), "synonym"


def _told(change: tuple[str, str] | None, template: Template, base: Template) -> tuple[tuple[str, ...], str]:
    """The rules applied, and the strategy that they make together."""
    changes = [change] if change else []
    if template is not base:
        changes.append((template.name, template.strategy))
    strategies = {strategy for _, strategy in changes}
    return tuple(rule for rule, _ in changes), strategies.pop() if len(strategies) == 1 else "combinations"


def _made(base: _Base, template: Template, text: str, rules: tuple[str, ...], strategy: str) -> Variation:
    flipped = template.negative != base.template.negative
    expected: Literal["same", "flipped"] = "flipped" if flipped else "same"
    return Variation(text, OPPOSITE if flipped else strategy, rules, base.finding.name, base.side, expected)


def _filled(template: Template, term: Term, side: Side) -> str:
    phrase, many = term.on(side), term.on(side).number == "many"
    where = {"": "", "both": "on both sides"}.get(side, f"on the {side} side")
    if template.wants_side:
        many = term.number == "many"
    text = template.text.format(
        a=phrase.indefinite,
        t=phrase.text,
        be="are" if many else "is",
        do="do" if many else "does",
        unsided=term.on("").indefinite,
        side=where,
    )
    return text[0].upper() + text[1:]


# --- questions that are not understood whole --------------------------------------------------------------------------

#: Words with which a question starts, so that others may stand before it.
_STARTERS = (
    "is", "are", "was", "were", "do", "does", "did", "can", "could", "would", "should", "will", "has", "have", "where",
    "which", "what", "how", "who", "when", "why", "on", "in", "looking",
)  # fmt: skip
_LEADS = (
    ("look_first", "phrasing", "Look at the picture carefully. {Q}"),
    ("please_answer", "phrasing", "Please answer this: {q}"),
    ("formal_lead", "register", "Radiological assessment: {Q}"),
    ("lay_lead", "register", "As a patient I would like to know: {q}"),
)
_A_FILM = re.compile(r"radiograph|x[-\s]?ray|image|film|picture|scan|cxr|view|stud(?:y|ies)|exam", re.IGNORECASE)
_AT_END = re.compile(rf"^(?P<rest>.*\S)\s+(?P<at>(?:in|on)\s+{FILM})(?P<mark>[?.]?)$", re.IGNORECASE)
_AT_START = re.compile(rf"^(?P<at>(?:in|on)\s+{FILM}),\s+(?P<rest>.*?)(?P<mark>[?.]?)$", re.IGNORECASE)


def _framed(asked: Asked) -> Iterator[Variation]:
    """The question's own words, with others before them, or the words for the film moved."""

    def made(text: str, rules: tuple[str, ...], strategy: str) -> Variation:
        return Variation(text, strategy, rules, asked.finding, asked.side, "same")

    moved = _moved(asked.core)
    for core, rule in ((asked.core, None), moved):
        if core is None:
            continue
        if rule:
            yield made(core, (rule,), "clause_order")
        for name, strategy, lead in _LEADS:
            if (text := _led(lead, core)) is not None:
                yield made(text, (rule, name) if rule else (name,), "combinations" if rule else strategy)


def _moved(core: str) -> tuple[str | None, str | None]:
    """The question with the words for the film at its other end, or added in front where there are none."""
    if match := _AT_END.match(core):
        if (rest := _lowered(match["rest"])) is not None:
            return f"{_raised(match['at'])}, {rest}{match['mark']}", "film_first"
    elif match := _AT_START.match(core):
        return f"{_raised(match['rest'])} {match['at'][0].lower()}{match['at'][1:]}{match['mark']}", "film_last"
    elif not _A_FILM.search(core) and (rest := _lowered(core)) is not None:
        return f"On this chest radiograph, {rest}", "film_first"
    return None, None


def _led(lead: str, core: str) -> str | None:
    """None where such a lead stands there already, or the question cannot go on after a colon."""
    if ":" in lead and ":" in core:
        return None
    if "{Q}" in lead:
        return lead.format(Q=_raised(core))
    rest = _lowered(core)
    return None if rest is None else lead.format(q=rest)


def _lowered(sentence: str) -> str | None:
    """With a small letter, where it starts with a word that is sure to be no name."""
    first = re.match(r"[A-Za-z]+", sentence)
    if first is None or first.group().lower() not in _STARTERS or first.group().isupper():
        return None
    return sentence[0].lower() + sentence[1:]


def _raised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


# --- order -----------------------------------------------------------------------------------------------------------


def _shuffled(pool: Sequence[Variation], strategy: str, seed: int) -> list[Variation]:
    own = [one for one in pool if one.strategy == strategy]
    order = np.random.default_rng((seed, FAMILIES.index(strategy))).permutation(len(own))
    return [own[index] for index in order]


def _in_turn(columns: Sequence[Sequence[Variation]]) -> Iterator[Variation]:
    return (one for row in zip_longest(*columns) for one in row if one is not None)


def _nothing(asked: Asked, strategies: Sequence[str]) -> str:
    if asked.whole:
        why = "no rule of these strategies applies to it"
    elif asked.finding is None:
        why = "its finding is not in the table, so that only its surroundings can be varied"
    else:
        why = "it says more than whether the finding is there, so that only its surroundings can be varied"
    return (
        f"{asked.core!r} has no variation by {', '.join(strategies)}: {why}. Ask for other strategies, or write some."
    )


# --- other people's wordings -----------------------------------------------------------------------------------------


def _if_understood(text: str) -> Asked | None:
    """None where the text is no single question: people may write what they like."""
    try:
        return understand(text)
    except InputError:
        check_question(text)  # unusable text stays an error
        return None


def _written(base: Asked | None, text: str, strategy: str) -> Variation:
    asked = _if_understood(text)
    templates = [one.template for one in (base, asked) if one is not None and one.template is not None]
    flipped = len(templates) == 2 and templates[0].negative != templates[1].negative
    finding, side = (None, "") if asked is None else (asked.finding, asked.side)
    return Variation(text, strategy, (), finding, side, "flipped" if flipped else "same")
