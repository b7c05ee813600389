"""Pieces of the page: letters stay letters, pictures stay exact, errors stay in place."""

from __future__ import annotations

import base64
import html
import html.parser
import io
import re

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from medgemma_visualizer.app import parts, words
from medgemma_visualizer.app.desk import BEGUN, Cancelled, Progress
from medgemma_visualizer.app.session import Superseded
from medgemma_visualizer.errors import InputError, UnavailableError

HOSTILE = "<script>alert(1)</script> **bold** \" ' ` ${1+1} {{this}} \\ & <b onclick=x>"


class Outline(html.parser.HTMLParser):
    """Tags, attributes and the text between them, as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_text_is_letters_to_a_browser_and_nothing_to_a_template():
    told = parts.escaped(HOSTILE)
    assert html.unescape(told) == HOSTILE
    assert not set("<>\"'`${}\\") & set(told)
    assert parts.escaped(told) is told


@pytest.mark.parametrize(
    "made",
    [
        parts.alert(HOSTILE),
        parts.note(HOSTILE),
        parts.table([(HOSTILE, 1.0)], (HOSTILE, "n"), HOSTILE),
        parts.facts([(HOSTILE, HOSTILE)]),
        parts.copyable("Copy as command", HOSTILE),
        parts.download("name", b"", "text/plain", HOSTILE),
    ],
)
def test_no_piece_lets_hostile_text_become_markup(made):
    read = Outline(made)
    assert HOSTILE in read.text
    tags = {tag for tag, _ in read.tags}
    assert not tags & {"script", "b"}
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)


def test_a_text_to_copy_is_copied_as_it_is():
    (button,) = (attributes for tag, attributes in Outline(parts.copyable("x", HOSTILE)).tags if tag == "button")
    assert button["data-copy"] == HOSTILE


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pictures_travel_without_loss(mode):
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, len(mode)), dtype=np.uint8)
    image = Image.fromarray(noise.squeeze())
    head, data = parts.png_url(image).split(",")
    assert head == "data:image/png;base64"
    back = Image.open(io.BytesIO(base64.b64decode(data)))
    assert np.array_equal(np.asarray(back), np.asarray(image))


def test_a_download_holds_its_bytes_and_its_name():
    ((tag, attributes),) = Outline(parts.download('a"b.csv', b"1,2\n", "text/csv", "CSV")).tags
    assert (tag, attributes["download"]) == ("a", 'a"b.csv')
    assert attributes["href"] == "data:text/csv;base64," + base64.b64encode(b"1,2\n").decode()


def test_progress_says_counts_and_time_left_to_everybody():
    ((_, bar), *_) = Outline(parts.progress_bar(Progress(12, 64, "probes", 3.0, 15.6))).tags
    assert bar["role"] == "progressbar"
    assert (bar["aria-valuenow"], bar["aria-valuemax"]) == ("12", "64")
    assert bar["aria-valuetext"] == "probes: 12 of 64, about 16 s left of these; 3 s so far"


def test_what_is_counted_within_stands_beside_what_it_is_a_part_of():
    told = parts.progress_text(Progress(3, 60, "random models", 33.0, 57.2, (5, 16, "path points")))
    assert told == "random models: 3 of 60 (path points: 5 of 16), about 58 s left of these; 33 s so far"


def test_work_that_was_called_off_and_has_not_ended_yet_says_so():
    told = parts.progress_text(Progress(3, 60, "random models", 33.0, 57.2, stopping=True))
    assert told == "Stopping at the next step; 33 s so far"


def test_no_number_is_less_than_nothing():
    assert parts.number(-0.0001) == parts.number(0.0) == "0.000"
    assert parts.number(-0.0006) == "-0.001"


def test_progress_that_waits_has_no_value():
    ((_, bar), *_) = Outline(parts.progress_bar(Progress(0, 0, "", 3.0, None))).tags
    assert "aria-valuenow" not in bar
    assert "Waiting" in (bar["aria-valuetext"] or "")
    ((_, bar), *_) = Outline(parts.progress_bar(Progress(0, 0, BEGUN, 3.0, None))).tags
    assert "aria-valuenow" not in bar
    assert "At work" in (bar["aria-valuetext"] or "")


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1 s"), (59.0, "59 s"), (60.0, "1 min 0 s"), (125.0, "2 min 5 s")])
def test_durations_in_words(seconds, said):
    assert parts.duration(seconds) == said


def test_a_table_has_headings_for_rows_and_columns_and_exact_numbers_to_sort_by():
    read = Outline(parts.table([("a", 0.12345, None)], ("Name", "Value", "Chance"), "Scores", sortable=True))
    scopes = [attributes["scope"] for tag, attributes in read.tags if tag == "th"]
    assert scopes == ["col", "col", "col", "row"]
    (cell,) = (attributes for _, attributes in read.tags if "data-sort" in attributes)
    assert cell["data-sort"] == "0.12345"
    assert "0.123" in read.text
    assert "–" in read.text


def test_a_row_of_another_length_is_a_slip_of_ours():
    with pytest.raises(ValueError, match="2 cells in a table of 1"):
        parts.table([("a", "b")], ("Name",))


PLACE, OTHER = object(), object()


@pytest.mark.parametrize("error", [InputError("Type a question."), UnavailableError("It cannot.")])
def test_an_error_is_told_in_place_and_changes_nothing_else(error):
    @parts.in_place(PLACE)
    def handler():
        raise error

    assert handler() == {PLACE: parts.alert(str(error))}


def test_what_comes_through_empties_the_place():
    @parts.in_place(PLACE)
    def handler(value):
        return {OTHER: value}

    assert handler(3) == {PLACE: "", OTHER: 3}


def test_what_is_done_on_the_way_to_a_button_leaves_the_alert_that_the_button_may_have_brought():
    @parts.in_place(PLACE, empties=False)
    def handler(value):
        if value is None:
            raise InputError("Type a question.")
        return {OTHER: value}

    assert handler(3) == {PLACE: gr.skip(), OTHER: 3}
    assert handler(None) == {PLACE: parts.alert("Type a question.")}


def test_steps_are_guarded_and_work_that_was_called_off_is_no_error():
    @parts.in_place(PLACE)
    def handler():
        yield {OTHER: 1}
        raise Cancelled

    assert list(handler()) == [{PLACE: "", OTHER: 1}, {PLACE: parts.note(words.STOPPED)}, {PLACE: gr.skip()}]


def test_work_that_was_superseded_says_nothing():
    @parts.in_place(PLACE)
    def once():
        raise Superseded

    @parts.in_place(PLACE)
    def steps():
        yield {OTHER: 1}
        raise Superseded

    assert once() == {PLACE: gr.skip()}
    assert list(steps()) == [{PLACE: "", OTHER: 1}, {PLACE: gr.skip()}]


def test_the_last_step_which_the_server_sends_again_says_nothing():
    @parts.in_place(PLACE)
    def handler():
        yield {OTHER: 1}

    assert list(handler()) == [{PLACE: "", OTHER: 1}, {PLACE: gr.skip()}]


def test_a_slip_of_ours_is_not_hidden():
    @parts.in_place(PLACE)
    def handler():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        handler()


def test_one_file_loads_nothing_and_runs_nothing():
    page = parts.one_file("A & B", parts.facts([("Question", HOSTILE)])).decode()
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|<script|<link", page)
    assert HOSTILE in Outline(page).text
