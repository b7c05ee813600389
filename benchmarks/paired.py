"""By how much a method beats others on the same cases: `python benchmarks/paired.py FOLDER METHOD OTHER …`.

FOLDER is one that `trust` wrote. For SRG under each imputer: the mean paired difference with its 95 % interval,
patients drawn with replacement; a missing map counts as one that knows nothing, 0. All cases, and those with a region.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from medgemma_visualizer.runs import load_rows
from medgemma_visualizer.runs.league import SRG, Row
from medgemma_visualizer.scores.statistics import paired_difference


def values(rows: Sequence[Row], method: str, column: str) -> dict[str, tuple[str, float]]:
    """Case -> (patient, value) of the cases to which the column applies."""
    return {
        row.case_id: (row.patient_id, row.numbers.get(column, row.chances[column]))
        for row in rows
        if row.method == method and column in row.chances
    }


def show(rows: Sequence[Row], method: str, others: Sequence[str], what: str) -> None:
    """One line an imputer and other method."""
    columns = sorted({name for row in rows for name in row.chances if name.startswith(SRG)})
    for column in columns:
        best = values(rows, method, column)
        for other in others:
            theirs = values(rows, other, column)
            ids = sorted(best.keys() & theirs.keys())
            found = paired_difference([best[i][1] for i in ids], [theirs[i][1] for i in ids], [best[i][0] for i in ids])
            low, high = found.interval or (float("nan"), float("nan"))
            told = f"{found.value:+.3f} ({low:+.3f} to {high:+.3f})  n {len(ids)}"
            print(f"{what:<20}{column:<12}{method} - {other:<22}{told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("method")
    parser.add_argument("others", nargs="+")
    asked = parser.parse_args()
    rows = load_rows(asked.folder / "league.parquet")
    show(rows, asked.method, asked.others, "all cases")
    show(
        [row for row in rows if row.chances.get("pointing") is not None],
        asked.method,
        asked.others,
        "with a known region",
    )


if __name__ == "__main__":
    main()
