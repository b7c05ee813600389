"""Which rewordings flip answers over a set of cases, and do maps move? `python benchmarks/sensitivity.py`.

The question of every case in other words (rules of `checks/prompts.py`, or a file's), opposites included: flips by
strategy, consistency, correlation with the maps' divergence, galleries. `--into PAGE` writes the generated part of a
page between its marks; `make sensitivity` does so with docs/prompt_sensitivity.md. `--gallery PAGE` writes the wordings
of the galleries with films and maps as one HTML page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from medgemma_visualizer.checks.prompts import read_variations
from medgemma_visualizer.checks.sensitivity import Sensitivity, sensitivity
from medgemma_visualizer.checks.wordings import digest_of, from_file
from medgemma_visualizer.data.findings import FINDINGS
from medgemma_visualizer.data.photo import picture
from medgemma_visualizer.data.sources import load_cases
from medgemma_visualizer.models.loading import load_model
from medgemma_visualizer.progress import listening
from medgemma_visualizer.records import Case, write_whole
from medgemma_visualizer.reports.galleries import Films, gallery_page
from medgemma_visualizer.reports.sensitivity import markdown, rewritten
from medgemma_visualizer.settings import QUICK_METHOD


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="?", default="demo", help="'demo', a folder of cases, or a question file")
    parser.add_argument("--model", default="demo", help="'demo', a hub id, or a folder")
    parser.add_argument("--method", default=QUICK_METHOD, help="of the maps")
    parser.add_argument("--number", type=int, default=14, help="wordings of each question, all strategies in turn")
    parser.add_argument("--prompts", type=Path, help="a table with baseline_question, question_variant and strategy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, help="a page whose generated part is written anew")
    parser.add_argument("--gallery", type=Path, help="an HTML page to write: the galleries with films and maps")
    return parser.parse_args()


def films_of(found: Sensitivity, cases: Sequence[Case]) -> Films:
    """The films of both galleries."""
    shown = {row.case_id for row in (*found.stable_flips, *found.moved_same)}
    return {digest_of(image): image for image in (picture(case) for case in cases if case.id in shown)}


def main() -> None:
    told = parsed()
    page = None if told.into is None else told.into.read_text("utf-8")
    # Marks such as arrows are no findings, and the rules know no other words for them.
    cases = [case for case in load_cases(told.cases) if told.cases != "demo" or case.finding in FINDINGS]
    wordings = None if told.prompts is None else from_file(read_variations(told.prompts))
    model = load_model(told.model)
    with listening(lambda done, total, what: print(f"\r{done} of {total} {what}", end="", file=sys.stderr)):
        found = sensitivity(model, cases, wordings=wordings, number=told.number, method=told.method, seed=told.seed)
    print(file=sys.stderr)
    text = markdown(found, f"Model `{model.name}` (weights {model.revision}).")
    if told.gallery is not None:
        about = f"Model {model.name} (weights {model.revision}), maps by {found.method}, seed {found.seed}."
        html = gallery_page(found, films_of(found, cases), about).encode("utf-8")
        write_whole(told.gallery, lambda file: file.write(html))
    if told.into is None or page is None:
        print(text)
    else:
        write_whole(told.into, lambda file: file.write(rewritten(page, text).encode("utf-8")))


if __name__ == "__main__":
    main()
