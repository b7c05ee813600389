"""HTML pages that open from disk without a network. Knows what a reader must see; computes nothing itself."""

from medgemma_visualizer.reports.league import Shown, cases_to_show, league_page, shown_methods
from medgemma_visualizer.reports.tokens import token_page

__all__ = ["Shown", "cases_to_show", "league_page", "shown_methods", "token_page"]
