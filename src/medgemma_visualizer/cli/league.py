"""A league table on the screen, for people. Knows numbers; measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from medgemma_visualizer.cli import output

if TYPE_CHECKING:
    from medgemma_visualizer.runs import League, Place


def heading(league: League) -> list[Text]:
    probe = {"regions": "known regions", "planted": "planted marks"}[league.probe]
    what = f"{league.n} cases of {league.patients} patients, {probe}, seed {league.seed}"
    return [
        output.line("Model", f"{league.model['name']} ({league.model['dtype']})"),
        output.line("Cases", f"{league.source}: {what}"),
        *(output.line("Note", note, "yellow") for note in league.notes),
        *(output.line("Left out", f"{count}: {reason}", "yellow") for reason, count in league.left_out.items()),
    ]


def tables(league: League) -> list[Table]:
    """Ranks with SRG, localisation, and what it costs: three tables that fit a terminal of 80 columns.

    Means count a missing map at its chance level; the 95 % interval stands under each. "=" marks a shared place.
    Controls follow the methods.
    """
    from medgemma_visualizer.runs import SRG, metric_of

    ranked = [name for name in league.metrics if metric_of(name).ranked]
    srg = [name for name in ranked if name.startswith(SRG)]
    found = [name for name in ranked if name not in srg]
    removal, places = ([(metric_of(name).label, _number_of(name)) for name in names] for names in (srg, found))
    costs = [("Passes", _passes), ("Seconds", _seconds), ("Maps", lambda place: f"{place.maps}/{place.n}")]
    everyone = (*league.places, *league.controls)
    return [
        _columns(everyone, ("Place", _place), ("Mean rank", _mean_rank), *removal),
        _columns(everyone, *places),
        _columns(league.places, ("Sanity", _sane), ("Blind to the question", _blind), *costs),
    ]


def _columns(lines: Sequence[Place], *columns: tuple[str, Callable[[Place], str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("Method", *(heading for heading, _ in columns)):
        table.add_column(heading, no_wrap=True)
    for place in lines:
        table.add_row(place.method, *(cell(place) for _, cell in columns))
    return table


def _place(place: Place) -> str:
    return f"{place.rank}{' =' if place.tied else ''}" if place.rank else ""


def _mean_rank(place: Place) -> str:
    return "" if place.mean_rank is None else _cell(place.mean_rank, place.mean_rank_interval, 1)


def _number_of(name: str) -> Callable[[Place], str]:
    def cell(place: Place) -> str:
        estimate = place.counted.get(name)
        return "" if estimate is None else _cell(estimate.value, estimate.interval)

    return cell


def _cell(value: float, interval: tuple[float, float] | None, digits: int = 2) -> str:
    bounds = "" if interval is None else f"\n{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"
    return f"{value:.{digits}f}{bounds}"


def _passes(place: Place) -> str:
    return "" if place.forward_passes is None else f"{place.forward_passes.value:.3g}"


def _seconds(place: Place) -> str:
    return "" if place.seconds is None else f"{place.seconds.value:.2g}"


def _sane(place: Place) -> str:
    """The verdict, with mean |ρ| to the trained model's map once all weights are random."""
    rho = "" if place.sanity.rho is None else f" ({place.sanity.rho:.2f})"
    return place.sanity.verdict + rho


def _blind(place: Place) -> str:
    words = {True: "yes", False: "no", None: ""}
    wrong = " (declared otherwise)" if place.sanity.label_holds is False else ""
    return words[place.sanity.text_independent] + wrong


def footing(league: League, kept: Path | None) -> list[Text]:
    refused = {place.method: place.n - place.maps for place in league.places if place.maps < place.n}
    told = [output.line("Best", _best(league))]
    if refused:
        told.append(output.line("No map", ", ".join(f"{name}: {count}" for name, count in refused.items())))
    if league.agreement is not None:
        interval = league.agreement.interval
        bounds = "no interval" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
        text = f"Spearman {league.agreement.value:.2f} ({bounds}) with the mean ranks of the other league"
        told.append(output.line("Agreement", text))
    told.append(output.line("Kept", "for analyze and check of this model" if kept else _why_not_kept(league)))
    return told


def _best(league: League) -> str:
    if league.best is not None:
        return f"{league.best} (lowest mean rank of those that pass the sanity check)"
    if all(place.sanity.verdict == "not asked" for place in league.places):
        return "not named, as sanity was not checked (--sanity-cases)"
    return "no method passes the sanity check"


def _why_not_kept(league: League) -> str:
    if not league.identity:
        return "no: the model has no revision by which it could be known again"
    return "no: a league of this model over more cases or methods, or with sanity checked, is there already"
