"""`compare`: several prompts about one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgemma_visualizer.cli import options as o
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.settings import INPUT_LIMITS, MODEL_CONFIG, VIZ_CONFIG

if TYPE_CHECKING:
    from medgemma_visualizer.checks.prompts import Variation
    from medgemma_visualizer.records import Case

#: Prompts that one page shows.
MOST = 100


def compare(
    image: o.Image = None,
    question: o.Question = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="A prompt to compare; repeat it. The first is compared with."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="A table with baseline_question and question_variant, or a text file with one prompt a line."
        ),
    ] = None,
    variations: Annotated[
        int | None, typer.Option(min=1, help="Add this many rewordings of the question, made by rules.")
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="Of the rewordings: synonym, voice, register, clause_order, phrasing, combinations, or opposite, which"
            " asks for the absence; repeat it."
        ),
    ] = None,
    target: o.Target = None,
    method: o.MethodName = None,
    model: o.ModelName = "demo",
    out: o.Out = Path("output"),
    case: o.CaseName = None,
    other: Annotated[
        list[Path] | None,
        typer.Option(help="Another radiograph, for context: how far do maps of other pictures differ? Repeat it."),
    ] = None,
    other_question: Annotated[
        str | None, typer.Option(help="A question about another finding, for context. None: made where possible.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of rewordings and ties.")] = 0,
    layers: o.Layers = None,
    heads: o.Heads = None,
    option: o.MethodOption = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    min_memory: o.MinMemory = None,
    max_new_tokens: o.MaxNewTokens = MODEL_CONFIG["max_new_tokens"],
    max_pixels: o.MaxPixels = INPUT_LIMITS["image_pixels"],
    text_first: o.TextFirst = False,
    colormap: o.ColourMap = VIZ_CONFIG["colormap"],
    as_json: o.AsJson = False,
) -> None:
    """Ask one radiograph in several wordings: does the answer change, does the map?

    Without prompts: the technical and the simple form of the question. Writes result.json and comparison.png.
    """
    from medgemma_visualizer.cli import inputs, output
    from medgemma_visualizer.data.photo import open_image

    folder = output.check_folder(out)
    own = output.indices(layers=layers, heads=heads) | output.named_values(option or [])
    output.check_style(colormap)
    if strategy and variations is None:
        raise InputError(
            f"--strategy {strategy[0]} says how --variations are made. Add --variations 6, or leave it out."
        )
    with inputs.opening_up_to(max_pixels):
        told: dict[str, Any] = {"own": prompt or (), "file": prompts, "count": variations, "seed": seed}
        asked, wordings = _asked(image, question, target, case, told | ({"strategies": strategy} if strategy else {}))
        others = None if not other else [asked.showing(open_image(path)) for path in other]
        loaded = inputs.loaded(model, method, quiet=as_json, device=device, dtype=dtype, min_free_gb=min_memory)
        from medgemma_visualizer import verbs
        from medgemma_visualizer.cli import compared

        how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "image_first": not text_first, "seed": seed, **own}
        with output.progress("Asking the model", quiet=as_json):
            found = verbs.compare(
                loaded,
                asked,
                wordings,
                method=method,
                target=target,
                others=others,
                other_question=other_question,
                **how,
            )
        written = compared.write(found, asked, folder, colormap=colormap)
    compared.show(found, asked, written, as_json=as_json)


def _asked(
    image: Path | None, question: str | None, target: str | None, number: str | None, told: dict[str, Any]
) -> tuple[Case, Sequence[str | Variation] | None]:
    """The case and its prompts, None for the technical and the simple form; refused here, before a model is loaded."""
    from medgemma_visualizer.checks.context import prompts_for, text_of
    from medgemma_visualizer.checks.prompts import generate_prompt_variations
    from medgemma_visualizer.cli import inputs

    if image is not None and question is None:
        wordings = prompts_for(None, **told)
        asked = inputs.case_of(image, text_of(wordings[0]) if wordings else None, target, number)
    else:
        asked = inputs.case_of(image, question, target, number)
        wordings = prompts_for(asked.question, **told)
    if not wordings:
        generate_prompt_variations(asked.question)
        return asked, None
    if not 1 < len(wordings) <= MOST:
        raise InputError(
            f"There are {len(wordings)} prompts; 2 to {MOST} can be compared. Change --prompt or --variations."
        )
    return asked, wordings
