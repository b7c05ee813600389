"""Many cases: every method asked of each, and one league table of what their maps are worth.

Knows cases, methods and tables of numbers; the scores are those of `scores` and `checks`, never computed anew here.
"""

from medgemma_visualizer.runs.league import METRICS, RANKED, REFERENCE, League, Metric, Place, Row, Sanity

__all__ = ["METRICS", "RANKED", "REFERENCE", "League", "Metric", "Place", "Row", "Sanity"]
