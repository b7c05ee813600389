"""A run that is ended in any way and goes on ends as one that was left alone, to the last bit."""

from __future__ import annotations

import errno
import functools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.progress import listening
from medgemma_visualizer.runs import local, results, start
from medgemma_visualizer.runs.folder import beats_of, part_path, survey
from medgemma_visualizer.runs.local import HOPELESS, Pulse, stopping
from medgemma_visualizer.runs.plan import RunPlan
from tests.runs.run_helpers import PLAN, parts_of, rows_of, run


@pytest.fixture(scope="module")
def six(cases: Any) -> list[Any]:
    """Six questions about four pictures, so that some share one."""
    return list(cases[:6])


@pytest.fixture(scope="module")
def undisturbed(demo: Any, six: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(demo, six, folder)
    return folder


def test_every_case_stands_once_in_the_order_of_the_shards(undisturbed: Path, six: list[Any]) -> None:
    state = survey(undisturbed)
    assert (state.asked, state.failed, state.complete, state.open) == (6, 0, True, ())
    ids = [row["case_id"] for row in rows_of(undisturbed)]
    assert sorted(ids) == sorted(case.id for case in six)
    assert not [path for path in undisturbed.rglob(".*") if path.is_file()]


def test_seconds_stand_beside_the_rows_and_not_in_them(undisturbed: Path) -> None:
    told = [json.loads(path.read_text()) for path in sorted((undisturbed / "seconds").iterdir())]
    assert {case for one in told for case in one["seconds"]} == {row["case_id"] for row in rows_of(undisturbed)}
    assert all(seconds > 0 for one in told for seconds in one["seconds"].values())
    assert not [name for name in rows_of(undisturbed)[0] if "second" in name]


def test_two_runs_have_the_same_bytes_and_a_finished_one_asks_nothing(
    demo: Any, six: list[Any], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(demo, six, tmp_path)
    assert parts_of(tmp_path) == parts_of(undisturbed)
    monkeypatch.setattr(local, "ask_all", lambda *_, **__: pytest.fail("A case was asked again."))
    outcome = run(demo, six, tmp_path)
    assert (outcome.asked, outcome.state.complete) == (0, True)


def test_another_run_in_the_same_folder_is_refused_with_the_difference(
    demo: Any, six: list[Any], undisturbed: Path
) -> None:
    before = parts_of(undisturbed)
    with pytest.raises(InputError, match=r"asked.seed: 0 → 1"):
        run(demo, six, undisturbed, replace(PLAN, seed=1))
    with pytest.raises(InputError, match=r"asked.methods: \[\"cross_attention\"\] → \[\"relevance\"\]"):
        run(demo, six, undisturbed, RunPlan(("relevance",), max_new_tokens=4))
    with pytest.raises(InputError, match=r"cases.n: 6 → 5"):
        run(demo, six[:5], undisturbed)
    with pytest.raises(InputError, match="shards"):
        run(demo, six, undisturbed, shard_size=3)
    assert parts_of(undisturbed) == before


@pytest.mark.parametrize("size", [2, 6])
def test_a_stop_keeps_what_was_asked_and_the_rest_is_asked_later(
    size: int, demo: Any, six: list[Any], tmp_path: Path
) -> None:
    told: list[int] = []

    def stop_after_the_first(done: int, total: int, what: str) -> None:
        if done and not told:
            told.append(done)
            os.kill(os.getpid(), signal.SIGTERM)

    folder = tmp_path / "ended"
    with listening(stop_after_the_first):
        outcome = run(demo, six, folder, shard_size=size)
    assert outcome.stopped
    assert 1 <= outcome.asked < 6
    assert survey(folder).asked == outcome.asked
    assert beats_of(folder)[0].state == "stopped"
    later = run(demo, six, folder, shard_size=size)
    assert not later.stopped
    assert later.asked == 6 - outcome.asked
    run(demo, six, tmp_path / "left alone", shard_size=size)
    assert parts_of(folder) == parts_of(tmp_path / "left alone")


def test_ctrl_c_is_heard_once_and_the_second_one_ends_at_once():
    before = signal.getsignal(signal.SIGINT)
    with stopping() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_nobody_hears_signals_and_the_work_is_done_all_the_same():
    found: list[bool] = []

    def ask() -> None:
        with stopping() as stop:
            found.append(stop())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [False]


def test_failed_cases_are_asked_again_with_their_picture_and_end_as_if_they_never_failed(
    demo: Any, six: list[Any], undisturbed: Path, tmp_path: Path
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    moved = []
    for case in six:
        film = films / Path(case.image).name
        moved.append(replace(case, image=film))
        if case.image != six[0].image:
            film.write_bytes(Path(case.image).read_bytes())
    folder = tmp_path / "run"
    first = run(demo, moved, folder)
    lost = [case for case in six if case.image == six[0].image]
    assert first.state.failed == first.failed == len(lost) > 0
    assert first.state.complete
    assert first.state.open == (0,)
    (films / Path(six[0].image).name).write_bytes(Path(six[0].image).read_bytes())
    again = run(demo, moved, folder)
    assert (again.asked, again.state.failed) == (len(lost), 0)
    assert parts_of(folder) == parts_of(undisturbed)


def test_what_fails_every_time_ends_the_run_before_days_are_lost(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path, 1000, hopeful=False)
    pulse.cases(HOPELESS - 1, HOPELESS - 1)
    with pytest.raises(VisualizerError, match="stopped"):
        pulse.cases(1, 1)
    for hopeful in (Pulse(tmp_path, 1000, hopeful=True), Pulse(tmp_path, 1000, hopeful=False)):
        hopeful.cases(HOPELESS + 1, HOPELESS if not hopeful.hopeful else HOPELESS + 1)
        hopeful.cases(10, 10)


def test_progress_counts_cases_and_failures(demo: Any, six: list[Any], tmp_path: Path) -> None:
    heard: list[tuple[int, int, str]] = []
    gone = replace(six[5], image=tmp_path / "gone.png", id="gone")
    with listening(lambda *told: heard.append(told)):
        run(demo, [*six[:5], gone], tmp_path / "run")
    cases = [done for done, total, what in heard if what == "cases" and total == 6]
    assert cases == sorted(cases)
    assert cases[-1] == 6
    assert (1, 6, "failed") in heard
    (beat,) = beats_of(tmp_path / "run")
    assert (beat.total, beat.done, beat.failed, beat.kept, beat.state) == (6, 6, 1, 6, "done")
    assert beat.rate > 0


# --- disks -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_damages_nothing(
    demo: Any, six: list[Any], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = results.write_whole

    def full(path: Path, write: Any) -> Path:
        if path.name == "shard-00001.parquet":
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, write)

    monkeypatch.setattr(results, "write_whole", full)
    with pytest.raises(VisualizerError, match=r"no space left for shard-00001.parquet.*make room.*goes on"):
        run(demo, six, tmp_path)
    assert survey(tmp_path).asked == 2
    monkeypatch.setattr(results, "write_whole", whole)
    run(demo, six, tmp_path)
    assert parts_of(tmp_path) == parts_of(undisturbed)


def test_a_limit_that_the_system_sets_leaves_no_half_written_part(tmp_path: Path) -> None:
    plan, kept = RunPlan(("relevance",)), resource.getrlimit(resource.RLIMIT_FSIZE)
    part = results.Part(0, "f", "i", 1, 0)
    results.write_part(tmp_path / "a.parquet", [{"case_id": "a", "failed": False}], plan, part)
    before = (tmp_path / "a.parquet").read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, kept[1]))
    try:
        with pytest.raises(VisualizerError, match="no space left"):
            results.write_part(tmp_path / "a.parquet", [{"case_id": "b", "failed": False}], plan, part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    assert (tmp_path / "a.parquet").read_bytes() == before


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, write: Any) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(results, "write_whole", refused)
    with pytest.raises(InputError, match=r"Read-only file system\).*Nothing is damaged"):
        results.written(tmp_path / "x", lambda file: None)


