"""A run notices that a film became another one; a touch, a copy and a mended film are no such thing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.progress import listening
from medgemma_visualizer.records import Case
from medgemma_visualizer.runs import changed
from medgemma_visualizer.runs.folder import part_path, stamp_of, took
from tests.runs.run_helpers import parts_of, rows_of, run


@pytest.fixture
def six(cases: Any, tmp_path: Path) -> list[Case]:
    """Six embedded cases, each with a film of its own that may be spoilt; two in a shard."""
    return [replace(case, image=own_film(case, tmp_path / "films" / f"{k}.png")) for k, case in enumerate(cases[:6])]


def own_film(case: Case, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    return Path(shutil.copy(str(case.image), path))


def repainted(case: Case) -> None:
    """Another film under the same name: one pixel differs."""
    path = Path(str(case.image))
    levels = np.array(Image.open(path))
    levels[0, 0] ^= 1
    Image.fromarray(levels).save(path)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every film that is read again to see whether it changed."""
    seen: list[str] = []
    read = changed.picture
    monkeypatch.setattr(changed, "picture", lambda case: seen.append(case.id) or read(case))
    return seen


def test_a_film_that_changed_after_it_was_asked_about_is_told_and_nothing_is_asked(
    demo: Any, six: list[Case], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(demo, six, out)
    before = parts_of(out)
    repainted(six[3])
    with pytest.raises(
        InputError, match=r"other pixels now.*: 1 in shard-00001\.parquet\..*put the films back"
    ) as told:
        run(demo, six, out)
    assert str(tmp_path / "films") not in str(told.value)
    assert parts_of(out) == before


def test_deleting_the_part_that_is_named_has_its_cases_asked_anew(demo: Any, six: list[Case], tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(demo, six, out)
    repainted(six[3])
    part_path(out, 1).unlink()
    assert run(demo, six, out).asked == 2
    run(demo, six, tmp_path / "fresh")
    assert parts_of(out) == parts_of(tmp_path / "fresh")


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"no picture")])
def test_a_film_that_is_gone_or_damaged_counts_as_changed(
    demo: Any, six: list[Case], tmp_path: Path, spoil: Callable[[Path], Any]
) -> None:
    run(demo, six, tmp_path / "run")
    spoil(Path(str(six[0].image)))
    with pytest.raises(InputError, match=r"1 in shard-00000"):
        run(demo, six, tmp_path / "run")


def test_an_untouched_set_is_not_read_again(demo: Any, six: list[Case], tmp_path: Path, looked_at: list[str]) -> None:
    run(demo, six, tmp_path / "run")
    assert run(demo, six, tmp_path / "run").asked == 0
    assert looked_at == []


def test_a_touch_and_a_copy_elsewhere_are_no_change_and_are_looked_at_once(
    demo: Any, six: list[Case], tmp_path: Path, looked_at: list[str]
) -> None:
    run(demo, six, tmp_path / "run")
    before = parts_of(tmp_path / "run")
    os.utime(str(six[5].image), (1, 1))
    assert run(demo, six, tmp_path / "run").asked == 0
    assert looked_at == [six[5].id]
    copies = [replace(case, image=own_film(case, tmp_path / "copies" / f"{k}.png")) for k, case in enumerate(six)]
    told: list[tuple[int, int]] = []
    with listening(lambda done, total, what: told.append((done, total)) if "looked at" in what else None):
        assert run(demo, copies, tmp_path / "run").asked == 0
    assert sorted(looked_at[1:]) == sorted(case.id for case in six)
    assert told == [(0, 6), (2, 6), (4, 6)]
    assert run(demo, copies, tmp_path / "run").asked == 0
    assert len(looked_at) == 7
    assert parts_of(tmp_path / "run") == before


def test_a_film_may_change_until_it_is_asked_about(demo: Any, six: list[Case], tmp_path: Path) -> None:
    run(demo, six, tmp_path / "run", shard="1/3")
    repainted(six[2])
    assert run(demo, six, tmp_path / "run").asked == 4
    run(demo, six, tmp_path / "fresh")
    assert parts_of(tmp_path / "run") == parts_of(tmp_path / "fresh")


def test_a_film_that_failed_may_be_mended(demo: Any, six: list[Case], tmp_path: Path) -> None:
    film = Path(str(six[1].image))
    good = film.read_bytes()
    film.write_bytes(b"no picture")
    assert run(demo, six, tmp_path / "run").failed == 1
    film.write_bytes(good)
    done = run(demo, six, tmp_path / "run")
    assert (done.asked, done.state.failed) == (1, 0)
    assert set(took(tmp_path / "run", 0).seconds) == {six[0].id, six[1].id}


def test_a_job_looks_at_its_own_films_only(demo: Any, six: list[Case], tmp_path: Path) -> None:
    run(demo, six, tmp_path / "run")
    repainted(six[0])
    assert run(demo, six, tmp_path / "run", shard="2/3").asked == 0
    with pytest.raises(InputError, match="shard-00000"):
        run(demo, six, tmp_path / "run", shard="1/3")


def test_pictures_in_memory_are_told_apart_by_their_pixels(demo: Any, six: list[Case], tmp_path: Path) -> None:
    loaded = [replace(case, image=Image.open(str(case.image)).convert("RGB")) for case in six[:2]]
    run(demo, loaded, tmp_path / "run")
    assert run(demo, loaded, tmp_path / "run").asked == 0
    with pytest.raises(InputError, match="1 in shard-00000"):
        run(demo, [loaded[0], replace(loaded[1], image=Image.new("RGB", (224, 224)))], tmp_path / "run")


def test_lost_marks_make_films_be_read_again_and_nothing_else(
    demo: Any, six: list[Case], tmp_path: Path, looked_at: list[str]
) -> None:
    run(demo, six, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "seconds")
    assert run(demo, six, tmp_path / "run").asked == 0
    assert len(looked_at) == 6


def test_rows_hold_no_mark_of_a_file(demo: Any, six: list[Case], tmp_path: Path) -> None:
    run(demo, six, tmp_path / "run")
    assert took(tmp_path / "run", 0).films == {case.id: changed.mark_of(case) for case in six[:2]}
    assert not any("film" in name or "mark" in name for name in rows_of(tmp_path / "run")[0])


def test_a_stamp_is_of_all_files_below_a_folder_but_those_of_the_run(tmp_path: Path) -> None:
    deep, out = tmp_path / "p10" / "s5" / "a.jpg", tmp_path / "p10" / "run"
    deep.parent.mkdir(parents=True)
    out.mkdir()
    deep.write_bytes(b"film")
    before = stamp_of(tmp_path, without=out)
    assert len(before) == 16
    (out / "manifest.json").write_text("{}")
    assert stamp_of(tmp_path, without=out) == before != stamp_of(tmp_path)
    os.utime(deep, (1, 1))
    assert stamp_of(tmp_path, without=out) != before


def test_no_stamp_is_given_of_what_cannot_be_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert stamp_of(tmp_path) == ""
    (tmp_path / "gone.jpg").unlink()
    for k in range(4):
        (tmp_path / f"{k}.jpg").touch()
    assert stamp_of(tmp_path) != ""
    monkeypatch.setattr("medgemma_visualizer.runs.folder._MOST_FILES", 3)
    assert stamp_of(tmp_path) == ""
