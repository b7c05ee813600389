"""An option of the wrong type is refused before anything is computed, in words that say what is wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps.methods import check_options, options_for


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("occlusion", {"window": np.int64(3), "baseline": None}),
        ("attention_rollout", {"residual": 0}),
        ("cross_attention", {"layers": [0, np.int32(-1)], "heads": range(2), "sinks": 5, "reduce": "middle"}),
        ("gradcam_single", {"layer": "first"}),  # of the right type; the method itself knows its layers
        ("smoothgrad", {"layer": "projector"}),  # handed on to its base
    ],
)
def test_the_declared_types_are_accepted(method: str, options: dict[str, Any]) -> None:
    check_options([method], options)


@pytest.mark.parametrize(
    ("method", "option", "value", "message"),
    [
        ("occlusion", "window", "wide", "'window' of method 'occlusion' is 'wide'; give a whole number."),
        ("occlusion", "window", 2.5, "is 2.5; give a whole number."),
        ("occlusion", "window", True, "is True; give a whole number."),
        ("occlusion", "baseline", 7, "is 7; give a name or a tensor or None."),
        ("rise", "keep", None, "is None; give a number."),
        ("rise", "space", 3, "is 3; give 'tokens' or 'pixels'."),
        ("cross_attention", "layers", 0, "is 0; give a list of whole numbers or None."),
        ("cross_attention", "layers", "01", "is '01'; give a list of whole numbers or None."),
        ("consensus", "methods", "relevance", "is 'relevance'; give a list of names."),
        ("gradcam_single", "layer", 1.5, "is 1.5; give a whole number or 'projector'."),
    ],
)
def test_another_type_is_refused_with_what_is_wanted(method: str, option: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as refused:
        check_options([method], {option: value})
    assert str(refused.value).endswith(message)


def test_a_wrapper_takes_its_bases_options_and_no_others() -> None:
    options = {"samples": 2, "baseline": "blur", "layer": 0, "window": 3}
    assert options_for("smoothgrad", options) == {"samples": 2, "baseline": "blur"}
    of_a_cam = options | {"base": "gradcam_single"}
    assert options_for("smoothgrad", of_a_cam) == {"samples": 2, "layer": 0, "base": "gradcam_single"}
    assert options_for("occlusion", options) == {"baseline": "blur", "window": 3}


def test_an_option_of_no_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"'relevance' does not take these options: colour\. It takes: none\."):
        check_options(["relevance"], {"colour": "red"})
