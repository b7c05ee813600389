"""The league's records as the words of a page: numbers with intervals, tables, reasons. Knows no markup, no pictures.

Every number is one of the record, rounded; nothing is averaged or tested here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medgemma_visualizer.runs.league import SRG, League, Place, Row, Sanity, metric_of
from medgemma_visualizer.scores.statistics import Estimate

MISSING = "–"
CONTROLS_TITLE = "Controls, not ranked: maps that know nothing of the case"
#: Columns that are no share of anything and need fewer digits.
_COARSE = ("relevance_mass_lift",)

#: What each column asks of a map; more in docs/metrics.md.
MEANINGS: Mapping[str, str] = {
    "pointing": "Whether the largest cell of the map lies in the region; tied cells share.",
    "relevance_mass_lift": "Share of the map that lies in the region, over the region's share of the film.",
    "relevance_rank": "Of as many top cells as the region has, the share that lies in it.",
    "roc_auc": "How often a cell of the region gets more than a cell outside it.",
    "average_precision": "Precision on average as cells are taken from the top.",
    "hit_rate": "Whether the peak pixel of the enlarged map lies in the region (CheXlocalize).",
    "iou_otsu_true_positives": "Overlap of region and map, cut by Otsu's threshold, where the answer is right.",
    "iou_otsu_all_positives": "The same over all cases.",
    SRG: "Area between the target's probability as the least and as the most relevant cells go first; in [-1, 1].",
}

PROBES: Mapping[str, str] = {
    "regions": "Probe: known regions. The place of the finding asked about is known, and a map should be there.",
    "planted": "Probe: planted marks. We drew marks on films and asked about them; an item is kept only where the "
    "answer is owed to the mark, so the place of its cause is known without annotations.",
}

SPLIT_TITLES: Mapping[str, str] = {
    "finding": "finding",
    "side": "side of the region (the patient's)",
    "size": "size of the region (thirds of this set)",
    "answer": "the model's answer",
}


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        value: The number or the words.
        interval: Below it, smaller; "" for none.
        wordy: Whether lines may break.
    """

    value: str
    interval: str = ""
    wordy: bool = False


@dataclass(frozen=True)
class Head:
    """A column's heading, and below it, smaller, chance level and number of cases."""

    label: str
    below: str = ""


@dataclass(frozen=True)
class Plain:
    """A table of methods by anything."""

    caption: str
    heads: Sequence[Head]
    lines: Sequence[Mapping[str, Any]]


def number(value: float | None, name: str = "") -> str:
    """The value with the digits that its column deserves and a real minus; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    digits = 2 if name in _COARSE else 3
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # never "-0.000"


def between(interval: tuple[float, float] | None, name: str = "") -> str:
    """ "0.100 to 0.200"; "" where there is no interval."""
    return "" if interval is None else f"{number(interval[0], name)} to {number(interval[1], name)}"


def estimated(estimate: Estimate | None, name: str = "") -> Cell:
    """A mean with its interval."""
    return Cell(MISSING) if estimate is None else Cell(number(estimate.value, name), between(estimate.interval, name))


def p_value(value: float | None) -> str:
    """ "p < 0.001", "p = 0.012"; "not tested" where there is none."""
    if value is None:
        return "not tested"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def chance_of(metric: str, places: Iterable[Place]) -> float | None:
    """What a map that knows nothing gets on average over all cases that the column applies to; None where unknown.

    A score's own chance is over the cases with a number; it is that of all where no number is missing.
    """
    return next((place.scores[metric].chance for place in places if _whole(place, metric)), None)


def _whole(place: Place, metric: str) -> bool:
    score, counted = place.scores.get(metric), place.counted.get(metric)
    return score is not None and counted is not None and score.n == counted.n and score.chance is not None


def ranked_metrics(league: League) -> tuple[str, ...]:
    """Columns by which methods are ranked and that any method has."""
    return tuple(name for name in _there(league) if metric_of(name).ranked)


def _there(league: League) -> tuple[str, ...]:
    places = (*league.places, *league.controls)
    return tuple(name for name in league.metrics if any(name in place.counted for place in places))


def standing(
    league: League, places: Sequence[Place], controls: Sequence[Place] = (), *, whole: bool = False
) -> dict[str, Any]:
    """Methods by rank and the ranked columns; `whole` adds sanity and costs."""
    metrics = ranked_metrics(league)
    lines = [[_standing_line(league, place, metrics) for place in group] for group in (places, controls)]
    titles = ("", CONTROLS_TITLE)
    return {
        "whole": whole,
        "metrics": heads(metrics, (*places, *controls)),
        "columns": len(metrics) + (7 if whole else 4),
        "groups": [{"title": title, "lines": group} for title, group in zip(titles, lines, strict=True) if group],
    }


def heads(metrics: Sequence[str], places: Sequence[Place]) -> list[Head]:
    """Headings with chance levels and numbers of cases: a column may apply to fewer than were measured."""
    return [Head(metric_of(name).label, _below(name, places)) for name in metrics]


def _below(name: str, places: Sequence[Place]) -> str:
    chance = chance_of(name, places)
    counts = sorted({place.counted[name].n for place in places if name in place.counted})
    cases = " to ".join(str(count) for count in dict.fromkeys(counts[:1] + counts[-1:]))
    told = ("" if chance is None else f"chance {number(chance, name)}", f"n = {cases}" if counts else "")
    return ", ".join(part.replace(" ", "\u00a0") for part in told if part)  # lines break after the comma only


def _standing_line(league: League, place: Place, metrics: Sequence[str]) -> dict[str, Any]:
    return named(league, place) | {
        "rank": f"{place.rank}{' (tied)' if place.tied else ''}" if place.rank else MISSING,
        "mean_rank": Cell(_few(place.mean_rank), _few_between(place.mean_rank_interval)),
        "sanity": place.sanity.verdict if place.rank else MISSING,
        "maps": place.maps,
        "n": place.n,
        "cells": [estimated(place.counted.get(name), name) for name in metrics],
        "passes": _cost(place.forward_passes),
        "seconds": _cost(place.seconds, 2),
    }


def named(league: League, place: Place) -> dict[str, Any]:
    """A line's heading: the method, and whether it is the best or the reference."""
    best, reference = place.method == league.best, place.method == league.reference
    badges = [word for word, holds in (("best", best), ("reference", reference)) if holds]
    return {"label": place.label, "badges": badges, "best": best}


