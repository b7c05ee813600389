"""What the browser is given beside the components: the page's style and its script. Knows no tab's contents."""

from __future__ import annotations

import functools
from importlib import resources


@functools.cache
def asset(name: str) -> str:
    """The text of a file of the folder `assets`."""
    return resources.files("medgemma_visualizer.app").joinpath("assets", name).read_text(encoding="utf-8")


CSS = asset("page.css")
HEAD = f"<script>{asset('page.js')}</script>"
