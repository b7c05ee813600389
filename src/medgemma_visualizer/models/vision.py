"""The image tokens of one picture on a CUDA device: launched once, then captured and replayed as in `graphs`.

A tower of 27 layers is some five hundred launches; where the processor is slow they take longer than the work itself.
Knows the tower and its buffers; knows nothing about prompts, answers or maps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.graphs import Replay, bytes_of, engine_of
from medgemma_visualizer.models.parts import Parts

#: Pixel values (1, 3, height, width) -> image tokens (1, N, D).
Encode = Callable[[torch.Tensor], torch.Tensor]


class _Tower:
    """The tower of a model for pictures of one size, with the buffers that its captured pass reads and writes."""

    def __init__(self, model: Model, values: torch.Tensor) -> None:
        self.parts = Parts(*_roots(model))
        self._like, self._replay = _kind(values), Replay(values.device)
        self._values, self._tokens = torch.zeros_like(values), torch.empty(0)

    @property
    def bytes(self) -> int:
        """What its buffers and its captured pass hold."""
        return bytes_of(vars(self)) + self._replay.bytes

    def fits(self, model: Model, values: torch.Tensor) -> bool:
        """Whether it reads pictures like this one, with the tower that the model has now."""
        return _kind(values) == self._like and self.parts.unchanged(*_roots(model))

    def tokens(self, values: torch.Tensor, encode: Encode) -> torch.Tensor:
        """As `encode`, in a tensor of its own."""

        def work() -> None:
            self._tokens = encode(self._values)

        self._values.copy_(values)
        self._replay.do("tokens", {"tokens": work}, {"tokens": lambda: self._tokens}, [])
        return self._tokens.clone()


def _roots(model: Model) -> tuple[Any, Any]:
    """The tower and its projector."""
    return model.hf.get_submodule(model.family.tower), model.projector


def _kind(values: torch.Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return values.shape, values.dtype, values.device


def captured_tokens(model: Model, values: torch.Tensor, encode: Encode) -> torch.Tensor | None:
    """Image tokens (1, N, D) of one picture by the captured pass; None where the tower has to be launched.

    That is where gradients are on, where no fast decoder would read the tokens (`engine_of`), for several pictures at
    once, whose work outlasts its launching, and where another attention or hooks are lent to the tower.
    """
    if values.shape[0] != 1 or torch.is_grad_enabled():
        return None
    engine = engine_of(model)
    if engine is None or _roots(model)[0].config._attn_implementation != "sdpa":
        return None
    with engine.lock:
        if engine.tower is None or not engine.tower.fits(model, values):
            engine.tower = _Tower(model, values)
        tower: _Tower = engine.tower
        return None if tower.parts.hooked() else tower.tokens(values, encode)
