"""Whether a method depends on the text is what a reader is told about its map: every label is measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from medgemma_visualizer.checks.random_target import random_target
from medgemma_visualizer.heatmaps import METHODS
from tests.contracts.conftest import Subject


@pytest.mark.parametrize("method", METHODS)
def test_every_methods_label_about_the_text_is_true(subject: Callable[..., Subject], method: str) -> None:
    demo = subject("demo")
    found = random_target(demo.reading, method, target="contrast", **demo.options(method))
    assert found.label_holds is True, found.reasons
    assert found.text_independent is not METHODS[method].text_dependent
    demo.assert_untouched()
