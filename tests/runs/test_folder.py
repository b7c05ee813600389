"""What is in a run's folder is looked at before it is believed; folders are merged only where they make one whole."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.runs.folder import (
    MANIFEST,
    Beat,
    beats_of,
    begin,
    is_finished,
    load_manifest,
    merge,
    note_finished,
    part_path,
    say,
    stamp_of,
    survey,
)
from medgemma_visualizer.runs.results import Part, read_about, write_part
from tests.runs.run_helpers import PLAN, parts_of, run


@pytest.fixture(scope="module")
def jobs(demo: Any, cases: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The two jobs of an array, each in a folder of its own, and the same run in one go."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second", "whole")]
    for folder, shard in zip(folders, ("1/2", "2/2", None), strict=True):
        run(demo, list(cases[:6]), folder, shard=shard)
    return folders


@pytest.fixture
def copies(jobs: list[Path], tmp_path: Path) -> list[Path]:
    """The same, free to be spoilt."""
    return [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in jobs]


def test_jobs_of_an_array_make_the_same_whole_as_one_run(copies: list[Path], tmp_path: Path) -> None:
    assert not survey(copies[0]).complete
    state = merge(copies[:2], tmp_path / "out")
    assert state.complete
    assert parts_of(tmp_path / "out") == parts_of(copies[2])
    assert load_manifest(tmp_path / "out") == load_manifest(copies[2])
    assert len(list((tmp_path / "out" / "seconds").iterdir())) == len(state.parts)


def test_merging_into_one_of_the_folders_keeps_its_own_parts(copies: list[Path]) -> None:
    assert merge(copies[:2], copies[0]).complete
    assert parts_of(copies[0]) == parts_of(copies[2])


def test_a_gap_is_refused_by_its_number_and_nothing_is_written(copies: list[Path], tmp_path: Path) -> None:
    part_path(copies[1], 1).unlink()
    with pytest.raises(InputError, match=r"1 of \d shards lack cases: 1\. Nothing was merged"):
        merge(copies[:2], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_shard_twice_is_fine_where_it_is_the_same_and_refused_where_not(
    copies: list[Path], tmp_path: Path
) -> None:
    shutil.copy(part_path(copies[2], 1), part_path(copies[0], 1))
    assert merge(copies[:2], tmp_path / "out").complete
    about = read_about(part_path(copies[0], 1))
    ids = [json.loads(json.dumps(f"made up {k}")) for k in range(about.cases)]
    write_part(part_path(copies[0], 1), [{"case_id": i, "failed": False} for i in ids], PLAN, about)
    with pytest.raises(InputError, match="Shard 1 stands in several folders with different rows"):
        merge(copies[:2], tmp_path / "other")


def test_a_part_without_failures_counts_before_one_with(copies: list[Path], tmp_path: Path) -> None:
    about = read_about(part_path(copies[2], 1))
    rows = [{"case_id": str(k), "failed": True, "reason": "once"} for k in range(about.cases)]
    failed = Part(about.shard, about.fingerprint, about.ids, about.cases, about.cases)
    write_part(part_path(copies[0], 1), rows, PLAN, failed)
    assert merge(copies[:2], tmp_path / "out").failed == 0
    assert parts_of(tmp_path / "out") == parts_of(copies[2])


def test_folders_of_different_runs_are_never_merged(demo: Any, cases: Any, copies: list[Path], tmp_path: Path) -> None:
    run(demo, list(cases[:5]), tmp_path / "fewer")
    with pytest.raises(InputError, match=r"cases.n: 6 → 5"):
        merge([copies[0], tmp_path / "fewer"], tmp_path / "out")


def test_a_part_of_another_run_or_shard_is_refused(copies: list[Path]) -> None:
    shutil.copy(part_path(copies[2], 0), part_path(copies[1], 1))
    with pytest.raises(InputError, match="belongs to another run"):
        survey(copies[1])


def test_a_damaged_part_is_named_with_the_next_step(copies: list[Path]) -> None:
    path = part_path(copies[2], 0)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"shard-00000.parquet.*damaged. Delete it"):
        survey(copies[2])


def test_a_part_of_no_shard_is_refused(copies: list[Path]) -> None:
    shutil.copy(part_path(copies[2], 0), part_path(copies[2], 77))
    with pytest.raises(InputError, match=r"shard-00077.parquet, a part of no shard"):
        survey(copies[2])


def test_no_run_a_damaged_plan_and_parts_without_one_are_told(copies: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of a run"):
        survey(tmp_path)
    manifest = load_manifest(copies[0])
    (copies[0] / MANIFEST).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        survey(copies[0])
    (copies[0] / MANIFEST).unlink()
    with pytest.raises(InputError, match="without its manifest"):
        begin(copies[0], manifest)


def test_what_was_left_half_written_long_ago_is_swept_and_what_is_new_is_not(copies: list[Path]) -> None:
    old, new = (part_path(copies[0], 0).with_name(f".shard-00009.parquet.{name * 16}") for name in "ab")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    begin(copies[0], load_manifest(copies[0]))
    assert (old.exists(), new.exists()) == (False, True)
    assert survey(copies[0]).asked > 0


def test_a_finished_run_is_known_without_its_cases_until_anything_changes(copies: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "questions.csv"
    source.write_text("a")
    whole, asked = copies[2], load_manifest(copies[2]).asked
    assert is_finished(whole, stamp_of(source), asked) is None
    note_finished(whole, stamp_of(source))
    assert is_finished(whole, stamp_of(source), asked) is not None
    assert is_finished(whole, stamp_of(source), asked | {"format": 2}) is None
    assert is_finished(whole, stamp_of(source, "another option"), asked) is None
    source.write_text("b")
    assert is_finished(whole, stamp_of(source), asked) is None
    source.write_text("a")
    part_path(whole, 0).unlink()
    assert is_finished(whole, stamp_of(source), asked) is None


def test_a_folder_of_films_has_another_stamp_once_a_film_came(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    before = stamp_of(tmp_path)
    (tmp_path / "b.png").write_bytes(b"2")
    assert stamp_of(tmp_path) != before


def test_what_a_process_said_is_read_and_nonsense_is_not(tmp_path: Path) -> None:
    beat = Beat("node", 7, started=100.0, updated=104.0, total=9, done=6, failed=1, kept=4)
    say(tmp_path, beat)
    (tmp_path / "progress" / "node-8.json").write_text("{")
    assert beats_of(tmp_path) == (beat,)
    assert beat.rate == 1.5
