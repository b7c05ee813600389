"""HiResCAM (Draelos & Carin 2020): gradient times activation, place by place.

The one idea: without pooling, a place is never credited for what its channels do elsewhere. Signs are kept.
"""

from __future__ import annotations

import torch

from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.heatmaps.gradients import Activation, Layer, at_layer, layers_used, to_grid
from medgemma_visualizer.heatmaps.methods import RawMap, method
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading


@method(
    "hires_cam",
    label="HiResCAM",
    needs="gradient",
    cost="1 forward, 1 backward",
    paper="Draelos & Carin 2020 (HiResCAM)",
    signed=True,
)
def hires_cam(reading: Reading, aim: Aim, *, layer: Layer = "projector") -> RawMap:
    """Σ_k gradient_k · activation_k at each position, averaged by area per cell.

    Args:
        layer: A vision layer, negative counted from the last one, or "projector": the image tokens themselves.

    Returns:
        A signed map in the units of the score; positive speaks for the target.

    Raises:
        InputError: No such layer.
        UnavailableError: The gradient is zero or not finite; or a normalisation follows the layer (as it does the last
            one of SigLIP), which makes gradient · activation zero by Euler's theorem.
    """
    found = at_layer(reading, aim, layer)
    values = channel_sums(found, reading.model.dtype, f"layer {layer!r}")  # (P,)
    return RawMap(to_grid(reading, values, found.grid), layers_used(reading.model, layer), None, {"layer": layer})


def channel_sums(found: Activation, dtype: torch.dtype, where: str) -> torch.Tensor:
    """Σ_k gradient_k · activation_k: (P, D) -> (P,).

    Args:
        dtype: What the model computes in, for what counts as rounding.
        where: For the message.

    Raises:
        UnavailableError: The products cancel at every position.
    """
    products = found.values * found.gradient  # (P, D)
    values = products.sum(-1)  # (P,)
    rounding = max(1e-5, torch.finfo(dtype).eps / 4) * products.abs().sum(-1).max()
    if bool(values.abs().max() <= rounding):
        raise UnavailableError(
            f"Gradient times activation cancels to rounding noise at every position of {where}: a "
            "normalisation follows it, so the score does not change when an activation is scaled. Choose an "
            "earlier layer or another method."
        )
    return values
