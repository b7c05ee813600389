from types import SimpleNamespace

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures.perturbations import FLIP_COLOUR, perturbations_figure, perturbations_page

TITLES = {"brightness": "Brightness", "noise": "Gaussian noise"}
UNITS = {"brightness": "grey levels added", "noise": "σ in grey levels"}


def level(strength, drifts, divergences, flipped=None, floors=(0.0, 0.0)):
    flips = np.zeros(len(drifts), bool) if flipped is None else np.array(flipped)
    return SimpleNamespace(
        strength=strength, drifts=np.array(drifts), divergences=np.array(divergences), flipped=flips, floors=floors
    )


@pytest.fixture
def levels():
    return {
        "brightness": (level(-10, [0.1], [0.02]), level(10, [0.2], [0.04]), level(20, [0.6], [0.3], [True])),
        "noise": (level(5, [0.1, 0.3], [0.1, 0.2], floors=(0.05, 0.15)), level(20, [0.4, 0.5], [0.2, 0.2])),
    }


def test_each_perturbation_has_a_panel_for_the_answer_and_one_for_the_map(levels, words):
    page = perturbations_page(levels, TITLES, UNITS, "Is there an arrow?")
    assert len(page.axes) == 4
    said = words(page)
    for phrase in (*TITLES.values(), *UNITS.values(), "Is there an arrow?", "1/1", "-10", "Research use only"):
        assert phrase in said


def test_lines_are_means_over_seeds_and_none_leads_past_zero(levels):
    axes = perturbations_page(levels, TITLES, UNITS).axes
    below, above = (line.get_ydata().tolist() for line in axes[0].lines)
    assert (below, above) == ([0.1], [0.2, 0.6])
    assert axes[2].lines[1].get_ydata() == pytest.approx([0.2, 0.45])
    assert axes[3].lines[1].get_ydata() == pytest.approx([0.15, 0.2])


def test_probabilities_share_0_to_1_and_divergences_share_the_largest(levels):
    axes = perturbations_page(levels, TITLES, UNITS).axes
    assert {one.get_ylim() for one in axes[::2]} == {(-0.04, 1.04)}
    for lower in axes[1::2]:
        assert lower.get_ylim() == pytest.approx((-0.012, 0.312))  # the largest is 0.3, with a little room


def test_the_band_is_the_noise_floor_and_crosses_are_flips(levels):
    axes = perturbations_page(levels, TITLES, UNITS).axes
    band = axes[3].collections[0].get_paths()[0].vertices
    assert max(y for x, y in band if x == 0) == 0.15
    assert max(y for x, y in band if x == 1) == 0
    crosses = [each for each in axes[0].collections[1:] if len(each.get_offsets()) and each.get_linewidth()[0] > 0]
    assert [cross.get_offsets().tolist() for cross in crosses] == [[[2, 0.6]]]
    assert "1/1" in [text.get_text() for text in axes[0].texts if text.get_color() == FLIP_COLOUR]


def test_a_flip_without_a_number_is_still_counted_and_a_missing_map_is_said(words):
    nothing = {"noise": (level(5, [np.nan, np.nan], [np.nan, np.nan], [True, False], floors=(np.nan, np.nan)),)}
    said = words(perturbations_page(nothing, TITLES, UNITS))
    assert "1/2" in said
    assert said.count("no number") == 2


def test_a_picture_comes_back_and_nothing_to_draw_is_an_error(levels):
    drawn = perturbations_figure(levels, TITLES, UNITS)
    assert drawn.mode == "RGB"
    assert np.asarray(drawn).std() > 5
    for nothing in ({}, {"noise": ()}):
        with pytest.raises(InputError, match="no disturbed films"):
            perturbations_figure(nothing, TITLES, UNITS)
