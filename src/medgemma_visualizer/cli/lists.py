"""`methods`, `models` and `info`: what there is."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def methods() -> None:
    """List the methods: what each needs, costs and rests on."""
    from medgemma_visualizer.heatmaps import METHODS

    table = Table("Method", "Label", "Needs", "Cost", "Depends on the question", "Signed", "Paper", box=None)
    for name, entry in METHODS.items():
        dependent, signed = ("yes" if flag else "no" for flag in (entry.text_dependent, entry.signed))
        table.add_row(name, entry.label, entry.needs, entry.cost, dependent, signed, entry.paper)
    Console().print(table)


def models() -> None:
    """List the models that are known by name; any folder of a supported architecture loads too."""
    from medgemma_visualizer.models.adapter import FAMILIES
    from medgemma_visualizer.models.loading import KNOWN_MODELS

    table = Table("Model", "What it needs", box=None)
    for name, needs in KNOWN_MODELS.items():
        table.add_row(name, needs)
    Console().print(table)
    Console().print(f"Supported architectures: {', '.join(FAMILIES)}")


def info() -> None:
    """Show devices and library versions."""
    from medgemma_visualizer.models.devices import available_devices, gpus
    from medgemma_visualizer.models.loading import library_versions

    table = Table("What", "Found", box=None)
    for name, number in library_versions().items():
        table.add_row(name, number)
    table.add_row("devices", ", ".join(available_devices()))
    for gpu in gpus():
        table.add_row(f"cuda:{gpu.index}", f"{gpu.name}, {gpu.free_gb:.1f} of {gpu.total_gb:.1f} GiB free")
    Console().print(table)
