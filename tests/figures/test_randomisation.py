import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures.randomisation import randomisation_figure, randomisation_page

BLOCKS = ("text.1", "text.0", "projector")
SIMILARITIES = np.linspace(0.9, -0.1, 5 * 3 * 3).reshape(5, 3, 3)
OUTPUTS = np.linspace(4, -1, 15).reshape(5, 3)


def test_the_curves_are_means_over_draws_and_start_at_the_trained_model():
    upper, lower = randomisation_page(BLOCKS, SIMILARITIES, OUTPUTS, 4.5).axes
    drawn = {line.get_label(): line.get_ydata() for line in upper.lines}
    assert drawn["Spearman"] == pytest.approx([1, *SIMILARITIES[..., 0].mean(axis=0)])
    assert drawn["SSIM"] == pytest.approx([1, *SIMILARITIES[..., 2].mean(axis=0)])
    score = next(line for line in lower.lines if line.get_label() == "score")
    assert score.get_ydata() == pytest.approx([4.5, *OUTPUTS.mean(axis=0)])


def test_blocks_pass_mark_and_missing_maps_are_written(words):
    page = randomisation_page(BLOCKS, SIMILARITIES, OUTPUTS, 4.5, "Grad-CAM, cascading", 0.1, np.array([0, 2, 0]))
    said = words(page)
    for phrase in (
        "Grad-CAM, cascading",
        "trained",
        "text.1",
        "text.0, 2 missing",
        "pass: mean |ρ| ≤ 0.1, or as shifted maps",
        "target's score",
    ):
        assert phrase in said


def test_a_similarity_that_does_not_apply_has_no_curve():
    without = SIMILARITIES.copy()
    without[..., 2] = np.nan
    upper, _ = randomisation_page(BLOCKS, without, OUTPUTS, 4.5).axes
    assert "SSIM" not in {line.get_label() for line in upper.lines}


def test_the_figure_is_a_picture_and_shapes_must_fit():
    assert randomisation_figure(BLOCKS, SIMILARITIES, OUTPUTS, 4.5).mode == "RGB"
    with pytest.raises(InputError, match="3 blocks"):
        randomisation_figure(BLOCKS, SIMILARITIES[:, :2], OUTPUTS, 4.5)


def test_a_long_title_is_broken_into_lines_and_stands_clear_of_the_curves(words):
    title = "integrated_gradients under random weights: pass; token order 256 of 256; the text counts, as it declares"
    short, long = (randomisation_page(BLOCKS, SIMILARITIES, OUTPUTS, 4.5, text) for text in ("short", title))
    assert title in words(long)
    assert (long.get_size_inches()[1] > short.get_size_inches()[1]).all()
    legend = next(text for text in long.texts if text.get_text().startswith("1 is the trained"))
    heading = next(text for text in long.texts if text.get_text().startswith("integrated"))
    assert legend.get_window_extent().y1 <= heading.get_window_extent().y0
    assert long.axes[0].get_legend().get_window_extent().y1 <= legend.get_window_extent().y0


def test_the_legend_ends_on_the_page():
    page = randomisation_page(BLOCKS, SIMILARITIES, OUTPUTS, 4.5, "short", 0.1)
    page.canvas.draw()
    assert page.axes[0].get_legend().get_window_extent().x1 <= page.bbox.x1
