"""The league table as one page that opens from disk: table, differences, pictures, parts, best and worst cases.

Knows what a reader must see to believe a league or not; measures nothing and draws no map: overlays are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.figures.league import Line, Role, forest_figure, mean_curves_figure
from medgemma_visualizer.reports import _league_view as view
from medgemma_visualizer.reports._league_html import PAGE
from medgemma_visualizer.reports._page import FILM_PIXELS, data_uri, environment
from medgemma_visualizer.runs.curves import MeanCurve, mean_curves
from medgemma_visualizer.runs.league import SRG, League, Place, Row, metric_of
from medgemma_visualizer.runs.table import asked
from medgemma_visualizer.settings import METHOD_PRIORITY

#: Shown beside the best method: what the specification calls its default, and attention.
ALWAYS_SHOWN = ("cross_attention", METHOD_PRIORITY[0])
#: Cases are told apart by this one, which has the same chance level for every region; then by the next.
JUDGED_BY = ("roc_auc", "relevance_rank")
EACH = 2
#: Controls whose curves are drawn; the others have none or say the same.
DRAWN_CONTROLS = ("random", "centre")

Pictures = Mapping[tuple[str, str], Image.Image]


@dataclass(frozen=True)
class Shown:
    """A case to be shown under a method.

    Attributes:
        method: Its name.
        case_id: Of the row.
        which: Whether the map is among the method's best or worst.
    """

    method: str
    case_id: str
    which: Literal["best", "worst"]


def shown_methods(league: League) -> tuple[str, ...]:
    """Whose cases are shown: the best method (where none passes the sanity check, the first), then two to compare."""
    first = league.best or (league.places[0].method if league.places else None)
    there = [place.method for place in league.places]
    return tuple(dict.fromkeys(name for name in (first, *ALWAYS_SHOWN) if name in there))


def cases_to_show(rows: Sequence[Row], methods: Iterable[str], each: int = EACH) -> tuple[Shown, ...]:
    """The best and the worst cases of every method, best first; no case is both.

    Ordered by ROC-AUC, then by rank, then by identifier. Where no region is known, by the mean SRG over imputers.
    Cases without a map are no candidates.

    Args:
        rows: Of a league.
        methods: Names.
        each: How many of either kind; fewer where a method has fewer than twice as many maps.
    """
    chosen: list[Shown] = []
    for name in methods:
        maps = _ordered([row for row in rows if row.method == name and row.available])
        number = min(each, (len(maps) + 1) // 2)
        chosen += [Shown(name, row.case_id, "best") for row in maps[:number]]
        chosen += [Shown(name, row.case_id, "worst") for row in maps[number:][::-1][:number]]
    return tuple(chosen)


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """Rows with a number to judge them by, the best first."""
    located = [row for row in rows if JUDGED_BY[0] in row.numbers]
    if located:
        return sorted(located, key=lambda row: (*(-row.numbers.get(name, 0.0) for name in JUDGED_BY), row.case_id))
    return sorted((row for row in rows if _srgs(row)), key=lambda row: (-_mean_srg(row), row.case_id))


def _srgs(row: Row) -> list[float]:
    return [value for name, value in row.numbers.items() if name.startswith(SRG)]


def _mean_srg(row: Row) -> float:
    values = _srgs(row)
    return sum(values) / len(values)


def league_page(league: League, rows: Sequence[Row] = (), pictures: Pictures | None = None) -> str:
    """The whole league as one HTML page, without a script and without a request to anywhere.

    Args:
        league: The table.
        rows: What it sums up, for curves, cases and reasons; may be empty where only the table was kept.
        pictures: (method, case) -> the film with the map and the region's outline, for `cases_to_show` of
            `shown_methods`; those of other cases are refused.

    Raises:
        InputError: A league without methods, rows of another league, or a picture of a case that is not shown.
    """
    if not league.places:
        raise InputError("This league holds no method, so there is no table to show. Run `trust` again.")
    _refuse_others(league, rows)
    shown = cases_to_show(rows, shown_methods(league))
    _refuse_strays(shown, pictures or {})
    return environment().from_string(PAGE).render(
        **_about(league, rows),
        table=view.standing(league, league.places, league.controls, whole=True),
        further=view.further(league),
        against=view.against(league),
        parts=view.parts(league),
        forests=_forests(league),
        curves=_curve_figures(league, rows),
        cases=_cases(league, rows, shown, pictures or {}),
        chosen_by=_chosen_by(rows),
    )  # fmt: skip


def _refuse_others(league: League, rows: Sequence[Row]) -> None:
    n = len({row.case_id for row in asked(rows)})
    if rows and n != league.n:
        raise InputError(f"The league sums up {league.n} cases, the rows hold {n}: pass the rows it was made of.")


def _refuse_strays(shown: Sequence[Shown], pictures: Pictures) -> None:
    strays = pictures.keys() - {(one.method, one.case_id) for one in shown}
    if strays:
        method, case_id = min(strays)
        raise InputError(f"A picture of case {case_id!r} under {method!r} is not shown; draw those of `cases_to_show`.")


def _about(league: League, rows: Sequence[Row]) -> dict[str, Any]:
    timed = any(place.seconds is not None for place in league.places)
    reference = league.place(league.reference)
    return {
        "model": str(league.model.get("name", "")),
        "headline": view.headline(league),
        "reference": league.reference if reference is None else reference.label,
        "facts": view.facts(league),
        "notes": league.notes,
        "probe": view.PROBES[league.probe],
        "command": league.command or "(no command was recorded)",
        "seconds_note": "" if timed else "Seconds were not kept with this table: they differ from run to run.",
        "meanings": view.meanings(league),
        "left_out": league.left_out,
        "items": "Marks and cases" if league.probe == "planted" else "Cases",
        "silent": view.silent(league, rows),
        "versions": ", ".join(f"{name} {version}" for name, version in league.versions.items()) or "not recorded",
    }


def _figure(image: Image.Image, alt: str) -> dict[str, Any]:
    return {"source": data_uri(image), "alt": alt, "width": image.width, "height": image.height}


def _forests(league: League) -> list[dict[str, Any]]:
    """A forest plot of each ranked column."""
    return [_forest(league, name) for name in view.ranked_metrics(league)]


def _forest(league: League, name: str) -> dict[str, Any]:
    return _figure(*forest(league, name))


def forest(league: League, name: str) -> tuple[Image.Image, str]:
    """The forest plot of a column, and the same in words.

    Args:
        name: Of `ranked_metrics`.
    """
    everyone = (*league.places, *league.controls)
    label, chance = metric_of(name).label, view.chance_of(name, everyone)
    lines = [Line(place.label, place.counted.get(name), _role(league, place)) for place in everyone]
    told = [
        f"{place.label} {view.number(place.counted[name].value, name)}" for place in everyone if name in place.counted
    ]
    level = "" if chance is None else f"; chance {view.number(chance, name)}"
    alt = f"{label} by method, mean and 95 % interval, as in the table: {', '.join(told)}{level}"
    return forest_figure(lines, title=label, chance=chance), alt


def _role(league: League, place: Place) -> Role:
    if place.method in (control.method for control in league.controls):
        return "control"
    return "best" if place.method == league.best else "reference" if place.method == league.reference else "method"


def _curve_figures(league: League, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Removal and revelation under each imputer."""
    drawn = (*shown_methods(league), *DRAWN_CONTROLS)
    found = {imputer: mean_curves(rows, drawn, imputer, league.seed) for imputer in league.imputers}
    return [
        _curve_figure(league, imputer, curves, side)
        for imputer, curves in found.items()
        if curves
        for side in ("without", "alone")
    ]


