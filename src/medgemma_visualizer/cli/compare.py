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
    from medgemma_visualizer.cli.output import Further
    from medgemma_visualizer.records import Case
    from medgemma_visualizer.verbs import Analysis

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
    perturb: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME…]|all",
            help="Also disturb the film and ask the first prompt again: gaussian_noise, contrast, brightness, gamma,"
            " blur, jpeg, window_centre, window_width, marker, pixels, rotation, shift_x, shift_y, crop. Without any"
            " prompt the film is only disturbed.",
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
    seed: Annotated[int, typer.Option(min=0, help="Of rewordings, noise and ties.")] = 0,
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
    rendering: o.Rendering = None,
    allow_lateral: o.AllowLateral = False,
    as_json: o.AsJson = False,
) -> None:
    """Ask one radiograph in several wordings: does the answer change, does the map?

    Without prompts: the technical and the simple form of the question. Writes result.json and comparison.png, and
    perturbations.png with --perturb, which also asks the film with noise on it, moved or otherwise disturbed.
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
    names = None if perturb is None else _perturbations(perturb, method)
    with inputs.opening_up_to(max_pixels):
        told: dict[str, Any] = {"own": prompt or (), "file": prompts, "count": variations, "seed": seed}
        told |= {"strategies": strategy} if strategy else {}
        film = (rendering, allow_lateral)
        asked, wordings = _asked(image, question, target, case, told, names is None, film)
        only = names is not None and wordings is None  # no prompts to compare: the film is only disturbed
        if only and (other or other_question):
            raise InputError("--other and --other-question stand beside a comparison of prompts. Add --prompt.")
        others = None if not other else [asked.showing(open_image(path)) for path in other]
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
        from medgemma_visualizer.cli import compared, disturbed

        how: dict[str, Any] = {"method": method, "target": target, "max_new_tokens": max_new_tokens}
        how |= {"image_first": not text_first, **own}
        beside: dict[str, Any] = {"others": others, "other_question": other_question, "seed": seed}
        with output.progress("Asking the model", quiet=as_json):
            found = None if only else verbs.compare(loaded, asked, wordings, **beside, **how)
            analysis = verbs.analyze(loaded, asked, **how) if found is None else verbs.analysis_of(found, asked)
            further = _further(analysis, asked, names, target, seed, own)
        if found is None:
            written = disturbed.write(analysis, folder, further)
        else:
            written = compared.write(found, asked, folder, further, colormap=colormap)
    if found is None:
        disturbed.show(analysis, written, further, as_json=as_json)
    else:
        compared.show(found, asked, written, further, as_json=as_json)


def _perturbations(text: str, method: str | None) -> list[str]:
    """Names of `PERTURBATIONS`, refused before a model is loaded where one is unknown."""
    from medgemma_visualizer.checks.perturbations import PERTURBATIONS

    if method == "auto":
        raise InputError("With 'auto' two films could get maps of different methods. Name one; see `methods`.")
    given = [name.strip() for name in text.split(",")]
    names = list(PERTURBATIONS) if "all" in given else given
    for name in names:
        PERTURBATIONS[name]
    return names


def _further(
    analysis: Analysis, case: Case, names: list[str] | None, target: str | None, seed: int, own: dict[str, Any]
) -> Further:
    """What the disturbed film adds; nothing where no perturbation was named."""
    from medgemma_visualizer import verbs
    from medgemma_visualizer.checks.robustness import SEEDS
    from medgemma_visualizer.cli import disturbed
    from medgemma_visualizer.cli.output import Further

    if names is None:
        return Further()
    seeds = [seed + n for n in SEEDS]
    found = verbs.disturb(analysis, names, target, seeds=seeds, avoid=case.region, seed=seed, **own)
    return disturbed.further(found, analysis.case.question)


def _asked(
    image: Path | None,
    question: str | None,
    target: str | None,
    number: str | None,
    told: dict[str, Any],
    needed: bool,
    film: tuple[str | None, bool],
) -> tuple[Case, Sequence[str | Variation] | None]:
    """The case and its prompts, None where there are none to compare; refused here, before a model is loaded.

    Args:
        needed: Whether there must be two prompts: then None stands for the technical and the simple form.
        film: Rendering of a DICOM file, and whether it may be of a lateral view.
    """
    from medgemma_visualizer.checks.context import prompts_for, text_of
    from medgemma_visualizer.checks.prompts import generate_prompt_variations
    from medgemma_visualizer.cli import inputs

    if image is not None and question is None:
        wordings = prompts_for(None, **told)
        asked = inputs.case_of(image, text_of(wordings[0]) if wordings else None, target, number, *film)
    else:
        asked = inputs.case_of(image, question, target, number, *film)
        wordings = prompts_for(asked.question, **told)
    if len(wordings) < 2 and not needed:
        return asked, None
    if not wordings:
        generate_prompt_variations(asked.question)
        return asked, None
    if not 1 < len(wordings) <= MOST:
        raise InputError(
            f"There are {len(wordings)} prompts; 2 to {MOST} can be compared. Change --prompt or --variations."
        )
    return asked, wordings
