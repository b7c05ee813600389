"""What the prompts of a comparison are, and what its divergences are read beside, where nobody said.

Knows findings, questions and the embedded films; does not know models. Nothing is made up: where a question is not
understood there is no other finding to ask about, and of other people's pictures there are no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from medgemma_visualizer.checks.asked import understand
from medgemma_visualizer.checks.prompts import (
    STRATEGIES,
    Variation,
    generate_prompt_variations,
    read_variations,
    variations,
    written_variations,
)
from medgemma_visualizer.data.findings import FINDINGS
from medgemma_visualizer.data.inputs import check_question
from medgemma_visualizer.data.questions import QUESTION_FILE_SUFFIXES
from medgemma_visualizer.data.sources import demo_cases
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case

#: Asked about instead, the first that is not the question's own.
OTHERS = ("pneumothorax", "cardiomegaly")
#: How many other pictures a divergence is read beside.
PICTURES = 3


def text_of(prompt: str | Variation) -> str:
    """What is asked."""
    return prompt if isinstance(prompt, str) else prompt.text


def prompts_for(
    question: str | None,
    *,
    own: Sequence[str] = (),
    file: Path | None = None,
    count: int | None = None,
    strategies: Sequence[str] = STRATEGIES,
    seed: int = 0,
) -> tuple[str | Variation, ...]:
    """The prompts to compare, the one that the others are compared with first: the question, else the first of `own`.

    Args:
        question: What the picture was to be asked; it takes part unless two or more own prompts stand for themselves.
        own: Prompts that somebody wrote.
        file: A table with baseline_question and question_variant, of which the question's wordings are taken, or a
            text file with one prompt a line.
        count: How many variations of the first prompt are added; None for none.
        strategies: Of these variations.
        seed: Of these variations.

    Returns:
        What somebody wrote as it stands, then those of what was made that are not among it; empty where nothing was
        given.

    Raises:
        InputError: Unusable text or file, or no prompt to start from.
    """
    if not own and file is None and count is None:
        return ()
    alone = len(own) > 1 and file is None and count is None
    texts = [check_question(text) for text in own]
    if question is not None and not alone:
        texts = [check_question(question), *texts]
    groups = read_variations(file) if file is not None and file.name.lower().endswith(QUESTION_FILE_SUFFIXES) else {}
    lines = _lines(file) if file is not None and not groups else []
    if not texts + lines and len(groups) == 1:
        texts = list(groups)
    if not texts + lines:
        several = f"; {str(file)!r} has wordings of {len(groups)}" if groups else ""
        raise InputError(f"There is no question to start from{several}. Give the question, or a prompt.")
    first, *rest = texts + lines
    added = list(_of_question(groups, first, file)) if groups else []
    if count is not None:
        added += variations(first, strategies=strategies, n=count, seed=seed)
    found: dict[str, Variation] = {}
    for one in added:
        found.setdefault(one.text, one)
    written = (one for text in rest for one in written_variations(first, [text]))
    return (first, *written, *(one for text, one in found.items() if text not in texts + lines))


def _of_question(
    groups: Mapping[str, tuple[Variation, ...]], question: str, file: Path | None
) -> tuple[Variation, ...]:
    """The question's wordings.

    Raises:
        InputError: There are none.
    """
    if question not in groups:
        some = "; ".join(list(groups)[:3])
        raise InputError(
            f"{str(file)!r} has no wordings of {question!r}. It has those of {len(groups)} questions ({some}"
            f"{' …' if len(groups) > 3 else ''}); ask one of these."
        )
    return groups[question]


def _lines(file: Path) -> list[str]:
    """One prompt a line; empty lines count for nothing.

    Raises:
        InputError: The file cannot be read or holds no text.
    """
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(
            f"{str(file)!r} cannot be read ({reason}). Give a text file with one prompt a line, or a table "
            "(.csv, .tsv) with baseline_question and question_variant."
        ) from error
    found = [check_question(line) for line in lines if line]
    if not found:
        raise InputError(f"{str(file)!r} holds no prompt; write one a line.")
    return found


def other_finding(question: str) -> str | None:
    """A question about another finding, with the same answer instruction; None where it is not clear what is asked."""
    try:
        asked = understand(question)
    except InputError:  # people may ask two things at once; then no finding is the other one
        return None
    if asked.finding is None or asked.finding == "no_finding":
        return None
    name = next(name for name in OTHERS if name != asked.finding)
    term = FINDINGS[name].technical[0].text
    return generate_prompt_variations(f"{asked.before}Is there evidence of {term}?{asked.after}")[0]


def other_films(case: Case) -> tuple[Case, ...]:
    """Embedded cases of other patients with other films, for an embedded case; none for any other."""
    if not case.simulated:
        return ()
    films: dict[object, Case] = {}
    for one in demo_cases():
        if one.patient_id != case.patient_id and one.image != case.image:
            films.setdefault(one.patient_id, one)
    return tuple(films.values())[:PICTURES]
