"""Prompt sensitivity of a set as text for a page: every share with its intervals, every divergence with its context.

Knows how to word what was summed up; computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from medgemma_visualizer.checks.sensitivity import Moved, Sensitivity, Share, Strategy
from medgemma_visualizer.checks.wordings import Wording
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.scores.statistics import Estimate

COMMAND = "make sensitivity"
CONTEXT = {
    "other_picture": "the same question about another patient's picture",
    "other_finding": "a question about another finding in the same picture",
}
_HEADINGS = (
    "strategy",
    "wordings (questions)",
    "flips, 95 % by Wilson",
    "95 % by patient",
    "right, less the question's own",
    "p, by Holm",
    "JS of the maps",
)


def marks(command: str) -> tuple[str, str]:
    """What stands around the part of a page that a command writes anew."""
    return f"<!-- begin: {command} -->", f"<!-- end: {command} -->"


BEGIN, END = marks(COMMAND)


def rewritten(page: str, part: str, command: str = COMMAND) -> str:
    """A page with the part that a command generates replaced.

    Raises:
        InputError: The page lacks the marks, or has them more than once.
    """
    first, last = marks(command)
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in rest or last in after:
        raise InputError(
            f"The page must hold {first!r} and, after it, {last!r} once each. Write them where they belong."
        )
    return f"{before}{first}\n\n{part.strip()}\n\n{last}{after}"


def markdown(found: Sensitivity, about: str) -> str:
    """Everything as a part of a page in Markdown.

    Args:
        about: Model and command, as a sentence.
    """
    return "\n\n".join(
        [
            f"{about} {found.groups} questions about pictures of {found.patients} patients, {found.wordings} wordings, "
            f"maps by `{found.method}`, seed {found.seed}.",
            _table(_HEADINGS, [_row(one) for one in found.strategies]),
            "\n".join(f"- {one}" for one in _findings(found)),
            "**Another answer, and the map did not move**",
            _gallery(found.stable_flips),
            "**The same answer, and the map moved**",
            _gallery(found.moved_same),
        ]
    )


def _row(one: Strategy) -> list[str]:
    right = "–" if one.accuracy is None else f"{_points(one.accuracy)}"
    return [
        one.name.replace("_", " "),
        f"{one.flips.n} ({one.groups})",
        _share(one.flips),
        _interval(one.flips.by_patient, percent=True),
        right,
        "–" if one.corrected is None else _p(one.corrected),
        "–" if one.divergence is None else _number(one.divergence),
    ]


def _findings(found: Sensitivity) -> Iterator[str]:
    yield f"Answer consistency of a question and its wordings: {_number(found.consistency)} (mean over questions)."
    if found.opposites is not None:
        told = f"Opposites turned the answer round, as they should, in {_share(found.opposites)}"
        right = found.opposites_right
        yield f"{told}{'' if right is None else f'; {_share(right)} of their answers were right'}."
    if found.correlation is None:
        yield "|Δ p(yes)| and JS of the maps: no correlation, as one of the two does not vary."
    else:
        n = found.correlation.n
        yield f"|Δ p(yes)| and JS of the maps: Spearman {_number(found.correlation)}, n = {n} wordings."
    yield from _moved(found)
    for name, estimate in found.context.items():
        yield f"For context: JS of {CONTEXT[name]} is {_number(estimate)}, n = {estimate.n} pairs."
    left = found.correlation.left_out if found.correlation else 0
    yield f"A map counts as moved from JS {found.boundary:.3f}. {left} wordings have no p(yes) or no map."
    for what, reasons in (("cases left out", found.left_out), ("wordings without a map", found.without_map)):
        yield f"{sum(reasons.values())} {what}{': ' if reasons else ''}{_reasons(reasons)}."


def _reasons(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{count} × {reason.rstrip('.')}" for reason, count in reasons.items())


def _moved(found: Sensitivity) -> Iterator[str]:
    kinds = (
        ("for what the question itself was answered", found.moved),
        ("each for its own answer", found.moved_answered),
    )
    for kind, moved in kinds:
        if moved is None:
            yield f"Is the map different where the answer flips ({kind})? No question has both kinds of wordings."
        else:
            yield f"Is the map different where the answer flips ({kind})? {_paired(moved)}"


def _paired(moved: Moved) -> str:
    return (
        f"JS of flipped less that of kept wordings of the same question: {_number(moved.difference)}, "
        f"{moved.groups} questions with both; Wilcoxon over {moved.test.n} patients {_p(moved.test.p_value)}, "
        f"rank-biserial effect {moved.test.effect:+.2f}."
    )


def _gallery(rows: Sequence[Wording]) -> str:
    if not rows:
        return "None."
    headings = ("case", "question", "wording", "strategy", "answers", "JS")
    return _table(headings, [[r.case_id, r.question, r.text, r.strategy, _answers(r), f"{r.js:.3f}"] for r in rows])


def _answers(row: Wording) -> str:
    return row.said.label if row.said.label == row.base.label else f"{row.base.label} → {row.said.label}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _share(share: Share) -> str:
    low, high = share.interval
    return f"{share.count} of {share.n}, {share.value:.1%} ({low:.1%} … {high:.1%})"


def _interval(estimate: Estimate, *, percent: bool = False) -> str:
    if estimate.interval is None:
        return "–"
    low, high = estimate.interval
    return f"{low:.1%} … {high:.1%}" if percent else f"{low:.3f} … {high:.3f}"


def _number(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({_interval(estimate)})"


def _points(estimate: Estimate) -> str:
    """A difference of shares in percentage points."""
    low, high = estimate.interval or (float("nan"), float("nan"))
    span = "" if estimate.interval is None else f" ({100 * low:+.1f} … {100 * high:+.1f})"
    return f"{100 * estimate.value:+.1f} points{span}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
