"""Disturbed films and the answers: every number is that of a separate run, and drift stands beside its floor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.checks import robustness
from medgemma_visualizer.checks.perturbations import PERTURBATIONS, perturb
from medgemma_visualizer.checks.robustness import AGREEMENTS, MEASURED, answer_drift, compare_moved, disturb
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.models import reading as reading_module
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.records import Answer, Heatmap, Target
from medgemma_visualizer.scores.agreement import js_divergence, spearman

STRENGTHS = {"brightness": (40, 0, -40), "gaussian_noise": (20,), "shift_x": (12.5,), "marker": (40,)}


# --- by hand ---------------------------------------------------------------------------------------------------------


def said(p_yes: float | None, contrast: float | None = 0.0, mass: float | None = 1.0, label: str = "yes") -> Answer:
    return Answer("", label, p_yes, mass, contrast, (), True, "")


def test_drift_of_the_answer_is_the_distance_of_p_yes_and_of_its_log_odds() -> None:
    found = answer_drift(said(0.75, 1.0), said(0.5, -0.5))
    assert found["p_yes_drift"].value == 0.25
    assert found["contrast_drift"].value == 1.5


def test_p_yes_that_says_little_has_no_drift_but_a_reason() -> None:
    assert "less than half" in answer_drift(said(0.9), said(0.1, mass=0.3))["p_yes_drift"].reason
    assert "no single token" in answer_drift(said(None, None, None), said(None, None, None))["contrast_drift"].reason


@pytest.fixture
def grid() -> np.ndarray:
    return np.random.default_rng(5).random((16, 16))


def test_maps_in_place_are_compared_whole_and_equal_maps_agree(grid: np.ndarray) -> None:
    other = np.random.default_rng(6).random((16, 16))
    scores, share = compare_moved(grid, other)
    assert share == 1
    assert scores["js_divergence"].value == js_divergence(grid, other)
    assert scores["spearman"].value == pytest.approx(spearman(grid, other))
    same, _ = compare_moved(grid, grid)
    assert [same[name].value for name in AGREEMENTS] == pytest.approx([0, 1, 1, 1])


def test_a_map_that_moves_with_the_film_agrees_and_one_that_stays_does_not(grid: np.ndarray) -> None:
    motion = perturb(picture_of(16), "shift_x", 25).motion  # by four of sixteen cells to the right
    moved = np.roll(grid, 4, axis=1)
    moved[:, :4] = 99  # what came in from beyond the edge, which is not to be compared
    scores, share = compare_moved(grid, moved, motion)
    assert share == 0.75
    assert [scores[name].value for name in AGREEMENTS] == pytest.approx([0, 1, 1, 1], abs=1e-9)
    assert compare_moved(grid, grid, motion)[0]["spearman"].value == pytest.approx(
        spearman(grid[:, :12], grid[:, 4:]), abs=1e-12
    )


def test_a_film_that_left_the_frame_has_no_agreement_but_a_reason(grid: np.ndarray) -> None:
    scores, share = compare_moved(grid, grid, perturb(picture_of(16), "shift_y", 99).motion)
    assert share == 0
    assert all("no cell" in score.reason and score.value is None for score in scores.values())


def test_ssim_is_taken_where_all_cells_stayed(grid: np.ndarray) -> None:
    scores, share = compare_moved(grid, grid, perturb(picture_of(16), "rotation", 45).motion)
    assert 0.5 < share < 1
    assert isinstance(scores["ssim"].value, float)
    small = perturb(picture_of(16), "crop", 80).motion
    assert "7 cells" in compare_moved(grid, grid, small)[0]["ssim"].reason


def trial(name: str, strength: float, seed: int = 0, *, flipped: bool = False, drift: float = 0.0) -> Any:
    scores = answer_drift(said(0.5), said(0.5 + drift)) | compare_moved(np.eye(16), np.eye(16))[0]
    heatmap = Heatmap(np.eye(16), "relevance", "relevance", Target("contrast", "yes", (1,)))
    return robustness.Trial(name, strength, seed, said(0.5 + drift), heatmap, flipped, scores)


def test_levels_average_over_seeds_and_the_smallest_flip_is_the_nearest_to_zero() -> None:
    trials = (
        trial("gaussian_noise", 20, 0, flipped=True, drift=0.4),
        trial("gaussian_noise", 20, 1, drift=0.2),
        trial("gaussian_noise", 5, 0, drift=0.1),
        trial("brightness", -40, flipped=True),
        trial("brightness", 60, flipped=True),
        trial("brightness", 20),
        trial("blur", 1),
    )
    found = robustness.Robustness(said(0.5), trials[0].heatmap, trial("none", 0), trials)
    five, twenty = found.levels["gaussian_noise"]
    assert (five.strength, twenty.strength) == (5, 20)
    assert (twenty.flips, twenty.flipped.tolist()) == (1, [True, False])
    assert twenty.scores["p_yes_drift"].value == pytest.approx(0.3)
    assert twenty.scores["p_yes_drift"].interval == pytest.approx((0.2, 0.4))
    assert five.scores["p_yes_drift"].interval is None
    low, high = twenty.flip_interval
    assert low < 0.5 < high
    assert found.smallest_flip("gaussian_noise") == 20
    assert found.smallest_flip("brightness") == -40
    assert found.smallest_flip("blur") is None
    with pytest.raises(InputError, match="Nothing was asked of 'gamma'"):
        found.smallest_flip("gamma")


# --- the embedded model ----------------------------------------------------------------------------------------------


def picture_of(side: int) -> Any:
    from PIL import Image

    return Image.new("L", (side, side))


@pytest.fixture(scope="module")
def arrow(demo: Any, cases: Any) -> Any:
    """A film with a small arrow, about which the embedded model is less sure than about findings."""
    case = cases[153]
    assert case.question == "Is there an arrow on the film?"
    found = read(demo, picture(case), case.question, options=case.options)
    assert found.answer.label in ("yes", "no")  # asked here, so that no test below counts it
    return found


@pytest.fixture(scope="module")
def counted() -> list[int]:
    return []


@pytest.fixture(scope="module")
def disturbed(arrow: Any, cases: Any, counted: list[int]) -> Any:
    """Eight films, one of them equal to the original, with every run of the vision tower counted."""
    plain = reading_module.image_tokens

    def counting(model: Any, values: Any) -> Any:
        counted.append(len(values))
        return plain(model, values)

    avoid = cases[153].region
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading_module, "image_tokens", counting)
        return disturb(
            arrow,
            perturbations=list(STRENGTHS),
            strengths=STRENGTHS,
            method="cross_attention",
            seeds=(0, 1),
            avoid=avoid,
        )


def test_vision_runs_once_for_each_different_picture(disturbed: Any, counted: list[int]) -> None:
    asked = len(disturbed.trials)
    assert asked + len(disturbed.left_out) == 3 + 2 + 1 + 2
    # the undisturbed film again, and all but the film of strength 0, which is the same picture; the original's own
    # answer and image tokens had been computed before
    assert counted == [1] * asked


def test_the_same_picture_again_and_strength_0_move_nothing(disturbed: Any) -> None:
    (untouched,) = [one for one in disturbed.trials if one.strength == 0]
    for one in (disturbed.again, untouched):
        assert not one.flipped
        values = [one.scores[name].value for name in MEASURED]
        assert values == pytest.approx([0, 0, 0, 1, 1, 1])
    assert disturbed.levels["brightness"][0].floors == (0, 0)


def test_every_answer_and_map_is_that_of_a_separate_run(disturbed: Any, arrow: Any, cases: Any) -> None:
    case = cases[153]
    first = explain_reading(arrow, "cross_attention").map
    for one in disturbed.trials:
        film = perturb(arrow.image, one.perturbation, one.strength, one.seed, case.region)
        alone = read(arrow.model, film.image, case.question, options=case.options)
        assert one.answer.text == alone.answer.text
        assert one.flipped == (alone.answer.label != arrow.answer.label)
        assert one.answer.p_yes == pytest.approx(alone.answer.p_yes, abs=1e-6)
        assert one.scores["contrast_drift"].value == pytest.approx(
            abs(alone.answer.contrast - arrow.answer.contrast), abs=1e-5
        )
        assert (one.scores["contrast_drift"].value > 0) == (one.strength != 0)
        expected = explain_reading(alone, "cross_attention").map
        np.testing.assert_allclose(one.heatmap.map, expected, atol=1e-6)
        if film.motion is None:
            assert one.scores["js_divergence"].value == pytest.approx(js_divergence(first, expected), abs=1e-6)
        else:
            assert (
                one.scores["js_divergence"].value
                == compare_moved(first, one.heatmap.map, film.motion)[0]["js_divergence"].value
            )
            assert one.compared == 0.875
            assert one.resampling == pytest.approx(0, abs=1e-12)  # by two whole cells: nothing is mixed


def test_it_flips_at_the_least_strength_that_was_tried_and_found(disturbed: Any) -> None:
    flipping = [one.strength for one in disturbed.trials if one.perturbation == "brightness" and one.flipped]
    assert disturbed.smallest_flip("brightness") == min(flipping, key=abs, default=None)
    assert "brightness" in str(disturbed)


def test_what_the_film_has_no_room_for_is_left_out_with_its_reason(arrow: Any) -> None:
    everywhere = np.ones((arrow.image.height, arrow.image.width), bool)
    how: dict[str, Any] = {"method": "cross_attention", "strengths": {"marker": (8,)}, "seeds": (0,)}
    found = disturb(arrow, perturbations=["marker"], avoid=everywhere, **how)
    assert found.trials == ()
    assert [one.reason for one in found.left_out] == [
        "A mark of 8 % of the shorter side finds no place clear of the finding."
    ]


def test_without_a_map_the_answers_are_still_compared(arrow: Any) -> None:
    blind = replace(arrow)
    tokens = arrow.image_tokens
    vars(blind).update(image_tokens=tokens[:, :1].expand_as(tokens).clone(), generated=arrow.generated)
    how: dict[str, Any] = {"method": "relevance", "strengths": {"brightness": (10,)}}
    found = disturb(blind, perturbations=["brightness"], **how)
    (one,) = found.trials
    assert isinstance(one.scores["p_yes_drift"].value, float)
    assert one.scores["js_divergence"].reason.startswith("no map of the undisturbed film")
    assert np.isnan(found.levels["brightness"][0].floors[1])


def test_unusable_requests_are_refused_before_anything_is_asked(arrow: Any) -> None:
    with pytest.raises(InputError, match="Did you mean 'blur'"):
        disturb(arrow, perturbations=["blurr"])
    with pytest.raises(InputError, match="cannot have the strength 300"):
        disturb(arrow, strengths={"brightness": (300,)})
    with pytest.raises(InputError, match="strengths of \\['blur'\\]"):
        disturb(arrow, perturbations=["gamma"], strengths={"blur": (1,)})
    with pytest.raises(InputError, match="0 seeds"):
        disturb(arrow, seeds=())
    with pytest.raises(InputError, match="Unknown method"):
        disturb(arrow, method="auto")
    assert set(STRENGTHS) < set(PERTURBATIONS)
