"""What several tabs lay out alike: two columns under a lead, and the section that holds copies and downloads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import gradio as gr

from medgemma_visualizer.app import words
from medgemma_visualizer.app.parts import Safe, escaped

Asked = TypeVar("Asked")
Shown = TypeVar("Shown")


#: A click on a button of a strip becomes an event of that name with the button's data.
_CLICKS = (
    "element.addEventListener('click', (event) => {{ const button = event.target.closest('button[data-{key}]'); "
    "if (button) trigger('{event}', {{...button.dataset}}); }});"
)


def clicks(key: str, event: str) -> str:
    """The script of a gr.HTML whose buttons with `data-{key}` trigger `event`."""
    return _CLICKS.format(key=key, event=event)


def numbered(texts: Sequence[str], name: str, heading: str = "") -> Safe:
    """Texts as buttons in a row, each with its place as `data-n`; `name` is told to who hears the page."""
    buttons = "".join(f'<button type="button" data-n="{n}">{escaped(text)}</button>' for n, text in enumerate(texts))
    told = f"<strong>{escaped(heading)}</strong> " if heading else ""
    return Safe(f'<div class="mv-strip" role="group" aria-label="{escaped(name)}">{told}{buttons}</div>')


def place(event: gr.EventData, count: int) -> int | None:
    """Which of `count` such buttons was pressed; it comes from the browser, so None where there is no such one."""
    given = event._data if isinstance(event._data, dict) else {}
    number = str(given.get("n", ""))
    return int(number) if number.isdecimal() and int(number) < count else None


def lead(tab: str, text: str) -> None:
    """What the tab is for, in a sentence."""
    gr.HTML(f"<p>{escaped(text)}</p>", elem_id=f"{tab}-lead")


def two_columns(asked: Callable[[], Asked], shown: Callable[[], Shown]) -> tuple[Asked, Shown]:
    """What is asked on the left, what is shown on the right; one below the other on a telephone."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            left = asked()
        with gr.Column(scale=3, min_width=300):
            right = shown()
    return left, right


def take_away(tab: str) -> tuple[gr.HTML, gr.Button, gr.HTML]:
    """The section of what can be taken away: copies, the button that prepares downloads, and their links."""
    with gr.Accordion(words.TAKE, open=False):
        copies = gr.HTML("", elem_id=f"{tab}-copy")
        prepare = gr.Button(words.PREPARE, elem_id=f"{tab}-downloads", size="sm")
        links = gr.HTML("", elem_id=f"{tab}-links")
    return copies, prepare, links
