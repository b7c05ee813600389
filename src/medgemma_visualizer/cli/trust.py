"""`trust`: the league table of methods, measured on this very model."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from medgemma_visualizer.cli import options as o
from medgemma_visualizer.settings import DEFAULT_IMPUTERS

if TYPE_CHECKING:
    from medgemma_visualizer.runs import Built, League, Place, Row
    from medgemma_visualizer.scores.statistics import Estimate


def trust(
    cases: Annotated[
        str, typer.Argument(help="'demo', a folder of cases, or a question file. For planted marks: whose films.")
    ] = "demo",
    model: o.ModelName = "demo",
    methods: Annotated[
        str | None, typer.Option(help="Names with commas; the specification's default is added. None: all.")
    ] = None,
    number: Annotated[
        int | None, typer.Option("--cases", min=1, help="How many cases are drawn by lot, or marks tried. None: all.")
    ] = None,
    probe: Annotated[
        str, typer.Option(help="regions: known regions of the cases. planted: marks that we put in; needs none.")
    ] = "regions",
    imputers: Annotated[
        str, typer.Option(help="What stands in for removed cells: blur, mean, noisy_linear, gray.")
    ] = ",".join(DEFAULT_IMPUTERS),
    space: Annotated[
        str, typer.Option(help="What is removed: cells of the picture (pixels) or image tokens (tokens).")
    ] = "pixels",
    steps: Annotated[int, typer.Option(min=2, help="Steps of each curve.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn by lot.")] = 0,
    sanity_cases: Annotated[int, typer.Option(min=0, help="Cases with random weights and targets; 0: none.")] = 4,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the results are the same for any number.")] = 1,
    agree_with: Annotated[
        Path | None, typer.Option(help="Folder of an earlier trust of this model, to compare the rankings.")
    ] = None,
    question: Annotated[str | None, typer.Option("--question", "-q", help="For films that come without one.")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of a question file's films.")] = None,
    out: o.Out = Path("trust-output"),
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    min_memory: o.MinMemory = None,
    as_json: o.AsJson = False,
) -> None:
    """Find out which methods' maps of this model can be trusted: every method on every case, beside chance.

    Writes league.parquet, league.json and seconds.json, and keeps the table for `analyze` and `check` of this model.
    """
    from medgemma_visualizer.cli import output

    folder = output.check_folder(out)
    with output.status(f"Loading {model}", quiet=as_json, bars=model != "demo"):
        from medgemma_visualizer import runs, verbs
        from medgemma_visualizer.runs.build import plan_for

        asked = _names(methods)
        plan_for(asked, _names(imputers) or (), space, steps, seed)
        rows = None if agree_with is None else runs.load_rows(agree_with / "league.parquet")
        found = verbs.load_cases(cases, question, images)
        load = functools.partial(verbs.load_model, model, device=device, dtype=dtype, min_free_gb=min_memory)
        loaded = load()
    with output.progress("Measuring", quiet=as_json):
        built = runs.trust(
            loaded,
            found,
            methods=asked,
            number=number,
            probe=probe,  # type: ignore[arg-type]  # checked there
            imputers=_names(imputers) or (),
            space=space,
            steps=steps,
            seed=seed,
            sanity_cases=sanity_cases,
            workers=workers,
            load=load,
            source=found.source,
            command=_command(
                loaded.name, found.source, methods, number, probe, imputers, space, steps, seed, sanity_cases
            ),
            agree_with=rows,
        )
    _tell(built, folder, as_json=as_json)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _command(
    model: str,
    source: str,
    methods: str | None,
    number: int | None,
    probe: str,
    imputers: str,
    space: str,
    steps: int,
    seed: int,
    sanity_cases: int,
) -> str:
    """What builds the table again; folders by their last name only, as tables travel."""
    told = {"--model": model, "--methods": methods, "--cases": number, "--probe": probe, "--imputers": imputers}
    told |= {"--space": space, "--steps": steps, "--seed": seed, "--sanity-cases": sanity_cases}
    words = [word for name, value in told.items() if value is not None for word in (name, str(value))]
    return shlex.join(["medgemma-visualizer", "trust", source, *words])


def _tell(built: Built, folder: Path, *, as_json: bool) -> None:
    """Writes, keeps and prints."""
    from medgemma_visualizer import runs
    from medgemma_visualizer.cli import output

    league = built.league
    written = runs.write_league(league, built.rows, folder, _pages(built))
    kept = runs.keep(league)
    if as_json:
        output.print_json(as_document(league))
        return
    output.show(
        *_heading(league),
        *_tables(league),
        *_footing(league, built.rows, kept),
        *(output.line("Written", str(path)) for path in written.values()),
        Text("Research use only, not for clinical use.", style="dim"),
    )


def _pages(built: Built) -> dict[str, str]:
    return {}


def as_document(league: League) -> dict[str, Any]:
    """The table for programs. Values count a missing map at its chance level; `with_map` leaves it out."""
    told: dict[str, Any] = {"n": league.n, "seed": league.seed, "patients": league.patients, "best": league.best}
    told |= {name: getattr(league, name) for name in ("model", "identity", "probe", "source", "space", "steps")}
    told |= {"left_out": dict(league.left_out), "notes": list(league.notes), "command": league.command}
    agreement = None if league.agreement is None else _bounds(league.agreement)
    methods, controls = ([_line(league, place) for place in each] for each in (league.places, league.controls))
    return {"methods": methods, "controls": controls, **told, "agreement": agreement, "versions": dict(league.versions)}


def _line(league: League, place: Place) -> dict[str, Any]:
    from medgemma_visualizer.runs import SRG

    numbers = {name: _number(place, name) for name in league.metrics if name in place.counted}
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
    score, difference = place.scores[name], place.differences.get(name)
    against = {"difference": _bounds(difference), "p_value": place.p_values.get(name)}
    told = {"chance": score.chance, "with_map": score.value, "rank": place.ranks.get(name)}
    return _bounds(place.counted[name]) | told | against


def _bounds(estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return {"value": None, "low": None, "high": None, "n": 0}
    low, high = estimate.interval or (None, None)
    return {"value": estimate.value, "low": low, "high": high, "n": estimate.n}


def _heading(league: League) -> list[Text]:
    from medgemma_visualizer.cli import output

    probe = {"regions": "known regions", "planted": "planted marks"}[league.probe]
    what = f"{league.n} cases of {league.patients} patients, {probe}, seed {league.seed}"
    return [
        output.line("Model", f"{league.model['name']} ({league.model['dtype']})"),
        output.line("Cases", f"{league.source}: {what}"),
        *(output.line("Note", note, "yellow") for note in league.notes),
        *(output.line("Left out", f"{count}: {reason}", "yellow") for reason, count in league.left_out.items()),
    ]


def _tables(league: League) -> list[Table]:
    """Ranks with SRG, localisation, and what it costs: three tables that fit a terminal of 80 columns.

    Means count a missing map at its chance level; the 95 % interval stands under each. "=" marks a shared rank. Controls
    follow the methods.
    """
    from medgemma_visualizer.runs import SRG, metric_of

    ranked = [name for name in league.metrics if metric_of(name).ranked]
    srg = [name for name in ranked if name.startswith(SRG)]
    found = [name for name in ranked if name not in srg]
    return [
        _columns(league, ("Place", _place), ("Mean rank", _mean_rank), *((metric_of(n).label, _number_of(n)) for n in srg)),
        _columns(league, *((metric_of(name).label, _number_of(name)) for name in found)),
        _columns(
            league, ("Sanity", _sane), ("Blind to the question", _blind), ("Passes", _passes), ("Seconds", _seconds),
            ("Maps", lambda place: f"{place.maps}/{place.n}"), lines=league.places,
        ),
    ]  # fmt: skip


def _columns(
    league: League, *columns: tuple[str, Callable[[Place], str]], lines: Sequence[Place] | None = None
) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("Method", *(heading for heading, _ in columns)):
        table.add_column(heading, no_wrap=True)
    for place in (*league.places, *league.controls) if lines is None else lines:
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


def _footing(league: League, rows: Sequence[Row], kept: Path | None) -> list[Text]:
    from medgemma_visualizer.cli import output

    best = league.best or "no method passes the sanity check"
    refused = {place.method: place.n - place.maps for place in league.places if place.maps < place.n}
    told = [output.line("Best", f"{best} (lowest mean rank of those that pass the sanity check)")]
    if refused:
        told.append(output.line("No map", ", ".join(f"{name}: {count}" for name, count in refused.items())))
    if league.agreement is not None:
        low, high = league.agreement.interval or (float("nan"), float("nan"))
        text = (
            f"Spearman {league.agreement.value:.2f} ({low:.2f} to {high:.2f}) with the mean ranks of the other league"
        )
        told.append(output.line("Agreement", text))
    told.append(output.line("Kept", "for analyze and check of this model" if kept else _why_not_kept(league)))
    return told


def _why_not_kept(league: League) -> str:
    if not league.identity:
        return "no: the model has no revision by which it could be known again"
    return "no: a league of this model over more cases or methods is there already"
