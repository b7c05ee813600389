"""Whatever picture, question and target people bring: a map, or an error of the family with a reason; never a crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgemma_visualizer.errors import VisualizerError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.heatmaps.targets import KINDS
from medgemma_visualizer.models.reading import read
from tests.contracts.conftest import difference

#: One forward pass each, with or without a backward one.
CHEAP = (
    "activation_norm",
    "attention_rollout",
    "cross_attention",
    "gradcam_multi_token",
    "gradcam_single",
    "gradient_norm",
    "hires_cam",
    "relevance",
    "tam",
    "token_gradient",
    "auto",
)

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


def triple(demo: Any, films: list[Image.Image], seed: int) -> str:
    """Explains one random triple; says "map" or names the error's class. Anything else escapes."""
    rng = np.random.default_rng(seed)
    image = films[rng.integers(len(films))] if rng.random() < 0.5 else any_picture(rng)
    question, method, first = words(rng, 8), str(rng.choice(CHEAP)), bool(rng.random() < 0.8)
    target = any_target(rng, question)
    try:
        reading = read(demo, image, question, image_first=first, max_new_tokens=8)
        found = explain_reading(reading, method, target)
    except VisualizerError as error:
        return type(error).__name__ if len(str(error).split()) > 3 else f"no reason: {error}"
    if found.available:
        assert found.grid.shape == demo.grid
        assert np.isfinite(found.grid).all()
        assert found.grid.min() < found.grid.max()
        assert all(row >= 0 for row in found.target.rows)
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


def test_sixty_four_random_triples_give_maps_or_reasons(ask: Callable[[int], str]) -> None:
    outcomes = [ask(seed) for seed in range(64)]
    assert set(outcomes) <= {"map", "no explanation", "InputError", "UnavailableError"}
    assert outcomes.count("map") > 20
    assert outcomes.count("InputError") > 5


@pytest.mark.slow
@pytest.mark.parametrize("block", range(8))
def test_five_hundred_and_twelve_random_triples_give_maps_or_reasons(ask: Callable[[int], str], block: int) -> None:
    outcomes = {ask(seed) for seed in range(1000 + 64 * block, 1000 + 64 * (block + 1))}
    assert outcomes <= {"map", "no explanation", "InputError", "UnavailableError"}
