"""The tab "Token-Conditioned Analysis": click a word, a cell or a head, type words, change the film and ask again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import analysis as first_tab
from medgemma_visualizer.app.actions import tokens as actions
from medgemma_visualizer.app.actions.edits import EDITS, LABELS
from medgemma_visualizer.app.actions.tokens import EXAMPLES, Chosen
from medgemma_visualizer.app.desk import Cancelled, Progress
from medgemma_visualizer.app.page import Page, on
from medgemma_visualizer.app.parts import Safe, copyable, escaped, in_place, note, progress_bar, told
from medgemma_visualizer.app.session import Session, Superseded
from medgemma_visualizer.app.tabs import _layout, _long
from medgemma_visualizer.app.tabs.analysis import method_choices
from medgemma_visualizer.app.viewer import create_viewer
from medgemma_visualizer.errors import VisualizerError

Updates = dict[Any, Any]


def create(page: Page) -> None:
    """Lays the tab out."""
    _layout.lead("tokens", words.TOKENS_LEAD)
    asked, shown = _layout.two_columns(_asked, _shown)
    _Handlers(page, asked, shown).connect()


@dataclass(frozen=True)
class _Asked:
    """What a visitor chooses and presses."""

    case: gr.HTML
    method: gr.Dropdown
    force: gr.Checkbox
    words: gr.Textbox
    examples: gr.HTML
    explain: gr.Button
    all_methods: gr.Button
    cancel: gr.Button
    edit_kind: gr.Radio
    edit: gr.Button
    undo: gr.Button
    edited: gr.HTML


@dataclass(frozen=True)
class _Shown:
    """Where results stand."""

    strip: gr.HTML
    previous: gr.Button
    next: gr.Button
    alert: gr.HTML
    progress: gr.HTML
    viewer: gr.HTML
    caption: gr.HTML
    cell: gr.HTML
    scores: gr.HTML
    sheet: gr.HTML
    show_heads: gr.Button
    heads: gr.HTML
    copies: gr.HTML
    prepare: gr.Button
    links: gr.HTML


def _asked() -> _Asked:
    case = gr.HTML("", elem_id="tokens-case")
    method = gr.Dropdown(method_choices(words.QUICK_MAP), label=words.METHOD, elem_id="tokens-method", value="")
    force = gr.Checkbox(label=words.FORCE, info=words.FORCE_TELLS, elem_id="tokens-force")
    own = gr.Textbox("", label=words.OWN_WORDS, info=words.OWN_WORDS_TELLS, elem_id="tokens-words")
    offered = _layout.numbered(EXAMPLES, words.WORD_EXAMPLES)
    examples = gr.HTML(offered, elem_id="tokens-examples", js_on_load=_layout.clicks("n", "example"))
    with gr.Row():
        explain = gr.Button(words.EXPLAIN_WORDS, variant="primary", elem_id="tokens-run", min_width=80)
        every = gr.Button(words.EVERY_METHOD, elem_id="tokens-all", min_width=80)
        cancel = gr.Button(words.CANCEL, elem_id="tokens-cancel", min_width=80)
    with gr.Group():
        gr.HTML(f'<p class="mv-padded">{escaped(words.EDIT_TELLS)}</p>', elem_id="tokens-edit-lead")
        named = [(LABELS[name], name) for name in EDITS]
        kind = gr.Radio(named, label=words.EDIT_KIND, elem_id="tokens-edit-kind", value=next(iter(EDITS)))
        with gr.Row():
            edit = gr.Button(words.EDIT, elem_id="tokens-edit", min_width=80)
            undo = gr.Button(words.UNDO_EDIT, elem_id="tokens-undo", min_width=80)
    edited = gr.HTML("", elem_id="tokens-edited")
    return _Asked(case, method, force, own, examples, explain, every, cancel, kind, edit, undo, edited)


def _shown() -> _Shown:
    strip = gr.HTML("", elem_id="tokens-strip", js_on_load=_layout.clicks("kind", "word"))
    with gr.Row():
        previous = gr.Button(words.PREVIOUS_WORD, elem_id="tokens-previous", size="sm", min_width=80)
        following = gr.Button(words.NEXT_WORD, elem_id="tokens-next", size="sm", min_width=80)
    alert = gr.HTML("", elem_id="tokens-alert")
    progress = gr.HTML("", elem_id="tokens-progress")
    viewer = create_viewer("tokens-viewer", words.VIEWER, selects=True)
    caption = gr.HTML("", elem_id="tokens-caption")
    cell = gr.HTML("", elem_id="tokens-cell")
    scores = gr.HTML("", elem_id="tokens-scores")
    sheet = gr.HTML("", elem_id="tokens-sheet")
    with gr.Accordion(words.HEADS, open=False):
        show_heads = gr.Button(words.SHOW_HEADS, elem_id="tokens-show-heads", size="sm")
        heads = gr.HTML("", elem_id="tokens-heads", js_on_load=_layout.clicks("head", "choice"))
    copies, prepare, links = _layout.take_away("tokens")
    return _Shown(
        *(strip, previous, following, alert, progress, viewer, caption, cell, scores, sheet),
        *(show_heads, heads, copies, prepare, links),
    )


class _Handlers:
    """What the tab's events do."""

    def __init__(self, page: Page, asked: _Asked, shown: _Shown) -> None:
        self.page, self.asked, self.shown = page, asked, shown

    def connect(self) -> None:
        """Connects every event."""
        a, s, session = self.asked, self.shown, self.page.session
        safe, how = in_place(s.alert), [session, a.method, a.force]
        map_parts = [s.alert, s.progress, s.strip, s.viewer, s.caption, s.scores, s.copies, s.links]
        everything = [*map_parts, s.cell, s.sheet, s.heads, a.case, a.edited]
        on(self.page.asked.change, safe(self.other_case), how, everything)
        on(self.page.tabs["tokens"].select, safe(self.opened), how, everything)
        heard = {"trigger_mode": "multiple"}  # chosen again while one is waited for: the last one wins
        on(s.strip.word, self.clicked, how, map_parts, **heard)
        on(s.previous.click, self.before, how, map_parts, **heard)
        on(s.next.click, self.after, how, map_parts, **heard)
        on(a.method.input, self.again, how, map_parts, **heard)
        on(a.force.input, self.again, how, map_parts, **heard)
        on(a.examples.example, safe(self.example), [], [s.alert, a.words])
        own = [session, a.method, a.force, a.words]
        on(a.explain.click, self.explain, own, [*map_parts, s.sheet])
        on(a.words.submit, self.explain, own, [*map_parts, s.sheet])
        on(a.all_methods.click, self.every_method, [session], [s.alert, s.progress, s.sheet])
        on(a.cancel.click, _long.cancel, [session], queue=False)
        on(s.viewer.cell, safe(self.cell), [session], [s.alert, s.cell], **heard)
        on(s.viewer.box, in_place(s.alert, empties=False)(self.box), [session], [s.alert], **heard)
        on(s.show_heads.click, safe(self.heads), [session], [s.alert, s.heads])
        on(s.heads.choice, safe(self.head), [session], map_parts, **heard)
        changed = [*map_parts, s.cell, a.edited]
        on(a.edit.click, safe(self.edit), [session, a.edit_kind], changed)
        on(a.undo.click, safe(self.undo), [session], changed)
        on(s.prepare.click, safe(self.prepare), [session], [s.alert, s.links])

    # --- another case -------------------------------------------------------------------------------------------------

    def other_case(self, session: Session, method: str, force: bool) -> Updates:
        """What was shown of the case before goes; words and maps come when somebody looks at this tab."""
        if session.tab != "tokens":
            return self._empty()
        if "chosen" in session.results:  # the visitor was quicker than this
            try:
                return self._empty() | self._case(session) | self._map(session, actions.current(session))
            except Superseded:  # by another word
                return self._beside_map() | self._case(session)
        try:
            found = self.opened(session, method, force)
        except (VisualizerError, Cancelled) as error:
            return self._empty() | self._case(session) | {self.shown.alert: told(error)}
        return self._beside_map() | found

    def _empty(self) -> Updates:
        a, s = self.asked, self.shown
        parts = (s.progress, s.strip, s.caption, s.scores, s.copies, s.links)
        emptied: Updates = {part: "" for part in parts} | {a.case: note(words.NOTHING_ANALYSED), s.viewer: {}}
        return emptied | self._beside_map()

    def _beside_map(self) -> Updates:
        """What is not made anew with the map of a word."""
        return {part: "" for part in (self.shown.cell, self.shown.sheet, self.shown.heads, self.asked.edited)}

    def _case(self, session: Session) -> Updates:
        return {self.asked.case: actions.case_line(session)}

    def opened(self, session: Session, method: str, force: bool) -> Updates:
        """The answer's first word, by a method of one or two passes; what was chosen before stays chosen."""
        session.tab = "tokens"
        if session.analysis is None:
            return self._empty()
        if "chosen" in session.results:
            return {}
        kind = "answer" if actions.texts(session, "answer") else "question"
        wanted = actions.method_for(session, method, force)
        quick = wanted if wanted in first_tab.QUICK else actions.method_for(session, "", False)
        found: Updates = {}
        try:
            for step in actions.choose(self.page.desk(session), session, kind, 0, quick):
                found = self._map(session, step)
        except Superseded:  # a word was chosen meanwhile, and its map comes or has come
            return self._case(session)
        return self._empty() | self._case(session) | found

    # --- words --------------------------------------------------------------------------------------------------------

    def clicked(self, session: Session, method: str, force: bool, event: gr.EventData) -> Iterator[Updates]:
        """A word of the strip. Its number comes from the browser, so it is checked like anything typed."""
        given = event._data if isinstance(event._data, dict) else {}
        number = str(given.get("n", ""))
        place = int(number) if number.isdecimal() else -1
        yield from self._word(session, str(given.get("kind", "")), place, method, force)

    def before(self, session: Session, method: str, force: bool) -> Iterator[Updates]:
        yield from self._next(session, -1, method, force)

    def after(self, session: Session, method: str, force: bool) -> Iterator[Updates]:
        yield from self._next(session, 1, method, force)

    def again(self, session: Session, method: str, force: bool) -> Iterator[Updates]:
        """The same word by another method."""
        yield from self._next(session, 0, method, force)

    def _next(self, session: Session, step: int, method: str, force: bool) -> Iterator[Updates]:
        def steps() -> Iterator[Progress | Chosen]:
            kind, number = actions.next_word(session, step)
            wanted = actions.method_for(session, method, force)
            yield from actions.choose(self.page.desk(session), session, kind, number, wanted)

        return self._told(session, steps())

    def _word(self, session: Session, kind: str, number: int, method: str, force: bool) -> Iterator[Updates]:
        def steps() -> Iterator[Progress | Chosen]:
            wanted = actions.method_for(session, method, force)
            yield from actions.choose(self.page.desk(session), session, kind, number, wanted)

        return self._told(session, steps())

    def _told(self, session: Session, steps: Iterator[Progress | Chosen]) -> Iterator[Updates]:
        yield from _long.shown(steps, self.shown.alert, self.shown.progress, lambda chosen: self._map(session, chosen))

    def _map(self, session: Session, step: Progress | Chosen) -> Updates:
        s = self.shown
        if isinstance(step, Progress):
            return {s.progress: progress_bar(step)}
        with _long.only_while(lambda: session.results.get("chosen") is step):
            return self._drawn(session, step)

    def _drawn(self, session: Session, step: Chosen) -> Updates:
        s = self.shown
        return {
            s.progress: "",
            s.strip: actions.strip(session),
            s.viewer: actions.shown(session, step),
            s.caption: actions.caption(session, step),
            s.scores: actions.scores(session, step),
            s.copies: Safe(
                copyable(words.COPY_COMMAND, actions.command_of(session, step))
                + copyable(words.COPY_PYTHON, actions.python_of(session, step))
            ),
            s.links: "",
        }

    def example(self, event: gr.EventData) -> Updates:
        n = _layout.place(event, len(EXAMPLES))
        return {} if n is None else {self.asked.words: EXAMPLES[n]}

    def explain(self, session: Session, method: str, force: bool, text: str) -> Iterator[Updates]:
        """The visitor's own words, one after the other; at last all of them side by side."""

        def steps() -> Iterator[Progress | Chosen]:
            own = actions.take_words(session, text)
            wanted = actions.method_for(session, method, force)
            for number in (*range(1, len(own)), 0):  # the first word stays chosen
                yield from actions.choose(self.page.desk(session), session, "word", number, wanted)

        def done(chosen: Chosen) -> Updates:
            sheet = actions.words_sheet(session, chosen.method) if chosen.number == 0 else ""
            return self._map(session, chosen) | {self.shown.sheet: sheet}

        yield from _long.shown(steps(), self.shown.alert, self.shown.progress, done)

    def every_method(self, session: Session) -> Iterator[Updates]:
        """All methods' maps of the chosen word."""

        def steps() -> Iterator[Progress | Safe]:
            chosen = actions.current(session)
            yield from actions.all_methods(self.page.desk(session), session, chosen.kind, chosen.number)

        done = _long.of_this_case(session, lambda sheet: {self.shown.sheet: sheet})
        yield from _long.shown(steps(), self.shown.alert, self.shown.progress, done)

    # --- cells and heads ----------------------------------------------------------------------------------------------

    def cell(self, session: Session, event: gr.EventData) -> Updates:
        given = event._data if isinstance(event._data, dict) else {}
        found = actions.cell(self.page.desk(session), session, given.get("row"), given.get("col"))
        return {self.shown.cell: found}

    def heads(self, session: Session) -> Updates:
        desk = self.page.desk(session)
        return _long.of_this_case(session, lambda: {self.shown.heads: actions.heads(desk, session)})()

    def head(self, session: Session, event: gr.EventData) -> Updates:
        given = event._data if isinstance(event._data, dict) else {}
        numbers = [str(given.get(name, "")) for name in ("layer", "head")]
        layer, head = (int(number) if number.isdecimal() else -1 for number in numbers)
        return self._map(session, actions.choose_head(self.page.desk(session), session, layer, head))

    # --- edit and ask again -------------------------------------------------------------------------------------------

    def box(self, session: Session, event: gr.EventData) -> Updates:
        actions.draw_box(session, event._data)
        return {}

    def edit(self, session: Session, kind: str) -> Updates:
        actions.edit(self.page.desk(session), session, kind)
        return self._edited(session)

    def undo(self, session: Session) -> Updates:
        actions.undo_edit(session)
        return self._edited(session)

    def _edited(self, session: Session) -> Updates:
        """The changed film with its own map; whatever was said of the film as it was goes, or comes back."""
        s = self.shown
        told, value = actions.edited(session)
        if not session.edits:
            return self._map(session, actions.current(session)) | {self.asked.edited: told}
        parts: Updates = {part: "" for part in (s.scores, s.cell, s.copies, s.links)}
        return parts | {self.asked.edited: told, s.viewer: value, s.caption: note(words.EDIT_NOTE)}

    # --- to take away -------------------------------------------------------------------------------------------------

    def prepare(self, session: Session) -> Updates:
        return _long.of_this_case(session, lambda: {self.shown.links: actions.links(session)})()
