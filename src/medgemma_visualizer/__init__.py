"""A case (a radiograph and a question) from `data` is answered by a model from `models`; `heatmaps` shows where it
looked; `scores` and `checks` judge that; `figures` draws it; `runs` does so for thousands; `reports` sums up; `app` and
`cli` let people ask.

>>> import medgemma_visualizer as mv
>>> model = mv.load_model("demo")
>>> case = mv.load_cases("demo")[0]
>>> heatmap = mv.explain(model, case, method="cross_attention")
>>> print(mv.score(heatmap, case))
>>> mv.draw(heatmap, case).save("where_it_looked.png")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError
from medgemma_visualizer.records import Answer, Case, Heatmap, Score, Scores

if TYPE_CHECKING:
    from medgemma_visualizer.verbs import (
        analyze,
        answer,
        check,
        compare,
        draw,
        explain,
        load_cases,
        load_model,
        report,
        run,
        score,
        trust,
    )

__version__ = "0.1.0"

#: Verbs are imported on first use, so that importing the package does not import torch.
_VERBS = (
    "load_model",
    "load_cases",
    "answer",
    "explain",
    "score",
    "check",
    "compare",
    "draw",
    "analyze",
    "trust",
    "run",
    "report",
)

__all__ = [
    "Answer",
    "Case",
    "Heatmap",
    "InputError",
    "Score",
    "Scores",
    "UnavailableError",
    "VisualizerError",
    "analyze",
    "answer",
    "check",
    "compare",
    "draw",
    "explain",
    "load_cases",
    "load_model",
    "report",
    "run",
    "score",
    "trust",
]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(import_module("medgemma_visualizer.verbs"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
