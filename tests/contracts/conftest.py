"""Whom the contracts are asked of: the embedded model and random ones, in every attention kind and number format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytest
import torch

from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.heatmaps.targets import ScoreFunction
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.models.reading import Reading, read
from tests.conftest import state_of
from tests.heatmaps.conftest import VARIANTS, read_tiny, tiny_model

ATTENTION = ("sdpa", "eager")
FORMATS = ("float32", "bfloat16")
MODELS = ("demo", "untied", *VARIANTS)

#: What is asked in every contract; "said" and "unsaid" are phrases that the answer has and does not have.
TARGETS = ("contrast", "p_yes", "answer", "token:1", "said", "unsaid", "word", "callable")


def difference(logits: torch.Tensor) -> torch.Tensor:
    """A user's own score: two logits of the last prompt row."""
    return logits[:, 0, 7] - logits[:, 0, 8]


@dataclass(frozen=True)
class Target:
    """What a user asks for, and the rows that must be read for it, worked out without the package's resolver."""

    asked: str | ScoreFunction
    rows: tuple[int, ...]


def cheap_options(method: str, grid: tuple[int, int]) -> dict[str, Any]:
    """Options that make an expensive method cheap; a method that is not in this table runs as it is."""
    half = {"window": grid[0] // 2, "stride": grid[0] // 2}
    return {
        "attention_knockout": half,
        "consensus": {"methods": ("relevance", "gradient_norm")},
        "integrated_gradients": {"steps": 2},
        "occlusion": half,
        "region_search": {"per_side": 4, "budget": 16},
        "rise": {"n": 8},
        "shapley": {"per_side": 2},
        "smoothgrad": {"samples": 2},
    }.get(method, {})


@dataclass(frozen=True)
class Subject:
    """A model that has read a picture, as it was before anybody explained anything."""

    reading: Reading
    targets: Mapping[str, Target]
    state: tuple[Any, ...]
    tokens: torch.Tensor

    def options(self, method: str) -> dict[str, Any]:
        return cheap_options(method, self.reading.model.grid)

    def assert_untouched(self) -> None:
        """Model and image tokens are bit for bit what they were."""
        assert state_of(self.reading.model.hf) == self.state
        assert torch.equal(self.reading.image_tokens, self.tokens)


@lru_cache
def subject_of(name: str, attention: str = "sdpa", number_format: str = "float32") -> Subject:
    """The same subject for everybody who asks, so that what one method leaves behind the next one meets."""
    reading = _demo(number_format) if name == "demo" else _tiny(name, number_format)
    reading.model.hf.set_attn_implementation(attention)
    targets = _targets(reading, "radiograph", "wide heart") if name == "demo" else _targets(reading, "w22", "w150 w151")
    return Subject(reading, targets, state_of(reading.model.hf), reading.image_tokens.clone())


def _demo(number_format: str) -> Reading:
    case = load_cases("demo")[0]
    model = load_model("demo", device="cpu", dtype=number_format)
    return read(model, picture(case), "What does this radiograph show?")


def _tiny(name: str, number_format: str) -> Reading:
    model = tiny_model(tied=False) if name == "untied" else tiny_model(**VARIANTS[name])
    model.hf.to(getattr(torch, number_format))
    return read_tiny(model)


def _targets(reading: Reading, word: str, unsaid: str) -> dict[str, Target]:
    prompt, said = reading.prompt, [token.text.strip() for token in reading.answer.tokens]
    last = len(prompt.ids) - 1
    start = prompt.text.index(word)
    pieces = tuple(p - 1 for p in prompt.positions_of(start, start + len(word)))
    forced = reading.model.tokenizer(unsaid, add_special_tokens=False)["input_ids"]
    return {
        "contrast": Target("contrast", (last,)),
        "p_yes": Target("p_yes", (last,)),
        "answer": Target("answer", tuple(range(last, last + len(said)))),
        "token:1": Target("token:1", (last + 1,)),
        "said": Target(f"phrase:{said[1]}", (last + said.index(said[1]),)),
        "unsaid": Target(unsaid, tuple(range(last, last + len(forced)))),
        "word": Target(f"word:{word}", pieces),
        "callable": Target(difference, (last,)),
    }


@pytest.fixture(scope="session")
def subject() -> Callable[..., Subject]:
    """Looks up a subject by model, attention kind and number format."""
    return subject_of
