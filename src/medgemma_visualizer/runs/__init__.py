"""Many cases: every method asked of each, and one league table of what their maps are worth.

Knows cases, methods and tables of numbers; the scores are those of `scores` and `checks`, never computed anew here.
"""

from medgemma_visualizer.runs.build import Built, trust
from medgemma_visualizer.runs.league import (
    CONTROLS,
    METRICS,
    RANKED,
    REFERENCE,
    SRG,
    League,
    Metric,
    Place,
    Row,
    Sanity,
    metric_of,
)
from medgemma_visualizer.runs.store import keep, league_of, load_league, load_rows, write_league

__all__ = [
    "CONTROLS",
    "METRICS",
    "RANKED",
    "REFERENCE",
    "SRG",
    "Built",
    "League",
    "Metric",
    "Place",
    "Row",
    "Sanity",
    "keep",
    "league_of",
    "load_league",
    "load_rows",
    "metric_of",
    "trust",
    "write_league",
]
