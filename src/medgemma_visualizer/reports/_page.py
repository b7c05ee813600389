"""What every page of this package shares: pictures inside the page, and what it may load. Knows nothing of contents."""

from __future__ import annotations

import base64
import io

from jinja2 import Environment, StrictUndefined
from PIL import Image

FILM_PIXELS = 384

#: What a page that opens from disk may load: nothing but what it holds.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
#: How every page begins.
HEAD = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
"""


def data_uri(image: Image.Image) -> str:
    """The picture as part of the page: a PNG in base64."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def environment() -> Environment:
    """Templates in which every value is text, never markup, and a slip of the pen is an error, not a gap."""
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
