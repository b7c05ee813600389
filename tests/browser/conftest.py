"""A server for all stories of a worker, a browser that reaches nothing else, and visitors who complain."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.visitor import SOON, Visitor
from tests.browser.watched import LOOPBACK, Server, served

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: No sandbox, as containers have none; no other machine, whatever the page or the browser itself should want.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
AXE = Path(__file__).parents[2] / ".browser" / "node_modules" / "axe-core" / "axe.min.js"
MISSING = "run `make browser`, which installs it"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a browser."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page on the embedded model. After all stories it stops when told to, leaves no file, asked nobody else."""
    with served(tmp_path_factory.mktemp("server")) as running:
        yield running
        printed = running.printed.read_text()
        assert "Traceback" not in printed, printed
        assert running.stop(signal.SIGTERM) == 0, running.printed.read_text()
        assert (running.private(), running.files()) == ([], [])
        assert {address for _, address in running.addresses()} <= LOOPBACK


@pytest.fixture(scope="session")
def executable() -> str:
    """Chromium's path."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no Chromium on this machine; {MISSING}")
    return found


@pytest.fixture(scope="package")
def browser(executable: str) -> Iterator[Any]:
    """Chromium without a window. Open for these tests only: Playwright keeps an event loop running in the thread."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SOON)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Callable[..., Visitor]]:
    """Lets another visitor in; at the end each must have seen no error and asked no other machine."""
    visitors: list[Visitor] = []

    def enter(**options: Any) -> Visitor:
        visitors.append(Visitor(browser, server.url, **options))
        return visitors[-1]

    yield enter
    for visitor in visitors:
        visitor.leave()
    assert [visitor.complaints for visitor in visitors] == [[]] * len(visitors)
    assert [visitor.outside for visitor in visitors] == [[]] * len(visitors)


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    """One visitor on a screen of 1280 × 900, who has seen the first case analysed."""
    return visit().arrived()


@pytest.fixture
def telephone(visit: Callable[..., Visitor]) -> Visitor:
    """One visitor on a screen of 390 × 844, who has seen the first case analysed."""
    return visit(width=390, height=844).arrived()


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility rules, as a script."""
    if not AXE.is_file():
        pytest.skip(f"axe-core is not here; {MISSING}")
    return AXE.read_text(encoding="utf-8")
