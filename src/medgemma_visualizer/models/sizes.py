"""How much memory a model's weights take in each number format, known before any of them is read.

Knows the headers of safetensors files and how large the known models are; loads nothing and asks no device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

#: Bytes of one number in matrices that bitsandbytes packs, the scales of 4 bits' blocks of 64 included.
QUANTIZERS = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}


@dataclass(frozen=True)
class Size:
    """Numbers of a model.

    Attributes:
        matrices: In those of linear layers, which quantisation packs.
        others: In tables, norms, filters and the head, which it leaves.
    """

    matrices: int
    others: int

    def gib(self, number: torch.dtype, quantize: str | None = None) -> float:
        """GiB of all weights in a number format, or with matrices packed."""
        packed = number.itemsize if quantize is None else QUANTIZERS[quantize]
        return (self.matrices * packed + self.others * number.itemsize) / 2**30


_4B, _27B = Size(3_619_713_024, 680_366_448), Size(26_009_432_064, 1_422_974_576)
#: Of the checkpoints that `loading.KNOWN_MODELS` names, by their configurations.
KNOWN_SIZES = {
    "google/medgemma-4b-it": _4B,
    "google/medgemma-1.5-4b-it": _4B,
    "google/medgemma-27b-it": _27B,
    "google/gemma-3-4b-it": _4B,
}


def size_of(folder: Path | None, source: str = "") -> Size | None:
    """Size of a folder's weights, or of a known checkpoint of the hub where None; None where it cannot be told."""
    if folder is None:
        return KNOWN_SIZES.get(source)
    matrices = others = 0
    try:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as data:
                for name in data.keys():  # noqa: SIM118  (it is no mapping)
                    shape = data.get_slice(name).get_shape()
                    if _is_packed(name, shape):
                        matrices += math.prod(shape)
                    else:
                        others += math.prod(shape)
    except (OSError, SafetensorError):  # loading says what is wrong with them
        return None
    return Size(matrices, others)


def _is_packed(name: str, shape: list[int]) -> bool:
    return len(shape) == 2 and name.endswith(".weight") and "embed" not in name and "lm_head" not in name


def smaller(size: Size | None, number: torch.dtype, quantize: str | None, gib: float = math.inf) -> str:
    """Ways to load the same weights smaller than so, within so many GiB, in words; "" where there is none."""
    told = []
    for words, packed in _ways(number, quantize):
        taken = None if size is None else size.gib(torch.bfloat16, packed)
        if taken is None:
            told.append(words)
        elif taken <= gib:
            told.append(f"{words} ({taken:.1f} GiB)")
    return " or ".join(told)


def _ways(number: torch.dtype, quantize: str | None) -> Iterator[tuple[str, str | None]]:
    """What to say, and how matrices are then packed."""
    if quantize is None and number == torch.float32:
        yield "dtype='bfloat16'", None
    if quantize is None:
        yield "quantize='8bit'", "8bit"
    if quantize != "4bit":
        yield "quantize='4bit'", "4bit"