def _curve_figure(
    league: League, imputer: str, curves: Mapping[str, MeanCurve], side: Literal["without", "alone"]
) -> dict[str, Any]:
    done = {"without": "cells removed", "alone": "cells revealed"}[side]
    title = f"{imputer}: {done}, most relevant first"
    labels = {name: _label(league, name) for name in curves}
    halfway = [f"{labels[name]} {view.number(_middle(curve, side))}" for name, curve in curves.items()]
    alt = f"{title}. Mean probability at {_middle_share(curves):.0%} of the cells: {', '.join(halfway)}"
    named = {f"{labels[name]} (n = {curve.n})": curve for name, curve in curves.items()}
    return _figure(mean_curves_figure(named, side=side, title=title), alt)


def _middle(curve: MeanCurve, side: str) -> float:
    values = curve.without if side == "without" else curve.alone
    return values[len(values) // 2].value


def _middle_share(curves: Mapping[str, MeanCurve]) -> float:
    shares = next(iter(curves.values())).shares
    return shares[len(shares) // 2]


def _label(league: League, method: str) -> str:
    place = league.place(method)
    return method if place is None else place.label


def _chosen_by(rows: Sequence[Row]) -> str:
    if any(JUDGED_BY[0] in row.numbers for row in rows):
        return "Each method's own best and worst maps by ROC-AUC, whose chance level is 0.5 in every case."
    return "Each method's own best and worst maps by the mean of SRG over the imputers; no region is known."


def _cases(league: League, rows: Sequence[Row], shown: Sequence[Shown], pictures: Pictures) -> list[dict[str, Any]]:
    """One group a method, in the order shown."""
    by_key = {(row.method, row.case_id): row for row in rows}
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in shown:
        key = (one.method, one.case_id)
        groups.setdefault(one.method, []).append(_film(one, by_key[key], pictures.get(key), _label(league, one.method)))
    return [{"label": _label(league, method), "films": films} for method, films in groups.items()]


def _film(one: Shown, row: Row, image: Image.Image | None, label: str) -> dict[str, Any]:
    words = ". ".join(part for part in (_case_words(row), _case_numbers(row)) if part)
    told: dict[str, Any] = {"which": one.which.capitalize(), "words": words, "source": ""}
    if image is None:
        return told
    small = image.convert("RGB")
    small.thumbnail((FILM_PIXELS, FILM_PIXELS))
    outlined = "; the region is outlined" if JUDGED_BY[0] in row.numbers else ""
    return told | _figure(small, f"Film of case {one.case_id} with the map of {label}{outlined}")


def _case_words(row: Row) -> str:
    about = ", ".join(part for part in (row.finding, row.side, row.size) if part)
    truth = f", truth “{row.truth}”" if row.truth else ""
    right = f": {row.answer}" if row.answer else ""
    return f"Case {row.case_id}" + (f" ({about})" if about else "") + f"; answer “{row.label}”{truth}{right}"


def _case_numbers(row: Row) -> str:
    told = [
        f"{metric_of(name).label} {view.number(value, name)}"
        for name, value in row.numbers.items()
        if metric_of(name).ranked
    ]
    return ", ".join(told)
