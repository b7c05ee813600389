"""The tab "tokens"."""

from __future__ import annotations

import gradio as gr

from medgemma_visualizer.app.page import Page


def create(page: Page) -> None:
    """Lays the tab out."""
    gr.HTML("", elem_id="tokens-place")
