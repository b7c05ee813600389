"""Regions come in the order in which they carry the answer, shown or hidden, within the budget."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps import region_search as module
from medgemma_visualizer.heatmaps.probing import regions
from medgemma_visualizer.heatmaps.region_search import region_search
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.models.reading import Reading
from tests.heatmaps.conftest import PLANTED, read_tiny, tiny_model

DIRECTIONS = ("insertion", "deletion", "both")

#: Three cells of the 4 × 4 grid, in no order.
A, B, C = (3, 3), (0, 1), (2, 2)


@lru_cache
def reading_of_16() -> Reading:
    return read_tiny(tiny_model())


def searched(score: Callable[[np.ndarray], Any], **options: Any) -> tuple[Any, list[int]]:
    """The search when `score` answers to the cells shown, bool (P, 4, 4); and how many pictures each call asked for."""
    asked: list[int] = []

    def answer(_: Any, __: Any, hidden: np.ndarray, **___: Any) -> np.ndarray:
        asked.append(len(hidden))
        return np.asarray(score(~hidden), dtype=np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "score_masks", answer)
        raw = region_search(reading_of_16(), resolve(reading_of_16(), "contrast"), **options)
    return raw, asked


def has(shown: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    return shown[:, cell[0], cell[1]]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_only_token_that_is_read_gets_the_peak(planted: Any, direction: str) -> None:
    reading, score = planted
    grid = explain_reading(reading, "region_search", score, baseline="zero", direction=direction).map
    assert np.unravel_index(grid.argmax(), grid.shape) == PLANTED
    assert (grid == grid.max()).sum() == 1


@pytest.mark.parametrize("budget", [16, 83])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_sum_of_worths_is_ranked_by_worth_in_every_direction(direction: str, budget: int) -> None:
    worth = np.random.default_rng(0).permutation(16).reshape(4, 4)
    raw, _ = searched(lambda shown: (shown * worth).sum(axis=(1, 2)), direction=direction, budget=budget)
    np.testing.assert_allclose(raw.values, (worth + 1) / 16)
    assert [worth[cell] for cell in raw.extras["order"]] == list(range(15, -1, -1))


def test_what_is_left_of_the_budget_finds_the_partner_of_the_first_region() -> None:
    single = np.arange(16, 0, -1).reshape(4, 4)

    def with_partner(shown: np.ndarray) -> np.ndarray:
        both = has(shown, (0, 0)) & has(shown, (1, 1))  # best alone, and sixth alone
        return (shown * single).sum(axis=(1, 2)) + 100 * both

    order = lambda budget: searched(with_partner, direction="insertion", budget=budget)[0].extras["order"][:2]  # noqa: E731
    assert order(83) == [(0, 0), (1, 1)]
    assert order(16) == [(0, 0), (0, 1)]


@pytest.mark.parametrize(
    ("direction", "order"), [("insertion", [A, C, B]), ("both", [A, B, C]), ("deletion", [C, A, B])]
)
def test_two_copies_of_the_evidence_and_a_little_more(direction: str, order: list[tuple[int, int]]) -> None:
    """10 for either copy, a quarter more where it is A, 2 for C.

    Insertion: with A shown, B brings nothing and C brings 2. Deletion: without C 2 are missing, without A a quarter,
    without B nothing. Both: {A, B} is 10.25 alone and leaves 2, {A, C} is 12.25 alone and leaves 10.
    """

    def score(shown: np.ndarray) -> np.ndarray:
        copies = np.where(has(shown, A), 10.25, np.where(has(shown, B), 10, 0))
        return copies + 2 * has(shown, C)

    assert searched(score, direction=direction)[0].extras["order"][:3] == order


def test_evidence_that_needs_two_regions_is_seen_by_hiding_and_not_by_showing() -> None:
    score = lambda shown: 5.0 * (has(shown, A) & has(shown, B))  # noqa: E731
    for direction in ("deletion", "both"):
        assert set(searched(score, direction=direction)[0].extras["order"][:2]) == {A, B}
    with pytest.raises(UnavailableError, match="stays 0"):
        searched(score, direction="insertion")
    with pytest.raises(UnavailableError, match="stays 0"):
        searched(score, direction="both", budget=31)  # one short of both looks at 16 regions


def test_evidence_that_stands_everywhere_is_seen_by_showing_and_not_by_hiding() -> None:
    worth = np.arange(16).reshape(4, 4)
    highest = lambda shown: np.minimum((shown * worth).max(axis=(1, 2)), 14)  # noqa: E731
    for direction in ("insertion", "both"):
        order = searched(highest, direction=direction)[0].extras["order"]
        assert set(order[:2]) == {(3, 2), (3, 3)}  # 14 each
        assert order[2] == (3, 1)
    with pytest.raises(UnavailableError, match="stays 14"):
        searched(highest, direction="deletion")


@given(st.sampled_from(DIRECTIONS), st.lists(st.integers(0, 1000), min_size=16, max_size=16, unique=True))
def test_with_few_regions_it_is_the_exhaustive_greedy_search(direction: str, table: list[int]) -> None:
    """Four regions, and any score of the sixteen subsets; ties, which may go either way, are skipped."""
    corners = [(0, 0), (0, 2), (2, 0), (2, 2)]

    def subset(shown: np.ndarray) -> np.ndarray:
        return np.asarray(sum(has(shown, corner) << n for n, corner in enumerate(corners)))

    def worth(chosen: int) -> int:
        return {
            "insertion": table[chosen],
            "deletion": -table[15 - chosen],
            "both": table[chosen] - table[15 - chosen],
        }[direction]

    chosen, order = 0, []
    for _ in corners:
        candidates = sorted((worth(chosen | 1 << n), n) for n in range(4) if not chosen >> n & 1)
        if len(candidates) > 1 and candidates[-1][0] == candidates[-2][0]:
            return
        order.append(corners[candidates[-1][1]])
        chosen |= 1 << candidates[-1][1]
    raw, _ = searched(lambda shown: np.array(table)[subset(shown)], direction=direction, per_side=2)
    assert raw.extras["order"] == order


@given(st.sampled_from(DIRECTIONS), st.integers(1, 8), st.integers(1, 120), st.integers(0, 2**32))
def test_the_budget_is_never_exceeded_and_what_was_spent_is_said(
    direction: str, per_side: int, budget: int, seed: int
) -> None:
    rng, count = np.random.default_rng(seed), len(regions((4, 4), per_side))
    options: dict[str, Any] = {"direction": direction, "per_side": per_side, "budget": budget}
    if budget < count:
        with pytest.raises(InputError, match="cannot rank"):
            searched(lambda shown: rng.random(len(shown)), **options)
    elif count == 1:
        with pytest.raises(UnavailableError):  # one region cannot differ from another
            searched(lambda shown: rng.random(len(shown)), **options)
    else:
        raw, asked = searched(lambda shown: rng.random(len(shown)), **options)
        assert sum(asked) == raw.extras["n_scorings"] <= budget
        assert len(set(raw.extras["order"])) == count


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("image", "tokens"), [(56, 16), (84, 36), (224, 256)])
def test_the_budget_is_kept_on_every_grid(
    image: int, tokens: int, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = read_tiny(tiny_model(image=image, tokens=tokens))
    asked: list[int] = []
    score = module.score_masks
    monkeypatch.setattr(module, "score_masks", lambda *a, **k: (asked.append(len(a[2])), score(*a, **k))[1])
    raw = region_search(reading, resolve(reading, "contrast"), direction=direction)
    assert sum(asked) == raw.extras["n_scorings"] <= 83
    assert raw.values.shape == reading.model.grid
    assert raw.extras["direction"] == direction


def test_a_budget_under_one_look_a_region_is_refused(small_reading: Any) -> None:
    with pytest.raises(InputError, match="cannot rank 16 regions"):
        region_search(small_reading, resolve(small_reading, "contrast"), budget=15)


def test_a_direction_that_is_none_is_refused_with_those_that_are(small_reading: Any) -> None:
    with pytest.raises(InputError, match="Did you mean 'deletion'"):
        region_search(small_reading, resolve(small_reading, "contrast"), direction="delete")  # type: ignore[arg-type]
