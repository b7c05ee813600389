"""What disease does to the volume: consolidation, fluid, air around the lung, a wide heart.

Knows anatomy and attenuation only. Each function takes the state of a chest and the numbers of one finding, changes the
attenuation, and reports how much tissue was put in or taken out per voxel, on the coarse grid. Where that projects to
something one can see is decided in `projection`. The wide heart is a bend of space and so lives in `projection` too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ct import COARSE, SPACING, Volume, coarse_spacing

FLUID, CONSOLIDATED = 1.01, 0.98  # attenuation relative to water
AIR_IN_PLEURA = 0.0


@dataclass
class Chest:
    """A volume being changed: attenuation, and what each finding changed.

    Attributes:
        tissue: (Z, Y, X), a copy of the volume's own once something is changed.
        lung: side -> (Z, Y, X) share of the voxel that is lung.
        changed: channel -> coarse (Z, Y, X), absolute change of attenuation (water = 1).
    """

    volume: Volume
    tissue: torch.Tensor
    lung: dict[str, torch.Tensor]
    changed: dict[str, torch.Tensor] = field(default_factory=dict)

    def fill(self, side: str, share: torch.Tensor, attenuation: float) -> torch.Tensor:
        """Replaces `share` (Z, Y, X) of the lung's voxels by a substance; returns the absolute change, coarse."""
        covered = (2 * F.max_pool3d(self.lung[side][None, None], 3, 1, 1)[0, 0]).clamp(max=1)  # up to its very rim
        delta = share * covered * (attenuation - self.tissue).clamp(min=0)
        self.tissue = self.tissue + delta
        return coarse_mean(delta.abs())


def coarse_mean(values: torch.Tensor) -> torch.Tensor:
    """(Z, Y, X) averaged on to the coarse grid."""
    return F.avg_pool3d(values[None, None], COARSE)[0, 0]


