"""How a film is disturbed by a known amount: grain, exposure, blur, compression, a slight move, a mark, a few pixels.

Knows 8-bit pictures, and for those that are moved where each point went. Knows no model, no answer and no finding: what
a mark must not cover is the caller's business (`avoid`). Every strength has a unit, 0 is always the picture itself, and
the same seed gives the same bytes. For one seed, grain and changed pixels keep their pattern as the strength grows.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from medgemma_visualizer.data.marks import SMALLEST_FILM, Mask, plant
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.grid import finite_map
from medgemma_visualizer.registry import Registry

Film = npt.NDArray[np.float64]  # (H, W, 1 | 3), grey levels; floats, as 8-bit numbers wrap round when added to
#: (film, strength, what chance decides, what a mark must not cover) -> a new film, not yet rounded or clipped.
Act = Callable[[Film, float, np.random.Generator, Mask | None], Film]
PlainAct = Callable[[Film, float], Film]
#: (strength, height, width) -> where the points go.
Move = Callable[[float, int, int], "Motion"]

#: Side of the square in whose pixels blur and changed pixels are counted, whatever the film's size.
SIDE = 224
WHITE = 255
_FINE = 8  # points along each side of a cell at which a moved map is read


@dataclass(frozen=True)
class Motion:
    """Where the points of a film went.

    Attributes:
        matrix: float64 (3, 3): (x, y, 1) of the undisturbed film -> the same of the disturbed one, both in shares of
            width and height from the upper left, so it serves films and grids of any size.
    """

    matrix: np.ndarray = field(repr=False)

    @property
    def inverse(self) -> Motion:
        """The way back."""
        return Motion(np.linalg.inv(self.matrix))

    def back(self, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A map of the disturbed film, in the frame of the undisturbed one.

        Each cell takes the mean of what lies over the part of it that is still in the frame.

        Args:
            grid: (rows, cols) over the disturbed film.

        Returns:
            float64 (rows, cols), 0 where nothing of a cell is left; and bool (rows, cols), False for cells of which
            more than half left the frame, which nobody may compare.

        Raises:
            InputError: Not a finite map.
        """
        values = finite_map(grid)
        rows, cols = values.shape
        there = self._fine_points(rows, cols)
        inside = ((there >= 0) & (there < 1)).all(0)
        across, down = (np.clip((there[n] * size).astype(int), 0, size - 1) for n, size in ((0, cols), (1, rows)))
        blocks = (rows, _FINE, cols, _FINE)
        total = np.where(inside, values[down, across], 0).reshape(blocks).sum((1, 3))
        count = inside.reshape(blocks).sum((1, 3))
        return total / np.maximum(count, 1), count >= _FINE**2 / 2

    def _fine_points(self, rows: int, cols: int) -> np.ndarray:
        """Where points spread evenly over all cells went, in shares: (2, rows · fine, cols · fine), x before y."""
        y, x = ((np.arange(n * _FINE) + 0.5) / (n * _FINE) for n in (rows, cols))
        points = np.stack([*np.meshgrid(x, y), np.ones((y.size, x.size))])
        return np.tensordot(self.matrix[:2], points, axes=1)


@dataclass(frozen=True)
class Disturbed:
    """A disturbed film.

    Attributes:
        image: Of the original's mode and size.
        motion: Where its points went; None where they stayed in place.
    """

    image: Image.Image
    motion: Motion | None = None


@dataclass(frozen=True)
class Perturbation:
    """One way to disturb a film.

    Attributes:
        label: For people.
        unit: Of the strength; 0 is no change, and a larger magnitude is more of it.
        ladder: Strengths that are tried by default.
        limits: The smallest and largest strength that mean something, both included.
        apply: (image, strength, what chance decides, what a mark must not cover) -> a new picture; see `perturb`.
        seeded: True where chance has a part; otherwise every seed gives the same picture.
        whole: True where only whole numbers are strengths.
    """

    label: str
    unit: str
    ladder: tuple[float, ...]
    limits: tuple[float, float]
    apply: Callable[[Image.Image, float, np.random.Generator, Mask | None], Disturbed]
    seeded: bool = False
    whole: bool = False

    def refuse(self, strength: float) -> None:
        """Raises where a strength means nothing.

        Raises:
            InputError: Outside the limits, not a number, or not whole where only whole numbers count.
        """
        low, high = self.limits
        if not low <= strength <= high or (self.whole and strength != int(strength)):
            kind = "a whole number" if self.whole else "a number"
            known = f"give {kind} from {low:g} to {high:g} ({self.unit})"
            raise InputError(f"{self.label} cannot have the strength {strength:g}; {known}.")


