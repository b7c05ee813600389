import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures import Look, overlay, overlay_array
from medgemma_visualizer.figures._heat import AGAINST_FOR, heat
from medgemma_visualizer.figures.overlay import overlay_page

HOT = (44, 20)  # a pixel in the middle of cell (5, 2) of 8 x 8 on a film of 64 x 64


def page_of(film, heatmap, body=None, outline=None, view=None, titles=None, trust=None, **look):
    return overlay_page(film, heatmap, body, titles or {}, outline, view, Look.of(look), trust)


def test_the_hottest_pixel_is_the_stated_mixture_of_film_and_the_colour_maps_last_colour(film, grid, body):
    last = np.array(colormaps["inferno"](1.0, bytes=True)[:3])
    expected = np.rint(0.65 * 100 + 0.35 * last)
    assert np.array_equal(overlay_array(film, grid, body, interpolation="nearest")[HOT], expected)


def test_outside_the_body_the_film_is_untouched(film, grid, body):
    drawn = overlay_array(film, grid, body)
    assert np.all(drawn[~body] == 100)
    assert np.all((drawn[body] != 100).any(axis=1))


def test_alpha_zero_gives_the_film_back(film, grid, body):
    assert np.all(overlay_array(film, grid, body, alpha=0.0) == 100)


def test_heat_outside_the_body_does_not_set_the_colour_limits(film, grid, body):
    glaring = grid.copy()
    glaring[0] = 1e6  # the top row of cells, wholly outside the body
    inside = heat(glaring, (64, 64), body, Look(unit="value", interpolation="nearest"))
    assert inside.high <= 1.0


def test_a_single_hot_cell_is_seen_although_both_percentiles_are_zero(film):
    one = np.zeros((16, 16), dtype=np.float32)
    one[5, 5] = 1.0
    drawn = overlay_array(film, one, interpolation="nearest")
    assert np.array_equal(drawn[22, 22], np.rint(65 + 0.35 * np.array(colormaps["inferno"](1.0, bytes=True)[:3])))
    assert (drawn[22, 22] != drawn[40, 40]).any()


def test_a_map_equal_everywhere_is_the_bare_film_and_says_so(film, words):
    even = np.ones((8, 8), dtype=np.float32)
    assert np.all(overlay_array(film, even) == 100)
    assert "the same value everywhere" in words(page_of(film, even))


def test_an_unavailable_map_is_the_grey_film_with_the_reasons_and_no_colour_bar(film, unavailable, body, words):
    assert np.all(overlay_array(film, unavailable, body, grid_lines=True) == 100)
    said = words(page_of(film, unavailable, body))
    assert "no explanation available" in said
    assert "gradcam_single: the gradient is zero" in said
    assert "share of relevance" not in said
    pixels = np.asarray(overlay(film, unavailable, body)).astype(int)
    assert np.ptp(pixels, axis=2).max() == 0


def test_the_colour_bar_has_numbers_in_shares_that_sum_to_a_hundred(film, heatmap, body, words):
    page = page_of(film, heatmap, body)
    assert "share of relevance (% a cell; even spread: 1.6)" in words(page)
    bar = page.axes[-1]
    numbers = [float(tick.get_text()) for tick in bar.get_yticklabels()]
    assert len(numbers) >= 3
    assert numbers == pytest.approx(list(bar.get_yticks()))
    share = heat(heatmap.grid, (64, 64), body, Look(interpolation="nearest")).values
    assert share[::8, ::8].sum() == pytest.approx(100, abs=1e-3)
    assert share[HOT] == pytest.approx(100 * 1.0 / heatmap.grid.sum(), rel=1e-5)


def test_the_methods_own_values_are_shown_on_request(heatmap):
    spread = heat(heatmap.grid, (64, 64), None, Look(unit="value", interpolation="nearest"))
    assert spread.values[HOT] == 1.0
    assert spread.label == "relevance"


