"""Films with cells taken away, and what is still true of them: what the third training run learns from.

Without this a film with holes lies outside of what the model knows, and its answer to a wholly masked film is
arbitrary: no measure that removes evidence could then say anything about a map.

What is removed is whole cells of the 16 × 16 grid: a share of them in random, smooth or evidence-led order, rectangles,
exactly a finding or all but it, or everything. What stands in for them is what `medgemma_visualizer` puts there when it
asks again (`checks.imputers`, `heatmaps.probing`): in the picture before the vision tower, or among the image tokens
after the projector. What is true follows the evidence: of a finding's side, or of a mark, 10 % or less left in sight
means that it is gone, 50 % or more that it is there; shapes that leave anything between are drawn again. Of a film that
shows nothing, nothing is there.

Shapes are taken from other films, too, and must leave nothing in doubt on a second film, so that neither a hole nor a
window tells by its shape or place what was there.

Knows arrays of cells and pictures; knows no words and no model but its tower and projector. A share in sight is taken
from the share of each cell that is covered, so it is exact where a cell goes as a whole, as all do here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

Cells: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]

CELLS = 16
GONE, THERE = 0.10, 0.50  # share of the evidence in sight: at most, at least
NOISE = 0.01  # of interpolated pixels, standard deviation in −1 … 1, as in Rong 2022
SIGMA = 10  # pixels of blur on a picture of 224
_TRIES = 12
_SOFT = (0.0, 1.0, 2.0, 4.0)  # cells over which an order is smooth
_LED = (0.0, 0.0, 2.0, 6.0, -2.0, -6.0)  # how much evidence leads an order: first to go, or last


def covered(mask: Mask) -> npt.NDArray[np.float64]:
    """Share of each cell that a mask covers: bool (height, width) -> (16, 16)."""
    height, width = (n // CELLS for n in mask.shape)
    shares: npt.NDArray[np.float64] = mask.reshape(CELLS, height, CELLS, width).mean((1, 3))
    return shares


# --- what is removed -------------------------------------------------------------------------------------------------


def shape(rng: np.random.Generator, own: Cells, other: Cells) -> Mask:
    """Cells to remove, bool (rows, cols).

    Args:
        own: (channels, rows, cols) share of each cell that a finding or mark of this film covers.
        other: The same of another film, whose shapes are borrowed.
    """
    evidence = _some_of(rng, own if rng.random() < 0.75 else other)
    kind = rng.random()
    if kind < 0.12:
        return np.ones(own.shape[1:], bool)
    if kind < 0.5:
        return _ranked(rng, evidence)
    if kind < 0.6 or not evidence.any():
        return _turned(rng, _rectangle(rng, own.shape[1:]))
    return _turned(rng, _grown(rng, evidence > 0))


def _some_of(rng: np.random.Generator, cells: Cells) -> Cells:
    """Coverage (rows, cols) by one of a film's channels, by all, or by any choice of them."""
    present = np.flatnonzero(cells.any((1, 2)))
    how = rng.random()
    if how < 0.4 and present.size:
        present = rng.choice(present, 1)
    elif how < 0.8:
        present = present[rng.random(present.size) < 0.5]
    return cells[present].sum(0)


def _turned(rng: np.random.Generator, mask: Mask) -> Mask:
    return mask if rng.random() < 0.5 else ~mask


def _ranked(rng: np.random.Generator, evidence: Cells) -> Mask:
    """The first cells of a random, smooth or evidence-led order, as curves remove them."""
    soft, led = rng.choice(_SOFT), rng.choice(_LED)
    field = ndimage.gaussian_filter(rng.standard_normal(evidence.shape), soft)
    field = field / field.std() + led * ndimage.gaussian_filter(evidence, rng.uniform(0, 1.5))
    gone = np.zeros(field.size, bool)
    gone[np.argsort(-field, axis=None)[: round(rng.random() * field.size)]] = True
    return gone.reshape(field.shape)


def _rectangle(rng: np.random.Generator, grid: tuple[int, ...]) -> Mask:
    mask = np.zeros(grid, bool)
    (top, bottom), (left, right) = (np.sort(rng.integers(0, n + 1, 2)) for n in grid)
    mask[top:bottom, left:right] = True
    return mask


def _grown(rng: np.random.Generator, mask: Mask) -> Mask:
    """With a margin of up to two cells, at times a ragged one."""
    margin = int(rng.integers(0, 3))
    grown = ndimage.binary_dilation(mask, np.ones((3, 3)), margin) if margin else mask
    return mask | (grown & (rng.random(mask.shape) < 0.7)) if rng.random() < 0.3 else grown


def in_sight(cells: Cells, gone: Mask) -> tuple[Mask, Mask]:
    """Which channels are there without these cells, and which are in doubt: twice bool (channels,)."""
    total = cells.sum((1, 2))
    share = (cells * ~gone).sum((1, 2)) / np.maximum(total, 1e-6)
    return (total > 0) & (share >= THERE), (total > 0) & (share > GONE) & (share < THERE)


