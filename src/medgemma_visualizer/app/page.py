"""What every tab is given: the desk, the cases, the visitor's state, and the sign that another case was asked.

Handlers get the session as an input and change it in place; it never is an output, which would have the whole of it
hashed at every event. They declare `concurrency_limit=None`: the desk, not the queue, says who may ask the model when.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from medgemma_visualizer.app.desk import Desk
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.data.questions import QuestionSet


@dataclass(frozen=True)
class Page:
    """What tabs share.

    Attributes:
        desk: Where the model is asked.
        cases: What the menus offer.
        session: The visitor's `Session`, an input of every handler.
        asked: Set to another number after each analysis; `page.asked.change(handler, [page.session], outputs)` is how a
            tab clears what it showed of the case before and shows the new one.
    """

    desk: Desk
    cases: QuestionSet
    session: gr.State
    asked: gr.State


def new_page(desk: Desk, cases: QuestionSet) -> Page:
    """A page's shared parts; to be called inside its `gr.Blocks`."""
    return Page(desk, cases, gr.State(Session(), delete_callback=Session.stop), gr.State(0))