def test_zero_is_exactly_white_on_the_diverging_map():
    assert AGAINST_FOR(0.5, bytes=True) == (255, 255, 255, 255)


def test_signed_limits_are_symmetric_and_signs_differ_in_hue(film):
    signed = np.zeros((8, 8), dtype=np.float32)
    signed[2, 2], signed[5, 5] = 1.0, -0.25
    spread = heat(signed, (64, 64), None, Look(signed=True))
    assert spread.low == -spread.high < 0
    drawn = overlay_array(film, signed, signed=True, alpha=1.0, interpolation="nearest").astype(int)
    red, _, blue = drawn[20, 20]
    assert red > blue
    red, _, blue = drawn[44, 44]
    assert blue > red
    assert np.all(drawn[4, 60] == 255)


def test_a_signed_picture_takes_the_signed_map_of_the_heatmap_and_refuses_where_there_is_none(film, heatmap):
    assert (overlay_array(film, heatmap, signed=True) != overlay_array(film, heatmap)).any()
    with pytest.raises(InputError, match="has no sign"):
        overlay_array(film, replace(heatmap, signed=None), signed=True)


def test_negative_values_need_a_signed_picture(film):
    with pytest.raises(InputError, match="signed=True"):
        overlay_array(film, -np.eye(8))


def test_grid_lines_lie_on_the_borders_of_cells(film, grid):
    drawn = overlay_array(film, grid, grid_lines=True)
    assert np.all(drawn[:, 8::8] == 235)
    assert np.all(drawn[8::8] == 235)
    assert not np.all(drawn[4, 1:8] == 235)


def test_the_contour_of_the_truth_surrounds_it_without_covering_it(film, grid, words):
    truth = np.zeros((64, 64), dtype=bool)
    truth[20:30, 20:30] = True
    plain, outlined = overlay_array(film, grid), overlay_array(film, grid, outline=truth)
    changed = (plain != outlined).any(axis=2)
    assert not changed[truth].any()
    assert changed[19, 20:30].all()
    assert changed.sum() == 12 * 12 - 10 * 10
    assert "contour of the known region" in words(page_of(film, grid, outline=truth))


def test_a_stripped_border_stays_unpainted_and_is_said(film, grid, words):
    drawn = overlay_array(film, grid, border_strip=1)
    assert np.all(drawn[:8] == 100)
    assert np.all(drawn[:, 56:] == 100)
    assert (drawn[8:56, 8:56] != 100).any(axis=2).all()
    assert "outer 1 ring(s) of cells not painted" in words(page_of(film, grid, border_strip=1))


def test_a_map_not_to_be_trusted_has_no_hue_and_says_so(film, heatmap, body, words):
    drawn = overlay_array(film, heatmap, body, trusted=False).astype(int)
    assert np.ptp(drawn, axis=2).max() == 0
    assert "do not trust this map" in words(page_of(film, heatmap, body, trusted=False))


def test_a_text_independent_map_is_stamped(film, heatmap, words):
    stamp = "text-independent: the same map for any question"
    assert stamp in words(page_of(film, replace(heatmap, text_independent=True)))
    assert stamp not in words(page_of(film, heatmap))


def test_the_page_names_method_target_model_and_its_limits_of_use(film, heatmap, words):
    said = words(page_of(film, heatmap, titles={"Question": "Is there an effusion?", "Map": "x"}))
    assert "Question: Is there an effusion?" in said
    assert "Research use only. Not for clinical use." in said
    assert "R, L: the patient's sides" in said


def test_a_lateral_film_has_no_sides(film, heatmap, words):
    assert "patient's sides" not in words(page_of(film, heatmap, view="LATERAL"))


@pytest.mark.parametrize("text", ["$x_{", "胸腔积液？", "emoji 🙂", "line\nbreak", "\\frac", "long " * 200, ""])
def test_any_question_can_be_drawn(film, heatmap, text):
    assert overlay(film, heatmap, question=text).size[1] > 720


