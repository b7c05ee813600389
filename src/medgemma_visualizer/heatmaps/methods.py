"""The table of methods: what each is called, needs, costs and rests on. One file adds one entry.

Knows what a method must declare; knows nothing about how any of them works.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.registry import Registry

Need = Literal["attention", "gradient", "activation", "scoring"]


@dataclass(frozen=True)
class RawMap:
    """What a method computed, before anyone has checked it.

    Attributes:
        values: float (rows, cols) on the grid of image tokens; both signs where the method is signed.
        layers: Layers used, where the method has them.
        heads: Heads used, where the method has them.
        extras: Numbers to report beside the map.
    """

    values: np.ndarray
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A way of asking where the model looked.

    Attributes:
        label: For people.
        needs: What it takes from the model.
        cost: Work beyond the answer itself, in plain words.
        text_dependent: False where the map is the same for any question.
        signed: True where values speak for and against the target.
        paper: Author and year.
        compute: (reading, aim, **options) -> RawMap.
    """

    label: str
    needs: Need
    cost: str
    text_dependent: bool
    signed: bool
    paper: str
    compute: Callable[..., RawMap]

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that it takes, read from its signature."""
        parameters = inspect.signature(self.compute).parameters.values()
        return tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)

    @property
    def passes_options_on(self) -> bool:
        """Whether it hands further options to another method (a wrapper does)."""
        return any(each.kind is each.VAR_KEYWORD for each in inspect.signature(self.compute).parameters.values())


METHODS: Registry[Method] = Registry("method")


def method(
    name: str, *, label: str, needs: Need, cost: str, paper: str, text_dependent: bool = True, signed: bool = False
) -> Callable[[Callable[..., RawMap]], Callable[..., RawMap]]:
    """Registers a function `(reading: Reading, aim: Aim, **options) -> RawMap` as a method."""

    def add(compute: Callable[..., RawMap]) -> Callable[..., RawMap]:
        METHODS.add(name, Method(label, needs, cost, text_dependent, signed, paper, compute))
        return compute

    return add


def refuse_unknown_options(names: Iterable[str], options: Iterable[str]) -> None:
    """Refuses options that none of these methods takes.

    Raises:
        InputError: The message names the options that there are.
    """
    entries = [METHODS[name] for name in names]
    known = sorted({option for entry in entries for option in entry.options})
    unknown = [option for option in options if option not in known]
    if unknown and not (len(entries) == 1 and entries[0].passes_options_on):
        raise InputError(
            f"Method {', '.join(map(repr, names))} does not take these options: {', '.join(unknown)}. "
            f"It takes: {', '.join(known) or 'none'}."
        )


def options_for(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of several methods' options that this one takes."""
    return {option: value for option, value in options.items() if option in METHODS[name].options}


def on_grid(reading: Reading, values: Any) -> np.ndarray:
    """Values (N,) in reading order -> float32 (rows, cols)."""
    return np.asarray(values, dtype=np.float32).reshape(reading.model.grid)


__all__ = ["METHODS", "Aim", "Method", "RawMap", "method", "on_grid", "options_for", "refuse_unknown_options"]
