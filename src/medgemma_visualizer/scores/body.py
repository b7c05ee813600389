"""Where the patient is on the film: everything inside the skin line.

Knows one greyscale picture. Does not know the view, the finding or the model. On a radiograph the patient is brighter
than the air around; air is told from tissue by being darker than the lungs, flat, and connected to the edge of the
exposed field. So films that the patient fills have no air and are body throughout.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import downsample, finite, upsample

_WORKING_SIDE = 256  # pixels of the longer side while searching
_FLAT = 0.02  # share of the film's range within which a line of pixels is one grey
_FLAT_SHARE = 0.97  # of a line must be so; the rest may be letters
_SKIN = 0.05  # of the way from air to tissue where the skin line is drawn
_WHITE = 0.8  # of the film's range from which a frame is white
_DARKER_THAN_LUNG = 0.03  # of the film's range between the skin line's grey and the darkest lung, unless air is black
_BLACK = 0.005  # of the film's range above its darkest grey
_LEAST_AIR = 0.002  # share of the film under which dark pixels at the edge are not taken for air
_SMOOTHING = 1.0  # working pixels
_NOISE = 3.0  # times the median noise of single pixels, by which air may be brighter than its darkest part
_OPENING = 3  # working pixels; wires and letters that touch the patient are thinner


def body_mask(gray: np.ndarray) -> np.ndarray:
    """The patient's silhouette, lungs included, without collimation borders, air and letters burnt into it.

    Args:
        gray: (height, width), any integer or float range, at least 16 x 16; bright or dark bones (MONOCHROME1 that was
            not inverted) alike.

    Returns:
        bool (height, width), one connected piece. All True where the patient fills the film.

    Raises:
        InputError: Not a two-dimensional array of finite numbers, under 16 pixels a side, or one grey everywhere.
    """
    given = _checked(gray)
    film = _stretched(_small(given))
    exposed = _exposed_field(film)
    positive = np.where(_white_frame(film)[exposed], 0, _bones_bright(film[exposed]))
    body = np.zeros(film.shape, bool)
    body[exposed] = _silhouette(positive)
    if film.shape == given.shape:
        return body
    return upsample(body, given.shape[0], given.shape[1], "bilinear") > 0.5


def _checked(gray: np.ndarray) -> np.ndarray:
    """The film; whole numbers as they were given, which need no copy of eight bytes a pixel."""
    film = finite(gray, "film")
    film = film if film.dtype.kind in "iu" else film.astype(np.float64)
    if min(film.shape) < 16:
        raise InputError(f"The film has {film.shape[0]} x {film.shape[1]} pixels; 16 a side are needed to find a body.")
    if film.min() == film.max():
        raise InputError("The film is one grey everywhere, so it shows no body; check how the image was read.")
    return film


def _small(film: np.ndarray) -> np.ndarray:
    """At most _WORKING_SIDE pixels a side, by area."""
    shrink = max(1.0, max(film.shape) / _WORKING_SIDE)
    return downsample(film, max(1, round(film.shape[0] / shrink)), max(1, round(film.shape[1] / shrink)))


def _stretched(film: np.ndarray) -> np.ndarray:
    """Range 0 … 1 between the darkest and brightest greys that are more than stray pixels."""
    low, high = np.percentile(film, [0.1, 99.9])
    if high <= low:
        low, high = film.min(), film.max()
    return np.clip((film - low) / (high - low), 0, 1)


def _exposed_field(film: np.ndarray) -> tuple[slice, slice]:
    """What is left when whole lines of one grey are taken off the edges (collimation, padding, plain air)."""
    rows, cols = slice(0, film.shape[0]), slice(0, film.shape[1])
    for _ in range(3):  # frames inside frames
        trimmed_rows = _trimmed(film[rows, cols], rows)
        trimmed_cols = _trimmed(film[trimmed_rows, cols].T, cols)
        if (trimmed_rows, trimmed_cols) == (rows, cols):
            break
        rows, cols = trimmed_rows, trimmed_cols
    return rows, cols


def _trimmed(lines: np.ndarray, window: slice) -> slice:
    middle = np.median(lines, axis=1, keepdims=True)
    varied = np.flatnonzero((np.abs(lines - middle) <= _FLAT).mean(1) < _FLAT_SHARE)
    if not varied.size:
        return window
    first, last = int(varied[0]), int(varied[-1])
    # The line beside a trimmed one is a blend of the frame and the film.
    first, last = first + (first > 0), last - (last < len(lines) - 1)
    return slice(window.start + first, window.start + last + 1) if first <= last else window


def _white_frame(film: np.ndarray) -> np.ndarray:
    """One bright grey from corner to corner, bool of the film's shape: a tilted collimator, or a negative's air."""
    frame = np.zeros(film.shape, bool)
    for grey in film[[0, 0, -1, -1], [0, -1, 0, -1]]:
        if grey >= _WHITE:
            pieces, _ = ndimage.label(np.abs(film - grey) <= _FLAT)
            corners = pieces[[0, 0, -1, -1], [0, -1, 0, -1]]
            frame |= np.isin(
                pieces, [piece for piece in set(corners.tolist()) if piece and (corners == piece).sum() > 1]
            )
    return ndimage.binary_dilation(frame, iterations=2)  # its edge is blended with the film


def _bones_bright(film: np.ndarray) -> np.ndarray:
    """The film, inverted where it is a negative: where the spine is darker than the lungs on both sides of it."""
    rows = len(film)
    band = film[rows // 4 : max(rows * 6 // 10, rows // 4 + 1)]
    profile = np.median(band, axis=0)
    spine = _level(profile, 0.42, 0.58)
    lungs = min(_level(profile, 0.18, 0.38), _level(profile, 0.62, 0.82))
    lungs_of_negative = max(_level(profile, 0.18, 0.38), _level(profile, 0.62, 0.82))
    evidence = (spine - lungs) - (lungs_of_negative - spine)
    return 1 - film if evidence < 0 else film


def _level(profile: np.ndarray, start: float, stop: float) -> float:
    first = int(start * profile.size)
    return float(profile[first : max(int(stop * profile.size), first + 1)].mean())


def _silhouette(film: np.ndarray) -> np.ndarray:
    """Body of a film with bright bones, bool of its shape."""
    air = _air(film)
    if air is None:
        return np.ones(film.shape, bool)
    padded = np.pad(~air, _OPENING, mode="edge")  # the film's edge is not the skin
    opened = ndimage.binary_opening(padded, _disc(_OPENING))[_OPENING:-_OPENING, _OPENING:-_OPENING]
    pieces, count = ndimage.label(opened)
    if count == 0:
        return np.ones(film.shape, bool)
    body = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    return ndimage.binary_fill_holes(body)


def _air(film: np.ndarray) -> np.ndarray | None:
    """Dark pixels connected to the edge, bool; None where no grey at the edge can be air."""
    smooth = ndimage.gaussian_filter(film, _SMOOTHING, mode="nearest")
    edge = np.concatenate([smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1]])
    air, tissue = float(np.percentile(edge, 1)), float(np.percentile(smooth, 80))
    noise = float(np.median(np.abs(film - smooth)))
    skin = air + _SKIN * (tissue - air) + _NOISE * noise
    dark = _connected_to_edge(smooth < skin)
    lungs = _centre(smooth)[~_centre(dark)]
    told_apart = lungs.size and np.percentile(lungs, 5) > skin + _DARKER_THAN_LUNG
    return dark if (told_apart or _mostly_black(smooth, dark)) and dark.mean() >= _LEAST_AIR else None


def _mostly_black(film: np.ndarray, pixels: np.ndarray) -> bool:
    """True where most of the pixels hold the film's darkest grey, as air does on films that also clip the lungs."""
    return bool(pixels.any() and np.median(film[pixels]) <= film.min() + _BLACK)


def _centre(film: np.ndarray) -> np.ndarray:
    rows, cols = film.shape
    return film[rows // 4 : rows - rows // 4, cols // 5 : cols - cols // 5]


def _connected_to_edge(dark: np.ndarray) -> np.ndarray:
    pieces, _ = ndimage.label(dark)
    edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    return np.isin(pieces, edge[edge > 0])


def _disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.hypot(y, x) <= radius
