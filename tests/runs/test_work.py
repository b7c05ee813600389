"""Who does the work: in order, on one thread, and told when a process ends before its work."""

from __future__ import annotations

import functools
import os
import re
import signal
import traceback

import pytest
import torch

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.runs.work import AGAIN, crew, loaded, why_ended


def test_results_come_in_the_order_of_the_items_from_one_thread_which_is_given_back():
    before = torch.get_num_threads()
    with crew("a model") as each:
        found = each(lambda model, item: (model, item, torch.get_num_threads()), [3, 1, 2], "numbers")
    assert found == [("a model", 3, 1), ("a model", 1, 1), ("a model", 2, 1)]
    assert torch.get_num_threads() == before


def test_threads_are_given_back_after_a_failure():
    def fail(model, item):
        raise VisualizerError("nothing works")

    before = torch.get_num_threads()
    with crew("a model") as each, pytest.raises(VisualizerError, match="nothing works"):
        each(fail, [1], "numbers")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("workers", [0, -1, 2])
def test_no_worker_or_several_that_cannot_load_are_refused(workers):
    with pytest.raises(InputError, match=f"{workers} workers"), crew("a model", workers):
        pass


def ends(how):
    """Stands in for the loading of a worker's model."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "dead":
        os._exit(3)
    if how == "full":
        raise torch.OutOfMemoryError("CUDA out of memory.")
    raise InputError("No such device. Use another.") if how == "input" else OSError("the weights are gone")


CANNOT_LOAD = [
    ("full", VisualizerError, r"\(OutOfMemoryError: CUDA out of memory\.\)\. Use fewer workers; then start again"),
    ("input", InputError, r"^No such device\. Use another\."),
    ("odd", VisualizerError, r"could not load the model \(OSError: the weights are gone\)\. Mend that; then start"),
]


@pytest.mark.parametrize(("how", "kind", "told"), CANNOT_LOAD)
def test_why_a_worker_has_no_model_is_told_in_a_sentence_with_the_next_step(how, kind, told):
    found = loaded(functools.partial(ends, how), AGAIN)
    assert type(found) is kind
    assert re.search(told, str(found))
    assert "in ends" in "".join(traceback.format_exception(found))  # for --debug


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (
            [0, -signal.SIGKILL],
            "was killed by the system, most likely for want of memory. Use fewer workers; then start",
        ),
        ([None, 3], "ended before its work did (exit code 3). With one worker the model is asked in this process"),
        ([-signal.SIGSEGV, -signal.SIGTERM], "ended before its work did (Segmentation fault). With one worker"),
        ([0, -signal.SIGTERM], "ended before its work did. With one worker"),
    ],
)
def test_why_a_worker_ended_is_told_by_its_exit_code(codes, told):
    assert f"A worker process {told}" in why_ended(codes, AGAIN)


@pytest.mark.parametrize(
    ("how", "kind", "told"),
    [
        CANNOT_LOAD[0],
        *(pytest.param(*one, marks=pytest.mark.slow) for one in CANNOT_LOAD[1:]),
        pytest.param("killed", VisualizerError, "A worker process", marks=pytest.mark.slow),
        pytest.param("dead", VisualizerError, "A worker process ended before its work did", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_ends_before_its_work_is_told_in_a_sentence_with_the_next_step(how, kind, told, capfd):
    with crew("a model", 2, functools.partial(ends, how)) as each, pytest.raises(VisualizerError, match=told) as raised:
        each(max, [1, 2], "numbers")
    assert type(raised.value) is kind
    assert "then start again" in str(raised.value) or how == "input"
    assert capfd.readouterr().err == ""
