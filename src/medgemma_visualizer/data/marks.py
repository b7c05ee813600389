"""Known evidence planted on a film: side-marker letters, arrows, a pacemaker.

Knows how such marks look and exactly which pixels they touch. Knows no anatomy: where a mark may lie so as not to cover
a finding is the caller's business (`avoid`). Works on films of any size; all sizes are shares of the shorter side.

The marks are drawn four times too large and averaged down, so the mask is every pixel the mark touches, smooth rim
included: outside the mask the film is unchanged, bit for bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from medgemma_visualizer.errors import InputError

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Place = tuple[float, float]

KINDS = ("L", "R", "arrow", "pacemaker")
LETTER_STYLES = ("sans", "serif", "mono", "plain", "strokes", "boxed", "circled", "inverse")
ARROW_STYLES = ("filled", "open", "head", "dark")
DEVICE_STYLES = ("one lead", "two leads", "one lead, mirrored", "two leads, mirrored")
SMALLEST_FILM = 64  # pixels a side, on which a mark can still be told
_OVER = 4  # drawn this many times too large
_TRIES = 60
_SIZES = {"L": (0.06, 0.115), "R": (0.06, 0.115), "arrow": (0.09, 0.17), "pacemaker": (0.10, 0.14)}
_FONT_FILES = {"sans": "DejaVuSans-Bold.ttf", "serif": "DejaVuSerif-Bold.ttf", "mono": "DejaVuSansMono-Bold.ttf"}


def plant(
    image: Grey,
    kind: str,
    rng: np.random.Generator,
    place: Place | None = None,
    size: float | None = None,
    style: str | None = None,
    avoid: Mask | None = None,
) -> tuple[Grey, Mask]:
    """Draws one mark on a copy of a film.

    Args:
        image: (H, W) uint8 film; never written to.
        kind: one of `KINDS`.
        rng: decides all that is not given.
        place: centre of the mark as (row, column) shares of height and width, each 0..1; random if not given.
        size: height of a letter, length of an arrow, height of a can, as a share of the shorter side; random if not
            given (letters .06 to .115, so 31 to 59 pixels at 512).
        style: one of the kind's styles; random if not given.
        avoid: (H, W) True where a randomly placed mark should not lie; the least covered of many places wins.

    Returns:
        The film with the mark (H, W) uint8, and the mask (H, W) of every pixel the mark touches.

    Raises:
        InputError: for anything but a two-dimensional uint8 film of at least 64 pixels a side, an unknown kind or
            style, or a place or size out of range.
    """
    _check(image, kind, place, size, style, avoid)
    short = min(image.shape)
    low, high = _SIZES[kind]
    size = float(rng.uniform(low, high)) if size is None else size
    styles = styles_of(kind)
    style = str(rng.choice(styles)) if style is None else style
    ink, cover = _DRAW[kind](kind, style, max(size * short, 6.0), rng)
    corner = _corner(image.shape, cover, place, avoid, rng)
    return _blended(image, ink, cover, corner)


def styles_of(kind: str) -> tuple[str, ...]:
    """Names of the styles a kind of mark comes in."""
    if kind in ("L", "R"):
        return LETTER_STYLES
    return ARROW_STYLES if kind == "arrow" else DEVICE_STYLES


def _check(
    image: Grey, kind: str, place: Place | None, size: float | None, style: str | None, avoid: Mask | None
) -> None:
    if image.ndim != 2 or image.dtype != np.uint8 or min(image.shape) < SMALLEST_FILM:
        raise InputError(
            f"A mark needs a grey uint8 film of at least 64 x 64 pixels, not {image.dtype} {image.shape}; convert it."
        )
    if kind not in KINDS:
        raise InputError(f"There is no mark {kind!r}; choose one of {', '.join(KINDS)}.")
    if style is not None and style not in styles_of(kind):
        raise InputError(f"A mark {kind!r} has no style {style!r}; choose one of {', '.join(styles_of(kind))}.")
    if place is not None and not all(0 <= share <= 1 for share in place):
        raise InputError(f"A mark's place {place} must be two shares of height and width; give numbers from 0 to 1.")
    if size is not None and not 0 < size <= 0.5:
        raise InputError(f"A mark's size {size} must be a share of the shorter side; give a number over 0, up to 0.5.")
    if avoid is not None and avoid.shape != image.shape:
        raise InputError(f"The mask to avoid is {avoid.shape} but the film {image.shape}; give one of the film's size.")


# --- where -----------------------------------------------------------------------------------------------------------


def _corner(
    shape: tuple[int, ...],
    cover: npt.NDArray[np.float32],
    place: Place | None,
    avoid: Mask | None,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Top left pixel of the mark, wholly inside the film if it fits."""
    room = [max(side - extent, 0) for side, extent in zip(shape, cover.shape, strict=True)]
    if place is not None:
        wanted = (round(p * s - e / 2) for p, s, e in zip(place, shape, cover.shape, strict=True))
        row, column = (int(np.clip(w, 0, r)) for w, r in zip(wanted, room, strict=True))
        return row, column
    places = rng.integers(0, [r + 1 for r in room], size=(_TRIES, 2))
    if avoid is None:
        return int(places[0, 0]), int(places[0, 1])
    height, width = cover.shape
    covered = [int(avoid[r : r + height, c : c + width].sum()) for r, c in places]
    row, column = places[int(np.argmin(covered))]
    return int(row), int(column)


