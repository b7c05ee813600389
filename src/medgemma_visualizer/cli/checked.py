"""What `check` adds to a result: its table for people, its JSON values and its two pictures.

Knows how a terminal shows what `telling` words.
"""

from __future__ import annotations

from dataclasses import asdict

from rich.console import RenderableType
from rich.table import Table

from medgemma_visualizer.checks.trust import Trust
from medgemma_visualizer.checks.whole import Check
from medgemma_visualizer.cli.output import Part, line
from medgemma_visualizer.telling.analysis import plain, target_of
from medgemma_visualizer.telling.check import HEADINGS, asked, document, pictures, rows, rule, status

__all__ = ["lines", "parts", "pictures", "plain", "rows", "rule", "status", "table", "target_of", "trust_part"]

STYLES = {"trust": "green", "with care": "yellow", "do not trust": "bold red"}


def parts(check: Check) -> dict[str, Part]:
    """What `check` adds to result.json and to what people read, by its key."""
    made = (table(check),) if check.scores else ()
    return {"check": Part(document(check), (*made, *lines(check))), "trust": trust_part(check.trust)}


def table(check: Check) -> Table:
    """Metric, value, target, chance and status, every status in words."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in HEADINGS:
        made.add_column(heading, no_wrap=heading == "Metric")
    for row in rows(check):
        made.add_row(*row)
    return made


def lines(check: Check) -> list[RenderableType]:
    """The verdict with its interval, what could not be asked, and what was."""
    return [
        line("Verdict", check.verdict),
        *(line("Not asked", f"{name}: {reason}", "yellow") for name, reason in check.failures.items()),
        line("Asked", asked(check)),
    ]


def trust_part(trust: Trust) -> Part:
    """Whether to trust a map: the word, and its reasons, one a line."""
    first, *rest = trust.reasons
    said = line("Trust", f"{trust.word}: {first}", STYLES[trust.word])
    return Part(asdict(trust), (said, *(line("", f"also: {one}") for one in rest)))
