"""Mean curves are means over the cases that have them, at shares that all of them share."""

from __future__ import annotations

from pathlib import Path

import pytest

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.runs.curves import mean_curves
from medgemma_visualizer.runs.league import Curve, Row
from medgemma_visualizer.runs.store import load_rows, save_rows

SHARES = (0.0, 0.5, 1.0)


def row(case: str, method: str, curve: Curve | None, patient: str = "") -> Row:
    told = {"finding": "", "side": "", "size": "", "label": "yes", "truth": "yes", "correct": True}
    curves = {} if curve is None else {"blur": curve}
    return Row(case_id=case, patient_id=patient or case, method=method, available=True, curves=curves, **told)


def test_a_mean_is_taken_share_by_share_over_cases_with_a_curve() -> None:
    rows = [
        row("a", "one", Curve(SHARES, (1.0, 0.5, 0.0), (0.0, 0.8, 1.0))),
        row("b", "one", Curve(SHARES, (0.8, 0.1, 0.2), (0.2, 0.4, 0.8))),
        row("c", "one", None),
        row("a", "other", None),
    ]
    (name, mean), *more = mean_curves(rows, ["other", "one"], "blur").items()
    assert not more
    assert (name, mean.n, mean.shares) == ("one", 2, SHARES)
    assert [one.value for one in mean.without] == pytest.approx([0.9, 0.3, 0.1])
    assert [one.value for one in mean.alone] == pytest.approx([0.1, 0.6, 0.9])
    assert mean_curves(rows, ["one"], "mean") == {}


def test_intervals_count_patients_and_one_patient_has_none() -> None:
    curves = Curve(SHARES, (1.0, 0.5, 0.0), (0.0, 0.5, 1.0)), Curve(SHARES, (1.0, 0.1, 0.0), (0.0, 0.9, 1.0))
    same = [row(str(n), "one", curve, "p") for n, curve in enumerate(curves)]
    assert mean_curves(same, ["one"], "blur")["one"].without[1].interval is None
    two = [row(str(n), "one", curve) for n, curve in enumerate(curves)]
    assert mean_curves(two, ["one"], "blur")["one"].without[1].interval == pytest.approx((0.1, 0.5))


def test_curves_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    kept = Curve(SHARES, (0.1 + 0.2, 0.5, 1 / 3), (0.0, 1e-17, 1.0))
    rows = (row("a", "one", kept), row("b", "one", None))
    assert load_rows(save_rows(rows, tmp_path / "rows.parquet")) == rows


def test_curves_at_other_shares_are_not_mixed() -> None:
    rows = [row("a", "one", Curve(SHARES, (1, 0.5, 0), (0, 0.5, 1))), row("b", "one", Curve((0, 1), (1, 0), (0, 1)))]
    with pytest.raises(InputError, match="2 different sets of shares"):
        mean_curves(rows, ["one"], "blur")
