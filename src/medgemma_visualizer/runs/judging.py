"""Whether an answer is right. Knows a case's truth and options; knows no model and no picture."""

from __future__ import annotations

from medgemma_visualizer.records import Case


def kind_of(case: Case) -> str:
    """What answers a question takes: "yes/no", "choice" (of its options), or "open"."""
    if _answers(case) <= {"yes", "no"}:
        return "yes/no"
    return "choice" if case.options else "open"


def judged(label: str, case: Case) -> bool | None:
    """Whether the label is the truth.

    None where nothing can be compared: no truth, an open question, or a truth that is none of the question's options,
    which no answer could ever meet.
    """
    if case.truth is None or kind_of(case) == "open" or case.truth.casefold() not in _answers(case):
        return None
    return label.casefold() == case.truth.casefold()


def _answers(case: Case) -> set[str]:
    """The options, else the truth alone."""
    return {option.casefold() for option in case.options} or {(case.truth or "").casefold()}
