"""`methods`, `models` and `info`: what there is."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from medgemma_visualizer.cli import output

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def methods(as_json: AsJson = False) -> None:
    """List the methods: what each needs, costs and rests on."""
    from medgemma_visualizer.heatmaps import METHODS

    if as_json:
        output.print_json({"methods": [{"name": name, **_facts(entry)} for name, entry in METHODS.items()]})
        return
    table = _table("Method", "Needs", "Question", "Signed", "Label: cost; source")
    for name, entry in METHODS.items():
        dependent, signed = ("yes" if flag else "no" for flag in (entry.text_dependent, entry.signed))
        told = Text(f"{entry.label}: {entry.cost};\n").append(f"{entry.paper}\n", style="dim")
        table.add_row(
            name, entry.needs, dependent, signed, told.append(f"options: {', '.join(entry.options) or 'none'}")
        )
    notes = (
        "Question: the map depends on it. Signed: values speak for and against the target. Options go to `analyze "
        "--option name=value`; docs/methods.md and the docstrings say what they mean."
    )
    output.show(table, notes)


def models(as_json: AsJson = False) -> None:
    """List the models known by name; any folder of a supported architecture loads too."""
    from medgemma_visualizer.models.adapter import FAMILIES
    from medgemma_visualizer.models.loading import KNOWN_MODELS

    if as_json:
        known = [{"name": name, "needs": needs, "gib": _gib(name)} for name, needs in KNOWN_MODELS.items()]
        output.print_json({"models": known, "architectures": list(FAMILIES)})
        return
    table = _table("Model", "What it needs")
    for name, needs in KNOWN_MODELS.items():
        whole, *packed = _gib(name).items()
        told = [f"{whole[1]:.2g} GiB on a GPU in {whole[0]}", *(f"{gib:.2g} in {way}" for way, gib in packed)]
        table.add_row(name, Text(f"{needs};\n").append(", ".join(told), style="dim"))
    notes = (
        "GiB: of the weights; work takes about 2 more. A model lies on one card whole, none is split over several. "
        f"Supported architectures: {', '.join(FAMILIES)}"
    )
    output.show(table, notes)


def _gib(model: str) -> dict[str, float]:
    """What the weights take on a GPU, by how they are loaded."""
    import torch

    from medgemma_visualizer.models.loading import demo_folder
    from medgemma_visualizer.models.sizes import QUANTIZERS, size_of

    size = size_of(demo_folder() if model == "demo" else None, model)
    assert size is not None
    ways = {"bfloat16": None, **{name: name for name in QUANTIZERS}}
    return {way: round(size.gib(torch.bfloat16, packed), 3) for way, packed in ways.items()}


def info(as_json: AsJson = False) -> None:
    """Show library versions, devices, and what GPUs are used through."""
    from medgemma_visualizer.models.devices import available_devices, cuda_facts, gpus
    from medgemma_visualizer.models.loading import library_versions

    versions = {"python": platform.python_version(), **library_versions()}
    if as_json:
        cards = [asdict(gpu) for gpu in gpus()]
        output.print_json({"versions": versions, "devices": available_devices(), "cuda": cuda_facts(), "gpus": cards})
        return
    table = _table("What", "Found")
    for name, number in versions.items():
        table.add_row(name, number)
    table.add_row("devices", ", ".join(available_devices()))
    for name, fact in cuda_facts().items():
        table.add_row(name, fact)
    for gpu in gpus():
        table.add_row(f"cuda:{gpu.index}", f"{gpu.name}, {gpu.room}, compute capability {gpu.capability}")
    output.show(table)


def _facts(entry: Any) -> dict[str, Any]:
    """A method without its function."""
    names = ("label", "needs", "cost", "text_dependent", "signed", "paper", "options")
    return {name: getattr(entry, name) for name in names}


def _table(*columns: str) -> Table:
    """Names are never cut or broken; the last column takes what is left of the line."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name != columns[-1])
    return table
