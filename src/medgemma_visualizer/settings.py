"""Every default that a person may want to change, in one place (specification, appendix A, corrected).

Facts of a model (image size, number of heads, grid) are not here: they are read from its own configuration.
"""

from __future__ import annotations

from typing import Any

MODEL_CONFIG: dict[str, Any] = {
    "model_id": "google/medgemma-4b-it",
    "demo_model_id": "demo",
    "max_new_tokens": 50,
    "do_sample": False,
    "min_free_gb": 15.0,
}

VIZ_CONFIG: dict[str, Any] = {
    "attention_alpha": 0.35,
    "colormap": "inferno",
    "colormap_of_the_specification": "jet",
    "percentile_clip": (2.0, 98.0),
    "border_strip_k": 1,
    "figure_dpi": 120,
}

INPUT_LIMITS = {
    "prompt_characters": 1000,
    "target_words": 5,
    "image_pixels": 64_000_000,
}

#: How a DICOM file becomes a film where nobody chose; the names are those of data/dicom.py, `RENDERINGS`.
DEFAULT_RENDERING = "dicom-voi"

#: Thresholds of the specification, section 10: "good" and "acceptable" are inclusive, in the metric's own direction.
QUALITY_THRESHOLDS: dict[str, dict[str, float]] = {
    "inside_body_ratio": {"good": 0.7, "acceptable": 0.5},
    "border_fraction": {"good": 0.05, "acceptable": 0.1},
    "attention_entropy": {"good": 3.0, "acceptable": 4.0},
    "peak_to_mean": {"good": 5.0, "acceptable": 5.0},
    "deletion_auc_spec": {"good": 0.5, "acceptable": 0.3},
    "insertion_auc_spec": {"good": 0.3, "acceptable": 0.3},
    "comprehensiveness_spec": {"good": 0.3, "acceptable": 0.2},
    "sufficiency_spec": {"good": 0.2, "acceptable": 0.2},
    "js_divergence": {"good": 0.2, "acceptable": 0.3},
    "spatial_stability": {"good": 0.5, "acceptable": 0.5},
    "answer_consistency": {"good": 0.8, "acceptable": 0.8},
}

#: What stands in for removed cells where nobody chose: each flatters other maps, so two must agree on a winner.
DEFAULT_IMPUTERS = ("blur", "mean")

#: What `analyze` asks where nobody chose and the model has no league of its own: the best of the embedded model's by
#: mean rank (data/demo/league.json; docs/performance.md). Other models may differ.
RECOMMENDED_METHOD = "integrated_gradients"

#: What is asked where maps are made by the hundred: one forward and one backward pass, a tenth of the time.
QUICK_METHOD = "relevance"

#: Order in which `method="auto"` asked the methods in the specification, section 8.1.
METHOD_PRIORITY = ("gradcam_multi_token", "gradcam_single", "cross_attention", "activation_norm", "uniform")
