"""Gradient methods asked of picture and question at once: one gradient at all embeddings that the decoder receives.

Knows what stands at each position and how a method turns it into a number; knows nothing about shares or effects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.heatmaps.gradcam import pooled
from medgemma_visualizer.heatmaps.gradients import Activation, first_row, gradient_at
from medgemma_visualizer.heatmaps.hires_cam import channel_sums
from medgemma_visualizer.heatmaps.integrated_gradients import Path, integrate, points_at_once
from medgemma_visualizer.heatmaps.probing import baseline_for
from medgemma_visualizer.heatmaps.smoothgrad import check_noise, noise_generator
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.forward import decode_embeddings, embed, ensure_finite
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.progress import track


@dataclass(frozen=True)
class Embedded:
    """Picture and question as the decoder receives them.

    Attributes:
        values: (1, S, D).
        baseline: (1, S, D): the mean image token at image positions, the mean of the vocabulary elsewhere.
        positions: Image tokens, then the question's words.
    """

    values: torch.Tensor
    baseline: torch.Tensor
    positions: list[int]

    @property
    def change(self) -> torch.Tensor:
        """What baseline and input differ by, float32 (N + W, D)."""
        return (self.values.float() - self.baseline.float())[0, self.positions]


def embedded(reading: Reading, aim: Aim) -> Embedded:
    """The embeddings of prompt and forced answer, and what stands for "nothing" at each of them."""
    model, ids = reading.model, reading.ids(aim.forced)
    prompt = reading.prompt
    with torch.no_grad():
        values = embed(model, ids, reading.image_tokens)
        table = model.text.get_input_embeddings()
        some = ids[list(prompt.question_positions)[:1]]
        scale = table(some).float().norm() / table.weight[some].float().norm()  # Gemma scales its embeddings
        mean = (table.weight.mean(0, dtype=torch.float32) * scale).to(values.dtype)
        baseline = mean.expand_as(values).clone()
        baseline[:, list(prompt.image_positions)] = baseline_for(reading, "tokens")
    return Embedded(values, baseline, [*prompt.image_positions, *prompt.question_positions])


def scored(reading: Reading, aim: Aim, embeddings: torch.Tensor) -> torch.Tensor:
    """The target's score for embeddings (B, S, D): (B,), differentiable in them."""
    return aim.score(logits_of(reading, aim, embeddings))


def logits_of(reading: Reading, aim: Aim, embeddings: torch.Tensor) -> torch.Tensor:
    """Embeddings (B, S, D) -> logits (B, R, V) at the target's rows."""
    states = decode_embeddings(reading.model, embeddings, reading.ids(aim.forced))[:, list(aim.rows)]
    return ensure_finite(reading.model.head(states).float(), "the logits")


def gradient_of(reading: Reading, aim: Aim, inside: Embedded) -> Activation:
    """Embeddings and gradient of image tokens and words, float32 (N + W, D) each, in one row.

    Raises:
        UnavailableError: The gradient is zero at all of them.
        VisualizerError: It is not finite.
    """
    slope = gradient_at(lambda leaf: scored(reading, aim, leaf), inside.values)[1][0, inside.positions]
    if not bool(ensure_finite(slope, "the gradients").any()):
        raise UnavailableError(
            f"The gradient of {aim.target.text!r} is exactly zero at the picture and at the question's words: the "
            f"score of {reading.model.name!r} does not change with either."
        )
    return Activation(inside.values[0, inside.positions].float(), slope, (1, len(inside.positions)))


def token_gradient(reading: Reading, aim: Aim) -> torch.Tensor:
    """(embedding − baseline) · gradient at each position: (N + W,)."""
    inside = embedded(reading, aim)
    return (inside.change * gradient_of(reading, aim, inside).gradient).sum(-1)


def gradient_norm(reading: Reading, aim: Aim) -> torch.Tensor:
    """Length of the gradient at each position: (N + W,) ≥ 0."""
    return gradient_of(reading, aim, embedded(reading, aim)).gradient.norm(dim=-1)


