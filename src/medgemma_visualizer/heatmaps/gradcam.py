"""Grad-CAM (Selvaraju 2017; specification 5.2.2 and 8.3): channels weighted by their mean gradient, then summed.

The one idea: a channel matters as much as the score's gradient in it, averaged over all positions. What speaks against
the target is cut off by the ReLU. Rows come from teacher forcing: the token at p is scored at row p − 1.
"""

from __future__ import annotations

import torch

from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.heatmaps.gradients import Activation, Layer, at_layer, first_row, layers_used, to_grid
from medgemma_visualizer.heatmaps.methods import RawMap, method
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading

_PAPER = "Selvaraju 2017 (Grad-CAM)"


@method(
    "gradcam_multi_token", label="Grad-CAM Multi-Token", needs="gradient", cost="1 forward, 1 backward", paper=_PAPER
)
def gradcam_multi_token(reading: Reading, aim: Aim, *, layer: Layer = "projector") -> RawMap:
    """Grad-CAM of the whole target: its score over all rows, p − 1 for each token.

    Args:
        layer: A vision layer, negative counted from the last one, or "projector": the image tokens themselves.

    Returns:
        A map ≥ 0 in the units of the score, larger is more for the target; patches are averaged by area per cell.

    Raises:
        InputError: No such layer.
        UnavailableError: The gradient is zero or not finite, or every position speaks against the target.
    """
    found = at_layer(reading, aim, layer)
    cam = pooled(found).relu()  # (P,)
    if not bool(cam.any()):
        raise UnavailableError(
            f"Grad-CAM of {aim.target.text!r} at layer {layer!r} is zero everywhere after its ReLU: no position speaks "
            "for the target. Try another layer, or hires_cam, which keeps signs."
        )
    return RawMap(to_grid(reading, cam, found.grid), layers_used(reading.model, layer), None, {"layer": layer})


@method("gradcam_single", label="Grad-CAM Single", needs="gradient", cost="1 forward, 1 backward", paper=_PAPER)
def gradcam_single(reading: Reading, aim: Aim, *, layer: Layer = "projector") -> RawMap:
    """Grad-CAM of the target's first token: as `gradcam_multi_token`, with the gradient of the first row alone.

    For targets of one row (contrast, p_yes, a single token) the two are the same.

    Raises:
        InputError: No such layer.
        UnavailableError: As `gradcam_multi_token`.
    """
    return gradcam_multi_token(reading, first_row(aim), layer=layer)


def pooled(found: Activation) -> torch.Tensor:
    """Σ_k α_k A_k with α_k the mean gradient of channel k: (P, D) -> (P,)."""
    return found.values @ found.gradient.mean(0)
