"""A run's folder: what was planned, which parts are there, and whether parts of several folders make one whole.

Knows files and counts; asks no model. The manifest is written once and never changes; a part is there whole or not at
all. Both hold for any number of processes and machines that share the folder.

    manifest.json             the plan: fingerprint, shards, source, command
    parts/shard-00012.parquet rows of one shard
    seconds/shard-00012.json  what they took, and size and date of their films, which differ from place to place
    progress/HOST-PID.json    how far a process is, for `status`
    commands.txt              every command that began this run or went on with it, places of files included
    finished.json             a stamp of the source when everything was done, so that a rerun need not open the cases
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case, write_whole
from medgemma_visualizer.runs.plan import (
    FORMAT,
    Shard,
    differences,
    digest_of,
    fingerprint_of,
)
from medgemma_visualizer.runs.results import Part, disk_told, read_about, written

MANIFEST, FINISHED, PARTS, SECONDS, PROGRESS = "manifest.json", "finished.json", "parts", "seconds", "progress"
COMMANDS = "commands.txt"
#: A file that a killed process left half written is removed when it is older than this, in seconds.
_STALE = 3600.0
#: A folder of more files is not gone through to find out that nothing is to be done; MIMIC-CXR has 605,000.
_MOST_FILES = 1_000_000
_SHOWN = 12


@dataclass(frozen=True)
class Manifest:
    """What was planned, the same in every process that takes part.

    Attributes:
        fingerprint: As `plan.fingerprint_of` makes it.
        shards: Number of cases of each shard, and the digest of their identifiers.
        source: Where the cases come from, for people; no path.
        left_out: Reason -> rows of the source that made no case.
        notes: What must be known of the cases as a whole.
        command: What does the run again, with files and folders by their last names only; `commands_of` has all.
    """

    fingerprint: Mapping[str, Any]
    shards: tuple[tuple[int, str], ...]
    source: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    command: str = ""

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits of the fingerprint, which every part carries."""
        return digest_of([json.dumps(self.fingerprint, sort_keys=True)])

    @property
    def n(self) -> int:
        """Cases."""
        return sum(n for n, _ in self.shards)

    @property
    def asked(self) -> dict[str, Any]:
        """What does not hang on the cases, as `plan.asked_of` makes it."""
        return {name: value for name, value in self.fingerprint.items() if name != "cases"}

    def refuse_other(self, asked: Mapping[str, Any]) -> None:
        """Raises where a model, a plan or a machine would make other numbers than were planned.

        Raises:
            InputError: It would; the message holds the differences.
        """
        found = differences(self.asked, json.loads(json.dumps(asked)))
        if found:
            raise InputError(
                f"This machine would compute something else than was planned: {'; '.join(found[:_SHOWN])}. Use the "
                "same model, number format, device and versions everywhere."
            )


def manifest_of(asked: Mapping[str, Any], cases: Sequence[Case], shards: Sequence[Shard], **about: Any) -> Manifest:
    """The manifest of these shards.

    Args:
        asked: As from `plan.asked_of`.
        cases: All of them.
        shards: All of them.
        **about: source, left_out, notes and command.
    """
    fingerprint = json.loads(json.dumps(fingerprint_of(asked, cases, shards)))  # as it will be read
    return Manifest(fingerprint, tuple((len(shard.cases), shard.digest) for shard in shards), **about)


@dataclass(frozen=True)
class State:
    """How far a run is.

    Attributes:
        manifest: What was planned.
        parts: What each shard's part says of itself; None where there is none yet.
    """

    manifest: Manifest
    parts: tuple[Part | None, ...]

    @property
    def asked(self) -> int:
        """Cases with rows, failed ones included."""
        return sum(part.cases for part in self.parts if part is not None)

    @property
    def failed(self) -> int:
        """Cases whose row is a reason; they are asked again on resume."""
        return sum(part.failed for part in self.parts if part is not None)

    @property
    def missing(self) -> tuple[int, ...]:
        """Shards that lack cases."""
        planned = zip(self.parts, self.manifest.shards, strict=True)
        return tuple(k for k, (part, (n, _)) in enumerate(planned) if part is None or part.cases < n)

    @property
    def open(self) -> tuple[int, ...]:
        """Shards with something to do: missing cases, or failed ones."""
        failed = {part.shard for part in self.parts if part is not None and part.failed}
        return tuple(sorted({*self.missing, *failed}))

    @property
    def complete(self) -> bool:
        return not self.missing


