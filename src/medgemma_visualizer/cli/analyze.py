"""`analyze`: answer, map and scores for one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgemma_visualizer.cli import options as o
from medgemma_visualizer.settings import INPUT_LIMITS, MODEL_CONFIG, VIZ_CONFIG

if TYPE_CHECKING:
    from medgemma_visualizer.cli.output import Part
    from medgemma_visualizer.verbs import Analysis


def analyze(
    image: o.Image = None,
    question: o.Question = None,
    target: o.Target = None,
    method: o.MethodName = None,
    model: o.ModelName = "demo",
    out: o.Out = Path("output"),
    case: o.CaseName = None,
    layers: o.Layers = None,
    heads: o.Heads = None,
    option: o.MethodOption = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    min_memory: o.MinMemory = None,
    max_memory: o.MaxMemory = None,
    quantize: o.Quantize = None,
    max_new_tokens: o.MaxNewTokens = MODEL_CONFIG["max_new_tokens"],
    max_pixels: o.MaxPixels = INPUT_LIMITS["image_pixels"],
    text_first: o.TextFirst = False,
    colormap: o.ColourMap = VIZ_CONFIG["colormap"],
    grid_lines: o.GridLines = False,
    all_methods: Annotated[
        bool, typer.Option("--all-methods", help="Also draw every method's map on one sheet, methods.png.")
    ] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Also write a page with every generated token and its map, tokens.html.")
    ] = False,
    words: Annotated[
        bool, typer.Option("--words", help="Also tell what each word of the question weighs, beside the picture.")
    ] = False,
    cell: Annotated[
        str | None,
        typer.Option(
            metavar="ROW,COL", help="Also tell which words lean on a cell of the grid, from 0 at the top left."
        ),
    ] = None,
    rendering: o.Rendering = None,
    allow_lateral: o.AllowLateral = False,
    as_json: o.AsJson = False,
) -> None:
    """Ask a question of a radiograph and see where the model looked.

    Writes result.json, heatmap.npz, overlay.png and scores.png; methods.png and tokens.html where asked for.
    Of a DICOM file it also tells how far answer and map move with another rendering.
    """
    from medgemma_visualizer.cli import inputs, output
    from medgemma_visualizer.cli.words import cell_of

    folder = output.check_folder(out)
    options = output.indices(layers=layers, heads=heads) | output.named_values(option or [])
    place = None if cell is None else cell_of(cell)
    output.check_style(colormap)
    with inputs.opening_up_to(max_pixels):
        asked = inputs.case_of(image, question, target, case, rendering, allow_lateral)
        loaded = inputs.loaded(
            model,
            method,
            quiet=as_json,
            device=device,
            dtype=dtype,
            min_free_gb=min_memory,
            max_memory=max_memory,
            quantize=quantize,
        )
        from medgemma_visualizer import verbs
        from medgemma_visualizer.checks.trust import DISTRUST
        from medgemma_visualizer.cli.checked import trust_part

        with output.progress("Asking the model", quiet=as_json):
            analysis = verbs.analyze(
                loaded,
                asked,
                method=method,
                target=target,
                max_new_tokens=max_new_tokens,
                image_first=not text_first,
                **options,
            )
        extras = _extras(analysis, target, all_methods, tokens, options, quiet=as_json)
        trust = verbs.trust_of(analysis)
        parts = _of_film(analysis, image, target, options, quiet=as_json)
        parts |= _parts(analysis, target, words, place, options, quiet=as_json) | {"trust": trust_part(trust)}
        # "with care" stands on the screen; a map not to be trusted must not look like one.
        style = {"trust": trust} if trust.word == DISTRUST else {}
        look = {"colormap": colormap, "grid_lines": grid_lines, **style}
        written = output.write_analysis(analysis, folder, extras, parts, **look)
    output.print_analysis(analysis, written, parts, as_json=as_json)


def _extras(
    analysis: Analysis, target: str | None, all_methods: bool, tokens: bool, options: dict[str, Any], *, quiet: bool
) -> dict[str, Any]:
    """What else was asked for, by the name of its file: a picture or the text of a page."""
    from medgemma_visualizer import verbs
    from medgemma_visualizer.cli import output
    from medgemma_visualizer.heatmaps import explain_all, options_of

    extras: dict[str, Any] = {}
    if all_methods:
        with output.progress("Asking every method", quiet=quiet):
            extras["methods.png"] = verbs.draw_all(explain_all(analysis.reading, target, **options), analysis.case)
    if tokens:
        with output.progress("Explaining every token", quiet=quiet):
            heatmap = analysis.heatmap
            used = heatmap.method if heatmap.available else verbs.recommended_method(analysis.reading.model)
            own = options_of(heatmap, options) if heatmap.available else {}
            extras["tokens.html"] = verbs.draw_tokens(analysis, used, **own)
    return extras


def _of_film(
    analysis: Analysis, image: Path | None, target: str | None, options: dict[str, Any], *, quiet: bool
) -> dict[str, Part]:
    """What is known of a DICOM file, and whether its rendering matters; nothing of other pictures."""
    if analysis.case.rendering is None:
        return {}
    from medgemma_visualizer.cli import films  # loads pydicom, which nobody else needs

    return films.parts(analysis, image, target, options, quiet=quiet)


def _parts(
    analysis: Analysis,
    target: str | None,
    words: bool,
    cell: tuple[int, int] | None,
    options: dict[str, Any],
    *,
    quiet: bool,
) -> dict[str, Part]:
    """What else was asked for, by its key in result.json."""
    from medgemma_visualizer.cli import output
    from medgemma_visualizer.cli.words import cell_part, words_part

    parts: dict[str, Part] = {}
    if words:
        with output.progress("Weighing the words", quiet=quiet):
            parts["words"] = words_part(analysis, target, options)
    if cell is not None:
        with output.progress("Asking who leans on the cell", quiet=quiet):
            parts["cell"] = cell_part(analysis, cell)
    return parts
