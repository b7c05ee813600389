"""Rows whose sums can be done by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medgemma_visualizer.runs import REFERENCE, Row
from medgemma_visualizer.runs.table import places_of

CHANCE = {"pointing": 0.25, "roc_auc": 0.5}


def row(method: str, case: int, numbers: Mapping[str, float] | None = None, **told: Any) -> Row:
    """A row of patient `case`; without numbers there is no map."""
    facts: dict[str, Any] = {
        "case_id": f"case {case}",
        "patient_id": f"patient {case}",
        "finding": "effusion",
        "side": "left",
        "size": "small",
        "label": "yes",
        "truth": "yes",
        "correct": True,
        "method": method,
        "available": numbers is not None,
        "reason": "" if numbers is not None else "no gradient",
        "numbers": numbers or {},
        "chances": CHANCE,
    }
    return Row(**(facts | told))


def rows_of(method: str, pointing: Sequence[float | None], **told: Any) -> list[Row]:
    """One row a number; None is a missing map. ROC-AUC is left out everywhere."""
    chances = {"pointing": CHANCE["pointing"]}
    return [
        row(method, case, None if value is None else {"pointing": value}, **({"chances": chances} | told))
        for case, value in enumerate(pointing)
    ]


def places(rows: Sequence[Row], **told: Any) -> dict[str, Any]:
    """Method -> its place, by the two columns of CHANCE."""
    methods = list(dict.fromkeys(each.method for each in rows))
    return {place.method: place for place in places_of(rows, methods, tuple(CHANCE), {}, **told)}


__all__ = ["CHANCE", "REFERENCE", "places", "row", "rows_of"]
