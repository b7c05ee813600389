"""From the stored values of a radiograph to fractions of white: modality step, VOI, presentation, in that order.

Knows these steps of DICOM (PS3.3, C.11.1, C.11.2, C.11.6); does not know files, codecs, or what a film shows. All steps
work on the list of values that can be stored, at most 65,536, never on the picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from scipy.special import expit

#: Where a step cannot be done, this rendering does without it.
OTHER_WAY = "ask for the rendering mimic-jpg, which needs none, or export the file again"
_CONTRADICTION = (
    "The DICOM file contradicts itself: {photometric} with the presentation LUT shape {shape}. The shape was followed; "
    "if the film looks like a negative, the shape is wrong."
)
#: Words by which files explain their windows; others are not repeated, since a file may say anything there.
_EXPLAINED = (
    *("ABDOMEN", "ALGO", "AUTO", "AUTOMATIC", "BODY", "BONE", "BONES", "BRIGHT", "CARDIAC", "CHEST", "CONTRAST"),
    *("CUSTOM", "DARK", "DEF", "DEFAULT", "DEFINED", "DETAIL", "ENHANCED", "FULL", "HARD", "HARDER", "HEART"),
    *("HIGH", "IDENTITY", "INITIAL", "INVERSE", "LINEAR", "LOW", "LUNG", "LUNGS", "LUT", "MANUAL", "MEDIASTINUM"),
    *("MEDIUM", "NARROW", "NORMAL", "OPT", "OPTIMAL", "ORIGINAL", "PRESET", "RANGE", "RIBS", "SHARP", "SIGMOID"),
    *("SMOOTH", "SOFT", "SOFTER", "SPINE", "STANDARD", "THORAX", "TISSUE", "USER", "VERY", "VIEW", "VOI", "WIDE"),
    "WINDOW",
)


class Unreadable(Exception):
    """What is wrong with a file and what to do, in words that fit after its name; never quotes the file's text."""


@dataclass(frozen=True)
class Voi:
    """The values of interest, as fractions of white.

    Attributes:
        fractions: float64 (n,) in [0, 1], for the n values given.
        taken: Which of how many transformations, in words.
        notices: What must be known to trust it.
    """

    fractions: np.ndarray
    taken: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """One of the VOI transformations that a file offers; DICOM leaves it to the viewer which one is applied.

    Attributes:
        name: Which of how many of its kind, and how the file explains it, as far as in known words.
        apply: Values of the modality, float64 (n,), to fractions of white.
    """

    name: str
    apply: Callable[[np.ndarray], Voi]


