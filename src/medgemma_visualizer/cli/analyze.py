"""`analyze`: answer, map and scores for one image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgemma_visualizer.settings import INPUT_LIMITS, MODEL_CONFIG, RECOMMENDED_METHOD, VIZ_CONFIG

if TYPE_CHECKING:
    from medgemma_visualizer.records import Case
    from medgemma_visualizer.verbs import Analysis


def analyze(
    image: Annotated[
        Path | None, typer.Argument(help="A radiograph (PNG, JPEG, TIFF, BMP or WebP). None: an embedded one.")
    ] = None,
    question: Annotated[str | None, typer.Option("--question", "-q", help="What to ask of it.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="What the map explains: contrast, p_yes, answer, token:N, word:W (a word of the question) or a phrase."
            " None: yes against no, or the answer."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="How to ask; see `methods`. 'auto' takes the specification's first that works.")
    ] = RECOMMENDED_METHOD,
    model: Annotated[str, typer.Option(help="'demo', a hub id, or a folder.")] = "demo",
    out: Annotated[Path, typer.Option(help="Where the results go; results of an earlier run are replaced.")] = Path(
        "output"
    ),
    case: Annotated[str | None, typer.Option(help="Number or id of an embedded case, where no image is given.")] = None,
    layers: Annotated[str | None, typer.Option(help="Layers to read, such as '0,2' or '-1'.")] = None,
    heads: Annotated[str | None, typer.Option(help="Heads to read, such as '0,3'.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    min_memory: Annotated[
        float | None, typer.Option(help="GiB that a GPU must have free to be chosen (15; 1 for the demo model).")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Bound on the answer's length.")] = MODEL_CONFIG[
        "max_new_tokens"
    ],
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest image that is opened, in pixels.")] = INPUT_LIMITS[
        "image_pixels"
    ],
    text_first: Annotated[bool, typer.Option(help="Put the question before the image.")] = False,
    colormap: Annotated[str, typer.Option(help="Any perceptual map of matplotlib, or 'jet'.")] = VIZ_CONFIG["colormap"],
    grid_lines: Annotated[bool, typer.Option(help="Draw the grid of image tokens.")] = False,
    all_methods: Annotated[
        bool, typer.Option("--all-methods", help="Also draw every method's map on one sheet, methods.png.")
    ] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Also write a page with every generated token and its map, tokens.html.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Ask a question of a radiograph and see where the model looked.

    Writes result.json, heatmap.npz, overlay.png and scores.png; methods.png and tokens.html where asked for.
    """
    from medgemma_visualizer.cli import output

    folder = output.check_folder(out)
    options = output.indices(layers=layers, heads=heads)
    output.check_style(colormap)
    with _opening_up_to(max_pixels):
        asked = _case(image, question, target, case)
        with output.status(f"Loading {model}", quiet=as_json, bars=model != "demo"):
            from medgemma_visualizer import verbs
            from medgemma_visualizer.heatmaps import METHODS

            if method != "auto":
                METHODS[method]
            loaded = verbs.load_model(model, device=device, dtype=dtype, min_free_gb=min_memory)
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
        extras = _extras(analysis, method, target, all_methods, tokens, quiet=as_json)
        written = output.write_analysis(analysis, folder, extras, colormap=colormap, grid_lines=grid_lines)
    output.print_analysis(analysis, written, as_json=as_json)


def _extras(
    analysis: Analysis, method: str, target: str | None, all_methods: bool, tokens: bool, *, quiet: bool
) -> dict[str, Any]:
    """What else was asked for, by the name of its file: a picture or the text of a page."""
    from medgemma_visualizer import verbs
    from medgemma_visualizer.cli import output
    from medgemma_visualizer.heatmaps import explain_all

    extras: dict[str, Any] = {}
    if all_methods:
        with output.progress("Asking every method", quiet=quiet):
            extras["methods.png"] = verbs.draw_all(explain_all(analysis.reading, target), analysis.case)
    if tokens:
        with output.progress("Explaining every token", quiet=quiet):
            used = analysis.heatmap.method if method == "auto" and analysis.heatmap.available else method
            extras["tokens.html"] = verbs.draw_tokens(analysis, used)
    return extras


@contextmanager
def _opening_up_to(pixels: int) -> Iterator[None]:
    """Lets pictures up to this size be opened inside the block, wherever the package opens them."""
    before = INPUT_LIMITS["image_pixels"]
    INPUT_LIMITS["image_pixels"] = pixels
    try:
        yield
    finally:
        INPUT_LIMITS["image_pixels"] = before


def _case(image: Path | None, question: str | None, target: str | None, number: str | None) -> Case:
    """The case that was asked for, its picture read, before any model is loaded."""
    from medgemma_visualizer.data.inputs import check_question, check_target
    from medgemma_visualizer.data.photo import open_image
    from medgemma_visualizer.errors import InputError
    from medgemma_visualizer.records import Case

    if target is not None:
        check_target(target)
    if image is None:
        found = _embedded(number)
        if question is None:
            return found
        return found.asking(check_question(question))
    if number is not None:
        raise InputError("Give an image or --case, not both.")
    picture = open_image(image)
    if question is None:
        raise InputError(f'What is to be asked of {str(image)!r}? Add --question "Is there a pleural effusion?".')
    return Case(id="image", image=picture, question=check_question(question))


def _embedded(number: str | None) -> Case:
    """An embedded case by its number or id; the first where None."""
    from medgemma_visualizer.data.sources import demo_cases
    from medgemma_visualizer.errors import InputError

    cases = demo_cases()
    if number is None or not number.strip():
        return cases[0]
    if number.isdecimal() and len(number) < 6:
        if int(number) >= len(cases):
            raise InputError(f"There is no embedded case {number}. There are {len(cases)}: 0 to {len(cases) - 1}.")
        return cases[int(number)]
    by_id = {case.id: case for case in cases}
    if number not in by_id:
        choice = f"a number from 0 to {len(cases) - 1}, or an id such as {cases[0].id!r}"
        raise InputError(f"There is no embedded case {number!r}. Give {choice}.")
    return by_id[number]
