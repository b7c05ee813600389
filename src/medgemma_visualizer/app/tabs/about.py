"""The tab "About": what this is, what each number means, limits, licences, how to cite."""

from __future__ import annotations

import gradio as gr

from medgemma_visualizer.app import words
from medgemma_visualizer.app.page import Page
from medgemma_visualizer.app.parts import escaped, facts, table
from medgemma_visualizer.heatmaps import METHODS


def create(page: Page) -> None:
    """Lays the tab out."""
    for name, (heading, *paragraphs) in words.ABOUT.items():
        told = "".join(f"<p>{escaped(text)}</p>" for text in paragraphs)
        gr.HTML(f"<h2>{escaped(heading)}</h2>{told}", elem_id=f"about-{name}")
    gr.HTML(table(words.METRICS, words.METRIC_HEADINGS, words.METRICS_CAPTION), elem_id="about-metrics")
    rows = [(m.label, m.cost, m.needs, "yes" if m.text_dependent else "no", m.paper) for m in METHODS.values()]
    gr.HTML(table(rows, words.METHOD_HEADINGS, words.METHODS_CAPTION), elem_id="about-methods")
    model = page.model
    about = [("Model", model.name), ("Revision", model.revision), *model.versions.items()]
    gr.HTML(f"<h2>{escaped(words.VERSIONS)}</h2>{facts(about)}", elem_id="about-versions")
