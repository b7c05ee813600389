"""A visitor's own state: settings go back and forth, results go with their case, work ends with what it was for."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest

from medgemma_visualizer.app.desk import Cancelled, Job
from medgemma_visualizer.app.session import MOST_UNDONE, Session, Settings
from medgemma_visualizer.errors import InputError


def analysed(name: str) -> SimpleNamespace:
    """What `Session.took` reads of an analysis."""
    return SimpleNamespace(case=name)


def test_settings_are_taken_back_in_order_and_brought_again():
    session = Session()
    first, second = Settings(method="relevance"), Settings(method="tam")
    session.choose(first)
    session.choose(second)
    assert [session.undo(), session.undo(), session.undo()] == [first, Settings(), Settings()]
    assert [session.redo(), session.redo(), session.redo()] == [first, second, second]


def test_a_new_choice_ends_what_could_be_brought_again():
    session = Session()
    session.choose(Settings(method="relevance"))
    session.undo()
    session.choose(Settings(method="tam"))
    assert session.redo() == Settings(method="tam")
    assert session.undo() == Settings()


def test_the_same_choice_twice_is_one_step():
    session = Session()
    session.choose(Settings(target="answer"))
    session.choose(Settings(target="answer"))
    session.undo()
    assert session.settings == Settings()


def test_only_so_many_settings_are_kept():
    session = Session()
    for n in range(MOST_UNDONE + 10):
        session.choose(Settings(target=str(n)))
    for _ in range(MOST_UNDONE + 10):
        session.undo()
    assert session.settings.target == "9"


def test_another_case_takes_everything_found_with_it_and_leaves_pins_and_settings():
    session = Session()
    session.took(analysed("first"))
    session.pins["A"] = session.analysis
    session.choose(Settings(method="tam"))
    session.results["league"] = session.heatmaps["answer", "tam", 0] = session.film = object()
    session.edits.append(session.analysis)
    number = session.number
    session.took(analysed("second"))
    assert (session.results, session.heatmaps, session.edits, session.film) == ({}, {}, [], None)
    assert session.number != number
    assert session.case == "second"
    assert session.pins["A"].case == "first"
    assert session.settings.method == "tam"


def test_before_anything_was_asked_there_is_a_sentence_with_the_next_step():
    with pytest.raises(InputError, match="press Analyse"):
        Session().current()


def test_a_film_that_has_not_been_asked_leaves_nothing_to_ask_about():
    session = Session()
    session.took(analysed("first"))
    session.forget()
    with pytest.raises(InputError):
        session.current()


def test_new_work_and_another_case_call_old_work_off():
    session = Session()
    first = session.begin()
    second = session.begin()
    with pytest.raises(Cancelled):
        first.tell(1, 2, "probes")
    second.tell(1, 2, "probes")
    session.took(analysed("other"))
    with pytest.raises(Cancelled):
        second.tell(2, 2, "probes")


def test_a_result_that_comes_after_its_case_belongs_nowhere():
    session = Session()
    job = session.begin()
    session.ends(job)
    session.took(analysed("other"))
    with pytest.raises(Cancelled):
        session.ends(job)
    with pytest.raises(Cancelled):
        session.ends(Job())


def test_two_visitors_start_with_states_of_their_own():
    template = Session()
    one, other = copy.deepcopy(template), copy.deepcopy(template)
    one.results["words"] = ("fluid",)
    one.choose(replace(one.settings, preset="audit"))
    assert other == Session()
