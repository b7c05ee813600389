"""Tab 3: several wordings asked of the current film. Does the answer change, does the map?

Knows which prompts are offered and what is to be said of the comparison; the asking is `verbs.compare`. The truth that
is shown is that of the stored pair: it is compared with the stored question and its two forms only, never with what a
visitor typed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medgemma_visualizer import verbs
from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import copies
from medgemma_visualizer.app.actions.analysis import film, here
from medgemma_visualizer.app.desk import Desk, Progress
from medgemma_visualizer.app.parts import Safe, facts, note, picture, table
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.app.viewer import view
from medgemma_visualizer.checks.compare import Asked, Comparison
from medgemma_visualizer.checks.prompts import generate_prompt_variations, variations
from medgemma_visualizer.checks.trust import DISTRUST, Trust
from medgemma_visualizer.data.inputs import check_question, check_target
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case, Heatmap
from medgemma_visualizer.telling import comparison as telling

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_visualizer.models.reading import Reading

#: Prompts that the page compares.
FEWEST, MOST = 2, 8
KEY = "sensitivity"
#: Cells of a difference that are listed.
LISTED = 5


@dataclass(frozen=True)
class Prefilled:
    """What the boxes hold at first.

    Attributes:
        prompts: Two.
        note: Why they are not the technical and the simple form; "" where they are.
    """

    prompts: tuple[str, str]
    note: str = ""


@dataclass(frozen=True)
class Compared:
    """What one press of Compare came to.

    Attributes:
        comparison: All prompts with answers and maps.
        case: What it is about.
        trust: The verdict on the maps, by the league of the model.
        target: As asked; None for each prompt's own answer.
        picture: Maps side by side and their differences.
    """

    comparison: Comparison
    case: Case
    trust: Trust
    target: str | None
    picture: Image


# --- what is asked ---------------------------------------------------------------------------------------------------


def prefilled(session: Session) -> Prefilled:
    """The technical and the simple form of the current question; the question itself where it has no such forms.

    Raises:
        InputError: Nothing has been analysed.
    """
    question = session.current().case.question
    try:
        return Prefilled(generate_prompt_variations(question))
    except InputError as error:
        return Prefilled((question, ""), str(error))


def more(session: Session, prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts that stand there, and further wordings of the question by rule, up to `MOST` in all.

    Raises:
        InputError: Nothing has been analysed, or no rule applies to the question.
    """
    written = [prompt.strip() for prompt in prompts if prompt.strip()]
    made = [one.text for one in variations(session.current().case.question, n=2 * MOST)]
    return (*written, *(text for text in made if text not in written))[:MOST]


def compare(
    desk: Desk, session: Session, prompts: Sequence[str], method: str | None = None, target: str | None = None
) -> Iterator[Progress | Compared]:
    """Asks all prompts that are not empty; gives progress, at last the comparison.

    Raises:
        InputError: Nothing has been analysed, fewer than two prompts, or an unusable one.
        UnavailableError: The method cannot explain this target.
        Cancelled: The visitor called it off, or went on to another case.
    """
    case = session.current().case
    asked = [check_question(prompt) for prompt in prompts if prompt.strip()]
    if not FEWEST <= len(asked) <= MOST:
        raise InputError(f"{FEWEST} to {MOST} prompts can be compared; written: {len(asked)}. Write another one.")
    if target is not None:
        check_target(target)
    how: dict[str, Any] = {"method": method, "target": target, "labels": [_label(case, text) for text in asked]}
    for step in session.asks(desk, lambda model: _found(verbs.compare(model, case, asked, **how), case, target)):
        if not isinstance(step, Progress):
            session.results[KEY] = step
        yield step


def _found(comparison: Comparison, case: Case, target: str | None) -> Compared:
    trust = verbs.trust_of(verbs.analysis_of(comparison, case))
    drawn = verbs.draw_comparison(comparison, case, trusted=trust.word != DISTRUST)
    bare = tuple(replace(one, reading=_fresh(one)) for one in comparison.prompts)
    return Compared(replace(comparison, prompts=bare), case, trust, target, drawn)


