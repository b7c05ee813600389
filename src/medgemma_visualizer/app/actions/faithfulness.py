"""Tab 4: does the map of the current case tell the truth? Validation and sanity checks, each when it is asked for.

Knows which map is meant and what has been asked of it so far; the asking is `verbs.check_analysis`, the wording that of
`telling.check`. The verdict always rests on everything that was asked of this very map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medgemma_visualizer import verbs
from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import copies
from medgemma_visualizer.app.actions.analysis import with_model
from medgemma_visualizer.app.desk import Desk, Progress
from medgemma_visualizer.app.parts import Safe, facts, note, picture, table
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.checks.trust import DISTRUST
from medgemma_visualizer.checks.whole import Check
from medgemma_visualizer.data.inputs import check_target
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.telling import analysis as telling_analysis
from medgemma_visualizer.telling import check as telling

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_visualizer.models.adapter import Model
    from medgemma_visualizer.verbs import Analysis

Which = Literal["validation", "sanity"]
KEY = "faithfulness"
#: What the pictures of `telling.check` are called on the page.
PICTURES = {"curves.png": words.CURVES_PICTURE, "sanity.png": words.SANITY_PICTURE}


@dataclass(frozen=True)
class Checked:
    """A map and all that was asked of it so far.

    Attributes:
        analysis: The map, as asked with `method` and `target`.
        check: Results; parts that are None were not asked.
        method: As asked; None for the recommended one.
        target: As asked.
        pictures: "map", "curves.png" and "sanity.png", as far as there is something to draw.
    """

    analysis: Analysis
    check: Check
    method: str | None
    target: str | None
    pictures: dict[str, Image]


# --- asking ----------------------------------------------------------------------------------------------------------


def run(
    desk: Desk, session: Session, which: Which, method: str | None = None, target: str | None = None
) -> Iterator[Progress | Checked]:
    """Asks one half; gives progress, at last the map with everything that was asked of it, the other half included.

    Raises:
        InputError: Nothing has been analysed, or an unusable method or target.
        UnavailableError: The method cannot explain this target.
        Cancelled: The visitor called it off, or went on to another case.
    """
    current = session.current()
    if target is not None:
        check_target(target)
    before = _before(session, method, target)

    def work(model: Model) -> Checked:
        analysis = _explained(model, current, before, method, target)
        return _checked(analysis, which, before, method, target)

    for step in session.asks(desk, work, changes_weights=which == "sanity"):
        if not isinstance(step, Progress):
            step = replace(step, analysis=with_model(step.analysis, desk.double))  # not a copy made for this check
            session.results[KEY] = step
        yield step


def _before(session: Session, method: str | None, target: str | None) -> Checked | None:
    """What was asked of this very map before; of another map's checks nothing is kept."""
    there: Checked | None = session.results.get(KEY)
    return there if there is not None and (there.method, there.target) == (method, target) else None


def _explained(
    model: Model, current: Analysis, before: Checked | None, method: str | None, target: str | None
) -> Analysis:
    """The map that was checked before, so that both halves are about one; a new one where there is none."""
    if before is not None:
        return with_model(before.analysis, model)
    return verbs.analyze(model, current.case, method=method, target=target)


def _checked(
    analysis: Analysis, which: Which, before: Checked | None, method: str | None, target: str | None
) -> Checked:
    known = None if before is None else before.check
    asked: dict[str, Any] = {"faithful": which == "validation", "sanity": which == "sanity", "known": known}
    check = verbs.check_analysis(analysis, target, **asked)
    drawn = verbs.draw(analysis.heatmap, analysis.case, answer=analysis.answer.text, trust=check.trust)
    bare = replace(analysis, reading=replace(analysis.reading))  # what was computed on the way is not kept
    return Checked(bare, check, method, target, {"map": drawn, **telling.pictures(check)})


def found(session: Session) -> Checked:
    """What is shown.

    Raises:
        InputError: Nothing has been asked yet.
    """
    there: Checked | None = session.results.get(KEY)
    if there is None:
        raise InputError(words.NOTHING_CHECKED)
    return there


# --- what is shown ---------------------------------------------------------------------------------------------------


