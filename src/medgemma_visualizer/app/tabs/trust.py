"""The tab "Method Trust": the league of the loaded model, the pictures behind its numbers, and measuring it now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import league as actions
from medgemma_visualizer.app.actions.analysis import QUICK
from medgemma_visualizer.app.page import Page, on
from medgemma_visualizer.app.parts import escaped, in_place
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.app.tabs import _layout, _long
from medgemma_visualizer.heatmaps import METHODS
from medgemma_visualizer.runs import Built, League

Updates = dict[Any, Any]


def create(page: Page) -> None:
    """Lays the tab out."""
    _layout.lead("trust", words.TRUST_LEAD)
    _Handlers(page, _league(), _pictures(), _measuring()).connect()


@dataclass(frozen=True)
class _League:
    """Where the league stands."""

    alert: gr.HTML
    about: gr.HTML
    table: gr.HTML
    columns: gr.HTML
    copies: gr.HTML
    prepare: gr.Button
    links: gr.HTML


@dataclass(frozen=True)
class _Pictures:
    """The pictures behind the numbers."""

    method: gr.Dropdown
    show: gr.Button
    cancel: gr.Button
    progress: gr.HTML
    examples: gr.HTML
    column: gr.Dropdown
    forest: gr.HTML


@dataclass(frozen=True)
class _Measuring:
    """What is measured now."""

    number: gr.Slider
    sanity: gr.Slider
    methods: gr.Dropdown
    run: gr.Button
    cancel: gr.Button
    progress: gr.HTML


def _league() -> _League:
    alert = gr.HTML("", elem_id="trust-alert")
    about = gr.HTML("", elem_id="trust-about")
    table = gr.HTML("", elem_id="trust-table")
    with gr.Accordion(words.COLUMNS_MEAN, open=False):
        columns = gr.HTML("", elem_id="trust-columns")
    copies, prepare, links = _layout.take_away("trust")
    return _League(alert, about, table, columns, copies, prepare, links)


def _pictures() -> _Pictures:
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            method = gr.Dropdown([], label=words.METHOD_TO_SEE, elem_id="trust-method")
            with gr.Row():
                show = gr.Button(words.SHOW_EXAMPLES, elem_id="trust-examples-run", min_width=80)
                cancel = gr.Button(words.CANCEL, elem_id="trust-examples-cancel", min_width=80)
            progress = gr.HTML("", elem_id="trust-examples-progress")
            examples = gr.HTML("", elem_id="trust-examples")
        with gr.Column(scale=1, min_width=300):
            column = gr.Dropdown([], label=words.COLUMN_TO_DRAW, elem_id="trust-column")
            forest = gr.HTML("", elem_id="trust-forest")
    return _Pictures(method, show, cancel, progress, examples, column, forest)


def _measuring() -> _Measuring:
    with gr.Accordion(words.MEASURE_TITLE, open=False):
        gr.HTML(f"<p>{escaped(words.MEASURE_TELLS)}</p>", elem_id="trust-measure-lead")
        number = gr.Slider(
            actions.FEWEST,
            actions.MOST,
            value=actions.USUAL,
            step=1,
            label=words.CASES_TO_MEASURE,
            elem_id="trust-number",
        )
        sanity = gr.Slider(0, 4, value=1, step=1, label=words.SANITY_CASES, elem_id="trust-sanity")
        named = [(one.label, name) for name, one in METHODS.items()]
        methods = gr.Dropdown(
            named, value=list(QUICK), multiselect=True, label=words.METHODS_TO_MEASURE, elem_id="trust-methods"
        )
        with gr.Row():
            run = gr.Button(words.MEASURE, variant="primary", elem_id="trust-measure", min_width=80)
            cancel = gr.Button(words.CANCEL, elem_id="trust-cancel", min_width=80)
        progress = gr.HTML("", elem_id="trust-progress")
    return _Measuring(number, sanity, methods, run, cancel, progress)


class _Handlers:
    """What the tab's events do."""

    def __init__(self, page: Page, league: _League, pictures: _Pictures, measuring: _Measuring) -> None:
        self.page, self.league, self.pictures, self.measuring = page, league, pictures, measuring

    def connect(self) -> None:
        """Connects every event."""
        at, p, m, session = self.league, self.pictures, self.measuring, self.page.session
        safe = in_place(at.alert)
        shown = [at.alert, at.about, at.table, at.columns, at.copies, at.links, p.method, p.column, p.forest]
        on(self.page.demo.load, safe(self.show), [session], shown)
        on(p.column.input, safe(self.draw), [session, p.column], [at.alert, p.forest])
        on(p.show.click, self.examples, [session, p.method], [at.alert, p.progress, p.examples])
        on(p.cancel.click, _long.cancel, [session], queue=False)
        on(m.run.click, self.measure, [session, m.number, m.methods, m.sanity], [*shown, m.progress, p.examples])
        on(m.cancel.click, _long.cancel, [session], queue=False)
        on(at.prepare.click, safe(self.prepare), [session], [at.alert, at.links])

    def show(self, session: Session) -> Updates:
        """The league that there is, or that there is none."""
        at, p = self.league, self.pictures
        league = actions.league(self.page.desk(session), session)
        menu = actions.method_menu(league)
        told: Updates = {at.about: actions.about_part(self.page.desk(session), league), at.links: "", p.forest: ""}
        told |= {p.method: gr.update(choices=menu, value=menu[0][1])}
        return told | self._table(league)

    def _table(self, league: League | None) -> Updates:
        at, p = self.league, self.pictures
        if league is None:
            empty = gr.update(choices=[], value=None, visible=False)
            return {at.table: "", at.columns: "", at.copies: "", p.column: empty}
        columns = actions.column_menu(league)
        return {
            at.table: actions.table_part(league),
            at.columns: actions.columns_part(league),
            at.copies: actions.copies_part(league),
            p.column: gr.update(choices=columns, value=None, visible=True),
        }

    def draw(self, session: Session, column: str | None) -> Updates:
        league = actions.league(self.page.desk(session), session)
        return {self.pictures.forest: actions.forest_part(league, column) if league and column else ""}

    def examples(self, session: Session, method: str) -> Iterator[Updates]:
        steps = actions.examples(self.page.desk(session), session, self.page.cases, method)
        yield from _long.shown(steps, self.league.alert, self.pictures.progress, self._examples(method))

    def _examples(self, method: str) -> Any:
        number = actions.looked_at(self.page.cases)
        return lambda found: {self.pictures.examples: actions.examples_part(found, method, number)}

    def measure(self, session: Session, number: float, methods: Sequence[str], sanity: float) -> Iterator[Updates]:
        def done(_: Built) -> Updates:
            return self.show(session) | {self.pictures.examples: ""}

        steps = actions.measure(
            self.page.desk(session), session, self.page.cases, int(number), methods, sanity_cases=int(sanity)
        )
        yield from _long.shown(steps, self.league.alert, self.measuring.progress, done)

    def prepare(self, session: Session) -> Updates:
        return {self.league.links: actions.links(self.page.desk(session), session)}
