"""Ground truth belongs to exactly one picture with one question."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

import medgemma_visualizer as mv
from medgemma_visualizer.verbs import DEMO_NOTICE, analyze


def test_another_question_has_no_truth(cases: Any) -> None:
    asked = cases[0].asking("Is there a pneumothorax?")
    assert (asked.truth, asked.finding, asked.options) == (None, None, ())
    assert asked.region is None
    assert asked.id != cases[0].id


def test_another_picture_keeps_nothing_of_the_first(demo: Any, cases: Any) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    shown = cases[0].showing(noise)
    assert (shown.truth, shown.finding, shown.patient_id, shown.view, shown.simulated) == (None,) * 4 + (False,)
    analysis = analyze(demo, shown, method="cross_attention")
    assert analysis.correct is None
    assert "pointing_game" not in analysis.scores
    assert DEMO_NOTICE in analysis.answer.notice


def test_an_embedded_film_brings_no_notice(demo: Any, cases: Any) -> None:
    assert mv.answer(demo, cases[0]).notice == ""