def draw(rng: np.random.Generator, own: Cells, other: Cells) -> Mask | None:
    """A shape that leaves nothing in doubt on this film, nor on the other; None if a few tries give none."""
    both = np.concatenate([own, other])
    for _ in range(_TRIES):
        gone = shape(rng, own, other)
        if not in_sight(both, gone)[1].any():
            return gone
    return None


def still_true(about: Mapping[str, Any], there: Mapping[str, bool]) -> dict[str, Any]:
    """Findings with the sides, and marks, of which enough is in sight.

    Args:
        about: "findings": name -> "left", "right", "both" or "middle"; "marks": kinds.
        there: Channel ("pneumonia_left", "cardiomegaly", "L", …) -> whether it is.
    """
    findings = {}
    for name, side in about["findings"].items():
        each = {"both": ("left", "right"), "middle": ("middle",)}.get(side, (side,))
        seen = [s for s in each if there[name if s == "middle" else f"{name}_{s}"]]
        if seen:
            findings[name] = seen[0] if len(seen) == 1 else "both"
    return {"findings": findings, "marks": [kind for kind in about["marks"] if there[kind]]}


@dataclass(frozen=True)
class Eraser:
    """Takes cells from a share of the films of a batch.

    Attributes:
        cells: uint8 (films, channels, rows, cols), share covered times 255.
        channels: Their names.
        share: Of films that lose cells.
    """

    cells: npt.NDArray[np.uint8]
    channels: Sequence[str]
    share: float

    def __call__(
        self, rng: np.random.Generator, chosen: npt.NDArray[np.int64], about: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Mapping[str, Any]], dict[str, torch.Tensor]]:
        """What is true of each chosen film now, and what was done to it.

        Returns:
            Findings and marks of each; and "gone" bool (B, rows, cols), "there" bool (B, channels), "stand_in" (B,),
            a place in `STAND_INS`, −1 for a film left whole.
        """
        cells = self.cells[chosen].astype(np.float32) / 255
        gone = np.zeros((len(chosen), *cells.shape[2:]), bool)
        stand_in = np.full(len(chosen), -1)
        for i in np.flatnonzero(rng.random(len(chosen)) < self.share):
            mask = draw(rng, cells[i], cells[rng.integers(len(chosen))])
            if mask is not None:
                gone[i], stand_in[i] = mask, rng.choice(len(STAND_INS), p=_HOW_OFTEN)
        there = np.stack([in_sight(one, mask)[0] for one, mask in zip(cells, gone, strict=True)])
        facts = [
            still_true(about[film], dict(zip(self.channels, seen, strict=True))) if code >= 0 else about[film]
            for film, seen, code in zip(chosen, there.tolist(), stand_in, strict=True)
        ]
        drawn = {"gone": gone, "there": there, "stand_in": stand_in}
        return facts, {name: torch.from_numpy(value) for name, value in drawn.items()}


# --- what stands in for it -------------------------------------------------------------------------------------------
# Pictures (B, 3, height, width) in −1 … 1, cells gone bool (B, rows, cols), share of a cell that is body
# (B, rows, cols) -> pictures.