def fine(values: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Coarse (Z, Y, X) interpolated to the volume's grid."""
    return F.interpolate(values[None, None], size=tuple(shape), mode="trilinear")[0, 0]


def smooth_noise(seed: int, cell_mm: float, like: torch.Tensor) -> torch.Tensor:
    """Zero-mean unit-variance noise on the coarse grid, smooth over about `cell_mm`, the same on every device."""
    cells = [max(round(n * s / cell_mm), 2) + 3 for n, s in zip(like.shape, coarse_spacing(), strict=True)]
    knots = np.random.default_rng(seed).standard_normal(cells, dtype=np.float32)
    noise = F.interpolate(torch.from_numpy(knots).to(like.device)[None, None], size=tuple(like.shape), mode="trilinear")
    return noise[0, 0] / 0.55  # trilinear interpolation keeps about .55 of the spread


def coordinates(like: torch.Tensor) -> list[torch.Tensor]:
    """Millimetres of the coarse grid along Z, Y, X, shaped to broadcast."""
    axes = [torch.arange(n, device=like.device) * s for n, s in zip(like.shape, coarse_spacing(), strict=True)]
    return [axis.view([-1 if i == j else 1 for j in range(3)]) for i, axis in enumerate(axes)]


def insert_pneumonia(chest: Chest, side: str, numbers: dict[str, Any]) -> None:
    """Consolidation: blobs with ragged edges and branching air bronchograms.

    `blobs` holds [where, radius]: `where` in 0..1 walks the visible lung from the apex to the base.
    """
    volume = chest.volume
    lung = volume.coarse_lung[side]
    z, y, x = coordinates(lung)
    field_ = torch.full_like(lung, -9.0)
    for where, radius in numbers["blobs"]:
        centre = volume.seeds[side][min(int(where * len(volume.seeds[side])), len(volume.seeds[side]) - 1)]
        distance = ((z - centre[0]) ** 2 + (0.75 * (y - centre[1])) ** 2 + (x - centre[2]) ** 2).sqrt()
        field_ = torch.maximum(field_, 2.2 * (1 - distance / radius))
    ragged = 0.55 * smooth_noise(numbers["noise"], 26, lung) + 0.35 * smooth_noise(numbers["noise"] + 1, 10, lung)
    share = torch.sigmoid(3.0 * (field_ + ragged)) * numbers["density"]
    first, second = (smooth_noise(numbers["noise"] + k, 13, lung) for k in (2, 3))
    bronchi = torch.exp(-(first**2 + second**2) / 0.02)  # where two level surfaces cross, tubes run
    share = share * (1 - 0.9 * bronchi)
    chest.changed[f"pneumonia_{side}"] = chest.fill(side, fine(share, chest.tissue.shape), CONSOLIDATED)


def insert_effusion(chest: Chest, side: str, numbers: dict[str, Any]) -> None:
    """Fluid up to `level` mm above the costophrenic angle, climbing `climb` mm up the wall (0: level)."""
    volume = chest.volume
    surface = numbers["level"] + numbers["climb"] * torch.exp(-volume.wall[side] / numbers["spread"])
    share = torch.sigmoid((surface - volume.height[side]) / (1.5 + 0.08 * numbers["climb"]))
    inside = fine(share, chest.tissue.shape)
    channel = f"pleural_effusion_{side}"
    chest.changed[channel] = chest.fill(side, inside, FLUID)
    for other in chest.changed:  # fluid hides what it replaces
        if other in (f"pneumonia_{side}", f"pneumothorax_{side}"):
            chest.changed[other] = chest.changed[other] * (1 - share)


def insert_pneumothorax(chest: Chest, side: str, numbers: dict[str, Any]) -> None:
    """The lung shrinks towards its root, most at the apex; a thin pleura bounds it; air fills the rest."""
    space = chest.lung[side]
    box = _bounding_box(space)
    grid = _retracted_grid(chest.volume, side, numbers, box, space.shape)
    pneumonia = chest.changed.get(f"pneumonia_{side}")
    stack = torch.stack([chest.tissue, space])[None]
    tissue, lung = F.grid_sample(stack, grid, align_corners=True, padding_mode="border")[0]
    inner = (2 * lung).clamp(0, 1)
    edge = 4 * lung.clamp(0, 1) * (1 - lung.clamp(0, 1))
    beside_air = F.avg_pool3d((space[box] * (1 - inner))[None, None], (5, 3, 9), 1, (2, 1, 4))[0, 0]
    edge = edge * (4 * (beside_air - 0.2)).clamp(0, 1)  # no pleura shows where the lung still lies on the diaphragm
    squeezed = (tissue * numbers["squeeze"]).clamp(max=1.0)
    content = inner * squeezed + (1 - inner) * AIR_IN_PLEURA + edge * numbers["pleura"]
    before = chest.tissue[box]
    after = before + space[box] * (content - before)
    chest.tissue = chest.tissue.clone()
    chest.tissue[box] = after
    rim = torch.zeros_like(space)
    rim[box] = space[box] * (1 - inner)
    if pneumonia is not None:
        moved = torch.zeros_like(space)
        source = fine(pneumonia, space.shape)[None, None]
        moved[box] = F.grid_sample(source, grid, align_corners=True)[0, 0] * inner
        chest.changed[f"pneumonia_{side}"] = coarse_mean(moved)
    chest.changed[f"pneumothorax_{side}"] = coarse_mean(rim)
    chest.changed[f"space_{side}"] = coarse_mean(space)


def _bounding_box(mask: torch.Tensor) -> tuple[slice, slice, slice]:
    occupied = (mask > 0.01).nonzero()
    low, high = occupied.amin(0).tolist(), occupied.amax(0).tolist()
    return tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))  # type: ignore[return-value]


def _retracted_grid(
    volume: Volume, side: str, numbers: dict[str, Any], box: tuple[slice, slice, slice], shape: torch.Size
) -> torch.Tensor:
    """(1, z, y, x, 3) sampling grid over the box: where each point of the shrunken lung was before.

    The lung keeps `base` of its width at the bottom and `apex` at the top, measured from its root, where it is held.
    """
    device = volume.device
    z, y, x = (
        (torch.arange(b.start, b.stop, device=device) * s).view([-1 if i == j else 1 for j in range(3)])
        for i, (b, s) in enumerate(zip(box, SPACING, strict=True))
    )
    top, bottom = box[0].start * SPACING[0], box[0].stop * SPACING[0]
    rise = ((bottom - z) / (bottom - top)).clamp(0, 1)
    keep = numbers["base"] + (numbers["apex"] - numbers["base"]) * rise ** numbers["bow"]
    root = volume.hilum[side]
    source = (
        root[0] + (z - root[0]) / torch.where(z < root[0], 0.4 + 0.6 * keep, torch.ones_like(keep)),
        root[1] + (y - root[1]) / (0.8 + 0.2 * keep),
        root[2] + (x - root[2]) / torch.where((x > root[2]) == (side == "left"), keep, 1.0),
    )
    span = [(n - 1) * s for n, s in zip(shape, SPACING, strict=True)]
    size = [b.stop - b.start for b in box]
    parts = [(2 * c / n - 1).expand(size) for c, n in zip(reversed(source), reversed(span), strict=True)]
    return torch.stack(parts, -1)[None]
