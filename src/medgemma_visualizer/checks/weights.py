"""A model's weights drawn anew in place, block by block, and given back bit for bit.

Knows where blocks begin and end, how each is initialised, and how to keep the originals outside of memory; does not
know what anybody does with a model whose weights are random.

The originals go to an unnamed file on disk and never to memory, so that a model that fills its device can be checked
there. Neither a second copy (twice the memory) nor the checkpoint is used: a checkpoint may have been stored in another
number format or under other names, and a model made in memory has none. Beyond the model, memory holds one piece of one
weight at a time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import nn

from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError, unknown_name
from medgemma_visualizer.models.adapter import Model

#: Weights copied at once; 16 MB in float32.
PIECE = 2**22


@dataclass(frozen=True)
class Block:
    """A part of the model that is drawn anew as one.

    Attributes:
        name: "head" (where it is not the word table itself), "text.33" … "text.0", "projector", "vision.26" …
            "vision.0", "vision.embeddings".
        modules: What belongs to it.
        std: Standard deviation of its initialiser; None where it scales with each weight's own shape (SigLIP).
        makes_tokens: Whether the image tokens depend on it.
    """

    name: str
    modules: tuple[nn.Module, ...]
    std: float | None
    makes_tokens: bool

    @property
    def weights(self) -> list[nn.Parameter]:
        """Every parameter once."""
        return list(dict.fromkeys(p for module in self.modules for p in module.parameters()))


def blocks_of(model: Model) -> tuple[Block, ...]:
    """All blocks from the output down; together they are all trained weights but the table of words.

    The table stays because in Gemma it is head and input embedding at once: drawn anew it would change the question.
    A norm that closes the text model or the vision tower belongs to the last layer before it.
    """
    tower = model.hf.get_submodule(model.family.tower)
    table = model.text.get_input_embeddings()
    std = float(model.text.config.initializer_range)
    own = getattr(tower.config, "initializer_range", None)
    head = [] if model.head.weight is table.weight else [Block("head", (model.head,), std, False)]
    decoder = _parts(model.text, model.text.layers, left_out=table)
    text = [Block(f"text.{name}", modules, std, False) for name, modules in decoder]
    projector = Block("projector", (model.projector,), std, True)
    vision = [Block(f"vision.{name}", modules, own, True) for name, modules in _parts(tower, model.vision_layers)]
    return (*head, *text, projector, *vision)


def chosen_blocks(model: Model, names: Sequence[str] | None) -> tuple[Block, ...]:
    """Blocks of these names, from the output down; all where None.

    Raises:
        InputError: No such block, or none at all.
        UnavailableError: The weights are packed into fewer bits, so that nothing can be drawn in their place.
    """
    blocks = blocks_of(model)
    if not all(weight.is_floating_point() for block in blocks for weight in block.weights):
        raise UnavailableError(
            f"The weights of {model.name!r} are packed into fewer bits and cannot be drawn anew. Load the model "
            "without quantize."
        )
    known = {block.name for block in blocks}
    for name in names or ():
        if name not in known:
            raise unknown_name("block", name, known)
    if names is not None and not names:
        raise InputError("No blocks were named; name at least one, or leave `blocks` out for all.")
    return tuple(block for block in blocks if names is None or block.name in names)


def last_of_each_part(model: Model) -> tuple[str, ...]:
    """Names of the blocks with which head, text model, projector and vision tower have all been drawn anew."""
    return tuple({block.name.partition(".")[0]: block.name for block in blocks_of(model)}.values())


def _parts(
    whole: nn.Module, layers: Any, left_out: nn.Module | None = None
) -> Iterator[tuple[str, tuple[nn.Module, ...]]]:
    """Layers from the top down, the top one with what follows the layers (a norm); then what comes before them."""
    inside = set(layers.parameters())
    parts = [(child, set(child.parameters())) for child in whole.children() if child is not left_out]
    (at,) = (n for n, (_, own) in enumerate(parts) if own & inside)
    before, after = (tuple(child for child, own in some if own) for some in (parts[:at], parts[at + 1 :]))
    top = len(layers) - 1
    for n in range(top, -1, -1):
        yield str(n), (layers[n], *(after if n == top else ()))
    if before:
        yield "embeddings", before


def redraw(block: Block, seed: int) -> None:
    """Draws every weight of a block from its initial distribution, in place.

    Matrices are normal with the model's own initialiser's scale: `initializer_range` where the configuration has one
    (Gemma), else Xavier's for linear layers and LeCun's for the rest (SigLIP). Biases become 0 and norms neutral, their
    values before training, as in Adebayo 2018, where whole layers start again. Gemma's projector starts at 0, which
    would cut the image off instead of scrambling it; it is drawn like the text model's matrices.

    Args:
        seed: With the block's name it fixes the draw, whatever other blocks are drawn.
    """
    state = np.random.SeedSequence([seed, zlib.crc32(block.name.encode())]).generate_state(1, np.uint64)
    generator = torch.Generator(block.weights[0].device).manual_seed(int(state[0] >> np.uint64(1)))
    with torch.no_grad():
        for module in (m for part in block.modules for m in part.modules()):
            for name, weight in module.named_parameters(recurse=False):
                if weight.ndim >= 2:
                    weight.normal_(0, block.std or _scale(module, weight), generator=generator)
                elif name.endswith("bias"):
                    weight.zero_()
                else:
                    _make_neutral(module, weight)


def _scale(module: nn.Module, weight: torch.Tensor) -> float:
    """√(2 / (inputs + outputs)) for linear layers (Glorot 2010), else 1 / √inputs (LeCun 1998)."""
    inputs = weight[0].numel()
    return float((2 / (inputs + len(weight))) ** 0.5 if isinstance(module, nn.Linear) else inputs**-0.5)


def _make_neutral(norm: nn.Module, weight: torch.Tensor) -> None:
    """1, or 0 for a norm that stores its scale as the difference from 1 (Gemma): asked of the norm, not assumed."""
    weight.zero_()
    if isinstance(norm, nn.LayerNorm) or not bool(norm(torch.ones_like(weight)).any()):
        weight.fill_(1)


@dataclass
class Loan:
    """Weights that may be drawn anew until they are given back.

    Attributes:
        file: Where the originals are kept.
        kept: Name of a block -> (place in the file, checksum of each piece).
        changed: Blocks that are random now.
    """

    file: IO[bytes]
    kept: dict[str, tuple[int, list[int]]] = field(default_factory=dict)
    changed: dict[str, Block] = field(default_factory=dict)

    def redraw(self, block: Block, seed: int) -> None:
        """Draws a block anew; its originals are on disk before the first weight changes."""
        if block.name not in self.kept:
            self.kept[block.name] = self._keep(block)
        self.changed[block.name] = block
        redraw(block, seed)

    def restore(self) -> None:
        """Gives every changed block back and checks it; an interruption waits until that is done.

        Raises:
            VisualizerError: The file no longer holds what was written to it.
        """
        interrupted: KeyboardInterrupt | None = None
        while self.changed:
            try:
                block = next(iter(self.changed.values()))
                self._give_back(block)
                del self.changed[block.name]
            except KeyboardInterrupt as interruption:  # the block is written once more, then the interruption goes on
                interrupted = interruption
        if interrupted is not None:
            raise interrupted

    def _keep(self, block: Block) -> tuple[int, list[int]]:
        start = self.file.seek(0, os.SEEK_END)
        sums = []
        for piece in _pieces(block):
            content = _bytes(piece)
            self.file.write(content)
            sums.append(zlib.crc32(content))
        return start, sums

    def _give_back(self, block: Block) -> None:
        start, sums = self.kept[block.name]
        self.file.seek(start)
        for piece, wanted in zip(_pieces(block), sums, strict=True):
            content = bytearray(piece.nbytes)
            self.file.readinto(content)  # type: ignore[attr-defined]  # IO lacks what every binary file has
            if zlib.crc32(content) != wanted:
                raise VisualizerError(f"The weights of {block.name} could not be restored. Load the model again.")
            piece.copy_(torch.frombuffer(content, dtype=piece.dtype))


def _pieces(block: Block) -> Iterator[torch.Tensor]:
    """Views (≤ PIECE,) that cover every weight of a block."""
    for weight in block.weights:
        yield from weight.detach().view(-1).split(PIECE)


def _bytes(piece: torch.Tensor) -> memoryview:
    """A weight's bytes: in place on the CPU, a copy elsewhere."""
    return piece.cpu().view(torch.uint8).numpy().data


