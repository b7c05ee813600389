"""One word on a map, by rules: the worst finding decides, and nothing unknown is taken for good."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from medgemma_visualizer.checks.faithfulness import measure
from medgemma_visualizer.checks.random_target import RandomTarget
from medgemma_visualizer.checks.randomisation import SIMILARITIES, Randomisation
from medgemma_visualizer.checks.token_order import TokenOrder
from medgemma_visualizer.checks.trust import judge
from medgemma_visualizer.records import Heatmap, Score, Target
from tests.checks.toys import Toy, planted

CAUSE = [18, 19, 26, 27]
GRID = (8, 8)
HEATMAP = Heatmap(
    np.ones(GRID, np.float32), "relevance", "relevance", Target("contrast", "yes", (5,)), model="my model"
)


def at_cause(value=1.0):
    grid = np.zeros(GRID)
    grid.flat[CAUSE] = value
    return grid


def faithful(grid):
    return measure(Toy(planted(CAUSE)), grid)


def forgotten(similarity=0.05, seeds=5):
    maps = np.random.default_rng(0).normal(size=(seeds, 1, 16, 16)).astype(np.float32)
    values = np.full((seeds, 1, len(SIMILARITIES)), similarity)
    return Randomisation("any", "cascading", ("all",), maps[0, 0], maps, values, 1.0, np.zeros((seeds, 1)), {}, True)


def targets(blind=False, independent=False, declared=False):
    same, other = (1.0, 1.0, 1.0), (0.1, 0.1, 0.1)
    reasons = {"random_target_other": "no map to compare with"} if independent is None else {}
    opposite, asked = same if blind else other, None if independent is None else same if independent else other
    return RandomTarget("any", "one?", "another?", opposite, asked, blind, independent, declared, reasons)


def order(misplaced=0):
    answers = np.arange(16)
    answers[:misplaced] = 15
    return TokenOrder(answers.reshape(4, 4), np.ones((4, 4), int))


def place(srg=(0.2, 0.3), difference=(0.1, 0.2), sanity="pass", method="relevance"):
    scores = {
        f"srg:{name}": Score(f"srg:{name}", sum(srg) / 2, "higher", 0.0, n=9, interval=srg) for name in ("blur", "mean")
    }
    # Pointing stays at chance: where the league holds SRG, that decides about random maps.
    scores["pointing"] = Score("pointing", 0.1, "higher", 0.1, n=9, interval=(0.0, 0.2))
    return SimpleNamespace(
        method=method,
        rank=2,
        scores=scores,
        differences={"pointing": SimpleNamespace(interval=difference)},
        sanity=SimpleNamespace(verdict=sanity),
    )


GOOD = {
    "faithfulness": faithful(at_cause()),
    "randomisation": forgotten(),
    "random_target": targets(),
    "token_order": order(),
    "place": place(),
}


def verdict(**changes):
    return judge(HEATMAP, **{**GOOD, **changes})


def test_a_map_that_passes_everything_on_a_model_with_a_league_is_trusted_and_says_what_it_passed():
    found = verdict()
    assert found.word == "trust"
    assert len(found.reasons) == 5
    assert "better than random under blur and mean" in found.reasons
    assert "place 2 in the league table of this model" in found.reasons


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"randomisation": forgotten(0.9)}, "stays when all weights are random (mean |ρ| 0.90)"),
        ({"token_order": order(3)}, "3 of 16 image tokens"),
        ({"faithfulness": faithful(-at_cause())}, "worse than random under blur and mean"),
        ({"random_target": targets(independent=True, declared=False)}, "declares the opposite"),
        ({"place": place(sanity="fail")}, "fails the sanity check in the league"),
        ({"against": ("the film is unknown",)}, "the film is unknown"),
    ],
)
def test_one_grave_finding_is_enough_to_distrust_and_comes_first(changes, reason):
    found = verdict(**changes)
    assert found.word == "do not trust"
    assert reason in found.reasons[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"faithfulness": faithful(np.random.default_rng(3).random(GRID))}, "not distinguishable from random"),
        ({"faithfulness": faithful(np.ones(GRID))}, "not distinguishable from random"),
        ({"faithfulness": None}, "faithfulness was not checked"),
        ({"randomisation": None}, "dependence on the weights was not checked"),
        ({"randomisation": forgotten(0.9, seeds=4)}, "4 of the 5 draws"),
        ({"random_target": None}, "dependence on the target was not checked"),
        ({"random_target": targets(independent=True, declared=True)}, "the same for any question"),
        ({"random_target": targets(blind=True)}, "the same for the opposite answer"),
        ({"random_target": targets(independent=None)}, "no map to compare with"),
        ({"token_order": None}, "order of the image tokens was not checked"),
        ({"place": None}, "medgemma-visualizer trust --model 'my model'"),
        ({"place": place(srg=(-0.1, 0.3))}, "does not beat random maps (srg:blur, srg:mean)"),
        ({"place": place(difference=(-0.1, 0.2))}, "does not beat the specification's default"),
    ],
)
def test_what_is_unknown_undecided_or_weak_asks_for_care(changes, reason):
    found = verdict(**changes)
    assert found.word == "with care"
    assert reason in found.reasons[0]


def test_the_reason_of_a_check_that_could_not_be_made_is_told():
    found = verdict(faithfulness=None, failures={"faithfulness": "nothing that was hidden changes the score"})
    assert found.reasons == ("faithfulness could not be checked: nothing that was hidden changes the score",)


def test_a_map_of_which_nothing_was_asked_is_said_to_be_unchecked_once():
    found = judge(HEATMAP, place=place())
    assert found.word == "with care"
    assert found.reasons == ("this very map was not checked: medgemma-visualizer check does",)
    assert judge(HEATMAP, place=place(sanity="fail")).word == "do not trust"


def test_the_leagues_reference_need_not_beat_itself():
    own = place(difference=(0.0, 0.0), method="gradcam_multi_token")
    assert verdict(place=own, reference="gradcam_multi_token").word == "trust"
    assert verdict(place=own).word == "with care"


def test_a_league_of_numbers_without_srg_is_read_by_those_that_it_has():
    poor = place()
    poor.scores = {"pointing": poor.scores["pointing"]}
    assert "(pointing)" in verdict(place=poor).reasons[0]
    poor.scores = {}
    assert "(no number)" in verdict(place=poor).reasons[0]


def test_no_map_is_never_trusted_whatever_else_is_known():
    found = judge(replace(HEATMAP, grid=None), **GOOD)
    assert (found.word, found.reasons) == ("do not trust", ("no explanation is available",))


def test_all_reasons_are_told_the_gravest_first():
    found = verdict(randomisation=forgotten(0.9), place=None, faithfulness=None)
    assert found.word == "do not trust"
    assert len(found.reasons) == 3
    assert "all weights are random" in found.reasons[0]
    assert str(found).startswith("do not trust: the map stays")
