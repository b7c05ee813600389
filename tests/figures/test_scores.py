import numpy as np
import pytest
from matplotlib.colors import to_rgb

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures import scores_figure
from medgemma_visualizer.figures.scores import VERDICT_COLOURS, scores_page
from medgemma_visualizer.records import Score

SCORES = {
    "inside_body_ratio": Score("inside_body_ratio", 0.83, "higher", chance=0.62, verdict="good", threshold=0.7),
    "attention_entropy": Score("attention_entropy", 5.1, "lower", chance=5.545, verdict="poor", threshold=3.0),
    "regional_focus": Score("regional_focus", "lower_left"),
    "roc_auc": Score("roc_auc", None, "higher", reason="the film shows no region"),
    "contrast": Score("contrast", -0.7, "higher", chance=0.0, n=12, interval=(-0.9, -0.2)),
}


def test_every_score_shows_value_chance_target_and_verdict_in_words(words):
    said = words(scores_page(SCORES))
    for phrase in (
        "0.83 ✓ good",
        "chance 0.62 · target ≥ 0.7, better than chance",
        "5.1 ✗ poor",
        "lower is better",
        "lower_left",
    ):
        assert phrase in said
    assert "95 % interval -0.9 to -0.2 · n = 12" in said


def test_a_score_that_does_not_apply_is_its_reason_and_has_no_bar(words):
    page = scores_page({"roc_auc": SCORES["roc_auc"]})
    assert "not applicable: the film shows no region" in words(page)
    assert page.axes == []


@pytest.mark.parametrize("name", ["inside_body_ratio", "attention_entropy", "contrast"])
def test_the_bar_is_as_long_as_the_value_and_the_lines_stand_at_chance_and_target(name):
    score = SCORES[name]
    (axes,) = scores_page({name: score}).axes
    (bar,) = axes.patches
    assert bar.get_width() == score.value
    assert bar.get_facecolor()[:3] == to_rgb(VERDICT_COLOURS[score.verdict])
    stands = {tuple(line.get_xdata()) for line in axes.lines}
    assert (score.chance, score.chance) in stands
    assert score.threshold is None or (score.threshold, score.threshold) in stands
    low, high = axes.get_xlim()
    assert low <= min(0, score.value)
    assert high >= max(0, score.value, score.chance, score.threshold or 0)


def test_the_colour_of_a_verdict_is_on_the_picture():
    pixels = np.asarray(scores_figure({"a": SCORES["inside_body_ratio"]}))
    good = np.rint(np.array(to_rgb(VERDICT_COLOURS["good"])) * 255)
    assert (pixels == good).all(axis=2).sum() > 1000


def test_no_scores_are_no_picture():
    with pytest.raises(InputError, match="no scores"):
        scores_figure({})
