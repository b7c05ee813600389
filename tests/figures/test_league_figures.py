"""What is drawn are the numbers given: points, intervals, chance, mean curves and their bands."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures.league import (
    COLOURS,
    Line,
    forest_figure,
    forest_page,
    mean_curves_figure,
    mean_curves_page,
)


def estimate(value, interval=None):
    return SimpleNamespace(value=value, interval=interval)


LINES = (
    Line("Winner", estimate(0.9, (0.8, 0.95)), "best"),
    Line("Cost $5 in $x$", estimate(0.4, (0.3, 0.5)), "reference"),
    Line("Silent", None),
    Line("Random", estimate(0.05), "control"),
)


def test_each_method_has_its_point_its_interval_and_its_own_row(words):
    page = forest_page(LINES, "Pointing", 0.047)
    drawn = [(line.get_xdata(), line.get_ydata()) for line in page.axes[0].lines]
    across, rows = zip(*drawn[1:], strict=True)  # the first is chance
    assert [list(x) for x in across] == [[0.8, 0.95], [0.9], [0.3, 0.5], [0.4], [0.05]]
    assert [row[0] for row in rows] == [0, 0, 1, 1, 3]
    assert list(drawn[0][0]) == [0.047, 0.047]
    low, high = page.axes[0].get_ylim()
    assert low > high, "the first line stands on top"
    said = words(page)
    for phrase in ("Winner", "Cost $5 in $x$", "not applicable", "chance, 0.047", "Pointing", "Research use only"):
        assert phrase in said


def test_without_a_chance_level_none_is_claimed(words):
    page = forest_page(LINES[:1], "Anything", None)
    assert len(page.axes[0].lines) == 2
    assert "chance" not in words(page)


def test_best_reference_and_controls_differ_in_shape_not_only_in_colour():
    markers = [line.get_marker() for line in forest_page(LINES, "", None).axes[0].lines if len(line.get_xdata()) == 1]
    assert len(set(markers)) == 3


def mean_curve(*values):
    means = [estimate(value, (value - 0.1, value + 0.2)) for value in values]
    return SimpleNamespace(shares=np.linspace(0, 1, len(values)), without=means, alone=means[::-1])


def test_lines_and_bands_are_means_and_intervals(words):
    curves = {"Relevance (n = 3)": mean_curve(0.9, 0.3, 0.1), "Random (n = 3)": mean_curve(0.9, 0.5, 0.1)}
    page = mean_curves_page(curves, "without", "blur: cells removed")
    first, second = page.axes[0].lines
    assert first.get_ydata().tolist() == [0.9, 0.3, 0.1]
    assert first.get_xdata().tolist() == [0, 50, 100]
    assert second.get_ydata().tolist() == [0.9, 0.5, 0.1]
    assert first.get_linestyle() != second.get_linestyle()
    band = [y for x, y in page.axes[0].collections[0].get_paths()[0].vertices if x == 50]
    assert min(band) == pytest.approx(0.2)
    assert max(band) == pytest.approx(0.5)
    assert page.axes[0].get_ylim() == (-0.03, 1.03)
    revealed = mean_curves_page(curves, "alone", "")
    assert revealed.axes[0].lines[0].get_ydata().tolist() == [0.1, 0.3, 0.9]
    said = words(page)
    for phrase in ("Relevance (n = 3)", "blur: cells removed", "% of the cells"):
        assert phrase in said


def test_pictures_come_back_and_nothing_to_draw_is_an_error():
    for drawn in (
        forest_figure(LINES, title="Pointing"),
        mean_curves_figure({"a": mean_curve(0.9, 0.1)}, side="alone", title="b"),
    ):
        assert drawn.mode == "RGB"
        assert np.asarray(drawn).std() > 5
    with pytest.raises(InputError, match="no methods"):
        forest_figure((), title="")
    with pytest.raises(InputError, match="0 curves"):
        mean_curves_figure({}, side="alone", title="")
    too_many = {str(n): mean_curve(0.9, 0.1) for n in range(len(COLOURS) + 1)}
    with pytest.raises(InputError, match="7 curves"):
        mean_curves_figure(too_many, side="alone", title="")
