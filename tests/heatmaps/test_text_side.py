"""Words and picture are weighed on one scale."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps.probing import baseline_for
from medgemma_visualizer.heatmaps.targets import resolve, score_tokens
from medgemma_visualizer.heatmaps.text_side import TEXT_METHODS, _embeddings, _logits, text_side
from tests.conftest import state_of


@pytest.mark.parametrize("method", TEXT_METHODS)
def test_every_method_weighs_each_word_and_both_sides(tiny_reading: Any, method: str) -> None:
    side = text_side(tiny_reading, resolve(tiny_reading, "contrast"), method)
    assert [word.id for word in side.words] == [20, 21, 22, 23]
    assert side.values.shape == (4,)
    assert side.image_share == pytest.approx(abs(side.image_effect) / (abs(side.image_effect) + abs(side.words_effect)))


def test_score_and_prior_are_the_image_and_the_mean_token(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    side = text_side(small_reading, aim)
    with torch.no_grad():
        assert side.score == pytest.approx(
            float(score_tokens(small_reading, aim, small_reading.image_tokens)), abs=1e-5
        )
        mean = baseline_for(small_reading, "tokens", "mean")
        assert side.prior == pytest.approx(float(score_tokens(small_reading, aim, mean)), abs=1e-5)
    assert side.image_effect == pytest.approx(side.score - side.prior, abs=1e-5)


def test_a_words_occlusion_is_the_score_it_takes_away(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    before, after = _embeddings(small_reading, aim)
    altered = before.clone()
    position = small_reading.prompt.question_positions[2]
    altered[:, position] = after[:, position]
    with torch.no_grad():
        lost = aim.score(_logits(small_reading, aim, before)) - aim.score(_logits(small_reading, aim, altered))
    assert text_side(small_reading, aim).values[2] == pytest.approx(float(lost), abs=1e-5)


def test_the_baseline_word_is_the_mean_of_the_embeddings_as_the_model_scales_them(small_reading: Any) -> None:
    table = small_reading.model.text.get_input_embeddings()
    expected = table(torch.arange(600)).mean(0)
    _, after = _embeddings(small_reading, resolve(small_reading, "contrast"))
    torch.testing.assert_close(after[0, small_reading.prompt.question_positions[0]], expected, atol=1e-5, rtol=1e-4)


def test_integrated_gradients_of_both_sides_add_up_to_the_whole_difference(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    side = text_side(small_reading, aim, "integrated_gradients")
    before, after = _embeddings(small_reading, aim)
    nothing = before.clone()
    for position in (*small_reading.prompt.question_positions, *small_reading.prompt.image_positions):
        nothing[:, position] = after[:, position]
    with torch.no_grad():
        whole = aim.score(_logits(small_reading, aim, before)) - aim.score(_logits(small_reading, aim, nothing))
    assert side.image_effect + side.words_effect == pytest.approx(float(whole), abs=0.01 * abs(float(whole)))
    assert side.values.sum() == pytest.approx(side.words_effect, abs=1e-5)


def test_the_gradient_is_the_slope_along_each_words_embedding(small_reading: Any) -> None:
    aim, step = resolve(small_reading, "contrast"), 1e-2
    before, after = _embeddings(small_reading, aim)
    position = small_reading.prompt.question_positions[1]
    ends = []
    for sign in (1, -1):
        moved = before.clone()
        moved[:, position] += sign * step * (before - after)[:, position]
        with torch.no_grad():
            ends.append(float(aim.score(_logits(small_reading, aim, moved))))
    slope = (ends[0] - ends[1]) / (2 * step)
    assert text_side(small_reading, aim, "token_gradient").values[1] == pytest.approx(slope, abs=5e-3)


def test_a_picture_that_is_never_read_has_no_share(small_reading: Any) -> None:
    small_reading.__dict__["image_tokens"] = small_reading.image_tokens.mean(1, keepdim=True).expand(-1, 16, -1).clone()
    side = text_side(small_reading, resolve(small_reading, "contrast"))
    assert side.image_share == pytest.approx(0, abs=1e-4)
    assert side.score == pytest.approx(side.prior, abs=1e-5)


def test_a_target_that_nothing_reaches_has_no_share_to_give(small_reading: Any) -> None:
    with pytest.raises(UnavailableError, match="neither the picture nor the question"):
        text_side(small_reading, resolve(small_reading, lambda z: 0 * z[:, 0, 0]))


def test_other_methods_are_refused(small_reading: Any) -> None:
    with pytest.raises(InputError, match="Did you mean 'occlusion'"):
        text_side(small_reading, resolve(small_reading, "contrast"), "oclusion")


@pytest.mark.parametrize("method", TEXT_METHODS)
def test_the_model_is_given_back_as_found(small_reading: Any, method: str) -> None:
    before = state_of(small_reading.model.hf)
    tokens = small_reading.image_tokens.clone()
    text_side(small_reading, resolve(small_reading, "contrast"), method)
    assert state_of(small_reading.model.hf) == before
    assert torch.equal(small_reading.image_tokens, tokens)
