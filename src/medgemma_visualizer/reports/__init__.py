"""HTML pages that open from disk without a network. Knows what a reader must see; computes nothing itself."""

from medgemma_visualizer.reports.tokens import token_page

__all__ = ["token_page"]
