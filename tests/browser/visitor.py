"""One visitor: a browser context of their own, what they see in pixels, and everything that went wrong meanwhile."""

from __future__ import annotations

import base64
import io
import re
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

#: Milliseconds: for what should come at once, for an analysis on busy cores, and for long work.
SOON, ANALYSIS, LONG = 10_000, 30_000, 120_000
#: The tabs, as errata and specification name them, each with its id.
TABS = {
    "MIMIC Question Analysis": "tab-analysis",
    "Token-Conditioned Analysis": "tab-tokens",
    "Prompt Sensitivity Analysis": "tab-sensitivity",
    "Faithfulness Validation": "tab-faithfulness",
    "Method Trust": "tab-trust",
    "About": "tab-about",
}


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

    def arrived(self) -> Visitor:
        """Opens the page and waits until its first case has been analysed."""
        self.page.goto(self.url, timeout=ANALYSIS)
        self.find("#analysis-answer dl").wait_for(timeout=ANALYSIS)
        return self

    def find(self, selector: str, **how: Any) -> Any:
        """A part of the page."""
        return self.page.locator(selector, **how)

    def opens(self, tab: str) -> None:
        """Opens a tab by its name; on a narrow screen from the menu of those that have no room."""
        shown = self.page.get_by_role("tab", name=tab, exact=True)
        if not shown.is_visible():
            self.page.locator(".overflow-menu > button").click()
            shown = self.page.locator(".overflow-dropdown button", has_text=tab)
        shown.click()
        self.find(f"#{TABS[tab]}").wait_for()

    def in_scheme(self, scheme: str) -> None:
        """Light or dark, as the system wishes it; colours that fade from one to the other have arrived."""
        self.page.emulate_media(color_scheme=scheme)
        self.page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=scheme == "dark")
        self.page.wait_for_function("() => !document.getAnimations().some(one => one instanceof CSSTransition)")

    def facts(self, selector: str = "#analysis-answer") -> dict[str, str]:
        """What a list of facts tells, by its terms."""
        told = self.find(f"{selector} dl").first
        terms, values = told.locator("dt").all_inner_texts(), told.locator("dd").all_inner_texts()
        return dict(zip(terms, values, strict=True))

    def row(self, selector: str, name: str) -> dict[str, str]:
        """A row of a table by its first cell, as column -> text."""
        table = self.find(f"{selector} table").first
        heads = table.locator("thead th").all_inner_texts()
        row = table.locator("tbody tr").filter(has=self.page.locator("th", has_text=re.compile(f"^{re.escape(name)}$")))
        return dict(zip(heads, row.locator("th, td").all_inner_texts(), strict=True))

    def analyses(self) -> dict[str, str]:
        """Presses Analyse, waits for the new answer, and tells it; it must differ, for what is equal stays."""
        self.find("#analysis-answer").evaluate("e => e.querySelector('dl')?.setAttribute('data-old', '')")
        self.find("#analysis-run").click()
        self.find("#analysis-answer dl:not([data-old])").wait_for(timeout=ANALYSIS)
        return self.facts()

    def types(self, question: str) -> None:
        """Writes a question in place of the one that stands there."""
        self.find("#analysis-question textarea").fill(question)

    def chooses(self, number: int) -> None:
        """Takes a case of the menu, by its place from 0, and waits for its answer."""
        self.find("#analysis-answer").evaluate("e => e.querySelector('dl')?.setAttribute('data-old', '')")
        self.find("#analysis-case input").click()
        self.find("#analysis-case [role=option]").nth(number).click()
        self.find("#analysis-answer dl:not([data-old])").wait_for(timeout=ANALYSIS)

    def unfolds(self, section: str) -> None:
        """Opens a folded section of the shown tab by its heading."""
        self.find("button.label-wrap:visible", has_text=section).click()

    def takes(self, menu: str, label: str) -> None:
        """Chooses in a menu by the beginning of a label."""
        self.find(f"#{menu} input").click()
        self.find(f"#{menu} [role=option]").filter(has_text=re.compile(rf"^\W*{re.escape(label)}")).first.click()

    def alerts(self) -> list[str]:
        """Every error that the page shows now."""
        return [text for text in self.find("[role=alert]:visible").all_inner_texts() if text]

    def leave(self) -> None:
        """Closes the page."""
        self._context.close()


def pixels(locator: Any) -> np.ndarray:
    """What a part of the page looks like once it stands still, uint8 (height, width, 3)."""
    locator.scroll_into_view_if_needed()
    before, shot = b"", locator.screenshot(animations="disabled")
    until = time.monotonic() + SOON / 1000
    while shot != before:  # pictures are decoded and parts find their places after a result has come
        if time.monotonic() > until:
            raise AssertionError("The page does not come to rest.")
        before, shot = shot, locator.screenshot(animations="disabled")
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def cell_means(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Means of an array (height, width) over equal cells, (rows, cols)."""
    rows, cols = shape
    return np.array(
        [[part.mean() for part in np.array_split(band, cols, axis=1)] for band in np.array_split(values, rows)]
    )


def picture_of(url: str) -> Image.Image:
    """The picture that a data: URL holds."""
    head, _, data = url.partition(",")
    if not head.startswith("data:image/"):
        raise AssertionError(f"{url[:40]!r} is no picture inside the page")
    return Image.open(io.BytesIO(base64.b64decode(data)))