def _blended(
    image: Grey, ink: npt.NDArray[np.float32], cover: npt.NDArray[np.float32], corner: tuple[int, int]
) -> tuple[Grey, Mask]:
    """Lays ink (0..255) over the film where cover (0..1) says; parts beyond the film's edge are lost."""
    out, mask = image.copy(), np.zeros(image.shape, bool)
    window = tuple(slice(c, min(c + e, s)) for c, e, s in zip(corner, cover.shape, image.shape, strict=True))
    kept = tuple(slice(0, w.stop - w.start) for w in window)
    share, colour = cover[kept], ink[kept]
    out[window] = np.round(image[window] * (1 - share) + colour * share).astype(np.uint8)
    mask[window] = share > 0
    return out, mask


# --- what ------------------------------------------------------------------------------------------------------------

Drawn = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def _reduced(ink: Image.Image, cover: Image.Image) -> Drawn:
    """Averages a large drawing down; ink is the mean over the covered part only."""
    small = []
    cover_large = np.asarray(cover, np.float32) / 255
    ink_large = np.asarray(ink, np.float32) * cover_large
    for large in (ink_large, cover_large):
        rows, columns = (side // _OVER * _OVER for side in large.shape)
        blocks = large[:rows, :columns].reshape(rows // _OVER, _OVER, columns // _OVER, _OVER)
        small.append(blocks.mean((1, 3)))
    share = small[1]
    share[share < 0.02] = 0
    return (small[0] / np.maximum(share, 1e-6)).astype(np.float32), share.astype(np.float32)


def _canvas(height: float, width: float) -> tuple[Image.Image, Image.Image]:
    size = (int(np.ceil(width)) * _OVER, int(np.ceil(height)) * _OVER)
    return Image.new("L", size, 0), Image.new("L", size, 0)


@functools.lru_cache(maxsize=256)
def _font(style: str, pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A DejaVu face where matplotlib brings it, else Pillow's own."""
    if style in _FONT_FILES:
        try:
            import matplotlib
        except ImportError:
            return ImageFont.load_default(pixels)
        return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / _FONT_FILES[style]), pixels)
    return ImageFont.load_default(pixels)


def _letter_shape(letter: str, style: str, height: int, stroke: float) -> Image.Image:
    """The letter alone, cropped, `height` pixels high (already enlarged), as a mask 0..255."""
    if style == "strokes":
        return _stroked(letter, height, stroke)
    face = {"boxed": "sans", "circled": "serif", "inverse": "sans"}.get(style, style)
    font = _font(face, max(round(height * 1.37), 8))
    sheet = Image.new("L", (height * 2, height * 2), 0)
    ImageDraw.Draw(sheet).text((height // 3, height // 6), letter, fill=255, font=font, stroke_width=height // 40)
    shape = sheet.crop(sheet.getbbox())
    return shape.resize((max(round(shape.width * height / shape.height), 2), height), Image.Resampling.BILINEAR)


def _stroked(letter: str, height: int, stroke: float) -> Image.Image:
    """Letters bent from wire, as lead markers often are."""
    pen = max(round(height * stroke), 3)
    width = round(height * 0.68)
    sheet = Image.new("L", (width + pen, height), 0)
    draw, half = ImageDraw.Draw(sheet), pen // 2
    left, right, top, bottom = half, width, half, height - 1 - half
    if letter == "L":
        draw.line([(left, top), (left, bottom), (right, bottom)], fill=255, width=pen, joint="curve")
        return sheet
    middle = round(height * 0.52)
    draw.line([(left, top), (left, bottom)], fill=255, width=pen)
    draw.rounded_rectangle([0, 0, right, middle + half], radius=(middle + half) // 2, outline=255, width=pen)
    draw.rectangle([0, 0, pen - 1, height - 1], fill=255)
    draw.line([(left + pen, middle), (right - half, bottom)], fill=255, width=pen)
    return sheet


def _letter(kind: str, style: str, height: float, rng: np.random.Generator) -> Drawn:
    shape = _letter_shape(kind, style, round(height * _OVER), float(rng.uniform(0.13, 0.19)))
    tilt = float(rng.uniform(-7, 7))
    white = int(rng.integers(225, 256))
    margin = 0.42 * height if style in ("boxed", "circled", "inverse") else 0.1 * height
    wide = shape.width / _OVER
    side = max(height, wide) + 2 * margin
    box = (side, side) if style == "circled" else (height + 2 * margin, wide + 2 * margin)
    ink, cover = _canvas(*box)
    at = ((ink.width - shape.width) // 2, (ink.height - shape.height) // 2)
    frame = (1, 1, ink.width - 2, ink.height - 2)
    line = max(round(0.07 * height * _OVER), 2)
    if style == "inverse":
        ImageDraw.Draw(cover).rounded_rectangle(frame, radius=line * 2, fill=255)
        ink.paste(white, (0, 0, ink.width, ink.height))
        ink.paste(int(rng.integers(0, 30)), at, shape)
    else:
        ink.paste(white, (0, 0, ink.width, ink.height))
        cover.paste(255, at, shape)
    if style == "boxed":
        ImageDraw.Draw(cover).rectangle(frame, outline=255, width=line)
    elif style == "circled":
        ImageDraw.Draw(cover).ellipse(frame, outline=255, width=line)
    return _reduced(*_turned(ink, cover, tilt))


def _turned(ink: Image.Image, cover: Image.Image, degrees: float) -> tuple[Image.Image, Image.Image]:
    turned = [each.rotate(degrees, Image.Resampling.BILINEAR, expand=True) for each in (ink, cover)]
    shade = np.asarray(turned[0]).copy()
    inked = np.asarray(ink)[np.asarray(cover) > 0]
    shade[(shade < 200) & (np.asarray(turned[1]) > 0) & (inked.min(initial=255) > 200)] = int(inked.max(initial=255))
    return Image.fromarray(shade), turned[1]


def _arrow(kind: str, style: str, length: float, rng: np.random.Generator) -> Drawn:
    ink, cover = _canvas(length * 1.5, length * 1.5)
    middle, unit = ink.width / 2, length * _OVER
    angle = float(rng.uniform(0, 2 * np.pi))
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    tip, tail = middle + 0.5 * unit * along, middle - 0.5 * unit * along
    neck = tip - float(rng.uniform(0.32, 0.42)) * unit * along
    wing = float(rng.uniform(0.17, 0.23)) * unit
    thick = max(round(float(rng.uniform(0.07, 0.11)) * unit), _OVER)
    draw = ImageDraw.Draw(cover)
    head = [tuple(tip), tuple(neck + wing * across), tuple(neck - wing * across)]
    if style == "open":
        draw.line([head[1], head[0], head[2]], fill=255, width=thick, joint="curve")
    else:
        draw.polygon(head, fill=255)
    if style != "head":
        draw.line([tuple(tail), tuple(neck if style != "open" else tip)], fill=255, width=thick)
    ink.paste(int(rng.integers(0, 25) if style == "dark" else rng.integers(230, 256)), (0, 0, ink.width, ink.height))
    return _trimmed(*_reduced(ink, cover))


def _trimmed(ink: npt.NDArray[np.float32], cover: npt.NDArray[np.float32]) -> Drawn:
    rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return ink[window], cover[window]


def _pacemaker(kind: str, style: str, height: float, rng: np.random.Generator) -> Drawn:
    """A rounded can with its header, and leads that run down to its left (mirrored: to its right)."""
    wide, high = 0.95 * height, height
    ink, cover = _canvas(high * 4.4, high * 3.6)
    draw, shade = ImageDraw.Draw(cover), ImageDraw.Draw(ink)
    unit = _OVER * height
    can = [2.5 * unit, 0.15 * unit, 2.5 * unit + wide * _OVER, 0.15 * unit + unit]
    ink.paste(245, (0, 0, ink.width, ink.height))
    ends = [(0.55, 3.9), (0.45, 2.7)][: 2 if "two" in style else 1]
    for end in ends:
        wobble = rng.uniform(-0.12, 0.12, size=4)
        knots = np.array([[2.6, 0.35], [1.7 + wobble[0], 0.1 + abs(wobble[1])], [0.1 + abs(wobble[2]), 0.9], [*end]])
        draw.line(_curve(knots * unit), fill=255, width=max(round(0.055 * unit), 5), joint="curve")
        tip = knots[-1] * unit
        draw.ellipse([*(tip - 0.06 * unit), *(tip + 0.06 * unit)], fill=255)
    draw.rounded_rectangle(can, radius=0.3 * unit, fill=255)
    inner = [can[0] + 0.16 * unit, can[1] + 0.34 * unit, can[2] - 0.16 * unit, can[3] - 0.14 * unit]
    shade.rounded_rectangle(can, radius=0.3 * unit, fill=int(rng.integers(205, 225)))
    shade.rounded_rectangle(inner, radius=0.12 * unit, fill=int(rng.integers(236, 250)))
    ink_small, cover_small = _trimmed(*_reduced(ink, cover))
    return (ink_small[:, ::-1], cover_small[:, ::-1]) if "mirrored" in style else (ink_small, cover_small)


def _curve(knots: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    """Points of a cubic Bézier curve."""
    t = np.linspace(0, 1, 60)[:, None]
    a, b, c, d = knots
    points = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    return [(float(x), float(y)) for x, y in points]


_DRAW: dict[str, Callable[[str, str, float, np.random.Generator], Drawn]] = {
    "L": _letter,
    "R": _letter,
    "arrow": _arrow,
    "pacemaker": _pacemaker,
}