def _fresh(one: Asked) -> Reading:
    """The reading without what it has computed, which would stay in memory as long as the session."""
    assert one.reading is not None
    return replace(one.reading)


def _forms(question: str) -> dict[str, str]:
    """Wordings that ask the same, each with what it is called."""
    try:
        technical, simple = generate_prompt_variations(question)
    except InputError:  # a question without forms has only itself
        return {question: words.THE_QUESTION}
    return {technical: words.TECHNICAL, simple: words.SIMPLE, question: words.THE_QUESTION}


def _label(case: Case, text: str) -> str:
    return _forms(case.question).get(text, text)


def found(session: Session) -> Compared:
    """The comparison that is shown.

    Raises:
        InputError: There is none yet.
    """
    there: Compared | None = session.results.get(KEY)
    if there is None:
        raise InputError(words.NOTHING_COMPARED)
    return there


# --- what is shown ---------------------------------------------------------------------------------------------------


def answers_part(shown: Compared) -> Safe:
    """Every prompt in full with its answer, whether that changed, and whether it is right."""
    rows = [
        (*row[:2], one.question, *row[2:], _right(shown.case, one.question, one.answer.label))
        for row, one in zip(telling.answers(shown.comparison), shown.comparison.prompts, strict=True)
    ]
    _, name, *rest = telling.ANSWERS
    headings = (words.NUMBER, name, words.PROMPT_TEXT, *rest, words.AS_TRUTH)
    notices = dict.fromkeys(one.answer.notice for one in shown.comparison.prompts if one.answer.notice)
    return Safe(truth_part(shown.case) + table(rows, headings, words.ANSWERS_CAPTION) + "".join(map(note, notices)))


def truth_part(case: Case) -> Safe:
    """The stored truth, with the question that it belongs to."""
    if case.truth is None:
        return note(words.NO_TRUTH)
    return facts([(words.TRUTH_OF.format(question=case.question), case.truth)])


def _right(case: Case, question: str, label: str) -> str:
    """Whether the answer is the stored truth, for wordings that are known to ask the same."""
    if case.truth is None or question not in _forms(case.question):
        return "–"
    return words.RIGHT if label.casefold() == case.truth.casefold() else words.WRONG.format(truth=case.truth)


def maps_part(shown: Compared) -> Safe:
    """Pictures, agreement of the maps, and what the divergences are to be read beside."""
    comparison = shown.comparison
    sentences = [*telling.failures(comparison), *telling.summary(comparison)]
    rows = [("1–" + row[0], *row[1:]) for row in telling.maps(comparison)]
    plain = facts([(one.label, one.text) for one in _joined(sentences) if not one.grave])
    grave = "".join(note(f"{one.label}: {one.text}") for one in sentences if one.grave)
    trust = facts([("Maps", f"{comparison.method}"), ("Trust", str(here(shown.trust)))])
    headings = ("Maps", *telling.MAPS[1:])
    drawn = picture(shown.picture, words.COMPARISON_PICTURE.format(count=len(comparison.prompts)))
    return Safe(drawn + table(rows, headings, words.MAPS_CAPTION) + plain + grave + trust)


def _joined(sentences: Sequence[telling.Sentence]) -> list[telling.Sentence]:
    """Sentences about one thing together, a line each."""
    together: dict[tuple[str, bool], list[str]] = {}
    for one in sentences:
        together.setdefault((one.label, one.grave), []).append(one.text)
    return [telling.Sentence(label, "\n".join(texts), grave) for (label, grave), texts in together.items()]


def differences(shown: Compared) -> list[tuple[str, int]]:
    """Menu of the differences that can be looked at: what it is called, and the prompt's place."""
    prompts = shown.comparison.prompts
    if not prompts[0].heatmap.available:
        return []
    return [(f"1 − {n + 1}", n) for n, one in enumerate(prompts) if n and one.heatmap.available]


