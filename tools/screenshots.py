"""Draws the pictures of the page that README and docs show: `python tools/screenshots.py FOLDER`.

Needs Chromium (`make browser`). What is shown is what the embedded model says now, about embedded films only.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import medgemma_visualizer as mv
from medgemma_visualizer.app.serve import opened

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
LONG = 180_000


def save(page: Any, path: Path) -> None:
    """What the window shows, lossless."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(400)
    shot = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    shot.save(path, optimize=True)


def analysis(page: Any) -> None:
    page.wait_for_selector("#analysis-answer dl")


def tokens(page: Any) -> None:
    page.get_by_role("tab", name="Token-Conditioned Analysis").click()
    page.wait_for_selector("#tokens-strip button[aria-pressed=true]")


def faithfulness(page: Any) -> None:
    page.get_by_role("tab", name="Faithfulness Validation").click()
    page.click("#faithfulness-validate")
    page.wait_for_selector("#faithfulness-table table", timeout=LONG)
    page.eval_on_selector("#faithfulness-curves", "element => element.scrollIntoView()")


def trust(page: Any) -> None:
    page.evaluate("window.scrollTo(0, 0)")
    page.get_by_role("tab", name="Method Trust").click()
    page.wait_for_selector("#trust-table table")


SHOWN: dict[str, Callable[[Any], None]] = {
    "page_analysis": analysis,
    "page_tokens": tokens,
    "page_faithfulness": faithfulness,
    "page_trust": trust,
}


def main(folder: Path) -> None:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        raise SystemExit("There is no Chromium on this machine; run `make browser`, which installs it.")
    folder.mkdir(parents=True, exist_ok=True)
    with opened(mv.load_model("demo"), port=0) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        page.goto(served.url)
        analysis(page)
        for name, shows in SHOWN.items():
            shows(page)
            save(page, folder / f"{name}.png")
            print(folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
