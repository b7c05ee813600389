"""The body is found on any film: drawn phantoms with a known silhouette, developed and spoilt in many ways."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.scores.body import body_mask

Film = tuple[np.ndarray, np.ndarray]
SIZE = 256


def ellipse(x: float, y: float, wide: float, high: float) -> np.ndarray:
    """Path through an ellipsoid, 0 … 1, at the places and sizes given as shares of the film."""
    rows, cols = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    return np.sqrt(np.clip(1 - ((cols - x) / wide) ** 2 - ((rows - y) / high) ** 2, 0, None))


def chest(width: float = 0.42, shift: float = 0.0) -> Film:
    """A trunk with neck, two lungs, spine and heart; grey 0 … 255 and the exact silhouette."""
    middle = 0.5 + shift
    trunk = np.maximum(ellipse(middle, 0.85, width, 0.72), 0.8 * ellipse(middle, 0.1, 0.13, 0.5))
    lungs = ellipse(middle - 0.2, 0.5, 0.13, 0.27) + ellipse(middle + 0.2, 0.5, 0.13, 0.27)
    spine, heart = ellipse(middle, 0.5, 0.05, 3), ellipse(middle + 0.06, 0.6, 0.12, 0.14)
    path = trunk * (0.75 - 0.5 * lungs + 0.25 * spine) + 0.15 * heart * (trunk > 0)
    return np.clip(255 * gaussian_filter(path, 0.7), 0, 255), trunk > 0


def negative(film: Film) -> Film:
    return 255 - film[0], film[1]


def framed(grey: float) -> Callable[[Film], Film]:
    def spoil(film: Film) -> Film:
        gray, body = film[0].copy(), film[1].copy()
        outside = np.ones(gray.shape, bool)
        outside[20:-20, 13:-13] = False
        gray[outside], body[outside] = grey, False
        return gray, body

    return spoil


def tilted_collimation(grey: float) -> Callable[[Film], Film]:
    def spoil(film: Film) -> Film:
        gray, body = film[0].copy(), film[1].copy()
        rows, cols = np.mgrid[:SIZE, :SIZE] - SIZE / 2
        outside = (np.abs(cols + 0.06 * rows) > 112) | (np.abs(rows - 0.06 * cols) > 115)
        gray[outside], body[outside] = grey, False
        return gray, body

    return spoil


def lettered(film: Film) -> Film:
    gray = film[0].copy()
    for row, col in ((6, 6), (8, 225), (150, 2)):
        gray[row : row + 20, col : col + 3] = 255
        gray[row : row + 3, col : col + 12] = 255
    return gray, film[1]


def noisy(film: Film) -> Film:
    return np.clip(film[0] + np.random.default_rng(0).normal(0, 15, film[0].shape), 0, 255), film[1]


def underexposed(film: Film) -> Film:
    return np.round(film[0] * 0.15 + np.random.default_rng(0).normal(5, 1, film[0].shape)), film[1]


def sixteen_bits(film: Film) -> Film:
    return (film[0] * 257).astype(np.uint16), film[1]


def padded(film: Film) -> Film:
    return tuple(np.pad(each, ((0, 0), (40, 40))) for each in film)  # type: ignore[return-value]


def filled(_: Film) -> Film:
    gray, body = (each[56:250, 32:224] for each in chest(width=1.0))
    return gray, body


def enlarged(film: Film) -> Film:
    return tuple(each.repeat(3, 0).repeat(3, 1) for each in film)  # type: ignore[return-value]


def after(*steps: Callable[[Film], Film]) -> Callable[[Film], Film]:
    def spoil(film: Film) -> Film:
        for step in steps:
            film = step(film)
        return film

    return spoil


def overlap(found: np.ndarray, body: np.ndarray) -> float:
    return float((found & body).sum() / (found | body).sum())


SPOILT = {
    "as it is": after(),
    "negative": negative,
    "black collimation": framed(0),
    "white collimation": framed(255),
    "grey collimation": framed(120),
    "tilted black collimation": tilted_collimation(0),
    "tilted white collimation": tilted_collimation(255),
    "letters": lettered,
    "noise": noisy,
    "low exposure": underexposed,
    "16 bits": sixteen_bits,
    "padding": padded,
    "filled by the body": filled,
    "negative filled by the body": after(filled, negative),
    "negative with white collimation": after(negative, framed(255)),
    "letters and white collimation": after(lettered, framed(255)),
    "negative with noise": after(negative, noisy),
    "large": enlarged,
}


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize(("width", "shift"), [(0.36, 0.0), (0.42, 0.03), (0.42, -0.04)])
def test_the_silhouette_is_found(how: str, width: float, shift: float) -> None:
    gray, body = SPOILT[how](chest(width, shift))
    gray.setflags(write=False)
    found = body_mask(gray)
    assert found.dtype == bool
    assert found.shape == gray.shape
    assert overlap(found, body) >= 0.94


def test_the_lungs_belong_to_the_body_and_the_air_does_not() -> None:
    gray, body = chest()
    found = body_mask(gray.astype(np.uint8))
    lungs = ellipse(0.3, 0.5, 0.1, 0.2) + ellipse(0.7, 0.5, 0.1, 0.2) > 0
    assert body[lungs].all()
    assert found[lungs].all()
    assert not found[:40, :40].any()


def test_letters_in_the_air_do_not_belong_to_the_body() -> None:
    gray, body = lettered(chest(0.36))
    assert not (body_mask(gray) & (gray == 255) & ~body).any()


def test_a_film_that_the_body_fills_is_body_throughout() -> None:
    gray, body = filled(chest())
    assert body.all()
    assert body_mask(gray).all()


def test_brightness_and_contrast_do_not_move_the_skin() -> None:
    gray, _ = chest()
    np.testing.assert_array_equal(body_mask(gray), body_mask(gray * 0.125 + 16))


def test_mirroring_the_film_mirrors_the_body() -> None:
    gray, _ = chest(shift=0.03)
    np.testing.assert_array_equal(body_mask(gray[:, ::-1].copy())[:, ::-1], body_mask(gray))


@pytest.mark.parametrize(
    ("film", "message"),
    [
        (np.zeros((64, 64)), "one grey everywhere"),
        (np.eye(8), "8 x 8"),
        (np.zeros((32, 32, 3)), "two-dimensional"),
        (np.full((32, 32), np.nan), "NaN"),
    ],
)
def test_what_shows_no_body_is_an_error(film: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        body_mask(film)
