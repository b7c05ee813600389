"""From a number to a `Score`: its threshold and what the specification would call it.

Knows the table of thresholds and which way is better; knows nothing about how a number came about.
"""

from __future__ import annotations

from medgemma_visualizer.records import Direction, Score
from medgemma_visualizer.settings import QUALITY_THRESHOLDS

#: The verdict of a value that does not exceed its chance level.
NO_BETTER = "no better than chance"


def _no_better(value: float, chance: float, direction: Direction) -> bool:
    return value <= chance if direction == "higher" else value >= chance


def verdict(name: str, value: float, direction: Direction) -> str:
    """ "good", "acceptable" or "poor" by the specification's inclusive thresholds; "" where it has none."""
    bounds = QUALITY_THRESHOLDS.get(name)
    if bounds is None or direction == "none":
        return ""
    sign = 1 if direction == "higher" else -1
    reached = (label for label in ("good", "acceptable") if sign * value >= sign * bounds[label])
    return next(reached, "poor")


def scored(name: str, value: float, direction: Direction, chance: float | None = None, n: int = 1) -> Score:
    """A `Score` with the threshold and verdict that belong to its name.

    A value that a map knowing nothing would reach as well is never called good: its verdict is "no better than chance".
    """
    threshold = QUALITY_THRESHOLDS.get(name, {}).get("good")
    label = verdict(name, value, direction)
    if chance is not None and direction != "none" and _no_better(value, chance, direction):
        label = NO_BETTER
    return Score(name, float(value), direction, chance=chance, verdict=label, threshold=threshold, n=n)


def not_applicable(name: str, direction: Direction, reason: str, n: int = 1) -> Score:
    """A `Score` without a value, and why."""
    return Score(name, None, direction, threshold=QUALITY_THRESHOLDS.get(name, {}).get("good"), n=n, reason=reason)


def lift(score: Score) -> float | None:
    """How many times chance the value is; None where there is no number or no chance level above 0."""
    if isinstance(score.value, str) or score.value is None or not score.chance:
        return None
    return score.value / score.chance
