"""How a tab shows long work: a bar while it lasts, the result at its end, a sentence where it stops. Knows no work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from medgemma_visualizer.app.desk import Cancelled, Progress
from medgemma_visualizer.app.parts import progress_bar, told
from medgemma_visualizer.app.session import Session, Superseded
from medgemma_visualizer.errors import VisualizerError

T = TypeVar("T")
P = ParamSpec("P")
Updates = dict[Any, Any]


def shown(
    steps: Iterable[Progress | T], alert: gr.HTML, progress: gr.HTML, done: Callable[[T], Updates]
) -> Iterator[Updates]:
    """Updates for every step; an error or a cancel ends the bar, and all inputs and earlier results stay.

    Args:
        steps: As an action gives them: progress, at last its result.
        alert, progress: Where sentences and the bar stand.
        done: The updates that a result makes.
    """
    try:
        for step in steps:
            if isinstance(step, Progress):
                yield {alert: "", progress: progress_bar(step)}
            else:
                yield {alert: "", progress: "", **done(step)}
    except Superseded:  # whatever came in its place says how that goes
        pass
    except (VisualizerError, Cancelled) as error:
        yield {alert: told(error), progress: ""}
    yield {alert: gr.skip()}  # which Gradio sends again in place of the last step, as in `parts.in_place`


@contextmanager
def only_while(holds: Callable[[], bool]) -> Iterator[None]:
    """Drawing takes a while, in which a visitor may go on: what was drawn meanwhile belongs nowhere.

    Raises:
        Superseded: It does not hold any more at the end.
    """
    try:
        yield
    finally:
        if not holds():
            raise Superseded


def of_this_case(session: Session, done: Callable[P, Updates]) -> Callable[P, Updates]:
    """`done`, whose updates belong nowhere where another case was analysed before they were made.

    Raises:
        Superseded: One was; raised by what is returned.
    """
    analysis = session.analysis

    def checked(*found: P.args, **named: P.kwargs) -> Updates:
        with only_while(lambda: session.analysis is analysis):
            return done(*found, **named)

    return checked


def cancel(session: Session) -> None:
    """Calls the visitor's long work off; its own handler says so."""
    session.stop()
