"""WHAT IT LOOKS LIKE: returns pictures, writes nothing.

Knows grids, films and matplotlib's object interface; knows nothing about models, metrics or files. Safe in threads.
"""

from medgemma_visualizer.figures._heat import Look
from medgemma_visualizer.figures.comparison import comparison
from medgemma_visualizer.figures.layer import Layer, map_layer, outline_layer
from medgemma_visualizer.figures.overlay import overlay, overlay_array
from medgemma_visualizer.figures.scores import scores_figure
from medgemma_visualizer.figures.sheets import Tile, contact_sheet, token_strip

__all__ = [
    "Layer",
    "Look",
    "Tile",
    "comparison",
    "contact_sheet",
    "map_layer",
    "outline_layer",
    "overlay",
    "overlay_array",
    "scores_figure",
    "token_strip",
]