#: Every way to disturb a film, by name.
PERTURBATIONS: Registry[Perturbation] = Registry("perturbation")


def perturb(image: Image.Image, name: str, strength: float, seed: int = 0, avoid: Mask | None = None) -> Disturbed:
    """A film disturbed by a known amount; the original is never written.

    Args:
        image: 8-bit grey ("L") or RGB, of any size. Grey films in RGB stay grey.
        name: Of `PERTURBATIONS`.
        strength: In the perturbation's own unit; 0 gives an equal picture.
        seed: Not negative; matters to perturbations that are `seeded`.
        avoid: bool (height, width), where a mark must not lie; other perturbations do not read it.

    Returns:
        The new picture, of the same mode and size, and where its points went, which brings a map of it back into the
        original's frame (`Motion.back`).

    Raises:
        InputError: Another kind of picture, an unknown name, a strength or seed out of range, a mask of another size.
        UnavailableError: The film has no room for it: no place for a mark is clear of `avoid`, or there are too few
            pixels.
    """
    entry = PERTURBATIONS[name]
    entry.refuse(strength)
    _check(image, seed, avoid)
    if strength == 0:
        return Disturbed(image.copy())
    return entry.apply(image, float(strength), np.random.default_rng((seed, 6)), avoid)


def _check(image: Image.Image, seed: int, avoid: Mask | None) -> None:
    if image.mode not in ("L", "RGB"):
        raise InputError(f"A picture of mode {image.mode!r} cannot be disturbed; convert it to 'L' or 'RGB' first.")
    if seed < 0:
        raise InputError(f"The seed {seed} is negative; give 0 or more.")
    size = (image.height, image.width)
    if avoid is not None and (avoid.shape != size or avoid.dtype != bool):
        raise InputError(
            f"The mask to avoid is {avoid.dtype} {avoid.shape}, the film {size}; give a bool mask of the film's size."
        )


def _by_chance(name: str, **about: Any) -> Callable[[Act], Act]:
    """Registers what changes levels by chance; `about` as in `Perturbation`."""

    def added(act: Act) -> Act:
        def apply(image: Image.Image, strength: float, rng: np.random.Generator, avoid: Mask | None) -> Disturbed:
            film = np.array(image, np.float64).reshape(image.height, image.width, -1)  # a copy
            return Disturbed(_as_image(act(film, strength, rng, avoid)))

        PERTURBATIONS.add(name, Perturbation(**({"seeded": True} | about), apply=apply))
        return act

    return added


def _by_rule(name: str, **about: Any) -> Callable[[PlainAct], PlainAct]:
    """Registers what changes levels the same way every time."""

    def added(act: PlainAct) -> PlainAct:
        _by_chance(name, seeded=False, **about)(lambda film, strength, rng, avoid: act(film, strength))
        return act

    return added


def _by_moving(name: str, **about: Any) -> Callable[[Move], Move]:
    """Registers what moves the film as a whole; black comes in from beyond its edge."""

    def added(move: Move) -> Move:
        def apply(image: Image.Image, strength: float, rng: np.random.Generator, avoid: Mask | None) -> Disturbed:
            motion = move(strength, image.height, image.width)
            return Disturbed(_moved(image, motion), motion)

        PERTURBATIONS.add(name, Perturbation(**about, apply=apply))
        return move

    return added


def _levels(film: Film) -> npt.NDArray[np.uint8]:
    """Rounded, and clipped to black and white."""
    return np.clip(np.rint(film), 0, WHITE).astype(np.uint8)


