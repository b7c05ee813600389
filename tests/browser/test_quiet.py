"""Nothing leaves this machine, and nothing stays on it: what page and server ask for, keep and leave behind."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.browser.visitor import Visitor
from tests.browser.watched import LOOPBACK, Server, served


def test_a_request_to_another_machine_is_counted_and_goes_nowhere(browser: Any) -> None:
    """The counter that all stories rely on does count."""
    visitor = Visitor(browser, "http://127.0.0.1:9/")
    loaded = visitor.page.evaluate(
        """() => new Promise(done => { const image = new Image(); image.onload = () => done(true);
           image.onerror = () => done(false); image.src = "http://outside.example/dot.png"; })"""
    )
    visitor.leave()
    assert not loaded
    assert visitor.outside == ["http://outside.example/dot.png"]
    assert any("ERR_NAME_NOT_RESOLVED" in complaint for complaint in visitor.complaints)


def test_the_server_has_asked_this_machine_only(visitor: Visitor, server: Server) -> None:
    asked = server.addresses()
    assert asked  # it greets itself at its start: the watch is awake
    assert {address for _, address in asked} <= LOOPBACK


@pytest.mark.slow  # starts a server of its own; the one that all share is stopped by SIGTERM, by its fixture
def test_a_server_that_is_stopped_at_once_leaves_no_file(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        (private,) = server.private()
        assert private.stat().st_mode & 0o777 == 0o700
        (private / "upload.png").write_bytes(b"a film")
        assert server.stop(signal.SIGINT) == 0
        assert server.private() == []
        assert server.files() == []
