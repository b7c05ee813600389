"""Activation norm (specification 5.2.3): how large the vision tower's output is at each place.

The one idea: large activations stand out. The question never enters, so the map is the same for any question.
"""

from __future__ import annotations

from medgemma_visualizer.heatmaps.gradients import Layer, layers_used, output_of, to_grid
from medgemma_visualizer.heatmaps.methods import RawMap, method
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading


@method(
    "activation_norm",
    label="Activation Norm",
    needs="activation",
    cost="1 pass of the vision tower",
    paper="specification 5.2.3",
    text_dependent=False,
)
def activation_norm(reading: Reading, aim: Aim, *, layer: Layer = -1) -> RawMap:
    """Euclidean length of the activation at each position, averaged by area per cell.

    Args:
        aim: Not used: the map does not depend on the target.
        layer: A vision layer, negative counted from the last one, or "projector": the image tokens.

    Returns:
        A map ≥ 0 in the activation's units. It says nothing about the answer.

    Raises:
        InputError: No such layer.
    """
    values, shape = output_of(reading, layer)  # (P, D)
    norms = values.norm(dim=-1)  # (P,)
    return RawMap(to_grid(reading, norms, shape), layers_used(reading.model, layer), None, {"layer": layer})
