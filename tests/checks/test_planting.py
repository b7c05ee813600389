"""Marks and decoys lie where they say, change what they say, and come back bit for bit from their seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from medgemma_visualizer.checks.planting import APART, LONGEST, _clear_places, planted_items
from medgemma_visualizer.data.marks import KINDS
from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.models.prompt import process_prompt
from medgemma_visualizer.records import Case

SIDE, GREY = 160, 110


def film(name: str = "film", grey: int = GREY, shape: tuple[int, ...] = (SIDE, SIDE), **known: Any) -> Case:
    return Case(id=name, image=Image.fromarray(np.full(shape, grey, np.uint8)), question="Is it so?", **known)


def films(n: int, **known: Any) -> list[Case]:
    return [film(f"film{k}", GREY + k, **known) for k in range(n)]


def content(item: Any) -> tuple[Any, ...]:
    return (item.case.id, item.marked.tobytes(), item.case.region.tobytes(), item.decoy.on(item.bare).tobytes())


def test_the_region_is_what_was_changed_and_the_decoy_changes_as_many_pixels() -> None:
    for item in planted_items(films(3), KINDS, 24):
        np.testing.assert_array_equal(item.case.region, item.marked != item.bare)
        elsewhere = item.decoy.on(item.bare) != item.bare
        assert elsewhere.sum() == item.case.region.sum() > 0  # on mid-grey no change is lost to black or white


def test_ink_that_equals_the_film_is_no_evidence() -> None:
    counts = [item.case.region.sum() for grey in (GREY, 245) for item in planted_items([film(grey=grey)], KINDS[3:], 1)]
    assert 0 < counts[1] < 0.7 * counts[0]  # leads of 245 on a film of 245 are not there to be seen
    for item in planted_items([film(grey=245)], KINDS, 8):
        np.testing.assert_array_equal(item.case.region, item.marked != item.bare)


def test_of_many_places_the_decoy_takes_one_where_its_change_is_not_lost_to_black() -> None:
    half_black = np.full((SIDE, SIDE), GREY, np.uint8)
    half_black[:, : SIDE // 2] = 0
    given = Case(id="half", image=Image.fromarray(half_black), question="")
    for item in planted_items([given], ("L", "arrow"), 24):
        mark, decoy = (film.astype(float) - item.bare for film in (item.marked, item.decoy.on(item.bare)))
        if not item.case.region[:, : SIDE // 2].any():
            assert (decoy**2).sum() > 0.75 * (mark**2).sum()


def test_clear_places_are_those_found_by_looking_at_each() -> None:
    changed = np.zeros((13, 17), bool)
    changed[4:6, 7] = True
    wanted = [
        [top, left]
        for top in range(13 - 3 + 1)
        for left in range(17 - 3 + 1)
        if not changed[max(top - 2, 0) : top + 5, max(left - 2, 0) : left + 5].any()
    ]
    assert _clear_places(changed, 3, 2).tolist() == wanted
    with pytest.raises(VisualizerError, match="no room for an equal patch"):
        _clear_places(changed, 3, 12)


def test_a_decoy_is_about_as_strong_as_its_mark_and_not_brighter_on_the_whole() -> None:
    for item in planted_items(films(3), KINDS, 24):
        mark, decoy = (film.astype(float) - item.bare for film in (item.marked, item.decoy.on(item.bare)))
        assert 0.5 < (decoy**2).sum() / (mark**2).sum() <= 1
        assert abs(decoy.sum()) < 0.5 * np.abs(mark).sum()


def test_a_decoy_keeps_its_distance_from_the_mark() -> None:
    for item in planted_items(films(3), KINDS, 24):
        away = ndimage.distance_transform_cdt(~item.case.region, "chessboard")
        assert away[item.decoy.on(item.bare) != item.bare].min() > APART * SIDE


def test_a_decoy_on_the_marked_film_leaves_the_mark_alone() -> None:
    for item in planted_items(films(2), KINDS, 8):
        both = item.decoy.on(item.marked)
        np.testing.assert_array_equal(both[item.case.region], item.marked[item.case.region])
        assert (both != item.marked).sum() == item.case.region.sum()


def test_one_seed_one_set_bit_for_bit() -> None:
    first, again, other = ([content(item) for item in planted_items(films(3), KINDS, 12, seed)] for seed in (4, 4, 5))
    assert first == again
    assert not {marked for _, marked, *_ in first} & {marked for _, marked, *_ in other}
    assert not {name for name, *_ in first} & {name for name, *_ in other}


def test_a_smaller_set_begins_a_larger_one_and_kinds_do_not_disturb_each_other() -> None:
    few, many = ([content(item) for item in planted_items(films(3), KINDS, n)] for n in (6, 12))
    assert many[:6] == few
    arrows = [content(item) for item in planted_items(films(3), ["arrow"], 3)]
    assert arrows == [content(item) for item in planted_items(films(3), KINDS, 12) if item.case.finding == "arrow"]


def test_kinds_take_turns_and_no_film_comes_twice_before_all_came_once() -> None:
    items = planted_items(films(3), ("L", "arrow", "L"), 12)
    assert Counter(item.case.finding for item in items) == {"L": 6, "arrow": 6}
    for kind in ("L", "arrow"):
        order = [item.film for item in items if item.case.finding == kind]
        assert set(order[:3]) == set(order[3:]) == {"film0", "film1", "film2"}
    assert len({item.case.id for item in items}) == 12


def test_several_questions_about_one_film_count_it_once_with_all_its_regions() -> None:
    twice = film("again", regions={"arrow": np.ones((SIDE, SIDE), bool)})
    items = planted_items([film("first"), twice, film("third"), film("other", 90)], ("arrow",), 4)
    assert {item.film for item in items} == {"other"}


def test_a_film_that_carries_a_mark_is_not_used_for_questions_about_it() -> None:
    marker = film("marked", 90, regions={"R": np.ones((SIDE, SIDE), bool)})
    items = planted_items([marker, film("bare")], KINDS, 16)
    assert {item.film for item in items if item.case.finding in ("L", "R")} == {"bare"}
    assert {item.film for item in items if item.case.finding == "arrow"} == {"marked", "bare"}
    with pytest.raises(InputError, match=r"All 1 films carry a mark \(L or R\) already.*leave 'L' out"):
        planted_items([marker], ("L",), 1)


def test_a_case_says_what_is_asked_and_whose_film_it_is() -> None:
    known = film("a", patient_id="p7", view="AP", source="clinic", simulated=True)
    cases = {item.case.finding: item for item in planted_items([known], KINDS, 4, instructed=False)}
    assert {kind: (item.case.question, item.case.options, item.case.truth) for kind, item in cases.items()} == {
        "L": ("Which side marker is on the film?", ("L", "R", "none"), "L"),
        "R": ("Which side marker is on the film?", ("L", "R", "none"), "R"),
        "arrow": ("Is there an arrow on the film?", ("yes", "no"), "yes"),
        "pacemaker": ("Is there a pacemaker?", ("yes", "no"), "yes"),
    }
    case = cases["L"].case
    assert (case.patient_id, case.view, case.source, case.simulated) == ("p7", "AP", "clinic", True)
    assert cases["L"].surely_bare
    (stranger,) = planted_items([film("a")], ("L",), 1)
    assert (stranger.case.patient_id, stranger.surely_bare) == ("a", False)


def test_the_instruction_names_the_options() -> None:
    arrow, letter = (item.case.question for item in planted_items(films(1), ("arrow", "L"), 2))
    assert arrow == process_prompt("Is there an arrow on the film?")
    assert letter == (
        "Question: Which side marker is on the film?\n"
        "Answer with only 'L', 'R' or 'none'. Do not provide any explanation."
    )


def test_large_films_are_shrunk_and_colour_is_read_as_grey() -> None:
    (large,) = planted_items([film(shape=(3000, 1500))], ("L",), 1)
    assert large.bare.shape == large.case.region.shape == (LONGEST, LONGEST // 2)
    assert set(np.unique(large.bare)) == {GREY}
    (colour,) = planted_items([film(shape=(SIDE, SIDE, 3))], ("L",), 1)
    assert colour.bare.shape == (SIDE, SIDE)


@pytest.mark.parametrize("shape", [(64, 64), (64, 300), (300, 64)])
def test_small_and_long_films_hold_mark_and_decoy(shape: tuple[int, int]) -> None:
    for item in planted_items([film(shape=shape)], KINDS, 12):
        assert not (item.case.region & (item.decoy.on(item.bare) != item.bare)).any()


def test_the_films_given_are_not_written() -> None:
    given = film()
    planted_items([given], KINDS, 4)
    assert np.unique(np.asarray(given.image)).tolist() == [GREY]


@pytest.mark.parametrize(
    ("given", "kinds", "n", "seed", "message"),
    [
        ([film()], ("arrows",), 1, 0, "Unknown mark 'arrows'. Did you mean 'arrow'"),
        ([], KINDS, 1, 0, "0 films and 4 kinds"),
        ([film()], (), 1, 0, "1 films and 0 kinds"),
        ([film()], KINDS, 0, 0, "0 planted items"),
        ([film()], KINDS, 1, -1, "the seed -1"),
        ([film(shape=(50, 90))], KINDS, 1, 0, "at least 64 x 64"),
        ([replace(film(), image="no/such.png")], KINDS, 1, 0, "does not exist"),
    ],
)
def test_what_cannot_be_planted_is_an_error(
    given: list[Case], kinds: tuple[str, ...], n: int, seed: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        planted_items(given, kinds, n, seed)
