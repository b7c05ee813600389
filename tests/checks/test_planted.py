"""Only answers owed to a mark are kept, everything else is counted; and a planted cell decides the verdict on a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medgemma_visualizer.checks import planted as module
from medgemma_visualizer.checks.faithfulness import compare_cases, measure
from medgemma_visualizer.checks.planted import (
    ANOTHER,
    BROUGHT,
    NO_CHANGE,
    TAKEN,
    WRONG,
    Filtered,
    causal_filter,
    filtered,
    planted_cases,
)
from medgemma_visualizer.checks.planting import Planted, planted_items
from medgemma_visualizer.checks.scoring import OWN
from medgemma_visualizer.data.marks import KINDS
from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.heatmaps import METHODS, explain, resolve
from medgemma_visualizer.heatmaps.targets import Aim, score_tokens
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.progress import listening
from medgemma_visualizer.records import Case
from medgemma_visualizer.scores.localisation import localisation_scores
from medgemma_visualizer.verbs import answer
from tests.checks.test_planting import GREY, SIDE, film, films
from tests.contracts.test_properties import CAUSAL, _towards_the_cell, reader_of_one_cell

Rule = Callable[[np.ndarray], Any]


def asked(rule: Rule) -> Callable[[Image.Image, Case], str]:
    """A toy that says yes where its rule holds of the film's grey levels."""
    return lambda image, case: "yes" if rule(np.array(image.convert("L"))) else "no"


def arrows(n: int, **known: Any) -> tuple[Planted, ...]:
    return planted_items([film(**known)], ("arrow",), n)


