"""Several prompts about one picture: answers and maps are those of separate runs; every divergence has its context."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from medgemma_visualizer.checks.compare import CONTEXT, compare_prompts
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import explain_reading
from medgemma_visualizer.models.reading import read

PROMPTS = ("Is there a pleural effusion?", "Is there a pneumothorax?", "Is there a pleural effusion?")


@pytest.fixture(scope="module")
def compared(demo: Any, cases: Any) -> Any:
    reading = read(demo, picture(cases[0]), cases[0].question, options=("yes", "no"))
    return compare_prompts(
        reading,
        PROMPTS,
        method="relevance",
        labels=("effusion", "pneumothorax", "effusion again"),
        other_pictures=[picture(cases[5]), picture(cases[9])],
        other_finding="Is there evidence of cardiomegaly?",
    )


def test_every_prompt_gets_the_answer_and_the_map_of_a_separate_run(compared: Any, demo: Any, cases: Any) -> None:
    for asked in compared.prompts:
        alone = read(demo, picture(cases[0]), asked.question, options=("yes", "no"))
        shared = asked.reading.generated
        assert (asked.answer.text, shared.ids) == (alone.answer.text, alone.generated.ids)
        torch.testing.assert_close(shared.first_logits, alone.generated.first_logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(shared.logprobs, alone.generated.logprobs, atol=1e-5, rtol=0)
        assert asked.answer.p_yes == pytest.approx(alone.answer.p_yes, abs=1e-6)
        expected = explain_reading(alone, "relevance").map
        np.testing.assert_allclose(asked.heatmap.map, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize("method", ["relevance", "gradcam_multi_token", "cross_attention"])
def test_the_vision_tower_runs_once_for_all_prompts(method: str, demo: Any, cases: Any) -> None:
    runs: list[int] = []
    counting = demo.vision_layers[0].register_forward_hook(lambda *_: runs.append(1))
    try:
        found = compare_prompts(read(demo, picture(cases[0]), "?"), PROMPTS, method=method, context=False)
    finally:
        counting.remove()
    assert all(asked.heatmap.available for asked in found.prompts)
    assert len(runs) == 1


def test_the_divergence_is_scipys_squared_symmetric_and_zero_for_the_same_prompt(compared: Any) -> None:
    first, other = (compared.prompts[n].heatmap.map.ravel().astype(np.float64) for n in (0, 1))
    assert compared.js[0, 1] == pytest.approx(jensenshannon(first, other) ** 2, abs=1e-12)
    np.testing.assert_array_equal(compared.js, compared.js.T)
    assert compared.js[0, 2] == 0
    assert compared.against_first(2)["js_divergence"].value == 0
    np.testing.assert_array_equal(np.diag(compared.js), 0)


def test_answers_that_differ_from_the_first_are_flips(compared: Any) -> None:
    labels = [asked.answer.label for asked in compared.prompts]
    assert compared.flips == [False, labels[1] != labels[0], False]
    assert compared.consistency.value == pytest.approx(max(map(labels.count, labels)) / 3)


def test_a_difference_sums_to_nothing_and_is_above_zero_where_the_first_looked_more(compared: Any) -> None:
    difference = compared.difference(1)
    assert difference.sum() == pytest.approx(0, abs=1e-9)
    first, other = (compared.prompts[n].heatmap.map for n in (0, 1))
    where = np.unravel_index(difference.argmax(), difference.shape)
    assert first[where] / first.sum() > other[where] / other.sum()


def test_every_divergence_stands_beside_its_context(compared: Any) -> None:
    assert list(compared.context) == list(CONTEXT)
    assert compared.context["same_prompt_twice"].value == 0
    assert compared.context["other_picture"].n == 2
    assert 0 < compared.context["other_picture"].value <= np.log(2)
    assert 0 < compared.context["other_finding"].value <= np.log(2)


def test_context_that_was_not_given_is_not_made_up(demo: Any, cases: Any) -> None:
    reading = read(demo, picture(cases[0]), cases[0].question, options=("yes", "no"))
    found = compare_prompts(reading, PROMPTS[:2], method="cross_attention").context
    assert found["other_picture"].value is None
    assert "nothing was given" in found["other_finding"].reason


def test_a_prompt_without_a_map_says_why_and_leaves_the_others(demo: Any, cases: Any) -> None:
    reading = read(demo, picture(cases[0]), cases[0].question, options=("yes", "no"))
    reading.image_tokens[:] = reading.image_tokens[:, :1]  # every cell alike: nothing can be explained
    found = compare_prompts(reading, PROMPTS[:2], method="relevance")
    assert np.isnan(found.js).all()
    assert "are the same" in found.against_first(1)["js_divergence"].reason
    assert found.context["same_prompt_twice"].reason == "the first prompt has no map"


def test_one_prompt_or_labels_that_do_not_fit_are_refused(demo: Any, cases: Any) -> None:
    reading = read(demo, picture(cases[0]), cases[0].question)
    with pytest.raises(InputError, match="two prompts or more"):
        compare_prompts(reading, PROMPTS[:1], method="relevance")
    with pytest.raises(InputError, match="one label each"):
        compare_prompts(reading, PROMPTS, method="relevance", labels=["a"])
    with pytest.raises(InputError, match="Did you mean 'relevance'"):
        compare_prompts(reading, PROMPTS, method="relevanc")
