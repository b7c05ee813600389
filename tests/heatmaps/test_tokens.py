"""All words of an answer at once equal each word on its own; a cell names the words that lean on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps.targets import resolve, score_tokens
from medgemma_visualizer.heatmaps.tokens import token_maps, words_for_cell
from medgemma_visualizer.models.trace import attention_rows
from tests.conftest import state_of
from tests.heatmaps.conftest import PLANTED, read_tiny, tiny_model


@pytest.mark.parametrize("options", [{}, {"layers": [0, 1]}, {"layers": [1], "heads": [2], "reduce": "max"}])
def test_each_map_is_the_one_that_the_token_gets_alone(tiny_reading: Any, options: Any) -> None:
    maps = token_maps(tiny_reading, **options)
    assert len(maps) == len(tiny_reading.answer.tokens)
    for n, heatmap in enumerate(maps):
        alone = explain_reading(tiny_reading, "cross_attention", f"token:{n}", **options)
        np.testing.assert_allclose(heatmap.map, alone.map, atol=1e-6)
        assert (heatmap.target, heatmap.layers, heatmap.heads) == (alone.target, alone.layers, alone.heads)


def passes_of(reading: Any, work: Callable[[], Any]) -> int:
    """How many forward passes of the decoder some work takes, beyond answering."""
    assert len(reading.generated.ids) > 1
    assert reading.image_tokens.shape[0] == 1
    passes: list[int] = []
    handle = reading.model.text.register_forward_hook(lambda *_: passes.append(1))
    try:
        work()
    finally:
        handle.remove()
    return len(passes)


SHARED = ("gradcam_multi_token", "gradcam_single", "gradient_norm", "hires_cam", "relevance", "token_gradient")


@pytest.mark.parametrize("method", ["cross_attention", *SHARED])
def test_one_forward_pass_serves_all_tokens(small_reading: Any, method: str) -> None:
    assert passes_of(small_reading, lambda: token_maps(small_reading, method)) == 1


@pytest.mark.parametrize("method", SHARED)
def test_a_map_from_the_shared_pass_is_the_one_that_the_token_gets_alone(tiny_reading: Any, method: str) -> None:
    for n, heatmap in enumerate(token_maps(tiny_reading, method)):
        if not heatmap.available:
            with pytest.raises(UnavailableError, match=re.escape(heatmap.fallbacks[method])):
                explain_reading(tiny_reading, method, f"token:{n}")
            continue
        alone = explain_reading(tiny_reading, method, f"token:{n}")
        np.testing.assert_allclose(heatmap.map, alone.map, atol=1e-5 * alone.map.max())
        assert (heatmap.target, heatmap.layers) == (alone.target, alone.layers)


def test_a_vision_layer_still_takes_its_own_pass(small_reading: Any) -> None:
    token_maps(small_reading, "gradient_norm")  # whatever was shared is forgotten afterwards
    maps = token_maps(small_reading, "hires_cam", layer=0)
    alone = explain_reading(small_reading, "hires_cam", "token:1", layer=0)
    np.testing.assert_allclose(maps[1].map, alone.map, atol=1e-6)


@pytest.mark.parametrize("sinks", [None, 1.5])
def test_sinks_are_emptied_in_every_tokens_map(small_reading: Any, sinks: float | None) -> None:
    for n, heatmap in enumerate(token_maps(small_reading, sinks=sinks, layers=[0, 1])):
        alone = explain_reading(small_reading, "cross_attention", f"token:{n}", sinks=sinks, layers=[0, 1])
        np.testing.assert_allclose(heatmap.map, alone.map, atol=1e-6)
        assert heatmap.extras.keys() == alone.extras.keys()


def test_other_methods_explain_each_token_in_turn(small_reading: Any) -> None:
    maps = token_maps(small_reading, "occlusion", window=2)
    expected = explain_reading(small_reading, "occlusion", "token:1", window=2)
    np.testing.assert_array_equal(maps[1].map, expected.map)
    against = [heatmap for heatmap in maps if not heatmap.available]
    assert all("only against it" in heatmap.fallbacks["occlusion"] for heatmap in against)


def test_a_token_without_explanation_carries_its_reason(small_reading: Any) -> None:
    small_reading.__dict__["image_tokens"] = torch.ones_like(small_reading.image_tokens)
    for heatmap in token_maps(small_reading, "occlusion"):
        assert not heatmap.available
        assert "changes the score" in heatmap.fallbacks["occlusion"]


def test_an_unknown_method_or_option_is_refused(small_reading: Any) -> None:
    with pytest.raises(InputError, match="Did you mean 'occlusion'"):
        token_maps(small_reading, "oclusion")
    with pytest.raises(InputError, match="no layer 9"):
        token_maps(small_reading, layers=[9])
    with pytest.raises(InputError, match="does not take these options: colour"):
        token_maps(small_reading, colour=1)
    with pytest.raises(InputError, match="reduction of heads 'median'"):
        token_maps(small_reading, reduce="median")


def test_the_effect_on_a_word_is_its_loss_of_log_probability(small_reading: Any) -> None:
    links = [link for link in words_for_cell(small_reading, 1, 2) if link.generated]
    assert [link.token for link in links] == list(small_reading.answer.tokens)
    hidden = small_reading.image_tokens.clone()
    hidden[:, 1 * 4 + 2] = small_reading.image_tokens.mean(1)
    for n, link in enumerate(links):
        aim = resolve(small_reading, f"token:{n}")
        with torch.no_grad():
            before = float(score_tokens(small_reading, aim, small_reading.image_tokens))
            after = float(score_tokens(small_reading, aim, hidden))
        assert link.effect == pytest.approx(before - after, abs=1e-5)
        assert link.token.logprob == pytest.approx(before, abs=1e-5)


def test_words_of_the_question_are_linked_when_the_image_precedes_them_and_only_then() -> None:
    model = tiny_model()
    first = words_for_cell(read_tiny(model), 0, 0)
    assert [link.token.id for link in first if not link.generated] == [20, 21, 22, 23]
    assert all(link.generated for link in words_for_cell(read_tiny(model, image_first=False), 0, 0))


def test_a_words_attention_is_its_row_at_the_cell_over_all_layers_and_heads(small_reading: Any) -> None:
    ids = small_reading.ids(small_reading.generated.ids)
    column = small_reading.prompt.image_positions[1 * 4 + 2]
    for link in words_for_cell(small_reading, 1, 2):
        rows = attention_rows(small_reading.model, ids, small_reading.image_tokens, [link.token.position - 1])
        assert link.attention == pytest.approx(float(rows.weights[..., column].mean()), abs=1e-6)


def test_only_the_token_that_is_read_matters_to_any_word(planted: Any) -> None:
    reading, _ = planted
    for row, col in np.ndindex(reading.model.grid):
        effects = [abs(link.effect) for link in words_for_cell(reading, row, col, baseline="zero")]
        assert max(effects) > 0.01 if (row, col) == PLANTED else max(effects) == 0


def test_cells_outside_the_grid_and_even_windows_are_refused(small_reading: Any) -> None:
    with pytest.raises(InputError, match=r"no cell \(4, 0\)"):
        words_for_cell(small_reading, 4, 0)
    with pytest.raises(InputError, match="odd"):
        words_for_cell(small_reading, 0, 0, window=2)


@pytest.mark.parametrize(
    "options", [{"row": 1.5}, {"col": "2"}, {"row": None}, {"row": True}, {"window": 1.5}, {"window": "3"}]
)
def test_places_that_are_no_whole_numbers_are_refused(small_reading: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="whole numbers"):
        words_for_cell(small_reading, **{"row": 1, "col": 2, **options})


def test_the_model_is_given_back_as_found(small_reading: Any) -> None:
    before = state_of(small_reading.model.hf)
    token_maps(small_reading)
    words_for_cell(small_reading, 0, 0)
    assert state_of(small_reading.model.hf) == before
