"""Rows of a case equal what the public verbs say of it; what goes wrong with one case stays with it."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medgemma_visualizer import verbs
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import VisualizerError
from medgemma_visualizer.records import Case
from medgemma_visualizer.runs import films, shards
from medgemma_visualizer.runs.films import OUT_OF_MEMORY, encode
from medgemma_visualizer.runs.judging import judged, kind_of
from medgemma_visualizer.runs.plan import RunPlan, shards_of
from medgemma_visualizer.runs.shards import ask_all


def rows(model: Any, cases: list[Case], plan: RunPlan, **how: Any) -> list[dict[str, Any]]:
    groups = [group for shard in shards_of(cases, 100) for group in shard.groups]
    return [row for one in ask_all(model, groups, plan, **how) for row in one.rows]


@pytest.fixture(scope="module")
def asked(demo: Any, cases: Any) -> Any:
    """Three questions, two of them about one picture, under two methods."""
    return rows(demo, list(cases[:3]), RunPlan(("relevance", "cross_attention")))


def test_answers_maps_and_scores_are_those_of_analyze(demo: Any, cases: Any, asked: Any) -> None:
    by_key = {(row["case_id"], row["method"]): row for row in asked}
    assert len(by_key) == 6
    for case in cases[:3]:
        for method in ("relevance", "cross_attention"):
            row, known = by_key[case.id, method], verbs.analyze(demo, case, method=method)
            assert (row["answer"], row["label"]) == (known.answer.text, known.answer.label)
            assert row["correct"] == known.correct
            assert row["p_yes"] == pytest.approx(known.answer.p_yes, abs=1e-4)
            grid = np.reshape(row["map"], (row["rows"], row["cols"]))
            np.testing.assert_allclose(grid, known.heatmap.map, rtol=1e-2, atol=1e-3 * known.heatmap.map.max())
            numbers = {name: score for name, score in known.scores.items() if isinstance(score.value, float)}
            assert {f"value:{name}" for name in numbers} == {name for name in row if name.startswith("value:")}
            for name, score in numbers.items():
                assert row[f"value:{name}"] == pytest.approx(score.value, rel=0.05, abs=0.02), name
                assert row.get(f"chance:{name}") == pytest.approx(score.chance), name


def test_the_same_cases_give_the_same_rows_whatever_was_asked_before(demo: Any, cases: Any, asked: Any) -> None:
    again = rows(demo, list(cases[:3]), RunPlan(("relevance", "cross_attention")))
    assert again == asked
    shared = [case for case in cases[:3] if case.image == cases[0].image]
    alone = rows(demo, shared, RunPlan(("relevance", "cross_attention")))
    assert alone == [row for row in asked if row["case_id"] in {case.id for case in shared}]


def test_a_picture_that_is_missing_fails_with_all_its_questions_and_the_others_do_not(
    demo: Any, cases: Any, tmp_path: Path
) -> None:
    gone = tmp_path / "Jane Doe.png"
    broken = [Case("x", gone, "Is there an effusion?"), Case("y", gone, "Is the heart enlarged?")]
    found = rows(demo, [broken[0], cases[0], broken[1]], RunPlan(("cross_attention",)))
    assert [(row["case_id"], row["failed"]) for row in found] == [("x", True), ("y", True), (cases[0].id, False)]
    reason = found[0]["reason"]
    assert "does not exist" in reason
    assert "Doe" not in reason
    assert str(tmp_path) not in reason
    assert found[0] | {"question": "", "case_id": "", "patient_id": ""} == found[1] | {
        "question": "",
        "case_id": "",
        "patient_id": "",
    }


def test_a_question_that_is_too_long_fails_alone(demo: Any, cases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = replace(cases[0], id="long", question="word " * 190)
    limit = len(shards.read(demo, picture(cases[0]), cases[0].question).prompt.ids) + 20
    monkeypatch.setattr(demo, "family", replace(demo.family, max_positions=lambda config: limit))
    found = rows(demo, [longest, cases[0]], RunPlan(("cross_attention",)))
    assert [(row["case_id"], row["failed"]) for row in found] == [("long", True), (cases[0].id, False)]


def test_a_slip_of_ours_is_told_by_its_kind_and_place_and_by_nothing_that_a_file_says(
    demo: Any, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slip(*_: Any) -> Any:
        raise KeyError("Jane Doe")

    monkeypatch.setattr(shards, "resolve", slip)
    (row,) = rows(demo, [cases[0]], RunPlan(("cross_attention",)))
    assert row["failed"]
    assert row["reason"].startswith("unexpected KeyError in runs/shards.py, line ")
    assert "Doe" not in row["reason"]


def test_a_method_that_cannot_explain_leaves_its_reason_and_the_answer_stands(
    demo: Any, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medgemma_visualizer.heatmaps import METHODS

    def never(reading: Any, aim: Any) -> Any:
        raise VisualizerError("nothing to see")

    monkeypatch.setitem(METHODS._entries, "cross_attention", replace(METHODS["cross_attention"], compute=never))
    (row,) = rows(demo, [cases[0]], RunPlan(("cross_attention",)))
    assert (row["failed"], row["available"], row["why"], row["label"]) == (False, False, "nothing to see", "yes")
    assert "map" not in row


def test_the_check_gives_a_number_beside_that_of_a_random_order(demo: Any, cases: Any) -> None:
    plan = RunPlan(("cross_attention",), checks=("faithfulness",), imputers=("mean",), space="tokens", steps=2)
    (row,) = rows(demo, [cases[0]], plan)
    numbers = {name: row[f"{kind}{name}:mean"] for kind in ("value:", "chance:") for name in ("deletion_auc", "srg")}
    assert all(-1 <= value <= 1 for value in numbers.values())
    for kind in ("value:", "chance:"):
        gap = row[f"{kind}insertion_auc:mean"] - row[f"{kind}deletion_auc:mean"]
        assert row[f"{kind}srg:mean"] == pytest.approx(gap)


def test_other_wordings_are_rows_of_their_own_with_their_distance_from_the_question(demo: Any, cases: Any) -> None:
    found = rows(demo, [cases[0]], RunPlan(("cross_attention", "relevance"), prompts=2))
    assert [(row["wording"], row["method"]) for row in found] == [
        (0, "cross_attention"),
        (0, "relevance"),
        (1, "cross_attention"),
        (2, "cross_attention"),
    ]
    for row in found[2:]:
        assert row["asked"] not in ("", cases[0].question)
        assert 0 <= row["value:js_divergence"] <= np.log(2)
        assert "map" not in row
    strange = replace(cases[0], id="strange", question="Tell me of everything")
    assert {row["wording"] for row in rows(demo, [strange], RunPlan(("cross_attention",), prompts=2))} <= {0, 1, 2}


@pytest.mark.parametrize("method", ["gradcam_multi_token", "cross_attention"])
def test_questions_that_are_asked_together_get_the_rows_that_each_gets_alone(
    demo: Any, cases: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*cases[:5], replace(cases[0], id="own words", question="Describe the film.", truth=None)]
    plan = RunPlan((method,), prompts=1, max_new_tokens=6)
    alone = rows(demo, asked, plan)
    together: list[int] = []
    answer_together = shards.answer_together
    monkeypatch.setattr(
        shards, "answer_together", lambda some, *how: together.append(len(some)) or answer_together(some, *how)
    )
    found = rows(replace(demo, fast=True), asked, replace(plan, batch=4))
    assert sum(together) == len(alone)  # none of them was asked by itself
    assert max(together) == 4
    assert [row.keys() for row in found] == [row.keys() for row in alone]
    for one, other in zip(found, alone, strict=True):
        for name, value in other.items():
            if isinstance(value, float):
                assert one[name] == pytest.approx(value, rel=1e-2, abs=1e-3), name
            elif name == "map":
                np.testing.assert_allclose(one[name], value, rtol=1e-2, atol=1e-3 * max(value))
            else:
                assert one[name] == value, name


def test_what_fails_together_is_asked_alone(demo: Any, cases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(some: Any, *_: Any) -> Any:
        raise RuntimeError("no")

    plan = RunPlan(("cross_attention",), max_new_tokens=4)
    expected = rows(replace(demo, fast=True), list(cases[:3]), plan)
    monkeypatch.setattr(shards, "answer_together", fails)
    found = rows(replace(demo, fast=True), list(cases[:3]), replace(plan, batch=3))
    assert [(row["case_id"], row["answer"], row["failed"]) for row in found] == [
        (row["case_id"], row["answer"], False) for row in expected
    ]


def test_a_batch_of_questions_that_does_not_fit_is_halved(
    demo: Any, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    answer_together = shards.answer_together

    def small(some: Any, *how: Any) -> Any:
        sizes.append(len(some))
        if len(some) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return answer_together(some, *how)

    monkeypatch.setattr(shards, "answer_together", small)
    plan = RunPlan(("cross_attention",), max_new_tokens=4, batch=4)
    found = rows(replace(demo, fast=True), list(cases[:4]), plan)
    assert sizes[0] == 4
    assert set(sizes[1:]) == {2}
    assert not any(row["failed"] for row in found)


def test_stop_ends_the_work_after_the_picture_in_hand(demo: Any, cases: Any) -> None:
    groups = [group for shard in shards_of(cases[:12], 100) for group in shard.groups]
    looks = iter([False, True])
    found = list(ask_all(demo, groups, RunPlan(("cross_attention",)), stop=lambda: next(looks)))
    assert [one.cases for one in found] == [tuple(groups[0])]


# --- memory ----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_halved_until_it_does_once_what_was_captured_is_given_up(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up: list[Any] = []
    monkeypatch.setattr(films.graphs, "forget", given_up.append)
    sizes: list[int] = []

    def encoder(some: torch.Tensor) -> torch.Tensor:
        sizes.append(len(some))
        if len(some) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return some * 2

    inputs = [torch.full((1, 3), float(k)) for k in range(7)]
    found = encode(demo, encoder, inputs)
    assert [float(one[0, 0]) for one in found] == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [7, 4, 2, 2, 3, 2, 1]
    assert given_up == [demo] * 3


def test_what_does_not_fit_by_itself_is_a_reason_and_the_others_go_on(demo: Any) -> None:
    def encoder(some: torch.Tensor) -> torch.Tensor:
        if (some == 1).any():
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")
        return some

    found = encode(demo, encoder, [torch.full((1, 2), float(k)) for k in range(3)])
    assert [one if isinstance(one, str) else float(one[0, 0]) for one in found] == [0, OUT_OF_MEMORY, 2]


def test_another_error_is_no_want_of_memory(demo: Any) -> None:
    def encoder(some: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        encode(demo, encoder, [torch.zeros(1, 2)])


def test_pictures_are_read_ahead_but_not_all_at_once() -> None:
    read: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        futures = films.ahead(pool, lambda k: read.append(k) or k, range(100), 3)
        first = next(futures)
        assert first.result() == 0
        pool.submit(lambda: None).result()  # whatever was handed in before is done now
        assert read == [0, 1, 2, 3]
        assert [future.result() for future in futures] == list(range(1, 100))


# --- what is right ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "truth", "kind", "label", "right"),
    [
        (("yes", "no"), "yes", "yes/no", "yes", True),
        ((), "No", "yes/no", "no", True),
        ((), "no", "yes/no", "uncertain", False),
        (("left", "right"), "left", "choice", "right", False),
        (("left", "right"), None, "choice", "left", None),
        (("yes", "no"), "present", "yes/no", "yes", None),  # a truth that no answer can meet says nothing
        (("left", "right"), "both", "choice", "left", None),
        ((), "left lower lobe", "open", "uncertain", None),
        ((), None, "open", "yes", None),
    ],
)
def test_an_answer_is_right_only_where_words_can_be_compared(
    options: tuple[str, ...], truth: str | None, kind: str, label: str, right: bool | None
) -> None:
    case = Case("x", "film.png", "?", options=options, truth=truth)
    assert kind_of(case) == kind
    assert judged(label, case) is right


def test_a_picture_is_let_go_of_with_its_graph_once_its_questions_are_asked(demo: Any, cases: Any) -> None:
    from medgemma_visualizer.checks.compare import read_once
    from medgemma_visualizer.heatmaps import explain_reading, ways

    made: list[weakref.ref[Any]] = []
    gc.collect()
    gc.disable()  # Python's search for circles comes seldom: a long run must not wait for it
    try:
        reading = shards.read(demo, picture(cases[0]), cases[0].question)
        with read_once(reading, "relevance") as ask:
            made.append(weakref.ref(ways._beginning.get()))
            assert explain_reading(ask(cases[0].question), "relevance").available
        del ask
        assert made[0]() is None
    finally:
        gc.enable()
