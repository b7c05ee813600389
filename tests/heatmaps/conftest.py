"""Random Gemma 3 models of a few thousand weights, with a prompt made by hand: fast, and different in every respect."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from medgemma_visualizer.models import gemma3  # noqa: F401  (registers its family)
from medgemma_visualizer.models.adapter import FAMILIES, Model
from medgemma_visualizer.models.forward import logits_at
from medgemma_visualizer.models.prompt import Prompt
from medgemma_visualizer.models.reading import Reading

IMAGE, BEGIN, END, YES, NO = 599, 5, 6, 40, 41
LOCAL, GLOBAL = "sliding_attention", "full_attention"


class Tokenizer:
    """Token n reads "w<n>", but 40 is "yes" and 41 is "no"."""

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [{"yes": YES, "no": NO}.get(word) or int(word[1:]) for word in text.split()]}

    def get_vocab(self) -> dict[str, int]:
        return {"yes": YES, "no": NO}

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join({YES: " yes", NO: " no"}.get(i, f" w{i}") for i in ids)


def tiny_model(
    layers: tuple[str, ...] = (LOCAL, GLOBAL, LOCAL),
    kv_heads: int = 2,
    image: int = 56,
    tokens: int = 16,
    seed: int = 0,
    tied: bool = True,
) -> Model:
    """A random model with 4 query heads; `tokens` image tokens from (image / 14)² patches."""
    text = {
        "vocab_size": 600,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": len(layers),
        "num_attention_heads": 4,
        "num_key_value_heads": kv_heads,
        "head_dim": 8,
        "sliding_window": 16,
        "layer_types": list(layers),
        "max_position_embeddings": 2048,
        "query_pre_attn_scalar": 8,
    }
    vision = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": image,
        "patch_size": 14,
    }
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=tokens,
        image_token_index=IMAGE,
        boi_token_index=BEGIN,
        eoi_token_index=END,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(seed)
    hf = Gemma3ForConditionalGeneration(config).eval().requires_grad_(False)
    torch.nn.init.normal_(hf.model.multi_modal_projector.mm_input_projection_weight, std=0.3)
    heads = [] if tied else [hf.lm_head.weight]
    for weight in [*(p for p in hf.model.language_model.parameters() if p.ndim == 2), *heads]:
        torch.nn.init.normal_(weight, std=0.2)  # the usual 0.02 leaves logits almost constant
    processor = SimpleNamespace(
        tokenizer=Tokenizer(), image_processor=SimpleNamespace(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    )
    return Model("tiny", "", hf, processor, FAMILIES["Gemma3ForConditionalGeneration"])


def tiny_prompt(model: Model, image_first: bool = True, words: tuple[int, ...] = (20, 21, 22, 23)) -> Prompt:
    """bos, the image block, the question, two closing tokens; or the question before the image block."""
    block = [BEGIN, *[IMAGE] * (model.grid[0] * model.grid[1]), END]
    ids = [2, *block, *words, 24, 25] if image_first else [2, *words, *block, 24, 25]
    texts = ["<img>" if i == IMAGE else f" w{i}" for i in ids]
    ends = [sum(map(len, texts[: n + 1])) for n in range(len(texts))]
    offsets = tuple((end - len(text), end) for text, end in zip(texts, ends, strict=True))
    asked = [n for n, i in enumerate(ids) if i in words]
    image = tuple(n for n, i in enumerate(ids) if i == IMAGE)
    question = (offsets[asked[0]][0], offsets[asked[-1]][1])
    return Prompt("".join(texts), tuple(ids), offsets, question, image, image_first)


def read_tiny(model: Model, *, image_first: bool = True, seed: int = 1, max_new_tokens: int = 5) -> Reading:
    """A random picture, already in the model's own pixels, so that no image processor is needed."""
    reading = Reading(model, None, tiny_prompt(model, image_first), max_new_tokens=max_new_tokens)  # type: ignore[arg-type]
    size = model.hf.config.vision_config.image_size
    generator = torch.Generator().manual_seed(seed)
    reading.__dict__["pixel_values"] = torch.randn(1, 3, size, size, generator=generator).to(model.dtype)
    return reading


#: What must not matter: shared keys or not, local and global layers, grids, tokens pooled from patches.
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "one key head": {"kv_heads": 1, "layers": (GLOBAL, GLOBAL)},
    "pooled": {"image": 112, "tokens": 16, "layers": (LOCAL, GLOBAL)},
    "larger grid": {"image": 84, "tokens": 36, "kv_heads": 4},
}


@pytest.fixture(params=VARIANTS)
def tiny_reading(request: pytest.FixtureRequest) -> Reading:
    """A reading of each variant of the tiny model."""
    return read_tiny(tiny_model(**VARIANTS[request.param]))


@pytest.fixture
def small_reading() -> Reading:
    """A reading of one tiny model: 4 × 4 image tokens, three layers."""
    return read_tiny(tiny_model())


PLANTED = (2, 1)


@pytest.fixture
def planted() -> tuple[Reading, Any]:
    """A one-layer model whose picture holds one single token, at PLANTED, and a score that falls without it.

    All other image tokens are zero and so are all queries: attention is even, zero tokens have zero values, and the
    norm after attention undoes the change of scale that cutting one of them makes.
    """
    model = tiny_model(layers=(GLOBAL,))
    model.hf.model.language_model.layers[0].self_attn.q_proj.weight.zero_()
    reading = read_tiny(model)
    rows, cols = model.grid
    tokens = torch.zeros(1, rows * cols, 32)
    tokens[0, PLANTED[0] * cols + PLANTED[1]] = 3 * torch.randn(32, generator=torch.Generator().manual_seed(3))
    reading.__dict__["image_tokens"] = tokens
    last = [len(reading.prompt.ids) - 1]
    with torch.no_grad():
        rise = logits_at(model, reading.ids(), tokens, last) - logits_at(model, reading.ids(), 0 * tokens, last)
    sign = 1 if rise[0, 0, 100] > rise[0, 0, 200] else -1
    return reading, lambda logits: sign * (logits[:, 0, 100] - logits[:, 0, 200])
