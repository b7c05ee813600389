"""What a visitor takes away of a part of the page: files of its links, and texts of its copy buttons."""

from __future__ import annotations

import base64
import html
import re


def linked(part: str) -> dict[str, bytes]:
    """Name -> content of every download."""
    found = re.findall(r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', part)
    return {name: base64.b64decode(data) for name, data in found}


def copied(part: str) -> list[str]:
    """What the copy buttons hold, in order."""
    return [html.unescape(text) for text in re.findall(r'data-copy="([^"]*)"', part)]