class _Borrower:
    """Whoever has a model's weights now; an interruption that keeps it from saying goodbye cannot keep it alive."""


_lent: weakref.WeakValueDictionary[int, _Borrower] = weakref.WeakValueDictionary()
_lending = threading.Lock()


@contextmanager
def lent(model: Model, blocks: Sequence[Block]) -> Iterator[Loan]:
    """Lends a model's weights; however the block ends, they are given back bit for bit.

    Nobody else may use the model meanwhile: its answers would be a random model's.

    Raises:
        VisualizerError: The weights are lent already, or the disk is too full for the originals.
    """
    with _exclusively(model), _scratch_file(blocks) as file:
        loan = Loan(file)
        try:
            try:
                yield loan
            finally:
                loan.restore()
        finally:  # an interruption may fall on the first step of the return, before it is waited for
            loan.restore()


@contextmanager
def _exclusively(model: Model) -> Iterator[None]:
    key, borrower = id(model.hf), _Borrower()
    with _lending:
        if key in _lent:
            raise VisualizerError(f"The weights of {model.name!r} are being randomised already. Wait for that to end.")
        _lent[key] = borrower
    try:
        yield
    finally:
        _lent.pop(key, None)


@contextmanager
def _scratch_file(blocks: Sequence[Block]) -> Iterator[IO[bytes]]:
    """A file without a name, which vanishes with this process however it ends."""
    folder = _scratch_folder()
    needed = sum(weight.nbytes for block in blocks for weight in block.weights)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise VisualizerError(
            f"Keeping the model's weights aside takes {needed / 2**30:.1f} GiB and {str(folder)!r} has "
            f"{free / 2**30:.1f} GiB free. Set TMPDIR to a folder on a larger disk."
        )
    with tempfile.TemporaryFile(dir=folder) as file:
        yield file


def _scratch_folder() -> Path:
    """TMPDIR where set; else /var/tmp where there is one, because /tmp may lie in memory."""
    var = Path("/var/tmp")
    usable = "TMPDIR" not in os.environ and var.is_dir() and os.access(var, os.W_OK)
    return var if usable else Path(tempfile.gettempdir())
