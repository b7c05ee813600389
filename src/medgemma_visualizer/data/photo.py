"""From a file, a PIL image or an array to 8-bit RGB, or one sentence that says why not.

Knows pixels: depth, palette, transparency, orientation, damage, size. Hands DICOM files to `dicom`, which is loaded
when the first one comes. Does not know masks, or what a film shows, and never opens a network address. Nothing but
pixels leaves: no EXIF, no text, no path.
"""

from __future__ import annotations

import codecs
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case
from medgemma_visualizer.settings import DEFAULT_RENDERING, INPUT_LIMITS

Reader: TypeAlias = Callable[[BinaryIO], ImageFile]

FORMATS = "PNG, JPEG, TIFF, BMP, WEBP or DICOM"
DICOM_SUFFIXES = (".dcm", ".dicom")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", *DICOM_SUFFIXES)

# The content decides, never the name. These constructors read headers only and leave the size limit to us, where
# PIL.Image.open would apply its own.
_READERS: tuple[tuple[str, int, bytes, Reader], ...] = (
    ("PNG", 0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    ("JPEG", 0, b"\xff\xd8\xff", jpeg_factory),
    ("TIFF", 0, b"II*\x00", TiffImageFile),
    ("TIFF", 0, b"MM\x00*", TiffImageFile),
    ("TIFF", 0, b"II+\x00", TiffImageFile),
    ("TIFF", 0, b"MM\x00+", TiffImageFile),
    ("WEBP", 8, b"WEBP", WebPImageFile),
    ("BMP", 0, b"BM", BmpImageFile),
)
_NOT_READ = (
    ("a GIF, which may be animated and is not read", 0, b"GIF8"),
    ("a PDF document, not a picture", 0, b"%PDF"),
    ("a JPEG 2000 picture, which is not read", 4, b"jP  "),
    ("a HEIC or AVIF picture, which is not read", 4, b"ftyp"),
    ("a ZIP archive, not a picture", 0, b"PK\x03\x04"),
    ("a gzip archive, not a picture", 0, b"\x1f\x8b"),
)
#: Views from the side. Findings, body outline and chance levels here are of views from the front or back.
LATERAL_VIEWS = ("LATERAL", "LAT", "LL", "RL", "XTABLE")
#: The next step where such a view is refused; a page, which has no such option, names another.
ALLOW_LATERAL = "allow it (--allow-lateral or allow_lateral)"

_DICOM_AT, _DICOM_MARK = 128, b"DICM"  # the first 128 bytes are free, and may even be a TIFF header
_HEAD_BYTES = 1024
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_WHITE_IS_ZERO = 0  # TIFF, PhotometricInterpretation
_PHOTOMETRIC = 262


def open_image(
    source: Any, max_pixels: int | None = None, *, rendering: str | None = None, allow_lateral: bool = False
) -> Image.Image:
    """Reads a picture as a person would see it: upright, opaque, 8-bit RGB.

    8-bit levels stay as they are, and floats within [0, 1] are taken as fractions of white. Every other depth (16-bit,
    32-bit, floats beyond [0, 1]) is stretched linearly from its own minimum to its own maximum, because 16-bit
    radiographs often fill 12 bits only and would come out black; a constant picture of that kind comes out black.
    Transparent parts show black, as unexposed film does. A 16-bit TIFF whose zero is white is turned the right way.
    A DICOM file, whatever it is called, is made into a film as `rendering` says.

    Args:
        source: A path; a PIL image; an array (height, width), (height, width, 1 | 3 | 4); or a torch tensor
            (height, width) or (1 | 3, height, width).
        max_pixels: Largest height × width that will be decoded; None takes INPUT_LIMITS["image_pixels"].
        rendering: For DICOM files, as in `dicom.read_dicom`; the default one where None.
        allow_lateral: Takes a DICOM file that says it is a view from the side.

    Returns:
        A new image of mode RGB that carries nothing but pixels.

    Raises:
        InputError: The picture cannot be read whole, with the reason and the next step.
    """
    limit = INPUT_LIMITS["image_pixels"] if max_pixels is None else max_pixels
    if isinstance(source, str | os.PathLike):
        return _from_file(os.fspath(source), limit, rendering, allow_lateral)
    if isinstance(source, Image.Image):
        refuse_large("The image", source.size, limit)
        with _as_damage("The image", "picture"):
            _refuse_several("The image", source)
            return _to_rgb(source, "The image")
    if is_tensor(source):
        return _from_array(_channels_last(source), "The tensor", limit)
    if isinstance(source, np.ndarray):
        return _from_array(source, "The array", limit)
    raise InputError(f"A {type(source).__name__} is not a picture; give a path, a PIL image or an array.")


def picture(case: Case) -> Image.Image:
    """The case's film as 8-bit RGB, read now if it is a path; a DICOM file in the case's rendering.

    Raises:
        InputError: The film cannot be read whole, or is a lateral view and the case does not say so.
    """
    return open_image(case.image, rendering=case.rendering, allow_lateral=is_lateral(case.view))


def rendering_by_name(film: Path) -> str | None:
    """The default rendering where a file's name says that it is DICOM's, None for other pictures; opens nothing."""
    return DEFAULT_RENDERING if film.suffix.lower() in DICOM_SUFFIXES else None


def rendered(cases: Sequence[Case], rendering: str | None) -> Sequence[Case]:
    """The cases, those whose film is a DICOM file in this rendering; all as they are where None.

    Raises:
        InputError: None of the films is a DICOM file.
    """
    if rendering is None:
        return cases
    found = [replace(case, rendering=rendering) if _shows_dicom(case) else case for case in cases]
    if cases and all(new is old for new, old in zip(found, cases, strict=True)):
        raise InputError(f"--rendering {rendering!r} is for DICOM files, and none of these films is one; leave it out.")
    return found


def _shows_dicom(case: Case) -> bool:
    """As is known of the case, else as its file says, whose name need not tell; a picture in memory is made already."""
    if not isinstance(case.image, str | os.PathLike):
        return False
    try:
        return case.rendering is not None or is_dicom(case.image)
    except InputError:  # told where the film is read
        return False


def is_lateral(view: str | None) -> bool:
    """Whether a view is one from the side."""
    return view is not None and view.strip().upper() in LATERAL_VIEWS


def grayscale(image: Image.Image) -> np.ndarray:
    """Luma (ITU-R BT.601), uint8 (height, width); a gray picture keeps its exact levels."""
    rgb = image if image.mode == "RGB" else open_image(image)
    return np.array(rgb.convert("L"))


def is_tensor(source: object) -> bool:
    """Whether this is a torch tensor, found out without importing torch: where none was imported, none exists."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def is_dicom(path: Path | str) -> bool:
    """Whether a file has DICOM's mark, whatever it is called.

    Raises:
        InputError: The file cannot be opened.
    """
    with _naming(str(path)), Path(path).open("rb") as file:
        return _has_dicom_mark(file.read(_HEAD_BYTES))


def _has_dicom_mark(head: bytes) -> bool:
    return head[_DICOM_AT:].startswith(_DICOM_MARK)


def _from_file(name: str, limit: int, rendering: str | None, allow_lateral: bool) -> Image.Image:
    path = check_picture_path(name)
    if is_dicom(name):
        from medgemma_visualizer.data.dicom import read_dicom  # loads pydicom, which nobody else needs

        film = read_dicom(name, rendering, allow_lateral=allow_lateral, max_pixels=limit)
        return film.picture.convert("RGB")
    with _naming(name), path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        return _decode(file, *_reader(head, path, name), name, limit)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Says of which file the system complains, and what to do."""
    try:
        yield
    except PermissionError as error:
        raise InputError(f"{name!r} may not be read by this user; change its permissions or copy it.") from error
    except OSError as error:
        raise InputError(f"{name!r} cannot be read ({error.strerror}); check the disk or copy the file.") from error


def check_picture_path(name: str) -> Path:
    """A path that leads to a file with something in it, without opening it.

    Raises:
        InputError: Nothing there, a folder, a pipe or device, zero bytes, a network address, or no permission.
    """
    path = Path(name)
    if not name.strip():
        raise InputError("No picture is named; give the path of one.")
    if "://" in name:
        raise InputError(f"{name!r} is a network address, which is never opened; save the picture and name the file.")
    try:
        status = path.stat()
    except PermissionError as error:
        raise InputError(f"{name!r} lies in a folder that this user may not enter; copy the file.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{name!r} does not exist; check the path of the picture.") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name!r} is a folder; name one picture in it.")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name!r} is not a regular file; name a picture stored on disk.")
    if status.st_size == 0:
        raise InputError(f"{name!r} is empty (0 bytes); export or download it again.")
    return path


