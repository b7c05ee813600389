import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures import Look, comparison
from medgemma_visualizer.figures._heat import difference, heat, same_limits
from medgemma_visualizer.figures.comparison import comparison_page

JS = np.array([[0.0, 0.31], [0.31, 0.0]])


def peak(row, col, height=1.0):
    cells = np.full((4, 4), 0.01, dtype=np.float32)
    cells[row, col] = height
    return cells


def page_of(grids, js=JS):
    labels = [f"prompt {chr(97 + place)}" for place in range(len(grids))]
    return comparison_page(grids, labels, js, None, None, Look())


def test_the_difference_is_of_shares_so_a_louder_map_with_the_same_pattern_differs_nowhere():
    gap = difference(peak(1, 1), 7 * peak(1, 1), (64, 64), None, Look())
    assert np.abs(gap.values).max() < 1e-4


def test_the_difference_is_first_minus_second_in_percentage_points_around_zero():
    first, second = np.array([[3.0, 1.0]]), np.array([[1.0, 3.0]])
    gap = difference(first, second, (2, 4), None, Look(interpolation="nearest"))
    assert gap.values.tolist() == [[50.0, 50.0, -50.0, -50.0]] * 2
    assert gap.low == -gap.high == -50
    assert "percentage points" in gap.label


def test_two_prompts_show_labels_divergence_and_numbers_on_both_bars(words):
    said = words(page_of([peak(1, 1), peak(2, 2)]))
    for phrase in ("1. prompt a", "2. prompt b", "1 − 2 (JS: 0.310 nats)", "percentage points", "share of relevance"):
        assert phrase in said


def test_equal_colours_mean_equal_numbers_across_maps():
    heats = [heat(peak(1, 1, size), (8, 8), None, Look(unit="value")) for size in (1.0, 5.0)]
    levelled = same_limits(heats)
    assert levelled[0].low == levelled[1].low == min(one.low for one in heats)
    assert levelled[0].high == levelled[1].high == max(one.high for one in heats)


def test_a_flat_map_stays_without_colour_beside_others(words):
    flat, telling = (heat(cells, (8, 8), None, Look()) for cells in (np.ones((4, 4)), peak(0, 0)))
    assert same_limits([flat, None, telling])[0].flat
    assert "the same value everywhere" in words(page_of([np.ones((4, 4)), peak(1, 1)]))


def test_a_missing_map_is_said_and_its_divergence_is_a_dash(words):
    said = words(page_of([peak(1, 1), None], np.array([[0, np.nan], [np.nan, np.nan]])))
    assert "no explanation available" in said
    assert "1 − 2 (JS: – nats)" in said
    assert "nan" not in said


def test_without_any_map_nothing_is_coloured():
    pixels = np.asarray(comparison([None, None], ["a", "b"], np.full((2, 2), np.nan))).astype(int)
    assert np.ptp(pixels, axis=2).max() == 0


@pytest.mark.parametrize("count", [3, 7, 20])
def test_many_prompts_fit_on_a_page_with_every_number_of_the_matrix(count):
    js = np.round(np.abs(np.subtract.outer(np.arange(count), np.arange(count))) / 50, 2)
    figure = page_of([peak(i % 4, i // 4 % 4) for i in range(count)], js)
    said = [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()[:2] == "0."]
    assert sorted(said) == sorted(f"{value:.2f}" for value in js.ravel())
    assert comparison([peak(i % 4, i // 4 % 4) for i in range(count)], ["a"] * count, js).width < 2000


def test_two_prompts_and_their_difference_stand_side_by_side():
    films = [axes for axes in page_of([peak(1, 1), peak(2, 2)]).axes if axes.images]
    assert len(films) == 3
    assert len({round(axes.get_position().y0, 6) for axes in films}) == 1
    lefts = [axes.get_position().x0 for axes in films]
    assert lefts == sorted(lefts)


@pytest.mark.parametrize(
    ("grids", "labels", "js"),
    [
        ([peak(0, 0)], ["a"], np.zeros((1, 1))),
        ([peak(0, 0)] * 2, ["a"], JS),
        ([peak(0, 0)] * 2, ["a", "b"], np.zeros((3, 3))),
        ([peak(0, 0), np.ones((2, 2))], ["a", "b"], JS),
    ],
)
def test_what_cannot_be_compared_is_refused(grids, labels, js):
    with pytest.raises(InputError, match=r"comparison needs|one grid only"):
        comparison(grids, labels, js)


def test_the_film_is_drawn_under_the_maps_where_there_is_one(film, body):
    with_film = comparison([peak(1, 1), peak(2, 2)], ["a", "b"], JS, image=film, body_mask=body)
    left_edge = np.asarray(with_film)[200, 30]
    assert left_edge.tolist() == [100, 100, 100]
