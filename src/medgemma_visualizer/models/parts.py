"""Whether modules are still what they were: what was captured of them is theirs only as long as they are.

A graph that is replayed reads weights where they lay and calls nobody's hooks. Weights that are written in place are
read as they are; weights or layers that are moved, replaced or wrapped, and hooks, are found here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.modules import module as _everywhere

#: Hooks of the library that do nothing until its own callers ask for a layer's output.
_WAITING_HOOKS = "transformers.utils.output_capturing"

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Parts:
    """Modules with all that is inside them, as they are at this moment."""

    def __init__(self, *roots: torch.nn.Module) -> None:
        self._roots = roots
        modules = list(dict.fromkeys(module for root in roots for module in root.modules()))
        self._holders = [held for m in modules for held in (m._parameters, m._buffers, m._modules)]
        self._entries = [(held, name, thing) for held in self._holders for name, thing in held.items()]
        self._own = [vars(module) for module in modules]
        self._hooks = [vars(module)[kind] for module in modules for kind in _HOOKS]
        self._hooks += [vars(_everywhere)[f"_global{kind}"] for kind in _HOOKS]
        self.weights = [thing for _, _, thing in self._entries if isinstance(thing, torch.Tensor)]
        self._places = self._places_now()

    def _places_now(self) -> list[int]:
        return [weight.data_ptr() for weight in self.weights]

    def unchanged(self, *roots: torch.nn.Module) -> bool:
        """Whether these are the same modules, with the same weights and layers in the same places."""
        return (
            all(one is other for one, other in zip(roots, self._roots, strict=True))
            and sum(map(len, self._holders)) == len(self._entries)
            and all(held.get(name) is thing for held, name, thing in self._entries)
            and self.in_place()
        )

    def in_place(self) -> bool:
        """Whether the weights lie where they lay."""
        return self._places_now() == self._places

    def hooked(self) -> bool:
        """Whether somebody's hooks, or another `forward` put over a module's own, wait for the modules' own passes."""
        if any("forward" in own for own in self._own):
            return True
        there: Any = (hook for hooks in self._hooks if hooks for hook in tuple(hooks.values()))
        return any(getattr(hook, "__module__", None) != _WAITING_HOOKS for hook in there)

    def written(self) -> int:
        """Grows whenever a weight is written in place, but through `.data`, which torch does not count."""
        return sum(weight._version for weight in self.weights)
