"""Whatever picture, question, target and options people bring: a map, or an error with a reason; never a crash."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.heatmaps import METHODS, explain_reading
from medgemma_visualizer.heatmaps.targets import KINDS
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.records import Heatmap
from tests.contracts.conftest import Subject, cheap_options, difference

#: Every method of the table, each as often as the others; and what chooses among them.
ASKED = (*METHODS, "auto")

#: What people write for an option: what it takes, what it takes on other models only, and what nothing takes.
VALUES: dict[str, tuple[Any, ...]] = {
    "base": ("relevance", "gradient_norm", "occlusion", "nothing", None),
    "baseline": ("mean", "blur", "zero", "gray", "noise", None, 7, torch.zeros(3)),
    "budget": (16, 20, 3, 0, "much", 16.5),
    "coarse": (2, 4, 0, 99, 10**9, "fine", None),
    "direction": ("insertion", "deletion", "both", "sideways", None),
    "heads": (None, (0,), (-1, 1), (1, 1), (99,), (), 0, "all", (0.5,), (True,)),
    "keep": (0.1, 0.9, 0, 1, -1, float("nan"), "half"),
    "layer": (-1, 0, np.int64(0), "projector", 99, -99, "first", 1.5, None, True),
    "layers": (None, (0,), (-1, 1), (1, 1), (99,), (), 0, "all", (0.5,), (True,)),
    "methods": (("relevance", "gradient_norm"), ("relevance",), ("relevance", "nothing"), (), "relevance", 5, None),
    "n": (4, 1, 0, -1, 2.5, "many", None),
    "noise": (0.1, 0, -1, float("nan"), float("inf"), "loud", None),
    "orders": (2, 3, 4, 1, 0, 2.5, "some", None),
    "per_side": (1, 2, 4, 0, -1, 99, 2.5, "four", None),
    "reduce": ("mean", "max", "median", None, 3),
    "residual": (0, 0.9, 1, -0.1, float("nan"), "half", None),
    "rows": ("target", "text", "all", None, 3),
    "samples": (1, 2, 0, -1, 1.5, "few", None),
    "seed": (0, np.int64(7), -1, 2**70, 0.5, "luck", None),
    "sinks": (None, 5, np.float32(5), 1, -1, float("nan"), "many"),
    "space": ("tokens", "pixels", "voxels", None, 3),
    "steps": (1, 2, 0, -3, 1.5, "many"),
    "stride": (8, 5, 2, 0, -1, 99, 2.5, "far", None),
    "window": (3, 8, 9, 16, 17, 0, -1, 2.5, "wide", None),
    "colour": ("red", None),
}

PIECES = (
    *("effusion", "Is there", "pneumonia", "no", "yes", "the left lung", "CARDIOMEGALY", "größer", "心臓", "قلب", "🫁"),
    *("?", ".", "#2", ":", "word:", "<start_of_image>", "<end_of_turn>", "<image_soft_token>", "{q}", "\\d+(", "%s"),
    *("\n", "\t", "\u200b", "\ufffd", "e\u0301", "\x00", "\u202e", "3.5 cm", "--", "'", '"', "ﬁ", "İ", "\U000e0041"),
)

PREFIXES = ("", "phrase:", "word:", "token:", "contrast:", "#")


def words(rng: np.random.Generator, most: int) -> str:
    return " ".join(rng.choice(PIECES, rng.integers(most + 1)))


def any_picture(rng: np.random.Generator) -> Image.Image:
    """Noise, one shade or a ramp, from one pixel to long strips."""
    height, width = (int(n) for n in rng.integers(1, [400, 400]) ** rng.choice([0, 1], 2, p=[0.1, 0.9]))
    noise = rng.integers(0, 256, (height, width, 3))
    flat = np.full((height, width, 3), rng.integers(0, 256))
    ramp = np.broadcast_to(np.linspace(0, 255, width)[None, :, None], (height, width, 3))
    return Image.fromarray([noise, flat, ramp][rng.integers(3)].astype(np.uint8))


def any_target(rng: np.random.Generator, question: str) -> Any:
    said = question.split() or ["?"]
    return [
        lambda: None,
        lambda: str(rng.choice(KINDS)),
        lambda: f"token:{rng.integers(-1, 8)}",
        lambda: f"word:{rng.choice(said)}",
        lambda: f"word:{rng.choice(said)}#{rng.integers(4)}",
        lambda: str(rng.choice(PREFIXES)) + words(rng, 3),
        lambda: difference,
    ][rng.integers(7)]()


def any_options(rng: np.random.Generator, method: str, cheap: Mapping[str, Any]) -> dict[str, Any]:
    """The cheap ones; or one or two in their place, mostly such as the method has."""
    options = dict(cheap)
    own = list(METHODS[method].options if method != "auto" else ("layer",)) or list(VALUES)
    for _ in range(rng.integers(3)):
        name = str(rng.choice(own if rng.random() < 0.9 else list(VALUES)))
        options[name] = VALUES[name][rng.integers(len(VALUES[name]))]
    return options


def assert_map(found: Heatmap, grid: tuple[int, int]) -> None:
    assert found.grid.shape == grid
    assert np.isfinite(found.grid).all()
    assert found.grid.min() < found.grid.max()
    assert all(row >= 0 for row in found.target.rows)
    assert json.dumps(found.about(), default=list, allow_nan=False)  # whatever stands beside a map can be written


def triple(demo: Any, films: list[Image.Image], seed: int) -> str:
    """Explains one random triple; says "map" or names the error's class. Anything else escapes."""
    rng = np.random.default_rng(seed)
    image = films[rng.integers(len(films))] if rng.random() < 0.5 else any_picture(rng)
    question, method, first = words(rng, 8), ASKED[seed % len(ASKED)], bool(rng.random() < 0.8)
    target = any_target(rng, question)
    options = any_options(rng, method, cheap_options(method, demo.grid))
    try:
        reading = read(demo, image, question, image_first=first, max_new_tokens=8)
        found = explain_reading(reading, method, target, **options)
    except VisualizerError as error:
        return type(error).__name__ if len(str(error).split()) > 3 else f"no reason: {error}"
    if found.available:
        assert_map(found, demo.grid)
        return "map"
    assert method == "auto"
    assert found.fallbacks
    return "no explanation"