def _few(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _few_between(interval: tuple[float, float] | None, digits: int = 1) -> str:
    return "" if interval is None else f"{_few(interval[0], digits)} to {_few(interval[1], digits)}"


def _cost(estimate: Estimate | None, digits: int = 1) -> Cell:
    if estimate is None:
        return Cell(MISSING)
    return Cell(_few(estimate.value, digits), _few_between(estimate.interval, digits))


def against(league: League) -> Plain:
    """Differences to the reference, with p-values."""
    metrics = ranked_metrics(league)
    others = [place for place in (*league.places, *league.controls) if place.method != league.reference]
    lines = [named(league, place) | {"cells": [_difference(place, name) for name in metrics]} for place in others]
    return Plain("Differences to the reference", [Head(metric_of(name).label) for name in metrics], lines)


def _difference(place: Place, name: str) -> Cell:
    found = place.differences.get(name)
    if found is None:
        return Cell(MISSING)
    told = (between(found.interval, name), p_value(place.p_values.get(name)))
    return Cell(_signed(found.value, name), ", ".join(part for part in told if part))


def _signed(value: float, name: str) -> str:
    """The number with a plus where it is above 0 as written."""
    text = number(value, name)
    return "+" + text if value > 0 and text.strip("0.") else text


def further(league: League) -> list[Plain]:
    """Tables behind the first one: sanity, columns that are only shown, and means over the cases with a map."""
    everyone = (*league.places, *league.controls)
    shown = tuple(name for name in _there(league) if not metric_of(name).ranked)
    only_shown = [named(league, one) | {"cells": [estimated(one.counted.get(name), name) for name in shown]}
                  for one in everyone]  # fmt: skip
    tables = [sanity(league)]
    if shown:
        tables.append(Plain("Columns that are shown but not ranked by", heads(shown, everyone), only_shown))
    if any(place.maps < place.n for place in league.places):
        tables.append(_with_maps(league))
    return tables


def _with_maps(league: League) -> Plain:
    """Means that leave missing maps out: flattering where a method refuses the hard cases."""
    metrics = _there(league)
    lines = [named(league, place) | {"cells": [_scored(place, name) for name in metrics]} for place in league.places]
    caption = "Means over the cases with a map only: no ranking, for each method has cases of its own"
    return Plain(caption, [Head(metric_of(name).label) for name in metrics], lines)


def _scored(place: Place, name: str) -> Cell:
    score = place.scores.get(name)
    if score is None or not isinstance(score.value, int | float):
        return Cell(MISSING)
    told = (between(score.interval, name), f"n = {score.n}", f"chance {number(score.chance, name)}")
    return Cell(number(score.value, name), ", ".join(part for part in told if part))


_SANITY_HEADS = (
    "Verdict", "Mean |ρ| with random weights", "Its chance", "ρ with the opposite target", "ρ with another question",
    "Blind to the question", "Cases", "Why",
)  # fmt: skip


def sanity(league: League) -> Plain:
    """What randomisation and random targets say of every method."""
    lines = [named(league, place) | {"cells": _sanity_cells(place.sanity)} for place in league.places]
    return Plain("Sanity: does the map depend on what the model has learned?", [Head(h) for h in _SANITY_HEADS], lines)


def _sanity_cells(found: Sanity) -> list[Cell]:
    failed = f"{found.failed} failed, {found.seeds} seeds each" if found.cases else ""
    return [
        Cell(found.verdict),
        Cell(number(found.rho), between(found.interval)),
        Cell(number(found.chance)),
        Cell(number(found.opposite)),
        Cell(number(found.other)),
        Cell({True: "yes", False: "no", None: MISSING}[found.text_independent], _label_check(found)),
        Cell(str(found.cases), failed),
        Cell(found.reason or MISSING, wordy=True),
    ]


def _label_check(found: Sanity) -> str:
    return "" if found.label_holds is not False else "its label says otherwise"


def headline(league: League) -> str:
    """The table in one sentence or two."""
    n = _cases(league)
    best = next((place for place in league.places if place.method == league.best), None)
    if best is None:
        return (
            f"No method passes the sanity check on {n}, so none can be recommended; the order below is by scores only."
        )
    others = [place.label for place in league.places if place.rank == best.rank and place is not best]
    tie = f" It shares its rank with {', '.join(others)}." if others else ""
    above = [f"{place.label} ({place.sanity.verdict})" for place in league.places[: league.places.index(best)]]
    tie += f" Listed before it, but without a passed sanity check: {', '.join(above)}." if above else ""
    return (
        f"Best of {len(league.places)} methods on {n}: {best.label}, with the lowest mean rank "
        f"({_few(best.mean_rank)}) of those that pass the sanity check.{tie}{_unproven(league, best)}"
    )


def _unproven(league: League, place: Place) -> str:
    """Columns in which a place is not shown to be better than a map that knows nothing."""
    everyone = (*league.places, *league.controls)
    found = [metric_of(name).label for name in ranked_metrics(league) if not _above(place, name, everyone)]
    return f" {place.label} is not shown to be better than chance in: {'; '.join(found)}." if found else ""


def _above(place: Place, name: str, everyone: Sequence[Place]) -> bool:
    counted, chance = place.counted.get(name), chance_of(name, everyone)
    return counted is not None and counted.interval is not None and chance is not None and counted.interval[0] > chance


def _cases(league: League) -> str:
    cases, patients = "case" if league.n == 1 else "cases", "patient" if league.patients == 1 else "patients"
    return f"{league.n} {cases} of {league.patients} {patients}"


def facts(league: League) -> dict[str, str]:
    """Whose league it is and how it was made."""
    told = {"Model": str(league.model.get("name", "")), "Revision": league.model.get("revision") or "none"}
    told |= {
        "Number format": str(league.model.get("dtype", MISSING)),
        "Grid": " × ".join(str(side) for side in league.model.get("grid", ())) or MISSING,
        "Identity of the weights": league.identity or "none: without a revision the model cannot be known again",
        "Cases": f"{_cases(league)}, from {league.source or 'an unnamed source'}",
        "Seed": str(league.seed),
        "SRG": f"{league.steps} steps in {league.space}, imputers {', '.join(league.imputers)}",
    }
    if league.agreement is not None:
        told["Agreement with the other league"] = _agreement(league.agreement)
    return told


def _agreement(found: Estimate) -> str:
    interval = f" ({between(found.interval)})" if found.interval else ""
    return f"Spearman {number(found.value)}{interval} of mean ranks over {found.n} methods, chance 0"


def meanings(league: League) -> dict[str, str]:
    """What each column of this league asks."""
    return {metric_of(name).label: MEANINGS[SRG if name.startswith(SRG) else name] for name in _there(league)}


def parts(league: League) -> list[dict[str, Any]]:
    """Every part of the cases with its table."""
    return [
        {"title": f"By {SPLIT_TITLES[split]}: {value} (n = {places[0].n})", "table": standing(league, places)}
        for split, values in league.splits.items()
        for value, places in values.items()
        if places
    ]


def silent(league: League, rows: Sequence[Row]) -> list[str]:
    """Method by method: how many cases it gave no map of, and why, as far as rows tell."""
    told = []
    for place in league.places:
        if place.maps < place.n:
            mine = [row for row in rows if row.method == place.method and row.chances and not row.available]
            reasons = "; ".join(f"{count}: {why}" for why, count in Counter(row.reason for row in mine).most_common())
            told.append(f"{place.label}, {place.n - place.maps} of {place.n}" + (f" – {reasons}" if reasons else ""))
    return told
