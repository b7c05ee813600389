"""A run's summary as words and tables for a page. Knows how to word what was summed up; computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medgemma_visualizer.heatmaps import METHODS
from medgemma_visualizer.runs.summary import (
    PARTS_BY,
    Calibration,
    MethodLine,
    Number,
    Paired,
    Share,
    Summary,
    Versus,
    Wordings,
)
from medgemma_visualizer.scores.statistics import Estimate

Table = dict[str, Any]

#: Under so few cases an interval is wide, and one more case changes much.
FEW = 20


def cell(value: str, below: str = "") -> dict[str, str]:
    """A cell, with what stands small below."""
    return {"value": value, "below": below}


def table(caption: str, heads: Sequence[str], lines: Iterable[Sequence[dict[str, str]]]) -> Table:
    """A table whose first column names its lines."""
    return {"caption": caption, "heads": list(heads), "lines": [list(line) for line in lines]}


def share(one: Share | None) -> dict[str, str]:
    """A share with its interval."""
    if one is None:
        return cell("–")
    return cell(f"{one.value:.1%}", f"{one.interval[0]:.1%} … {one.interval[1]:.1%}")


def estimate(one: Estimate | None, sign: str = "") -> dict[str, str]:
    """A mean with its interval."""
    if one is None:
        return cell("–")
    below = "" if one.interval is None else f"{one.interval[0]:{sign}.3f} … {one.interval[1]:{sign}.3f}"
    return cell(f"{one.value:{sign}.3f}", below)


def p_value(value: float) -> str:
    """As a reader expects it."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def label(method: str) -> str:
    """What a method is called, also where this version no longer has it."""
    return METHODS[method].label if method in METHODS else method


def headline(summary: Summary) -> str:
    """The run in one or two sentences."""
    state = summary.state
    done = state.asked - state.failed
    told = f"{done} of {state.manifest.n} cases answered, of {summary.patients} patients"
    if summary.unnamed:
        told += f" (of {summary.unnamed} cases no patient is named: their films count for patients)"
    told += f"; {state.failed} failed" if state.failed else ""
    told += f"; {state.manifest.n - state.asked} not asked yet" if not state.complete else ""
    if summary.accuracy is None:
        return f"{told}. No answer could be judged."
    right = summary.accuracy
    low, high = right.interval
    return f"{told}. {right.value:.1%} of {right.n} judged answers are right (95 %: {low:.1%} … {high:.1%})."


def warnings(summary: Summary) -> list[str]:
    """What must be known before anything on the page is believed."""
    told = list(summary.state.manifest.notes)
    if summary.foreign:
        told.append(
            f"The embedded model knows simulated films only, and {summary.foreign} of these cases show others: what it "
            "says of them means nothing."
        )
    if not summary.state.complete:
        told.append("The run is not complete: give its command again, and it does what is missing.")
    if summary.cut_off:
        told.append(f"{summary.cut_off} answers were cut off; raise --max-new-tokens.")
    if not summary.state.manifest.fingerprint["asked"]["image_first"]:
        told.append("The question precedes the image, so nothing in the question can depend on the image.")
    if summary.noticed:
        told.append(f"{summary.noticed} films come with a notice, such as text burnt into the picture.")
    return told


def facts(summary: Summary) -> dict[str, str]:
    """Term -> words about the run."""
    manifest = summary.state.manifest
    asked, model = manifest.fingerprint["asked"], manifest.fingerprint["model"]
    checks = ", ".join(asked["checks"]) or "none"
    if asked["checks"]:
        checks += f" (cells replaced by {' and '.join(asked['imputers'])}, in {asked['space']}, {asked['steps']} steps)"
    films = {"DICOM files": f"as {asked['rendering']}, where the film is one"} if asked.get("rendering") else {}
    return {
        "Model": f"{model['name']}, revision {model['revision'] or 'unknown'}, {model['dtype']} on {model['device']}",
        "Cases": f"{manifest.n} from {manifest.source or 'an unnamed source'}",
        **films,
        "Methods": ", ".join(label(name) for name in asked["methods"]),
        "Target": asked["target"] or "yes against no, or the answer where it is neither",
        "Checks": checks,
        "Wordings": f"up to {asked['prompts']} others of each question" if asked["prompts"] else "the question's own",
        "Seed": str(asked["seed"]),
    }


def accuracy_words(summary: Summary) -> str:
    """How often the answers are right, and what was not judged."""
    told = [f"{summary.unjudged} answered cases have no known answer that can be compared with words."]
    if summary.uncertain is not None and summary.uncertain.count:
        told.append(
            f"{summary.uncertain.count} of {summary.uncertain.n} yes/no questions were answered with neither; these "
            "count as wrong where the answer is known."
        )
    told.append("Intervals are Wilson's, 95 %, and take every case for one of its own.")
    return " ".join(told)


def accuracy(summary: Summary) -> list[Table]:
    """One table a split; the whole first."""
    heads = ("Cases", "Right", "n", "")
    tables = []
    if summary.accuracy is not None:
        tables.append(table("All cases", heads, [_accuracy_line("all", summary.accuracy)]))
    for column, parts in summary.parts.items():
        lines = [_accuracy_line(value, one) for value, one in parts.items()]
        tables.append(table(f"By {PARTS_BY[column]}", (PARTS_BY[column].capitalize(), *heads[1:]), lines))
    return tables


