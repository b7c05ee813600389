"""Gradients at the image tokens: times the difference from a baseline (Shrikumar 2017), or their norm (Simonyan 2014).

The one idea: to first order, replacing a token by the baseline changes the score by (token − baseline) · gradient.
"""

from __future__ import annotations

from medgemma_visualizer.heatmaps.gradients import at_tokens
from medgemma_visualizer.heatmaps.methods import RawMap, method, on_grid
from medgemma_visualizer.heatmaps.probing import Baseline, baseline_for
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading


@method(
    "token_gradient",
    label="Token × Gradient",
    needs="gradient",
    cost="1 forward, 1 backward",
    paper="Shrikumar 2017 (gradient × input)",
    signed=True,
)
def token_gradient(reading: Reading, aim: Aim, *, baseline: Baseline = "mean") -> RawMap:
    """(token − baseline) · gradient for each image token.

    Args:
        baseline: "mean" of the picture's own tokens, "blur" for those of a blurred picture, "zero" (then it is HiResCAM
            at the projector's output), or a tensor (1, N, D).

    Returns:
        A signed map in the units of the score; its sum estimates, to first order, what the score loses when every
        token becomes the baseline. Positive speaks for the target.

    Raises:
        InputError: No such baseline.
        UnavailableError: The gradient is zero or not finite.
    """
    change = reading.image_tokens.float() - baseline_for(reading, "tokens", baseline).float()  # (1, N, D)
    values = (change * at_tokens(reading, aim)).sum(-1)[0]  # (N,)
    return RawMap(on_grid(reading, values.cpu()), extras={"sum": float(values.sum())})


@method(
    "gradient_norm",
    label="Gradient Norm",
    needs="gradient",
    cost="1 forward, 1 backward",
    paper="Simonyan 2014 (saliency)",
)
def gradient_norm(reading: Reading, aim: Aim) -> RawMap:
    """Length of the score's gradient at each image token: how fast the score can change there, in whichever direction.

    Returns:
        A map ≥ 0, in the units of the score per unit of the token.

    Raises:
        UnavailableError: The gradient is zero or not finite.
    """
    return RawMap(on_grid(reading, at_tokens(reading, aim)[0].norm(dim=-1).cpu()))
