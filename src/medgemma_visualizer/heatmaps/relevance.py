"""Relevance through attention (Chefer 2021): each layer's attention weighted by the score's gradient in it.

The one idea: R ← R + E_h[(∇A ⊙ A)⁺] R from the lowest layer to the top. Only the target's rows of R are wanted, so a
row vector is carried from the top layer down: v ← v + v E_h[(∇A ⊙ A)⁺].
"""

from __future__ import annotations

import torch

from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.heatmaps.attention_rollout import start
from medgemma_visualizer.heatmaps.gradients import checked, refuse_blind
from medgemma_visualizer.heatmaps.methods import RawMap, method, on_grid
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.heatmaps.ways import way_to
from medgemma_visualizer.models.reading import Reading


@method("relevance", label="Relevance", needs="gradient", cost="1 forward, 1 backward", paper="Chefer 2021")
def relevance(reading: Reading, aim: Aim) -> RawMap:
    """Relevance of each image token for the target, averaged over the target's rows (p − 1).

    Returns:
        A map ≥ 0, larger is more relevant. Extras hold the same numbers for the question's words
        (`question_relevance` at `question_positions`) and the share of the image in the sum of both (`image_share`,
        in [0, 1]).

    Raises:
        UnavailableError: The gradient is zero or not finite, or nothing on the way from the image has a positive part.
    """
    refuse_blind(reading, aim)
    layers = _weighted(reading, aim)
    first = start(layers[0].shape[0], aim.rows, layers[0].device)  # (S,)
    flow = first
    for attention in reversed(layers):
        flow = flow + flow @ attention
    flow = flow - first  # what the rows hold of themselves is no relevance
    image = flow[list(reading.prompt.image_positions)]
    if not bool(image.any()):
        raise UnavailableError(f"No path from the image to {aim.target.text!r} has a positive gradient.")
    return RawMap(on_grid(reading, image.cpu()), tuple(range(len(layers))), None, _beside_words(reading, flow, image))


def _weighted(reading: Reading, aim: Aim) -> list[torch.Tensor]:
    """E_h[(∇A ⊙ A)⁺] of every layer, lowest first, float32 (S, S)."""
    largest = []

    def combine(weight: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        largest.append(torch.stack(slope.aminmax()).abs().max())  # in one pass, and not a number where one is not
        return slope.mul_(weight).relu_().mean(0)

    layers = way_to(reading, aim, attention=True).over_attention(aim, combine)
    checked(reading, aim, torch.stack(largest))
    return layers


def _beside_words(reading: Reading, flow: torch.Tensor, image: torch.Tensor) -> dict[str, object]:
    """The question's words by the same measure."""
    positions = reading.prompt.question_positions
    words = [float(value) for value in flow[list(positions)]]
    on_image = float(image.sum())
    share = on_image / (on_image + sum(words))
    return {"question_positions": positions, "question_relevance": words, "image_share": share}
