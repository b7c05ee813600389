"""A run's rows and how they stand on disk: one Parquet part a shard, the same bytes for the same answers.

Knows columns and files; does not know how a number came about. One row is a case under one method and one wording; a
case that failed is one row with its reason. Seconds differ from run to run and therefore stand in files of their own.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.records import Score, write_whole
from medgemma_visualizer.runs.plan import FORMAT, RunPlan
from medgemma_visualizer.scores import agreement, localisation, quality

Row = dict[str, Any]

VALUE, CHANCE = "value:", "chance:"
#: Numbers of a check, each followed by ":" and an imputer.
FAITHFULNESS = ("deletion_auc", "insertion_auc", "srg", "comprehensiveness_aopc", "sufficiency_aopc")
#: What says how far another wording's map is from that of the question.
AGREEMENT = ("js_divergence", "spatial_stability", "spearman")
DIRECTIONS: Mapping[str, str] = {
    **{name: direction for name, direction in quality.DIRECTIONS.items() if name != "regional_focus"},
    **dict.fromkeys(localisation.NAMES, "higher"),
    "deletion_auc": "lower",
    "insertion_auc": "higher",
    "srg": "higher",
    "comprehensiveness_aopc": "higher",
    "sufficiency_aopc": "lower",
    **{name: agreement.DIRECTIONS[name] for name in AGREEMENT},
}
_FACTS = {
    "case_id": "string",
    "patient_id": "string",
    "finding": "string",
    "view": "string",
    "split": "string",
    "kind": "string",
    "question": "string",
    "truth": "string",
    "source": "string",
    "simulated": "bool",
    "rendering": "string",
    "notice": "string",
    "image_sha256": "string",
    "failed": "bool",
    "reason": "string",
    "wording": "int16",
    "strategy": "string",
    "asked": "string",
    "answer": "string",
    "label": "string",
    "correct": "bool",
    "p_yes": "float64",
    "p_yes_no_mass": "float64",
    "contrast": "float64",
    "tokens": "int32",
    "stopped": "bool",
    "foreign": "bool",
    "method": "string",
    "available": "bool",
    "why": "string",
    "text_independent": "bool",
    "target": "string",
    "rows": "int16",
    "cols": "int16",
}
#: Columns whose numbers, where read as floats, stand for yes and no, and for whole numbers.
YES_OR_NO = frozenset(name for name, kind in _FACTS.items() if kind == "bool")
WHOLE = frozenset(name for name, kind in _FACTS.items() if kind.startswith("int"))
#: What a run ends with where the disk does: nothing is damaged, and the same command goes on.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Part:
    """What a part says of itself, read without its rows.

    Attributes:
        shard: Its index.
        fingerprint: Digest of the run that it belongs to.
        ids: Digest of the identifiers of all cases of the shard.
        cases: Cases with rows.
        failed: Of these, cases that failed.
    """

    shard: int
    fingerprint: str
    ids: str
    cases: int
    failed: int


def numbers_of(plan: RunPlan) -> tuple[str, ...]:
    """Names of all numbers that rows of a plan may have, in order."""
    names = [name for name in quality.DIRECTIONS if name != "regional_focus"] + list(localisation.NAMES)
    if "faithfulness" in plan.checks:
        names += [f"{name}:{imputer}" for name in FAITHFULNESS for imputer in plan.imputers]
    return (*names, *(AGREEMENT if plan.prompts else ()))


def score_columns(scores: Mapping[str, Score]) -> Row:
    """Columns of all numbers among some scores."""
    return {
        **{VALUE + name: score.value for name, score in scores.items() if isinstance(score.value, float)},
        **{CHANCE + name: score.chance for name, score in scores.items() if score.chance is not None},
    }


def schema_of(plan: RunPlan) -> Any:
    """The same columns for every part of a run, whatever its rows hold."""
    import pyarrow as pa

    fields = [pa.field(name, getattr(pa, kind + ("_" if kind == "bool" else ""))()) for name, kind in _FACTS.items()]
    fields.append(pa.field("map", pa.list_(pa.float32())))
    numbers = [kind + name for name in numbers_of(plan) for kind in (VALUE, CHANCE)]
    return pa.schema(fields + [pa.field(name, pa.float64()) for name in numbers])


def write_part(path: Path, rows: Sequence[Row], plan: RunPlan, part: Part) -> Path:
    """Writes a shard's rows whole or not at all.

    Raises:
        VisualizerError: The disk is full or cannot be written to; an earlier part stays as it is.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema_of(plan)
    unknown = {name for row in rows for name in row} - set(schema.names)
    if unknown:
        raise VisualizerError(f"Rows hold {', '.join(sorted(unknown))}, which no column is for. Report this.")
    told = {"format": FORMAT, **{name: getattr(part, name) for name in Part.__annotations__}}
    about = {f"run:{name}".encode(): str(value).encode() for name, value in told.items()}
    table = pa.Table.from_pylist(list(rows), schema=schema).replace_schema_metadata(about)
    return written(path, lambda file: pq.write_table(table, file, compression="zstd"))


