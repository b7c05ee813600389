"""The table of methods: what each is called, needs, costs and rests on. One file adds one entry.

Knows what a method must declare; knows nothing about how any of them works.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch

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
        settles: Options that it chooses itself where they are not given; its extras tell what it chose.
    """

    label: str
    needs: Need
    cost: str
    text_dependent: bool
    signed: bool
    paper: str
    compute: Callable[..., RawMap]
    settles: tuple[str, ...] = ()

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
    name: str,
    *,
    label: str,
    needs: Need,
    cost: str,
    paper: str,
    text_dependent: bool = True,
    signed: bool = False,
    settles: tuple[str, ...] = (),
) -> Callable[[Callable[..., RawMap]], Callable[..., RawMap]]:
    """Registers a function `(reading: Reading, aim: Aim, **options) -> RawMap` as a method."""

    def add(compute: Callable[..., RawMap]) -> Callable[..., RawMap]:
        METHODS.add(name, Method(label, needs, cost, text_dependent, signed, paper, compute, settles))
        return compute

    return add


def check_options(names: Iterable[str], options: Mapping[str, Any]) -> None:
    """Refuses options that none of these methods takes, and values of another type than a method declares.

    Whether a value of the right type makes sense is the method's own business.

    Raises:
        InputError: The message names the options that there are, or the type that is wanted.
    """
    entries = {name: METHODS[name] for name in names}
    known = sorted({option for entry in entries.values() for option in entry.options})
    unknown = [option for option in options if option not in known]
    if unknown and not (len(entries) == 1 and next(iter(entries.values())).passes_options_on):
        raise InputError(
            f"Method {', '.join(map(repr, entries))} does not take these options: {', '.join(unknown)}. "
            f"It takes: {', '.join(known) or 'none'}."
        )
    for name, entry in entries.items():
        _check_types(name, entry, options)


@functools.cache
def _declared(compute: Callable[..., RawMap]) -> dict[str, Any]:
    """The annotations of a method, which take longer to read than a small map to draw."""
    return get_type_hints(compute)


def _check_types(name: str, entry: Method, options: Mapping[str, Any]) -> None:
    declared = _declared(entry.compute)
    for option in entry.options:
        if option in options and not _fits(options[option], wanted := declared.get(option, Any)):
            given = reprlib.repr(options[option])
            raise InputError(f"Option {option!r} of method {name!r} is {given}; give {_in_words(wanted)}.")


#: What an annotation accepts and what it is called; a name's spelling is left to the method, which knows the near ones.
_TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((numbers.Integral,), "a whole number"),
    float: ((numbers.Real,), "a number"),
    str: ((str,), "a name"),
    NoneType: ((NoneType,), "None"),
    torch.Tensor: ((torch.Tensor,), "a tensor"),
}


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value is of an annotation's type; True and False are no numbers here."""
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(_fits(value, type(part)) for part in parts)
    if origin is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(v, parts[0]) for v in value)
    return wanted is Any or (isinstance(value, _TYPES[wanted][0]) and not isinstance(value, bool))


def _in_words(wanted: Any) -> str:
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(part) for part in parts)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin is Sequence:
        return f"a list of {_in_words(parts[0]).removeprefix('a ')}s"
    return _TYPES[wanted][1]


def options_for(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of several methods' options that this one takes; a wrapper takes those of its base, too."""
    entry = METHODS[name]
    taken = set(entry.options)
    if entry.passes_options_on:
        base = options.get("base", inspect.signature(entry.compute).parameters["base"].default)
        taken |= set(METHODS[base].options)
    return {option: value for option, value in options.items() if option in taken}


def on_grid(reading: Reading, values: Any) -> np.ndarray:
    """Values (N,) in reading order -> float32 (rows, cols)."""
    return np.asarray(values, dtype=np.float32).reshape(reading.model.grid)


__all__ = ["METHODS", "Aim", "Method", "RawMap", "check_options", "method", "on_grid", "options_for"]
