"""SmoothGrad (Smilkov 2017): a gradient method's map, averaged over noisy copies of the image tokens.

The one idea: gradients fluctuate over distances that mean nothing; the average over a neighbourhood does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps.gradients import with_tokens
from medgemma_visualizer.heatmaps.methods import METHODS, RawMap, check_options, method
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.progress import track


@method(
    "smoothgrad",
    label="SmoothGrad",
    needs="gradient",
    cost="16 times its base method",
    paper="Smilkov 2017",
    signed=True,
)
def smoothgrad(
    reading: Reading,
    aim: Aim,
    *,
    base: str = "token_gradient",
    samples: int = 16,
    noise: float = 0.15,
    seed: int = 0,
    **options: Any,
) -> RawMap:
    """The mean map of `base` over Gaussian noise on the image tokens; the same seed gives the same map.

    Args:
        base: A gradient method that starts from the image tokens.
        samples: Noisy copies, at least 1.
        noise: σ as a share of the tokens' standard deviation about their mean token, > 0.
        seed: Of the noise.
        **options: Passed to `base`.

    Returns:
        A map in the units of `base`, with both signs where `base` has them.

    Raises:
        InputError: `base` is no gradient method or would not see the noise; samples, noise or seed out of range.
        UnavailableError: As `base`.
    """
    _check(base, samples, noise, options)
    tokens = reading.image_tokens
    centred = tokens.float() - tokens.float().mean(1, keepdim=True)
    sigma = noise * float(centred.square().mean().sqrt())
    generator = noise_generator(seed)
    total = np.zeros(reading.model.grid)
    for _ in track(range(samples), total=samples, what="noisy copies"):
        jitter = sigma * torch.randn(tokens.shape, generator=generator)
        noisy = with_tokens(reading, (tokens.float() + jitter.to(tokens.device)).to(tokens.dtype))
        total += METHODS[base].compute(noisy, aim, **options).values
    extras = {"base": base, "samples": samples, "sigma": sigma, "seed": seed}
    return RawMap((total / samples).astype(np.float32), extras=extras)


def _check(base: str, samples: int, noise: float, options: dict[str, Any]) -> None:
    if METHODS[base].needs != "gradient" or base == "smoothgrad":
        raise InputError(f"smoothgrad needs a gradient method as its base, not {base!r}; try 'token_gradient'.")
    check_options([base], options)
    check_noise(samples, noise)
    if options.get("layer", "projector") != "projector" or options.get("space", "tokens") != "tokens":
        raise InputError(
            "smoothgrad puts its noise on the image tokens; its base must start there (no vision layer, no pixels)."
        )


def noise_generator(seed: int) -> torch.Generator:
    """Of noise, on the CPU, so that every device draws the same.

    Raises:
        InputError: A seed that it cannot start from.
    """
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}; give a whole number of at least 0 and below 2 to the 63.")
    return torch.Generator().manual_seed(int(seed))


def check_noise(samples: int, noise: float) -> None:
    """Raises where there is nothing to average.

    Raises:
        InputError: samples or noise out of range.
    """
    if samples < 1 or not noise > 0:
        raise InputError(f"smoothgrad needs samples ≥ 1 and noise > 0, not {samples!r} and {noise!r}.")
