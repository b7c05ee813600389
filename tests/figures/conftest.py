"""A grey film, a body in its middle, and a map with one hot cell."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from medgemma_visualizer.records import Heatmap, Target

TARGET = Target("contrast", "yes rather than no", (5,))


@pytest.fixture
def film():
    return np.full((64, 64), 100, dtype=np.uint8)


@pytest.fixture
def body():
    mask = np.zeros((64, 64), dtype=bool)
    mask[8:56, 8:56] = True
    return mask


@pytest.fixture
def grid():
    """A ramp with its peak in cell (5, 2), so that percentiles differ."""
    cells = np.linspace(0.0, 0.2, 64, dtype=np.float32).reshape(8, 8)
    cells[5, 2] = 1.0
    return cells


@pytest.fixture
def heatmap(grid):
    return Heatmap(grid, "cross_attention", "auto", TARGET, signed=grid - 0.5, model="demo")


@pytest.fixture
def unavailable():
    return Heatmap(None, "uniform", "auto", TARGET, fallbacks={"gradcam_single": "the gradient is zero"})


@pytest.fixture
def words():
    """Reads everything written on a page, tick labels included, in one line."""

    def read(figure: Figure) -> str:
        figure.canvas.draw()
        texts = (text.get_text() for text in figure.findobj(Text) if text.get_visible())
        return " ".join(" ".join(texts).split())

    return read