def _reader(head: bytes, path: Path, name: str) -> tuple[str, Reader]:
    for kind, at, magic, reader in _READERS:
        if head[at:].startswith(magic):
            return kind, reader
    raise InputError(f"{name!r} is {_what_it_is(head, path)}; export the picture as PNG and name that file.")


def _what_it_is(head: bytes, path: Path) -> str:
    """What a file is that no reader claims, in words that fit after "is"."""
    for words, at, magic in _NOT_READ:
        if head[at:].startswith(magic):
            return words
    if path.suffix.lower() in DICOM_SUFFIXES:
        return "named like a DICOM file but is none ('DICM' does not stand at byte 128)"
    if b"<svg" in head.lower():
        return "an SVG drawing, which is not read"
    return "text, not a picture" if _is_text(head) else f"no picture in a known format ({FORMATS})"


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a character cut by the end of the head is no error
    except UnicodeDecodeError:
        return False
    return b"\x00" not in head


def _decode(file: BinaryIO, kind: str, reader: Reader, name: str, limit: int) -> Image.Image:
    with _as_damage(repr(name), kind), _heeding_the_decoder():
        image = reader(file)
        refuse_large(repr(name), image.size, limit)
        _refuse_several(repr(name), image)
        if kind == "PNG":  # decoding alone overlooks broken checksums and a missing end
            image.verify()
            file.seek(0)
            image = reader(file)
        high_bytes_only = _is_16_bit_colour(image)
        image.load()
        rgb = _to_rgb(image, repr(name))
    if high_bytes_only and np.asarray(rgb).max() < 64:
        raise InputError(
            f"{name!r} uses under a quarter of its 16-bit colour range and would come out almost black; "
            "export it as 16-bit gray or as an 8-bit PNG."
        )
    return rgb


