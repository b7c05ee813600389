"""Two methods whose worth is known before anything is measured, and a small league with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.heatmaps import METHODS, Method, RawMap
from medgemma_visualizer.runs.build import SanityPlan, build, plan_for, sample

KNOWN = ("perfect", "constant")


def fake(name: str, values: Any) -> Method:
    """A method whose map is `values(reading)`."""
    return Method(name, "activation", "nothing", True, False, "none", lambda reading, aim: RawMap(values(reading)))


@pytest.fixture(scope="module")
def truth(cases: Any) -> dict[bytes, np.ndarray]:
    """Picture -> share of each cell that the finding covers."""
    from medgemma_visualizer.data.photo import picture
    from medgemma_visualizer.grid import coverage

    shown = [case for case in cases if case.region is not None and case.truth == "yes"][::15][:3]
    return {picture(case).tobytes(): coverage(case.region, 16, 16) for case in shown}


@pytest.fixture(scope="module")
def known_methods(truth: dict[bytes, np.ndarray]) -> Iterator[None]:
    """Adds "perfect", which knows where the finding is, and "constant", which says nothing."""
    made = {
        "perfect": fake("perfect", lambda reading: truth[reading.image.tobytes()]),
        "constant": fake("constant", lambda reading: np.ones(reading.model.grid)),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, method in made.items():
            patch.setitem(METHODS._entries, name, method)
        yield


@pytest.fixture(scope="module")
def shown(cases: Any, truth: dict[bytes, np.ndarray]) -> list[Any]:
    """The cases that "perfect" knows."""
    from medgemma_visualizer.data.photo import picture

    wanted = [case for case in cases if case.region is not None and case.truth == "yes"]
    return [case for case in wanted if picture(case).tobytes() in truth][:3]


@pytest.fixture(scope="module")
def built(demo: Any, shown: list[Any], known_methods: None) -> Any:
    """A league of five methods over three embedded cases, without the sanity check."""
    plan = plan_for(["relevance", "cross_attention", *KNOWN], ("blur", "mean"), "tokens", 2, 0)
    return build(demo, sample(shown, None, 0), plan, source="demo", sanity=SanityPlan(0))
