"""What several tabs lay out alike: two columns under a lead, and the section that holds copies and downloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import gradio as gr

from medgemma_visualizer.app import words
from medgemma_visualizer.app.parts import escaped

Asked = TypeVar("Asked")
Shown = TypeVar("Shown")


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