def _accuracy_line(name: str, one: Share) -> list[dict[str, str]]:
    return [cell(name.replace("_", " ")), share(one), cell(str(one.n)), cell("few cases" if one.n < FEW else "")]


def calibration_words(found: Calibration | None) -> str:
    """ECE and Brier with their n."""
    if found is None:
        return "No yes/no question has a known answer and half of the probability on yes and no."
    brier = estimate(found.brier)
    left = f" {found.left_out} more were left out: the model said neither with half of the probability."
    few = " With so few questions an ECE is above 0 by chance alone." if found.n < 10 * FEW else ""
    return (
        f"Over {found.n} yes/no questions: expected calibration error {found.ece:.3f} (ten bins; lower is better), "
        f"Brier score {brier['value']} ({brier['below'] or 'no interval'}; lower is better, 0.25 for always 0.5)."
        f"{left if found.left_out else ''}{few}"
    )


def calibration(found: Calibration | None) -> Table:
    """The bins."""
    lines = [
        [
            cell(f"{one.low:.1f} … {one.high:.1f}"),
            cell("–" if one.mean is None else f"{one.mean:.3f}"),
            share(one.yes),
            cell("0" if one.yes is None else str(one.yes.n)),
        ]
        for one in (() if found is None else found.bins)
    ]
    return table("Bins of p(yes)", ("p(yes)", "Mean p(yes)", "Yes was right", "n"), lines)


def methods(found: Sequence[MethodLine]) -> list[Table]:
    """One table a method."""
    heads = ("Number", "Mean", "Chance", "Gain over chance", "Better", "n")
    return [
        table(f"{label(one.method)}: maps of {one.maps} of {one.n} cases", heads, _numbers(one.numbers))
        for one in found
        if one.numbers
    ]


def _numbers(numbers: Mapping[str, Number]) -> list[list[dict[str, str]]]:
    return [
        [
            cell(name.replace("_", " ").replace(":", ", ")),
            estimate(one.value),
            cell("–" if one.chance is None else f"{one.chance:.3f}"),
            estimate(one.gain, "+"),
            cell("" if one.direction == "none" else one.direction),
            cell(str(one.value.n)),
        ]
        for name, one in numbers.items()
    ]


def wordings_words(found: Wordings | None, asked: int) -> str:
    """Consistency, flips and how far maps move."""
    if not asked:
        return "Other wordings were not asked; `run --prompts 4` asks four of each question."
    if found is None:
        return "No question of this run has another wording that is known to mean the same."
    consistency, js = estimate(found.consistency), estimate(found.divergence)
    low, high = found.flips.interval
    return (
        f"{found.questions} questions in {found.flips.n} other wordings; {found.without} questions have none. Answer "
        f"consistency {consistency['value']} ({consistency['below'] or 'no interval'}; 1 is always the same answer). "
        f"{found.flips.value:.1%} of the wordings got another answer than the question itself ({low:.1%} … "
        f"{high:.1%}). Maps moved by a Jensen-Shannon divergence of {js['value']} nats "
        f"({js['below'] or 'no interval'}; 0 is the same map, 0.693 none of it)."
    )


def wordings(found: Wordings | None) -> list[Table]:
    """By strategy."""
    if found is None:
        return []
    lines = [[cell(name.replace("_", " ")), share(one), cell(str(one.n))] for name, one in found.by_strategy.items()]
    return [table("Another answer, by kind of wording", ("Kind", "Another answer", "n"), lines)]


def versus(found: Versus) -> dict[str, Any]:
    """The other run: words, what differs, tables."""
    low, high = found.agree.interval
    words = (
        f"{found.n} cases were answered by both runs ({found.only[0]} only by this one, {found.only[1]} only by the "
        f"other). Both gave the same answer to {found.agree.value:.1%} ({low:.1%} … {high:.1%}). Differences are this "
        "run less the other, with 95 % intervals by patient; p-values are corrected by Holm for all tests of this part."
    )
    if not found.alike:
        words += " Some pictures are not the same in the two runs, so what differs may be the pictures."
    heads = ("Number", "This run", "Other run", "Difference", "Better", "p", "n")
    tables = []
    if found.accuracy is not None:
        tables.append(table("Answers", heads, [_pair("right", found.accuracy)]))
    for name, pairs in found.methods.items():
        if pairs:
            tables.append(table(label(name), heads, [_pair(number, pair) for number, pair in pairs.items()]))
    return {"words": words, "differs": found.differs, "tables": tables}


def _pair(name: str, pair: Paired) -> list[dict[str, str]]:
    return [
        cell(name.replace("_", " ").replace(":", ", ")),
        cell(f"{pair.first:.3f}"),
        cell(f"{pair.second:.3f}"),
        estimate(pair.difference, "+"),
        cell("" if pair.direction == "none" else pair.direction),
        cell(p_value(pair.p_value)),
        cell(str(pair.difference.n)),
    ]


def left_out(summary: Summary) -> list[Table]:
    """Rows, cases and maps that are missing, with their reasons."""
    tables = [
        _reasons("Rows of the source that made no case", summary.state.manifest.left_out),
        _reasons("Cases that failed; the same command asks them again", summary.failed),
        *(_reasons(f"Without a map or a check: {label(one.method)}", one.why) for one in summary.methods),
    ]
    return [one for one in tables if one["lines"]]


def _reasons(caption: str, reasons: Mapping[str, int]) -> Table:
    return table(caption, ("Reason", "Count"), [[cell(why), cell(str(count))] for why, count in reasons.items()])
