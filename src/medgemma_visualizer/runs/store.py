"""Where leagues are kept, and whose they are: a league is shown with the model that it was measured on and no other.

Knows files and fingerprints of models; holds tables only, no case, no picture and no path.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from medgemma_visualizer.data.sources import demo_folder
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.records import Score, write_whole
from medgemma_visualizer.runs.league import Curve, League, Place, Row, Sanity
from medgemma_visualizer.scores.statistics import Estimate

HOME = "MEDGEMMA_VISUALIZER_HOME"
FORMAT = 1
ROWS, SECONDS, TABLE = "league.parquet", "seconds.json", "league.json"
_NUMBER, _CHANCE, _CURVE = "number:", "chance:", "curve:"
_FACTS = ("case_id", "patient_id", "finding", "side", "size", "label", "truth", "correct", "method", "available")
_COSTS = ("reason", "forward_passes")
_PARTS = ("shares", "without", "alone")


def identity_of(model: Model) -> str:
    """Sixteen hex digits for architecture and weights, whatever the model is called and however it is loaded.

    Weights are told by the model's revision: a commit of the hub, or the digest of a folder. The same weights from both
    have two identities. "" where a model has no revision, such as one made in memory: it has no league of its own.
    """
    if not model.revision:
        return ""
    return hashlib.sha256(f"{model.family.architecture}:{model.revision}".encode()).hexdigest()[:16]


def home() -> Path:
    """The user's folder of this package: MEDGEMMA_VISUALIZER_HOME, else a folder under the XDG data home."""
    given = os.environ.get(HOME, "").strip()
    if given:
        return Path(given).expanduser()
    shared = os.environ.get("XDG_DATA_HOME", "").strip()
    return (Path(shared) if shared else Path.home() / ".local" / "share") / "medgemma-visualizer"


def league_of(model: Model) -> League | None:
    """The league table measured on this very model; None where there is none.

    Known regions come before planted marks, and the user's own before those that travel with the embedded model.

    Raises:
        InputError: A file that is there cannot be read as a league.
    """
    identity = identity_of(model)
    if not identity:
        return None
    for path in (_path(identity, "regions"), demo_folder() / TABLE, _path(identity, "planted")):
        if path.is_file():
            found = load_league(path)
            if found.identity == identity:
                return found
    return None


def keep(league: League) -> Path | None:
    """Keeps a league for `league_of`, unless one that tells more is there; returns the file, else None.

    More is told by more cases, by more methods, and where sanity was checked at all. One that travels with the embedded
    model is there, too: a quick look at two cases does not take its place.

    Raises:
        InputError: The folder cannot be written to.
    """
    if not league.identity:
        return None
    path = _path(league.identity, league.probe)
    outdone = any(_tells_more(each, league) for each in (path, demo_folder() / TABLE))
    return None if outdone else save_league(league, path)


def _tells_more(path: Path, league: League) -> bool:
    """Whether a league of the same model and probe is there and tells more; one that is damaged tells nothing."""
    try:
        kept = load_league(path)
    except InputError:
        return False
    alike = (kept.identity, kept.probe) == (league.identity, league.probe)
    return alike and any(more > own for more, own in zip(_told(kept), _told(league), strict=True))


def _told(league: League) -> tuple[int, int, bool]:
    """Cases, methods, and whether the sanity of any was checked."""
    checked = any(place.sanity.verdict != "not asked" for place in league.places)
    return league.n, len(league.places), checked


def _path(identity: str, probe: str) -> Path:
    suffix = "" if probe == "regions" else f"-{probe}"
    return home() / "leagues" / f"{identity}{suffix}.json"


