"""A map that survives when the model has forgotten everything was never about the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from medgemma_visualizer.checks.randomisation import (
    SIMILARITIES,
    Randomisation,
    model_randomization_test,
    randomisation,
    shifted_correlations,
    similarities,
)
from medgemma_visualizer.checks.weights import blocks_of, last_of_each_part
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.explain import explain_aim
from medgemma_visualizer.heatmaps.methods import METHODS, Method, RawMap
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.progress import listening
from tests.conftest import state_of
from tests.heatmaps.conftest import read_tiny, tiny_model


def planted_method(monkeypatch: pytest.MonkeyPatch, compute: Any, signed: bool = False) -> str:
    entry = Method("Planted", "activation", "none", True, signed, "none", compute)
    monkeypatch.setitem(METHODS._entries, "planted", entry)  # type: ignore[attr-defined]
    return "planted"


def edges(reading: Any, aim: Any) -> RawMap:
    """Differences of neighbouring cells of the picture: nothing of the model."""
    rows, cols = reading.model.grid
    pixels = reading.pixel_values[0].mean(0).numpy()
    cells = pixels.reshape(rows, pixels.shape[0] // rows, cols, -1).mean((1, 3))
    return RawMap(np.abs(np.gradient(cells)[0]))


@pytest.fixture
def larger_reading():
    """8 × 8 cells, so that every similarity exists."""
    return read_tiny(tiny_model(image=112, tokens=64))


def test_similarities_equal_scipy_and_scikit_image_at_any_scale_of_the_maps():
    draw = np.random.default_rng(0)
    one, two = draw.normal(size=(2, 9, 8)).astype(np.float32)
    found = similarities(one, 1000 * two)
    units = [each / np.abs(each).max() for each in (one.astype(float), two.astype(float))]
    both = np.stack(units)
    expected = [
        spearmanr(one.ravel(), two.ravel()).statistic,
        spearmanr(np.abs(one).ravel(), np.abs(two).ravel()).statistic,
        structural_similarity(*units, win_size=7, data_range=both.max() - both.min()),
    ]
    assert found == pytest.approx(expected, abs=1e-6)
    assert similarities(one, 5 * one) == pytest.approx((1, 1, 1))
    assert similarities(one, -one)[:2] == pytest.approx((-1, 1))


def test_small_grids_have_no_ssim_and_missing_maps_are_like_nothing():
    small = np.arange(16.0).reshape(4, 4)
    assert np.isnan(similarities(small, small)[2])
    assert similarities(np.eye(8), np.full((8, 8), np.nan)) == (0, 0, 0)


def test_shifted_maps_correlate_by_chance_and_smooth_ones_more():
    draw = np.random.default_rng(1)
    one, two = draw.normal(size=(2, 6, 5))
    shifts = [(r, c) for r in range(6) for c in range(5) if (r, c) != (0, 0)]
    each = [abs(spearmanr(np.roll(one, s, (0, 1)).ravel(), two.ravel()).statistic) for s in shifts]
    assert sorted(shifted_correlations(one, two)) == pytest.approx(sorted(each), abs=1e-9)
    noise = draw.normal(size=(2, 16, 16))
    smooth = [sum(np.roll(n, (r, c), (0, 1)) for r in range(6) for c in range(6)) for n in noise]
    assert shifted_correlations(*noise).mean() == pytest.approx((2 / np.pi / 255) ** 0.5, rel=0.2)
    assert shifted_correlations(*smooth).mean() > 2 * shifted_correlations(*noise).mean()


def test_a_cascade_is_the_same_as_redrawing_by_hand(larger_reading):
    aim = resolve(larger_reading, "contrast")
    found = randomisation(larger_reading, aim, "token_gradient", seeds=1)
    original = explain_aim(larger_reading, aim, "token_gradient").signed
    assert np.array_equal(found.original, original)
    from medgemma_visualizer.checks.weights import redraw

    other = read_tiny(tiny_model(image=112, tokens=64))
    for step, block in enumerate(blocks_of(other.model)):
        redraw(block, 0)
        fresh = read_tiny(other.model)
        values = explain_aim(fresh, aim_of(aim, fresh), "token_gradient").signed
        assert np.allclose(found.maps[0, step], values, rtol=1e-4, atol=1e-7 * np.abs(values).max())
        assert found.similarities[0, step, 0] == pytest.approx(spearmanr(original.ravel(), values.ravel())[0], abs=1e-3)


def test_looking_only_where_a_part_ends_tells_the_same_of_the_end(larger_reading):
    aim = resolve(larger_reading, "contrast")
    names = last_of_each_part(larger_reading.model)
    assert names[-2:] == ("projector", blocks_of(larger_reading.model)[-1].name)
    every = randomisation(larger_reading, aim, "token_gradient", seeds=5)
    some = randomisation(larger_reading, aim, "token_gradient", seeds=5, after=names)
    assert some.blocks == names
    assert np.array_equal(some.maps, every.maps[:, [every.blocks.index(name) for name in names]])
    assert (some.scores, some.verdict) == (every.scores, every.verdict)
    assert randomisation(larger_reading, aim, "token_gradient", after=names[:1]).verdict == "undecided"
    for nonsense, words in ((("text.99",), "Unknown block"), ((), "No block was named")):
        with pytest.raises(InputError, match=words):
            randomisation(larger_reading, aim, "token_gradient", after=nonsense)


def aim_of(aim: Any, fresh: Any) -> Any:
    """The aim belongs to the rows and ids of the prompt, which the fresh reading shares."""
    assert aim.rows[0] == len(fresh.prompt.ids) - 1
    return aim


def test_independent_randomisation_leaves_what_lies_above_the_block_untouched(larger_reading):
    aim = resolve(larger_reading, "contrast")
    found = randomisation(larger_reading, aim, "activation_norm", order="independent", seeds=2)
    text = [n for n, name in enumerate(found.blocks) if name.startswith(("text", "projector"))]
    vision = [n for n, name in enumerate(found.blocks) if name.startswith("vision")]
    assert found.similarities[:, text] == pytest.approx(1)
    assert (found.similarities[:, vision, 0] < 0.999).all()
    assert found.output_changes.min() > 0
    assert found.verdict == "undecided"
    assert "no pass mark" in found.scores["independent_randomisation_spearman"].reason


def test_an_edge_detector_is_convicted_while_the_output_changes(larger_reading, monkeypatch):
    name = planted_method(monkeypatch, edges)
    found = randomisation(larger_reading, resolve(larger_reading, "contrast"), name)
    spearman, structure, change = found.scores.values()
    assert found.verdict == "fail"
    assert spearman.value == pytest.approx(1)
    assert structure.value == pytest.approx(1)
    assert change.value == pytest.approx(np.abs(found.outputs[:, -1] - found.output).mean())
    assert change.value > 0
    assert (spearman.n, spearman.threshold, spearman.verdict) == (5, 0.1, "poor")


@pytest.mark.parametrize("smoothing", [1, 5])
def test_maps_that_have_nothing_to_do_with_the_original_are_convicted_one_time_in_twenty_at_most(smoothing):
    draw = np.random.default_rng(2)
    convicted = 0
    for _ in range(100):
        noise = draw.normal(size=(6, 16, 16))
        maps = sum(np.roll(noise, (r, c), (1, 2)) for r in range(smoothing) for c in range(smoothing))
        values = np.array([[similarities(maps[0], other)] for other in maps[1:]])
        args = (maps[0], maps[1:, None], values, 1.0, np.zeros((5, 1)), {}, True)
        convicted += Randomisation("any", "cascading", ("all",), *args).verdict == "fail"
    assert convicted <= 10  # P(more | 5 %) = 1 %


def test_failures_count_as_no_similarity_and_are_told(larger_reading, monkeypatch):
    calls = iter(range(1000))

    def sometimes(reading: Any, aim: Any) -> RawMap:
        if next(calls) % 2:
            raise UnavailableError("the gradient is zero")
        return edges(reading, aim)

    found = randomisation(
        larger_reading, resolve(larger_reading, "contrast"), planted_method(monkeypatch, sometimes), seeds=4
    )
    failed = {key for key in found.failures}
    assert failed
    for seed, block in failed:
        step = found.blocks.index(block)
        assert found.similarities[seed, step].tolist() == [0, 0, 0]
        assert np.isnan(found.maps[seed, step]).all()
    last = sum(block == found.blocks[-1] for _, block in failed)
    assert f"{last} of 4 random models gave no map" in found.scores["randomisation_spearman"].reason or not last


def test_a_method_that_never_has_a_map_of_a_random_model_gets_no_number(larger_reading, monkeypatch):
    first = iter([True])

    def once(reading: Any, aim: Any) -> RawMap:
        if next(first, False):
            return edges(reading, aim)
        raise UnavailableError("the gradient is zero")

    found = randomisation(larger_reading, resolve(larger_reading, "contrast"), planted_method(monkeypatch, once))
    score = found.scores["randomisation_spearman"]
    assert (score.value, found.verdict) == (None, "undecided")
    assert "the gradient is zero" in score.reason


def made_up(similarity: np.ndarray, complete: bool = True) -> Randomisation:
    """A cascade over one block, with maps of noise and planted similarities (seeds,)."""
    seeds = len(similarity)
    maps = np.random.default_rng(0).normal(size=(seeds, 1, 16, 16)).astype(np.float32)
    values = np.repeat(similarity[:, None, None], len(SIMILARITIES), axis=2)
    return Randomisation(
        "any", "cascading", ("all",), maps[0, 0], maps, values, 1.0, np.zeros((seeds, 1)), {}, complete
    )


@pytest.mark.parametrize(
    ("similarity", "complete", "verdict", "reason"),
    [
        ([0.09, -0.1, 0.1, -0.1, 0.1], True, "pass", "against shifted maps"),
        ([0.3, 0.25, -0.3, 0.28, 0.31], True, "fail", "p = 0.0005"),
        ([0.9, 0.9, 0.9, 0.9], True, "undecided", "4 of the 5 draws"),
        ([0.9] * 5, False, "undecided", "some blocks stay as trained"),
    ],
)
def test_the_verdict_needs_every_block_five_draws_and_more_than_chance(similarity, complete, verdict, reason):
    found = made_up(np.array(similarity), complete)
    score = found.scores["randomisation_spearman"]
    assert found.verdict == verdict
    assert reason in score.reason
    assert score.value == pytest.approx(np.mean(np.abs(similarity)))


class Stop(Exception):
    pass


@pytest.mark.parametrize("order", ["cascading", "independent"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, Stop])
def test_the_model_is_whole_after_the_listener_cancels(small_tiny, order, error):
    before = state_of(small_tiny.model.hf)

    def cancel(done: int, total: int, what: str) -> None:
        if what == "random models" and done == 4:
            assert state_of(small_tiny.model.hf) != before
            raise error

    with listening(cancel), pytest.raises(error):
        randomisation(small_tiny, resolve(small_tiny, "contrast"), "gradient_norm", order=order)
    assert state_of(small_tiny.model.hf) == before


def test_the_model_is_whole_after_an_error_inside_the_method(small_tiny, monkeypatch):
    before, calls = state_of(small_tiny.model.hf), iter(range(100))

    def breaks(reading: Any, aim: Any) -> RawMap:
        if next(calls) == 5:
            raise ZeroDivisionError
        return edges(reading, aim)

    with pytest.raises(ZeroDivisionError):
        randomisation(small_tiny, resolve(small_tiny, "contrast"), planted_method(monkeypatch, breaks))
    assert state_of(small_tiny.model.hf) == before


@pytest.fixture
def small_tiny():
    return read_tiny(tiny_model())


def test_progress_counts_every_random_model(small_tiny):
    seen = []
    with listening(lambda *step: seen.append(step)):
        randomisation(
            small_tiny, resolve(small_tiny, "contrast"), "gradient_norm", seeds=2, blocks=["projector", "text.0"]
        )
    assert seen == [(n, 4, "random models") for n in range(5)]


@pytest.mark.parametrize("wrong", [{"order": "upwards"}, {"seeds": 0}, {"blocks": ["text.99"]}])
def test_orders_seeds_and_blocks_that_make_no_sense_are_refused(small_tiny, wrong):
    with pytest.raises(InputError):
        randomisation(small_tiny, resolve(small_tiny, "contrast"), "gradient_norm", **wrong)


def test_the_target_keeps_its_polarity_and_words_whatever_a_random_model_would_say(small_tiny):
    aim = resolve(small_tiny, "answer")
    found = randomisation(small_tiny, aim, "gradient_norm", seeds=1)
    assert np.isfinite(found.outputs).all()
    assert (found.outputs <= 0).all()  # mean log-probabilities of the words that the trained model wrote


def test_the_demo_models_gradient_forgets_and_the_weights_come_back(demo, reading):
    before = state_of(demo.hf)
    found = randomisation(
        reading, resolve(reading), "token_gradient", blocks=["text.3", "projector", "vision.0"], seeds=2
    )
    assert state_of(demo.hf) == before
    assert not found.complete
    assert found.output_changes[:, -1].min() > 1
    assert np.abs(found.similarities[:, -1, 0]).mean() < 0.5


def test_the_specifications_test_gives_a_pearson_correlation_for_each_vision_layer(demo, cases):
    found = model_randomization_test(demo, picture(cases[0]), cases[0].question, "gradient_norm")
    assert len(found) == len(demo.vision_layers) == 6
    assert all(-1 <= value < 0.999 for value in found)
