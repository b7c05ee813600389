"""Visitors who ask at the same time are all answered, each about their own film."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from app import crowded
from tests.browser.watched import LOOPBACK, served

VISITORS, ANALYSES = 16, 5
#: Of what the server holds: against the start, after a visitor has analysed every film; and from crowd to crowd.
MOST_GROWN = 0.05


@pytest.mark.slow
def test_nobody_gets_an_error_or_anothers_answer_and_what_they_asked_is_forgotten(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        process = psutil.Process(server.process.pid)
        found = crowded(server.url, process, VISITORS, ANALYSES)  # raises where anybody is refused or told of an error
        assert found["analyses"] == VISITORS * ANALYSES
        assert found["wrong"] == 0
        assert found["kept"] < MOST_GROWN
        assert found["grown"] < MOST_GROWN
        assert {address for _, address in server.addresses()} <= LOOPBACK
        assert "Traceback" not in server.printed.read_text()
