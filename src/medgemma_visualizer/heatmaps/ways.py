"""The pass from a picture to a target's rows, kept with its graph, so that several targets or questions share it.

Knows which forward passes can be shared: all targets of one question, and, up to the end of the image, all questions
about one picture. Knows nothing about maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch

from medgemma_visualizer.heatmaps.targets import Aim
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.forward import Generated, confirmed, ensure_finite, go_on, logits_at
from medgemma_visualizer.models.prefix import prefix_of
from medgemma_visualizer.models.reading import Reading
from medgemma_visualizer.models.trace import attention_matrices

if TYPE_CHECKING:
    from transformers import DynamicCache

#: Attention (H, Q, K) and the gradient in it, which may be overwritten -> (Q, K).
Combine = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def differentiate(score: torch.Tensor, leaves: Sequence[torch.Tensor], *, keep: bool = False) -> list[torch.Tensor]:
    """Gradients in float32, for these leaves only. Where a score does not contain a leaf its gradient is zero.

    Args:
        keep: Keep the graph for the next score.
    """
    if not score.requires_grad:
        return [torch.zeros_like(leaf, dtype=torch.float32) for leaf in leaves]
    return [
        gradient.float() for gradient in torch.autograd.grad(score, leaves, retain_graph=keep, materialize_grads=True)
    ]


class Way:
    """One forward pass from the picture's image tokens to rows of logits, kept with its graph.

    Args:
        reading: The picture and question.
        forced: Ids that follow the prompt.
        rows: Rows whose logits are read.
        attention: Keep every layer's attention, too.
    """

    def __init__(self, reading: Reading, forced: Sequence[int], rows: Sequence[int], *, attention: bool = False):
        self.reading, self.forced, self.rows, self.attention = reading, tuple(forced), tuple(rows), attention
        self.leaf = reading.image_tokens.detach().requires_grad_()

    @cached_property
    def _ends(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits (1, rows, V), and each layer's attention (H, S, S), lowest first, where it is kept."""
        model, ids = self.reading.model, self.reading.ids(self.forced)
        with torch.enable_grad(), _attention_kept(model, self.attention) as weights:
            return logits_at(model, ids, self.leaf, self.rows), weights

    @property
    def weights(self) -> list[torch.Tensor]:
        """Attention of every layer (H, S, S), lowest first."""
        return self._ends[1]

    def leads_to(self, reading: Reading, aim: Aim) -> bool:
        """Whether the target's rows were read, after the same ids."""
        same = reading is self.reading and aim.forced == self.forced[: len(aim.forced)]
        return same and set(aim.rows) <= set(self.rows)

    def slopes(self, aim: Aim, leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Gradients of the target's score, float32; the graph stays for the next target."""
        with torch.enable_grad():
            score = aim.score(self._ends[0][:, [self.rows.index(row) for row in aim.rows]]).sum()
            return differentiate(score, leaves, keep=self._kept)

    def over_attention(self, aim: Aim, combine: Combine) -> list[torch.Tensor]:
        """What `combine` makes of each layer's attention and the score's gradient in it: (S, S), lowest layer first."""
        weights = self.weights
        return [
            combine(weight.detach(), slope) for weight, slope in zip(weights, self.slopes(aim, weights), strict=True)
        ]

    @property
    def _kept(self) -> bool:
        """Whether somebody will come this way again."""
        return _way.get() is self


_way: ContextVar[Way | None] = ContextVar("way", default=None)


@contextmanager
def sharing(way: Way) -> Iterator[None]:
    """Inside the block all targets that `way` leads to are differentiated in that one pass."""
    before = _way.set(way)
    try:
        yield
    finally:
        _way.reset(before)


class Beginning:
    """A prompt up to its last image token, read once with its graph, for all questions that follow it.

    What the image tokens pay attention to among themselves does not depend on the question, but how much that matters
    does: each question takes a backward pass of its own through this one forward pass.

    Args:
        reading: The picture with any question; the image comes first.
        attention: Keep every layer's attention, too.
    """

    def __init__(self, reading: Reading, *, attention: bool = False):
        self.reading, self.attention = reading, attention
        self.leaf = reading.image_tokens.detach().requires_grad_()
        with torch.enable_grad(), _attention_kept(reading.model, attention) as self.weights:  # each (H, P, P)
            self.prefix = prefix_of(reading.model, reading.prompt, self.leaf)
        self._last: Onward | None = None
        self._draft: tuple[int, ...] | None = None

    def leads_to(self, reading: Reading, aim: Aim) -> bool:
        """Whether a reading of the same picture by the same model goes on from here to all rows of the target."""
        same = reading.model is self.reading.model and reading.image_tokens is self.reading.image_tokens
        return same and self.prefix.begins(reading.prompt) and min(aim.rows) >= len(self.prefix.ids)

    def way(self, reading: Reading, forced: Sequence[int], rows: Sequence[int]) -> Onward:
        """The rest of the way to some rows; the last one is kept, and read once."""
        self._last = Onward(self, reading, forced, rows)
        return self._last

    def way_for(self, reading: Reading, aim: Aim) -> Onward:
        """The last way, where it leads to this target; else a new one."""
        known = self._last
        return known if known is not None and known.leads_to(reading, aim) else self.way(reading, aim.forced, aim.rows)

    def forget(self) -> None:
        """Lets go of the last way, which knows this beginning: both would stay, graphs and all, until Python looks."""
        self._last = None

    def answer(self, reading: Reading) -> None:
        """Lets a reading's answer come from the pass that will be differentiated, instead of passes of its own.

        The first answer that was given is read along: where it is this question's, too, no further pass is needed. What
        follows a row does not change it. It is always the first one, so that no order changes a last digit.
        """
        model, first = reading.model, len(reading.prompt.ids) - 1
        if self._draft is None:
            self._draft = self._alone(reading).ids
        rows = range(first, first + len(self._draft) + 1)
        logits = self.way(reading, self._draft, rows).logits
        found = confirmed(model, logits, self._draft, reading.max_new_tokens)
        vars(reading)["generated"] = self._alone(reading) if found is None else found

    def _alone(self, reading: Reading) -> Generated:
        """The answer, token by token."""
        states, cache = self.way(reading, (), (len(reading.prompt.ids) - 1,)).read
        return go_on(reading.model, states, cache, reading.max_new_tokens)


class Onward(Way):
    """The rest of a prompt after a `Beginning`, up to rows of logits.

    Args:
        beginning: Of the same picture and model; its graph is kept.
        reading: The question.
        forced: Ids that follow the prompt.
        rows: Rows whose logits are read, all after the beginning.
    """

    def __init__(self, beginning: Beginning, reading: Reading, forced: Sequence[int], rows: Sequence[int]):
        super().__init__(reading, forced, rows, attention=beginning.attention)
        self.beginning, self.leaf = beginning, beginning.leaf
        self._rest: list[torch.Tensor] = []  # attention of the rest, each (H, R, K), K the last columns that it sees

    @cached_property
    def read(self) -> tuple[torch.Tensor, DynamicCache]:
        """Hidden states (1, R, D) of the rest, and the cache of the whole, which may be written."""
        model, ids = self.reading.model, (*self.reading.prompt.ids, *self.forced)
        with torch.enable_grad(), _attention_kept(model, self.attention) as self._rest:
            return self.beginning.prefix.followed_by(model, ids[len(self.beginning.prefix.ids) :])

    @cached_property
    def _ends(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits (1, rows, V), and each layer's attention from the rest's rows (H, R, K), lowest first."""
        first = len(self.beginning.prefix.ids)
        with torch.enable_grad():
            logits = self.reading.model.head(self.read[0][:, [row - first for row in self.rows]]).float()
        return ensure_finite(logits, "the logits"), self._rest

    @property
    def logits(self) -> torch.Tensor:
        """Float32 (rows, V), without the graph."""
        return self._ends[0][0].detach()

    def over_attention(self, aim: Aim, combine: Combine) -> list[torch.Tensor]:
        """As of a `Way`, put together from the two passes.

        What the last layer makes of the beginning is read by nobody that follows, so nothing is combined there.
        """
        rest, before = self.weights, self.beginning.weights[:-1]
        parts = [*before, *rest]
        slopes = self.slopes(aim, parts)
        made = [combine(weight.detach(), slope) for weight, slope in zip(parts, slopes, strict=True)]
        first, count = len(self.beginning.prefix.ids), len(before)
        return [_joined(first, *pair) for pair in zip_longest(made[count:], made[:count])]

    @property
    def _kept(self) -> bool:
        return True


def _joined(first: int, rest: torch.Tensor, beginning: torch.Tensor | None) -> torch.Tensor:
    """(R, K) with K the last columns, and (first, first) -> (first + R, first + R), zero where nothing is."""
    size = first + rest.shape[0]
    whole = rest.new_zeros(size, size)
    whole[first:, size - rest.shape[1] :] = rest
    if beginning is not None:
        whole[:first, :first] = beginning
    return whole


@contextmanager
def _attention_kept(model: Model, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """Collects every layer's attention (H, Q, K) inside the block, where it is wanted."""
    if not wanted:
        yield []
        return
    with attention_matrices(model) as weights:
        yield weights


_beginning: ContextVar[Beginning | None] = ContextVar("beginning", default=None)


@contextmanager
def sharing_picture(beginning: Beginning) -> Iterator[None]:
    """Inside the block questions that follow this beginning are differentiated through that one pass."""
    before = _beginning.set(beginning)
    try:
        yield
    finally:
        _beginning.reset(before)
        beginning.forget()


def way_to(reading: Reading, aim: Aim, *, attention: bool = False) -> Way:
    """The pass that is shared, where it leads to this target; else one from a shared beginning, or a new one."""
    shared = _way.get()
    if shared is not None and shared.leads_to(reading, aim) and shared.attention >= attention:
        return shared
    begun = _beginning.get()
    if begun is not None and begun.attention >= attention and begun.leads_to(reading, aim):
        return begun.way_for(reading, aim)
    return Way(reading, aim.forced, aim.rows, attention=attention)
