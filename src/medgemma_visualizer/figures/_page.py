"""A page measured in pixels, what is written on it, and how it becomes a picture. Knows nothing about heatmaps.

`pyplot` keeps one list of figures for the whole process and is not safe in threads, so it is never imported.
"""

from __future__ import annotations

import functools
import textwrap
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from PIL import Image

from medgemma_visualizer.settings import VIZ_CONFIG

DPI = cast(int, VIZ_CONFIG["figure_dpi"])
DISCLAIMER = "Research use only. Not for clinical use."
UNKNOWN_CHARACTER = "□"
INK = "#1a1a1a"
QUIET = "#606060"
LINE_HEIGHT = 19  # pixels of one line of text at size 9


def page(width: int, height: int) -> Figure:
    """A white page of that many pixels, with the disclaimer at its foot."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    write(figure, 12, height - 12, DISCLAIMER, color=QUIET, size=8, va="bottom")
    return figure


def picture(figure: Figure) -> Image.Image:
    """The finished page as an RGB image."""
    canvas = cast(FigureCanvasAgg, figure.canvas)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def box(figure: Figure, left: int, top: int, width: int, height: int) -> Axes:
    """Axes at a place given in pixels from the page's top left corner."""
    across, down = figure.get_size_inches() * DPI
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def write(figure: Figure, left: float, top: float, text: str, **style: Any) -> Text:
    """Writes as the letters stand: a dollar sign is no formula. The place is given in pixels from the top left."""
    across, down = figure.get_size_inches() * DPI
    chosen: dict[str, Any] = {"size": 9, "color": INK, "va": "top"} | style
    return figure.text(left / across, 1 - top / down, printable(text), parse_math=False, **chosen)


def stamp(axes: Axes, text: str, y: float = 0.03, va: str = "bottom", size: int = 9) -> Text:
    """Writes on a film: white letters on a dark plate, in the middle, at a height given in fractions of the axes."""
    plate = {"facecolor": "#141414", "alpha": 0.85, "edgecolor": "none", "boxstyle": "square,pad=0.5"}
    style: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": va, "color": "white", "size": size}
    return axes.text(0.5, y, printable(text), bbox=plate, parse_math=False, **style)


def wrapped(text: str, width: int, lines: int = 2) -> str:
    """Breaks into lines as wide as `width` pixels hold; what does not fit ends in an ellipsis."""
    broken = textwrap.wrap(" ".join(text.split()), max(width // 8, 8), max_lines=lines, placeholder=" …")
    return "\n".join(broken)


def printable(text: str) -> str:
    """The text with a box for every character that the font cannot draw."""
    return "".join(letter if letter == "\n" or ord(letter) in _letters() else UNKNOWN_CHARACTER for letter in text)


@functools.cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
