"""Known truth for any model, without annotations: planted marks, kept where an answer is owed to them.

Knows how to tell by asking again whether an answer comes from a mark. Does not know how marks are drawn or placed
(`planting`), maps, methods or leagues.

An item is kept only if the model answers right with the mark, differently without it, and if an equal patch elsewhere
changes the answer neither without the mark nor beside it. The mark is then the cause of the answer, and the pixels that
it changed are where a map should point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from medgemma_visualizer.checks.planting import QUESTIONS, Planted, planted_items
from medgemma_visualizer.data.marks import KINDS, Grey
from medgemma_visualizer.data.photo import open_image
from medgemma_visualizer.errors import UnavailableError
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.reading import read
from medgemma_visualizer.progress import track
from medgemma_visualizer.records import Case

#: Why an item is dropped, in the order asked.
WRONG = "wrong with the mark"
NO_CHANGE = "the same answer without the mark"
ANOTHER = "without the mark, the film seems to carry another one"
BROUGHT = "an equal patch elsewhere changes the answer without the mark"
TAKEN = "an equal patch elsewhere changes the answer with the mark"
REASONS = (WRONG, NO_CHANGE, ANOTHER, BROUGHT, TAKEN)


@dataclass(frozen=True)
class Filtered:
    """The items whose cause is known, and the rest by the reason.

    Attributes:
        kept: Cases whose answer is owed to their `region`.
        dropped: Reason -> how many items, in the order asked; reasons that dropped none are left out.
    """

    kept: tuple[Case, ...]
    dropped: Mapping[str, int]

    @property
    def n(self) -> int:
        """How many items were tried."""
        return len(self.kept) + sum(self.dropped.values())

    def __str__(self) -> str:
        parts = [f"kept {len(self.kept)} of {self.n}", *(f"{count} {reason}" for reason, count in self.dropped.items())]
        return "; ".join(parts)


#: A picture and the case asked about it -> the label of the answer. Whatever gives labels can stand in for a model.
Asker = Callable[[Image.Image, Case], str]


def planted_cases(
    model: Model, source_cases: Sequence[Case], *, n: int, seed: int = 0, kinds: Sequence[str] = KINDS
) -> Filtered:
    """Cases of known cause for a model, from any films.

    The embedded model is asked as it was taught, all others with the instruction that holds them to the options.

    Args:
        source_cases: Whose films are used; their questions and findings do not matter.
        n: Items tried; fewer are kept.
        seed: The same seed gives the same pictures.
        kinds: Of `data.marks.KINDS`.

    Raises:
        InputError: No films, no such kind, or every film carries such a mark already.
        UnavailableError: No item was kept; the message counts why.
    """
    found = causal_filter(model, planted_items(source_cases, kinds, n, seed, instructed=not model.is_demo))
    if not found.kept:
        raise UnavailableError(
            f"No answer of {model.name!r} is known to be owed to a planted mark ({', '.join(kinds)}): {found}. "
            "Use a model that reads such marks, other kinds, or films with known regions."
        )
    return found


def causal_filter(model: Model, items: Sequence[Planted]) -> Filtered:
    """Keeps the items whose answer is owed to the mark. No picture is asked about twice.

    On a film that may carry a mark of its own, the model's answer without ours decides: where it names a mark, the item
    is dropped.

    Raises:
        InputError: The question is longer than the model can read.
    """

    def label(image: Image.Image, case: Case) -> str:
        return read(model, image, case.question, options=case.options).answer.label

    return filtered(label, items)


def filtered(ask: Asker, items: Sequence[Planted]) -> Filtered:
    """As `causal_filter`, for anything that answers a picture with a label."""
    known: dict[tuple[str, str], str] = {}
    kept: list[Case] = []
    dropped: Counter[str] = Counter()
    for item in track(items, total=len(items), what="planted marks"):
        reason = _why_dropped(ask, item, known)
        if reason:
            dropped[reason] += 1
        else:
            kept.append(item.case)
    return Filtered(tuple(kept), {reason: dropped[reason] for reason in REASONS if dropped[reason]})


def _why_dropped(ask: Asker, item: Planted, known: dict[tuple[str, str], str]) -> str:
    """The first reason against an item; empty for none. Answers about bare films, which items share, are kept."""

    def said(film: Grey) -> str:
        return ask(open_image(Image.fromarray(film)), item.case)

    truth, marked, bare = item.case.truth, item.marked, (item.film, item.case.question)
    if said(marked) != truth:
        return WRONG
    if bare not in known:
        known[bare] = said(item.bare)
    if known[bare] == truth:
        return NO_CHANGE
    if not item.surely_bare and known[bare] in QUESTIONS[str(item.case.finding)].rivals:
        return ANOTHER
    if said(item.decoy.on(item.bare)) != known[bare]:
        return BROUGHT
    return TAKEN if said(item.decoy.on(marked)) != truth else ""
