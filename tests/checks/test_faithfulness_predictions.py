"""Infidelity, correlation and sensitivity against captum, SciPy and linear models."""

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max as captum_sensitivity_max
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from medgemma_visualizer.checks.predictions import (
    faithfulness_correlation,
    infidelity,
    random_subsets,
    sensitivity_max,
)
from medgemma_visualizer.errors import InputError

N, PROBES = 16, 120


@pytest.fixture
def curved():
    """A model that is not linear in its cells, a map that is not right, and random sets."""
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.standard_normal(N))
    cells = torch.from_numpy(rng.random(N))

    def model(x):
        return torch.tanh(x @ weights) + (x**2).sum(-1) / 10

    return model, cells, rng.standard_normal(N), random_subsets(N, 4, PROBES, seed=1)


@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity_equals_captums_with_and_without_the_best_scale(curved, scaled):
    model, cells, values, sets = curved
    gone = torch.from_numpy(sets.astype(float))

    def perturb(inputs):
        return gone, inputs * (1 - gone)

    expected = captum_infidelity(
        model, perturb, cells[None], torch.from_numpy(values)[None], n_perturb_samples=PROBES, normalize=scaled
    )
    drops = (model(cells[None]) - model(cells * (1 - gone))).numpy()
    assert infidelity(values, sets, drops, scaled=scaled) == pytest.approx(float(expected), abs=1e-6)


def test_the_best_scale_is_the_least_squares_slope(curved):
    model, cells, values, sets = curved
    drops = (model(cells[None]) - model(cells * (1 - torch.from_numpy(sets.astype(float))))).numpy()
    predicted = sets @ values
    slope = np.linalg.lstsq(predicted[:, None], drops, rcond=None)[0][0]
    assert infidelity(values, sets, drops) == pytest.approx(np.mean((slope * predicted - drops) ** 2), abs=1e-6)


def test_correlation_equals_scipys_pearson(curved):
    model, cells, values, sets = curved
    drops = (model(cells[None]) - model(cells * (1 - torch.from_numpy(sets.astype(float))))).numpy()
    expected = pearsonr((sets * values).sum(1), drops).statistic
    assert faithfulness_correlation(values, sets, drops) == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_a_linear_models_weights_are_perfect_in_any_unit(seed, unit):
    weights = np.random.default_rng(seed).standard_normal(N)
    sets = random_subsets(N, 4, PROBES, seed)
    drops = sets @ weights
    assert infidelity(weights, sets, drops, scaled=False) == pytest.approx(0, abs=1e-12)
    assert infidelity(unit * weights, sets, drops) == pytest.approx(0, abs=1e-12)
    assert faithfulness_correlation(unit * weights, sets, drops) == pytest.approx(1)
    assert faithfulness_correlation(-weights, sets, drops) == pytest.approx(-1)


def test_a_constant_map_predicts_nothing_beyond_the_mean():
    weights = np.random.default_rng(0).standard_normal(N)
    sets = random_subsets(N, 4, PROBES)
    drops = sets @ weights
    assert faithfulness_correlation(np.full(N, 3.0), sets, drops) is None
    assert faithfulness_correlation(weights, sets, np.zeros(PROBES)) is None
    assert infidelity(np.full(N, 3.0), sets, drops) == pytest.approx(drops.var(), abs=1e-6)
    assert infidelity(np.zeros(N), sets, drops) == pytest.approx(np.mean(drops**2), abs=1e-6)


def test_random_sets_have_one_size_and_come_again_with_their_seed():
    sets = random_subsets(256, 51, 200, seed=3)
    assert (sets.sum(1) == 51).all()
    assert np.array_equal(sets, random_subsets(256, 51, 200, seed=3))
    assert not np.array_equal(sets, random_subsets(256, 51, 200, seed=4))
    assert abs(sets.mean(0) - 51 / 256).max() < 5 * np.sqrt(0.2 * 0.8 / 200)


def test_sensitivity_equals_captums_on_the_same_disturbances():
    inputs = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    radius, samples, seed = 0.02, 10, 5

    def explain(x):
        return torch.sin(5 * x) * x.sum(dim=(1, 2, 3), keepdim=True)

    rng = np.random.default_rng((seed, 4))
    noise = np.concatenate([rng.uniform(-radius, radius, tuple(inputs.shape)) for _ in range(samples)])

    def perturb(x, perturb_radius):
        return (inputs + torch.from_numpy(noise),)

    expected = captum_sensitivity_max(
        lambda x: (explain(x[0]),), inputs, perturb_func=perturb, perturb_radius=radius, n_perturb_samples=samples
    )
    before = inputs.clone()
    found = sensitivity_max(lambda x: explain(x).numpy(), inputs, radius=radius, samples=samples, seed=seed)
    assert found == pytest.approx(float(expected), abs=1e-6)
    assert torch.equal(inputs, before)


def test_a_map_that_ignores_the_picture_has_no_sensitivity_and_an_empty_one_none_to_measure():
    picture = torch.zeros(1, 3, 4, 4)
    assert sensitivity_max(lambda x: np.ones((4, 4)), picture) == 0
    with pytest.raises(InputError, match="not zero"):
        sensitivity_max(lambda x: np.zeros((4, 4)), picture)


def test_lengths_that_do_not_fit_are_an_error():
    with pytest.raises(InputError, match="do not fit"):
        infidelity(np.ones(5), np.ones((3, 4), bool), np.ones(3))
