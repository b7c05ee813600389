"""From a chest to a film: pose, beam, tone, noise, and the silhouettes of what was put in.

Knows the geometry and the look of a PA radiograph. Does not know which findings are there or why.

Millimetres everywhere. The patient's shape is an affine map, a smooth elastic field, and a bend about the heart that
makes it narrower or wider. Rays run from back to front and spread from a source 1.8 m behind the film.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ct import SPACING, Volume, coarse_spacing
from findings import Chest

SIZE = 512  # pixels a side of the film
ROWS, DEPTHS = 176, 112  # samples along Z and Y before the film's own rows are interpolated
SOURCE_MM = 1800.0
# A finding's mask is where it changes the ray by more than this many millimetres: water added by consolidation and
# fluid, air in the pleural space, muscle of the heart.
VISIBLE_MM = {"pneumonia": 7.0, "pleural_effusion": 12.0, "pneumothorax": 15.0, "cardiomegaly": 12.0}
SKIN_MM = 2.0


def project(
    chest: Chest, pose: dict[str, Any], heart: bool
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Paths through tissue and bone, and through every change.

    Returns:
        tissue, bone: (512, 512) millimetres of water equivalent along each ray.
        changes: channel -> (512, 512) millimetres, "heart" among them if asked for.
    """
    volume = chest.volume
    grid, step = _ray_grid(volume, pose)
    fine = torch.stack([chest.tissue, volume.bone])[None]
    paths = F.grid_sample(fine, grid[None], align_corners=True)[0].sum(2) * step  # (2, ROWS, SIZE)
    channels = dict(chest.changed)
    if heart:
        channels["heart"] = volume.heart
    changes = {}
    if channels:
        thin = grid[:, ::2, ::2]
        stack = torch.stack(list(channels.values()))[None]
        shadows = F.grid_sample(stack, thin[None], align_corners=True)[0].sum(2) * (2 * step)
        shadows = _on_film(shadows, pose, "bilinear")
        changes = dict(zip(channels, shadows, strict=True))
    tissue, bone = _on_film(_crisp(paths), pose, "bicubic")
    return tissue.clamp(min=0), bone.clamp(min=0), changes


def _crisp(paths: torch.Tensor) -> torch.Tensor:
    """Gives back some of the sharpness along Z that 2.5 mm slices took."""
    kernel = torch.tensor([-0.35, 1.7, -0.35], device=paths.device).view(1, 1, 3, 1)
    padded = F.pad(paths[:, None], (0, 0, 1, 1), mode="replicate")
    return F.conv2d(padded, kernel)[:, 0]


def _ray_grid(volume: Volume, pose: dict[str, Any]) -> tuple[torch.Tensor, float]:
    """(ROWS, DEPTHS, SIZE, 3) sampling grid in the volume, and millimetres between samples of a ray."""
    device = volume.device
    shape = volume.tissue.shape
    span = torch.tensor([(n - 1) * s for n, s in zip(shape, SPACING, strict=True)], device=device)
    z, y, x = _film_rays(pose, span, device)
    offsets = _elastic(pose, (ROWS, DEPTHS, SIZE), device)
    z, y, x = z + offsets[0], y + offsets[1], x + offsets[2]
    z, y, x = _around_the_heart(volume, pose, z, y, x)
    z = z.clamp(SPACING[0], float(span[0]) - SPACING[0])  # the scan's last slices go on below and above it
    grid = torch.stack([2 * x / span[2] - 1, 2 * y / span[1] - 1, 2 * z / span[0] - 1], -1)
    return grid, float(span[1]) * 1.06 / DEPTHS / pose["scale"][1]


def _film_rays(pose: dict[str, Any], span: torch.Tensor, device: torch.device) -> list[torch.Tensor]:
    """Where the rays' samples lie in the CT, before the elastic field."""
    high, wide = pose["field_mm"], pose["field_mm"]
    z = torch.linspace(-0.5, 0.5, ROWS, device=device).view(-1, 1, 1) * high
    y = torch.linspace(-0.53, 0.53, DEPTHS, device=device).view(1, -1, 1) * span[1]
    x = torch.linspace(-0.5, 0.5, SIZE, device=device).view(1, 1, -1) * wide
    narrowing = 1 - (0.5 * span[1] - y) / SOURCE_MM * pose["perspective"]
    z, x = z * narrowing, x * narrowing
    yaw, pitch = np.radians(pose["yaw"]), np.radians(pose["pitch"])
    x, y = x * np.cos(yaw) - y * np.sin(yaw), y * np.cos(yaw) + x * np.sin(yaw)
    z, y = z * np.cos(pitch) - y * np.sin(pitch), y * np.cos(pitch) + z * np.sin(pitch)
    scale = pose["scale"]
    return [
        z / scale[0] + pose["centre_mm"][0],
        y / 1.0 + 0.5 * span[1],
        x / scale[2] + 0.5 * span[2] + pose["centre_mm"][1],
    ]


