"""One visitor: a browser context of their own, what they see in pixels, and everything that went wrong meanwhile."""

from __future__ import annotations

import base64
import io
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

#: Milliseconds: for what should come at once, for an analysis on busy cores, and for long work.
SOON, ANALYSIS, LONG = 10_000, 30_000, 120_000


class Visitor:
    """A person at a browser.

    Attributes:
        page: Playwright's page.
        complaints: Errors of the console and of scripts.
        outside: Addresses asked for that are not this server's.
    """

    def __init__(self, browser: Any, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self.url, self.complaints, self.outside = url, [], []
        self._context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            accept_downloads=True,
        )
        self.page = self._context.new_page()
        self.page.set_default_timeout(SOON)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._context.on("request", lambda request: self._asked(request.url))
        self.page.on("websocket", lambda socket: self._asked(socket.url))

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(self.url).netloc:
            self.outside.append(url)

    def leave(self) -> None:
        """Closes the page."""
        self._context.close()


def pixels(locator: Any) -> np.ndarray:
    """What a part of the page looks like, uint8 (height, width, 3)."""
    locator.scroll_into_view_if_needed()
    shot = locator.screenshot(animations="disabled")
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def picture_of(url: str) -> Image.Image:
    """The picture that a data: URL holds."""
    head, _, data = url.partition(",")
    if not head.startswith("data:image/"):
        raise AssertionError(f"{url[:40]!r} is no picture inside the page")
    return Image.open(io.BytesIO(base64.b64decode(data)))
