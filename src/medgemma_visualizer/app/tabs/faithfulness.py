"""The tab "Faithfulness Validation": does the map of the current case tell the truth?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import faithfulness as actions
from medgemma_visualizer.app.actions.faithfulness import Checked, Which
from medgemma_visualizer.app.page import Page, on
from medgemma_visualizer.app.parts import facts, in_place, note
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.app.tabs import _layout, _long
from medgemma_visualizer.heatmaps import METHODS

Updates = dict[Any, Any]


def create(page: Page) -> None:
    """Lays the tab out."""
    _layout.lead("faithfulness", words.FAITHFULNESS_LEAD)
    asked, shown = _layout.two_columns(_asked, _shown)
    _Handlers(page, asked, shown).connect()


@dataclass(frozen=True)
class _Asked:
    """What a visitor chooses and presses."""

    case: gr.HTML
    method: gr.Radio
    target: gr.Textbox
    validate: gr.Button
    sanity: gr.Button
    cancel: gr.Button


@dataclass(frozen=True)
class _Shown:
    """Where results stand."""

    alert: gr.HTML
    progress: gr.HTML
    hint: gr.HTML
    verdict: gr.HTML
    map: gr.HTML
    curves: gr.HTML
    table: gr.HTML
    checks: gr.HTML
    copies: gr.HTML
    prepare: gr.Button
    links: gr.HTML


def _asked() -> _Asked:
    case = gr.HTML("", elem_id="faithfulness-case")
    named = [(words.BEST_METHOD, ""), *((one.label, name) for name, one in METHODS.items())]
    method = gr.Radio(named, label=words.METHOD, elem_id="faithfulness-method", value="")
    target = gr.Textbox("", label=words.TARGET, info=words.TARGET_TELLS, elem_id="faithfulness-target")
    with gr.Row():
        validate = gr.Button(words.RUN_VALIDATION, variant="primary", elem_id="faithfulness-validate", min_width=80)
        sanity = gr.Button(words.RUN_SANITY, variant="primary", elem_id="faithfulness-sanity", min_width=80)
        cancel = gr.Button(words.CANCEL, elem_id="faithfulness-cancel", min_width=80)
    return _Asked(case, method, target, validate, sanity, cancel)


def _shown() -> _Shown:
    alert, progress = (gr.HTML("", elem_id=f"faithfulness-{name}") for name in ("alert", "progress"))
    hint = gr.HTML(note(words.FAITHFULNESS_HINT), elem_id="faithfulness-hint")
    names = ("verdict", "map", "curves", "table", "checks")
    verdict, judged, curves, table, checks = (gr.HTML("", elem_id=f"faithfulness-{name}") for name in names)
    copies, prepare, links = _layout.take_away("faithfulness")
    return _Shown(alert, progress, hint, verdict, judged, curves, table, checks, copies, prepare, links)


class _Handlers:
    """What the tab's events do."""

    def __init__(self, page: Page, asked: _Asked, shown: _Shown) -> None:
        self.page, self.asked, self.shown = page, asked, shown

    def connect(self) -> None:
        """Connects every event."""
        a, s, session = self.asked, self.shown, self.page.session
        safe, chosen = in_place(s.alert), [session, a.method, a.target]
        results = [s.alert, s.progress, s.hint, s.verdict, s.map, s.curves, s.table, s.checks, s.copies, s.links]
        on(self.page.asked.change, safe(self.other_case), [session], [*results, a.case])
        on(a.validate.click, self.validate, chosen, results)
        on(a.sanity.click, self.sanity, chosen, results)
        on(a.cancel.click, _long.cancel, [session], queue=False)
        on(s.prepare.click, safe(self.prepare), [session], [s.alert, s.links])

    def other_case(self, session: Session) -> Updates:
        """Results of the case before go."""
        s = self.shown
        parts = (s.progress, s.verdict, s.map, s.curves, s.table, s.checks, s.copies, s.links)
        emptied: Updates = {part: "" for part in parts} | {s.hint: note(words.FAITHFULNESS_HINT)}
        if session.analysis is None:
            return emptied | {self.asked.case: note(words.NOTHING_ANALYSED)}
        case = session.analysis.case
        return emptied | {
            self.asked.case: facts([("Question", case.question), ("Answer", session.analysis.answer.text)])
        }

    def validate(self, session: Session, method: str, target: str) -> Iterator[Updates]:
        yield from self._run(session, "validation", method, target)

    def sanity(self, session: Session, method: str, target: str) -> Iterator[Updates]:
        yield from self._run(session, "sanity", method, target)

    def _run(self, session: Session, which: Which, method: str, target: str) -> Iterator[Updates]:
        steps = actions.run(
            self.page.desk(session), session, which, method=method or None, target=target.strip() or None
        )
        done = _long.of_this_case(session, self._found)
        yield from _long.shown(steps, self.shown.alert, self.shown.progress, done)

    def _found(self, found: Checked) -> Updates:
        s = self.shown
        return {
            s.hint: "",
            s.verdict: actions.verdict_part(found),
            s.map: actions.map_part(found),
            s.curves: actions.validation_part(found),
            s.table: actions.table_part(found),
            s.checks: actions.sanity_part(found),
            s.copies: actions.copies_part(found),
            s.links: "",
        }

    def prepare(self, session: Session) -> Updates:
        return _long.of_this_case(session, lambda: {self.shown.links: actions.links(session)})()
