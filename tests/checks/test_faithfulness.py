"""Whole checks of a map: on formulas whose right answer is known, and on the embedded model."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from medgemma_visualizer.checks.curves import curve_metrics
from medgemma_visualizer.checks.erasure import comprehensiveness, deletion_curve, insertion_curve, sufficiency
from medgemma_visualizer.checks.faithfulness import compare_cases, faithfulness, measure, remapping
from medgemma_visualizer.checks.scoring import LOG_ODDS, LOG_PROBABILITY, OWN, Memo, ModelScorer
from medgemma_visualizer.checks.suite import Suite
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps import METHODS, resolve
from medgemma_visualizer.heatmaps.probing import score_masks
from medgemma_visualizer.progress import listening
from medgemma_visualizer.scores.statistics import bootstrap_interval
from medgemma_visualizer.scores.verdict import NO_BETTER
from tests.checks.toys import Toy, linear, planted
from tests.heatmaps.conftest import read_tiny, tiny_model

CAUSE = [18, 19, 26, 27]
GRID = (8, 8)
PIXEL_CONTROLS = {"control_percents": (20, 50, 80), "subsets": 0}


def at_cause(value=1.0):
    """A map that knows the planted cells."""
    grid = np.zeros(GRID)
    grid.flat[CAUSE] = value
    return grid


def random_map(seed):
    return np.random.default_rng(1000 + seed).random(GRID)


@pytest.fixture(scope="module")
def perfect():
    return measure(Toy(planted(CAUSE)), at_cause())


def test_the_perfect_map_of_planted_evidence_beats_random_maps_and_the_centre_and_its_inverse_loses(perfect):
    assert perfect.standing == "better"
    assert perfect.verdict.startswith("better than random by ")
    for imputer in ("blur", "mean"):
        srg = perfect.scores[f"srg:{imputer}"].value
        beside = perfect.controls[f"srg:{imputer}"]
        assert beside["random"] == pytest.approx(0, abs=1e-12)
        assert srg > beside["centre"] > beside["inverse"]
        assert beside["inverse"] == pytest.approx(-srg, abs=1e-12)
    assert measure(Toy(planted(CAUSE)), -at_cause()).standing == "worse"


def test_no_order_scores_more_than_the_perfect_map(perfect):
    best = {key: perfect.scores[f"{key}:blur"].value for key in ("srg", "insertion_auc", "comprehensiveness_aopc")}
    for seed in range(30):
        other = measure(Toy(planted(CAUSE)), random_map(seed), **PIXEL_CONTROLS).scores
        assert all(other[f"{key}:blur"].value <= value + 1e-12 for key, value in best.items())
        assert other["deletion_auc:blur"].value >= perfect.scores["deletion_auc:blur"].value - 1e-12


def test_numbers_of_the_perfect_map_by_hand(perfect):
    """All four cells are gone, or all there, once 4 of 64 cells are: f falls from .9 to .1 in the first of 16 steps."""
    value = {key: score.value for key, score in perfect.scores.items()}
    assert value["deletion_auc:blur"] == pytest.approx(0.1 + 0.8 / 16 / 2, abs=1e-6)
    assert value["insertion_auc:blur"] == pytest.approx(0.9 - 0.8 / 16 / 2, abs=1e-6)
    assert value["srg:blur"] == pytest.approx(0.8 * 15 / 16, abs=1e-6)
    assert value["comprehensiveness:blur"] == pytest.approx(0.8, abs=1e-6)
    assert value["comprehensiveness_aopc:blur"] == pytest.approx((0.2 + 0.6 + 3 * 0.8) / 5, abs=1e-6)
    assert value["sufficiency:blur"] == pytest.approx(0, abs=1e-6)
    assert value["comprehensiveness_spec:blur"] == pytest.approx(0.8 / 0.9, abs=1e-6)
    assert value["sufficiency_spec:blur"] == pytest.approx(1, abs=1e-6)
    assert value["deletion_auc_spec:blur"] == pytest.approx(0.8, abs=1e-6)
    assert value["insertion_auc_spec:blur"] == pytest.approx(0.9, abs=1e-6)
    assert value["prior:blur"] == perfect.prior["blur"] == pytest.approx(0.1)
    assert perfect.scores["comprehensiveness_spec:blur"].verdict == "good"


def test_a_linear_models_weights_have_no_infidelity_and_full_correlation():
    weights = np.random.default_rng(0).random(GRID)
    scores = measure(Toy(linear(weights / weights.sum())), weights).scores
    assert scores["infidelity:blur"].value == pytest.approx(0, abs=1e-12)
    assert scores["faithfulness_correlation:mean"].value == pytest.approx(1, abs=1e-12)
    assert scores["infidelity:blur"].chance > 1e-5


def all_or_nothing(left):
    """A saturated answer that tips when half of the planted cells are gone."""
    return expit(40 * (left[:, CAUSE].mean(axis=1) - 0.4))


def test_random_maps_have_an_srg_of_zero_within_its_interval_over_200_cases():
    found = [measure(Toy(planted(CAUSE)), random_map(seed), seed=seed, **PIXEL_CONTROLS) for seed in range(200)]
    for imputer in ("blur", "mean"):
        low, high = bootstrap_interval([one.scores[f"srg:{imputer}"].value for one in found]).interval
        assert low < 0 < high
    comparisons, words = compare_cases(found)
    assert words.startswith("not distinguishable from random")
    assert all(one.n == 200 for one in comparisons)
    assert sum(one.standing == "better" for one in found) <= 10  # 2.5 % of 200 are 5


def test_a_random_map_of_a_saturated_answer_rarely_wins_and_mirrors_its_reverse_exactly():
    """An order and its reverse are equally likely, so mirrored SRGs mean an expectation of exactly 0."""
    wins = 0
    for seed in range(200):
        found = measure(Toy(all_or_nothing), random_map(seed), seed=seed, **PIXEL_CONTROLS)
        wins += found.standing == "better"
        srg = found.scores["srg:blur"].value
        assert found.controls["srg:blur"]["inverse"] == pytest.approx(-srg, abs=1e-12)
        assert found.controls["srg:blur"]["random"] == pytest.approx(0, abs=1e-12)
    assert wins <= 10


def test_many_good_maps_are_better_by_patient():
    found = [measure(Toy(planted(CAUSE)), at_cause() + 0.1 * random_map(seed), seed=seed) for seed in range(6)]
    comparisons, words = compare_cases(found, ["a", "a", "b", "b", "c", "c"])
    assert words.startswith("better than random by ")
    assert {one.imputer for one in comparisons} == {"blur", "mean"}
    with pytest.raises(InputError, match="No mean of 'nonsense'"):
        compare_cases(found, name="nonsense")


@pytest.mark.parametrize("seed", range(20))
def test_a_constant_map_never_wins_whatever_its_ties_draw(seed):
    found = measure(Toy(planted(CAUSE)), np.full(GRID, 0.3), seed=seed)
    assert found.standing == "none"
    assert found.verdict == "not distinguishable from random: the map is equal everywhere"
    assert {s.verdict for s in found.scores.values() if s.chance is not None} == {NO_BETTER}
    assert found.scores["faithfulness_correlation:blur"].value is None


def test_tied_cells_are_ordered_by_the_seed_and_not_by_their_place():
    corner = np.zeros(GRID)
    orders = {Suite(Memo(Toy(planted(CAUSE))), corner, ("blur",), 16, 8, s, (50,), 0).order.tobytes() for s in range(9)}
    assert len(orders) == 9
    assert np.arange(64).tobytes() not in orders


def test_a_winner_is_named_only_where_two_imputers_agree():
    one = measure(Toy(planted(CAUSE)), at_cause(), imputers=("blur",))
    assert one.standing == "none"
    assert "one imputer" in one.verdict
    silent = measure(Toy(planted(CAUSE), strength={"blur": 0.001}), at_cause())
    assert silent.standing == "none"
    assert "blur changes f by less than 0.01" in silent.verdict
    assert silent.scores["insertion_auc_spec:blur"].verdict == NO_BETTER
    assert silent.scores["comprehensiveness:mean"].verdict != NO_BETTER


def test_the_suite_of_a_map_asks_at_most_140_pictures_in_one_call_and_none_twice():
    toy = Toy(planted(CAUSE), (16, 16))
    suite = Suite(Memo(toy), random_grid(16), ("blur", "mean"), 16, 8, 0, (20, 50, 80), 0)
    suite.memo.learn(suite.pictures_of_the_map())
    assert suite.memo.n_scorings <= 140
    toy = Toy(planted(CAUSE), (16, 16))
    found = measure(toy, random_grid(16), **PIXEL_CONTROLS)
    assert toy.calls == [found.n_scorings]
    assert found.n_of_the_map == suite.memo.n_scorings
    assert found.n_scorings <= 210  # with all controls: 8 random maps, the centre, two imputers


def random_grid(side):
    return np.random.default_rng(5).random((side, side))


def test_every_number_has_its_chance_and_the_controls_beside_it(perfect):
    for key, score in perfect.scores.items():
        if not key.startswith("prior"):
            assert score.chance == pytest.approx(perfect.controls[key]["random"])
            assert {"random", "centre", "inverse"} <= perfect.controls[key].keys()
            low, high = perfect.comparisons[key].interval
            assert low <= perfect.comparisons[key].difference <= high


def test_comparisons_read_the_map_at_the_shares_of_the_controls():
    found = measure(Toy(planted(CAUSE)), at_cause(), **PIXEL_CONTROLS)
    curve = found.curves["blur"].map
    shares = np.array([0, 13, 32, 51, 64]) / 64
    asked = [curve.shares.tolist().index(share) for share in shares]
    by_hand = np.trapezoid(curve.alone[asked] - curve.without[asked], shares)
    assert found.comparisons["srg:blur"].difference == pytest.approx(by_hand, abs=1e-6)


def test_the_inverse_map_mirrors_the_map_and_the_empty_picture_is_the_prior(perfect):
    curves = perfect.curves["blur"]
    steps = np.arange(17) / 16
    assert curves.inverse.without_at(steps) == pytest.approx(curves.map.alone_at(1 - steps))
    assert curves.prior == curves.map.without[-1] == curves.map.alone[0] == curves.centre.without[-1]
    assert len(curves.randoms) == 16


def test_numbers_in_nats_stand_beside_probabilities_and_never_as_ratios():
    odds = Toy(lambda left: 6 * left[:, CAUSE].mean(1) - 3, scale=LOG_ODDS)
    scores = measure(odds, at_cause()).scores
    assert scores["comprehensiveness_logodds:blur"].value == pytest.approx(6)
    assert scores["comprehensiveness:blur"].value == pytest.approx(np.tanh(1.5))
    words = Toy(lambda left: 6 * left[:, CAUSE].mean(1) - 7, scale=LOG_PROBABILITY)
    scores = measure(words, at_cause()).scores
    assert scores["comprehensiveness_logprob:blur"].value == pytest.approx(6)
    assert scores["sufficiency_spec:blur"].value == pytest.approx(1)
    assert not [key for key in scores if "_spec" in key and "_log" in key]


def test_scores_without_a_range_give_no_specification_values():
    scores = measure(Toy(lambda left: 500 * left[:, CAUSE].mean(1), scale=OWN), at_cause()).scores
    assert scores["srg:blur"].value > 400
    assert scores["sufficiency_spec:blur"].value is None
    assert "no probabilities" in scores["sufficiency_spec:blur"].reason


def test_the_same_seed_gives_the_same_numbers_and_the_callers_map_is_not_written():
    grid = random_map(1)
    grid.setflags(write=False)
    one, two = (measure(Toy(planted(CAUSE)), grid, seed=7) for _ in range(2))
    assert one.scores == two.scores
    assert one.comparisons == two.comparisons
    assert measure(Toy(planted(CAUSE)), grid, seed=8).scores != one.scores


def test_what_cannot_be_measured_is_an_error():
    toy = Toy(planted(CAUSE))
    with pytest.raises(InputError, match="the model's grid is 8 × 8"):
        measure(toy, np.ones((7, 8)))
    with pytest.raises(InputError, match="NaN"):
        measure(toy, np.full(GRID, np.nan))
    with pytest.raises(InputError, match="must be different"):
        measure(toy, at_cause(), imputers=("blur", "blur"))
    with pytest.raises(InputError, match="say too little"):
        measure(toy, at_cause(), subsets=50)
    with pytest.raises(UnavailableError, match="Nothing that was hidden"):
        measure(Toy(lambda left: np.full(len(left), 0.7)), at_cause())


# On the embedded model.


@pytest.fixture(scope="module")
def asked(demo, cases):
    from medgemma_visualizer.data.photo import picture
    from medgemma_visualizer.models.reading import read

    case = cases[0]
    reading = read(demo, picture(case), case.question, options=case.options)
    return reading, resolve(reading)


@pytest.fixture
def masks(asked):
    return np.random.default_rng(0).random((6, *asked[0].model.grid)) < 0.4


@pytest.mark.parametrize("space", ["pixels", "tokens"])
def test_the_scorer_agrees_with_probing_and_batch_mates_never_change_a_score(asked, masks, space):
    reading, aim = asked
    scorer = ModelScorer(reading, aim, ("blur", "mean"), space)
    together = scorer(masks, ["blur", "mean"] * 3)
    alone = np.concatenate([scorer(mask[None], [name]) for mask, name in zip(masks, ["blur", "mean"] * 3, strict=True)])
    assert together == pytest.approx(alone, abs=2e-4)
    assert scorer(masks[::2], ["blur"] * 3) == pytest.approx(
        score_masks(reading, aim, masks[::2], space=space, baseline="blur"), abs=2e-4
    )
    assert scorer(masks[[1, 1]], ["mean"] * 2).tolist() == [scorer(masks[[1, 1]], ["mean"] * 2)[0]] * 2


def test_a_whole_check_counts_one_progress_bar_and_leaves_its_inputs_as_they_were(asked):
    reading, aim = asked
    grid = np.random.default_rng(0).random(reading.model.grid)
    before = grid.copy(), reading.pixel_values.clone(), reading.image_tokens.clone()
    heard = []
    with listening(lambda done, total, what: heard.append((done, total, what))):
        found = faithfulness(reading, aim, grid, space="tokens", steps=4, control_percents=(50,), subsets=0)
    assert {(total, what) for _, total, what in heard} == {(found.n_scorings, "altered pictures")}
    assert [done for done, _, _ in heard] == sorted({done for done, _, _ in heard})
    assert heard[-1][0] == found.n_scorings
    assert np.array_equal(grid, before[0])
    assert torch.equal(reading.pixel_values, before[1])
    assert torch.equal(reading.image_tokens, before[2])
    assert found.space == "tokens"
    assert found.curves["mean"].map.full == pytest.approx(reading.answer.p_yes, abs=1e-4)
    assert found.scores["srg_logodds:mean"].value is not None


def test_the_specifications_functions_agree_with_each_other(asked):
    reading, aim = asked
    grid = np.random.default_rng(0).random(reading.model.grid)
    options = {"imputer": "mean", "space": "tokens"}
    deletion = deletion_curve(reading, aim, grid, steps=2, **options)
    insertion = insertion_curve(reading, aim, grid, steps=2, **options)
    assert deletion.fractions.tolist() == insertion.fractions.tolist() == [0, 0.5, 1]
    assert deletion.values[0] == pytest.approx(insertion.values[-1], abs=1e-6)
    assert deletion.values[-1] == deletion.prior == pytest.approx(insertion.values[0], abs=1e-6)
    assert deletion.auc == pytest.approx(np.trapezoid(deletion.values, deletion.fractions))
    half = comprehensiveness(reading, aim, grid, k=50, **options)
    assert half == pytest.approx(deletion.values[0] - deletion.values[1], abs=1e-4)
    assert sufficiency(reading, aim, grid, k=50, **options) == pytest.approx(
        insertion.values[2] - insertion.values[1], abs=1e-4
    )
    with pytest.raises(InputError, match="k is 0 %"):
        sufficiency(reading, aim, grid, k=0, **options)


def test_a_map_is_explained_anew_for_a_disturbed_picture_with_the_answer_kept(asked):
    reading, aim = asked
    remap = remapping(reading, aim, "activation_norm")
    assert remap(reading.pixel_values) == pytest.approx(METHODS["activation_norm"].compute(reading, aim).values)
    assert not np.array_equal(remap(reading.pixel_values + 0.1), remap(reading.pixel_values))
    with pytest.raises(InputError, match="Unknown method"):
        remapping(reading, aim, "nonsense")


def test_how_steady_a_map_is_stands_beside_its_faithfulness_where_it_is_explained_anew():
    reading = read_tiny(tiny_model(image=112, tokens=64))
    aim = resolve(reading, "contrast")
    values = METHODS["token_gradient"].compute(reading, aim).values
    told = {"space": "tokens", "steps": 4, "control_percents": (50,), "subsets": 0}
    found = faithfulness(reading, aim, values, remap=remapping(reading, aim, "token_gradient", "tokens"), **told)
    score = found.scores["sensitivity_max"]
    assert score.value > 0
    assert score.direction == "lower"
    assert "never read it alone" in score.reason
    assert score.verdict == ""
    assert "sensitivity_max" not in faithfulness(reading, aim, values, **told).scores


def test_unknown_imputers_and_spaces_are_refused_by_name(asked):
    reading, aim = asked
    grid = np.ones(reading.model.grid)
    with pytest.raises(InputError, match="Did you mean 'blur'"):
        faithfulness(reading, aim, grid, imputers=("blurr", "mean"))
    with pytest.raises(InputError, match="Unknown space"):
        faithfulness(reading, aim, grid, space="voxels")


def test_areas_of_a_response_use_the_shares_they_are_given(perfect):
    curve = perfect.curves["blur"].map
    coarse = curve_metrics(curve, np.array([0, 0.5, 1]), 64)["srg"]
    assert coarse == pytest.approx(0.8 / 2, abs=1e-6)
