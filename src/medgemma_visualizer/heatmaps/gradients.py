"""The gradient of a target's score at one activation: image tokens, a vision layer, or pixels.

Knows how to differentiate without touching the model: the activation is cut out of the graph and only it requires a
gradient, so no parameter ever gets one and the layers before it keep nothing. Knows nothing about maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.grid import downsample
from medgemma_visualizer.heatmaps.targets import Aim, score_tokens
from medgemma_visualizer.heatmaps.ways import differentiate, way_to
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.forward import image_tokens
from medgemma_visualizer.models.reading import Reading

#: A vision layer's index, negative counted from the last one, or the projector's output (the image tokens).
Layer = int | Literal["projector"]


@dataclass(frozen=True)
class Activation:
    """An activation and the gradient of the score in it.

    Attributes:
        values: float32 (P, D).
        gradient: float32 (P, D).
        grid: (rows, cols) of the P positions, in reading order.
    """

    values: torch.Tensor
    gradient: torch.Tensor
    grid: tuple[int, int]


def gradient_at(score: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (B,) and their gradient at a batch of inputs: float32, of the shape of `at`.

    Args:
        score: Inputs (B, …) -> (B,), each score depending on its own input only.
        at: (B, …).
    """
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        scores = score(leaf)
        return scores.detach().float(), differentiate(scores.sum(), [leaf])[0]


def at_tokens(reading: Reading, aim: Aim, tokens: torch.Tensor | None = None) -> torch.Tensor:
    """Gradient of the score at image tokens (B, N, D), the picture's own where None: float32 (B, N, D).

    Raises:
        UnavailableError: As `checked`.
    """
    refuse_blind(reading, aim)
    if tokens is None:
        way = way_to(reading, aim)
        return checked(reading, aim, way.slopes(aim, [way.leaf])[0])
    return checked(reading, aim, gradient_at(lambda leaf: score_tokens(reading, aim, leaf), tokens)[1])


def at_layer(reading: Reading, aim: Aim, layer: Layer) -> Activation:
    """A layer's output for the picture with the gradient of the score in it.

    Raises:
        InputError: No such layer.
        UnavailableError: As `checked`.
    """
    if layer == "projector":
        return Activation(reading.image_tokens[0].float(), at_tokens(reading, aim)[0], reading.model.grid)
    refuse_blind(reading, aim)
    with torch.enable_grad(), _output(reading.model, layer, as_leaf=True) as found:
        score = score_tokens(reading, aim, image_tokens(reading.model, reading.pixel_values))
        gradient = checked(reading, aim, differentiate(score.sum(), found)[0])
    return Activation(found[0].detach()[0].float(), gradient[0], _patches(reading.model))


def output_of(reading: Reading, layer: Layer) -> tuple[torch.Tensor, tuple[int, int]]:
    """A layer's output for the picture, float32 (P, D), and the (rows, cols) of its positions; nothing is asked.

    Raises:
        InputError: No such layer.
    """
    if layer == "projector":
        return reading.image_tokens[0].float(), reading.model.grid
    with torch.no_grad(), _output(reading.model, layer) as found:
        image_tokens(reading.model, reading.pixel_values)
    return found[0][0].float(), _patches(reading.model)


@contextmanager
def _output(model: Model, layer: int, *, as_leaf: bool = False) -> Iterator[list[torch.Tensor]]:
    """Keeps a vision layer's output (1, P, D); as a leaf, the graph begins there. The hook is always taken off."""
    found: list[torch.Tensor] = []

    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        found.append(output.detach().requires_grad_(as_leaf))
        return found[-1]

    handle = model.vision_layers[vision_index(model, layer)].register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


def vision_index(model: Model, layer: int) -> int:
    """A vision layer's index from 0.

    Raises:
        InputError: No such layer.
    """
    count = len(model.vision_layers)
    if isinstance(layer, bool) or not isinstance(layer, int) or not -count <= layer < count:
        raise InputError(
            f"There is no vision layer {layer!r}: the model has {count}, 0 to {count - 1}; or give 'projector'."
        )
    return layer % count


def layers_used(model: Model, layer: Layer) -> tuple[int, ...] | None:
    """What a record says about the layer: its index from 0, or None for the projector's output."""
    return None if layer == "projector" else (vision_index(model, layer),)


def _patches(model: Model) -> tuple[int, int]:
    return model.family.patches(model.hf.config)


def to_grid(reading: Reading, values: torch.Tensor, shape: tuple[int, int]) -> np.ndarray:
    """Values (P,) of a (rows, cols) arrangement, averaged by area over the model's own grid: float32 (rows, cols)."""
    laid_out = values.detach().cpu().double().numpy().reshape(shape)
    return downsample(laid_out, *reading.model.grid).astype(np.float32)


def with_tokens(reading: Reading, tokens: torch.Tensor) -> Reading:
    """The same question to the same model with other image tokens (1, N, D) in the picture's place."""
    other = replace(reading)
    other.__dict__["image_tokens"] = tokens  # where cached_property keeps what it has computed
    return other


def first_row(aim: Aim) -> Aim:
    """The same score as a function of the target's first row alone; the other rows count but are held fixed."""

    def score(logits: torch.Tensor) -> torch.Tensor:
        return aim.score(torch.cat([logits[:, :1], logits[:, 1:].detach()], dim=1))

    return replace(aim, score=score)


def refuse_blind(reading: Reading, aim: Aim) -> None:
    """Refuses targets and models for which nothing in the picture can reach the score.

    Raises:
        UnavailableError: All rows come before the image, or the projector writes the same token everywhere.
    """
    if max(aim.rows) < reading.prompt.image_positions[0]:
        raise UnavailableError(
            f"{aim.target.text!r} is predicted before the image is read; a decoder reads forwards, so the picture "
            "cannot matter to it. Put the image first."
        )
    tokens = reading.image_tokens
    if not bool(torch.isfinite(tokens).all()):
        raise UnavailableError("The image tokens are not finite. Load the model with dtype='float32' and try again.")
    if bool((tokens == tokens[:, :1]).all()):
        raise UnavailableError(
            f"All image tokens of {reading.model.name!r} are the same, so no place of the picture differs from "
            "another; its projector is not trained."
        )


def checked(reading: Reading, aim: Aim, gradient: torch.Tensor) -> torch.Tensor:
    """Returns a gradient that is finite and not zero.

    Raises:
        UnavailableError: It is not finite, or exactly zero everywhere.
    """
    if not bool(torch.isfinite(gradient).all()):
        raise UnavailableError(
            f"The gradient of {aim.target.text!r} is not finite. Load the model with dtype='float32' and try again."
        )
    if not bool(gradient.any()):
        raise UnavailableError(
            f"The gradient of {aim.target.text!r} at the picture is exactly zero: the score of {reading.model.name!r} "
            "does not change with it."
        )
    return gradient
