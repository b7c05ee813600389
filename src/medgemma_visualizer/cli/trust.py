"""`trust`: the league table of methods, measured on this very model."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from medgemma_visualizer.cli import options as o
from medgemma_visualizer.settings import DEFAULT_IMPUTERS

if TYPE_CHECKING:
    from medgemma_visualizer.runs import Built


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
    findings: Annotated[
        str | None, typer.Option(help="Only cases that show one of these, names with commas. None: all cases.")
    ] = None,
    probe: Annotated[
        str, typer.Option(help="regions: known regions of the cases. planted: marks that we put in; needs none.")
    ] = "regions",
    imputers: Annotated[
        str, typer.Option(help="What stands in for removed cells: blur, mean, noisy_linear, gray.")
    ] = ",".join(DEFAULT_IMPUTERS),
    space: o.Space = "pixels",
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
    max_memory: o.MaxMemory = None,
    quantize: o.Quantize = None,
    as_json: o.AsJson = False,
) -> None:
    """Find out which methods' maps of this model can be trusted: every method on every case, beside chance.

    Writes report.html, league.parquet, league.json and seconds.json, and keeps the table for `analyze` and `check` of
    this model.
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
        load = functools.partial(
            verbs.load_model,
            model,
            device=device,
            dtype=dtype,
            min_free_gb=min_memory,
            max_memory=max_memory,
            quantize=quantize,
        )
        loaded = load()
    told: dict[str, object] = {"--model": loaded.name, "--methods": methods, "--cases": number}
    told |= {"--findings": findings, "--probe": probe}
    told |= {"--imputers": imputers, "--space": space, "--steps": steps, "--seed": seed, "--sanity-cases": sanity_cases}
    told |= {"--agree-with": agree_with, "--question": question, "--images": images}
    told |= {"--dtype": str(loaded.dtype).removeprefix("torch.")}  # what "auto" chooses depends on the machine
    with output.progress("Measuring", quiet=as_json):
        built = runs.trust(
            loaded,
            found,
            methods=asked,
            number=number,
            findings=_names(findings),
            probe=probe,  # type: ignore[arg-type]  # checked there
            imputers=_names(imputers) or (),
            space=space,
            steps=steps,
            seed=seed,
            sanity_cases=sanity_cases,
            workers=workers,
            load=load,
            source=found.source,
            command=_command(cases, told),
            agree_with=rows,
        )
    _tell(built, folder, as_json=as_json)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _command(cases: str, told: Mapping[str, object]) -> str:
    """What builds the table again; files and folders by their last name only, as tables travel."""
    given = [(name, value) for name, value in told.items() if value is not None]
    words = [str(w.resolve().name if isinstance(w, Path) else w) for pair in given for w in pair]
    return shlex.join(["medgemma-visualizer", "trust", Path(cases).resolve().name, *words])


def _tell(built: Built, folder: Path, *, as_json: bool) -> None:
    """Writes, keeps and prints."""
    from medgemma_visualizer import runs, verbs
    from medgemma_visualizer.cli import output
    from medgemma_visualizer.cli.league import footing, heading, tables
    from medgemma_visualizer.telling.league import document

    league = built.league
    written = runs.write_league(league, built.rows, folder, {"report.html": verbs.draw_league(built)})
    kept = runs.keep(league)
    if as_json:
        output.print_json(document(league))
        return
    output.show(
        *heading(league),
        *tables(league),
        *footing(league, kept),
        *(output.line("Written", str(path)) for path in written.values()),
        Text("Research use only, not for clinical use.", style="dim"),
    )