def write_league(
    league: League, rows: Sequence[Row], folder: Path, pages: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """Writes the files of `trust`, each whole; league.json comes last and marks a complete result.

    Args:
        league: The table.
        rows: What it sums up, sorted.
        folder: Where to.
        pages: File name -> the text of a further page.

    Raises:
        InputError: The folder cannot be written to.
    """
    seconds: dict[str, dict[str, float]] = {}
    for row in rows:
        seconds.setdefault(row.case_id, {})[row.method] = round(row.seconds, 4)
    try:
        (folder / TABLE).unlink(missing_ok=True)
        written = {ROWS: save_rows(rows, folder / ROWS)}
        for name, text in {SECONDS: json.dumps(seconds, indent=1) + "\n", **(pages or {})}.items():
            written[name] = write_whole(folder / name, lambda file, text=text: file.write(text.encode()))
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be written to ({error.strerror}). Give another folder.") from error
    return written | {TABLE: save_league(league, folder / TABLE)}


def save_league(league: League, path: Path) -> Path:
    """Writes a league whole or not at all.

    Raises:
        InputError: The place cannot be written to.
    """
    text = json.dumps(as_document(league), separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"
    try:
        return write_whole(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written ({error.strerror}). Choose another folder; {HOME} says where leagues "
            "are kept."
        ) from error


def load_league(path: Path) -> League:
    """Reads what `save_league` wrote; a file that has not changed since is not read again.

    Raises:
        InputError: No such file, or no league of this version.
    """
    try:
        state = path.stat()
        return _read(path, state.st_ino, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror}). Run `trust` again.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{str(path)!r} is no league of this version. Delete it and run `trust` again.") from error


@lru_cache(maxsize=8)  # every analysis asks twice, and a whole table takes as long to read as a quick map to make
def _read(path: Path, *state: int) -> League:
    """The league in a file; `state` tells one version of the file from another."""
    return league_from(json.loads(path.read_text(encoding="utf-8")))


def as_document(league: League) -> dict[str, Any]:
    """Plain JSON values, the same bytes for the same seed on the same machine: no seconds, no dates."""
    document = asdict(_without_seconds(league))
    return {"format": FORMAT, "best": league.best, **document}


def _without_seconds(league: League) -> League:
    def bare(places: Sequence[Place]) -> tuple[Place, ...]:
        return tuple(replace(place, seconds=None) for place in places)

    splits = {name: {value: bare(places) for value, places in parts.items()} for name, parts in league.splits.items()}
    return replace(league, places=bare(league.places), controls=bare(league.controls), splits=splits)


def league_from(document: Mapping[str, Any]) -> League:
    """The league of such a document.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: It is none.
    """
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}")
    told = {name: value for name, value in document.items() if name not in ("format", "best")}
    splits = {name: {value: _places(each) for value, each in parts.items()} for name, parts in told["splits"].items()}
    told |= {"places": _places(told["places"]), "controls": _places(told["controls"]), "splits": splits}
    told |= {name: tuple(told[name]) for name in ("imputers", "notes")}
    return League(**(told | {"agreement": _estimate(told["agreement"])}))


def _places(documents: Sequence[Mapping[str, Any]]) -> tuple[Place, ...]:
    return tuple(_place(dict(document)) for document in documents)


def _place(told: dict[str, Any]) -> Place:
    scores = {name: Score(**_tupled(each, "interval")) for name, each in told["scores"].items()}
    estimates = {
        kind: {name: Estimate(**_tupled(each, "interval")) for name, each in told[kind].items()}
        for kind in ("counted", "differences")
    }
    costs = {name: _estimate(told[name]) for name in ("forward_passes", "seconds")}
    sanity = Sanity(**_tupled(told["sanity"], "interval"))
    return Place(**_tupled(told, "mean_rank_interval") | {"scores": scores, "sanity": sanity} | estimates | costs)


def _estimate(told: Mapping[str, Any] | None) -> Estimate | None:
    return None if told is None else Estimate(**_tupled(told, "interval"))


def _tupled(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {**told, name: None if told[name] is None else tuple(told[name])}


def save_rows(rows: Sequence[Row], path: Path) -> Path:
    """Writes rows as Parquet, without seconds: the same bytes for the same seed on the same machine.

    Columns: the facts of `Row`, then "number:…" and "chance:…" for every column of the league, and lists
    "curve:…:shares", "curve:…:without" and "curve:…:alone" for every imputer; null where none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    metrics = list(dict.fromkeys(name for row in rows for name in (*row.chances, *row.numbers)))
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in (*_FACTS, *_COSTS)}
    columns |= {_NUMBER + name: pa.array([row.numbers.get(name) for row in rows], pa.float64()) for name in metrics}
    columns |= {_CHANCE + name: pa.array([row.chances.get(name) for row in rows], pa.float64()) for name in metrics}
    lists, imputers = pa.list_(pa.float64()), dict.fromkeys(name for row in rows for name in row.curves)
    columns |= {
        f"{_CURVE}{name}:{part}": pa.array([_part(row.curves.get(name), part) for row in rows], lists)
        for name in imputers
        for part in _PARTS
    }
    columns["correct"] = pa.array(columns["correct"], pa.bool_())
    table = pa.table(columns)
    return write_whole(path, lambda file: pq.write_table(table, file, compression="zstd"))


def _part(curve: Curve | None, part: str) -> list[float] | None:
    return None if curve is None else list(getattr(curve, part))


def load_rows(path: Path) -> tuple[Row, ...]:
    """Reads what `save_rows` wrote; seconds are 0.

    Raises:
        InputError: No such file, or no rows of a league.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        records = pq.read_table(path, partitioning=None).to_pylist()
        return tuple(_row(record) for record in records)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{str(path)!r} holds no rows of a league. Name the folder of an earlier `trust`.") from error


def _row(record: Mapping[str, Any]) -> Row:
    numbers, chances = (
        {
            name.removeprefix(kind): value
            for name, value in record.items()
            if name.startswith(kind) and value is not None
        }
        for kind in (_NUMBER, _CHANCE)
    )
    facts = {name: record[name] for name in (*_FACTS, *_COSTS)}
    return Row(**facts, numbers=numbers, chances=chances, curves=_curves(record))


def _curves(record: Mapping[str, Any]) -> dict[str, Curve]:
    first = f":{_PARTS[0]}"
    there = [name for name in record if name.startswith(_CURVE) and name.endswith(first) and record[name] is not None]
    imputers = [name.removeprefix(_CURVE).removesuffix(first) for name in there]
    return {name: Curve(*(tuple(record[f"{_CURVE}{name}:{part}"]) for part in _PARTS)) for name in imputers}
