"""Token activation maps, against the formula written out in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.tam import rank_gaussian, tam, target_classes, without_interference
from medgemma_visualizer.heatmaps.targets import Aim, resolve
from medgemma_visualizer.records import Target
from tests.heatmaps.conftest import GLOBAL, LOCAL, YES, read_tiny, tiny_model


def test_map_and_scale_of_a_two_layer_model_are_those_worked_out_by_hand() -> None:
    model = tiny_model(layers=(LOCAL, GLOBAL))
    model.hf.double()
    reading = read_tiny(model)
    target, forced = 77, (50, 51)
    prompt, ids = reading.prompt, reading.ids(forced)
    aim = Aim(Target("token", "x", (len(ids) - 1,)), forced, lambda z: z.log_softmax(-1)[:, 0, target])
    with torch.no_grad():
        kinds = (ids == reading.model.image_token_id).long()[None]
        logits = reading.model.hf(input_ids=ids[None], pixel_values=reading.pixel_values, token_type_ids=kinds).logits
    activation = logits[0].double().numpy()  # (S, V)
    activation = np.maximum(activation - activation.mean(axis=1, keepdims=True), 0)
    image, context = list(prompt.image_positions), [*prompt.question_positions, len(ids) - 2, len(ids) - 1]
    weights = activation[context, target]
    theirs = sum(w * activation[image, int(ids[p])] for w, p in zip(weights, context, strict=True)) / weights.sum()
    own = activation[image, target]
    scale = (own @ theirs) / (theirs @ theirs)
    raw = tam(reading, aim, window=1)
    assert weights.any()
    assert raw.extras["scale"] == [pytest.approx(scale, rel=1e-6)]
    np.testing.assert_allclose(raw.values.ravel(), np.maximum(own - scale * theirs, 0), atol=1e-6)


def test_the_scale_is_the_least_squares_one_by_hand() -> None:
    values, scale = without_interference(np.array([1.0, 2.0, 3.0]), np.array([[1.0], [0.0], [1.0]]), np.array([4.0]))
    assert scale == pytest.approx(2, abs=1e-6)  # (1·1 + 3·1) / (1 + 1)
    np.testing.assert_allclose(values, [0, 2, 1], atol=1e-6)


def test_a_context_that_knows_nothing_of_the_target_takes_nothing() -> None:
    own = np.array([1.0, 2.0])
    values, scale = without_interference(own, np.ones((2, 3)), np.zeros(3))
    assert scale == 0
    np.testing.assert_array_equal(values, own)


def test_a_log_probability_aims_at_its_token_and_a_contrast_at_the_answer_given(small_reading: Any) -> None:
    logits = torch.randn(1, 600)
    aim = resolve(small_reading, "token:0")
    wanted = torch.nn.functional.one_hot(torch.tensor([small_reading.generated.ids[0]]), 600).double()
    torch.testing.assert_close(target_classes(aim, logits), wanted)
    p_yes = target_classes(resolve(small_reading, "p_yes"), logits)
    assert p_yes[0, YES] == 1


def test_a_target_that_cannot_be_traced_to_tokens_is_unavailable(small_reading: Any) -> None:
    with pytest.raises(UnavailableError, match="no gradient"):
        tam(small_reading, resolve(small_reading, lambda z: z.argmax(-1)[:, 0].float()))
    with pytest.raises(UnavailableError, match="already certain"):
        tam(small_reading, resolve(small_reading, lambda z: 0 * z[:, 0, 0]))


def test_the_rank_filter_removes_a_lone_cell_and_keeps_a_block() -> None:
    lone, block = np.zeros((7, 7)), np.zeros((7, 7))
    lone[3, 3], block[2:5, 2:5] = 1, 1
    assert rank_gaussian(lone, 3).max() < 0.2
    assert rank_gaussian(block, 3)[3, 3] == pytest.approx(1)
    np.testing.assert_allclose(rank_gaussian(lone, 1), lone)


def test_the_rank_filter_by_hand() -> None:
    values = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    variation = np.arange(1, 10).std() / 5
    weight = np.exp(-(np.arange(-4, 5) ** 2) / (2 * variation**2))
    assert rank_gaussian(values, 3)[1, 1] == pytest.approx((np.arange(1, 10) * weight).sum() / weight.sum(), abs=1e-6)


@pytest.mark.parametrize("window", [0, 2, 5])
def test_windows_that_do_not_fit_are_refused(small_reading: Any, window: int) -> None:
    with pytest.raises(InputError, match="odd"):
        tam(small_reading, resolve(small_reading, "contrast"), window=window)
