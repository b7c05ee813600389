"""One case under every method: numbers that are known, costs that are counted, and failures that are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.grid import coverage
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.progress import listening, track
from medgemma_visualizer.records import Case
from medgemma_visualizer.runs import CONTROLS, REFERENCE
from medgemma_visualizer.runs.build import plan_for, sample
from medgemma_visualizer.runs.measure import Subject, counting, measure_case, measure_map, subjects_of
from tests.conftest import state_of

SRGS = ("srg:blur", "srg:mean")


def quick(*methods: str):
    """A plan of a few altered pictures."""
    return plan_for(methods, ("blur", "mean"), "tokens", 2, 0)


@pytest.fixture(scope="module")
def asked(demo, shown, known_methods):
    """The first of the cases, measured."""
    (subject,) = subjects_of(shown[:1])
    return measure_case(demo, subject, quick("relevance", "cross_attention", "perfect", "constant"))


def by_method(measured):
    return {row.method: row for row in measured.rows}


def test_every_method_and_every_control_of_the_case_has_one_row(asked):
    named = [row.method for row in asked.rows]
    assert named[:-3] == ["cross_attention", REFERENCE, "relevance", "perfect", "constant"]
    assert named[-3:] == ["random", "centre", "uniform"]
    assert set(named[-3:]) < set(CONTROLS)


def test_a_map_that_is_the_region_scores_as_high_as_can_be(asked, shown):
    perfect = by_method(asked)["perfect"]
    assert perfect.numbers["pointing"] == 1
    assert perfect.numbers["relevance_rank"] == perfect.numbers["roc_auc"] == perfect.numbers["average_precision"] == 1
    covered = coverage(shown[0].region, 16, 16)
    mass = (covered / covered.sum() * covered).sum()
    assert perfect.numbers["relevance_mass_lift"] == pytest.approx(mass / shown[0].region.mean())


def test_a_constant_map_has_no_number_and_its_chance_is_that_of_a_uniform_one(asked):
    constant, uniform = by_method(asked)["constant"], by_method(asked)["uniform"]
    assert not constant.available
    assert "same value" in constant.reason
    assert constant.numbers == {}
    assert constant.chances == uniform.numbers
    assert constant.chances["roc_auc"] == 0.5
    assert constant.chances["relevance_mass_lift"] == pytest.approx(1)
    assert constant.chances["srg:blur"] == 0


def test_sequences_through_the_decoder_are_counted_and_the_hook_is_gone(asked, demo, shown):
    assert by_method(asked)["relevance"].forward_passes == 1
    assert by_method(asked)["perfect"].forward_passes == 0
    before = state_of(demo.hf)
    with counting(demo) as sequences:
        read(demo, picture(shown[0]), "Is there a pneumothorax?", max_new_tokens=2).answer  # noqa: B018
    assert sequences[0] == 1
    assert 1 <= len(sequences) <= 3  # the prompt, then a token at a time
    assert state_of(demo.hf) == before


def test_a_random_map_and_its_reverse_have_opposite_srg(demo, shown):
    subject = Subject(shown[0])
    drawn = np.random.default_rng(5).permutation(256).reshape(16, 16)
    forwards, backwards = (measure_map(demo, subject, grid, quick("relevance")) for grid in (drawn + 1, 256 - drawn))
    for name in SRGS:
        assert forwards.numbers[name] == pytest.approx(-backwards.numbers[name], abs=1e-6)


def test_random_maps_have_no_srg_on_average(demo, shown):
    drawn = [np.random.default_rng(seed).random((16, 16)) for seed in range(12)]
    rows = [measure_map(demo, Subject(shown[0]), grid, quick("relevance")) for grid in drawn]
    for name in SRGS:
        values = [row.numbers[name] for row in rows]
        assert abs(np.mean(values)) <= 4.4 * np.std(values, ddof=1) / np.sqrt(12)  # t of 11 at p = 0.001


def test_other_methods_beside_it_never_change_a_methods_numbers(asked, demo, shown):
    (subject,) = subjects_of(shown[:1])
    alone = by_method(measure_case(demo, subject, quick("relevance")))["relevance"]
    beside = by_method(asked)["relevance"]
    assert alone.numbers == pytest.approx(beside.numbers, abs=1e-5)
    assert alone.forward_passes == beside.forward_passes


def test_a_case_without_a_region_counts_for_srg_only(demo, cases):
    normal = next(case for case in cases if case.region is None and case.truth == "no")
    row = by_method(measure_case(demo, Subject(normal), quick("relevance")))["relevance"]
    assert set(row.numbers) == set(row.chances) == set(SRGS)


def test_a_picture_that_cannot_be_read_is_a_row_with_its_reason_and_without_its_name(demo, tmp_path):
    (tmp_path / "secret name.png").write_bytes(b"no picture")
    case = Case("x", tmp_path / "secret name.png", "Is there a pleural effusion?")
    measured = measure_case(demo, Subject(case), quick("relevance"))
    assert measured.problem
    assert {row.reason for row in measured.rows} == {measured.problem}
    assert "secret" not in measured.problem
    assert all(row.chances == {} for row in measured.rows)


def test_an_iou_counts_as_nothing_where_the_answer_is_wrong(demo, shown):
    (subject,) = subjects_of(shown[:1])
    right = by_method(measure_case(demo, subject, quick("relevance")))["relevance"]
    wrong_case = replace(shown[0], truth="no" if right.label == "yes" else "yes")
    wrong = by_method(measure_case(demo, replace(subject, case=wrong_case), quick("relevance")))["relevance"]
    found, missed = (right, wrong) if right.correct else (wrong, right)
    assert found.numbers["iou_otsu_true_positives"] == found.numbers["iou_otsu_all_positives"] > 0
    assert missed.numbers["iou_otsu_all_positives"] == 0
    assert "iou_otsu_true_positives" not in missed.numbers


@pytest.mark.parametrize(
    ("left", "right", "view", "side"),
    [
        (0, 40, "PA", "right"),  # the film is seen from the front: image left is the patient's right
        (60, 100, "AP", "left"),
        (60, 100, None, "left"),
        (30, 70, "PA", "both"),
        (0, 40, "LATERAL", ""),
    ],
)
def test_a_region_belongs_to_the_patients_side(left, right, view, side):
    assert subjects_of([_boxed(left, right, view)])[0].side == side


def test_sizes_are_thirds_of_the_regions_of_the_set():
    wide = [_boxed(0, width, "PA") for width in (10, 20, 30, 40, 50, 60)]
    without = Case("none", Image.new("L", (100, 100)), "?")
    sizes = [subject.size for subject in subjects_of([*wide, without])]
    assert sizes == ["small", "small", "medium", "medium", "large", "large", ""]


def test_the_reference_is_always_asked_and_unknown_names_are_refused():
    assert REFERENCE in quick("relevance").methods
    with pytest.raises(InputError, match=r"relevanc'.*relevance"):
        quick("relevanc")
    with pytest.raises(InputError, match="must be different"):
        quick("relevance", "relevance")
    with pytest.raises(InputError, match="imputer"):
        plan_for(None, ("fog",))


def test_a_sample_is_drawn_by_its_seed_in_the_order_of_the_source():
    cases = [Case(str(n), Path("x"), "?") for n in range(30)]
    drawn = sample(cases, 10, 0)
    assert len(drawn) == 10
    assert list(drawn) == sorted(drawn, key=lambda case: int(case.id))
    assert drawn == sample(cases, 10, 0) != sample(cases, 10, 1)
    assert sample(cases, None, 0) == sample(cases, 99, 0) == tuple(cases)
    with pytest.raises(InputError, match="at least one"):
        sample([], None, 0)


def _boxed(left: int, right: int, view: str | None) -> Case:
    """A case whose region spans columns left … right of 100."""
    mask = np.zeros((100, 100), bool)
    mask[40:60, left:right] = True
    return Case(f"{left}-{right}", Image.new("L", (100, 100)), "?", finding="a", regions={"a": mask}, view=view)


def test_steps_inside_a_case_are_nobodys_progress(demo, shown):
    from medgemma_visualizer.runs.work import crew

    heard = []
    with listening(lambda done, total, what: heard.append((done, total, what))), crew(demo) as each:
        each(lambda model, case: read(model, picture(case), case.question).answer, shown[:2], "cases")
    assert heard == [(0, 2, "cases"), (1, 2, "cases"), (2, 2, "cases")]


def test_who_wants_to_know_of_parts_hears_the_steps_inside_a_case_and_can_end_the_work_there(demo, shown):
    from medgemma_visualizer.runs.work import crew

    heard = []

    def listen(done, total, what):
        heard.append((done, total, what))
        if what == "steps" and done == 1:
            raise KeyboardInterrupt

    def steps(model, case):
        return list(track(range(3), total=3, what="steps"))

    with pytest.raises(KeyboardInterrupt), listening(listen, parts=True), crew(demo) as each:
        each(steps, shown[:2], "cases")
    assert heard == [(0, 2, "cases"), (0, 3, "steps"), (1, 3, "steps")]
