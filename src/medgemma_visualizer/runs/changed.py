"""Are the films that a run rests on still those that were asked about?

Knows two things of a film: a mark, size and date of its file, which costs next to nothing to look up; and the digest of
its pixels, which stands in its rows. A film with the same mark is believed. One with another mark, as after a copy, is
read again, and only other pixels count as a change. Does not know what changed in a film, nor who changed it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.progress import tell
from medgemma_visualizer.records import Case
from medgemma_visualizer.runs.films import MOST_READERS, film_digest
from medgemma_visualizer.runs.folder import PARTS, note_took, part_path, took
from medgemma_visualizer.runs.plan import Shard
from medgemma_visualizer.runs.results import read_rows, settled
from medgemma_visualizer.runs.work import cores

Group = Sequence[Case]  # cases of one picture
_SHOWN = 5


def mark_of(case: Case) -> str:
    """Size and date of the file of a case's film; "" of a picture in memory and of a file that is not there."""
    if not isinstance(case.image, str | Path):
        return ""
    try:
        status = os.stat(case.image)
    except OSError:  # told where the film is read
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def marks_of(groups: Iterable[Group]) -> dict[str, str]:
    """The first case of each picture -> the picture's mark."""
    return {group[0].id: mark_of(group[0]) for group in groups}


def refuse_changed(folder: Path, shards: Sequence[Shard]) -> None:
    """Raises where a film whose answers stand in a part has other pixels than when it was asked about.

    Films that will be asked again, because a case of theirs failed or is missing, may have changed: that mends them.

    Args:
        folder: Of the run.
        shards: Those that are about to be done or are done already.

    Raises:
        InputError: How many films changed, in which parts, and what to do.
    """
    there = {path.name for path in (folder / PARTS).glob("shard-*.parquet")}
    parted = [shard for shard in shards if part_path(folder, shard.index).name in there]
    doubtful = [(shard, groups) for shard in parted if (groups := _doubtful(folder, shard))]
    total, looked = sum(len(groups) for _, groups in doubtful), 0
    changed: dict[int, int] = {}
    with ThreadPoolExecutor(min(MOST_READERS, cores())) as pool:
        for shard, groups in doubtful:
            tell(looked, total, "films looked at again")
            marks = marks_of(groups)  # before the films are read: one that changes meanwhile is looked at again later
            number = _changed(pool, groups, _asked(folder, shard))
            if number:
                changed[shard.index] = number
            else:
                known = took(folder, shard.index)
                note_took(folder, shard.index, replace(known, films={**known.films, **marks}))
            looked += len(groups)
    if changed:
        raise InputError(_told(folder, changed))


def _doubtful(folder: Path, shard: Shard) -> list[Group]:
    """Pictures that are not known to be the same by their marks."""
    known = took(folder, shard.index).films
    return [group for group in shard.groups if not (mark := mark_of(group[0])) or mark != known.get(group[0].id)]


def _asked(folder: Path, shard: Shard) -> dict[str, str]:
    """Case -> digest of the pixels that it was asked about; cases without failure only."""
    rows = read_rows(part_path(folder, shard.index), ["case_id", "failed", "image_sha256"])
    good = settled(rows)
    return {row["case_id"]: row["image_sha256"] for row in rows if row["case_id"] in good}


def _changed(pool: Executor, groups: Sequence[Group], asked: Mapping[str, str]) -> int:
    """How many of the pictures have other pixels now, or none that can be read."""
    kept = [group[0] for group in groups if all(case.id in asked for case in group)]
    return sum(digest != asked[case.id] for case, digest in zip(kept, pool.map(_digest, kept), strict=True))


def _digest(case: Case) -> str:
    try:
        return film_digest(picture(case))
    except VisualizerError:  # it was readable once, so that this is a change
        return ""


def _told(folder: Path, changed: Mapping[int, int]) -> str:
    names = [part_path(folder, shard).name for shard in changed]
    parts = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return (
        "Films that were asked about have other pixels now, or cannot be read any more: "
        f"{sum(changed.values())} in {parts}. Answers to two states of a set are never mixed: put the films back, or "
        f"give another --out, or delete these parts in {str(folder / PARTS)!r} to have their cases asked anew."
    )
