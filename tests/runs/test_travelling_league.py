"""The league table that travels with the embedded model is its own, and what is asked by default is what it names."""

from __future__ import annotations

from medgemma_visualizer import verbs
from medgemma_visualizer.heatmaps import METHODS
from medgemma_visualizer.runs import league_of
from medgemma_visualizer.runs.store import identity_of
from medgemma_visualizer.settings import QUICK_METHOD, RECOMMENDED_METHOD


def test_the_league_that_travels_was_measured_on_the_weights_that_travel(demo):
    league = league_of(demo)
    assert league is not None
    assert league.identity == identity_of(demo)


def test_it_holds_every_method(demo):
    assert {place.method for place in league_of(demo).places} == set(METHODS) - {"uniform"}


def test_its_best_method_is_the_default_of_models_without_a_league(demo):
    assert league_of(demo).best == RECOMMENDED_METHOD == verbs.recommended_method(demo)


def test_the_best_method_reaches_the_targets_for_known_regions(demo):
    scores = league_of(demo).places[0].scores
    assert scores["pointing"].value >= 0.97
    assert scores["relevance_mass_lift"].value >= 10
    assert scores["roc_auc"].value >= 0.95


def test_the_quick_method_passes_the_sanity_check(demo):
    assert league_of(demo).place(QUICK_METHOD).sanity.verdict == "pass"