def verdict_part(shown: Checked) -> Safe:
    """The word, every reason, what was not asked, and what the asking took."""
    check, heatmap = shown.check, shown.analysis.heatmap
    said = words.DO_NOT_TRUST if check.trust.word == DISTRUST else check.trust.word
    rows: list[tuple[str, object]] = [
        ("Question", check.case.question),
        ("Answer", check.answer.text),
        ("Map", f"{heatmap.method}, explains {heatmap.target.text} ({heatmap.target.kind})"),
        ("Trust", said),
        ("Because", "\n".join(check.trust.reasons)),
        ("Verdict", check.verdict if check.faithfulness is not None else words.NOT_VALIDATED),
        *((words.NOT_ASKED, f"{name}: {reason}") for name, reason in check.failures.items()),
        ("Asked", telling.asked(check)),
    ]
    return Safe(facts(rows) + note(check.answer.notice))


def table_part(shown: Checked) -> Safe:
    """Metric, value, target, chance, status of everything that was asked."""
    return table(telling.rows(shown.check), telling.HEADINGS, words.CHECK_CAPTION)


def validation_part(shown: Checked) -> Safe:
    """Deletion and insertion curves with their controls; "" where these were not asked."""
    return _picture(shown, "curves.png")


def sanity_part(shown: Checked) -> Safe:
    """Randomisation curves, the order of the image tokens, and the quadrant test; "" where these were not asked."""
    check = shown.check
    rows: list[tuple[str, object]] = []
    if check.token_order is not None:
        cells = check.token_order.answers.size
        rows += [
            ("Token order", f"{cells - len(check.token_order.misses)} of {cells} image tokens belong to their cell")
        ]
    if check.quadrants is not None:
        score = check.quadrants.score
        rows += [("Quadrant test", f"{telling_analysis.value_of(score)} — {telling.status(check, 'quadrant_test')}")]
    if check.random_target is not None:
        score = check.random_target.scores["text_dependence"]
        rows += [("Another question", f"{telling_analysis.value_of(score)}")]
    return Safe((facts(rows) if rows else "") + _picture(shown, "sanity.png"))


def map_part(shown: Checked) -> Safe:
    """The map that is judged, stamped with the verdict."""
    return picture(shown.pictures["map"], words.CHECKED_MAP.format(question=shown.check.case.question))


def _picture(shown: Checked, name: str) -> Safe:
    return picture(shown.pictures[name], PICTURES[name]) if name in shown.pictures else Safe("")


# --- to take away ----------------------------------------------------------------------------------------------------


def copies_part(shown: Checked) -> Safe:
    """The command and the lines of Python that ask the same; the command always validates."""
    case, model = shown.check.case, shown.analysis.heatmap.model
    sane = shown.check.randomisation is not None or "randomisation" in shown.check.failures
    method = shown.analysis.heatmap.requested
    given = {"--method": method, "--target": shown.target, "--no-sanity": not sane, "--model": model}
    told: dict[str, Any] = {"method": method, "target": shown.target}
    told |= {} if sane else {"sanity": False}
    told |= {} if _validated(shown) else {"faithful": False}
    after = ["print(result.trust)", "print(result.scores)"]
    return copies.copies(copies.command("check", case, given), copies.python("check", case, model, told, after))


def _validated(shown: Checked) -> bool:
    return shown.check.faithfulness is not None or "faithfulness" in shown.check.failures


def links(session: Session) -> Safe:
    """Downloads: pictures, map and curves as arrays, all numbers, the table, and one page.

    Raises:
        InputError: Nothing has been asked yet.
    """
    shown = found(session)
    check = shown.check
    further = {"check": telling.document(check), "trust": asdict(check.trust)}
    page = verdict_part(shown) + map_part(shown) + table_part(shown) + validation_part(shown) + sanity_part(shown)
    return copies.files(
        "check",
        pictures={name.removesuffix(".png"): image for name, image in shown.pictures.items()},
        arrays=copies.npz(**_arrays(shown)),
        document=telling_analysis.document(shown.analysis, further),
        rows=[telling.HEADINGS, *telling.rows(check)],
        page=page,
    )


def _arrays(shown: Checked) -> dict[str, np.ndarray]:
    """The map, and f along its curves by imputer."""
    heatmap, faithful = shown.analysis.heatmap, shown.check.faithfulness
    arrays = {} if heatmap.grid is None else {"grid": heatmap.grid}
    for name, curves in {} if faithful is None else faithful.curves.items():
        arrays |= {f"{name}_{part}": getattr(curves.map, part) for part in ("shares", "without", "alone")}
    return arrays