def modality_values(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Stored values to what the modality means by them, float64 (n,): by its LUT if there is one, else by rescaling.

    Raises:
        Unreadable: A slope of 0, a number that is not finite, or a broken LUT.
    """
    tables = dataset.get("ModalityLUTSequence")
    if tables:
        return _looked_up(_table(tables[0], "modality LUT"), stored.astype(np.float64))
    slope, intercept = (_number(dataset, name, at) for name, at in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)))
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise Unreadable(f"has a rescale slope or intercept that makes no picture; {OTHER_WAY}.")
    return stored * slope + intercept


def voi_choices(dataset: Dataset) -> tuple[Choice, ...]:
    """All VOI transformations of a file: its LUTs, then its windows; the first is the default.

    Raises:
        Unreadable: Half a window, or a function that is not known.
    """
    return (*_lut_choices(dataset), *_window_choices(dataset))


def voi_fractions(dataset: Dataset, values: np.ndarray, occurring: np.ndarray, number: int | None = None) -> Voi:
    """Values of the modality to fractions of white, before any inversion.

    Where nobody chose, the first VOI LUT is taken, else the first window, else the values that occur are stretched from
    their minimum to their maximum.

    Args:
        values: float64 (n,).
        occurring: bool (n,), which of them the picture holds.
        number: Which of `voi_choices`, from 1.

    Raises:
        Unreadable: A window or LUT that cannot be applied, or no such number.
    """
    luts = _lut_choices(dataset)
    choices = luts if luts and number is None else voi_choices(dataset)  # a broken window is no matter then
    if number is not None and not 1 <= number <= len(choices):
        raise Unreadable(_no_such(number, choices))
    if not choices:
        return Voi(_stretched(values, occurring), "none given: stretched from minimum to maximum")
    return choices[(number or 1) - 1].apply(values)


def _no_such(number: int, choices: tuple[Choice, ...]) -> str:
    if not choices:
        return f"offers no window and no VOI LUT, so that there is no number {number}; leave the number out."
    told = ", ".join(f"{place}: {choice.name}" for place, choice in enumerate(choices, start=1))
    return f"offers no VOI transformation number {number}; choose among {told}."


def _lut_choices(dataset: Dataset) -> tuple[Choice, ...]:
    tables = dataset.get("VOILUTSequence") or ()
    return tuple(_lut_choice(item, number, len(tables)) for number, item in enumerate(tables, start=1))


def _lut_choice(item: Dataset, number: int, of: int) -> Choice:
    said = explanation(item.get("LUTExplanation"))
    name = f"VOI LUT {number} of {of}" + (f" ({said})" if said else "")

    def apply(values: np.ndarray) -> Voi:
        table = _table(item, "VOI LUT")
        depth = max(int(table.entries.max()).bit_length(), 1)
        odd = (_other_depth(table.bits, depth),) if depth != table.bits else ()
        return Voi(_looked_up(table, values) / (2**depth - 1), name, odd)

    return Choice(name, apply)


def _window_choices(dataset: Dataset) -> tuple[Choice, ...]:
    centres, widths = (_numbers(dataset, name) for name in ("WindowCenter", "WindowWidth"))
    if bool(centres) != bool(widths):
        raise Unreadable(f"gives half a window (a centre or a width alone); {OTHER_WAY}.")
    if not centres:
        return ()
    function = _function(dataset)
    pairs = list(zip(centres, widths, strict=False))  # where one list is longer, its end is nobody's
    said = _explanations(dataset, len(pairs))
    return tuple(
        _window_choice(pair, f"window {k} of {len(pairs)} ({', '.join(filter(None, (function, words)))})", function)
        for k, (pair, words) in enumerate(zip(pairs, said, strict=True), start=1)
    )


def _window_choice(pair: tuple[float, float], name: str, function: str) -> Choice:
    return Choice(name, lambda values: Voi(windowed(values, *pair, function), name))


def _explanations(dataset: Dataset, number: int) -> list[str]:
    """One for each window; "" where the file gives none for it."""
    given = dataset.get("WindowCenterWidthExplanation") or ()
    words = [explanation(one) for one in ([given] if isinstance(given, str) else given)]
    return [*words, *[""] * number][:number]


def explanation(text: object) -> str:
    """What a file says of a window or LUT, in upper case, where all of its words are known; else that it says more."""
    if not isinstance(text, str) or not text.strip():
        return ""
    bare = text.strip().upper()
    words = re.findall(r"[^\W\d_]+|\d+", bare)
    known = all(word in _EXPLAINED or (word.isdecimal() and len(word) <= 2) for word in words)
    return bare if known and words and re.fullmatch(r"[A-Z0-9 _.,/+-]+", bare) else "explained in other words"


def windowed(values: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """A window, float64 (n,) in [0, 1] (PS3.3, C.11.2.1.2 and C.11.2.1.3).

    Args:
        values: float64 (n,).
        centre: In units of the values.
        width: At least 1 for LINEAR, where 1 is a threshold; above 0 for the others.
        function: LINEAR, LINEAR_EXACT or SIGMOID.

    Raises:
        Unreadable: A width that the function does not take.
    """
    if not np.isfinite([centre, width]).all() or width < (1 if function == "LINEAR" else np.finfo(float).tiny):
        raise Unreadable(f"has a window whose width or centre cannot be applied; {OTHER_WAY}.")
    if function == "SIGMOID":
        return expit(4 * (values - centre) / width)
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def is_inverted(dataset: Dataset, photometric: str) -> tuple[bool, tuple[str, ...]]:
    """Whether white and black change places, once, and what must be known of it.

    The presentation LUT shape decides where the file has one, else MONOCHROME1.

    Raises:
        Unreadable: A shape that is neither IDENTITY nor INVERSE.
    """
    by_photometric = photometric == "MONOCHROME1"
    shape = str(dataset.get("PresentationLUTShape") or "").strip()
    if not shape:
        return by_photometric, ()
    if shape not in ("IDENTITY", "INVERSE"):
        raise Unreadable(f"has a presentation LUT shape that is neither IDENTITY nor INVERSE; {OTHER_WAY}.")
    inverted = shape == "INVERSE"
    odd = (_CONTRADICTION.format(photometric=photometric, shape=shape),) if inverted != by_photometric else ()
    return inverted, odd


# --- parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    entries: np.ndarray  # int64 (n,)
    first: int  # the value that the first entry is for
    bits: int  # of an entry, as the file says


def _table(item: Dataset, what: str) -> _Table:
    length, first, bits = (int(number) for number in item.LUTDescriptor)
    length = length or 2**16
    entries = _entries(item, length, bits)
    if entries.size < length:
        raise Unreadable(f"has a {what} with {entries.size} of {length} entries; {OTHER_WAY}.")
    return _Table(entries[:length], first, bits)


def _entries(item: Dataset, length: int, bits: int) -> np.ndarray:
    """The entries as int64; those of 8 bits may be packed two to a word, the first in the low byte."""
    data = item.LUTData
    if isinstance(data, bytes):
        if bits <= 8 and len(data) < 2 * length:
            return np.frombuffer(data, np.uint8).astype(np.int64)
        order = "<" if item.original_encoding[1] is not False else ">"
        return np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2").astype(np.int64)
    words = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF  # signed words are the same bits
    if bits <= 8 and words.size < length:
        return np.stack([words & 0xFF, words >> 8], axis=1).ravel()
    return words


def _looked_up(table: _Table, values: np.ndarray) -> np.ndarray:
    """float64 (n,); values before the first entry get the first, those after the last the last."""
    # The first value may be negative though the file's element can only say so as an unsigned word.
    first = table.first - 2**16 if table.first >= 2**15 and values.min() < 0 else table.first
    places = np.clip(np.rint(values).astype(np.int64) - first, 0, table.entries.size - 1)
    return table.entries[places].astype(np.float64)


def _other_depth(told: int, depth: int) -> str:
    return (
        f"The DICOM file says that its VOI LUT has {told} bits, its entries fill {depth}: these were taken for the "
        "whole range from black to white."
    )


def _stretched(values: np.ndarray, occurring: np.ndarray) -> np.ndarray:
    least, most = values[occurring].min(), values[occurring].max()
    return np.clip((values - least) / max(most - least, np.finfo(float).tiny), 0, 1)


def _function(dataset: Dataset) -> str:
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise Unreadable(f"has a window of a kind that DICOM does not know; {OTHER_WAY}.")
    return function


def _number(dataset: Dataset, name: str, default: float) -> float:
    value = dataset.get(name)
    return default if value is None else float(value)


def _numbers(dataset: Dataset, name: str) -> list[float]:
    """One, several, or none."""
    value = dataset.get(name)
    if value is None or value == "":
        return []
    return [float(value)] if isinstance(value, int | float) else [float(one) for one in value]