def _as_image(film: Film) -> Image.Image:
    levels = _levels(film)
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def _moved(image: Image.Image, motion: Motion) -> Image.Image:
    """Read at pixel centres between the four nearest; black beyond the edge."""
    to_pixels = np.diag([image.width, image.height, 1.0])
    back = to_pixels @ motion.inverse.matrix @ np.linalg.inv(to_pixels)
    black = 0 if image.mode == "L" else (0, 0, 0)
    data = tuple(float(value) for value in back[:2].ravel())
    return image.transform(
        image.size, Image.Transform.AFFINE, data, resample=Image.Resampling.BILINEAR, fillcolor=black
    )


def _about_centre(matrix: np.ndarray) -> Motion:
    there = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return Motion(there @ matrix @ np.linalg.inv(there))


# --- levels ----------------------------------------------------------------------------------------------------------


@_by_chance(
    "gaussian_noise", label="Gaussian noise", unit="σ in grey levels", ladder=(2, 5, 10, 20, 40), limits=(0, 255)
)
def gaussian_noise(film: Film, sigma: float, rng: np.random.Generator, avoid: Mask | None) -> Film:
    """The same noise in every channel: a film's grain has no colour."""
    return film + sigma * rng.standard_normal((*film.shape[:2], 1))


@_by_rule(
    "contrast",
    label="Contrast",
    unit="% more contrast",
    ladder=(-40, -20, -10, 10, 20, 40),
    limits=(-100, 400),
)
def contrast(film: Film, percent: float) -> Film:
    """About the picture's own mean level, so that its brightness stays, but for clipping."""
    middle = film.mean()
    return middle + (1 + percent / 100) * (film - middle)


@_by_rule(
    "brightness",
    label="Brightness",
    unit="grey levels added",
    ladder=(-40, -20, -10, 10, 20, 40),
    limits=(-255, 255),
)
def brightness(film: Film, levels: float) -> Film:
    """Every level by the same amount, clipped to black and white."""
    return film + levels


@_by_rule(
    "gamma",
    label="Gamma",
    unit="doublings of γ",
    ladder=(-1, -0.5, -0.25, 0.25, 0.5, 1),
    limits=(-4, 4),
)
def gamma(film: Film, doublings: float) -> Film:
    """Levels as shares of white to the power of γ = 2 ** strength: above 0 darker, black and white stay."""
    return WHITE * (film / WHITE) ** 2.0**doublings


@_by_rule("blur", label="Blur", unit="σ in pixels at 224 × 224", ladder=(0.5, 1, 2, 4), limits=(0, 56))
def blur(film: Film, sigma: float) -> Film:
    """Gaussian, in pixels of a model's square view; levels go on unchanged beyond the edge."""
    height, width, _ = film.shape
    spread = (sigma * height / SIDE, sigma * width / SIDE, 0)
    return gaussian_filter(film, spread, mode="nearest")


@_by_rule("jpeg", label="JPEG", unit="100 - quality", ladder=(10, 30, 50, 70, 90), limits=(0, 99), whole=True)
def jpeg(film: Film, lost: float) -> Film:
    """Written as JPEG at the quality 100 - strength and read again; strength 0 is not compressed at all."""
    written = io.BytesIO()
    _as_image(film).save(written, "JPEG", quality=100 - int(lost))
    with Image.open(written) as image:
        return np.array(image, np.float64).reshape(film.shape)


@_by_rule(
    "window_centre",
    label="Window centre",
    unit="% of the film's range upwards",
    ladder=(-20, -10, 10, 20),
    limits=(-95, 95),
)
def window_centre(film: Film, percent: float) -> Film:
    """The window's centre moved; its width is the film's range from the darkest to the brightest level."""
    return _windowed(film, 0.0, percent / 100)


@_by_rule(
    "window_width",
    label="Window width",
    unit="% of the film's range narrower",
    ladder=(-20, -10, 10, 20, 40),
    limits=(-400, 95),
)
def window_width(film: Film, percent: float) -> Film:
    """The window narrowed about the middle of the film's range; below 0 it is widened."""
    return _windowed(film, percent / 100, 0.0)


