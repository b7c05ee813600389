"""The tab "Prompt Sensitivity Analysis": several wordings of one question, their answers, maps and differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from medgemma_visualizer.app import words
from medgemma_visualizer.app.actions import sensitivity as actions
from medgemma_visualizer.app.actions.sensitivity import FEWEST, MOST, Compared
from medgemma_visualizer.app.page import Page, on
from medgemma_visualizer.app.parts import in_place, note
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.app.tabs import _layout, _long
from medgemma_visualizer.app.tabs.analysis import method_choices
from medgemma_visualizer.app.viewer import create_viewer
from medgemma_visualizer.errors import InputError

Updates = dict[Any, Any]


def create(page: Page) -> None:
    """Lays the tab out."""
    _layout.lead("sensitivity", words.SENSITIVITY_LEAD)
    asked, shown = _layout.two_columns(_asked, _shown)
    _Handlers(page, asked, shown).connect()


@dataclass(frozen=True)
class _Asked:
    """What a visitor writes and presses; `count` is how many of the prompts are shown."""

    truth: gr.HTML
    prompts: tuple[gr.Textbox, ...]
    count: gr.State
    add: gr.Button
    remove: gr.Button
    more: gr.Button
    method: gr.Dropdown
    target: gr.Textbox
    run: gr.Button
    cancel: gr.Button


@dataclass(frozen=True)
class _Shown:
    """Where results stand."""

    alert: gr.HTML
    progress: gr.HTML
    hint: gr.HTML
    answers: gr.HTML
    maps: gr.HTML
    difference: gr.Dropdown
    viewer: gr.HTML
    cells: gr.HTML
    copies: gr.HTML
    prepare: gr.Button
    links: gr.HTML


def _asked() -> _Asked:
    truth = gr.HTML("", elem_id="sensitivity-truth")
    prompts = tuple(
        gr.Textbox(
            "", label=words.PROMPT_N.format(n=n), elem_id=f"sensitivity-prompt-{n}", lines=2, visible=n <= FEWEST
        )
        for n in range(1, MOST + 1)
    )
    count = gr.State(FEWEST)
    with gr.Row():
        add = gr.Button(words.ADD_PROMPT, elem_id="sensitivity-add", size="sm", min_width=80)
        remove = gr.Button(words.REMOVE_PROMPT, elem_id="sensitivity-remove", size="sm", min_width=80)
        more = gr.Button(words.MORE_PROMPTS, elem_id="sensitivity-more", size="sm", min_width=80)
    method = gr.Dropdown(method_choices(words.BEST_METHOD), label=words.METHOD, elem_id="sensitivity-method", value="")
    target = gr.Textbox("", label=words.TARGET, info=words.TARGET_TELLS, elem_id="sensitivity-target")
    with gr.Row():
        run = gr.Button(words.COMPARE_PROMPTS, variant="primary", elem_id="sensitivity-run", min_width=80)
        cancel = gr.Button(words.CANCEL, elem_id="sensitivity-cancel", min_width=80)
    return _Asked(truth, prompts, count, add, remove, more, method, target, run, cancel)


def _shown() -> _Shown:
    alert = gr.HTML("", elem_id="sensitivity-alert")
    progress = gr.HTML("", elem_id="sensitivity-progress")
    hint = gr.HTML(note(words.SENSITIVITY_HINT), elem_id="sensitivity-hint")
    answers = gr.HTML("", elem_id="sensitivity-answers")
    maps = gr.HTML("", elem_id="sensitivity-maps")
    difference = gr.Dropdown([], label=words.DIFFERENCE, elem_id="sensitivity-difference", visible=False)
    viewer = create_viewer("sensitivity-viewer", words.DIFFERENCE_VIEWER)
    cells = gr.HTML("", elem_id="sensitivity-cells")
    copies, prepare, links = _layout.take_away("sensitivity")
    return _Shown(alert, progress, hint, answers, maps, difference, viewer, cells, copies, prepare, links)


class _Handlers:
    """What the tab's events do."""

    def __init__(self, page: Page, asked: _Asked, shown: _Shown) -> None:
        self.page, self.asked, self.shown = page, asked, shown

    def connect(self) -> None:
        """Connects every event."""
        a, s, session = self.asked, self.shown, self.page.session
        safe = in_place(s.alert)
        results = [s.alert, s.progress, s.hint, s.answers, s.maps, s.difference, s.viewer, s.cells, s.copies, s.links]
        boxes = [s.alert, a.count, *a.prompts]
        on(self.page.asked.change, safe(self.other_case), [session], [*results, a.truth, a.count, *a.prompts])
        on(a.add.click, safe(self.add), [a.count], boxes)
        on(a.remove.click, safe(self.remove), [a.count], boxes)
        on(a.more.click, safe(self.more), [session, a.count, *a.prompts], boxes)
        on(a.run.click, self.compare, [session, a.method, a.target, a.count, *a.prompts], results)
        on(a.cancel.click, _long.cancel, [session], queue=False)
        on(s.difference.input, safe(self.look), [session, s.difference], [s.alert, s.viewer, s.cells])
        on(s.prepare.click, safe(self.prepare), [session], [s.alert, s.links])

    # --- prompts ------------------------------------------------------------------------------------------------------

    def other_case(self, session: Session) -> Updates:
        """Results of the case before go; the boxes hold the forms of the new question."""
        a, s = self.asked, self.shown
        emptied: Updates = {part: "" for part in (s.progress, s.answers, s.maps, s.cells, s.copies, s.links)}
        emptied |= {
            s.hint: note(words.SENSITIVITY_HINT),
            s.viewer: {},
            s.difference: gr.update(choices=[], value=None, visible=False),
        }
        if session.analysis is None:
            return emptied | {a.truth: note(words.NOTHING_ANALYSED)} | self._boxes(("", ""))
        offered = actions.prefilled(session)
        truth = actions.truth_part(session.analysis.case) + (note(offered.note) if offered.note else "")
        return emptied | {a.truth: truth} | self._boxes(offered.prompts)

    def _boxes(self, prompts: tuple[str, ...]) -> Updates:
        """So many boxes with these texts."""
        boxes = self.asked.prompts
        filled = {box: gr.update(value=text, visible=True) for box, text in zip(boxes, prompts, strict=False)}
        hidden = {box: gr.update(value="", visible=False) for box in boxes[len(prompts) :]}
        return {self.asked.count: len(prompts), **filled, **hidden}

    def add(self, count: int) -> Updates:
        if count == MOST:
            raise InputError(words.MOST_PROMPTS.format(most=MOST))
        return {self.asked.count: count + 1, self.asked.prompts[count]: gr.update(visible=True)}

    def remove(self, count: int) -> Updates:
        if count == FEWEST:
            raise InputError(words.FEWEST_PROMPTS.format(fewest=FEWEST))
        wanted = count - 1
        return {self.asked.count: wanted} | {
            box: gr.update(value="", visible=False) for box in self.asked.prompts[wanted:]
        }

    def more(self, session: Session, count: int, *prompts: str) -> Updates:
        offered = actions.more(session, prompts[:count])
        return self._boxes((*offered, *[""] * (FEWEST - len(offered))))

    # --- asking -------------------------------------------------------------------------------------------------------

    def compare(self, session: Session, method: str, target: str, count: int, *prompts: str) -> Iterator[Updates]:
        steps = actions.compare(
            self.page.desk(session), session, prompts[:count], method=method or None, target=target.strip() or None
        )
        done = _long.of_this_case(session, partial(self._found, session))
        yield from _long.shown(steps, self.shown.alert, self.shown.progress, done)

    def _found(self, session: Session, found: Compared) -> Updates:
        s, menu = self.shown, actions.differences(found)
        told: Updates = {s.answers: actions.answers_part(found), s.maps: actions.maps_part(found)}
        told |= {s.hint: "", s.copies: actions.copies_part(found), s.links: ""}
        first = menu[0][1] if menu else None
        told |= {s.difference: gr.update(choices=menu, value=first, visible=bool(menu))}
        return told | (self.look(session, first) if first is not None else {s.viewer: {}, s.cells: ""})

    def look(self, session: Session, n: int) -> Updates:
        """One of the differences."""
        shown = actions.found(session)
        return {
            self.shown.viewer: actions.difference_view(session, n),
            self.shown.cells: actions.difference_part(shown, n),
        }

    def prepare(self, session: Session) -> Updates:
        return _long.of_this_case(session, lambda: {self.shown.links: actions.links(session)})()
