"""Asks a method for a map, checks what comes back, and says which method it was and why others failed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.heatmaps.methods import METHODS, Method, RawMap, check_options, options_for
from medgemma_visualizer.heatmaps.targets import Aim, ScoreFunction, resolve
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.reading import Reading, read
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Case, Heatmap, Target
from medgemma_visualizer.settings import METHOD_PRIORITY

#: What "auto" tries, in order.
AUTO = tuple(name for name in METHOD_PRIORITY if name != "uniform")


def explain(
    model: Model, case: Case, method: str = "auto", target: str | ScoreFunction | None = None, **options: Any
) -> Heatmap:
    """Where the model looked for a target.

    Args:
        method: A name of `METHODS`, or "auto": the first of METHOD_PRIORITY that gives a valid map.
        target: As in `targets.resolve`; None is the yes/no contrast, or the answer where it is neither.
        **options: Passed to the method (layers, heads, …).

    Returns:
        A heatmap on the model's own grid. With "auto", `available` is False where every method failed, and
        `fallbacks` holds each reason; such a map has no grid and is never scored.

    Raises:
        InputError: Unknown method or option, or a target that is not there.
        UnavailableError: The method that was named cannot explain this target; the message says why.
    """
    return explain_reading(read(model, picture(case), case.question, options=case.options), method, target, **options)


def explain_reading(
    reading: Reading, method: str = "auto", target: str | ScoreFunction | None = None, **options: Any
) -> Heatmap:
    """As `explain`, for a picture and question that have been read already."""
    return explain_aim(reading, resolve(reading, target), method, **options)


def explain_aim(reading: Reading, aim: Aim, method: str = "auto", **options: Any) -> Heatmap:
    """As `explain_reading`, for a target that has been resolved already, maybe for another reading of the question."""
    if method != "auto":
        return _heatmap(reading, aim, method, method, {}, options)
    return get_attention_with_fallback(reading, aim, **options)


def get_attention_with_fallback(reading: Reading, aim: Aim, **options: Any) -> Heatmap:
    """The first method of METHOD_PRIORITY that gives a valid map, with every failure before it and its reason.

    Args:
        **options: Each method gets those that it takes; `extras["left_out"]` names those that the chosen one does not.

    Raises:
        InputError: An option that no method takes, or a value that one of them refuses: a slip of the pen is no reason
            to ask another method.
    """
    check_options(AUTO, options)
    failures: dict[str, str] = {}
    for name in AUTO:
        try:
            found = _heatmap(reading, aim, name, "auto", failures, options_for(name, options))
            return _with_left_out(found, options)
        except InputError:
            raise
        except VisualizerError as error:
            failures[name] = str(error)
    return unavailable(reading, "auto", aim.target, failures)


def _with_left_out(heatmap: Heatmap, options: Mapping[str, Any]) -> Heatmap:
    """With the names of those options that its method does not take, where there are any."""
    left_out = [name for name in options if name not in METHODS[heatmap.method].options]
    return replace(heatmap, extras={**heatmap.extras, "left_out": left_out}) if left_out else heatmap


def options_of(heatmap: Heatmap, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a user's options that a map was made with: "auto" is given those of every method that it may choose."""
    return options_for(heatmap.method, options) if heatmap.requested == "auto" else dict(options)


def as_made(heatmap: Heatmap, options: Mapping[str, Any]) -> dict[str, Any]:
    """As `options_of`, and what the method settled by itself: a map that is only compared is made alike."""
    settled = {name: heatmap.extras[name] for name in METHODS[heatmap.method].settles if name in heatmap.extras}
    return settled | options_of(heatmap, options)


def unavailable(reading: Reading, requested: str, target: Target, reasons: Mapping[str, str]) -> Heatmap:
    """ "No explanation available", with the reason of every method that failed; it has no grid and is never scored."""
    return Heatmap(None, "uniform", requested, target, fallbacks=reasons, model=reading.model.name)


def explain_all(
    reading: Reading,
    target: str | ScoreFunction | None = None,
    methods: Sequence[str] | None = None,
    **options: Any,
) -> dict[str, Heatmap]:
    """One heatmap for each method, in the table's order; where one cannot explain, its heatmap carries the reason.

    Args:
        target: As in `targets.resolve`.
        methods: Names of `METHODS`; all where None.
        **options: Each method gets those that it takes (layers, heads, space, …).

    Raises:
        InputError: Unknown method; an option that none takes or a value that one refuses; a target that is not there.
    """
    aim = resolve(reading, target)
    names = list(METHODS) if methods is None else [name for name in methods if METHODS[name]]
    check_options(names, options)
    steps = track(names, total=len(names), what="methods")
    return {name: explain_or_say_why(reading, aim, name, options_for(name, options)) for name in steps}


def explain_or_say_why(reading: Reading, aim: Aim, name: str, options: Mapping[str, Any]) -> Heatmap:
    """The method's heatmap, or one that is not available and carries the reason.

    Raises:
        InputError: The method refuses the options that were given; without options its refusal is a reason as any
            other, such as a window that does not fit a small model's grid.
    """
    try:
        return explain_aim(reading, aim, name, **options)
    except InputError as error:
        if options:
            raise
        return unavailable(reading, name, aim.target, {name: str(error)})
    except VisualizerError as error:
        return unavailable(reading, name, aim.target, {name: str(error)})


def _heatmap(
    reading: Reading, aim: Aim, name: str, requested: str, failures: Mapping[str, str], options: Mapping[str, Any]
) -> Heatmap:
    check_options([name], options)
    plain = {option: value.item() if isinstance(value, np.generic) else value for option, value in options.items()}
    start = time.perf_counter()
    raw = METHODS[name].compute(reading, aim, **plain)
    return finished(reading, aim.target, name, raw, time.perf_counter() - start, requested, failures)


def finished(
    reading: Reading,
    target: Target,
    name: str,
    raw: RawMap,
    seconds: float,
    requested: str = "",
    failures: Mapping[str, str] | None = None,
) -> Heatmap:
    """What a method computed, checked and labelled.

    Raises:
        UnavailableError: It explains nothing, and the message says why.
    """
    entry = METHODS[name]
    values = _validated(raw, entry, name, reading.model.grid)
    return Heatmap(
        grid=np.maximum(values, 0),
        signed=values if entry.signed else None,
        method=name,
        requested=requested or name,
        fallbacks=dict(failures or {}),
        target=target,
        layers=raw.layers,
        heads=raw.heads,
        text_independent=not entry.text_dependent,
        model=reading.model.name,
        versions=reading.model.versions,
        seconds=seconds,
        extras=raw.extras,
    )


def _validated(raw: RawMap, entry: Method, name: str, grid: tuple[int, int]) -> np.ndarray:
    """float32 (rows, cols), finite, not constant, with something in favour of the target; else a reason."""
    values = np.array(raw.values, dtype=np.float32)
    if values.shape != grid:
        raise UnavailableError(f"{name} gave a map of shape {values.shape}, the model's grid is {grid}.")
    if not np.isfinite(values).all():
        raise UnavailableError(f"{name} gave values that are not finite; load the model with dtype='float32'.")
    if np.ptp(values) == 0:
        raise UnavailableError(f"{name} gave the same value, {values.flat[0]:g}, in every cell: it explains nothing.")
    if entry.signed and values.max() <= 0:
        raise UnavailableError(f"{name} found nothing in the image that speaks for the target, only against it.")
    if not entry.signed and values.min() < 0:
        raise UnavailableError(f"{name} gave negative values although it declares none.")
    return values
