"""What a run is: shards that never cut a picture's questions apart, and a fingerprint that tells what would differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case
from medgemma_visualizer.runs.plan import (
    RunPlan,
    asked_of,
    cases_digest,
    checked_plan,
    differences,
    fingerprint_of,
    shards_of,
    share_of,
)


def made(*pictures: str) -> list[Case]:
    """A case for each letter, about the picture of that name."""
    return [Case(f"case {k}", Path(f"/films/{name}.png"), f"Question {k}?") for k, name in enumerate(pictures)]


def ids(shards: Any) -> list[list[str]]:
    return [[case.id.removeprefix("case ") for case in shard.cases] for shard in shards]


def test_questions_of_one_picture_stay_together_in_the_order_of_its_first():
    assert ids(shards_of(made("a", "b", "a", "c", "b"), 2)) == [["0", "2"], ["1", "4"], ["3"]]
    assert ids(shards_of(made("a", "b", "a", "c", "b"), 3)) == [["0", "2", "1", "4"], ["3"]]
    assert ids(shards_of(made("a", "a", "a"), 1)) == [["0", "1", "2"]]


def test_a_picture_in_memory_is_told_by_the_object_that_it_is(cases: Any) -> None:
    from PIL import Image

    one, other = Image.new("L", (8, 8)), Image.new("L", (8, 8))
    found = shards_of([Case("0", one, "?"), Case("1", other, "?"), Case("2", one, "?")], 1)
    assert [[case.id for case in shard.cases] for shard in found] == [["0", "2"], ["1"]]


@pytest.mark.parametrize(("n", "size"), [(20, 8), (1600, 8), (4000, 20), (377_110, 256)])
def test_shards_grow_with_the_set_but_stay_small_enough_to_lose(n: int, size: int) -> None:
    found = shards_of([Case(str(k), f"{k}.png", "?") for k in range(n)])
    assert {len(shard.cases) for shard in found[:-1]} == {size}
    assert sum(len(shard.cases) for shard in found) == n


def test_jobs_of_an_array_share_all_shards_and_none_twice():
    shards = shards_of(made(*"abcdefg"), 1)
    shares = [share_of(shards, f"{k}/3") for k in (1, 2, 3)]
    assert [[shard.index for shard in share] for share in shares] == [[0, 3, 6], [1, 4], [2, 5]]
    assert share_of(shards, None) == shards


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5"])
def test_a_share_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="such as 3/8"):
        share_of((), text)


def test_no_case_a_case_twice_and_an_empty_shard_are_refused():
    with pytest.raises(InputError, match="no case"):
        shards_of([])
    with pytest.raises(InputError, match="'case 0' stands twice"):
        shards_of(made("a") * 2)
    with pytest.raises(InputError, match="0 cases in a shard"):
        shards_of(made("a"), 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"methods": ()}, "at least one method"),
        ({"methods": ("relevance", "relevance")}, "named once"),
        ({"methods": ("relevanz",)}, "relevance"),
        ({"methods": ("auto",)}, "Name one"),
        ({"checks": ("faith",)}, "Known: faithfulness"),
        ({"imputers": ("fog",)}, "imputer"),
        ({"space": "words"}, "space"),
        ({"prompts": -1}, "prompts"),
        ({"prompts": 21}, "between 0 and 20"),
        ({"steps": 1}, "steps"),
        ({"seed": -1}, "seed"),
        ({"batch": 0}, "batch"),
        ({"target": "one two three four five six"}, "words"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        checked_plan(replace(RunPlan(("relevance",)), **change))


def test_the_same_run_has_the_same_fingerprint_wherever_its_films_lie(demo: Any) -> None:
    plan, here = RunPlan(("relevance",)), made("a", "b")
    there = [replace(case, image=Path("/elsewhere") / Path(case.image).name) for case in here]
    prints = [fingerprint_of(asked_of(demo, plan), cases, shards_of(cases)) for cases in (here, there)]
    assert prints[0] == prints[1]
    assert differences(*prints) == []


@pytest.mark.parametrize(
    "change", [{"question": "Another?"}, {"truth": "yes"}, {"finding": "x"}, {"options": ("yes",)}, {"view": "AP"}]
)
def test_a_change_of_any_case_is_another_set(change: dict[str, Any]) -> None:
    one = made("a", "b")
    assert cases_digest(one) != cases_digest([one[0], replace(one[1], **change)])
    assert cases_digest(one) != cases_digest(one[::-1])


def test_a_region_that_was_drawn_anew_is_another_set_and_one_that_lies_elsewhere_is_the_same(tmp_path: Path) -> None:
    from collections import ChainMap

    from PIL import Image

    from medgemma_visualizer.data.regions import Box, DrawnRegions, MaskFile, Outline
    from medgemma_visualizer.data.sources import Regions

    def of(regions: Any) -> str:
        return cases_digest([replace(made("a")[0], regions=regions)])

    for place, box in (("here", (1, 1, 2, 2)), ("there", (1, 1, 2, 2)), ("changed", (0, 0, 3, 3))):
        (tmp_path / place).mkdir()
        mask = Image.new("1", (8, 8))
        mask.paste(1, box)
        mask.save(tmp_path / place / "mask.png")
    for make in (
        lambda place: Regions({"x": tmp_path / place / "mask.png"}),
        lambda place: DrawnRegions("a.png", {"x": Outline((MaskFile(tmp_path / place / "mask.png"),))}),
        lambda place: DrawnRegions(place, {"x": Outline((Box(0, 0, 9 if place == "changed" else 5, 5),))}),
        lambda place: {"x": np.full((4, 4), place == "changed")},
        lambda place: ChainMap({"y": np.ones((2, 2))}, {"x": np.full((4, 4), place == "changed")}),
    ):
        assert of(make("here")) == of(make("there"))
        assert of(make("here")) != of(make("changed"))
    with pytest.raises(InputError, match="cannot be read"):
        of(Regions({"x": tmp_path / "gone.png"}))


def test_differences_name_what_changed_and_both_values(demo: Any) -> None:
    cases = made("a")
    first = fingerprint_of(asked_of(demo, RunPlan(("relevance",))), cases, shards_of(cases))
    other = fingerprint_of(asked_of(demo, RunPlan(("relevance",), seed=7)), cases, shards_of(cases))
    assert differences(first, other) == ["asked.seed: 0 → 7"]


def test_weights_that_were_made_smaller_make_another_run(demo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = RunPlan(("relevance",))
    whole = asked_of(demo, plan)
    monkeypatch.setitem(vars(demo.hf.config), "quantization_config", {"load_in_4bit": True})
    assert differences(whole, asked_of(demo, plan)) == ['model.quantized.load_in_4bit: nothing → "True"']
