"""The film that can be looked at: film and map as two stacked pictures, with everything that a hand can do to them.

Knows pixels, cells and pointers. The server sends film, map and the numbers of its grid once; opacity, layout, grid
lines, contour and window are the browser's. Its own events: "cell" {row, col}, "box" {x0, y0, x1, y1} as fractions of
the film, "look" {control: value}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from medgemma_visualizer.app.parts import escaped, png_url
from medgemma_visualizer.app.style import asset
from medgemma_visualizer.data.photo import grayscale
from medgemma_visualizer.figures import map_layer, outline_layer
from medgemma_visualizer.records import Heatmap
from medgemma_visualizer.scores.body import body_mask

#: The longer side of what is sent, in pixels.
LONGEST = 768
#: What the controls say at first; the names are those of "look" events.
LOOK: dict[str, Any] = {
    "overlay": True,
    "outline": True,
    "grid": False,
    "layout": "over",
    "opacity": 50,
    "wipe": 50,
    "level": 50,
    "window": 100,
}


@dataclass(frozen=True)
class Film:
    """A film prepared for the viewer, once for all its maps.

    Attributes:
        url: The film as a data: URL.
        size: (width, height) of what is sent.
        body: bool (height, width): inside the skin line.
        outline: The contour of the known region as a data: URL; "" where none is known.
        whole: As `body`, at the film's own size: what scores are measured against.
    """

    url: str
    size: tuple[int, int]
    body: np.ndarray
    outline: str
    whole: np.ndarray


def film_of(image: Image.Image, region: np.ndarray | None = None) -> Film:
    """The film at no more than `LONGEST` pixels a side.

    Args:
        image: RGB or grey, 8 bits.
        region: bool (height, width) of the image.
    """
    gray = Image.fromarray(grayscale(image))
    small = gray.copy()
    small.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    whole = body_mask(np.asarray(gray))
    body = Image.fromarray(whole).resize(small.size, Image.Resampling.NEAREST)
    outline = ""
    if region is not None and region.any():
        mask = np.asarray(Image.fromarray(region).resize(small.size, Image.Resampling.NEAREST))
        outline = png_url(Image.fromarray(outline_layer(mask, small))) if mask.any() else ""
    return Film(png_url(small), small.size, np.asarray(body), outline, whole)


def view(
    film: Film,
    heatmap: Heatmap | None,
    *,
    description: str = "",
    look: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    **style: Any,
) -> dict[str, Any]:
    """The value of the viewer's component.

    Args:
        film: As `film_of` made it.
        heatmap: Laid over it; None, or one that is not available, shows the bare film.
        description: For those who do not see it.
        look: What the controls say, where not as in `LOOK`.
        notes: What must be read with the colours.
        **style: Fields of `figures.Look`: colormap, trusted, signed, …
    """
    width, height = film.size
    layer = map_layer(heatmap, (height, width), film.body, **style)
    shown: dict[str, Any] = {
        "film": film.url,
        "outline": film.outline,
        "width": width,
        "height": height,
        "alt": description,
        "notes": list(notes),
        "look": LOOK | dict(look or {}),
        "map": "",
        "cells": [],
    }
    if layer is None:
        return shown
    return shown | {
        "map": "" if layer.flat else png_url(Image.fromarray(layer.pixels)),
        "cells": [[float(f"{value:.4g}") for value in row] for row in layer.cells],
        "label": layer.label,
        "low": f"{layer.low:.3g}",
        "high": f"{layer.high:.3g}",
        "colours": list(layer.colours),
    }


def create_viewer(elem_id: str, label: str, *, selects: bool = False) -> gr.HTML:
    """An empty viewer; its value is what `view` returns.

    Args:
        elem_id: Of the component, and the beginning of the ids of its controls: "<elem_id>-opacity", …
        label: Names it for screen readers.
        selects: Whether a click chooses a cell and a drag a rectangle.
    """
    template = asset("viewer.html").replace("@controls", _CONTROLS)
    marked = template.replace("@id", elem_id).replace("@label", escaped(label))
    script = asset("viewer.js").replace("@selects", "true" if selects else "false")
    return gr.HTML({}, html_template=marked, js_on_load=script, elem_id=elem_id, padding=False)


def _check(name: str, label: str) -> str:
    return f'<label><input type="checkbox" id="@id-{name}" data-look="{name}"> {label}</label>'


def _range(name: str, label: str, low: int, high: int) -> str:
    slider = f'<input type="range" id="@id-{name}" data-look="{name}" min="{low}" max="{high}" step="1">'
    return f'<label class="mv-range" data-for="{name}">{label} {slider}</label>'


_CONTROLS = "".join(
    (
        _check("overlay", "Show Attention Visualization"),
        _check("outline", "Contour of the known region"),
        _check("grid", "Show Grid Lines (Debug)"),
        '<label>Layout <select id="@id-layout" data-look="layout"><option value="over">over the film</option>'
        '<option value="beside">beside the film</option><option value="wipe">slider</option></select></label>',
        _range("opacity", "Opacity", 0, 100),
        _range("wipe", "Slider", 0, 100),
        _range("level", "Level", 0, 100),
        _range("window", "Window", 5, 100),
    )
)
