"""How often quick methods find the finding asked about: `python benchmarks/localisation.py [METHOD …]`.

Every embedded case whose answer is yes and whose region is known, default target. Means with 95 % intervals by patient.
"""

from __future__ import annotations

import sys

from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.heatmaps import explain_all
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.scores.localisation import localisation_scores
from medgemma_visualizer.scores.statistics import bootstrap_interval
from medgemma_visualizer.scores.verdict import lift

QUICK = ("relevance", "token_gradient", "gradient_norm", "attention_rollout", "cross_attention", "gradcam_multi_token")
FINDINGS = ("pneumonia", "pleural_effusion", "pneumothorax", "cardiomegaly")


def main() -> None:
    methods = sys.argv[1:] or list(QUICK)
    model = load_model("demo", device="cpu")
    cases = [case for case in load_cases("demo") if case.truth == "yes" and case.finding in FINDINGS]
    found: dict[str, list[tuple[str, float, float, float]]] = {name: [] for name in methods}
    for case in cases:
        for name, heatmap in explain_all(read(model, picture(case), case.question), None, methods).items():
            if heatmap.available:
                scores = localisation_scores(heatmap.map, case.region)
                values = (scores["pointing_game"].value, lift(scores["relevance_mass"]), scores["roc_auc"].value)
                found[name].append((str(case.patient_id), *values))
    print(f"{'method':<22}{'pointing':>24}{'mass ÷ chance':>24}{'ROC-AUC':>24}{'maps':>10}")
    for name, rows in found.items():
        patients = [row[0] for row in rows]
        columns = [bootstrap_interval([row[k] for row in rows], patients) for k in (1, 2, 3)]
        cells = "".join(f"{f'{e.value:.2f} ({e.interval[0]:.2f}–{e.interval[1]:.2f})':>24}" for e in columns)
        print(f"{name:<22}{cells}{f'{len(rows)}/{len(cases)}':>10}")


if __name__ == "__main__":
    main()