def part_path(folder: Path, shard: int) -> Path:
    """Where a shard's rows stand."""
    return folder / PARTS / f"shard-{shard:05d}.parquet"


def seconds_path(folder: Path, shard: int) -> Path:
    """Where stands what a shard took."""
    return folder / SECONDS / f"shard-{shard:05d}.json"


@dataclass(frozen=True)
class Took:
    """What a shard took, and what its films were like; both differ from run to run where the rows do not.

    Attributes:
        host: Where it was done last.
        at: When, in seconds since 1970.
        seconds: Case -> what it took.
        films: First case of each picture -> mark of the picture's file; see `changed.mark_of`.
    """

    host: str = ""
    at: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    films: Mapping[str, str] = field(default_factory=dict)


def took(folder: Path, shard: int) -> Took:
    """What is known of that; nothing where no file can be read, which only makes films be looked at again."""
    try:
        return Took(**json.loads(seconds_path(folder, shard).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return Took()


def note_took(folder: Path, shard: int, told: Took) -> None:
    """Keeps it.

    Raises:
        VisualizerError: The disk is full or cannot be written to.
    """
    text = json.dumps(asdict(told), indent=1) + "\n"
    written(seconds_path(folder, shard), lambda file: file.write(text.encode()))


def begin(folder: Path, manifest: Manifest) -> None:
    """Makes the folder of a run, or goes on with one that is the same run.

    Raises:
        InputError: It holds another run, with the differences; or cannot be written to.
        VisualizerError: The disk is full.
    """
    if (folder / MANIFEST).exists():
        _refuse_another(folder, load_manifest(folder), manifest)
    elif any((folder / PARTS).glob("*.parquet")):
        raise InputError(f"{str(folder)!r} holds parts of a run without its {MANIFEST}. Give an empty folder.")
    else:
        text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1, ensure_ascii=False) + "\n"
        written(folder / MANIFEST, lambda file: file.write(text.encode()))
    _sweep(folder)


def note_command(folder: Path, command: str) -> None:
    """Keeps a whole command that does this run, beside those of others; jobs may do so at the same time.

    Raises:
        VisualizerError: The disk is full or cannot be written to.
    """
    with disk_told(folder / COMMANDS), (folder / COMMANDS).open("a", encoding="utf-8") as file:
        file.write(f"{command}\n")


def commands_of(folder: Path) -> tuple[str, ...]:
    """Whole commands that did this run, the earliest first, each once; none in a folder that was merged."""
    try:
        return tuple(dict.fromkeys((folder / COMMANDS).read_text("utf-8").splitlines()))
    except OSError:  # then nothing is known of it
        return ()


def _refuse_another(folder: Path, there: Manifest, wanted: Manifest) -> None:
    found = differences(there.fingerprint, wanted.fingerprint)
    if not found and there.shards != wanted.shards:
        found = [f"shards: {len(there.shards)} → {len(wanted.shards)}"]
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        hint = _OTHER_CASES if any(name.startswith("cases.digest") for name in found) else ""
        hint += f" It was begun by: {there.command}" if there.command else ""
        raise InputError(
            f"{str(folder)!r} holds another run. It was → is now: {'; '.join(found[:_SHOWN])}{more}.{hint} Rows of two "
            "runs are never mixed: give another --out, or the same command as before, or delete that folder."
        )


_OTHER_CASES = " The cases differ in their questions, truths, regions, renderings or the names of films."


def _sweep(folder: Path) -> None:
    """Removes what killed processes left half written long ago."""
    for place in (folder, folder / PARTS, folder / SECONDS, folder / PROGRESS):
        for file in place.glob(".*.*.????????????????"):
            if file.is_file() and time.time() - file.stat().st_mtime > _STALE:
                file.unlink(missing_ok=True)


def load_manifest(folder: Path) -> Manifest:
    """Reads what a run was.

    Raises:
        InputError: No run of this version.
    """
    path = folder / MANIFEST
    try:
        told = json.loads(path.read_text("utf-8"))
        if told.pop("format") != FORMAT:
            raise ValueError("another format")
        shards = tuple((int(n), str(ids)) for n, ids in told["shards"])
        return Manifest(**(told | {"shards": shards, "notes": tuple(told["notes"])}))
    except OSError as error:
        raise InputError(
            f"{str(folder)!r} is no folder of a run: {MANIFEST} cannot be read ({error.strerror}). Name what was given "
            "to `run` as --out."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{str(path)!r} is no plan of this version, or is damaged. Run again into a new folder."
        ) from error


def survey(folder: Path, manifest: Manifest | None = None) -> State:
    """How far the run in a folder is, read from its parts' own words.

    Raises:
        InputError: No run, or a part that is damaged or belongs to another one.
    """
    plan = load_manifest(folder) if manifest is None else manifest
    there = {file.name for file in (folder / PARTS).glob("shard-*.parquet")}
    parts = []
    for k, (n, ids) in enumerate(plan.shards):
        path = part_path(folder, k)
        part = read_about(path) if path.name in there else None
        there.discard(path.name)
        if part is not None:
            _refuse_stray(path, part, (plan.digest, k, ids, n))
        parts.append(part)
    if there:
        raise InputError(f"{str(folder)!r} holds {min(there)}, a part of no shard of this run. Move it elsewhere.")
    return State(plan, tuple(parts))


def _refuse_stray(path: Path, part: Part, wanted: tuple[str, int, str, int]) -> None:
    digest, shard, ids, n = wanted
    if (part.fingerprint, part.shard, part.ids) != (digest, shard, ids) or part.cases > n:
        raise InputError(f"{str(path)!r} belongs to another run. Move it elsewhere, then give the command again.")


def merge(folders: Sequence[Path], out: Path) -> State:
    """Puts the parts of several folders of one run together, each shard once, and checks that none is missing.

    A shard that stands in several folders must be the same to the last bit, or complete in only one of them.

    Raises:
        InputError: Folders of different runs, gaps (with the shards that lack cases), or two versions of a shard.
    """
    manifests = [load_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders[1:], manifests[1:], strict=True):
        _refuse_another(folders[0], manifests[0], manifest) if manifest.digest != manifests[0].digest else None
        if manifest.shards != manifests[0].shards:
            raise InputError(f"{str(folder)!r} has other shards than {str(folders[0])!r}. Merge parts of one run only.")
    states = [survey(folder, manifests[0]) for folder in folders]
    chosen = [_chosen(k, folders, states) for k in range(len(manifests[0].shards))]
    _refuse_gaps([k for k, path in enumerate(chosen) if path is None], folders, len(chosen))
    begin(out, manifests[0])
    for k, path in enumerate(chosen):
        assert path is not None
        _copied(path, part_path(out, k))
        took = seconds_path(path.parent.parent, k)
        if took.exists():
            _copied(took, seconds_path(out, k))
    return survey(out)


def _chosen(shard: int, folders: Sequence[Path], states: Sequence[State]) -> Path | None:
    """The complete part of a shard; where several are, they must be equal."""
    planned = states[0].manifest.shards[shard][0]
    there = [
        (part.failed, part_path(folder, shard))
        for folder, state in zip(folders, states, strict=True)
        if (part := state.parts[shard]) is not None and part.cases == planned
    ]
    if not there:
        return None
    fewest = min(failed for failed, _ in there)
    best = [path for failed, path in there if failed == fewest]
    if len({digest_of([path.read_bytes()]) for path in best}) > 1:
        raise InputError(
            f"Shard {shard} stands in several folders with different rows ({', '.join(map(str, best))}). Decide which "
            "one counts, and delete the other file."
        )
    return best[0]


def _refuse_gaps(gaps: Sequence[int], folders: Sequence[Path], shards: int) -> None:
    if gaps:
        told = ", ".join(map(str, gaps[:_SHOWN])) + (", …" if len(gaps) > _SHOWN else "")
        raise InputError(
            f"{len(gaps)} of {shards} shards lack cases: {told}. Nothing was merged. Give the jobs' `run` commands "
            f"again, each with its own --shard: they do what is missing. Or run {str(folders[0])!r} without --shard."
        )


def _copied(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        return

    def copy(file: Any) -> None:
        with source.open("rb") as data:
            shutil.copyfileobj(data, file)

    written(target, copy)


def stamp_of(source: Path | str, *told: object, without: Path | None = None) -> str:
    """Sixteen hex digits that change when a source of cases does: a file's bytes, or all files below a folder by date.

    For deciding only that nothing is to be done; what a run rests on is `plan.cases_digest` and the pixels' digests in
    its rows. "" where that cannot be said: the folder holds too many files, or some that cannot be looked up.

    Args:
        source: A file or a folder; of anything else only the name counts.
        *told: What else the cases depend on.
        without: A folder below it that does not count, such as the run's own.
    """
    path = Path(source)
    words: list[str | bytes] = [str(source), *map(str, told)]
    try:
        if path.is_file():
            words.append(digest_of([path.read_bytes()]))
        elif path.is_dir():
            words += _files_below(path, None if without is None else without.resolve())
    except (OSError, _TooManyError):
        return ""
    return digest_of(words)


class _TooManyError(Exception):
    pass


def _files_below(folder: Path, without: Path | None) -> list[str]:
    """Name, size and date of every file, sorted folder by folder."""
    found: list[str] = []
    waiting = [(str(folder), "")]
    while waiting:
        place, name = waiting.pop()
        with os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                if entry.is_dir():
                    if without is None or entry.name != without.name or Path(entry.path).resolve() != without:
                        waiting.append((entry.path, f"{name}{entry.name}/"))
                else:
                    status = entry.stat()
                    found.append(f"{name}{entry.name}:{status.st_size}:{status.st_mtime_ns}")
        if len(found) + len(waiting) > _MOST_FILES:
            raise _TooManyError
    return found


def note_finished(folder: Path, stamp: str) -> None:
    """Notes that a run is done without failures, and of which source."""
    written(folder / FINISHED, lambda file: file.write((json.dumps({"stamp": stamp}) + "\n").encode()))


def is_finished(folder: Path, stamp: str, asked: Mapping[str, Any]) -> State | None:
    """The state of a run that is done without failures and is asked for again; None where there may be work.

    Args:
        folder: Of the run.
        stamp: As from `stamp_of`.
        asked: As from `plan.asked_of`.

    Raises:
        InputError: A damaged part.
    """
    try:
        told = json.loads((folder / FINISHED).read_text("utf-8"))
        manifest = load_manifest(folder)
    except (OSError, ValueError):  # then everything is looked at, and told what is wrong
        return None
    if told != {"stamp": stamp} or differences(manifest.asked, json.loads(json.dumps(asked))):
        return None
    state = survey(folder, manifest)
    return state if not state.open else None


@dataclass(frozen=True)
class Beat:
    """What a process that takes part last said.

    Attributes:
        host: Of the process.
        pid: Of the process.
        started: Seconds since 1970.
        updated: When this was said.
        total: Cases that it set out to ask.
        done: Cases asked since it began, failed ones included.
        failed: Of these.
        kept: Of these, cases that stand in a part.
        state: "running", "stopped" or "done".
    """

    host: str
    pid: int
    started: float
    updated: float
    total: int
    done: int = 0
    failed: int = 0
    kept: int = 0
    state: str = "running"

    @property
    def rate(self) -> float:
        """Cases a second since it began; 0 before the first."""
        spent = self.updated - self.started
        return self.done / spent if spent > 0 else 0.0


def say(folder: Path, beat: Beat) -> None:
    """Leaves word for `status`.

    Raises:
        OSError: The folder cannot be written to.
    """
    text = json.dumps(asdict(beat)) + "\n"
    write_whole(folder / PROGRESS / f"{beat.host}-{beat.pid}.json", lambda file: file.write(text.encode()))


def beats_of(folder: Path) -> tuple[Beat, ...]:
    """What every process that took part last said; what cannot be read says nothing."""
    return tuple(_heard((folder / PROGRESS).glob("*.json")))


def _heard(files: Iterable[Path]) -> Iterable[Beat]:
    for file in sorted(files):
        try:
            yield Beat(**json.loads(file.read_text("utf-8")))
        except (OSError, ValueError, TypeError):  # it is replaced while we look, or is of another version
            continue
