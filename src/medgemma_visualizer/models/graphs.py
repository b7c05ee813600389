"""The fast way through the decoder on a CUDA device: launched once, then captured and replayed.

At the size of MedGemma a pass over one prompt is a few thousand small launches that keep the GPU waiting. A shape that
is met a second time is therefore captured as CUDA graphs: the pass over the prompt with its graph, the pass back to the
embeddings, and one step of decoding. Answer, attention rows and gradients then come from one pass. Prompts are padded
to a multiple of `STEP` positions (a decoder reads forwards, so what follows a prompt changes nothing in it).

Knows shapes, buffers and what they hold; knows nothing about targets or maps. Results equal those of `forward` up to
the order of additions. Without CUDA the same work is launched instead of replayed, which is how it is tested.
"""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.models import lean
from medgemma_visualizer.models.adapter import Model
from medgemma_visualizer.models.devices import cleanup_memory, free_bytes, on_device
from medgemma_visualizer.models.kernels import store_one
from medgemma_visualizer.models.parts import Parts

logger = logging.getLogger(__name__)

#: Prompts are padded to a multiple of so many positions.
STEP = 64
#: Rows of logits that a captured pass reads: the smallest that is enough.
ROWS = (16, 64)
#: Longer sequences are no launching problem, and their masks are large.
LONGEST = 2048
#: Longer answers are decoded without a place kept for each token.
ANSWER = 512
#: Passes are kept up to this share of the memory that was free, and up to so many bytes; the one in use always is.
SHARE, LIMIT = 0.4, 8 * 2**30


