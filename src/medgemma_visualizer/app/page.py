"""What every tab is given: the desks, the cases, the visitor's state, and the sign that another case was asked.

Handlers get the session as an input and change it in place; it never is an output, which would have the whole of it
hashed at every event. `on` connects them: the desk, not the queue, says who may ask the model when, and no handler is
offered as an API.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from medgemma_visualizer.app.desk import Desk, Desks
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.data.questions import QuestionSet
from medgemma_visualizer.models.adapter import Model


@dataclass(frozen=True)
class Page:
    """What tabs share.

    Attributes:
        demo: The page itself; `page.demo.load` is the event of its opening.
        desks: Where the model is asked, one for each device.
        cases: What the menus offer.
        session: The visitor's `Session`, an input of every handler.
        asked: Set to another number after each analysis; `page.asked.change(handler, [page.session], outputs)` is how a
            tab clears what it showed of the case before and shows the new one.
        tabs: The tabs by name; `session.tab` holds the name of the visible one.
    """

    demo: gr.Blocks
    desks: Desks
    cases: QuestionSet
    session: gr.State
    asked: gr.State
    tabs: dict[str, gr.Tab] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        """What all of the desks know of the model; to be told of, not to be asked."""
        return self.desks.desks[0].model

    def desk(self, session: Session) -> Desk:
        """Where a visitor asks."""
        return self.desks.of(session)


def new_page(demo: gr.Blocks, desks: Desks, cases: QuestionSet) -> Page:
    """A page's shared parts; to be called inside its `gr.Blocks`."""
    return Page(demo, desks, cases, gr.State(Session()), gr.State(0))


def on(
    event: Callable[..., Any],
    handler: Callable[..., Any] | None,
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    **how: Any,
) -> Any:
    """Connects an event of a component with a handler, as all of this page's are connected.

    Args:
        event: Such as `button.click`.
        handler: Usually decorated with `parts.in_place`, whose place is then among the outputs.
        inputs: Components whose values the handler gets.
        outputs: Components that it may set.
        **how: Of the listener, where not as here: queue, js, show_progress, trigger_mode, …
    """
    usual: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}
    return event(handler, list(inputs), list(outputs), **(usual | how))
