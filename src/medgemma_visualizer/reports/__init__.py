"""HTML pages that open from disk without a network. Knows what a reader must see; computes nothing itself."""

from medgemma_visualizer.reports._league_view import PROBES, chance_of, headline, meanings, ranked_metrics
from medgemma_visualizer.reports._page import HEAD
from medgemma_visualizer.reports.league import Shown, cases_to_show, forest, league_page, shown_methods
from medgemma_visualizer.reports.tokens import token_page

__all__ = [
    "HEAD",
    "PROBES",
    "Shown",
    "cases_to_show",
    "chance_of",
    "forest",
    "headline",
    "league_page",
    "meanings",
    "ranked_metrics",
    "shown_methods",
    "token_page",
]
