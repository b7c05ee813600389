"""Several readings answered in one pass and differentiated in one way back, for runs over many cases.

Gradients of different pictures do not mix: the sum of their scores has in each picture's tokens the slope of its own
score. Knows readings and targets; which methods ask for what was found here is theirs to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from medgemma_visualizer.errors import VisualizerError
from medgemma_visualizer.heatmaps.methods import METHODS
from medgemma_visualizer.heatmaps.targets import Aim, resolve
from medgemma_visualizer.heatmaps.ways import Way, differentiate, sharing
from medgemma_visualizer.models.batches import Batch
from medgemma_visualizer.models.reading import Reading


class Known(Way):
    """The way to one target of one reading, whose gradient at the image tokens is there already.

    Args:
        reading: The picture and question.
        aim: This very target.
        gradient: float32 (1, N, D).
    """

    def __init__(self, reading: Reading, aim: Aim, gradient: torch.Tensor) -> None:
        super().__init__(reading, aim.forced, aim.rows)
        self.aim, self.gradient = aim, gradient

    def leads_to(self, reading: Reading, aim: Aim) -> bool:
        return reading is self.reading and aim is self.aim

    def slopes(self, aim: Aim, leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if aim is self.aim and len(leaves) == 1 and leaves[0] is self.leaf:
            return [self.gradient]
        return super().slopes(aim, leaves)


@dataclass(frozen=True)
class Joint:
    """A reading that was answered together with others.

    Attributes:
        reading: With its answer.
        aim: Its target, None where it has no such target; `resolve` says why.
        way: To the target, where it was differentiated.
        batch: Keeps the attention of all, as long as somebody holds it.
    """

    reading: Reading
    aim: Aim | None
    way: Known | None
    batch: Batch

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside the block methods find the gradient that is there already."""
        if self.way is None:
            yield
        else:
            with sharing(self.way):
                yield


def answer_together(readings: Sequence[Reading], target: str | None, methods: Sequence[str]) -> list[Joint]:
    """Answers readings that `batches.go_together`, and differentiates their targets where a method will ask for it.

    Raises:
        VisualizerError: A logit is not finite.
    """
    batch = Batch(readings)
    aims = [_aim(reading, target) for reading in readings]
    ways = _ways(batch, aims) if any(METHODS[name].needs == "gradient" for name in methods) else [None] * len(aims)
    batch.forget()
    return [Joint(*found, batch) for found in zip(readings, aims, ways, strict=True)]


def _aim(reading: Reading, target: str | None) -> Aim | None:
    try:
        return resolve(reading, target)
    except VisualizerError:  # told where this reading is explained
        return None


def _ways(batch: Batch, aims: Sequence[Aim | None]) -> list[Known | None]:
    """One way back for all targets."""
    first = batch.readings[0].prompt.image_positions[0]
    asked = [aim if aim is not None and max(aim.rows) >= first else None for aim in aims]
    there = [n for n, aim in enumerate(asked) if aim is not None]
    if not there:
        return [None] * len(aims)
    logits = batch.logits([aim.forced if aim else () for aim in asked], [aim.rows if aim else (0,) for aim in asked])
    with torch.enable_grad():
        scores = [aim.score(logits[n]).sum() for n, aim in enumerate(asked) if aim is not None]
        gradient = differentiate(torch.stack(scores).sum(), [batch.leaf])[0]  # (B, N, D)
    ways: list[Known | None] = [None] * len(aims)
    for n in there:
        aim = asked[n]
        assert aim is not None
        ways[n] = Known(batch.readings[n], aim, gradient[n : n + 1])
    return ways
