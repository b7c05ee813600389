"""`status`: how far a run is, from another terminal or another machine that sees its folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgemma_visualizer.cli import options as o

if TYPE_CHECKING:
    from rich.console import RenderableType

    from medgemma_visualizer.runs.folder import Beat, State

#: A process that has said nothing for so many seconds is taken for gone. It speaks after every picture.
SILENT = 300.0
#: After so many seconds it is told that nothing was heard.
QUIET = 15.0
_REASONS = 5


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")],
    as_json: o.AsJson = False,
) -> None:
    """Say how far a run is: cases done and failed, rate, time left, and why cases failed. Changes nothing."""
    from medgemma_visualizer.cli import output
    from medgemma_visualizer.runs.folder import beats_of, survey

    state, beats = survey(folder), beats_of(folder)
    if as_json:
        output.print_json(as_document(folder, state, beats))
        return
    output.show(*lines(folder, state, beats))


def as_document(folder: Path, state: State, beats: Sequence[Beat]) -> dict[str, Any]:
    """The state as plain JSON values."""
    from medgemma_visualizer.runs.folder import commands_of

    running = live(beats)
    return {
        "cases": state.manifest.n,
        "done": state.asked - state.failed,
        "failed": state.failed,
        "in_hand": sum(beat.done - beat.kept for beat in running),
        "shards": len(state.parts),
        "shards_lacking": len(state.missing),
        "complete": state.complete,
        "processes": len(running),
        "cases_a_second": _rate(running),
        "seconds_left": seconds_left(state, running),
        "reasons": reasons_of(folder, state),
        "model": state.manifest.fingerprint["model"],
        "methods": state.manifest.fingerprint["asked"]["methods"],
        "command": state.manifest.command,
        "whole_commands": list(commands_of(folder)),
    }


def live(beats: Sequence[Beat]) -> tuple[Beat, ...]:
    """Those of processes that are at work."""
    return tuple(beat for beat in beats if beat.state == "running" and time.time() - beat.updated < SILENT)


def _rate(running: Sequence[Beat]) -> float | None:
    return sum(beat.rate for beat in running) if running else None


def seconds_left(state: State, running: Sequence[Beat]) -> float | None:
    """At the present rate; None where nobody is at work or nothing was asked yet."""
    rate = _rate(running)
    # All questions of a picture are asked again where one failed, so that more may be done than were lacking.
    left = sum(max(beat.total - beat.done, 0) for beat in running)
    return left / rate if rate else None


def reasons_of(folder: Path, state: State) -> dict[str, int]:
    """Reason -> cases that failed for it, the commonest first."""
    from medgemma_visualizer.runs.folder import part_path
    from medgemma_visualizer.runs.results import read_rows

    with_failures = [part.shard for part in state.parts if part is not None and part.failed]
    rows = [row for k in with_failures for row in read_rows(part_path(folder, k), ["failed", "reason"])]
    return dict(Counter(row["reason"] for row in rows if row["failed"]).most_common())


def lines(folder: Path, state: State, beats: Sequence[Beat]) -> list[RenderableType]:
    """The state for people."""
    from medgemma_visualizer.cli.output import line
    from medgemma_visualizer.runs.folder import commands_of

    n, running = state.manifest.n, live(beats)
    facts = state.manifest.fingerprint
    told = [
        line("Cases", f"{state.asked - state.failed} of {n} done, {state.failed} failed, {n - state.asked} missing"),
        line("Shards", f"{len(state.parts) - len(state.missing)} of {len(state.parts)} whole"),
        line("Model", f"{facts['model']['name']}, {facts['model']['dtype']}, on {facts['model']['device']}"),
        line("Methods", ", ".join(facts["asked"]["methods"])),
    ]
    if beats:
        told.append(line("At work", _at_work(state, running)))
    reasons = list(reasons_of(folder, state).items())
    told += [line("Failed", f"{count} ×: {reason}", "yellow") for reason, count in reasons[:_REASONS]]
    if len(reasons) > _REASONS:
        told.append(line("Failed", f"{sum(count for _, count in reasons[_REASONS:])} × for other reasons", "yellow"))
    told += [line("Command", command) for command in commands_of(folder)[-1:]]
    left = state.manifest.left_out
    told += [line("Left out", f"{count} rows: {reason}", "yellow") for reason, count in list(left.items())[:_REASONS]]
    return [*told]


def _at_work(state: State, running: Sequence[Beat]) -> str:
    if not running:
        return "nobody; the `run` command goes on from here" if state.open else "nobody; all is done"
    rate, left = _rate(running) or 0.0, seconds_left(state, running)
    spoken = "" if left is None else f", {_spoken(left)} left"
    in_hand = sum(beat.done - beat.kept for beat in running)
    several = "process" if len(running) == 1 else "processes"
    quiet = time.time() - max(beat.updated for beat in running)
    silent = f"; nothing heard for {quiet:.0f} s, maybe it was killed" if quiet > QUIET else ""
    return f"{len(running)} {several}, {rate:.2f} cases a second, {in_hand} in hand{spoken}{silent}"


def _spoken(seconds: float) -> str:
    """A time as a person would say it."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under a minute"
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"
