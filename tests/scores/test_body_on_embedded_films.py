"""The body found on the embedded films is the body that was projected."""

from __future__ import annotations

from typing import Any

import numpy as np

from medgemma_visualizer.data.photo import grayscale, picture
from medgemma_visualizer.scores.body import body_mask


def overlap(found: np.ndarray, body: np.ndarray) -> float:
    return float((found & body).sum() / (found | body).sum())


def test_the_body_is_found_on_every_embedded_film(cases: Any) -> None:
    films = {case.image: case for case in cases}
    overlaps = np.array([overlap(body_mask(grayscale(picture(c))), c.regions["body"]) for c in films.values()])
    assert overlaps.size >= 96
    assert overlaps.mean() >= 0.95
    assert overlaps.min() >= 0.90


def test_the_body_of_a_negative_is_found_as_well(cases: Any) -> None:
    films = list({case.image: case for case in cases}.values())[::8]
    overlaps = [overlap(body_mask(255 - grayscale(picture(c))), c.regions["body"]) for c in films]
    assert min(overlaps) >= 0.90