def written(path: Path, write: Any) -> Path:
    """`write_whole`, with a disk that is full or read-only told in words.

    Raises:
        VisualizerError: It is.
    """
    with disk_told(path):
        return write_whole(path, write)


@contextmanager
def disk_told(path: Path) -> Iterator[None]:
    """Says in words that a disk is full or read-only where a file is written inside the block.

    Raises:
        VisualizerError: It is.
    """
    try:
        yield
    except OSError as error:
        folder = str(path.parent)
        if error.errno in _FULL:
            raise VisualizerError(
                f"There is no space left for {path.name} in {folder!r}. Nothing is damaged: make room, then give the "
                "same command again and it goes on."
            ) from error
        raise InputError(
            f"{folder!r} cannot be written to ({error.strerror or error}). Nothing is damaged: make it writable, then "
            "give the same command again, or give another folder."
        ) from error


def read_about(path: Path) -> Part:
    """What a part says of itself; its rows are not read.

    Raises:
        InputError: It is no part of a run of this version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        stored = pq.read_metadata(path).metadata or {}
        told = {name: stored[f"run:{name}".encode()].decode() for name in ("format", *Part.__annotations__)}
        if told["format"] != str(FORMAT):
            raise ValueError(told["format"])
        numbers = {name: int(told[name]) for name in ("shard", "cases", "failed")}
        return Part(fingerprint=told["fingerprint"], ids=told["ids"], **numbers)
    except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} is no part of a run of this version, or is damaged. Delete it and give the `run` command "
            "again: only its cases are asked anew."
        ) from error


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """The rows of one part, in order.

    Raises:
        InputError: It cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_table(path, columns=columns, partitioning=None).to_pylist())
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{str(path)!r} is damaged. Delete it and give the `run` command again: only its cases are asked anew."
        ) from error


def read_frame(paths: Iterable[Path], columns: Sequence[str] | None = None) -> Any:
    """All parts as one Arrow table; null columns of older parts do not happen, as all share a schema.

    Raises:
        InputError: No part, or one that cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(paths)
    if not files:
        raise InputError("There is no part to read. Give the `run` command first.")
    try:
        tables = [pq.read_table(file, columns=columns, partitioning=None) for file in files]
        return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"A part cannot be read ({str(error)[:120]}). Delete it and give the `run` command again."
        ) from error


def in_order(rows: Sequence[Row], ids: Sequence[str]) -> list[Row]:
    """Rows in the order of the cases; those of one case keep theirs."""
    place = {case_id: k for k, case_id in enumerate(ids)}
    return sorted(rows, key=lambda row: place[row["case_id"]])


def settled(rows: Sequence[Row]) -> frozenset[str]:
    """Identifiers of the cases that have rows and did not fail."""
    return frozenset(row["case_id"] for row in rows if not row["failed"])


def failed_of(rows: Iterable[Row]) -> int:
    """How many cases failed."""
    return len({row["case_id"] for row in rows if row["failed"]})
