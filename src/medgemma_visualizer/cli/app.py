"""`app`: the web page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgemma_visualizer.cli import options as o
from medgemma_visualizer.errors import InputError

if TYPE_CHECKING:
    from medgemma_visualizer.models.adapter import Model


def app(
    host: Annotated[
        str, typer.Option(help="Address to listen at. Any but a loopback address lets others in and needs --auth.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The next free one where it is taken; 0: any.")] = 7860,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|prompt",
            help="Who may enter: a file with lines 'user:password', or 'prompt' to type one. Never a password.",
        ),
    ] = None,
    model: o.ModelName = "demo",
    cases: Annotated[
        str, typer.Option(help="What the menus offer: 'demo', a folder of cases, or a question file.")
    ] = "demo",
    images: Annotated[Path | None, typer.Option(help="The folder of a question file's films.")] = None,
    question: Annotated[str | None, typer.Option("--question", "-q", help="For films that come without one.")] = None,
    device: Annotated[
        str,
        typer.Option(
            help="auto, cpu, mps, cuda or cuda:N; several with commas, or 'all' GPUs with room: a model on each,"
            " visitors spread."
        ),
    ] = "auto",
    dtype: o.Dtype = "auto",
    gpu: Annotated[int | None, typer.Option(min=0, help="Number of the GPU: the same as --device cuda:N.")] = None,
    min_memory: o.MinMemory = None,
    max_memory: o.MaxMemory = None,
    quantize: o.Quantize = None,
) -> None:
    """Open the web page: for this machine only, unless told otherwise. Nothing that visitors do stays on the disk."""
    from medgemma_visualizer.app.serve import SILENT, admitted, open_to_read, serve
    from medgemma_visualizer.cli import output

    os.environ.update(SILENT)  # before the libraries that read it are loaded
    if gpu is not None:
        if device not in ("auto", f"cuda:{gpu}"):
            raise InputError(f"--gpu {gpu} and --device {device} contradict each other. Give one of them.")
        device = f"cuda:{gpu}"
    let_in = admitted(host, auth)
    if warning := open_to_read(auth):
        output.show(output.line("Warning", warning, "yellow"))
    with output.status(f"Loading {model}", quiet=False, bars=model != "demo"):
        from medgemma_visualizer import verbs
        from medgemma_visualizer.app.memory import keep_few_heaps

        keep_few_heaps()  # reading weights starts threads
        found = verbs.load_cases(cases, question, images)
        how: dict[str, Any] = {"dtype": dtype, "max_memory": max_memory, "quantize": quantize}
        places = _places(device, model, min_memory, how)
        first, *others = (verbs.load_model(model, device=place, min_free_gb=min_memory, **how) for place in places)
    output.show(output.line("Model", _told([first, *others])))
    serve(first, host, port, let_in, cases=found, others=others, say=output.show)


def _told(models: Sequence[Model]) -> str:
    """Whom visitors ask, in which numbers, and where that computes."""
    first = models[0]
    packed = first.revision.partition("+")[2]
    number = str(first.dtype).removeprefix("torch.") + (f" with weights in {packed}" if packed else "")
    return f"{first.name}, {number}, on {', '.join(str(model.device) for model in models)}"


def _places(devices: str, model: str, min_memory: float | None, how: Mapping[str, Any]) -> list[str]:
    """The devices that are meant, by name; one alone stays as it was given, for the loading of the model to judge."""
    from medgemma_visualizer.models.devices import choose_devices
    from medgemma_visualizer.models.loading import enough_free

    if devices != "all" and "," not in devices:
        return [devices]
    return [str(device) for device in choose_devices(devices, enough_free(model, min_memory, **how))]
