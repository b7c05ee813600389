"""`check`: does the map of one case tell the truth?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medgemma_visualizer.cli import options as o
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.settings import (
    DEFAULT_IMPUTERS,
    INPUT_LIMITS,
    MODEL_CONFIG,
    VIZ_CONFIG,
)


def check(
    image: o.Image = None,
    question: o.Question = None,
    target: o.Target = None,
    method: o.MethodName = None,
    model: o.ModelName = "demo",
    out: o.Out = Path("output"),
    case: o.CaseName = None,
    imputers: Annotated[
        str, typer.Option(help="What stands in for removed cells: two or more of blur, mean, noisy_linear, gray.")
    ] = ",".join(DEFAULT_IMPUTERS),
    space: o.Space = "pixels",
    seed: Annotated[int, typer.Option(min=0, help="Of ties, random maps and noise.")] = 0,
    no_sanity: Annotated[
        bool, typer.Option("--no-sanity", help="Leave out random weights, random targets and the order of the tokens.")
    ] = False,
    full_sanity: Annotated[
        bool,
        typer.Option("--full-sanity", help="A map after every block of random weights, not only where a part ends."),
    ] = False,
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
    rendering: o.Rendering = None,
    allow_lateral: o.AllowLateral = False,
    as_json: o.AsJson = False,
) -> None:
    """Ask a question of a radiograph, see where the model looked, and whether to believe that map.

    Writes result.json (as of analyze, and `check`), heatmap.npz, overlay.png, scores.png, curves.png and sanity.png.
    """
    from medgemma_visualizer.cli import inputs, output

    folder = output.check_folder(out)
    own = output.indices(layers=layers, heads=heads) | output.named_values(option or [])
    output.check_style(colormap)
    stand_ins = _names(imputers, space)
    if no_sanity and full_sanity:
        raise InputError("--no-sanity and --full-sanity exclude each other. Give one of them.")
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
        from medgemma_visualizer.cli import checked

        told: dict[str, Any] = {"max_new_tokens": max_new_tokens, "image_first": not text_first, **own}
        with output.progress("Asking the model", quiet=as_json):
            analysis = verbs.analyze(loaded, asked, method=method, target=target, **told)
        how: dict[str, Any] = {"imputers": stand_ins, "space": space, "seed": seed}
        with output.progress("Checking the map", quiet=as_json):
            found = verbs.check_analysis(
                analysis, target, options=own, sanity=not no_sanity, full_sanity=full_sanity, **how
            )
        style = {"trust": found.trust, "colormap": colormap, "grid_lines": grid_lines}
        parts = checked.parts(found)
        written = output.write_analysis(analysis, folder, checked.pictures(found), parts, **style)
    output.print_analysis(analysis, written, parts, as_json=as_json)


def _names(imputers: str, space: str) -> tuple[str, ...]:
    """The imputers by name, all known; a verdict needs two that agree.

    Raises:
        InputError: Fewer than two, the same twice, or no such imputer or space.
    """
    from medgemma_visualizer.checks.controls import FEWEST_IMPUTERS
    from medgemma_visualizer.checks.whole import refuse_unknown

    names = tuple(dict.fromkeys(name.strip() for name in imputers.split(",")))
    refuse_unknown(names, space)
    if len(names) < FEWEST_IMPUTERS:
        raise InputError(f"--imputers {imputers!r} is one imputer, and two must agree on a verdict. Name another.")
    return names
