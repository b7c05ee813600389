"""Several pictures, each with its question, through the decoder in one pass: for runs over many cases.

A GPU that reads one prompt of MedGemma's size waits for its own memory; eight together take little longer than one.
With the image first all prompts have it in the same places, so that one mask serves all: what is padded at a prompt's
end is read by nobody. The pass keeps its graph; what is decoded, or forced, goes on from its keys and values.

Knows prompts and image tokens; knows nothing about targets or maps. Results equal those of `graphs` up to the order of
additions.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Sequence
from typing import Any

import torch

from medgemma_visualizer.models import graphs, lean
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import free_bytes, gpus
from medgemma_visualizer.models.forward import Generated, ensure_finite
from medgemma_visualizer.models.graphs import Told, rounded, sent
from medgemma_visualizer.models.reading import Reading

#: Shapes of decoding that are kept: that of full batches, and that of the last one.
SHAPES = 2
#: More pictures together than that win nothing at MedGemma's size on an H100 (benchmarks/batches.py).
MOST = 16
#: Share of the free memory that a batch may take; the rest is the vision tower's, and the next batch's.
SHARE = 0.7


def batch_for(model: Model, others: int = 0, cards: Collection[int] = (), limit: float | None = None) -> int:
    """How many pictures go well together on the model's device: a power of two up to `MOST`, 1 on a processor.

    What a picture takes is what the decoder keeps of its prompt until the way back: about three rows of the
    intermediate size and eight of the hidden size for each position and layer.

    Args:
        others: Processes on each card that will load the same model and work instead of this one, which gives up its
            own before; 0 where this one works.
        cards: Numbers of the cards that these others are spread over: what goes together fits on the fullest. The
            model's own where empty.
        limit: GiB that each of the others may take for itself, weights included; its share of the card where None.
    """
    free = free_bytes(model.device)
    if free is None:
        return 1
    if others:
        there = [gpu for gpu in gpus() if gpu.index in (cards or (model.device.index,))]
        share = min(int(gpu.free_gb * 2**30) + torch.cuda.memory_reserved(gpu.index) for gpu in there) // others
        free = (share if limit is None else min(share, int(limit * 2**30))) - model.weight_bytes
    config = model.text.config
    row = (3 * config.intermediate_size + 8 * config.hidden_size) * model.dtype.itemsize
    positions = rounded(model.grid[0] * model.grid[1] + graphs.STEP)
    number = int(SHARE * max(0, free) / (row * model.n_layers * positions))
    return max(1, min(MOST, 1 << max(0, number.bit_length() - 1)))


def go_together(readings: Sequence[Reading]) -> bool:
    """Whether one pass may read these: by the fast decoder, one model, the image in the same places before the words.

    Prompts that are too long for a captured pass, or whose answers may be, are left to themselves.
    """
    if not readings or graphs.engine_of(readings[0].model) is None:
        return False
    first = readings[0]
    return all(
        reading.model is first.model
        and reading.prompt.image_first
        and reading.prompt.image_positions == first.prompt.image_positions
        and reading.max_new_tokens == first.max_new_tokens > 0
        and graphs.Engine.fits(len(reading.prompt.ids), [0], reading.max_new_tokens)
        for reading in readings
    )


def padded(rows: Sequence[Sequence[int]], length: int) -> list[list[int]]:
    """Ids made as long as that by ids that nobody reads."""
    return [[*ids, *[0] * (length - len(ids))] for ids in rows]


class Slots:
    """Where keys and values of several sequences stand: padded prompts first, then what follows them, side by side.

    Attributes:
        length: Slots of the padded prompts.
        positions: (B, slots), the position in its own sequence of what stands in a slot.
        filled: bool (B, slots), False where a prompt is padded.
    """

    def __init__(self, model: Model, lengths: torch.Tensor, length: int, room: int) -> None:
        self.model, self.length = model, length
        self.lengths = lengths
        self._slots = torch.arange(length + room, device=lengths.device)[None]
        self.positions = torch.empty(len(lengths), length + room, dtype=torch.long, device=lengths.device)
        self.filled = torch.empty_like(self.positions, dtype=torch.bool)
        self.table = lean.rotations(model, self._slots[0])  # a position is never larger than its slot
        self.move(lengths)

    def move(self, lengths: torch.Tensor) -> None:
        """Other prompts of these lengths (B,) are in the same slots."""
        self.lengths.copy_(lengths)
        after = self._slots - self.length
        self.positions.copy_(torch.where(after < 0, self._slots, self.lengths[:, None] + after))
        self.filled.copy_((after >= 0) | (self._slots < self.lengths[:, None]))

    def places(self, at: torch.Tensor, slots: int) -> lean.Places:
        """Rotations and masks of words at positions (B, Q), which attend to the first `slots` slots."""
        there, filled = self.positions[:, None, :slots], self.filled[:, None, :slots]
        before = filled & (there <= at[..., None])  # (B, Q, slots)
        near = there > at[..., None] - int(self.model.text.config.sliding_window)
        sees = {kind: before & near if kind == "sliding_attention" else before for kind in lean.kinds(self.model)}
        return lean.Places(
            {kind: tuple(part[0][at] for part in both) for kind, both in self.table.items()},  # type: ignore[misc]
            {kind: lean.additive(self.model, seen) for kind, seen in sees.items()},
        )


class Steps:
    """Greedy decoding of several sequences, one token each at a time; a step is captured when it is met again.

    Args:
        model: Whose decoder runs.
        size: Sequences.
        length: Slots of their padded prompts.
        room: Tokens that may be decoded.
    """

    def __init__(self, model: Model, size: int, length: int, room: int) -> None:
        config, device, slots = model.text.config, model.device, length + room
        like: dict[str, Any] = {"device": device, "dtype": model.dtype}
        held = (model.n_layers, size, config.num_key_value_heads, slots, config.head_dim)
        self.model, self.room = model, room
        self.slots = Slots(model, torch.ones(size, dtype=torch.long, device=device), length, room)
        self.keys, self.values = torch.zeros(held, **like), torch.zeros(held, **like)
        self.queries = torch.zeros(model.n_layers, size, config.num_attention_heads, room, config.head_dim, **like)
        self.token = torch.zeros(size, dtype=torch.long, device=device)
        self.step = torch.zeros(1, dtype=torch.long, device=device)
        self.told = torch.zeros(room + 1, size, 2, dtype=torch.long, device=device)  # id, and whether all was finite
        self.logprobs = torch.zeros(room + 1, size, device=device)
        self.holder: Any = lambda: None  # whose answers these are
        self._replay = graphs.Replay(device)
        self._buffers = graphs.bytes_of(vars(self)) + graphs.bytes_of(vars(self.slots))

    @property
    def bytes(self) -> int:
        """What its buffers and its captured step hold."""
        return self._buffers + self._replay.bytes

    def load(self, keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor], lengths: torch.Tensor) -> None:
        """Keys and values (B, H_kv, length, d) of each layer's prompts."""
        self.slots.move(lengths)
        for layer, (key, value) in enumerate(zip(keys, values, strict=True)):
            self.keys[layer, :, :, : self.slots.length].copy_(key)
            self.values[layer, :, :, : self.slots.length].copy_(value)

    def answer(
        self, logits: torch.Tensor, stop: frozenset[int], most: int
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Ids and log-probabilities of each sequence up to its stop token, given its first logits (B, V).

        The next step is on its way before the last one's tokens are looked at; at most one step is taken in vain.
        """
        self.step.zero_()
        self._note(logits)
        told = Told(self.told)
        said: list[list[int]] = [[] for _ in logits]
        going_on = set(range(len(said)))
        told.send(0)
        for n in range(most):
            if n + 1 < most:
                self._do_step()
                told.send(n + 1)
            for k, (best, finite) in enumerate(told.get(n)):
                if k not in going_on:
                    continue
                if not finite:
                    raise graphs.not_finite()
                if best in stop:
                    going_on.discard(k)
                else:
                    said[k].append(best)
            if not going_on:
                break
        probabilities = self.logprobs.T.tolist()
        return said, [row[: len(ids)] for row, ids in zip(probabilities, said, strict=True)]

    def _do_step(self) -> None:
        state = [self.token, self.step, self.told, self.logprobs]
        self._replay.do("step", {"step": self._take_step}, {"step": lambda: self.told}, state)

    @property
    def _graphs(self) -> dict[str, Any] | None:
        return self._replay.graphs

    @torch.no_grad()
    def _take_step(self) -> None:
        model, at = self.model, self.slots.lengths + self.step - 1  # (B,): one token is noted more than is read
        places = self.slots.places(at[:, None], self.keys.shape[3])
        states = lean.decode(model, model.text.get_input_embeddings()(self.token[:, None]), places, self._add)
        self._note(model.head(states[:, -1]).float())

    def _add(self, layer: int, query: Any, key: Any, value: Any) -> tuple[torch.Tensor, torch.Tensor]:
        n = self.step - 1
        self.queries[layer].index_copy_(2, n, query)
        self.keys[layer].index_copy_(2, self.slots.length + n, key)
        self.values[layer].index_copy_(2, self.slots.length + n, value)
        return self.keys[layer], self.values[layer]

    def _note(self, logits: torch.Tensor) -> None:
        """Writes down the best tokens of logits (B, V), their log-probabilities and whether all were finite."""
        best = logits.argmax(-1)
        finite = torch.isfinite(logits).all(-1).long()
        self.token.copy_(best)
        self.told.index_copy_(0, self.step, torch.stack([best, finite], dim=1)[None])
        self.logprobs.index_copy_(0, self.step, logits.log_softmax(-1).gather(1, best[:, None])[:, 0][None])
        self.step.add_(1)


def _steps(engine: graphs.Engine, size: int, length: int, room: int) -> Steps:
    """Decoding of a shape, with what was captured of it."""
    shape = (size, length, room)
    found: Steps | None = engine.steps.pop(shape, None)
    while len(engine.steps) >= SHAPES:
        engine.steps.popitem(last=False)
    engine.steps[shape] = found or Steps(engine.model, size, length, room)
    return engine.steps[shape]


class Batch:
    """One pass over several prompts, kept with its graph, with the answers that follow.

    Args:
        readings: Which `go_together`; each gets its answer.

    Attributes:
        leaf: Image tokens (B, N, D), a leaf of the graph.

    Raises:
        VisualizerError: Logits of an answer are not finite.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        engine = graphs.engine_of(readings[0].model)
        assert engine is not None
        self.readings, self.model, self.engine = tuple(readings), readings[0].model, engine
        self._ids = [reading.prompt.ids for reading in readings]
        self.length = rounded(max(map(len, self._ids)))
        self._lengths = sent([len(ids) for ids in self._ids], self.model.device)
        self._keys: list[torch.Tensor] = []  # of each layer, (B, H_kv, length, d), in the graph
        self._values: list[torch.Tensor] = []
        self._queries: list[torch.Tensor] = []  # (B, H, length, d)
        self.leaf = torch.cat([reading.image_tokens for reading in readings]).detach().requires_grad_()
        with engine.lock:
            self._weights, self._tokens = engine.changes(), self._tokens_now()
            with torch.enable_grad():
                self._states = lean.decode(self.model, self._embeds(), self._places(), self._keep)  # (B, length, D)
            self._steps = self._answer()
            self._steps.holder = weakref.ref(self)
            engine.batches.add(self)

    def _tokens_now(self) -> list[int]:
        """Counts what was written into each reading's image tokens."""
        return [graphs.changes_of(reading.image_tokens) for reading in self.readings]

    def _embeds(self) -> torch.Tensor:
        at = self.readings[0].prompt.image_positions
        return graphs.filled(self.model, padded(self._ids, self.length), self.leaf, at)

    def _places(self) -> lean.Places:
        """Those of any of the prompts: what stands after the image is text, and attends backwards."""
        ids = self._ids[0]
        after = self.readings[0].prompt.image_positions[-1] + 1
        return lean.places_of(self.model, (*ids[:after], *[0] * (self.length - after)))

    def _keep(self, _layer: int, query: Any, key: Any, value: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self._queries.append(query.detach())
        self._keys.append(key)
        self._values.append(value)
        return key, value

    @torch.no_grad()
    def _answer(self) -> Steps:
        """Every reading's answer; returns what was decoded."""
        most = self.readings[0].max_new_tokens
        last = self._states[torch.arange(len(self._ids), device=self.model.device), self._lengths - 1]
        first = self.model.head(last).float()  # (B, V)
        steps = _steps(self.engine, len(self._ids), self.length, rounded(most))
        steps.holder = lambda: None  # whoever breaks off meanwhile leaves the buffers nobody's
        steps.load(self._keys, self._values, self._lengths)
        said, logprobs = steps.answer(first, self.model.stop_ids, most)
        for n, reading in enumerate(self.readings):
            done = len(said[n]) < most
            vars(reading)["generated"] = Generated(tuple(said[n]), tuple(logprobs[n]), done, first[n].clone())
        return steps

    # -- rows of logits, with their graph --------------------------------------------------------------------------

    def logits(self, forced: Sequence[Sequence[int]], rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Float32 (1, rows, V) of each reading, with the graph from `leaf`.

        Args:
            forced: Ids that follow each prompt.
            rows: Rows of each sequence, as in `forward.logits_at`.

        Raises:
            VisualizerError: A logit is not finite.
        """
        with torch.enable_grad(), self.engine.lock:
            follows = self._followed_by(forced)
            parts = []
            for n, wanted in enumerate(rows):
                length = len(self._ids[n])
                slots = [row if row < length else self.length + row - length for row in wanted]
                parts.append(follows[n, slots])
            every = ensure_finite(self.model.head(torch.cat(parts)).float(), "the logits")
        return [part[None] for part in every.split([len(part) for part in parts])]

    def _followed_by(self, forced: Sequence[Sequence[int]]) -> torch.Tensor:
        """Hidden states (B, length + T, D), those of T forced ids last; sequences with fewer are padded."""
        most = max(map(len, forced))
        if most == 0:
            return self._states
        device = self.model.device
        slots = Slots(self.model, self._lengths.clone(), self.length, most)
        at = self._lengths[:, None] + torch.arange(most, device=device)[None]
        keys, values = self._keys, self._values

        def on(layer: int, _query: Any, key: Any, value: Any) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.cat([keys[layer], key], dim=2), torch.cat([values[layer], value], dim=2)

        places = slots.places(at, self.length + most)
        states = lean.decode(self.model, graphs.words_of(self.model, padded(forced, most)), places, on)
        return torch.cat([self._states, states], dim=1)

    def forget(self) -> None:
        """Lets go of the graph; what `attention` needs stays."""
        self._keys, self._values, self._states = [], [], torch.empty(0)

    # -- attention -------------------------------------------------------------------------------------------------

    def knows(self, ids: tuple[int, ...], tokens: torch.Tensor, rows: Sequence[int]) -> bool:
        """Whether queries of these rows and keys up to them are kept, for one of the prompts and its answer."""
        n = self._number(ids, tokens)
        if n is None or self._steps.holder() is not self:
            return False
        if self._weights != self.engine.changes() or self._tokens != self._tokens_now():
            return False
        length = len(self._ids[n])
        said = self.readings[n].generated.ids
        known = min(len(said), self.readings[n].max_new_tokens - 1)  # keys of the last token allowed are not computed
        return (
            ids[length:] == said[: len(ids) - length]
            and len(ids) - length <= known
            and all(row < len(ids) for row in rows)
        )

    def _number(self, ids: tuple[int, ...], tokens: torch.Tensor) -> int | None:
        """Which of the readings this is: one picture may be asked several questions."""
        there = (n for n, one in enumerate(self.readings) if one.image_tokens.data_ptr() == tokens.data_ptr())
        return next((n for n in there if ids[: len(self._ids[n])] == self._ids[n]), None)

    @torch.no_grad()
    def attention(
        self, ids: tuple[int, ...], tokens: torch.Tensor, rows: Sequence[int], layers: Sequence[int]
    ) -> torch.Tensor:
        """Attention float32 (layers, H, rows, S) of a sequence that it knows."""
        n = self._number(ids, tokens)
        assert n is not None
        length = len(self._ids[n])
        slots = [*range(length), *range(self.length, self.length + len(ids) - length)]
        asked = [row if row < length else self.length + row - length for row in rows]
        found = []
        for layer in layers:
            query = torch.cat([self._queries[layer][n], self._steps.queries[layer, n]], dim=1)[:, asked]
            key = self._steps.keys[layer, n][:, slots]
            found.append(graphs.attention_of(self.model, ids, rows, [layer], query[None], key[None], first=layer)[0])
        return torch.stack(found)
