"""Captured rows are the attention that the model computed, and the model does not notice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.models.forward import generate, logits_at
from medgemma_visualizer.models.trace import attention_kind, attention_rows
from tests.conftest import state_of


def _eager(reading: Any, ids: torch.Tensor) -> Any:
    model = reading.model
    kinds = (ids == model.image_token_id).long()[None]
    with attention_kind(model, "eager"), torch.no_grad():
        return model.hf(
            input_ids=ids[None], pixel_values=reading.pixel_values, token_type_ids=kinds, output_attentions=True
        )


def test_rows_equal_the_eager_implementation_in_every_layer_and_head(reading: Any) -> None:
    ids = reading.ids(reading.generated.ids)
    expected = _eager(reading, ids)
    rows = [*range(0, len(ids), 7), len(ids) - 1]
    traced = attention_rows(reading.model, ids, reading.image_tokens, rows)
    assert traced.weights.shape == (reading.model.n_layers, reading.model.n_heads, len(rows), len(ids))
    for layer, weights in enumerate(expected.attentions):
        np.testing.assert_allclose(traced.weights[layer], weights[0][:, rows].numpy(), atol=1e-5)


def test_rows_sum_to_one(reading: Any) -> None:
    traced = attention_rows(reading.model, reading.ids(), reading.image_tokens, [len(reading.prompt.ids) - 1])
    np.testing.assert_allclose(traced.weights.sum(-1), 1, atol=1e-5)


def test_image_tokens_see_each_other_in_both_directions(reading: Any) -> None:
    first, last = reading.prompt.image_positions[0], reading.prompt.image_positions[-1]
    full = [n for n, kind in enumerate(reading.model.text.config.layer_types) if kind == "full_attention"]
    traced = attention_rows(reading.model, reading.ids(), reading.image_tokens, [first], full)
    assert (traced.weights[..., last] > 0).all()


def test_text_never_sees_what_comes_later(reading: Any) -> None:
    row = reading.prompt.question_positions[0]
    traced = attention_rows(reading.model, reading.ids(), reading.image_tokens, [row])
    assert (traced.weights[..., row + 1 :] == 0).all()


def test_logits_equal_the_models_own_forward(reading: Any) -> None:
    row = len(reading.prompt.ids) - 1
    ours = logits_at(reading.model, reading.ids(), reading.image_tokens, [row])
    torch.testing.assert_close(ours[0, 0], _eager(reading, reading.ids()).logits[0, row], atol=1e-4, rtol=1e-4)


def test_the_generated_text_equals_the_librarys_generate_under_eager(demo: Any, cases: Any) -> None:
    from medgemma_visualizer.data.photo import picture
    from medgemma_visualizer.models.reading import read

    for question in ("What does this radiograph show?", cases[0].question):
        reading = read(demo, picture(cases[0]), question)
        ids = reading.ids()[None]
        with attention_kind(demo, "eager"):
            expected = demo.hf.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=reading.pixel_values,
                token_type_ids=(ids == demo.image_token_id).long(),
                do_sample=False,
                max_new_tokens=30,
            )[0, ids.shape[1] :].tolist()
        kept = [i for i in expected if i not in demo.stop_ids]
        assert list(generate(demo, reading.prompt, reading.image_tokens, 30).ids) == kept
        assert kept


def test_the_model_is_given_back_as_found(reading: Any) -> None:
    before = state_of(reading.model.hf)
    attention_rows(reading.model, reading.ids(), reading.image_tokens, [5])
    assert state_of(reading.model.hf) == before


def test_the_attention_kind_is_given_back_after_an_error(demo: Any) -> None:
    before = demo.text.config._attn_implementation
    with pytest.raises(RuntimeError, match="planned"), attention_kind(demo, "eager"):
        raise RuntimeError("planned")
    assert demo.text.config._attn_implementation == before
