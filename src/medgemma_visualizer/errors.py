"""What can go wrong, in the user's words. Knows exit codes; knows nothing about models or pictures."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VisualizerError(Exception):
    """The work failed (exit code 1). The message names the cause and the next step."""

    exit_code = 1


class InputError(VisualizerError, ValueError):
    """Unusable input (exit code 2). The message names the input, what is wrong with it, and the next step."""

    exit_code = 2


class UnavailableError(VisualizerError):
    """A method cannot explain this target on this model; the message is the reason that the heatmap carries."""


def unknown_name(kind: str, given: object, known: Iterable[str], meant: str | None = None) -> InputError:
    """Builds the error for a name that no table holds, with the closest known name.

    Args:
        kind: What the name stands for, in the singular ("method", "model", "device").
        given: The name as the user typed it, or whatever stands in its place.
        known: Every name that would have worked.
        meant: The one that was surely meant, where its letters do not tell.
    """
    names = sorted(known)
    if meant is not None:
        return InputError(f"Unknown {kind} {given!r}. Did you mean {meant!r}? Known: {', '.join(names)}.")
    close = difflib.get_close_matches(str(given).lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    hint = next((f" Did you mean {name!r}?" for name in names if close and name.lower() == close[0]), "")
    return InputError(f"Unknown {kind} {given!r}.{hint} Known: {', '.join(names)}.")
