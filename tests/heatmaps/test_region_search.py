"""Regions come in the order in which they bring the answer back, within the budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps import region_search as module
from medgemma_visualizer.heatmaps.region_search import region_search
from medgemma_visualizer.heatmaps.targets import resolve
from tests.heatmaps.conftest import PLANTED, read_tiny, tiny_model


def test_the_only_token_that_is_read_gets_the_peak(planted: Any) -> None:
    reading, score = planted
    grid = explain_reading(reading, "region_search", score, baseline="zero").map
    assert np.unravel_index(grid.argmax(), grid.shape) == PLANTED
    assert (grid == grid.max()).sum() == 1


def test_a_sum_of_worths_is_ranked_by_worth(small_reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worth = np.random.default_rng(0).permutation(16).reshape(4, 4)

    def additive(_: Any, __: Any, hidden: np.ndarray, **___: Any) -> np.ndarray:
        return (~hidden * worth).sum(axis=(1, 2)).astype(np.float32)

    monkeypatch.setattr(module, "score_masks", additive)
    raw = region_search(small_reading, resolve(small_reading, "contrast"))
    np.testing.assert_allclose(raw.values, (worth + 1) / 16)
    assert [worth[cell] for cell in raw.extras["order"]] == list(range(15, -1, -1))


def test_what_is_left_of_the_budget_finds_the_partner_of_the_first_region(
    small_reading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = np.arange(16, 0, -1).reshape(4, 4)

    def with_partner(_: Any, __: Any, hidden: np.ndarray, **___: Any) -> np.ndarray:
        both = ~hidden[:, 0, 0] & ~hidden[:, 1, 1]  # best alone, and sixth alone
        return ((~hidden * single).sum(axis=(1, 2)) + 100 * both).astype(np.float32)

    monkeypatch.setattr(module, "score_masks", with_partner)
    aim = resolve(small_reading, "contrast")
    assert region_search(small_reading, aim).extras["order"][:2] == [(0, 0), (1, 1)]
    assert region_search(small_reading, aim, budget=16).extras["order"][:2] == [(0, 0), (0, 1)]


@pytest.mark.parametrize(("image", "tokens"), [(56, 16), (84, 36), (224, 256)])
def test_the_budget_is_kept_on_every_grid(image: int, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = read_tiny(tiny_model(image=image, tokens=tokens))
    asked: list[int] = []
    score = module.score_masks
    monkeypatch.setattr(module, "score_masks", lambda *a, **k: (asked.append(len(a[2])), score(*a, **k))[1])
    raw = region_search(reading, resolve(reading, "contrast"))
    assert sum(asked) == raw.extras["n_scorings"] <= 83
    assert raw.values.shape == reading.model.grid


def test_a_budget_under_one_look_a_region_is_refused(small_reading: Any) -> None:
    with pytest.raises(InputError, match="cannot rank 16 regions"):
        region_search(small_reading, resolve(small_reading, "contrast"), budget=15)