@contextmanager
def _as_damage(name: str, kind: str) -> Iterator[None]:
    """Turns whatever a decoder trips over into one sentence; damaged bytes can make it raise almost anything."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        message = f"{name} is a damaged, cut short or unusual {kind} and cannot be read whole; export it again as PNG."
        raise InputError(message) from error


@contextmanager
def _heeding_the_decoder() -> Iterator[None]:
    """Where PIL only warns that pixels or the facts about them are missing, that is damage; its other warnings are not.

    Threads that do this at once may leave these two filters behind, which concern PIL alone.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("error", "Truncated File Read|Tag data larger than file")
        yield


def refuse_large(name: str, size: tuple[int, int], limit: int) -> None:
    """Refuses a picture of more than `limit` pixels, or of none; size is (width, height).

    Raises:
        InputError: With the name as given, which is quoted already where it is a file's.
    """
    width, height = size
    if width * height > limit:
        raise InputError(
            f"{name} has {width} × {height} pixels, over the limit of {limit:,}; "
            "shrink it, or raise the limit (--max-pixels, or INPUT_LIMITS['image_pixels'])."
        )
    if width * height == 0:
        raise InputError(f"{name} has no pixels ({width} × {height}); give a picture with some.")


def _refuse_several(name: str, image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise InputError(f"{name} is animated or has several pages ({frames}); save the one that is meant as PNG.")


def _is_16_bit_colour(image: ImageFile) -> bool:
    """Whether PIL will keep the high byte of every channel only, as it does for colour (not for gray)."""
    return image.mode not in _DEEP_MODES and any(";16" in str(tile[3]) for tile in image.tile)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    white_is_zero = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _DEEP_MODES:
        levels = _to_8_bit(np.asarray(upright), name)
        # PIL inverts such files at 8 bits but not at 16.
        return Image.fromarray(255 - levels if white_is_zero else levels).convert("RGB")
    rgb = _over_black(upright) if upright.has_transparency_data else upright.convert("RGB")
    return Image.fromarray(np.array(rgb))  # a new image: no info, no EXIF, no file name


def _over_black(image: Image.Image) -> Image.Image:
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")


def _channels_last(tensor: Any) -> np.ndarray:
    array = tensor.detach().cpu()
    array = (array.float() if array.is_floating_point() else array).numpy()  # numpy has no bfloat16
    return np.moveaxis(array, 0, -1) if array.ndim == 3 else array  # (C, H, W) -> (H, W, C)


def _from_array(array: np.ndarray, name: str, limit: int) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]  # (H, W, 1) -> (H, W)
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise InputError(
            f"{name} has the shape {array.shape}; give one picture of (height, width) or (height, width, 3)."
        )
    refuse_large(name, (array.shape[1], array.shape[0]), limit)
    if array.ndim == 3 and array.shape[2] == 4 and array.dtype != np.uint8:
        raise InputError(f"{name} has transparency in {array.dtype}; give uint8, or three channels.")
    return _to_rgb(Image.fromarray(_to_8_bit(array, name)), name)


def _to_8_bit(values: np.ndarray, name: str) -> np.ndarray:
    """Any real array to uint8 of the same shape, by the rules of `open_image`."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind not in "buif":
        raise InputError(f"{name} holds {values.dtype} values; give numbers.")
    levels = values.astype(np.float64)
    if not np.isfinite(levels).all():
        raise InputError(f"{name} holds values that are not finite (NaN or infinity); replace them first.")
    if values.dtype.kind == "b" or (values.dtype.kind == "f" and levels.min() >= 0 and levels.max() <= 1):
        return np.rint(levels * 255).astype(np.uint8)
    return _stretched(levels)


def _stretched(levels: np.ndarray) -> np.ndarray:
    """Minimum to 0, maximum to 255, linearly; a constant array to 0."""
    halves = levels / 2  # the span of two halves cannot overflow
    span = halves.max() - halves.min()
    if span == 0:
        return np.zeros(levels.shape, np.uint8)
    return np.rint((halves - halves.min()) / span * 255).astype(np.uint8)
