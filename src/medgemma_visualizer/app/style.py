"""What the browser is given beside the components: the page's style and its script. Knows no tab's contents."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any


@functools.cache
def asset(name: str) -> str:
    """The text of a file of the folder `assets`."""
    return resources.files("medgemma_visualizer.app").joinpath("assets", name).read_text(encoding="utf-8")


def theme() -> Any:
    """Gradio's own theme with the system's fonts, and with colours of which every text has a contrast of 4.5 to 1."""
    import gradio as gr  # late, as its environment is set first

    said = {"button_primary_background_fill": _BLUE, "button_primary_background_fill_hover": _DARK_BLUE}
    said |= {f"{name}_dark": value for name, value in said.items()} | {"color_accent": _BLUE}
    quiet = {"body_text_color_subdued": "#52525b", "block_info_text_color": "#52525b"}
    quiet |= {f"{name}_dark": "#a1a1aa" for name in quiet}
    base = gr.themes.Default(
        primary_hue="blue", font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")
    )
    return base.set(button_primary_text_color="white", button_primary_text_color_dark="white", **said, **quiet)


_BLUE, _DARK_BLUE = "#1d4ed8", "#1e40af"
CSS = asset("page.css")
HEAD = f"<script>{asset('page.js')}</script>"