def difference_view(session: Session, n: int) -> dict[str, Any]:
    """The viewer's value for the first map less map n, cell by cell in percentage points of all relevance.

    Raises:
        InputError: Nothing has been compared, or one of the two has no map.
    """
    shown = found(session)
    moved = shown.comparison.difference(n)
    first = shown.comparison.prompts[0].heatmap
    drawn = view(
        film(session),
        _as_heatmap(first, moved),
        description=words.DIFFERENCE_PICTURE.format(n=n + 1),
        notes=[words.DIFFERENCE_READ.format(n=n + 1), *_trust_notes(shown.trust)],
        signed=True,
        unit="value",
        trusted=shown.trust.word != DISTRUST,
    )
    return drawn | {"label": words.POINTS}


def _as_heatmap(first: Heatmap, moved: np.ndarray) -> Heatmap:
    """A difference in per cent, in the form that viewers take."""
    percent = (100 * moved).astype(np.float32)
    return replace(first, grid=np.abs(percent), signed=percent)


def _trust_notes(trust: Trust) -> list[str]:
    return [f"{words.DO_NOT_TRUST}: {trust.reasons[0]}"] if trust.word == DISTRUST else []


def difference_part(shown: Compared, n: int) -> Safe:
    """The cells that differ most, and how much relevance moved in all.

    Raises:
        InputError: One of the two has no map.
    """
    moved = shown.comparison.difference(n)
    order = np.argsort(-np.abs(moved), axis=None, kind="stable")[:LISTED]
    cells = [np.unravel_index(int(place), moved.shape) for place in order]
    rows = [(f"row {row}, column {col}", f"{100 * moved[row, col]:+.2f}") for row, col in cells]
    told = words.MOVED.format(share=float(np.abs(moved).sum()) / 2, n=n + 1)
    return Safe(note(told) + table(rows, words.DIFFERENCE_HEADINGS, words.DIFFERENCE_CAPTION.format(n=n + 1)))


# --- to take away ----------------------------------------------------------------------------------------------------


def copies_part(shown: Compared) -> Safe:
    """The command and the lines of Python that compare the same."""
    prompts = [one.question for one in shown.comparison.prompts]
    model = shown.comparison.prompts[0].heatmap.model
    given = {"--prompt": prompts, "--method": shown.comparison.method, "--target": shown.target, "--model": model}
    told = {"prompts": prompts, "method": shown.comparison.method, "target": shown.target}
    after = ["print([one.answer.text for one in result.prompts], result.js)"]
    return copies.copies(
        copies.command("compare", shown.case, given), copies.python("compare", shown.case, model, told, after)
    )


def links(session: Session) -> Safe:
    """Downloads: picture, maps with differences, all numbers, the two tables, and one page.

    Raises:
        InputError: Nothing has been compared.
    """
    shown = found(session)
    comparison = shown.comparison
    rows = [telling.ANSWERS, *telling.answers(comparison), (), telling.MAPS, *telling.maps(comparison)]
    return copies.files(
        "comparison",
        pictures={"comparison": shown.picture},
        arrays=copies.npz(**_arrays(comparison)),
        document=telling.document(comparison, shown.case),
        rows=rows,
        page=answers_part(shown) + maps_part(shown),
    )


def _arrays(comparison: Comparison) -> dict[str, np.ndarray]:
    """Every map, every difference to the first, and all divergences."""
    maps = {n: one.heatmap.map for n, one in enumerate(comparison.prompts, 1) if one.heatmap.available}
    gaps = {f"difference_1_{n}": comparison.difference(n - 1) for n in maps if n > 1 and 1 in maps}
    return {**{f"map_{n}": grid for n, grid in maps.items()}, **gaps, "js": comparison.js}
