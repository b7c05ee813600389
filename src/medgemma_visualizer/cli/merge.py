"""`merge`: puts the folders of a job array together, once nothing is missing and nothing stands twice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgemma_visualizer.cli import options as o


def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of one run's jobs.")],
    out: Annotated[Path, typer.Option(help="The whole run; may be one of the folders.")],
    as_json: o.AsJson = False,
) -> None:
    """Check that every case stands once in the folders of a run's jobs, and copy all parts into one.

    Refuses gaps, shards with two versions, and folders of different runs; says which. Writes report.html beside.
    """
    from medgemma_visualizer.cli import output
    from medgemma_visualizer.cli.run import _page
    from medgemma_visualizer.cli.status import as_document, lines
    from medgemma_visualizer.runs import folder

    target = output.check_folder(out)
    with output.status("Merging", quiet=as_json):
        state = folder.merge(folders, target)
        page = _page(target, anew=True)
    if as_json:
        output.print_json(as_document(target, state, ()))
        return
    output.show(*lines(target, state, ()), *(output.line("Written", str(path)) for path in (target, page)))
