"""Random maps, the centre and the verdict."""

import numpy as np
import pytest
from scipy import stats

from medgemma_visualizer.checks.controls import (
    Comparison,
    against_random,
    centre_order,
    over_cases,
    random_orders,
    rearranged,
    standing_of,
    verdict,
)
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import ranked_cells
from medgemma_visualizer.records import Score


def srg(imputer, difference, half, **more):
    return Comparison("srg", imputer, "higher", difference, (difference - half, difference + half), **more)


def test_random_orders_are_permutations_in_pairs_that_a_constant_maps_ties_do_not_repeat():
    orders = random_orders(64, 8, seed=3)
    assert len(orders) == 16
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert all(np.array_equal(one, other[::-1]) for one, other in zip(orders[::2], orders[1::2], strict=True))
    assert len({order.tobytes() for order in map(np.ascontiguousarray, orders)}) == 16
    ties = ranked_cells(np.ones((8, 8)), seed=3)
    assert not any(np.array_equal(ties, order) for order in orders)


def test_fewer_than_eight_random_maps_are_refused():
    with pytest.raises(InputError, match="at least 8"):
        random_orders(64, 7)


def test_the_centre_comes_first_and_a_corner_last():
    order = centre_order(5, 5)
    assert order[0] == 12
    assert set(order[-4:]) == {0, 4, 20, 24}


def test_controls_hold_the_maps_own_values():
    values = np.array([[0.1, 0.9], [0.5, 0.2]])
    assert rearranged(values, np.array([3, 0, 1, 2])).tolist() == [0.5, 0.2, 0.1, 0.9]
    assert rearranged(values, ranked_cells(values)).tolist() == values.ravel().tolist()


def test_the_interval_of_one_case_is_students_for_one_more_random_map():
    randoms = [0.1, -0.1, 0.3, -0.3, 0.2, -0.2, 0.05, -0.05]
    found = against_random(Score("srg", 0.8, "higher"), "blur", randoms)
    half = stats.t.ppf(0.975, 4) * np.std(randoms, ddof=1) * np.sqrt(1 + 1 / 8)
    assert found.difference == pytest.approx(0.8, abs=1e-6)
    assert found.interval == pytest.approx((0.8 - half, 0.8 + half), abs=1e-6)


def test_random_maps_that_all_score_alike_make_no_hairs_breadth_a_difference():
    alike = [0.0] * 16
    assert against_random(Score("srg", 0.003, "higher"), "blur", alike, least=0.01).standing == "none"
    assert against_random(Score("srg", 0.25, "higher"), "blur", alike, least=0.01).standing == "better"


def test_a_winner_needs_two_imputers_that_agree():
    assert standing_of([srg("blur", 0.4, 0.1), srg("mean", 0.3, 0.1)]) == "better"
    assert standing_of([srg("blur", 0.4, 0.1)]) == "none"
    assert standing_of([srg("blur", 0.4, 0.1), srg("mean", 0.3, 0.5)]) == "none"
    assert standing_of([srg("blur", 0.4, 0.1), srg("mean", 0.4, 0.1), srg("gray", -0.4, 0.1)]) == "none"
    assert standing_of([srg("blur", -0.4, 0.1), srg("mean", -0.3, 0.1)]) == "worse"


def test_lower_is_better_for_numbers_that_say_so():
    assert Comparison("deletion_auc", "blur", "lower", -0.3, (-0.4, -0.2)).standing == "better"
    assert Comparison("deletion_auc", "blur", "lower", 0.3, (0.2, 0.4)).standing == "worse"


def test_verdicts_say_by_how_much_with_their_interval():
    better = verdict([srg("blur", 0.4, 0.1), srg("mean", 0.3, 0.1)])
    assert better == (
        "better than random by 0.400 on blur (95 % interval 0.300 to 0.500) "
        "and 0.300 on mean (95 % interval 0.200 to 0.400)"
    )
    worse = verdict([srg("blur", -0.4, 0.1), srg("mean", -0.3, 0.1)])
    assert worse.startswith("worse than random by 0.400 on blur (95 % interval 0.300 to 0.500)")
    undecided = verdict([srg("blur", 0.1, 0.3), srg("mean", -0.1, 0.3)])
    assert undecided.startswith("not distinguishable from random: SRG differs by +0.100 on blur (95 % interval -0.200")


def test_verdicts_name_why_there_is_none():
    assert "imputers disagree" in verdict([srg("blur", 0.4, 0.1), srg("mean", 0.1, 0.3)])
    assert "one imputer, which is never enough" in verdict([srg("blur", 0.4, 0.1)])
    assert "blur hides nothing" in verdict([srg("blur", 0.4, 0.1, mute="blur hides nothing"), srg("mean", 0.4, 0.1)])
    assert verdict([srg("blur", 0.4, 0.1)] * 2, constant=True).endswith("the map is equal everywhere")


def test_many_cases_are_counted_by_patient():
    cases = [srg("blur", difference, 9.0) for difference in (0.2, 0.4, 0.3, 0.1)]
    together = over_cases(cases, ["a", "a", "b", "c"])
    assert together.difference == pytest.approx(0.25)
    assert together.n == 4
    assert together.standing == "better"
    assert over_cases(cases, ["a"] * 4).interval is None
    assert "one patient" in verdict([over_cases(cases, ["a"] * 4)])
    with pytest.raises(InputError, match="group them"):
        over_cases([cases[0], srg("mean", 0.1, 0.1)])