# --- several processes -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_results_are_the_same_for_any_number_of_workers(
    demo: Any, six: list[Any], undisturbed: Path, tmp_path: Path
) -> None:
    load = functools.partial(load_model, "demo", device="cpu", dtype="float32")
    engine = start.local(demo, PLAN, 2, [load])
    outcome = start.run(engine, six, tmp_path, PLAN, shard_size=2)
    assert (outcome.asked, outcome.failed, outcome.state.complete) == (6, 0, True)
    assert parts_of(tmp_path) == parts_of(undisturbed)


@pytest.mark.slow
def test_workers_know_how_many_share_the_cores(
    demo: Any, six: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: list[tuple[int, int]] = []
    monkeypatch.setattr(
        local, "_together", lambda job, todo, pulse, stop, workers, loads: shared.append((job.sharers, workers))
    )
    start.run(start.local(demo, PLAN, 8, [lambda: demo]), six, tmp_path, PLAN, shard_size=2)
    assert shared == [(3, 3)]  # three shards keep three workers busy


class Odd(OSError):
    """An error that does not travel between processes, as those of some libraries."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason)


def loading_fails(why: str) -> Any:
    """What a worker loads its model by."""
    if why == "odd":
        raise Odd(reason="the weights\nare gone")
    if why == "input":
        raise InputError("No such device. Use another.")
    if why == "stopped":  # as a scheduler that tells every process of a job
        os.kill(os.getppid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    if why == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if why == "dead":
        os._exit(3)
    try:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    except torch.OutOfMemoryError:
        if why == "bare":
            raise
        raise VisualizerError("The weights do not fit into the free memory of cuda:1. Free some.") from None


@pytest.mark.parametrize(
    ("why", "kind", "told"),
    [
        pytest.param(
            "full",
            VisualizerError,
            "The weights do not fit into the free memory of cuda:1. Free some. Fewer workers",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "bare",
            VisualizerError,
            "(OutOfMemoryError: CUDA out of memory.). Use fewer workers; the same command",
            marks=pytest.mark.slow,
        ),
        pytest.param("input", InputError, "No such device. Use another.", marks=pytest.mark.slow),
        ("odd", VisualizerError, "A worker could not load the model (Odd: the weights are gone). Mend that; the same"),
        pytest.param(
            "killed",
            VisualizerError,
            "killed by the system, most likely for want of memory. Use fewer workers",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "dead",
            VisualizerError,
            "ended before its work did (exit code 3). With one worker the model is asked",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_worker_that_cannot_begin_is_told_in_a_sentence_with_the_cause_and_the_next_step(
    why: str,
    kind: type[VisualizerError],
    told: str,
    demo: Any,
    six: list[Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    engine = start.local(demo, PLAN, 2, [functools.partial(loading_fails, why)])
    with pytest.raises(VisualizerError) as raised:
        start.run(engine, six, tmp_path, PLAN, shard_size=2)
    assert type(raised.value) is kind
    assert told in str(raised.value)
    assert ("memory" in str(raised.value)) == (why in ("full", "bare", "killed"))
    assert ("one worker" in str(raised.value)) == (why == "dead")
    assert capfd.readouterr().err == ""
    if why in ("full", "odd"):
        assert "in loading_fails" in "".join(traceback.format_exception(raised.value))  # for --debug


@pytest.mark.slow
def test_workers_that_were_told_to_stop_while_they_loaded_are_no_failure(
    demo: Any, six: list[Any], tmp_path: Path
) -> None:
    loads = [functools.partial(loading_fails, "stopped"), functools.partial(time.sleep, 60)]
    engine = start.local(demo, PLAN, 2, loads)
    outcome = start.run(engine, six, tmp_path, PLAN, shard_size=2)
    assert (outcome.stopped, outcome.asked) == (True, 0)


@pytest.mark.slow
def test_a_worker_with_another_model_than_was_planned_is_refused(demo: Any, six: list[Any], tmp_path: Path) -> None:
    load = functools.partial(load_model, "demo", device="cpu", dtype="bfloat16")
    with pytest.raises(InputError, match=r"model.dtype: \"float32\" → \"bfloat16\""):
        start.run(start.local(demo, PLAN, 2, [load]), six, tmp_path, PLAN, shard_size=2)


# --- kill -9 ---------------------------------------------------------------------------------------------------------

_RUN = """
import sys
from pathlib import Path
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.models.loading import load_model
from tests.runs.run_helpers import run
model = load_model("demo", device="cpu", dtype="float32")
print("ready", flush=True)
run(model, list(load_cases("demo")[:6]), Path(sys.argv[1]))
"""


def killed(folder: Path, after: float) -> bool:
    """Starts the run in a process of its own, kills it so many seconds after it began; whether it was still running."""
    here = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{here / 'src'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _RUN, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=here, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            assert process.wait(after) == 0
            return False
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_killed_run_loses_at_most_the_shard_in_hand_and_ends_as_an_undisturbed_one(
    seed: int, demo: Any, six: list[Any], undisturbed: Path, tmp_path: Path
) -> None:
    killed(tmp_path, random.Random(seed).uniform(0.0, 1.5))
    for path, content in parts_of(tmp_path).items():  # what is there is whole
        assert content == parts_of(undisturbed)[path]
    run(demo, six, tmp_path)
    assert parts_of(tmp_path) == parts_of(undisturbed)
    assert part_path(tmp_path, 0).exists()