def rounded(count: int, step: int = STEP) -> int:
    """The next multiple of `step`, at least one."""
    return max(1, -(-count // step)) * step


def rows_bucket(count: int) -> int | None:
    """How many rows the pass for `count` of them reads; None where no captured pass reads so many."""
    return next((rows for rows in ROWS if count <= rows), None)


@dataclass(frozen=True)
class Shape:
    """What a captured pass is made for.

    Attributes:
        length: Positions of the padded prompt.
        rows: Rows of logits.
        room: Tokens that may be decoded after it.
    """

    length: int
    rows: int
    room: int


@dataclass(frozen=True, eq=False)
class Job:
    """One prompt with one picture, as a pass reads it.

    Tensors that are changed through their `.data`, which torch does not count, are taken for what they were.

    Attributes:
        ids: All ids.
        tokens: Image tokens (1, N, D) by which the job is known again.
        version: Counts changes of `tokens`.
        weights: Counts changes of the decoder's weights.
        embeds: (1, S, D), without gradient.
        rows: Rows whose logits are read.
    """

    ids: tuple[int, ...]
    tokens: torch.Tensor
    version: int
    weights: int
    embeds: torch.Tensor
    rows: tuple[int, ...]

    def answers(self, ids: tuple[int, ...], tokens: torch.Tensor, weights: int, rows: Sequence[int]) -> bool:
        """Whether it is a job for these ids and image tokens that reads these rows."""
        same = self.tokens.data_ptr() == tokens.data_ptr() and self.tokens.shape == tokens.shape
        unchanged = self.version == changes_of(tokens) and self.weights == weights
        return same and unchanged and self.ids == ids and set(rows) <= set(self.rows)


def allocated(device: torch.device) -> int:
    """Bytes that tensors hold on a CUDA device; 0 elsewhere."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


_never = itertools.count(-1, -1)


def changes_of(tensor: torch.Tensor) -> int:
    """Counts what was written into a tensor; another number each time for one whose changes nobody counts."""
    return next(_never) if tensor.is_inference() else tensor._version


def captures(device: torch.device) -> bool:
    """Whether work on a device can be captured."""
    return device.type == "cuda"


_NOTHING = torch.empty(0)


class _Pass:
    """A prompt's pass to rows of logits and back to its embeddings, and the decoding that follows, in one shape.

    Attributes:
        job: Whose results the buffers hold.
        run: Counts the passes, so that a way back knows whether the buffers are still its own.
        decoded: Ids that were decoded after the job's prompt, their keys and values known.
        bytes: What it holds: buffers, and what a launched pass or the captured graphs keep.
    """

    def __init__(self, model: Model, shape: Shape) -> None:
        self.model, self.shape = model, shape
        self.job: Job | None = None
        self.run = 0
        self.decoded: list[int] = []
        self.logits, self.gradient = _NOTHING, _NOTHING
        self._passes, self._steps = Replay(model.device), Replay(model.device)
        self._blocks: tuple[int, ...] | None = None
        self._make_buffers()
        self._buffers = bytes_of(vars(self)) + bytes_of(vars(self.places)) + bytes_of(self.rotations)

    @property
    def bytes(self) -> int:
        return self._buffers + self._passes.bytes + self._steps.bytes

    def _make_buffers(self) -> None:
        model, shape, device = self.model, self.shape, self.model.device
        config = model.text.config
        like: dict[str, Any] = {"device": device, "dtype": model.dtype}
        total, layers = shape.length + shape.room, model.n_layers
        self.embeds = torch.zeros(1, shape.length, config.hidden_size, **like, requires_grad=True)
        self.rows = torch.zeros(shape.rows, dtype=torch.long, device=device)
        self.slope = torch.zeros(1, shape.rows, model.head.weight.shape[0], device=device)
        held = (layers, config.num_key_value_heads, total, config.head_dim)
        self.keys, self.values = torch.zeros(held, **like), torch.zeros(held, **like)
        asked = (layers, config.num_attention_heads, shape.rows + shape.room + 1, config.head_dim)
        self.queries = torch.zeros(asked, **like)  # those of `rows`, then one for each step of decoding
        every = torch.arange(total, device=device)
        self.rotations = lean.rotations(model, every)
        high = lean.groups(model) * shape.length
        masks = {kind: torch.zeros(1, 1, high, shape.length, **like) for kind in lean.kinds(model)}
        begun = {kind: tuple(part[:, : shape.length].contiguous() for part in r) for kind, r in self.rotations.items()}
        self.places = lean.Places(begun, masks)  # type: ignore[arg-type]
        self.token, self.at, self.step, self.slot = (torch.zeros(1, dtype=torch.long, device=device) for _ in range(4))
        self.told = torch.zeros(shape.room + 2, 2, dtype=torch.long, device=device)  # id, and whether all was finite
        self.logprobs = torch.zeros(shape.room + 2, device=device)

    # -- the pass over the prompt, and back ------------------------------------------------------------------------

    def read(self, job: Job) -> torch.Tensor:
        """Logits float32 (1, rows, V) of a job, in the pass's own buffer."""
        if job is not self.job:
            self.job = None  # whoever breaks off meanwhile leaves the buffers nobody's
            self._load(job)
            self._do("forward")
            self.job, self.run, self.decoded = job, self.run + 1, []
        return self.logits.detach()

    def back(self, job: Job, run: int, slope: torch.Tensor) -> torch.Tensor:
        """Gradient (1, S, D) in a job's embeddings, given that in its rows of logits (1, len(rows), V)."""
        if job is not self.job or run != self.run:
            self.job = None
            self.read(job)
        self.slope.zero_()
        self.slope[:, : slope.shape[1]].copy_(slope)
        self._do("backward")
        return self.gradient[:, : len(job.ids)].clone()

    @torch.no_grad()
    def _load(self, job: Job) -> None:
        length = len(job.ids)
        self.embeds[:, :length].copy_(job.embeds)
        self.embeds[:, length:].zero_()
        padded = [*job.rows, *[job.rows[-1]] * (self.shape.rows - len(job.rows))]
        self.rows.copy_(sent(padded, self.model.device))
        blocks = lean.image_blocks(self.model, job.ids).tolist()
        blocks = (*blocks, *[-1] * (self.shape.length - length))
        if blocks != self._blocks:
            self._blocks = blocks
            for kind, sees in lean.allowed(self.model, sent(blocks, self.model.device)).items():
                self.places.masks[kind].copy_(lean.additive(self.model, sees))

    def _forward(self) -> None:
        self._let_go()
        with torch.enable_grad():
            states = lean.decode(self.model, self.embeds, self.places, self._keep)
            self.logits = self.model.head(states.index_select(1, self.rows)).float()

    def _backward(self) -> None:
        (self.gradient,) = torch.autograd.grad(self.logits, [self.embeds], self.slope, retain_graph=True)

    @torch.no_grad()
    def _keep(self, layer: int, query: Any, key: Any, value: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys[layer, :, : self.shape.length].copy_(key[0])
        self.values[layer, :, : self.shape.length].copy_(value[0])
        self.queries[layer, :, : self.shape.rows].copy_(query[0].index_select(1, self.rows))
        return key, value

    # -- decoding --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def answer(self, job: Job, stop: frozenset[int], most: int) -> tuple[list[int], list[float], bool]:
        """Greedy continuation of a job whose last row is its prompt's last: ids, log-probabilities, whether it stopped.

        The next step is on its way before the last one's token is looked at, so that the GPU never waits; at most one
        step is taken in vain.
        """
        logits = self.read(job)[0, job.rows.index(len(job.ids) - 1)]
        self.at.fill_(len(job.ids))
        self.step.zero_()
        self.slot.fill_(self.shape.rows - 1)  # the prompt's last row is kept already
        self._note(logits)
        ids: list[int] = []
        told = Told(self.told)
        told.send(0)
        for n in range(most):
            if n + 1 < most:
                self._do("step")
                told.send(n + 1)
            best, finite = told.get(n)
            if not finite:
                raise not_finite()
            if best in stop:
                break
            ids.append(best)
        self.decoded = ids[: most - 1]  # keys of the last token that was allowed are not computed
        return ids, self.logprobs[: len(ids)].tolist(), len(ids) < most

    def _step(self) -> None:
        model = self.model
        places = lean.Places(
            {kind: tuple(part.index_select(1, self.at) for part in both) for kind, both in self.rotations.items()},  # type: ignore[misc]
            {kind: lean.additive(model, sees) for kind, sees in self._visible().items()},
        )
        states = lean.decode(model, model.text.get_input_embeddings()(self.token)[None], places, self._add)
        logits = lean.logits_of(model, states)[0, 0].float()
        self.at.add_(1)
        self._note(logits)

    def _visible(self) -> dict[str, torch.Tensor]:
        """What the token that is decoded may attend to, bool (1, K): text attends backwards."""
        return lean.allowed(self.model, torch.full_like(self._every, -1), self.at)

    @property
    def _every(self) -> torch.Tensor:
        return torch.arange(self.shape.length + self.shape.room, device=self.model.device)

    def _add(self, layer: int, query: Any, key: Any, value: Any) -> tuple[torch.Tensor, torch.Tensor]:
        kept = self.queries[layer], self.keys[layer], self.values[layer]
        store_one(query[0], key[0], value[0], *kept, self.slot, self.at)
        return self.keys[layer][None], self.values[layer][None]

    def _note(self, logits: torch.Tensor) -> None:
        """Writes down the best token of logits (V,), its log-probability and whether all were finite."""
        best = logits.argmax()[None]
        finite = torch.isfinite(logits).all()[None].long()
        self.token.copy_(best)
        self.told.index_copy_(0, self.step, torch.stack([best, finite], dim=1))
        self.logprobs.index_copy_(0, self.step, logits.log_softmax(-1)[best])
        self.step.add_(1)
        self.slot.add_(1)

    # -- attention -------------------------------------------------------------------------------------------------

    def knows(self, ids: tuple[int, ...], rows: Sequence[int]) -> bool:
        """Whether queries of these rows and keys up to them are in the buffers, for the job's prompt and its answer."""
        if self.job is None:
            return False
        length = len(self.job.ids)
        said = ids[length:]
        same = ids[:length] == self.job.ids and list(said) == self.decoded[: len(said)]
        return same and all(self._slot(row) is not None for row in rows)

    def _slot(self, row: int) -> int | None:
        """Where the query of a row is kept."""
        assert self.job is not None
        if row in self.job.rows:
            return self.job.rows.index(row)
        step = row - len(self.job.ids)
        return self.shape.rows + step if 0 <= step < len(self.decoded) else None

    @torch.no_grad()
    def attention(self, ids: tuple[int, ...], rows: Sequence[int], layers: Sequence[int]) -> torch.Tensor:
        """Attention float32 (layers, H, rows, S) from the queries and keys of the pass that answered."""
        slots = [slot for slot in map(self._slot, rows) if slot is not None]
        return attention_of(self.model, ids, rows, layers, self.queries[:, :, slots], self.keys[:, :, : len(ids)])

    # -- capturing -------------------------------------------------------------------------------------------------

    def _do(self, name: str) -> None:
        """Does a part of the pass, or a step of decoding, by its graph where there is one."""
        state = [self.token, self.at, self.step, self.slot, self.told, self.logprobs]
        if name == "step":
            self._steps.do(name, {name: self._step}, {name: lambda: self.told}, state)
            return
        works = {"forward": self._forward, "backward": self._backward}
        writes = {"forward": lambda: self.logits, "backward": lambda: self.gradient}
        self._passes.do(name, works, writes, state, let_go=self._let_go)

    def _let_go(self) -> None:
        """What an earlier launch kept is given up before the next one, or a capture, keeps as much again."""
        self.logits, self.gradient = _NOTHING, _NOTHING

    @property
    def _graphs(self) -> dict[str, dict[str, Any] | None]:
        return {"pass": self._passes.graphs, "step": self._steps.graphs}


class Replay:
    """Works that follow each other in one shape: launched the first time, captured when met again, then replayed.

    Args:
        device: Whose work it is; where it cannot be captured, all of it is launched.

    Attributes:
        graphs: Of each work; None before there are any, and where none can be had.
        bytes: What the graphs hold; before, what the last launch of the first work keeps, by an estimate, as other
            threads take and give memory of the same device.
    """

    def __init__(self, device: torch.device) -> None:
        self.graphs: dict[str, Any] | None = None
        self.bytes = 0
        self._device, self._begun = device, 0

    def do(
        self,
        name: str,
        works: Mapping[str, Callable[[], None]],
        writes: Mapping[str, Callable[[], torch.Tensor]],
        state: Sequence[torch.Tensor],
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        """Does one of the works.

        Args:
            name: Of the work; the first one begins a go.
            works, writes: As for `captured`. Given each time, since whoever keeps works keeps what they belong to.
            state: What the works count on in; a capture, which does them meanwhile, gives it back.
            let_go: Gives up what the works of the go before keep, where they are not replayed.
        """
        begins = name == next(iter(works))
        with on_device(self._device):
            if begins and self.graphs is None:
                let_go()
                if self._begun == 1 and captures(self._device):
                    self._capture(works, writes, state)
            self._begun += begins
            if self.graphs is not None:
                self.graphs[name].replay()
                return
            before = allocated(self._device)
            works[name]()
            if begins:
                self.bytes = max(0, allocated(self._device) - before)

    def _capture(
        self,
        works: Mapping[str, Callable[[], None]],
        writes: Mapping[str, Callable[[], torch.Tensor]],
        state: Sequence[torch.Tensor],
    ) -> None:
        before, saved = allocated(self._device), [tensor.clone() for tensor in state]
        self.graphs, pool = captured(works, writes)
        for kept, value in zip(state, saved, strict=True):
            kept.copy_(value)
        if self.graphs is not None:
            self.bytes = pool or max(0, allocated(self._device) - before)


#: What stands in a tensor until a graph that was captured writes it.
_UNWRITTEN = -1
#: One capture at a time in a process, whichever device it is of.
_capturing = threading.Lock()


def captured(
    works: Mapping[str, Callable[[], None]], writes: Mapping[str, Callable[[], torch.Tensor]]
) -> tuple[dict[str, Any] | None, int]:
    """Graphs of works that follow each other and the bytes of their pool of memory.

    None where memory is short, where a work cannot be captured, or where a graph does not do its work: one that holds
    nothing, such as one that listened to another device, would leave what the pass before wrote, and that would be read
    as new. Each is therefore replayed once and must write.

    Args:
        works: In their order; they are done twice meanwhile.
        writes: Of each work, a tensor that it writes.
    """
    with _capturing:
        try:
            made, pool = _recorded(works)
        except torch.OutOfMemoryError:
            logger.warning("Too little GPU memory to capture a pass; it is launched.")
            return None, 0
        except RuntimeError as error:  # what the work itself did wrong is raised when it is launched next
            logger.warning("A pass could not be captured (%s); it is launched.", str(error).split("\n")[0])
            return None, 0
        for name, graph in made.items():
            writes[name]().detach().fill_(_UNWRITTEN)
            graph.replay()
            if bool((writes[name]() == _UNWRITTEN).all()):
                logger.warning("A pass that was captured does nothing when it is replayed; it is launched instead.")
                return None, 0
    return made, _pool_bytes(pool)


def _recorded(works: Mapping[str, Callable[[], None]]) -> tuple[dict[str, Any], Any]:
    """CUDA graphs in one pool of memory, after a round that warms up, and the pool. On one stream of the device.

    torch's own stream for captures is of the device that was captured on first, which may be another.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(side):
            for work in works.values():
                work()
    finally:
        torch.cuda.current_stream().wait_stream(side)
    pool, graphs = torch.cuda.graph_pool_handle(), {}
    for name, work in works.items():
        graphs[name] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graphs[name], pool=pool, stream=side, capture_error_mode="thread_local"):
            work()
    return graphs, pool


def _pool_bytes(pool: Any) -> int:
    """Bytes of the device's memory that a pool of captured graphs has taken for itself."""
    taken = (part for part in torch.cuda.memory_snapshot() if tuple(part.get("segment_pool_id", ())) == tuple(pool))
    return sum(int(part["total_size"]) for part in taken)


def bytes_of(things: Mapping[str, Any]) -> int:
    """Bytes of all tensors among the values of a table, those of tables and tuples in it included."""
    found = 0
    for thing in things.values():
        if isinstance(thing, torch.Tensor):
            found += thing.nbytes
        elif isinstance(thing, Mapping):
            found += bytes_of(thing)
        elif isinstance(thing, tuple):
            found += sum(part.nbytes for part in thing if isinstance(part, torch.Tensor))
    return found


class Told:
    """What a pass writes down, sent to the processor step by step without waiting for it."""

    def __init__(self, told: torch.Tensor) -> None:
        self._there = told
        self._cuda = told.is_cuda
        self._here = torch.zeros(told.shape, dtype=told.dtype, pin_memory=self._cuda)
        self._events: dict[int, Any] = {}

    def send(self, n: int) -> None:
        self._here[n].copy_(self._there[n], non_blocking=True)
        if self._cuda:
            with on_device(self._there.device):
                self._events[n] = torch.cuda.Event()
            self._events[n].record(torch.cuda.current_stream(self._there.device))

    def get(self, n: int) -> list[Any]:
        """What was written down in step n."""
        if self._cuda:
            self._events.pop(n).synchronize()
        return list(self._here[n].tolist())


def sent(values: Sequence[int], device: torch.device) -> torch.Tensor:
    """Whole numbers on a device, without waiting for the work that is queued there."""
    here = torch.tensor(values, dtype=torch.long)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here.to(device)


def not_finite() -> VisualizerError:
    return VisualizerError(
        "The logits of the answer are not finite. Load the model with dtype='float32' and try again."
    )


class _Through(torch.autograd.Function):
    """Embeddings (1, S, D) -> logits (1, rows, V) by a captured pass, and back by the captured way back."""

    @staticmethod
    def forward(ctx: Any, embeds: torch.Tensor, engine: Engine, work: _Pass, job: Job) -> torch.Tensor:
        with engine.lock:
            logits = work.read(job)[:, : len(job.rows)].clone()
            ctx.engine, ctx.work, ctx.job, ctx.run = engine, work, job, work.run
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> Any:
        with ctx.engine.lock:
            if ctx.engine.changes() != ctx.job.weights or not ctx.engine.parts.in_place():
                raise VisualizerError("Weights were changed between a pass and its way back. Ask anew.")
            return ctx.work.back(ctx.job, ctx.run, slope), None, None, None


class Engine:
    """All captured passes of one set of modules, the least used given up where memory is short.

    Args:
        parts: Decoder and head as they are now; whoever finds them changed makes another engine.
        limit: Bytes that passes may hold together; the one in use is always kept.

    Attributes:
        tower: The vision tower's pass; see `vision`.
        batches: What `batches` has read and somebody still holds.
        steps: Its decoding, by shape.
    """

    def __init__(self, model: Model, parts: Parts, limit: int | None = None) -> None:
        self.lock = threading.RLock()
        self.parts = parts
        self.model = replace(model, hf=weakref.proxy(model.hf))  # the modules keep the engine, not the other way round
        self.limit = _limit(model.device) if limit is None else limit
        self.passes: OrderedDict[Shape, _Pass] = OrderedDict()
        self.batches: weakref.WeakSet[Any] = weakref.WeakSet()
        self.steps: OrderedDict[tuple[int, int, int], Any] = OrderedDict()
        self.tower: Any = None

    @staticmethod
    def fits(length: int, rows: Sequence[int], most: int = 0) -> bool:
        """Whether a captured pass reads a sequence of that length, and decodes so many tokens after it."""
        return length <= LONGEST and rows_bucket(len(rows)) is not None and most <= ANSWER

    def logits_at(self, ids: tuple[int, ...], tokens: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """As `forward.logits_at`, for one set of image tokens (1, N, D); differentiable in them."""
        embeds = embed(self.model, ids, tokens)
        with self.lock:
            work, job = self._job(ids, tokens, embeds, rows)
            logits: torch.Tensor = _Through.apply(embeds, self, work, job)
        return logits[:, [job.rows.index(row) for row in rows]]

    @torch.no_grad()
    def answer(
        self, ids: tuple[int, ...], tokens: torch.Tensor, stop: frozenset[int], most: int
    ) -> tuple[list[int], list[float], bool, torch.Tensor]:
        """Greedy continuation: ids, log-probabilities, whether a stop token ended it, and the first logits (V,)."""
        last = (len(ids) - 1,)
        with self.lock:
            work, job = self._job(ids, tokens, embed(self.model, ids, tokens), last, room=rounded(most))
            found = work.answer(job, stop, most)
            self._keep_within_limit(work)
            return (*found, work.read(job)[0, job.rows.index(last[0])].clone())

    @torch.no_grad()
    def attention(
        self, ids: tuple[int, ...], tokens: torch.Tensor, rows: Sequence[int], layers: Sequence[int]
    ) -> torch.Tensor:
        """Attention float32 (layers, H, rows, S) of rows: from the pass that answered where it has them."""
        with self.lock:
            for batch in tuple(self.batches):
                if batch.knows(ids, tokens, rows):
                    found: torch.Tensor = batch.attention(ids, tokens, rows, layers)
                    return found
            work = self._holder(ids, tokens, rows)
            if work is None and self.fits(len(ids), rows):
                work, job = self._job(ids, tokens, embed(self.model, ids, tokens), rows)
                work.read(job)
            if work is not None:
                return work.attention(ids, rows, layers)
        return launched_attention(self.model, ids, tokens, rows, layers)

    def _job(
        self,
        ids: tuple[int, ...],
        tokens: torch.Tensor,
        embeds: torch.Tensor,
        rows: Sequence[int],
        room: int = STEP,
    ) -> tuple[_Pass, Job]:
        """The pass and the job for rows of a prompt; a pass whose buffers hold them already, where there is one."""
        weights = self.changes()
        for work in self.passes.values():
            if work.job is not None and work.job.answers(ids, tokens, weights, rows) and work.shape.room >= room:
                self.passes.move_to_end(work.shape)
                return work, work.job
        work = self._pass(Shape(rounded(len(ids)), rows_bucket(len(rows)) or ROWS[-1], room))
        return work, Job(ids, tokens.detach(), changes_of(tokens), weights, embeds.detach(), tuple(dict.fromkeys(rows)))

    def _pass(self, shape: Shape) -> _Pass:
        if shape not in self.passes:
            self.passes[shape] = _Pass(self.model, shape)
        self.passes.move_to_end(shape)
        self._keep_within_limit(self.passes[shape])
        return self.passes[shape]

    def _holder(self, ids: tuple[int, ...], tokens: torch.Tensor, rows: Sequence[int]) -> _Pass | None:
        weights = self.changes()
        for work in self.passes.values():
            job = work.job
            if job is not None and job.answers(job.ids, tokens, weights, ()) and work.knows(ids, rows):
                return work
        return None

    def _keep_within_limit(self, used: _Pass) -> None:
        """Gives up what was used least lately, until what is left is within the limit; never what is used now."""
        while len(self.steps) > 1 and self.bytes > self.limit:
            self.steps.popitem(last=False)
        for shape in list(self.passes):
            if self.bytes <= self.limit:
                return
            if self.passes[shape] is not used:
                del self.passes[shape]

    @property
    def bytes(self) -> int:
        """What is held for passes and decoding of all shapes, and for the tower."""
        tower = 0 if self.tower is None else self.tower.bytes
        return tower + sum(work.bytes for work in (*self.passes.values(), *self.steps.values()))

    def changes(self) -> int:
        """Grows whenever a weight of the decoder is written."""
        return self.parts.written()


def _limit(device: torch.device) -> int:
    free = free_bytes(device)
    return LIMIT if free is None else min(LIMIT, int(SHARE * free))


def embed(model: Model, ids: tuple[int, ...], tokens: torch.Tensor) -> torch.Tensor:
    """As `forward.embed`, for ids that are known to the processor: nothing waits for the GPU.

    Raises:
        InputError: Another number of image tokens than the prompt has places for.
    """
    token = model.image_token_id
    at = [n for n, i in enumerate(ids) if i == token]
    if len(at) != tokens.shape[1]:
        raise InputError(
            f"The prompt has {len(at)} places for image tokens, {tokens.shape[1]} were given. One image a prompt."
        )
    return filled(model, [ids], tokens, at)


def words_of(model: Model, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Embeddings (B, S, D) of ids, B rows of one length; nothing waits for the GPU."""
    ids = sent(list(itertools.chain.from_iterable(rows)), model.device)
    words: torch.Tensor = model.text.get_input_embeddings()(ids.view(len(rows), -1))
    return words


def filled(model: Model, rows: Sequence[Sequence[int]], tokens: torch.Tensor, at: Sequence[int]) -> torch.Tensor:
    """Embeddings (B, S, D) of ids with image tokens (B, N, D) in their places; differentiable in `tokens`.

    Args:
        rows: One for each set of image tokens, or one for all.
        at: The places (N,), ascending, the same in each row.
    """
    token = model.image_token_id
    words = words_of(model, [[0 if i == token else i for i in ids] for ids in rows])
    embeds = words.to(tokens.dtype).expand(tokens.shape[0], -1, -1).clone()
    embeds[:, slice(at[0], at[-1] + 1) if at[-1] + 1 - at[0] == len(at) else list(at)] = tokens
    return embeds


@torch.no_grad()
def launched_attention(
    model: Model, ids: tuple[int, ...], tokens: torch.Tensor, rows: Sequence[int], layers: Sequence[int]
) -> torch.Tensor:
    """Attention (layers, H, rows, S) of any rows, from a pass that is launched."""
    found: dict[int, torch.Tensor] = {}

    def keep(layer: int, query: Any, key: Any, value: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if layer in layers:
            one = attention_of(model, ids, rows, [layer], query[:, :, list(rows)], key, first=layer)
            found[layer] = one[0]
        return key, value

    lean.decode(model, embed(model, ids, tokens), lean.places_of(model, ids), keep)
    return torch.stack([found[layer] for layer in layers])


def attention_of(
    model: Model,
    ids: tuple[int, ...],
    rows: Sequence[int],
    layers: Sequence[int],
    queries: torch.Tensor,
    keys: torch.Tensor,
    first: int = 0,
) -> torch.Tensor:
    """softmax(q kᵀ · scale + mask) in float32, (layers, H, R, S).

    Args:
        queries: (layers of the model, H, R, d) of the rows.
        keys: (layers of the model, H_kv, S, d).
        first: The layer that queries and keys begin with.
    """
    config, chosen = model.text.config, [layer - first for layer in layers]
    query, key = queries[chosen].float(), keys[chosen].float()
    query = query.unflatten(1, (key.shape[1], -1))  # (layers, H_kv, G, R, d)
    scores = torch.einsum("lhgrd,lhkd->lhgrk", query, key).flatten(1, 2)
    scores = scores * float(model.text.layers[0].self_attn.scaling)
    blocks = sent(lean.image_blocks(model, ids).tolist(), keys.device)
    sees = lean.allowed(model, blocks, sent(rows, keys.device))
    mask = torch.stack([sees[config.layer_types[layer]] for layer in layers])[:, None]  # (layers, 1, R, S)
    return scores.masked_fill(~mask, -torch.inf).softmax(-1)


_engines: weakref.WeakKeyDictionary[Any, tuple[Parts, Engine | None]] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def engine_of(model: Model) -> Engine | None:
    """The engine of a model that is to be fast, where its decoder runs as it was loaded at this moment; else None.

    None, too, where somebody's hooks wait in the decoder, under autocast and in inference mode, whose work differs from
    what was captured or cannot be kept, and on a stream of the caller's own, beside which buffers would be read.
    """
    if not model.fast or not lean.can_run(model) or _otherwise(model.device):
        return None
    roots = (model.text, model.head)
    with _making:
        parts, engine = _engines.get(model.hf, (None, None))
        if parts is None or not parts.unchanged(*roots):
            parts = Parts(*roots)
            usual = lean.is_usual(model) and not any(weight.is_inference() for weight in parts.weights)
            engine = Engine(model, parts) if usual else None
            _engines[model.hf] = (parts, engine)
    return None if parts.hooked() else engine


def _otherwise(device: torch.device) -> bool:
    """Whether torch is told to work in another way than when a pass is captured."""
    aside = device.type == "cuda" and torch.cuda.current_stream(device) != torch.cuda.default_stream(device)
    return aside or torch.is_inference_mode_enabled() or torch.is_autocast_enabled(device.type)


def forget(model: Model) -> None:
    """Gives up all that was captured of models on this model's device, and the memory that it holds.

    What comes next is launched again. For changes that nobody can notice: through a tensor's `.data`, or of a setting
    such as a layer's scaling; and see `make_room`.
    """
    device = next(model.hf.parameters()).device
    with _making:
        for hf in [hf for hf in _engines if next(hf.parameters()).device == device]:
            _engines.pop(hf, None)


def make_room(model: Model) -> None:
    """Gives back all that can be done without, where the memory of a model's device is full.

    To be called after an except block, which holds on to what failed.
    """
    forget(model)
    cleanup_memory()