def _elastic(pose: dict[str, Any], size: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """(3, *size) millimetres: random knots, interpolated smoothly; the patient's own."""
    knots = np.random.default_rng(pose["elastic_seed"]).standard_normal((3, 6, 4, 6), dtype=np.float32)
    coarse = F.interpolate(torch.from_numpy(knots)[None], size=(22, 14, 32), mode="trilinear", align_corners=True)
    coarse = F.avg_pool3d(F.pad(coarse, (3, 3, 2, 2, 3, 3), mode="replicate"), (7, 5, 7), 1)
    amplitude = torch.tensor(pose["elastic_mm"]).view(1, 3, 1, 1, 1)
    return F.interpolate((coarse * amplitude).to(device), size=size, mode="trilinear", align_corners=True)[0]


def _around_the_heart(
    volume: Volume, pose: dict[str, Any], z: torch.Tensor, y: torch.Tensor, x: torch.Tensor
) -> list[torch.Tensor]:
    """Magnifies the heart by `pose["heart"]` about a point near its right border, fading out at the wall."""
    middle = volume.heart_centre
    centre = (middle[0] + 12, middle[1], middle[2] - pose["heart_anchor_mm"])
    dz, dy, dx = z - centre[0], y - centre[1], x - centre[2]
    reach = torch.where(dx > 0, 128.0, 105.0)
    distance = ((dx / reach) ** 2 + (dz / 95) ** 2 + (dy / 105) ** 2).sqrt()
    ramp = torch.clamp((1 - distance) / 0.4, 0, 1)
    plateau = ramp * ramp * (3 - 2 * ramp)
    shrink = 1 + (1 / pose["heart"] - 1) * plateau
    upright = 1 + (1 / pose["heart"] - 1) * 0.45 * plateau
    return [centre[0] + dz * upright, centre[1] + dy * upright, centre[2] + dx * shrink]


def _on_film(paths: torch.Tensor, pose: dict[str, Any], mode: str) -> torch.Tensor:
    """(C, rows, columns) -> (C, 512, 512), rolled in the film's plane."""
    roll = np.radians(pose["roll"])
    matrix = torch.tensor([[[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0]]], dtype=torch.float32)
    grid = F.affine_grid(matrix, [1, 1, SIZE, SIZE], align_corners=True).to(paths.device)
    return F.grid_sample(paths[None], grid, mode=mode, padding_mode="border", align_corners=True)[0]


def develop(tissue: torch.Tensor, bone: torch.Tensor, look: dict[str, Any]) -> torch.Tensor:
    """(512, 512) paths in millimetres -> brightness 0..1 as a digital film shows it.

    Broad differences are compressed and detail is raised, as film processors do; the tone curve bends but never clips
    inside the body.
    """
    path = tissue + look["bone"] * bone
    body = (tissue > SKIN_MM).float()
    broad = _blur(path, 28) / _blur(body, 28).clamp(min=0.15) * body
    middle = _blur(path, 5)
    detail = path - _blur(path, 1.6)
    lifted = path - look["compress"] * (broad - 150.0) * body
    lifted = lifted + look["local"] * (path - middle) + look["detail"] * detail
    value = (lifted - look["dark_mm"]) / (look["light_mm"] - look["dark_mm"])
    bent = torch.sigmoid(look["contrast"] * (value - 0.5))
    low, high = (1 / (1 + np.exp(-look["contrast"] * (p - 0.5))) for p in (-0.32, 1.35))
    return ((bent - low) / (high - low)).clamp(0, 1) * body + 0.0


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur with edges repeated; wide ones at a quarter of the size."""
    if sigma > 8:
        small = F.avg_pool2d(image[None, None], 4)
        wide = _blur(small[0, 0], sigma / 4)
        return F.interpolate(wide[None, None], size=image.shape, mode="bilinear")[0, 0]
    reach = int(3 * sigma + 1)
    offsets = torch.arange(-reach, reach + 1, device=image.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(image[None, None], [reach] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


__all__ = ["SIZE", "SKIN_MM", "VISIBLE_MM", "coarse_spacing", "develop", "project"]
