"""Who does the work: in order, on one thread, and told when a process ends before its work."""

from __future__ import annotations

import functools
import os
import signal

import pytest
import torch

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.runs.work import crew


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


@pytest.mark.parametrize(
    ("how", "kind", "told"),
    [
        ("killed", VisualizerError, "A worker process"),
        ("dead", VisualizerError, "A worker process ended before its work did"),
        ("full", VisualizerError, r"\(OutOfMemoryError: CUDA out of memory\.\)\. Use fewer workers; then start again"),
        ("input", InputError, r"^No such device\. Use another\."),
        ("odd", VisualizerError, r"could not load the model \(OSError: the weights are gone\)\. Mend that; then start"),
    ],
)
def test_a_worker_that_ends_before_its_work_is_told_in_a_sentence_with_the_next_step(how, kind, told, capfd):
    with crew("a model", 2, functools.partial(ends, how)) as each, pytest.raises(VisualizerError, match=told) as raised:
        each(max, [1, 2], "numbers")
    assert type(raised.value) is kind
    assert "then start again" in str(raised.value) or how == "input"
    assert capfd.readouterr().err == ""
