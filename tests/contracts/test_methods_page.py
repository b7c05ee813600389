"""What the page about the methods says is what the table of methods says, and the table's costs are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medgemma_visualizer.heatmaps import METHODS, resolve
from medgemma_visualizer.heatmaps.probing import regions, windows
from tests.contracts.conftest import Subject

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def rows_of_the_page() -> dict[str, list[str]]:
    """Method -> the cells of its row."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip("`"): row for row in cells}


def test_the_page_has_one_row_for_each_method_in_the_tables_own_words() -> None:
    rows = rows_of_the_page()
    assert set(rows) == set(METHODS)
    for name, entry in METHODS.items():
        _, asks, formula, *declared, traps = rows[name]
        signed, question = ("yes" if flag else "no" for flag in (entry.signed, entry.text_dependent))
        assert declared == [entry.needs, entry.cost, signed, question, entry.paper], name
        assert min(len(asks), len(formula), len(traps)) > 5, name


@pytest.mark.parametrize("method", [name for name, entry in METHODS.items() if entry.cost.startswith("1 forward")])
def test_a_method_of_one_forward_runs_the_decoder_once_and_the_vision_tower_never(
    subject: Callable[..., Subject], method: str
) -> None:
    if "a window" in METHODS[method].cost:
        assert f"({len(windows((16, 16), 3, 1))} on a 16 × 16 grid)" in METHODS[method].cost
        return
    assert _passes(subject("untied"), method) == {"decoder": 1, "vision": 0}


def test_activation_norm_runs_the_vision_tower_once_and_the_decoder_never(subject: Callable[..., Subject]) -> None:
    assert _passes(subject("untied"), "activation_norm") == {"decoder": 0, "vision": 1}


def _passes(subject: Subject, method: str) -> dict[str, int]:
    """How many pictures go through decoder and vision tower."""
    reading, counted = subject.reading, {"decoder": 0, "vision": 0}
    aim = resolve(reading, "contrast")

    def count(what: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            counted[what] += len(output)

        return hook

    handles = [
        reading.model.text.layers[0].mlp.register_forward_hook(count("decoder")),
        reading.model.vision_layers[0].mlp.register_forward_hook(count("vision")),
    ]
    try:
        METHODS[method].compute(reading, aim)
    finally:
        for handle in handles:
            handle.remove()
    return counted


def test_the_costs_of_probing_methods_are_those_of_their_probes(subject: Callable[..., Subject]) -> None:
    reading = subject("larger grid").reading
    aim = resolve(reading, "contrast")
    found = METHODS["shapley"].compute(reading, aim).extras
    assert f"at most {16 * 15 + 2} forwards" in METHODS["shapley"].cost
    assert len(regions(reading.model.grid, 4)) <= 16
    assert found["n_scorings"] <= 242
    assert METHODS["region_search"].compute(reading, aim).extras["n_scorings"] <= 83
    assert METHODS["rise"].compute(reading, aim).extras["n_scorings"] == 256
    assert METHODS["rise"].cost == "256 forwards"