def _windowed(film: Film, narrower: float, moved: float) -> Film:
    """Levels seen through a window of the film's own range, narrowed and moved by shares of that range.

    The film's darkest and brightest levels stay the darkest and brightest that there are.
    """
    low, high = float(film.min()), float(film.max())
    middle = (low + high) / 2
    return np.clip((film - middle - moved * (high - low)) / (1 - narrower) + middle, low, high)


@_by_chance(
    "marker", label="Side marker", unit="height in % of the shorter side", ladder=(4, 8, 12, 16), limits=(0, 50)
)
def marker(film: Film, percent: float, rng: np.random.Generator, avoid: Mask | None) -> Film:
    """A side marker (L or R) at a random place, clear of `avoid`."""
    if min(film.shape[:2]) < SMALLEST_FILM:
        raise UnavailableError(f"A film under {SMALLEST_FILM} pixels a side has no room for a marker.")
    kind = str(rng.choice(["L", "R"]))
    planted = [  # each channel with the same draws: where and how a mark is drawn does not depend on the film
        plant(np.ascontiguousarray(channel), kind, copy.deepcopy(rng), size=percent / 100, avoid=avoid)
        for channel in np.moveaxis(_levels(film), 2, 0)
    ]
    if avoid is not None and (planted[0][1] & avoid).any():
        raise UnavailableError(f"A mark of {percent:g} % of the shorter side finds no place clear of the finding.")
    return np.stack([marked for marked, _ in planted], axis=2).astype(np.float64)


@_by_chance(
    "pixels",
    label="Single pixels",
    unit="pixels at 224 × 224",
    ladder=(1, 10, 100, 1000),
    limits=(0, SIDE * SIDE),
    whole=True,
)
def single_pixels(film: Film, count: float, rng: np.random.Generator, avoid: Mask | None) -> Film:
    """Random pixels set to black or white; a larger count changes the same pixels and more."""
    height, width, _ = film.shape
    rows, cols = min(SIDE, height), min(SIDE, width)
    if count > rows * cols:
        raise UnavailableError(f"A film of {height} × {width} pixels has no {count:g} pixels to change.")
    chosen = rng.permutation(rows * cols)[: int(count)]
    white = rng.integers(2, size=rows * cols).astype(bool)
    changed = film.copy()
    for cell in chosen:
        row, col = divmod(int(cell), cols)
        down = slice(row * height // rows, (row + 1) * height // rows)
        changed[down, col * width // cols : (col + 1) * width // cols] = WHITE if white[cell] else 0
    return changed


# --- moves -----------------------------------------------------------------------------------------------------------


@_by_moving("rotation", label="Rotation", unit="degrees anticlockwise", ladder=(-5, -2, -1, 1, 2, 5), limits=(-45, 45))
def rotation(degrees: float, height: int, width: int) -> Motion:
    """About the film's centre, as seen on the screen (y grows downwards)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    to_shares = np.diag([1 / width, 1 / height, 1])
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return _about_centre(to_shares @ turn @ np.linalg.inv(to_shares))


@_by_moving(
    "shift_x", label="Shift sideways", unit="% of the width to the right", ladder=(-5, -2, 2, 5), limits=(-99, 99)
)
def shift_x(percent: float, height: int, width: int) -> Motion:
    """To the right on the screen; below 0 to the left."""
    return Motion(np.array([[1, 0, percent / 100], [0, 1, 0], [0, 0, 1]]))


@_by_moving(
    "shift_y", label="Shift in height", unit="% of the height downwards", ladder=(-5, -2, 2, 5), limits=(-99, 99)
)
def shift_y(percent: float, height: int, width: int) -> Motion:
    """Downwards; below 0 upwards."""
    return Motion(np.array([[1, 0, 0], [0, 1, percent / 100], [0, 0, 1]]))


@_by_moving("crop", label="Crop or pad", unit="% of each side cropped", ladder=(-10, -5, 5, 10), limits=(-100, 90))
def crop(percent: float, height: int, width: int) -> Motion:
    """What is left in the middle fills the frame again; below 0 the film shrinks within a black surround."""
    enlarged = 1 / (1 - percent / 100)
    return _about_centre(np.diag([enlarged, enlarged, 1]))