Fill: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def over_pixels(cells: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """(B, rows, cols) -> (B, 1, height, width)."""
    high, wide = (n // m for n, m in zip(pictures.shape[-2:], cells.shape[-2:], strict=True))
    return cells.repeat_interleave(high, 1).repeat_interleave(wide, 2)[:, None]


def body_mean(pictures: torch.Tensor, gone: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    """The mean inside the body, to the precision of cells."""
    weight = over_pixels(body.to(pictures), pictures)
    mean = (pictures * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp(min=1e-6)
    return mean.expand_as(pictures)


def whole_mean(pictures: torch.Tensor, gone: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    return pictures.mean((2, 3), keepdim=True).expand_as(pictures)


def gray(pictures: torch.Tensor, gone: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    return torch.full_like(pictures, 128 / 127.5 - 1)


@cache
def _blurring(side: int) -> torch.Tensor:
    """Gaussian blur along one axis, mirrored at the edge, as a matrix (side, side)."""
    rows = ndimage.gaussian_filter1d(np.eye(side), SIGMA * side / 224, axis=0, mode="reflect")
    return torch.from_numpy(rows).float()


def blur(pictures: torch.Tensor, gone: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    down, across = (_blurring(side).to(pictures) for side in pictures.shape[-2:])
    return down @ pictures @ across.T


def noisy_linear(pictures: torch.Tensor, gone: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    """Holes filled smoothly from their border, plus noise: ROAD (Rong 2022) but for the solver.

    The linear system is relaxed from coarse to fine instead of solved, which is near enough for training and quick.
    Nothing is left to interpolate where all is gone: then the mean inside the body stands.
    """
    hole = over_pixels(gone, pictures)
    empty = gone.flatten(1).all(1)[:, None, None, None]
    filled = torch.where(empty, body_mean(pictures, gone, body), _relaxed(pictures, (~hole).to(pictures)))
    return filled + NOISE * torch.randn_like(pictures)


def _relaxed(pictures: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Each unknown pixel the weighted mean of its neighbours; first at half the size, where the side allows it."""
    if min(pictures.shape[-2:]) % 2 == 0:
        pool = torch.nn.functional.avg_pool2d
        share = pool(known, 2)
        coarse = pool(pictures * known, 2) / share.clamp(min=1e-6)
        start = torch.nn.functional.interpolate(
            _relaxed(coarse, (share > 0).to(known)), scale_factor=2.0, mode="bilinear"
        )
    else:
        share = known.sum((2, 3), keepdim=True).clamp(min=1)
        start = ((pictures * known).sum((2, 3), keepdim=True) / share).expand_as(pictures)
    found = torch.where(known > 0, pictures, start)
    for _ in range(10):
        found = torch.where(known > 0, pictures, _mean_of_neighbours(found))
    return found


def _mean_of_neighbours(pictures: torch.Tensor) -> torch.Tensor:
    """Straight neighbours weigh 1/6, diagonal ones 1/12; the edge is repeated."""
    weights = torch.tensor([[1.0, 2.0, 1.0], [2.0, 0.0, 2.0], [1.0, 2.0, 1.0]]).to(pictures) / 12
    one = pictures.flatten(0, 1)[:, None]
    padded = torch.nn.functional.pad(one, (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(padded, weights[None, None]).view_as(pictures)


#: Pictures whose cells, or whose image tokens, take the place of the removed ones.
PICTURES: Mapping[str, Fill] = {
    "mean": body_mean,
    "gray": gray,
    "blur": blur,
    "noisy_linear": noisy_linear,
    "whole_mean": whole_mean,
}
#: Stand-in -> how often, in parts of 100; "tokens: …" are put in after the projector.
_PARTS = {
    "mean": 12, "gray": 12, "blur": 24, "noisy_linear": 14, "whole_mean": 4,
    "tokens: own mean": 14, "tokens: zero": 4, "tokens: mean": 4, "tokens: gray": 4, "tokens: blur": 8,
}  # fmt: skip
STAND_INS = tuple(_PARTS)
_HOW_OFTEN = np.array(list(_PARTS.values())) / sum(_PARTS.values())


def erased(name: str, pictures: torch.Tensor, gone: torch.Tensor, body: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 3, height, width) with the removed cells replaced."""
    with torch.autocast(pictures.device.type, enabled=False):
        return torch.where(over_pixels(gone, pictures), PICTURES[name](pictures, gone, body), pictures)


def token_stand_in(
    name: str, core: Any, pictures: torch.Tensor, tokens: torch.Tensor, gone: torch.Tensor, body: torch.Tensor
) -> torch.Tensor:
    """What replaces image tokens (B, N, D): their own mean, zero, or the tokens of the picture that stands in."""
    if name == "own mean":
        return tokens.mean(1, keepdim=True).expand_as(tokens)
    if name == "zero":
        return torch.zeros_like(tokens)
    with torch.no_grad():
        whole = erased(name, pictures, torch.ones_like(gone), body)
        made: torch.Tensor = core.get_image_features(whole).pooler_output
    return made.to(tokens.dtype)


def seen(
    core: Any, pictures: torch.Tensor, batch: Mapping[str, torch.Tensor], body: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image tokens (B, N, D) as the decoder gets them, and the tower's last hidden states (B, N, D_vision).

    Args:
        core: A `Gemma3Model`.
        pictures: (B, 3, height, width) in −1 … 1, whole.
        batch: "gone" and "stand_in" as `Eraser` gives them, on the device of the pictures.
        body: (B, rows, cols), share of each cell that is body.
    """
    gone, shown = batch["gone"], pictures.clone()
    rows = {name: (batch["stand_in"] == code).nonzero()[:, 0] for code, name in enumerate(STAND_INS)}
    for name, at in rows.items():
        if name in PICTURES and len(at):
            shown[at] = erased(name, pictures[at], gone[at], body[at])
    features = core.get_image_features(shown)
    tokens = features.pooler_output
    stand_in = tokens.clone()
    for name, at in rows.items():
        if name not in PICTURES and len(at):
            kind = name.removeprefix("tokens: ")
            stand_in[at] = token_stand_in(kind, core, pictures[at], tokens[at], gone[at], body[at])
    return torch.where(gone.flatten(1)[..., None], stand_in, tokens), features.last_hidden_state


def still_covered(cells: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What the tower can see of each channel: share covered (B, channels, rows, cols).

    Cells that are gone from the picture cover nothing; those whose tokens alone are gone are seen as ever.
    """
    pixels = (batch["stand_in"] >= 0) & (batch["stand_in"] < len(PICTURES))
    hidden = (pixels[:, None, None] & batch["gone"])[:, None]
    absent = (pixels[:, None] & ~batch["there"])[..., None, None]
    return cells.masked_fill(hidden | absent, 0.0)