@pytest.fixture(scope="module")
def ask(demo: Any, cases: Any) -> Callable[[int], str]:
    """From a seed to what came of its triple."""
    from medgemma_visualizer.data.photo import picture

    films = [picture(case) for case in cases[:8]]
    return lambda seed: triple(demo, films, seed)


def test_random_triples_with_random_options_give_maps_or_reasons(ask: Callable[[int], str]) -> None:
    outcomes = [ask(seed) for seed in range(4 * len(ASKED))]
    assert set(outcomes) <= {"map", "no explanation", "InputError", "UnavailableError"}
    assert outcomes.count("map") > 10
    assert outcomes.count("InputError") > 10


@pytest.mark.slow
@pytest.mark.parametrize("block", range(8))
def test_five_hundred_and_twelve_random_triples_give_maps_or_reasons(ask: Callable[[int], str], block: int) -> None:
    outcomes = {ask(seed) for seed in range(1000 + 64 * block, 1000 + 64 * (block + 1))}
    assert outcomes <= {"map", "no explanation", "InputError", "UnavailableError"}


@pytest.mark.parametrize("method", METHODS)
def test_any_value_of_any_option_gives_a_map_or_a_reason(subject: Callable[..., Subject], method: str) -> None:
    untied = subject("untied")
    for option in METHODS[method].options:
        outcomes = [outcome(untied, method, option, value) for value in VALUES[option]]
        assert set(outcomes) <= {"map", "InputError", "UnavailableError"}, option
        assert {"map", "InputError"} <= set(outcomes), option
    untied.assert_untouched()


def outcome(subject: Subject, method: str, option: str, value: Any) -> str:
    try:
        found = explain_reading(subject.reading, method, "contrast", **{**subject.options(method), option: value})
    except (InputError, UnavailableError) as error:
        return type(error).__name__ if len(str(error).split()) > 3 else f"no reason: {error}"
    assert_map(found, subject.reading.model.grid)
    return "map"
