"""`report`: the page of a run again, from its Parquet parts alone; against another run; as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_visualizer.cli import options as o

if TYPE_CHECKING:
    from medgemma_visualizer.records import Case


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option(help="The HTML file. None: report.html in the folder.")] = None,
    level: Annotated[
        str, typer.Option(help="aggregate: counts and means. pseudonymous: also cases, salted. full: everything.")
    ] = "aggregate",
    against: Annotated[Path | None, typer.Option(help="Folder of another run of the same cases.")] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="Write the numbers to this file, too.")] = None,
    salt: Annotated[str | None, typer.Option(help="For pseudonyms that stay the same. None: new ones.")] = None,
    source: Annotated[str | None, typer.Option("--cases", help="For films at --level full: the run's cases.")] = None,
    question: Annotated[str | None, typer.Option("--question", "-q", help="As given to the run.")] = None,
    images: Annotated[Path | None, typer.Option(help="As given to the run.")] = None,
    regions: Annotated[Path | None, typer.Option(help="As given to the run.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    mlflow: o.Mlflow = None,
    as_json: o.AsJson = False,
) -> None:
    """Write a run's page: accuracy, calibration, what the maps are worth, wordings, and what was left out.

    One file that opens without a network. By default it holds nothing of a single case.
    """
    from medgemma_visualizer.cli import output
    from medgemma_visualizer.reports.export import Level
    from medgemma_visualizer.reports.run import export_csv, write_run_page
    from medgemma_visualizer.reports.tracking import log_run
    from medgemma_visualizer.runs.results import written

    shown = Level(level) if salt is None else Level(level, salt)
    path = out or folder / "report.html"
    with output.status("Summing up", quiet=as_json):
        cases = () if source is None or not shown.films else _cases(source, question, images, regions)
        files = {path.name: write_run_page(folder, path, level=shown, cases=cases, against=against, seed=seed)}
        if table is not None:
            text = export_csv(folder, shown, seed)
            files[table.name] = written(table, lambda file: file.write(text.encode()))
        logged = None if mlflow is None else log_run(folder, mlflow, seed)
    if as_json:
        output.print_json(
            {"level": shown.name, "written": {name: str(file) for name, file in files.items()}, "mlflow": logged}
        )
        return
    output.show(
        output.line("Level", shown.name),
        *(output.line("Written", str(file)) for file in files.values()),
        *([] if logged is None else [output.line("MLflow", f"run {logged}")]),
        output.line("", "Research use only, not for clinical use."),
    )


def _cases(source: str, question: str | None, images: Path | None, regions: Path | None) -> Sequence[Case]:
    from medgemma_visualizer import verbs

    return verbs.load_cases(source, question, images, regions)