CELL = (slice(0, SIDE // 2), slice(SIDE // 2, SIDE))


def test_a_toy_that_reads_one_cell_keeps_the_items_whose_mark_is_there_and_whose_decoy_is_not() -> None:
    items = arrows(60)
    found = filtered(asked(lambda grey: (grey[CELL] != GREY).any()), items)
    marked = [item for item in items if item.case.region[CELL].any()]
    doubtful = [item for item in marked if (item.decoy.on(item.bare) != item.bare)[CELL].any()]
    assert 0 < len(doubtful) < len(marked) < len(items)
    assert [case.id for case in found.kept] == [item.case.id for item in marked if item not in doubtful]
    assert found.dropped == {WRONG: len(items) - len(marked), BROUGHT: len(doubtful)}


def test_a_toy_that_always_says_yes_keeps_nothing_and_the_count_says_why() -> None:
    assert filtered(asked(lambda grey: True), arrows(6)) == Filtered((), {NO_CHANGE: 6})


def test_a_toy_that_always_says_no_is_wrong_with_every_mark() -> None:
    assert filtered(asked(lambda grey: False), arrows(6)) == Filtered((), {WRONG: 6})


def test_a_toy_that_reacts_to_any_change_is_dropped_for_the_decoy() -> None:
    assert filtered(asked(lambda grey: (grey != GREY).any()), arrows(6)) == Filtered((), {BROUGHT: 6})


def test_a_toy_that_the_decoy_confuses_is_dropped_for_it() -> None:
    items = arrows(6)
    known = {item.marked.tobytes() for item in items}
    assert filtered(asked(lambda grey: grey.tobytes() in known), items) == Filtered((), {TAKEN: 6})


def test_a_toy_that_reads_the_mark_wherever_it_lies_keeps_everything() -> None:
    items = arrows(6)
    marks = [(item.case.region, item.marked[item.case.region]) for item in items]
    found = filtered(asked(lambda grey: any((grey[region] == ink).all() for region, ink in marks)), items)
    assert (found.kept, found.dropped, found.n) == (tuple(item.case for item in items), {}, 6)


@pytest.mark.parametrize(("simulated", "dropped"), [(False, {ANOTHER: 3}), (True, {})])
def test_on_a_film_of_unknown_marks_the_model_s_own_answer_without_ours_decides(
    simulated: bool, dropped: dict[str, int]
) -> None:
    items = planted_items([film(simulated=simulated)], ("L",), 3)
    marks = [(item.case.region, item.marked[item.case.region]) for item in items]
    rule = asked(lambda grey: any((grey[region] == ink).all() for region, ink in marks))
    found = filtered(lambda image, case: "L" if rule(image, case) == "yes" else "R", items)
    assert found.dropped == dropped
    assert found.n == 3


def test_an_answer_that_names_nothing_without_the_mark_is_another_answer() -> None:
    items = arrows(2)
    marks = [(item.case.region, item.marked[item.case.region]) for item in items]
    rule = asked(lambda grey: any((grey[region] == ink).all() for region, ink in marks))
    found = filtered(lambda image, case: "yes" if rule(image, case) == "yes" else "uncertain", items)
    assert len(found.kept) == 2


def test_no_picture_is_asked_the_same_question_twice() -> None:
    seen: list[tuple[bytes, str]] = []

    def ask(image: Image.Image, case: Case) -> str:
        seen.append((image.tobytes(), case.question))
        return str(case.truth) if (np.array(image.convert("L")) != GREY).any() else "none"

    filtered(ask, planted_items([film()], KINDS, 12))
    assert len(seen) == len(set(seen)) > 24


def test_whoever_waits_hears_how_many_marks_are_done() -> None:
    heard: list[tuple[int, int, str]] = []
    with listening(lambda *step: heard.append(step)):
        filtered(asked(lambda grey: True), arrows(2))
    assert heard[-3:] == [(n, 2, "planted marks") for n in (0, 1, 2)]


def test_a_model_that_knows_no_marks_is_refused_with_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(model: Any, image: Image.Image, question: str, **_: Any) -> Any:
        assert "Answer with only" in question  # a model that was not taught our questions is instructed
        return SimpleNamespace(answer=SimpleNamespace(label="yes"))

    monkeypatch.setattr(module, "read", read)
    stranger: Any = SimpleNamespace(name="stranger", is_demo=False)
    with pytest.raises(UnavailableError) as refused:
        planted_cases(stranger, films(2), n=8)
    assert "'stranger'" in str(refused.value)
    assert f"kept 0 of 8; 4 {WRONG}; 4 {NO_CHANGE}" in str(refused.value)


# --- the embedded model ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(demo: Any, cases: Any) -> Filtered:
    return planted_cases(demo, cases, n=16, seed=2)


def test_the_embedded_model_owes_a_sensible_share_of_its_answers_to_the_marks(kept: Filtered) -> None:
    assert kept.n == 16
    assert len(kept.kept) >= 3
    assert len({case.finding for case in kept.kept}) >= 2


def test_a_kept_case_is_answered_right_and_its_map_lies_on_the_mark(demo: Any, kept: Filtered) -> None:
    lifts = []
    for case in kept.kept:
        assert answer(demo, case).label == case.truth
        assert case.region is not None
        mass = localisation_scores(explain(demo, case, method="relevance").map, case.region)["relevance_mass"]
        lifts.append(mass.value / mass.chance)  # type: ignore[operator]
    assert np.mean(lifts) > 2


def test_the_filter_of_one_seed_counts_the_same_again(demo: Any, cases: Any, kept: Filtered) -> None:
    few = planted_items(cases, KINDS, 4, 2, instructed=False)
    again = causal_filter(demo, few)
    names = {item.case.id for item in few}
    assert [case.id for case in again.kept] == [case.id for case in kept.kept if case.id in names]


# --- a model that answers from one known cell ------------------------------------------------------------------------


class Cells:
    """Asks the reader of one cell about its tokens, those removed replaced by the mean, or the first, of the unread."""

    grid, scale = (4, 4), OWN

    def __init__(self, reading: Reading, aim: Aim, cell: int):
        self.reading, self.aim = reading, aim
        unread = torch.cat([reading.image_tokens[:, :cell], reading.image_tokens[:, cell + 1 :]], 1)  # (1, N − 1, D)
        self.instead = {"mean": unread.mean(1, keepdim=True), "another": unread[:, :1]}

    def __call__(self, masks: np.ndarray, imputers: Sequence[str]) -> np.ndarray:
        gone = torch.from_numpy(masks.reshape(len(masks), -1, 1))
        instead = torch.cat([self.instead[name] for name in imputers])  # (P, 1, D)
        with torch.no_grad():
            return score_tokens(self.reading, self.aim, torch.where(gone, instead, self.reading.image_tokens)).numpy()


def over_cells(method: str, options: dict[str, Any]) -> tuple[list[bool], str]:
    """Whether the map's maximum is the only cell read, and the verdict, over five cells and pictures."""
    hits, results = [], []
    for seed, cell in enumerate((0, 6, 9, 12, 15)):
        reading, _ = reader_of_one_cell()
        tokens = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(seed))
        tokens[..., 0] = -3
        tokens[0, cell, 0] = 3  # the feature that all queries seek
        reading.__dict__["image_tokens"] = tokens
        aim = resolve(reading, _towards_the_cell(reading))
        values = METHODS[method].compute(reading, aim, **options).values
        hits.append(int(values.argmax()) == cell)
        results.append(measure(Cells(reading, aim, cell), values, imputers=("mean", "another"), steps=4, seed=seed))
    return hits, compare_cases(results)[1]


@pytest.mark.parametrize("method", CAUSAL)
def test_every_causal_method_finds_the_cell_and_the_verdict_says_so(method: str) -> None:
    hits, verdict = over_cells(method, CAUSAL[method])
    assert all(hits)
    assert verdict.startswith("better than random")


def test_activation_norm_does_not_find_the_cell_and_the_verdict_says_so() -> None:
    hits, verdict = over_cells("activation_norm", {})
    assert sum(hits) <= 1  # by chance one in sixteen each
    assert not verdict.startswith("better")
