"""The image tokens of one picture on a CUDA device: launched once, then captured and replayed as in `graphs`.

A tower of 27 layers is some five hundred launches; where the processor is slow they take longer than the work itself.
Knows the tower and its buffers; knows nothing about prompts, answers or maps.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch

from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.graphs import Replay, engine_of

#: Pixel values (1, 3, height, width) -> image tokens (1, N, D).
Encode = Callable[[torch.Tensor], torch.Tensor]

#: Hooks of the library that do nothing until its own callers ask for a layer's output.
_WAITING_HOOKS = "transformers.utils.output_capturing"


class _Tower:
    """The tower of a model for pictures of one size, with the buffers that its captured pass reads and writes."""

    def __init__(self, model: Model, values: torch.Tensor) -> None:
        parts = (model.hf.get_submodule(model.family.tower), model.projector)
        self._modules = [module for part in parts for module in part.modules()]
        self._weights = [weight for part in parts for weight in (*part.parameters(), *part.buffers())]
        self._places, self._like = self._now(), (values.shape, values.dtype, values.device)
        self._replay = Replay(values.device)
        self._values, self._tokens = torch.zeros_like(values), torch.empty(0)

    def _now(self) -> list[int]:
        return [weight.data_ptr() for weight in self._weights]

    def fits(self, values: torch.Tensor) -> bool:
        """Whether it reads pictures like this one, and its weights lie where they lay."""
        return (values.shape, values.dtype, values.device) == self._like and self._now() == self._places

    def watched(self) -> bool:
        """Whether somebody's hooks wait for the tower's own passes, which a replay would not call."""
        hooks = (h for m in self._modules for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values()))
        return any(getattr(hook, "__module__", None) != _WAITING_HOOKS for hook in hooks)

    def tokens(self, values: torch.Tensor, encode: Encode) -> torch.Tensor:
        """As `encode`, in a tensor of its own."""

        def work() -> None:
            self._tokens = encode(self._values)

        self._values.copy_(values)
        self._replay.do("tokens", {"tokens": work}, {"tokens": lambda: self._tokens}, [])
        return self._tokens.clone()


def _aside(device: torch.device) -> bool:
    """Whether work goes to another stream than the device's usual one."""
    return device.type == "cuda" and torch.cuda.current_stream(device) != torch.cuda.default_stream(device)


_towers: weakref.WeakKeyDictionary[Any, _Tower] = weakref.WeakKeyDictionary()
_one_at_a_time = threading.Lock()


def captured_tokens(model: Model, values: torch.Tensor, encode: Encode) -> torch.Tensor | None:
    """Image tokens (1, N, D) of one picture by the captured pass; None where the tower has to be launched.

    That is where gradients are on, where the model is not to be fast or another attention is lent to it, for several
    pictures at once, whose work outlasts its launching, on a stream of the caller's own, which would write into buffers
    that the usual one still reads, and where hooks wait in the tower.
    """
    if values.shape[0] != 1 or torch.is_grad_enabled() or _aside(values.device) or engine_of(model) is None:
        return None
    if model.hf.get_submodule(model.family.tower).config._attn_implementation != "sdpa":
        return None
    with _one_at_a_time:
        tower = _towers.get(model.hf)
        if tower is None or not tower.fits(values):
            tower = _towers[model.hf] = _Tower(model, values)
        return None if tower.watched() else tower.tokens(values, encode)
