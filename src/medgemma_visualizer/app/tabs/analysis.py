"""The tab "MIMIC Question Analysis": choose or upload a film, ask, see the answer, the map and what both are worth."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import analysis as actions
from medgemma_visualizer.app.actions.analysis import COLOUR_MAPS, PRESETS, Found
from medgemma_visualizer.app.desk import Progress
from medgemma_visualizer.app.page import Page, on
from medgemma_visualizer.app.parts import Safe, copyable, facts, in_place, note, progress_bar, told
from medgemma_visualizer.app.session import Session, Settings, Superseded
from medgemma_visualizer.app.tabs import _layout, _long
from medgemma_visualizer.app.viewer import create_viewer
from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.heatmaps import METHODS

Updates = dict[Any, Any]


def create(page: Page) -> None:
    """Lays the tab out."""
    asked, shown = _layout.two_columns(lambda: _asked(page), _shown)
    _Handlers(page, asked, shown).connect()


@dataclass(frozen=True)
class _Asked:
    """What a visitor chooses and presses."""

    examples: gr.HTML
    case: gr.Dropdown
    previous: gr.Button
    next: gr.Button
    upload: gr.File
    question: gr.Textbox
    custom: gr.Checkbox
    truth: gr.Textbox
    preset: gr.Radio
    method: gr.Dropdown
    target: gr.Textbox
    colormap: gr.Dropdown
    run: gr.Button
    cancel: gr.Button
    undo: gr.Button
    redo: gr.Button


@dataclass(frozen=True)
class _Shown:
    """Where results stand."""

    alert: gr.HTML
    progress: gr.HTML
    answer: gr.HTML
    viewer: gr.HTML
    scores: gr.HTML
    more: gr.HTML
    raw: gr.Textbox
    prompt: gr.Textbox
    copies: gr.HTML
    prepare: gr.Button
    links: gr.HTML
    pin_a: gr.Button
    pin_b: gr.Button
    compare: gr.Button
    pins: gr.HTML


def method_choices(first: str) -> list[tuple[str, str]]:
    """Every method with its cost and what it takes from the model; `first` stands for none of them."""
    return [(first, ""), *((f"{m.label} — {m.cost}; needs {m.needs}", name) for name, m in METHODS.items())]


def _asked(page: Page) -> _Asked:
    labels = [label for label, _ in actions.examples(page.cases)]
    examples = gr.HTML(
        _layout.numbered(labels, words.CASE_EXAMPLES, words.CASE_EXAMPLES_HEADING) if labels else "",
        elem_id="analysis-examples",
        visible=bool(labels),
        js_on_load=_layout.clicks("n", "example"),
    )
    case = gr.Dropdown(actions.choices(page.cases), label=words.CASE, elem_id="analysis-case", value=page.cases[0].id)
    with gr.Row():
        previous = gr.Button(words.PREVIOUS, elem_id="analysis-previous", size="sm", min_width=80)
        following = gr.Button(words.NEXT, elem_id="analysis-next", size="sm", min_width=80)
    upload = gr.File(label=words.UPLOAD, elem_id="analysis-upload", height=110)
    question = gr.Textbox("", label=words.QUESTION, elem_id="analysis-question", lines=2)
    custom = gr.Checkbox(label=words.CUSTOM, info=words.CUSTOM_TELLS, elem_id="analysis-custom")
    truth = gr.Textbox(label=words.TRUTH, elem_id="analysis-truth", interactive=False)
    named = [(preset.label, name) for name, preset in PRESETS.items()]
    preset = gr.Radio(named, label=words.PRESET, elem_id="analysis-preset", value="quick")
    gr.HTML(facts((preset.label, preset.tells) for preset in PRESETS.values()), elem_id="analysis-presets")
    with gr.Accordion(words.HOW, open=False):
        method = gr.Dropdown(
            method_choices(words.PRESET_METHOD), label=words.METHOD, elem_id="analysis-method", value=""
        )
        target = gr.Textbox("", label=words.TARGET, info=words.TARGET_TELLS, elem_id="analysis-target")
        colormap = gr.Dropdown(
            list(COLOUR_MAPS), label=words.COLOURS, elem_id="analysis-colormap", value=COLOUR_MAPS[0]
        )
    with gr.Row():
        run = gr.Button(words.ANALYSE, variant="primary", elem_id="analysis-run", min_width=80)
        cancel = gr.Button(words.CANCEL, elem_id="analysis-cancel", min_width=80)
        undo = gr.Button(words.UNDO, elem_id="analysis-undo", min_width=80)
        redo = gr.Button(words.REDO, elem_id="analysis-redo", min_width=80)
    return _Asked(
        *(examples, case, previous, following, upload, question, custom, truth, preset, method, target, colormap),
        *(run, cancel, undo, redo),
    )


def _shown() -> _Shown:
    alert = gr.HTML("", elem_id="analysis-alert")
    progress = gr.HTML("", elem_id="analysis-progress")
    answer = gr.HTML("", elem_id="analysis-answer")
    viewer = create_viewer("analysis-viewer", words.VIEWER)
    scores = gr.HTML("", elem_id="analysis-scores")
    more = gr.HTML("", elem_id="analysis-more")
    with gr.Accordion(words.RAW, open=False):
        raw = gr.Textbox(label=words.RAW_OUTPUT, elem_id="analysis-raw", interactive=False, lines=2)
        prompt = gr.Textbox(label=words.PROMPT, elem_id="analysis-prompt", interactive=False, lines=8)
    copies, prepare, links = _layout.take_away("analysis")
    with gr.Accordion(words.PINS, open=False):
        with gr.Row():
            pin_a = gr.Button(words.PIN.format(name="A"), elem_id="analysis-pin-a", size="sm")
            pin_b = gr.Button(words.PIN.format(name="B"), elem_id="analysis-pin-b", size="sm")
            compare = gr.Button(words.COMPARE, elem_id="analysis-compare", size="sm")
        pins = gr.HTML("", elem_id="analysis-pins")
    return _Shown(
        *(alert, progress, answer, viewer, scores, more, raw, prompt, copies, prepare, links, pin_a, pin_b, compare),
        pins,
    )


class _Handlers:
    """What the tab's events do. All that is a visitor's is in the session that every handler is given."""

    def __init__(self, page: Page, asked: _Asked, shown: _Shown) -> None:
        self.page, self.asked, self.shown = page, asked, shown
        self._turning = threading.Lock()

    def connect(self) -> None:
        """Connects every event."""
        a, s, session = self.asked, self.shown, self.page.session
        safe = in_place(s.alert)
        results = [s.alert, s.progress, s.answer, s.viewer, s.scores, s.more, s.raw, s.prompt, s.copies, s.links]
        results += [self.page.asked, a.truth]
        film = [*results, a.case, a.question, a.custom]
        chosen = [session, a.question, a.preset, a.method, a.target, a.colormap]
        on(self.page.demo.load, safe(self.opened), [session], film)
        heard = {"trigger_mode": "multiple"}  # pressed again while the answer is waited for: the last one wins
        on(a.case.input, safe(self.take), [session, a.case, a.colormap], film, **heard)
        on(a.examples.example, safe(self.example), [session, a.colormap], film, **heard)
        on(a.previous.click, safe(self.before), [session, a.case, a.colormap], film, **heard)
        on(a.next.click, safe(self.after), [session, a.case, a.colormap], film, **heard)
        on(a.upload.upload, safe(self.upload), [session, a.upload], [*film, a.upload])
        on(
            a.question.change,  # not `input`, which does not hear what is pasted or cut
            self.typed,  # sets no alert, and takes none away that has come meanwhile
            [session, a.question],
            [a.truth, a.custom],
            trigger_mode="always_last",
        )
        on(a.custom.input, self.customised, [session, a.custom, a.question], [a.question, a.truth])
        on(a.run.click, safe(self.analyse), chosen, results, **heard)
        on(a.question.submit, safe(self.analyse), chosen, results, **heard)
        on(a.cancel.click, _long.cancel, [session], queue=False)
        aside = in_place(s.alert, empties=False)
        on(a.colormap.input, aside(self.recolour), [session, a.colormap], [s.alert, s.viewer])
        on(s.viewer.look, aside(self.looked), [session], [s.alert], **heard)
        settings = [s.alert, s.viewer, a.preset, a.method, a.target]
        on(a.undo.click, safe(self.undo), [session, a.colormap], settings)
        on(a.redo.click, safe(self.redo), [session, a.colormap], settings)
        on(s.prepare.click, safe(self.prepare), [session, a.colormap], [s.alert, s.links])
        on(s.pin_a.click, safe(self.pin_a), [session], [s.alert, s.pins])
        on(s.pin_b.click, safe(self.pin_b), [session], [s.alert, s.pins])
        on(s.compare.click, safe(self.compare), [session], [s.alert, s.pins])

    # --- which film ---------------------------------------------------------------------------------------------------

    def opened(self, session: Session) -> Iterator[Updates]:
        """The page is ready: its first case is analysed at once."""
        yield from self.take(session, self.page.cases[0].id, COLOUR_MAPS[0])

    def example(self, session: Session, colormap: str, event: gr.EventData) -> Iterator[Updates]:
        """One of the cases to click."""
        offered = actions.examples(self.page.cases)
        n = _layout.place(event, len(offered))
        if n is not None:
            yield from self.take(session, offered[n][1], colormap)

    def before(self, session: Session, name: str, colormap: str) -> Iterator[Updates]:
        beside, request = self._beside(session, name, -1)
        yield from self.take(session, beside, colormap, request)

    def after(self, session: Session, name: str, colormap: str) -> Iterator[Updates]:
        beside, request = self._beside(session, name, 1)
        yield from self.take(session, beside, colormap, request)

    def _beside(self, session: Session, name: str, step: int) -> tuple[str, int]:
        """From the case that the visitor turns to, else the stored one; a page may not have heard of either yet.

        Keys that are pressed in one go are heard by several threads, each of which goes on from the one before.

        Returns:
            The case's id, and the number of the request for it.
        """
        with self._turning:
            last = session.turning or session.stored
            beside = actions.neighbour(self.page.cases, name if last is None else last.id, step)
            return beside, session.requests(actions.case_by_id(self.page.cases, beside))

    def take(self, session: Session, name: str, colormap: str, request: int | None = None) -> Iterator[Updates]:
        """A stored case is shown with a quick look at it, whatever was chosen for the case before.

        Until its answer is there the case before stays whole; of several that are chosen meanwhile the last one comes.
        """
        a = self.asked
        case = actions.case_by_id(self.page.cases, name)
        film = {a.case: case.id, a.question: case.question, a.custom: False, a.truth: case.truth or ""}
        quick = replace(session.settings, method=None, target=None, preset="quick")
        try:
            for step in actions.analyse(self.page.desk(session), session, case, quick, turning=True, request=request):
                yield film | self._step(session, step, quick, colormap)
        except Superseded:
            yield self._as_it_is(session)
        except VisualizerError as error:  # this film cannot be shown, and no other may stand beside its question
            actions.choose(session, self.page.cases, name)
            session.forget()
            yield film | self._emptied(session) | {self.shown.viewer: {}, self.shown.alert: told(error)}

    def _as_it_is(self, session: Session) -> Updates:
        """Another analysis is asked instead. Where it turns to no other case, the menu goes back to the one shown."""
        back = session.turning is None and session.stored is not None
        return {
            self.shown.alert: gr.skip(),
            self.asked.case: session.stored.id if back and session.stored else gr.skip(),
        }

    def upload(self, session: Session, path: str | None) -> Updates:
        """A visitor's own film takes the stored one's place; it is shown, and asked when the visitor says so."""
        a, s = self.asked, self.shown
        cleared, before = {a.upload: None}, session.upload
        if path is None:
            return cleared
        try:
            actions.take_upload(session, path)
            viewer = actions.bare(session)
        except InputError as error:  # unreadable, or without a body: the film before is still the one that is asked
            session.upload = before
            return cleared | {s.alert: told(error)}
        session.forget()
        film = {a.custom: True, a.truth: "", s.viewer: viewer}
        return cleared | film | self._emptied(session) | {s.answer: note(words.UPLOADED)}

    def _emptied(self, session: Session) -> Updates:
        """Nothing of the case before stays, here or on other tabs."""
        s = self.shown
        parts = (s.progress, s.answer, s.scores, s.more, s.raw, s.prompt, s.copies, s.links)
        return {part: "" for part in parts} | {self.page.asked: session.number}

    def typed(self, session: Session, question: str) -> Updates:
        """Truth belongs to the stored question only."""
        own = session.upload is not None or session.stored is None or question.strip() != session.stored.question
        return {self.asked.truth: actions.truth_shown(session, question), self.asked.custom: own}

    def customised(self, session: Session, custom: bool, question: str) -> Updates:
        """Back to the stored question, or an own one from what stands there."""
        back: Updates = {}
        if not custom and session.stored is not None and session.upload is None:
            question = session.stored.question
            back = {self.asked.question: question}  # else what is typed meanwhile stays
        return back | {self.asked.truth: actions.truth_shown(session, question)}

    # --- asking -------------------------------------------------------------------------------------------------------

    def analyse(
        self, session: Session, question: str, preset: str, method: str, target: str, colormap: str
    ) -> Iterator[Updates]:
        case = actions.asked(session, question)
        session.choose(replace(session.settings, preset=preset, method=method or None, target=target.strip() or None))
        settings = session.settings  # a visitor may take them back before long work ends
        yield {self.asked.truth: actions.truth_shown(session, question)}
        steps = actions.analyse(self.page.desk(session), session, case, settings)
        yield from _long.shown(
            steps, self.shown.alert, self.shown.progress, lambda found: self._step(session, found, settings, colormap)
        )

    def _step(self, session: Session, step: Progress | Found, settings: Settings, colormap: str) -> Updates:
        if isinstance(step, Progress):
            return {self.shown.progress: progress_bar(step)}
        with _long.only_while(lambda: session.analysis is step.analysis):  # film and map are the session's
            return self._found(session, step, settings, colormap)

    def _found(self, session: Session, step: Found, settings: Settings, colormap: str) -> Updates:
        s, analysis = self.shown, step.analysis
        return {
            s.progress: "",
            s.answer: actions.answer_part(step),
            s.viewer: actions.shown(session, colormap=colormap),
            s.scores: actions.scores_part(analysis.scores, words.SCORES_CAPTION) if analysis.scores else "",
            s.more: Safe(actions.words_part(step) + actions.check_part(step)),
            s.raw: "".join(token.text for token in analysis.answer.tokens),
            s.prompt: analysis.answer.prompt,
            s.copies: Safe(
                copyable(words.COPY_COMMAND, actions.command_of(analysis, settings))
                + copyable(words.COPY_PYTHON, actions.python_of(analysis, settings))
            ),
            s.links: "",
            self.page.asked: session.number,
        }

    # --- how it is shown ----------------------------------------------------------------------------------------------

    def recolour(self, session: Session, colormap: str) -> Updates:
        return _long.of_this_case(session, lambda: {self.shown.viewer: actions.shown(session, colormap=colormap)})()

    def looked(self, session: Session, event: gr.EventData) -> Updates:
        """The viewer's controls are settings like others: they can be taken back."""
        session.choose(replace(session.settings, look=actions.look_of(event._data)))
        return {}

    def undo(self, session: Session, colormap: str) -> Updates:
        return self._set(session, session.undo(), colormap)

    def redo(self, session: Session, colormap: str) -> Updates:
        return self._set(session, session.redo(), colormap)

    def _set(self, session: Session, settings: Settings, colormap: str) -> Updates:
        a = self.asked
        shown: Updates = {}
        if session.analysis is not None:
            session.turns += 1  # a page that moved its own controls redraws only what differs from what was sent last
            shown = {self.shown.viewer: actions.shown(session, colormap=colormap) | {"turn": session.turns}}
        return {a.preset: settings.preset, a.method: settings.method or "", a.target: settings.target or ""} | shown

    # --- to take away -------------------------------------------------------------------------------------------------

    def prepare(self, session: Session, colormap: str) -> Updates:
        return _long.of_this_case(session, lambda: {self.shown.links: actions.links(session, colormap=colormap)})()

    def pin_a(self, session: Session) -> Updates:
        return self._pin(session, "A")

    def pin_b(self, session: Session) -> Updates:
        return self._pin(session, "B")

    def _pin(self, session: Session, name: str) -> Updates:
        actions.pin(session, name)
        return {
            self.shown.pins: note(words.PINNED.format(name=name, question=session.pins[name].analysis.case.question))
        }

    def compare(self, session: Session) -> Updates:
        return {self.shown.pins: actions.compared(session)}
