"""The page about the metrics names every number that the code gives, each with the direction that the code gives it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np

from medgemma_visualizer.checks import findings
from medgemma_visualizer.checks.imputers import IMPUTERS
from medgemma_visualizer.checks.randomisation import PREFIX, Randomisation
from medgemma_visualizer.checks.scoring import LOG_ODDS, LOG_PROBABILITY
from medgemma_visualizer.checks.trust import WORDS
from medgemma_visualizer.records import Direction
from medgemma_visualizer.runs import league
from medgemma_visualizer.scores import agreement, quality
from medgemma_visualizer.scores.localisation import localisation_scores
from medgemma_visualizer.settings import QUALITY_THRESHOLDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
ARROWS: dict[str, Direction] = {"↑": "higher", "↓": "lower", "–": "none"}


def rows_of_the_page() -> dict[str, list[str]]:
    """Metric -> the cells of its row but the first, which may name several."""
    rows = {}
    for line in TEXT.splitlines():
        if line.startswith("| `"):
            names, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
            rows.update(dict.fromkeys(re.findall(r"`([^`]+)`", names), cells))
    return rows


ROWS = rows_of_the_page()


def directions_of_the_code() -> dict[str, Direction]:
    grid, mask = np.arange(64.0).reshape(8, 8), np.eye(8, dtype=bool)
    known: dict[str, Direction] = {**quality.DIRECTIONS, **agreement.DIRECTIONS, **findings.DIRECTIONS}
    known |= {score.name: score.direction for score in localisation_scores(grid, mask).values()}
    for order in PREFIX:
        empty = np.zeros((1, 1, 8, 8), np.float32)
        found = Randomisation("", order, ("b",), grid, empty, np.zeros((1, 1, 3)), 0.0, np.zeros((1, 1)), {}, True)
        known |= {score.name: score.direction for score in found.scores.values()}
    columns = [name for name in league.METRICS if name not in known]
    return known | dict.fromkeys(columns, "higher") | {"srg:…": "higher"}


def test_every_table_has_its_direction_from_the_code() -> None:
    known = directions_of_the_code()
    assert {name: ARROWS[ROWS[name][2]] for name in known if name in ROWS} == known


def test_every_score_that_is_built_under_a_name_of_its_own_is_on_the_page() -> None:
    """Literal first arguments of Score(…), scored(…) and not_applicable(…) in the package's source."""
    found = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                first = node.args[0]
                named = node.func.id in ("Score", "scored", "not_applicable") and isinstance(first, ast.Constant)
                found |= {first.value} if named else set()  # type: ignore[union-attr]
    assert {"token_order", "quadrant_test", "prior", "sensitivity_max", "roc_auc"} <= found
    assert found <= set(ROWS)


def test_every_threshold_belongs_to_a_metric_of_the_page() -> None:
    assert set(QUALITY_THRESHOLDS) <= set(ROWS)


def test_no_row_names_a_number_that_the_code_does_not_have() -> None:
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / "src").rglob("*.py"))
    built = {f"{prefix}_{part}" for prefix in PREFIX.values() for part in ("spearman", "ssim", "output_change")}
    for name in set(ROWS) - built - {"srg:…"}:
        assert f'"{name}"' in source, name


def test_every_cell_but_chance_is_filled_in() -> None:
    for name, (formula, span, better, _chance, source) in ROWS.items():
        assert min(len(formula), len(span), len(source)) > 0, name
        assert better in ARROWS, name


def test_imputers_scales_and_words_of_trust_are_explained() -> None:
    for word in (*IMPUTERS, LOG_ODDS.log, LOG_PROBABILITY.log):
        assert f"`{word}`" in TEXT
    for word in WORDS:
        assert f"- **{word}**" in TEXT
