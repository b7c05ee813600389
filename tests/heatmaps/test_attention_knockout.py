"""A cut is −inf before the softmax, in the layers and rows asked for and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps.attention_knockout import attention_knockout, cut_rows, score_cuts
from medgemma_visualizer.heatmaps.targets import resolve, score_tokens
from medgemma_visualizer.models.knockout import knockout
from medgemma_visualizer.models.trace import attention_kind
from tests.conftest import state_of
from tests.heatmaps.conftest import PLANTED


@contextmanager
def _minus_infinity(model: Any, rows: Sequence[int], columns: Sequence[int], layers: Sequence[int]) -> Iterator[None]:
    """The library's eager attention, with −inf written into the masks of some layers."""

    def write(_: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        mask = kwargs["attention_mask"].clone()
        for row in rows:
            mask[..., row, [c for c in columns if c != row]] = -torch.inf
        return args, {**kwargs, "attention_mask": mask}

    hooks = [model.text.layers[n].self_attn.register_forward_pre_hook(write, with_kwargs=True) for n in layers]
    try:
        with attention_kind(model, "eager"), torch.no_grad():
            yield
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("target", ["contrast", "answer", "phrase:w9"])
@pytest.mark.parametrize("layers", [None, [0], [-1]])
@pytest.mark.parametrize("who", ["target", "text"])
def test_every_cut_equals_minus_infinity_in_the_plain_model(
    tiny_reading: Any, target: str, layers: Any, who: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tiny_reading.model.tokenizer), "__call__", lambda *_, **__: {"input_ids": [9, 10]}, False)
    model, aim = tiny_reading.model, resolve(tiny_reading, target)
    rows, image = cut_rows(tiny_reading, aim, who), tiny_reading.prompt.image_positions
    raw = attention_knockout(tiny_reading, aim, window=1, layers=layers, rows=who)
    plain = float(score_tokens(tiny_reading, aim, tiny_reading.image_tokens))
    chosen = range(model.n_layers) if layers is None else [n % model.n_layers for n in layers]
    for cell in (0, 5, len(image) - 1):
        with _minus_infinity(model, rows, [image[cell]], chosen):
            cut = float(score_tokens(tiny_reading, aim, tiny_reading.image_tokens))
        assert raw.values.ravel()[cell] == pytest.approx(plain - cut, abs=1e-5)


def test_cutting_nothing_changes_nothing(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    nothing = np.zeros((2, len(small_reading.prompt.ids)), dtype=bool)
    scores = score_cuts(small_reading, aim, nothing, aim.rows, range(3))
    np.testing.assert_allclose(scores, float(score_tokens(small_reading, aim, small_reading.image_tokens)), atol=1e-5)


def test_batch_mates_never_change_a_score(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    columns = np.random.default_rng(0).random((7, len(small_reading.prompt.ids))) < 0.3
    one_by_one = [score_cuts(small_reading, aim, columns[n : n + 1], aim.rows, range(3))[0] for n in range(7)]
    np.testing.assert_allclose(
        score_cuts(small_reading, aim, columns, aim.rows, range(3), batch=3), one_by_one, atol=2e-6
    )


def test_a_row_cut_off_from_everything_still_sees_itself(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    everything = np.ones((1, len(small_reading.prompt.ids)), dtype=bool)
    assert np.isfinite(score_cuts(small_reading, aim, everything, aim.rows, range(3))).all()


def test_the_only_token_that_is_read_gets_the_peak(planted: Any) -> None:
    reading, score = planted
    heatmap = explain_reading(reading, "attention_knockout", score, window=1)
    assert np.unravel_index(heatmap.map.argmax(), heatmap.map.shape) == PLANTED
    assert heatmap.map[PLANTED] == pytest.approx(heatmap.map.sum(), rel=1e-3)


def test_the_model_is_given_back_as_found_even_after_an_error(small_reading: Any) -> None:
    model, aim = small_reading.model, resolve(small_reading, "contrast")
    before = state_of(model.hf)
    attention_knockout(small_reading, aim)
    assert state_of(model.hf) == before
    with pytest.raises(RuntimeError, match="planned"), knockout(model, [0], torch.zeros(1, 3, dtype=torch.bool), [0]):
        raise RuntimeError("planned")
    assert state_of(model.hf) == before
    assert float(score_tokens(small_reading, aim, small_reading.image_tokens)) == pytest.approx(
        attention_knockout(small_reading, aim).extras["score"], abs=1e-5
    )


def test_unknown_layers_and_rows_are_refused(small_reading: Any) -> None:
    aim = resolve(small_reading, "contrast")
    with pytest.raises(InputError, match="no layer 3"):
        attention_knockout(small_reading, aim, layers=[3])
    with pytest.raises(InputError, match="Choose 'target' or 'text'"):
        attention_knockout(small_reading, aim, rows="all")  # type: ignore[arg-type]
