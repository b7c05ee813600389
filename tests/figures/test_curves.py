from types import SimpleNamespace

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures.curves import curves_figure, curves_page

SHARES = np.linspace(0, 1, 5)
VERDICT = "better than random by 0.400 on blur (95 % interval 0.300 to 0.500)"


def response(without, alone=None):
    without = np.asarray(without, float)
    return SimpleNamespace(shares=SHARES, without=without, alone=without[::-1] if alone is None else np.asarray(alone))


@pytest.fixture
def curves():
    fast, slow = response([0.9, 0.2, 0.1, 0.1, 0.1]), response([0.9, 0.9, 0.8, 0.7, 0.1])
    randoms = tuple(response([0.9, 0.5 + d, 0.4 + d, 0.2, 0.1]) for d in (-0.1, 0, 0.1))
    return SimpleNamespace(map=fast, inverse=slow, centre=slow, randoms=randoms, prior=0.1)


def test_each_imputer_has_a_panel_for_removal_and_one_for_revelation(curves, words):
    page = curves_page({"blur": curves, "mean": curves}, VERDICT, "probability")
    assert len(page.axes) == 4
    said = words(page)
    for phrase in ("blur: cells removed, most relevant first", "mean: cells revealed", VERDICT, "3 random orders"):
        assert phrase in said
    assert "Research use only" in said


def test_one_side_is_a_figure_of_its_own(curves, words):
    page = curves_page({"blur": curves, "mean": curves}, VERDICT, "probability", ["alone"])
    assert [
        line.get_ydata().tolist() for axes in page.axes for line in axes.lines if line.get_label() == "this map"
    ] == [curves.map.alone.tolist()] * 2
    assert "cells removed" not in words(page)


def test_lines_are_the_numbers_and_the_dotted_line_is_the_fully_masked_score(curves):
    page = curves_page({"blur": curves}, "", "probability")
    lines = {line.get_label(): line for line in page.axes[0].lines}
    assert lines["this map"].get_ydata().tolist() == curves.map.without.tolist()
    assert lines["this map"].get_xdata().tolist() == [0, 25, 50, 75, 100]
    assert set(lines["fully masked"].get_ydata()) == {0.1}
    assert lines["their mean"].get_ydata() == pytest.approx([0.9, 0.5, 0.4, 0.2, 0.1])
    revealed = {line.get_label(): line for line in page.axes[1].lines}
    assert revealed["this map"].get_ydata().tolist() == curves.map.alone.tolist()


def test_the_band_reaches_from_the_lowest_to_the_highest_random_map(curves):
    (band,) = curves_page({"blur": curves}, "", "probability").axes[0].collections
    at_quarter = [y for x, y in band.get_paths()[0].vertices if x == 25]
    assert min(at_quarter) == pytest.approx(0.4)
    assert max(at_quarter) == pytest.approx(0.6)


def test_probabilities_share_one_scale_and_other_units_find_their_own(curves):
    for axes in curves_page({"blur": curves, "mean": curves}, "", "probability of the answer given").axes:
        assert axes.get_ylim() == (-0.03, 1.03)
    low, high = curves_page({"blur": curves}, "", "the target's own unit").axes[0].get_ylim()
    assert low < 0.1 < 0.9 < high < 1


def test_a_picture_comes_back_and_nothing_to_draw_is_an_error(curves):
    drawn = curves_figure({"blur": curves}, verdict=VERDICT)
    assert drawn.mode == "RGB"
    assert np.asarray(drawn).std() > 5
    with pytest.raises(InputError, match="no curves"):
        curves_figure({})
