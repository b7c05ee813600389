"""A league table as a document for programs, and as rows of numbers."""

from __future__ import annotations

from typing import Any

from medgemma_visualizer.runs import SRG, League, Place
from medgemma_visualizer.scores.statistics import Estimate


def document(league: League) -> dict[str, Any]:
    """The table for programs. Values count a missing map at its chance level; `with_map` leaves it out.

    Every method has every column; one that applies to no case has the value null.
    """
    told: dict[str, Any] = {"n": league.n, "seed": league.seed, "patients": league.patients, "best": league.best}
    told |= {name: getattr(league, name) for name in ("model", "identity", "probe", "source", "space", "steps")}
    told |= {"left_out": dict(league.left_out), "notes": list(league.notes), "command": league.command}
    agreement = None if league.agreement is None else _bounds(league.agreement)
    methods, controls = ([_line(league, place) for place in each] for each in (league.places, league.controls))
    return {"methods": methods, "controls": controls, **told, "agreement": agreement, "versions": dict(league.versions)}


def _line(league: League, place: Place) -> dict[str, Any]:
    numbers = {name: _number(place, name) for name in league.metrics}
    srg = {name.removeprefix(SRG): number for name, number in numbers.items() if name.startswith(SRG)}
    interval = place.mean_rank_interval or (None, None)
    sanity = place.sanity
    low, high = sanity.interval or (None, None)
    return {
        "method": place.method,
        "rank": place.rank,
        "tied": place.tied,
        "mean_rank": {"value": place.mean_rank, "low": interval[0], "high": interval[1]},
        **{name: number for name, number in numbers.items() if not name.startswith(SRG)},
        "srg": srg,
        "sanity": {"verdict": sanity.verdict, "value": sanity.rho, "low": low, "high": high, "chance": sanity.chance},
        "seconds": _bounds(place.seconds),
        "forward_passes": _bounds(place.forward_passes),
        "maps": place.maps,
        "n": place.n,
    }


def _number(place: Place, name: str) -> dict[str, Any]:
    score = place.scores.get(name)
    chance, with_map = (None, None) if score is None else (score.chance, score.value)
    against = {"difference": _bounds(place.differences.get(name)), "p_value": place.p_values.get(name)}
    told = {"chance": chance, "with_map": with_map, "rank": place.ranks.get(name)}
    return _bounds(place.counted.get(name)) | told | against


def _bounds(estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return {"value": None, "low": None, "high": None, "n": 0}
    low, high = estimate.interval or (None, None)
    return {"value": estimate.value, "low": low, "high": high, "n": estimate.n}
