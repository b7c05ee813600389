"""The whole page as it is built: its tabs, its names for tests, what no handler may do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medgemma_visualizer.app import words
from medgemma_visualizer.app.build import build
from medgemma_visualizer.app.desk import Desk

DOCS = Path(__file__).parents[2] / "docs" / "app.md"
SPECIFIED = ("MIMIC Question Analysis", "Token-Conditioned Analysis", "Prompt Sensitivity Analysis")


@pytest.fixture(scope="module")
def page(demo, loops):
    return build(Desk(demo))


@pytest.fixture(scope="module")
def names(page):
    return [block.elem_id for block in page.blocks.values() if getattr(block, "elem_id", None)]


def test_the_tabs_are_the_specifications_and_the_league(page):
    labels = [block.label for block in page.blocks.values() if block.get_block_name() == "tabitem"]
    assert labels == list(words.TABS.values())
    assert labels[:3] == list(SPECIFIED)
    assert labels[3:] == ["Faithfulness Validation", "Method Trust", "About"]


def test_every_name_is_given_once(names):
    assert len(names) == len(set(names))


def test_the_documented_names_are_those_of_the_page(names):
    told = set(re.findall(r"`([a-z]+(?:-[a-z0-9]+)+)`", DOCS.read_text(encoding="utf-8").partition("## Names")[2]))
    assert told == {name for name in names if "-" in name}


def test_no_handler_is_offered_as_an_api(page):
    listeners = [fn for fn in page.fns.values() if not any(event == "unload" for _, event in fn.targets)]
    assert len(listeners) > 50
    assert {fn.api_visibility for fn in listeners} == {"private"}


def test_no_handler_puts_the_session_where_it_would_be_hashed_at_every_event(page):
    (session,) = [b for b in page.blocks.values() if type(getattr(b, "value", None)).__name__ == "Session"]
    assert all(session not in fn.outputs for fn in page.fns.values())
    assert sum(session in fn.inputs for fn in page.fns.values()) > 50


def test_the_desk_and_not_the_queue_says_who_may_ask_the_model(page):
    waiting = [fn for fn in page.fns.values() if fn.queue and fn.concurrency_limit is not None and fn.inputs]
    assert waiting == []
