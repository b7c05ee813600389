from dataclasses import replace

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures import Look, Tile, contact_sheet, token_strip
from medgemma_visualizer.figures.sheets import SHEET_TILE, STRIP_TILE, sheet_page


def test_each_method_has_its_label_caption_and_colour_limits(film, heatmap, unavailable, body, words):
    tiles = [
        Tile("cross_attention", heatmap, "hit"),
        Tile("gradcam_single", unavailable),
        Tile("x", None, reason="slow"),
    ]
    said = words(sheet_page(film, tiles, body, 4, SHEET_TILE, Look(), shared=False))
    for phrase in ("cross_attention", "hit", "colours:", "gradcam_single: the gradient is zero", "reason: slow"):
        assert phrase in said
    assert said.count("no explanation available") == 2


def test_a_sheet_of_unavailable_maps_has_no_colour(film, unavailable):
    pixels = np.asarray(contact_sheet(film, [Tile("a", unavailable), Tile("b", None)])).astype(int)
    assert np.ptp(pixels, axis=2).max() == 0


def test_a_text_independent_map_is_stamped_in_the_sheet(film, heatmap, words):
    tiles = [Tile("activation_norm", replace(heatmap, text_independent=True))]
    assert "text-independent" in words(sheet_page(film, tiles, None, 4, SHEET_TILE, Look(), shared=False))


def test_tokens_share_one_colour_bar_so_that_a_weak_map_looks_weak(film, words):
    sharp, faint = np.zeros((8, 8)), np.ones((8, 8))
    sharp[4, 4], faint[4, 4] = 1.0, 1.5
    page = sheet_page(film, [Tile("left", sharp), Tile(" the", faint)], None, 8, STRIP_TILE, Look(), shared=True)
    strong, weak = (np.ptp(axes.images[0].get_array().astype(int)) for axes in page.axes[:2])
    assert weak < strong
    assert words(page).count("share of relevance") == 1


def test_tokens_stand_in_reading_order_and_wrap(film, grid):
    tiles = [Tile(f"token{place}", grid) for place in range(10)]
    one_row, two_rows = token_strip(film, tiles[:8]), token_strip(film, tiles)
    assert two_rows.width == one_row.width
    assert two_rows.height > one_row.height


def test_nothing_is_no_sheet(film):
    with pytest.raises(InputError, match="nothing to draw"):
        contact_sheet(film, [])
