"""Where the model looked: one file a method, one table of them all, one function that asks."""

from medgemma_visualizer.heatmaps import activation_norm as _activation_norm  # noqa: F401
from medgemma_visualizer.heatmaps import attention_knockout as _attention_knockout  # noqa: F401
from medgemma_visualizer.heatmaps import attention_rollout as _attention_rollout  # noqa: F401
from medgemma_visualizer.heatmaps import consensus as _consensus  # noqa: F401
from medgemma_visualizer.heatmaps import cross_attention as _cross_attention  # noqa: F401  (registers itself)
from medgemma_visualizer.heatmaps import gradcam as _gradcam  # noqa: F401
from medgemma_visualizer.heatmaps import hires_cam as _hires_cam  # noqa: F401
from medgemma_visualizer.heatmaps import integrated_gradients as _integrated_gradients  # noqa: F401
from medgemma_visualizer.heatmaps import occlusion as _occlusion  # noqa: F401
from medgemma_visualizer.heatmaps import region_search as _region_search  # noqa: F401
from medgemma_visualizer.heatmaps import relevance as _relevance  # noqa: F401
from medgemma_visualizer.heatmaps import rise as _rise  # noqa: F401
from medgemma_visualizer.heatmaps import shapley as _shapley  # noqa: F401
from medgemma_visualizer.heatmaps import smoothgrad as _smoothgrad  # noqa: F401
from medgemma_visualizer.heatmaps import tam as _tam  # noqa: F401
from medgemma_visualizer.heatmaps import token_gradient as _token_gradient  # noqa: F401
from medgemma_visualizer.heatmaps.explain import (
    explain,
    explain_all,
    explain_reading,
    get_attention_with_fallback,
    options_of,
)
from medgemma_visualizer.heatmaps.methods import METHODS, Method, RawMap
from medgemma_visualizer.heatmaps.targets import find_target_tokens_with_offsets, resolve
from medgemma_visualizer.heatmaps.text_side import TextSide, explain_words, text_side
from medgemma_visualizer.heatmaps.tokens import CellLink, question_maps, token_maps, words_for_cell

__all__ = [
    "METHODS",
    "CellLink",
    "Method",
    "RawMap",
    "TextSide",
    "explain",
    "explain_all",
    "explain_reading",
    "explain_words",
    "find_target_tokens_with_offsets",
    "get_attention_with_fallback",
    "options_of",
    "question_maps",
    "resolve",
    "text_side",
    "token_maps",
    "words_for_cell",
]
