"""Consensus is the mean of ranks, of all methods named or of none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps import METHODS
from medgemma_visualizer.heatmaps.consensus import DEFAULT, _ranks, consensus
from medgemma_visualizer.heatmaps.targets import resolve


def test_ranks_by_hand() -> None:
    np.testing.assert_allclose(_ranks("m", np.array([[-1.0, 0.0], [5.0, 2.0]])), np.array([[1.5, 1.5], [4, 3]]) / 4)


def test_the_map_is_the_mean_of_the_methods_ranks(small_reading: Any) -> None:
    aim, names = resolve(small_reading, "contrast"), ("occlusion", "cross_attention")
    expected = np.mean([_ranks(name, METHODS[name].compute(small_reading, aim).values) for name in names], axis=0)
    raw = consensus(small_reading, aim, methods=names)
    np.testing.assert_allclose(raw.values, expected)
    assert raw.extras["methods"] == list(names)


def test_the_default_names_methods_that_exist_and_react_to_the_question() -> None:
    assert all(METHODS[name].text_dependent for name in DEFAULT)


def test_no_mean_is_taken_over_fewer_methods_than_named(small_reading: Any) -> None:
    with pytest.raises(UnavailableError):
        consensus(
            small_reading, resolve(small_reading, lambda z: 0 * z[:, 0, 0]), methods=("cross_attention", "occlusion")
        )
    with pytest.raises(UnavailableError, match="Consensus needs m"):
        _ranks("m", -np.ones((2, 2)))


@pytest.mark.parametrize("names", [(), ("rise",), ("rise", "rise"), ("rise", "consensus")])
def test_fewer_than_two_different_methods_are_refused(small_reading: Any, names: Any) -> None:
    with pytest.raises(InputError, match="two or more"):
        consensus(small_reading, resolve(small_reading, "contrast"), methods=names)
