"""A small league from a model and cases: who wins, what is said beside it, and that it can be built again."""

from __future__ import annotations

import functools

import pytest

from medgemma_visualizer.data import LeftOut, QuestionSet
from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.records import Case
from medgemma_visualizer.runs import CONTROLS, REFERENCE, trust, write_league
from medgemma_visualizer.runs import build as building
from medgemma_visualizer.runs.build import SanityPlan, build, plan_for
from medgemma_visualizer.runs.work import crew
from tests.runs.made_up import rows_of


def test_a_method_that_knows_the_truth_comes_first_and_a_constant_one_never(built):
    perfect, constant = built.league.place("perfect"), built.league.place("constant")
    assert perfect.rank == 1
    assert perfect.counted["pointing"].value == 1
    assert constant.rank > 1
    assert constant.maps == 0
    for name in ("pointing", "relevance_rank", "roc_auc", "srg:blur"):
        assert constant.counted[name].value == pytest.approx(built.league.place("uniform").counted[name].value)


def test_controls_stand_beside_the_methods_unranked(built):
    assert [place.method for place in built.league.controls] == list(CONTROLS)
    assert {place.rank for place in built.league.controls} == {0}
    assert not {place.method for place in built.league.places} & set(CONTROLS)


def test_the_league_says_what_it_was_measured_on(built, demo, shown):
    league = built.league
    assert (league.n, league.patients) == (len(shown), len({case.patient_id for case in shown}))
    assert (league.reference, league.space, league.steps, league.seed) == (REFERENCE, "tokens", 2, 0)
    assert league.model == {"name": "demo", "revision": demo.revision, "dtype": "float32", "grid": [16, 16]}
    assert set(built.maps) == {case.id for case in shown}
    assert built.league.best is None  # nothing was checked for sanity, so nothing is recommended
    assert league.place("relevance").sanity.verdict == "not asked"


def test_the_same_seed_gives_the_same_files_and_seconds_are_not_among_them(built, demo, shown, tmp_path):
    plan = plan_for(["relevance", "cross_attention", "perfect", "constant"], ("blur", "mean"), "tokens", 2, 0)
    again = build(demo, shown, plan, source="demo", sanity=SanityPlan(0))
    one, two = (write_league(each.league, each.rows, tmp_path / name) for name, each in (("1", built), ("2", again)))
    assert set(one) == {"league.parquet", "league.json", "seconds.json"}
    for name in ("league.parquet", "league.json"):
        assert one[name].read_bytes() == two[name].read_bytes()
    assert [row.seconds for row in built.rows] != [row.seconds for row in again.rows]


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_files(shown, tmp_path):
    load = functools.partial(load_model, "demo", device="cpu", dtype="float32")
    told = {"methods": ["relevance"], "space": "tokens", "steps": 2, "sanity_cases": 1, "load": load}
    built = [trust(load(), shown[:3], workers=workers, **told) for workers in (1, 2)]
    one, two = (write_league(each.league, each.rows, tmp_path / str(n)) for n, each in enumerate(built))
    for name in ("league.parquet", "league.json"):
        assert one[name].read_bytes() == two[name].read_bytes()


def test_a_league_without_a_single_case_is_refused_with_the_reason(demo, tmp_path):
    missing = Case("x", tmp_path / "none.png", "Is there a pleural effusion?")
    with pytest.raises(VisualizerError, match=r"1 times: .*does not exist"):
        build(demo, [missing], plan_for(["relevance"], ("blur", "mean"), "tokens", 2))


def test_a_case_that_fails_is_counted_and_the_others_are_measured(demo, shown, tmp_path):
    missing = Case("x", tmp_path / "none.png", "Is there a pleural effusion?")
    found = build(
        demo, [missing, shown[0]], plan_for(["relevance"], ("blur", "mean"), "tokens", 2), sanity=SanityPlan(0)
    )
    assert found.league.n == 1
    assert list(found.league.left_out.values()) == [1]
    assert str(tmp_path) not in next(iter(found.league.left_out))
    assert {row.method for row in found.rows if row.case_id == "x"} == {"relevance", REFERENCE}


def test_one_patient_has_no_mean_map_of_others(demo, shown):
    plan = plan_for(["relevance"], ("blur", "mean"), "tokens", 2)
    found = build(demo, shown[:1], plan, sanity=SanityPlan(0))
    assert "mean_map" not in {place.method for place in found.league.controls}


def test_planted_marks_bring_their_own_cases_and_say_how_many_were_dropped(demo, cases, monkeypatch):
    from medgemma_visualizer.checks.planted import Filtered

    asked = {}

    def planted(model, films, *, n, seed):
        asked.update(n=n, seed=seed, films=len(films))
        return Filtered((cases[0],), {"wrong with the mark": 4})

    monkeypatch.setattr(building, "planted_cases", planted)
    told = {"methods": ["relevance"], "space": "tokens", "steps": 2, "sanity_cases": 0, "number": 5, "seed": 3}
    found = trust(demo, cases, probe="planted", **told).league
    assert asked == {"n": 5, "seed": 3, "films": len(cases)}
    assert (found.probe, found.n) == ("planted", 1)
    assert found.left_out["wrong with the mark"] == 4
    assert "kept 1 of 5" in found.notes[0]


def test_a_model_that_reads_no_marks_has_no_planted_league(demo, cases, monkeypatch):
    def none(*_, **__):
        raise UnavailableError("no item was kept")

    monkeypatch.setattr(building, "planted_cases", none)
    with pytest.raises(UnavailableError, match="no item"):
        trust(demo, cases, probe="planted")


def test_the_agreement_with_another_league_is_part_of_the_table(built, demo, shown, monkeypatch):
    monkeypatch.setattr(building, "build", lambda *_, **__: built)
    found = trust(demo, shown, agree_with=built.rows).league
    assert found.agreement.value == pytest.approx(1)
    assert found.agreement.n == len(built.league.places)
    with pytest.raises(InputError, match="methods in common"):
        trust(demo, shown, agree_with=rows_of("relevance", [1.0]))


def test_rows_that_made_no_case_are_counted_also_where_findings_are_chosen(built, demo, shown, monkeypatch):
    monkeypatch.setattr(building, "build", lambda *_, **__: built)
    found = QuestionSet(tuple(shown), (LeftOut(3, "no such film"),))
    for findings in (None, [shown[0].finding]):
        assert trust(demo, found, findings=findings).league.left_out["no such film"] == 1


def test_what_cannot_be_done_is_refused_before_any_case(demo, shown):
    with pytest.raises(InputError, match="probe"):
        trust(demo, shown, probe="implanted")
    with pytest.raises(InputError, match="300 steps do not fit 256 cells"):
        trust(demo, shown, steps=300)
    with pytest.raises(InputError, match="how each loads the model"), crew(demo, workers=2):
        pass
