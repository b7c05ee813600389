"""What `analyze` adds to a result about words: what those of the question weigh, and which words lean on a cell.

Knows how to word what was measured; measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from medgemma_visualizer.cli.output import Part, indices, line, printable
from medgemma_visualizer.errors import InputError

if TYPE_CHECKING:
    from medgemma_visualizer.heatmaps import CellLink, TextSide
    from medgemma_visualizer.verbs import Analysis

Cell = tuple[int, int]


def cell_of(text: str) -> Cell:
    """ "3,4" as row and column, counted from 0 at the top left.

    Raises:
        InputError: Not two whole numbers.
    """
    numbers = indices(cell=text)["cell"]
    if len(numbers) != 2:
        raise InputError(f"--cell {text!r} is not a row and a column, such as '3,4'.")
    return numbers[0], numbers[1]


def words_part(analysis: Analysis, target: str | None, options: Mapping[str, Any]) -> Part:
    """What the question's words weigh beside the picture, by the map's method, or by occlusion where that cannot tell.

    Raises:
        UnavailableError: Neither picture nor question changes the score.
    """
    from medgemma_visualizer.heatmaps import explain_words, options_of
    from medgemma_visualizer.telling.analysis import words_as_document

    heatmap = analysis.heatmap
    if heatmap.available:
        side = explain_words(analysis.reading, heatmap.method, target, **options_of(heatmap, options))
    else:
        side = explain_words(analysis.reading, "occlusion", target)
    return Part(words_as_document(side), (*_weighed(side), _words_table(side)))


def _weighed(side: TextSide) -> list[Any]:
    """How it was measured, the share of the picture, and the score with and without it."""
    unit = "effect" if side.signed else "weight"
    instead = [line("Failed", f"{name} for words: {reason}", "yellow") for name, reason in side.fallbacks.items()]
    without = f", without the map's {', '.join(side.left_out)}" if side.left_out else ""
    image, words = (_number(value, side.signed) for value in (side.image_effect, side.words_effect))
    share = f"{side.image_share:.0%} of the {unit} is the picture's ({image} against {words}; {side.method}{without})"
    prior = f"{side.score:.3f} as asked, {side.prior:.3f} without the picture (every image token their mean)"
    return [*instead, line("Words", share), line("Score", prior)]


def _words_table(side: TextSide) -> Table:
    table = _table("Word", "Effect (above 0: for the target)" if side.signed else "Weight")
    for word, value in zip(side.words, side.values, strict=True):
        table.add_row(_shown(word.text), _number(float(value), side.signed))
    return table


def cell_part(analysis: Analysis, cell: Cell) -> Part:
    """Which words of question and answer lean on a cell of the grid.

    Raises:
        InputError: No such cell, or no word follows the image.
    """
    from medgemma_visualizer.heatmaps import words_for_cell

    links = words_for_cell(analysis.reading, *cell)
    tokens = [{**asdict(link.token), **{k: v for k, v in asdict(link).items() if k != "token"}} for link in links]
    rows, cols = analysis.reading.model.grid
    place = (
        f"row {cell[0]}, column {cell[1]} of {rows} × {cols}, from 0 at the top left; effect: log-probability with the "
        "cell minus without it (it becomes the mean image token), 0 where it does not matter"
    )
    document = {"row": cell[0], "col": cell[1], "tokens": tokens}
    return Part(document, (line("Cell", place), _cell_table(links)))


def _cell_table(links: Sequence[CellLink]) -> Table:
    table = _table("Word", "Of the", "Attention", "Effect (nats)")
    for link in links:
        part = "answer" if link.generated else "question"
        table.add_row(_shown(link.token.text), part, f"{link.attention:.5f}", _number(link.effect, signed=True))
    return table


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False)


def _shown(text: str) -> str:
    """A token as letters; white space that is all there is, written out."""
    return printable(text.strip()) or repr(text)


def _number(value: float, signed: bool) -> str:
    value = round(value, 4) + 0.0  # never "-0.0000"
    return f"{value:+.4f}" if signed else f"{value:.4f}"
