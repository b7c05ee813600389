"""What tests of the page share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from medgemma_visualizer import verbs
from medgemma_visualizer.app.desk import Desk
from medgemma_visualizer.app.session import Session


@pytest.fixture(scope="module")
def desk(demo):
    return Desk(demo)


@pytest.fixture(scope="module")
def session(demo, cases):
    """A visitor whose first case has been analysed; tests that change a session make their own."""
    made = Session()
    made.took(verbs.analyze(demo, cases[0], method="relevance"))
    return made


@pytest.fixture(scope="module")
def loops() -> Iterator[None]:
    """Closes the event loops that Gradio makes for locks and leaves open; else they are errors in some later test."""
    made: list[asyncio.AbstractEventLoop] = []
    new = asyncio.new_event_loop

    def noted() -> asyncio.AbstractEventLoop:
        made.append(new())
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", noted)
        yield
    asyncio.set_event_loop(None)
    for loop in made:
        if not loop.is_running():
            loop.close()
