"""Which imputers tell a right map from a random one: `python benchmarks/imputers.py [--cases N] [--space S] [--json]`.

Embedded model and positives. The map that is judged is the known region itself (share of each cell that it covers), so
the right answer is known: under a good imputer it beats random maps. Where the fully masked picture still has the
answer, nothing that is removed can matter, and the imputer is mute.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from medgemma_visualizer.checks.controls import over_cases
from medgemma_visualizer.checks.faithfulness import Faithfulness, faithfulness
from medgemma_visualizer.checks.imputers import IMPUTERS
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.grid import coverage
from medgemma_visualizer.heatmaps.targets import resolve
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Case

STEPS = 10


def chosen(number: int, seed: int) -> list[Case]:
    """Embedded cases with a known region, drawn by lot."""
    known = [case for case in load_cases("demo") if case.region is not None and case.truth == "yes"]
    drawn = np.random.default_rng(seed).permutation(len(known))[:number]
    return [known[n] for n in sorted(drawn)]


def judged(model: Any, case: Case, space: Any, seed: int) -> Faithfulness | None:
    """The known region as a map, under every imputer; None where the model does not see the finding."""
    reading = read(model, picture(case), case.question, options=case.options)
    if reading.answer.label != "yes" or case.region is None:
        return None
    region = coverage(case.region, *model.grid)
    options: dict[str, Any] = {"imputers": tuple(IMPUTERS), "space": space, "steps": STEPS, "seed": seed, "subsets": 0}
    return faithfulness(reading, resolve(reading), region, **options)


def measured(number: int, space: str, seed: int) -> dict[str, Any]:
    """By imputer: f of the fully masked picture, SRG less random with its interval, how often it tells or is mute."""
    model, cases = load_model("demo", device="cpu", dtype="float32"), chosen(number, seed)
    results = [(case, judged(model, case, space, seed)) for case in track(cases, total=len(cases), what="cases")]
    seen = [(case, found) for case, found in results if found is not None]
    patients = [case.patient_id or case.id for case, _ in seen]
    rows = {}
    for name in IMPUTERS:
        each = [found.comparisons[f"srg:{name}"] for _, found in seen]
        mean = over_cases(each, patients, seed)
        priors = [found.prior[name] for _, found in seen]
        rows[name] = {
            "prior": float(np.mean(priors)),
            "prior_under_half": float(np.mean(np.array(priors) < 0.5)),
            "difference": mean.difference,
            "interval": mean.interval,
            "better": sum(one.standing == "better" for one in each),
            "worse": sum(one.standing == "worse" for one in each),
            "mute": sum(bool(one.mute) for one in each),
        }
    return {"space": space, "n": len(seen), "patients": len(set(patients)), "seed": seed, "imputers": rows}


def main() -> None:
    """Prints one line an imputer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--space", default="pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    found = measured(told.cases, told.space, told.seed)
    if told.json:
        print(json.dumps(found, indent=2))
        return
    print(f"known region as the map, {found['space']}, {found['n']} positives that the model sees, seed {told.seed}")
    print(f"{'imputer':<14}{'f masked':>9}{'< .5':>6}{'SRG - random':>14}{'95 % interval':>18}{'better':>8}{'mute':>6}")
    for name, row in found["imputers"].items():
        interval = "–" if row["interval"] is None else "{:.3f} to {:.3f}".format(*row["interval"])
        numbers = f"{row['prior']:>9.3f}{row['prior_under_half']:>6.0%}{row['difference']:>14.3f}{interval:>18}"
        print(f"{name:<14}{numbers}{row['better']:>5}/{found['n']}{row['mute']:>6}")


if __name__ == "__main__":
    main()
