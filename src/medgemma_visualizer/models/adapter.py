"""What a family of vision-language models must tell, and the loaded model that everything else works with.

Knows where a family keeps its parts; knows nothing about questions, maps or files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from medgemma_visualizer.registry import Registry


@dataclass(frozen=True)
class Family:
    """The handful of facts by which one family of models differs from another.

    Attributes:
        architecture: The class name in a checkpoint's config.json.
        tower, projector, text, head: Dotted module paths inside the loaded model.
        vision_layers: Dotted path of the list of vision layers.
        image_token_id: Reads the id of the placeholder that image tokens replace.
        grid: Reads (rows, cols) of the grid of image tokens.
        image_block: Reads the characters that stand for one image in the rendered chat.
        image_mark: Reads the characters that the chat template writes where an image goes.
        max_positions: Reads the longest sequence that the text model was made for.
        patches: Reads (rows, cols) of the vision tower's own patches.
    """

    architecture: str
    tower: str
    vision_layers: str
    projector: str
    text: str
    head: str
    image_token_id: Callable[[Any], int]
    grid: Callable[[Any], tuple[int, int]]
    patches: Callable[[Any], tuple[int, int]]
    image_block: Callable[[Any], str]
    image_mark: Callable[[Any], str]
    max_positions: Callable[[Any], int]


#: config.json's architecture -> facts. One file adds one entry.
FAMILIES: Registry[Family] = Registry("model architecture")


@dataclass
class Model:
    """A loaded vision-language model with its processor, ready to be asked and looked into.

    Attributes:
        name: As the user gave it ("demo", a hub id, a folder's name).
        revision: Commit of a hub checkpoint, or a digest of a folder's weights file names and sizes; with "+8bit" or
            "+4bit" after it where the weights were made smaller.
        hf: The transformers model, in eval mode, without parameter gradients.
        processor: The transformers processor.
        family: Facts of its architecture.
        is_demo: True for the embedded model, which knows simulated films only.
        versions: Library versions that the results depend on.
        fast: Whether the decoder runs as `lean` and `graphs` write it, as on a CUDA device; else as the library does.
    """

    name: str
    revision: str
    hf: Any
    processor: Any
    family: Family
    is_demo: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    fast: bool = False

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        return next(self.hf.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.hf.parameters()).dtype

    @property
    def weight_bytes(self) -> int:
        """What its weights take in memory."""
        return sum(weight.nbytes for weight in self.hf.parameters())

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, cols) of the image tokens."""
        return self.family.grid(self.hf.config)

    @property
    def text(self) -> Any:
        """The decoder: embeddings in, hidden states out."""
        return self.hf.get_submodule(self.family.text)

    @property
    def head(self) -> Any:
        """Hidden state -> logits over the vocabulary."""
        return self.hf.get_submodule(self.family.head)

    @property
    def vision_layers(self) -> Any:
        return self.hf.get_submodule(self.family.vision_layers)

    @property
    def projector(self) -> Any:
        return self.hf.get_submodule(self.family.projector)

    @property
    def n_layers(self) -> int:
        return int(self.text.config.num_hidden_layers)

    @property
    def n_heads(self) -> int:
        return int(self.text.config.num_attention_heads)

    @property
    def image_token_id(self) -> int:
        """The soft token's id, from the model's configuration; the processor's attribute is the begin-of-image id."""
        return self.family.image_token_id(self.hf.config)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The chat template's own stop tokens, as the checkpoint's generation settings list them."""
        stop = self.hf.generation_config.eos_token_id
        ids = stop if isinstance(stop, (list, tuple)) else [stop]
        return frozenset(int(i) for i in ids if i is not None)

    @cached_property
    def control_tokens(self) -> tuple[Mapping[str, int], re.Pattern[str]]:
        """Control tokens with their ids, and a pattern that finds them in text, the longest first."""
        known = {str(token): i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return known, re.compile("|".join(re.escape(token) for token in sorted(known, key=len, reverse=True)))

    @cached_property
    def yes_ids(self) -> tuple[int, ...]:
        """Every single token that spells "yes" in any case, with or without a leading space."""
        return self._spellings("yes")

    @cached_property
    def no_ids(self) -> tuple[int, ...]:
        """Every single token that spells "no" in any case, with or without a leading space."""
        return self._spellings("no")

    def _spellings(self, word: str) -> tuple[int, ...]:
        """Ids found in the vocabulary, never assumed; "▁" and "Ġ" are the tokenizers' marks for a space."""
        vocabulary: Mapping[str, int] = self.tokenizer.get_vocab()
        return tuple(sorted(i for token, i in vocabulary.items() if token.lstrip("▁Ġ ").casefold() == word))
