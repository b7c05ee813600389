"""A run as one page that opens from disk: are the answers right, is p(yes) what it says, what are the maps worth.

Knows what a reader must see, and what a level of export lets him see; measures nothing. Made of the Parquet parts
alone; films come in only where their cases are given and the level allows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medgemma_visualizer.data.photo import grayscale, picture
from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.figures import overlay_array
from medgemma_visualizer.figures.calibration import reliability_figure
from medgemma_visualizer.records import Case
from medgemma_visualizer.reports import _run_view as view
from medgemma_visualizer.reports._page import FILM_PIXELS, data_uri, environment
from medgemma_visualizer.reports._run_html import PAGE
from medgemma_visualizer.reports.export import DATA_USE, LEVELS, Level, as_csv, exported
from medgemma_visualizer.runs.films import film_digest
from medgemma_visualizer.runs.folder import PARTS
from medgemma_visualizer.runs.results import VALUE, WHOLE, YES_OR_NO, written
from medgemma_visualizer.runs.summary import (
    Columns,
    Share,
    Summary,
    Versus,
    chosen,
    columns_of,
    questions_of,
    summarise_run,
    versus,
)
from medgemma_visualizer.scores.body import body_mask

#: Cases shown of each kind.
EACH = 6
KINDS: Mapping[str, str] = {
    "wrong": "Wrong, and most sure of it",
    "off": "Right, with the map farthest off the finding",
    "on": "Right, with the map best on the finding",
    "moved": "Another wording, and the map moved most",
}
_BLANK = 256


@dataclass(frozen=True)
class Shown:
    """A case to be shown.

    Attributes:
        kind: Of `KINDS`.
        row: Its columns.
        grid: float32 (rows, cols); None where there is none.
    """

    kind: str
    row: Mapping[str, Any]
    grid: np.ndarray | None


def write_run_page(
    folder: Path,
    path: Path,
    *,
    level: Level | None = None,
    cases: Iterable[Case] = (),
    against: Path | None = None,
    seed: int = 0,
) -> Path:
    """Writes the page of a run, whole or not at all.

    Args:
        folder: Of the run.
        path: The HTML file.
        level: How much of it may be shown; "aggregate" where None.
        cases: Of the run, for their films; used at "full" only.
        against: Another run, to compare with on the same cases.
        seed: Of the intervals.

    Raises:
        InputError: No run, a damaged part, or two runs without a case in common.
    """
    chosen_level = level or Level()
    summary = summarise_run(folder, seed)
    other = None if against is None else versus(folder, against, seed)
    shown = cases_shown(folder) if chosen_level.cases else ()
    films = {case.id: case for case in cases} if chosen_level.films else {}
    text = run_page(summary, shown, chosen_level, films=films, other=other)
    return written(path, lambda file: file.write(text.encode()))


def run_page(
    summary: Summary,
    shown: Sequence[Shown] = (),
    level: Level | None = None,
    *,
    films: Mapping[str, Case] | None = None,
    other: Versus | None = None,
) -> str:
    """The whole run as one HTML page, without a script and without a request to anywhere.

    Args:
        summary: As from `runs.summary.summarise_run`.
        shown: As from `cases_shown`; none at "aggregate".
        level: How much may be shown.
        films: Case -> where its film is, at "full".
        other: The comparison with another run.

    Raises:
        InputError: Single cases at a level that shows none.
    """
    allowed = level or Level()
    if shown and not allowed.cases:
        raise InputError("At the level 'aggregate' no single case is shown; choose 'pseudonymous' or 'full'.")
    manifest = summary.state.manifest
    asked = manifest.fingerprint["asked"]
    return environment().from_string(PAGE).render(
        model=manifest.fingerprint["model"]["name"],
        headline=view.headline(summary),
        warnings=view.warnings(summary),
        level=f"{allowed.name} ({LEVELS[allowed.name]})",
        facts=view.facts(summary),
        command=manifest.command or "(no command was recorded)",
        accuracy_words=view.accuracy_words(summary),
        accuracy=view.accuracy(summary),
        calibration_words=view.calibration_words(summary.calibration),
        calibration=view.calibration(summary.calibration),
        reliability=_reliability(summary),
        methods=view.methods(summary.methods),
        wordings_words=view.wordings_words(summary.wordings, asked["prompts"]),
        wordings=view.wordings(summary.wordings),
        versus=None if other is None else view.versus(other),
        gallery=_gallery(shown, allowed, films or {}),
        gallery_words=_gallery_words(shown, allowed),
        left_out=view.left_out(summary),
        versions=", ".join(f"{name} {version}" for name, version in manifest.fingerprint["versions"].items()),
        code=manifest.fingerprint["code"],
        data_use=DATA_USE if allowed.films else "",
    )  # fmt: skip


def _reliability(summary: Summary) -> dict[str, Any] | None:
    found = summary.calibration
    if found is None:
        return None
    alt = f"Reliability diagram of {found.n} questions, as in the table; expected calibration error {found.ece:.3f}"
    return _figure(reliability_figure(found.bins, title=f"p(yes), {found.n} questions"), alt)


def _figure(image: Image.Image, alt: str) -> dict[str, Any]:
    return {"source": data_uri(image), "alt": alt, "width": image.width, "height": image.height}


# --- single cases ----------------------------------------------------------------------------------------------------


def cases_shown(folder: Path, each: int = EACH) -> tuple[Shown, ...]:
    """The best, worst and most divergent cases of a run, with the maps of its first method.

    Wrong answers are ordered by the probability of what was said, maps by ROC-AUC, wordings by the divergence of their
    maps; equal ones by identifier.

    Args:
        folder: Of the run.
        each: How many of each kind.
    """
    columns = columns_of(folder, words=True)
    asked = questions_of(columns)
    right = asked["correct"] == 1
    auc = asked[f"{VALUE}roc_auc"]
    sure = np.where(asked["kind"] == "yes/no", np.maximum(asked["p_yes"], 1 - asked["p_yes"]), 0.0)
    picks = {
        "wrong": _first(chosen(asked, asked["correct"] == 0), -sure[asked["correct"] == 0], each),
        "off": _first(chosen(asked, right & ~np.isnan(auc)), auc[right & ~np.isnan(auc)], each),
        "on": _first(chosen(asked, right & ~np.isnan(auc)), -auc[right & ~np.isnan(auc)], each),
        "moved": _moved(columns, each),
    }
    maps = _maps(folder, {row["case_id"] for rows in picks.values() for row in rows}, asked["method"])
    return tuple(Shown(kind, row, maps.get(row["case_id"])) for kind, rows in picks.items() for row in rows)


def _first(columns: Columns, keys: np.ndarray, number: int) -> list[dict[str, Any]]:
    """Rows with the smallest keys, equal ones by identifier."""
    ids = columns["case_id"].astype(str)
    order = np.lexsort((ids, np.nan_to_num(keys)))[:number]
    return [{name: _plain(values[k]) for name, values in columns.items()} for k in order]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _moved(columns: Columns, each: int) -> list[dict[str, Any]]:
    name = f"{VALUE}js_divergence"
    if name not in columns:
        return []
    there = (columns["wording"] > 0) & ~np.isnan(columns[name])
    return _first(chosen(columns, there), -columns[name][there], each)


def _maps(folder: Path, ids: set[str], methods: np.ndarray) -> dict[str, np.ndarray]:
    """Case -> map of the question itself under the first method."""
    import pyarrow.parquet as pq

    if not ids:
        return {}
    first, found = str(methods[0]), {}
    names = ["case_id", "method", "wording", "rows", "cols", "map"]
    for path in sorted((folder / PARTS).glob("shard-*.parquet")):
        kept = pq.read_table(path, columns=names, filters=[("case_id", "in", sorted(ids))], partitioning=None)
        for row in kept.to_pylist():
            if row["method"] == first and row["wording"] == 0 and row["map"] is not None:
                found[row["case_id"]] = np.array(row["map"], np.float32).reshape(row["rows"], row["cols"])
    return found


def _gallery(shown: Sequence[Shown], level: Level, films: Mapping[str, Case]) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in shown:
        groups.setdefault(one.kind, []).append(_film(one, level, films.get(one.row["case_id"])))
    return [{"title": KINDS[kind], "films": each} for kind, each in groups.items()]


def _film(one: Shown, level: Level, case: Case | None) -> dict[str, Any]:
    told: dict[str, Any] = {"words": _words(one, level), "source": ""}
    drawn, what = _drawn(one, case if level.films else None)
    if drawn is None:
        return told
    drawn.thumbnail((FILM_PIXELS, FILM_PIXELS))
    return told | _figure(drawn, f"{what} of case {level.called(one.row['case_id'])}")


def _drawn(one: Shown, case: Case | None) -> tuple[Image.Image | None, str]:
    """The map over its film where that is given and is still the film that was asked about; else the map alone."""
    if case is not None:
        try:
            film = picture(replace(case, rendering=one.row["rendering"] or case.rendering))  # as the run chose
        except VisualizerError:
            film = None
        if film is not None and film_digest(film) == one.row["image_sha256"]:
            body = body_mask(grayscale(film))
            return Image.fromarray(overlay_array(film, one.grid, body, outline=case.region)), "Film with the map"
    if one.grid is None:
        return None, ""
    blank = Image.new("RGB", (_BLANK, _BLANK))
    return Image.fromarray(overlay_array(blank, one.grid, alpha=1.0)), "Map without its film"


def _words(one: Shown, level: Level) -> str:
    row = one.row
    told = [f"Case {level.called(row['case_id'])}"]
    if row["finding"]:
        told.append(row["finding"].replace("_", " "))
    if level.films:
        told.append(f"“{row['asked'] or row['question']}” — “{row['answer']}”")
    truth = f", the right answer is “{row['truth']}”" if row["truth"] and row["kind"] != "open" else ""
    told.append(f"said “{row['label']}”{truth}")
    numbers = {"p_yes": "p(yes)", f"{VALUE}roc_auc": "ROC-AUC", f"{VALUE}js_divergence": "JS"}
    told += [f"{name} {row[key]:.3f}" for key, name in numbers.items() if row.get(key) == row.get(key) and key in row]
    return "; ".join(told)


def _gallery_words(shown: Sequence[Shown], level: Level) -> str:
    if not level.cases:
        return "Single cases are not shown at this level of export; see `report --level`."
    if not shown:
        return "No case of this run can be shown: no answer could be judged."
    films = "The cyan line is the known region." if level.films else "Films and words are not shown at this level."
    return f"Worst, best and most divergent. {films}"


# --- tables for other programs ---------------------------------------------------------------------------------------


def export_csv(folder: Path, level: Level, seed: int = 0) -> str:
    """A run as a table that is safe to open in a spreadsheet.

    At "aggregate": a line for every share and mean of the page. Else a line for every row, without its map.

    Raises:
        InputError: No run, or a damaged part.
    """
    if not level.cases:
        return as_csv(aggregate_lines(summarise_run(folder, seed)))
    columns = columns_of(folder, words=level.films)
    names, values = list(columns), list(columns.values())
    rows = (dict(zip(names, map(_cell, names, row), strict=True)) for row in zip(*values, strict=True))
    return as_csv(exported(rows, level))


def _cell(name: str, value: Any) -> Any:
    """As the column has it: `columns_of` reads yes and no, and whole numbers, as floats, NaN where there is none."""
    given = _plain(value)
    if isinstance(given, float) and given == given:
        return bool(given) if name in YES_OR_NO else int(given) if name in WHOLE else given
    return given


def aggregate_lines(summary: Summary) -> list[dict[str, Any]]:
    """Every share and mean of the page, with n and, where there is one, its interval."""
    lines = [] if summary.accuracy is None else [_line("accuracy", "all", summary.accuracy)]
    for column, parts in summary.parts.items():
        lines += [_line(f"accuracy by {column}", value, one) for value, one in parts.items()]
    for method in summary.methods:
        for name, one in method.numbers.items():
            low, high = one.value.interval or (None, None)
            told = {"what": method.method, "name": name, "value": one.value.value, "low": low, "high": high}
            lines.append(told | {"n": one.value.n, "chance": one.chance})
    if summary.calibration is not None:
        found = summary.calibration
        lines.append({"what": "calibration", "name": "ece", "value": found.ece, "n": found.n})
        lines.append({"what": "calibration", "name": "brier", "value": found.brier.value, "n": found.n})
    return lines


def _line(what: str, name: str, share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {"what": what, "name": name, "value": share.value, "low": low, "high": high, "n": share.n}