def test_letters_that_the_font_lacks_are_boxes_and_explained(film, heatmap, words):
    said = words(page_of(film, heatmap, titles={"Question": "胸 $5"}))
    assert "□ $5" in said
    assert "font lacks" in said


@pytest.mark.parametrize("shape", [(64, 64), (10, 400), (400, 10), (2000, 1500), (1, 1)])
def test_films_of_any_shape_are_drawn_with_the_longer_side_at_720_pixels(shape):
    picture = overlay(np.zeros(shape, dtype=np.uint8), np.eye(2))
    assert picture.mode == "RGB"
    assert max(picture.size) >= 720


def test_the_callers_arrays_are_left_as_they_were(film, grid, body):
    before = film.copy(), grid.copy(), body.copy()
    overlay(film, grid, body, outline=body, grid_lines=True, border_strip=1)
    overlay_array(film, grid, body, outline=body, grid_lines=True)
    for now, then in zip((film, grid, body), before, strict=True):
        assert np.array_equal(now, then)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((64, 64), 255, np.uint8), "must be bool"),
        (np.ones((8, 8), bool), "must be bool"),
        (np.zeros((64, 64), bool), "mask is empty"),
    ],
)
def test_masks_that_would_be_misread_are_refused(film, grid, mask, message):
    for draw in (overlay, overlay_array):
        with pytest.raises(InputError, match=message):
            draw(film, grid, mask)


@pytest.mark.parametrize("image", [np.zeros((8, 8)), np.zeros((8, 8), np.uint16), Image.new("I;16", (8, 8))])
def test_films_with_more_than_8_bits_are_refused_and_not_clipped(image, grid):
    with pytest.raises(InputError, match="0–255"):
        overlay_array(image, grid)


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ({"colormap": "infernal"}, "inferno"),
        ({"colourmap": "jet"}, "Did you mean 'colormap'"),
        ({"alpha": 2}, "alpha is 2"),
        ({"clip": (98, 2)}, "percentiles"),
    ],
)
def test_wrong_wishes_are_answered_with_the_next_step(film, grid, look, message):
    with pytest.raises(InputError, match=re.escape(message)):
        overlay_array(film, grid, **look)


def test_a_map_with_a_hole_is_refused(film):
    with pytest.raises(InputError, match="NaN"):
        overlay_array(film, np.array([[0.0, np.nan]]))


def test_threads_draw_the_same_picture(film, heatmap, body):
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda _: np.asarray(overlay(film, heatmap, body, question="?")), range(6)))
    assert all(np.array_equal(pictures[0], other) for other in pictures)


@pytest.mark.parametrize("word", ["trust", "with care"])
def test_a_verdict_is_stamped_with_its_first_reason_and_the_colours_stay(word, film, heatmap, body, words):
    verdict = SimpleNamespace(word=word, reasons=("no league table of this model", "and another thing"))
    said = words(page_of(film, heatmap, body, trust=verdict))
    assert f"{word}: no league table of this model" in said
    assert "another thing" not in said
    assert "do not trust" not in said
    drawn = np.asarray(overlay(film, heatmap, body, trust=verdict)).astype(int)
    assert (np.ptp(drawn, axis=2) > 30).any()


def test_a_map_not_to_be_trusted_is_grey_and_says_why(film, heatmap, body, words):
    verdict = SimpleNamespace(word="do not trust", reasons=("the map stays when all weights are random",))
    said = words(page_of(film, heatmap, body, trust=verdict))
    assert "do not trust this map the map stays when all weights are random" in said
    drawn = np.asarray(overlay(film, heatmap, body, trust=verdict)).astype(int)
    assert np.ptp(drawn, axis=2).max() <= 2  # the page has no colour, the bar included


def test_no_map_has_its_own_reasons_and_no_verdict(film, unavailable, body, words):
    verdict = SimpleNamespace(word="do not trust", reasons=("no explanation is available",))
    said = words(page_of(film, unavailable, body, trust=verdict))
    assert "the gradient is zero" in said
    assert "do not trust" not in said