def hires_cam(reading: Reading, aim: Aim) -> torch.Tensor:
    """embedding · gradient at each position: (N + W,)."""
    found = gradient_of(reading, aim, embedded(reading, aim))
    return channel_sums(found, reading.model.dtype, "picture and question")


def gradcam_multi_token(reading: Reading, aim: Aim) -> torch.Tensor:
    """Grad-CAM of one activation that holds picture and question: (N + W,) ≥ 0.

    The channel weights are pooled over all of its positions. Weights pooled over each side alone would be two
    methods, each with its own measure, whose numbers could not be compared; with the picture's weights alone the
    words' own gradients would not count at all.
    """
    cam = pooled(gradient_of(reading, aim, embedded(reading, aim))).relu()
    if not bool(cam.any()):
        raise UnavailableError(
            f"Grad-CAM of {aim.target.text!r} is zero everywhere after its ReLU: neither a place nor a word speaks for "
            "the target. Try hires_cam, which keeps signs."
        )
    return cam


def gradcam_single(reading: Reading, aim: Aim) -> torch.Tensor:
    """The same with the gradient of the target's first row alone."""
    return gradcam_multi_token(reading, first_row(aim))


def integrated_gradients(reading: Reading, aim: Aim, *, steps: int | None = None) -> torch.Tensor:
    """Mean gradient · change on the way on which picture and words appear together: (N + W,).

    Args:
        steps: As in the method; where None, until both sides add up to the whole difference within 1 %.
    """
    inside = embedded(reading, aim)
    start = inside.values.clone()
    start[:, inside.positions] = inside.baseline[:, inside.positions]
    path = Path(lambda at: scored(reading, aim, at), start, inside.values, points_at_once(reading, aim))
    return integrate(reading, aim, path, steps)[0][inside.positions].sum(-1)


def smoothgrad(reading: Reading, aim: Aim, *, samples: int = 16, noise: float = 0.15, seed: int = 0) -> torch.Tensor:
    """`token_gradient`, averaged over noise on image tokens and words: (N + W,).

    Args:
        samples, seed: As in the method.
        noise: σ as a share of each side's own root mean square distance from its baseline.
    """
    check_noise(samples, noise)
    clean = embedded(reading, aim)
    sigma = noise * _spread(clean, len(reading.prompt.image_positions))  # (N + W, 1)
    generator = noise_generator(seed)
    total = torch.zeros_like(sigma[:, 0])
    for _ in track(range(samples), total=samples, what="noisy copies"):
        jitter = torch.randn(clean.change.shape, generator=generator).to(sigma.device) * sigma
        noisy = _moved(reading, clean, jitter)
        total += (noisy.change * gradient_of(reading, aim, noisy).gradient).sum(-1)
    return total / samples


def _spread(inside: Embedded, n_image: int) -> torch.Tensor:
    """Root mean square distance from the baseline, of the image tokens and of the words: float32 (N + W, 1)."""
    sides = inside.change[:n_image], inside.change[n_image:]
    return torch.cat([side.square().mean().sqrt().expand(len(side), 1) for side in sides])


def _moved(reading: Reading, inside: Embedded, jitter: torch.Tensor) -> Embedded:
    """With jitter (N + W, D) on it; the image tokens' baseline is the mean of the moved ones."""
    values, baseline = inside.values.clone(), inside.baseline.clone()
    values[0, inside.positions] = (values[0, inside.positions].float() + jitter).to(values.dtype)
    image = list(reading.prompt.image_positions)
    baseline[:, image] = values[:, image].float().mean(1, keepdim=True).to(values.dtype)
    return replace(inside, values=values, baseline=baseline)


#: Methods by the numbers that they give image tokens and words: (N + W,), the image tokens first.
BY_GRADIENT: dict[str, Callable[..., torch.Tensor]] = {
    "gradcam_multi_token": gradcam_multi_token,
    "gradcam_single": gradcam_single,
    "gradient_norm": gradient_norm,
    "hires_cam": hires_cam,
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "token_gradient": token_gradient,
}
