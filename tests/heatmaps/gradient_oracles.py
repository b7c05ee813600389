"""What gradient methods are held against: the model's own forward from its pixels, and captum's view of one layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading


def score_of_pixels(reading: Reading, aim: Aim) -> Callable[[torch.Tensor], torch.Tensor]:
    """Pixels (B, 3, height, width) -> scores (B,), through the library's own full forward."""
    ids = reading.ids(aim.forced)

    def score(pixels: torch.Tensor) -> torch.Tensor:
        many = ids.expand(len(pixels), -1)
        kinds = (many == reading.model.image_token_id).long()
        out = reading.model.hf(input_ids=many, pixel_values=pixels, token_type_ids=kinds, use_cache=False)
        return aim.score(out.logits[:, list(aim.rows)].float())

    return score


@contextmanager
def channels_first(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Lends a module's output (B, P, D) to captum as (B, D, P), the layout that its Grad-CAM pools over."""
    probe = torch.nn.Identity()

    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return probe(output.transpose(1, 2)).transpose(1, 2)

    handle = module.register_forward_hook(hook)
    try:
        yield probe
    finally:
        handle.remove()
