"""Many visitors ask one model without hearing each other."""

from __future__ import annotations

import gc
import threading
import time
import types
import weakref

import pytest
import torch

from medgemma_visualizer import verbs
from medgemma_visualizer.app import desk as desk_module
from medgemma_visualizer.app.desk import BEGUN, ROOM, Cancelled, Desk, Desks, Job, Progress, Result, doubled
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.progress import listening, track


def counted(n, pause=0.0):
    def work(model):
        for _ in track(range(n), total=n, what="probes"):
            time.sleep(pause)
        return n

    return work


def test_long_work_ends_with_its_result(desk):
    seen, steps = threading.Event(), []

    def work(model):
        for n in track(range(3), total=3, what="probes"):
            assert n == 0 or seen.wait(10)
        return 3

    for step in desk.long(work, Job()):
        steps.append(step)
        if isinstance(step, Progress) and (step.what, step.total) == ("probes", 3):
            seen.set()
    *before, last = steps
    assert last == Result(3)
    assert all(isinstance(step, Progress) for step in before)
    assert seen.is_set()


@pytest.fixture
def clock(monkeypatch):
    """Seconds by the desk's clock, which goes on when it is told to."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(desk_module, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_time_left_follows_from_the_rate(clock):
    job = Job()
    job.tell(0, 4, "probes")
    clock.now += 10
    job.tell(2, 4, "probes")
    assert job.progress().left == pytest.approx(10)


def test_parts_do_not_hide_how_far_the_whole_is():
    job = Job()
    with listening(job.tell):
        for model in track(range(2), total=2, what="models"):
            for point in track(range(3), total=3, what="points"):
                now = job.progress()
                assert (now.done, now.total, now.what, now.within) == (model, 2, "models", (point, 3, "points"))
        assert (job.progress().done, job.progress().within) == (2, None)
        for _ in track(range(1), total=1, what="cells"):
            assert (job.progress().what, job.progress().within) == ("cells", None)


def test_parts_may_be_named_as_the_whole_is():
    job = Job()
    with listening(job.tell):
        for method in track(range(3), total=3, what="methods"):
            for member in track(range(2), total=2, what="methods"):
                assert (job.progress().done, job.progress().within) == (method, (member, 2, "methods"))


def test_time_left_is_of_the_whole_and_not_of_its_part(clock):
    job = Job()
    job.tell(0, 3, "models")
    clock.now += 10
    job.tell(1, 3, "models")
    job.tell(0, 2, "points")
    job.tell(1, 2, "points")
    assert job.progress().left == pytest.approx(20)


def test_quick_work_that_nobody_waits_for_any_more_is_not_begun(desk):
    held, asked, begun = threading.Event(), threading.Event(), []

    def gone():
        raise Cancelled

    def work(model):
        asked.set()
        held.wait(10)

    first = threading.Thread(target=desk.quick, args=(work,))
    first.start()
    assert asked.wait(10)
    with pytest.raises(Cancelled):
        desk.quick(begun.append, gone)
    assert first.is_alive()  # the second left while the first was still asked
    held.set()
    first.join()
    assert desk.quick(lambda model: list(begun)) == []


def test_work_that_is_called_off_stops_at_its_next_step(desk):
    job = Job()
    steps = desk.long(counted(1000, 0.01), job)
    assert not next(steps).stopping
    job.cancel()
    assert job.progress().stopping
    with pytest.raises(Cancelled):
        list(steps)


def test_a_visitor_who_leaves_frees_the_worker(desk):
    steps = desk.long(counted(1000, 0.01), Job())
    next(steps)
    steps.close()
    assert list(desk.long(counted(1), Job()))[-1] == Result(1)


def test_work_can_be_called_off_while_it_waits_for_its_turn(desk):
    go, done, second = threading.Event(), threading.Event(), Job()

    def work(model):
        go.set()
        assert done.wait(10)

    first = desk.long(work, Job())
    next(first)
    assert go.wait(10)
    waiting = desk.long(counted(1), second)
    assert next(waiting).total == 0
    second.cancel()
    with pytest.raises(Cancelled):
        list(waiting)
    done.set()
    list(first)


def test_long_work_is_done_one_piece_at_a_time_and_what_waits_says_so(desk):
    go, done, begun = threading.Event(), threading.Event(), []

    def work(model):
        go.set()
        assert done.wait(10)

    first = desk.long(work, Job())
    next(first)
    assert go.wait(10)
    assert next(first).what == BEGUN
    second = desk.long(lambda model: begun.append(done.is_set()), Job())
    for _ in range(3):
        assert (next(second).total, next(second).what, begun) == (0, "", [])
    done.set()
    list(first)
    list(second)
    assert begun == [True]


def test_what_goes_wrong_reaches_the_visitor(desk):
    def work(model):
        raise ValueError("of its own kind")

    with pytest.raises(ValueError, match="of its own kind"):
        list(desk.long(work, Job()))


def test_all_quick_work_is_done_by_one_thread_whoever_asks(desk):
    seen = []
    callers = [
        threading.Thread(target=lambda: seen.append(desk.quick(lambda model: threading.get_ident()))) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert len(seen) == 4
    assert len(set(seen)) == 1
    assert seen[0] != threading.get_ident()


def test_what_goes_wrong_in_quick_work_reaches_who_asked(desk):
    def work(model):
        raise ValueError("of its own kind")

    with pytest.raises(ValueError, match="of its own kind"):
        desk.quick(work)
    assert desk.quick(lambda model: "answered") == "answered"


@pytest.mark.parametrize("full", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_full_device_is_told_with_a_next_step_and_asked_again_later(desk, full):
    def work(model):
        raise full

    with pytest.raises(UnavailableError, match=r"The memory of cpu is full\. Ask again"):
        desk.quick(work)
    with pytest.raises(UnavailableError, match="choose a method"):
        list(desk.long(work, Job()))
    assert desk.quick(lambda model: "answered") == "answered"


def test_quick_work_does_not_wait_for_long_work(desk):
    go, done = threading.Event(), threading.Event()

    def work(model):
        go.set()
        assert done.wait(10)

    steps = desk.long(work, Job())
    next(steps)
    assert go.wait(10)
    assert desk.quick(lambda model: "answered") == "answered"
    done.set()
    list(steps)


def test_quick_work_waits_while_shared_weights_are_lent(demo, monkeypatch):
    monkeypatch.setattr("medgemma_visualizer.app.desk.SMALL", 0)
    shared = Desk(demo)
    assert not shared.separate
    go, done = threading.Event(), threading.Event()

    def work(model):
        go.set()
        assert done.wait(10)

    steps = shared.long(work, Job(), changes_weights=True)
    next(steps)
    assert go.wait(10)
    answers = []
    quick = threading.Thread(target=lambda: answers.append(shared.quick(lambda model: 1)))
    quick.start()
    quick.join(0.2)
    assert answers == []
    done.set()
    list(steps)
    quick.join(10)
    assert answers == [1]


def test_where_there_is_room_large_weights_are_copied_and_quick_work_waits_for_no_check(demo, monkeypatch):
    monkeypatch.setattr("medgemma_visualizer.app.desk.SMALL", 0)
    shared = Desk(demo)
    copied: list[object] = []

    def work(model):
        copied.append(weakref.ref(model.hf))
        with torch.no_grad():
            next(model.hf.parameters()).zero_()
        return shared.quick(lambda quick: float(next(quick.hf.parameters()).abs().sum()))

    for free, own in ((ROOM * shared.bytes, True), (0, False), (None, False)):
        monkeypatch.setattr("medgemma_visualizer.app.desk.free_bytes", lambda device, free=free: free)
        with shared._turn(Job(), True) as model:
            assert (next(model.hf.parameters()) is not next(demo.hf.parameters())) is own
            assert shared._quick.locked() is not own
        assert not shared._quick.locked()
    monkeypatch.setattr("medgemma_visualizer.app.desk.free_bytes", lambda device: ROOM * shared.bytes)
    *_, result = shared.long(work, Job(), changes_weights=True)
    assert result.value > 0  # answered meanwhile, by the weights as they are
    del model
    gc.collect()
    assert copied[0]() is None  # nobody keeps the copy


@pytest.mark.parametrize("weights", [True, False])
def test_the_double_has_its_own_modules_and_its_own_weights_only_if_asked(demo, weights):
    double = doubled(demo, weights=weights)
    assert double.text is not demo.text
    assert double.text.config is not demo.text.config
    theirs, ours = next(double.hf.parameters()), next(demo.hf.parameters())
    assert (theirs is ours) is not weights
    assert torch.equal(theirs, ours)
    heard = []
    handle = double.text.register_forward_pre_hook(lambda *given: heard.append(given))
    assert not demo.text._forward_pre_hooks
    handle.remove()


def test_what_is_kept_beside_shared_weights_is_shared_as_well(demo):
    layer = demo.text.layers[0].mlp.up_proj
    layer.state = {"scales": torch.ones(2)}  # as bitsandbytes keeps it for 8-bit weights
    try:
        shared, copied = (doubled(demo, weights=weights).text.layers[0].mlp.up_proj for weights in (False, True))
        assert shared is not layer
        assert shared.state is layer.state
        assert copied.state is not layer.state
    finally:
        del layer.state


@pytest.fixture(scope="module")
def two(demo):
    return Desk(demo), Desk(load_model("demo", device="cpu", dtype="float32"))


def test_a_visitor_goes_where_the_fewest_are_and_stays_there(two):
    desks, visitors = Desks(two), [Session() for _ in range(5)]
    places = [desks.of(visitor) for visitor in visitors]
    assert places == [two[0], two[1], two[0], two[1], two[0]]
    assert [desks.of(visitor) for visitor in visitors] == places
    for left in (0, 2):
        visitors[left] = None  # the first desk has one visitor left, the other two
    gc.collect()
    assert [desks.of(visitor) for visitor in (visitors[1], visitors[3], visitors[4])] == [two[1], two[1], two[0]]
    assert desks.of(Session()) is two[0]


def test_one_desk_has_all_visitors(two):
    desks, visitors = Desks(two[:1]), [Session() for _ in range(3)]
    assert [desks.of(visitor) for visitor in visitors] == [two[0]] * 3


def test_visitors_of_two_desks_are_served_at_the_same_time(two):
    desks, visitors = Desks(two), (Session(), Session())
    met = threading.Barrier(2)  # nobody passes it alone

    def quick(model):
        met.wait(10)
        return model

    answers = {}
    hands = [
        threading.Thread(target=lambda who=who: answers.update({id(who): desks.of(who).quick(quick)}))
        for who in visitors
    ]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join(20)
    assert [answers[id(who)] for who in visitors] == [desk.model for desk in two]
    first, other = (desks.of(who).long(quick, Job()) for who in visitors)
    next(first)  # waits for the other's
    assert list(other)[-1] == Result(two[1].double)
    assert list(first)[-1] == Result(two[0].double)


def test_both_desks_find_the_same(two, cases):
    first, other = (
        desk.quick(lambda model: verbs.analyze(model, cases[0], method="gradcam_multi_token")) for desk in two
    )
    assert first.reading.model is not other.reading.model
    assert first.answer == other.answer
    assert first.heatmap.grid.tobytes() == other.heatmap.grid.tobytes()
