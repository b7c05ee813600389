"""From a DICOM file of a radiograph (CR, DX) to an 8-bit film, or one sentence that says why not.

Knows two ways to make a film of it, and the few facts that travel with it: view, pixel spacing, intent, burnt-in text.
Does not know patients. Only the elements of `_HEADER` are kept in memory at all, text of the file is only ever compared
with known words, and what pydicom says about a broken value goes to nobody, since it may quote it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from medgemma_visualizer.data._voi import Unreadable, is_inverted, modality_values, voi_choices, voi_fractions
from medgemma_visualizer.data.photo import (
    ALLOW_LATERAL,
    LATERAL_VIEWS,
    check_picture_path,
    is_dicom,
    is_lateral,
    refuse_large,
)
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.registry import Registry
from medgemma_visualizer.settings import DEFAULT_RENDERING, INPUT_LIMITS

T = TypeVar("T")

MODALITIES = ("CR", "DX")
VIEWS = (
    *("PA", "AP", "AP AXIAL", "AP LLD", "AP RLD", "PA LLD", "PA RLD", "LLD", "RLD", "LPO", "RPO", "LAO", "RAO"),
    *("LLO", "RLO", "LORDOTIC", "SWIMMERS", *LATERAL_VIEWS),
)
#: Codes of ViewCodeSequence, of SNOMED CT and of the older SNOMED RT -> view (PS3.16, CID 4010).
_VIEW_CODES = {
    **dict.fromkeys(("399348003", "R-10206"), "AP"),
    **dict.fromkeys(("272479007", "R-10214", "R-40888"), "PA"),
    **dict.fromkeys(("399067008", "R-102CD"), "LATERAL"),
    **dict.fromkeys(("399173006", "R-10236"), "LL"),
    **dict.fromkeys(("399198007", "R-10232"), "RL"),
}
_RADIOGRAPHS = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
}
#: Other modalities that may be named in an error; any other text of the element is not repeated.
_OTHERS = (
    *("BI", "BMD", "CT", "DOC", "ECG", "ES", "GM", "IO", "IVUS", "KO", "MG", "MR", "NM", "OCT", "OP", "OT", "PR", "PT"),
    *("PX", "RF", "RG", "RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SEG", "SM", "SR", "US", "VL", "XA", "XC"),
)
_HEADER = (
    *("SOPClassUID", "Modality", "PresentationIntentType", "ViewPosition", "ViewCodeSequence", "BurnedInAnnotation"),
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration"),
    *("PixelSpacing", "PixelSpacingCalibrationType", "ImagerPixelSpacing"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction"),
    "PresentationLUTShape",
)
_PIXELS = ("PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths")

FOR_PROCESSING = (
    "The DICOM file is marked FOR PROCESSING: raw values of the detector, not meant to be looked at. "
    "Its film may be unlike any that the model knows."
)
BURNT_IN = (
    "The DICOM file says that text is burnt into its pixels, maybe a patient's name: do not pass its pictures on."
)
_DAMAGED = "is a damaged, cut short or unusual DICOM file ({}) and cannot be read whole; export it again, or as PNG."


@dataclass(frozen=True)
class Spacing:
    """How far apart the centres of neighbouring pixels are, in millimetres.

    Attributes:
        rows: From one row to the next.
        columns: From one column to the next.
        tag: The element that says so.
        plane: Where that holds: "calibrated" (corrected for magnification), "detector" (things in the body are
            smaller), or "not said".
    """

    rows: float
    columns: float
    tag: str
    plane: str


@dataclass(frozen=True)
class DicomHeader:
    """What the file says of its film; nothing of it is free text.

    Attributes:
        view: One of `VIEWS`, None where the file says nothing that is known.
        spacing: None where the file gives none that is above 0.
        intent: "FOR PRESENTATION", "FOR PROCESSING", or "" where it is not said.
        burnt_in: Whether text is burnt into the pixels, as the file says; None where it does not.
        notices: What must be known to read anything said of the film; the last two of these facts, and oddities.
    """

    view: str | None
    spacing: Spacing | None
    intent: str
    burnt_in: bool | None
    notices: tuple[str, ...]


@dataclass(frozen=True)
class DicomFilm(DicomHeader):
    """A film made of a DICOM file.

    Attributes:
        picture: Mode L, as large as the file's; carries nothing but pixels.
        rendering: The rendering by which it was made, with the number of its VOI transformation where that was chosen.
        voi: Which of the file's VOI transformations was taken, of how many; "not used" for renderings without.
        choices: All VOI transformations that the file offers to the rendering, in the order of their numbers from 1.
    """

    picture: Image.Image
    rendering: str
    voi: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """uint8 (height, width), the VOI transformation in words, what must be known of it, and which others there are."""

    levels: np.ndarray
    voi: str
    notices: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rendering:
    """A way to make 8-bit levels of stored values, int32 (height, width).

    Attributes:
        label: For people.
        make: Takes the file, its values, and the number of a VOI transformation, None for the default.
        uses_voi: Whether such a number means anything to it.
    """

    label: str
    make: Callable[[Dataset, np.ndarray, int | None], Made]
    uses_voi: bool


RENDERINGS: Registry[Rendering] = Registry("rendering")


def read_dicom(
    source: str | os.PathLike[str],
    rendering: str | None = None,
    *,
    allow_lateral: bool = False,
    max_pixels: int | None = None,
) -> DicomFilm:
    """Reads a radiograph.

    Args:
        source: The file.
        rendering: A name of `RENDERINGS`, or "dicom-voi:N" for the N-th VOI transformation of the file, LUTs before
            windows; `settings.DEFAULT_RENDERING` where None.
        allow_lateral: Takes a view from the side too.
        max_pixels: Largest height × width that will be decoded; None takes INPUT_LIMITS["image_pixels"].

    Raises:
        InputError: No DICOM file, no single gray CR or DX frame, a lateral view, damage, or a codec that is missing;
            names the file as it was given, what is wrong, and what to do.
    """
    name, chosen = os.fspath(source), DEFAULT_RENDERING if rendering is None else rendering
    entry, number = rendering_of(chosen)
    limit = INPUT_LIMITS["image_pixels"] if max_pixels is None else max_pixels

    def film() -> DicomFilm:
        dataset = _opened(name, pixels=True)
        header = _checked(dataset, name, limit, allow_lateral)
        made = entry.make(dataset, _stored(dataset), number)
        if made.levels.min() == made.levels.max():
            raise Unreadable(f"comes out as a single level by {chosen}; try another rendering, or export it again.")
        notices = (*header.notices, *made.notices)
        facts = vars(header) | {"notices": notices}
        film = Image.fromarray(made.levels)
        return DicomFilm(**facts, picture=film, rendering=chosen, voi=made.voi, choices=made.choices)

    return _or_one_sentence(name, film)


def rendering_of(name: str) -> tuple[Rendering, int | None]:
    """The rendering that a name means, and the number of the VOI transformation, if one is chosen: "dicom-voi:2".

    Raises:
        InputError: No such rendering, no whole number from 1 after the colon, or one for a rendering that has no use
            for it.
    """
    bare, colon, digits = str(name).partition(":")
    entry = RENDERINGS[bare]
    if not colon:
        return entry, None
    if not entry.uses_voi:
        raise InputError(f"The rendering {bare!r} uses no window and no LUT of the file; leave ':{digits}' out.")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 6 and int(digits) > 0):
        raise InputError(
            f"The rendering {name!r} names no VOI transformation; write a number from 1, as in '{bare}:2'."
        )
    return entry, int(digits)


def read_header(source: str | os.PathLike[str], *, allow_lateral: bool = False) -> DicomHeader:
    """What the file says of its film, without its pixels; refuses what `read_dicom` refuses for its header.

    Raises:
        InputError: As `read_dicom`.
    """
    name = os.fspath(source)
    limit = INPUT_LIMITS["image_pixels"]
    return _or_one_sentence(name, lambda: _checked(_opened(name, pixels=False), name, limit, allow_lateral))


# --- the two renderings ----------------------------------------------------------------------------------------------


def _dicom_voi(dataset: Dataset, stored: np.ndarray, number: int | None) -> Made:
    """As a viewer shows it: modality step, VOI, inversion where the file asks for it, 8 bits."""
    bits, least = dataset.BitsStored, _least(dataset)
    places = stored - least
    occurring = np.bincount(places.ravel(), minlength=2**bits) > 0
    values = modality_values(dataset, np.arange(least, least + 2**bits))
    voi = voi_fractions(dataset, values, occurring, number)
    inverted, odd = is_inverted(dataset, dataset.PhotometricInterpretation)
    fractions = 1 - voi.fractions if inverted else voi.fractions
    table = np.rint(fractions * 255).astype(np.uint8)
    return Made(table[places], voi.taken, (*voi.notices, *odd), _offered(dataset))


def _offered(dataset: Dataset) -> tuple[str, ...]:
    """Names of the VOI transformations; none where they cannot be told."""
    try:
        return tuple(choice.name for choice in voi_choices(dataset))
    except Unreadable:  # a broken window beside the LUT that was taken; told to whoever asks for it
        return ()


def _mimic_jpg(dataset: Dataset, stored: np.ndarray, number: int | None) -> Made:
    """As the JPEG files of MIMIC-CXR-JPG were made (Johnson et al., 2019), before their compression.

    Stored values from minimum to maximum, cut down to whole levels, MONOCHROME1 inverted, histogram equalised. Neither
    rescaling nor VOI is used, so that it differs from what a viewer shows.
    """
    import cv2

    above = stored - stored.min()
    levels = (above / max(int(above.max()), 1) * 255).astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        levels = 255 - levels
    return Made(np.asarray(cv2.equalizeHist(levels)), "not used")


RENDERINGS.add("dicom-voi", Rendering("As a DICOM viewer shows it", _dicom_voi, uses_voi=True))
RENDERINGS.add("mimic-jpg", Rendering("As MIMIC-CXR-JPG was made", _mimic_jpg, uses_voi=False))


# --- the file --------------------------------------------------------------------------------------------------------


def _opened(name: str, *, pixels: bool) -> FileDataset:
    path = check_picture_path(name)
    if not is_dicom(name):
        raise Unreadable("is no DICOM file ('DICM' does not stand at byte 128); name one, or a PNG.")
    kept = [*_HEADER, *(_PIXELS if pixels else ())]
    dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=kept)
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise Unreadable("does not say how its pixels are encoded (no transfer syntax); export it again, or as PNG.")
    if pixels and "PixelData" not in dataset:
        raise Unreadable("is a DICOM file without pixels, not a picture; name the file of the radiograph.")
    return dataset


def _checked(dataset: FileDataset, name: str, limit: int, allow_lateral: bool) -> DicomHeader:
    """The facts of a file that holds one gray radiograph; refuses all others, most telling reason first."""
    _refuse_other_modality(dataset)
    _refuse_several_or_colour(dataset)
    _refuse_odd_depth(dataset)
    refuse_large(repr(name), (int(dataset.Columns), int(dataset.Rows)), limit)
    view = _view(dataset)
    if is_lateral(view) and not allow_lateral:
        raise Unreadable(f"is a lateral view, and all checks here are of frontal ones; {ALLOW_LATERAL}.")
    intent = _word(dataset, "PresentationIntentType", ("FOR PRESENTATION", "FOR PROCESSING"))
    burnt_in = {"YES": True, "NO": False}.get(_word(dataset, "BurnedInAnnotation", ("YES", "NO")))
    told = ((intent == "FOR PROCESSING", FOR_PROCESSING), (burnt_in is True, BURNT_IN))
    return DicomHeader(view, _spacing(dataset), intent, burnt_in, tuple(notice for holds, notice in told if holds))


def _refuse_other_modality(dataset: Dataset) -> None:
    modality = _word(dataset, "Modality", (*MODALITIES, *_OTHERS))
    if not dataset.get("Modality"):
        modality = _RADIOGRAPHS.get(str(dataset.get("SOPClassUID")), "")
    if modality not in MODALITIES:
        what = f"of the modality {modality}" if modality else "of an unknown modality"
        raise Unreadable(f"is {what}, not a radiograph ({' or '.join(MODALITIES)}); name one of a chest.")


def _refuse_several_or_colour(dataset: Dataset) -> None:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise Unreadable(f"has {frames} frames; export the one that is meant as a file of its own.")
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or not photometric.startswith("MONOCHROME"):
        raise Unreadable(
            "does not say whether 0 is black or white; export it again."
            if not photometric
            else "is a colour picture, not a gray radiograph; name the original film."
        )
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise Unreadable("is gray in a way that DICOM does not know; export it again.")


def _refuse_odd_depth(dataset: Dataset) -> None:
    """BitsStored, HighBit and PixelRepresentation are written back where the file leaves out what has one value."""
    allocated, stored = int(dataset.BitsAllocated), int(dataset.get("BitsStored") or dataset.BitsAllocated)
    high = dataset.get("HighBit")
    if allocated not in (8, 16) or not 2 <= stored <= allocated or (high is not None and high != stored - 1):
        raise Unreadable(
            f"stores {stored} bits of {allocated} in an order that is not read; export it with 16 bits a pixel."
        )
    dataset.BitsStored = stored
    dataset.PixelRepresentation = int(dataset.get("PixelRepresentation") or 0)


def _least(dataset: Dataset) -> int:
    """The least value that can be stored."""
    return -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation == 1 else 0


def _stored(dataset: FileDataset) -> np.ndarray:
    """The stored values, int32 (rows, columns); bits that hold no pixels, such as old overlays, are left out.

    Raises:
        Unreadable: The pixels cannot be decoded whole.
    """
    syntax, shape = UID(dataset.file_meta.TransferSyntaxUID), (dataset.Rows, dataset.Columns)
    _refuse_cut_short(dataset, syntax)
    try:
        values = pixel_array(dataset)
    except MemoryError:
        raise
    except Exception:
        values = np.empty(0)  # nothing of it is kept: it may quote the file
    if values.shape != shape:
        raise Unreadable(_not_decoded(syntax))
    low = values.astype(np.int32) & (2**dataset.BitsStored - 1)
    return low - ((low >> (dataset.BitsStored - 1)) << dataset.BitsStored) if dataset.PixelRepresentation == 1 else low


def _refuse_cut_short(dataset: Dataset, syntax: UID) -> None:
    if syntax.is_encapsulated:
        return
    wanted, found = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8, len(dataset.PixelData)
    if found < wanted:
        raise Unreadable(f"is cut short: {found:,} of {wanted:,} bytes of pixels are there; copy it again.")


def _not_decoded(syntax: UID) -> str:
    """Why no picture came out: a codec that is not installed, one that does not exist, or damage."""
    jpeg = syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes)
    if jpeg and importlib.util.find_spec("libjpeg") is None:
        return (
            f"is compressed as {syntax.name}, whose decoder comes separately under the GPL; "
            "pip install 'medgemma-visualizer[dicom-jpeg]', or export the file uncompressed."
        )
    try:
        known = get_decoder(syntax).is_available
    except NotImplementedError:
        known = False
    if not known:
        return "is encoded in a way that no installed decoder reads; export it uncompressed."
    return f"holds pixels ({syntax.name}) that are damaged, cut short or unusual; export it again, uncompressed."


# --- the facts -------------------------------------------------------------------------------------------------------


def _word(dataset: Dataset, name: str, known: tuple[str, ...]) -> str:
    """The element where it is one of the known words, else ""; text that is not known goes nowhere."""
    value = dataset.get(name)
    text = value.strip().upper() if isinstance(value, str) else ""
    return text if text in known else ""


def _view(dataset: Dataset) -> str | None:
    if view := _word(dataset, "ViewPosition", VIEWS):
        return view
    codes = [_word(item, "CodeValue", tuple(_VIEW_CODES)) for item in dataset.get("ViewCodeSequence") or ()]
    return next((_VIEW_CODES[code] for code in codes if code), None)


def _spacing(dataset: Dataset) -> Spacing | None:
    """Calibrated pixel spacing first, then the detector's, then one of which the plane is not said.

    Pixel spacing is calibrated where its calibration type is given, or where it differs from the detector's (PS3.3,
    10.7.1.3).
    """
    pixel, imager = (_pair(dataset, name) for name in ("PixelSpacing", "ImagerPixelSpacing"))
    calibrated = bool(dataset.get("PixelSpacingCalibrationType")) or (imager is not None and pixel != imager)
    if pixel is not None and calibrated:
        return Spacing(*pixel, "PixelSpacing", "calibrated")
    if imager is not None:
        return Spacing(*imager, "ImagerPixelSpacing", "detector")
    return None if pixel is None else Spacing(*pixel, "PixelSpacing", "not said")


def _pair(dataset: Dataset, name: str) -> tuple[float, float] | None:
    values = dataset.get(name) or ()
    if isinstance(values, str | float) or len(values) != 2:
        return None
    rows, columns = (float(value) for value in values)
    return (rows, columns) if np.isfinite([rows, columns]).all() and rows > 0 and columns > 0 else None


# --- silence ---------------------------------------------------------------------------------------------------------


def _or_one_sentence(name: str, work: Callable[[], T]) -> T:
    """The work's result, or one sentence; no error of pydicom hangs on it, since these quote values of the file."""
    try:
        with _hushed():
            return work()
    except (InputError, MemoryError):
        raise
    except Unreadable as reason:
        complaint = str(reason)
    except OSError as error:
        complaint = f"cannot be read ({error.strerror}); check its permissions and the disk, or copy it."
    except Exception as error:
        complaint = _DAMAGED.format(type(error).__name__)  # its text may quote the file
    raise InputError(f"{name!r} {complaint}")  # outside of the handlers, so that nothing stands behind it


def _drop(_: logging.LogRecord) -> bool:
    return False


class _Hush:
    """Counts who is reading, in all threads, so that the last one and no earlier lets warnings through again."""

    def __init__(self) -> None:
        self.lock, self.readers, self.undo = threading.Lock(), 0, ExitStack()

    def begin(self) -> None:
        with self.lock:
            self.readers += 1
            if self.readers == 1:
                self.undo.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"pydicom\.|pylibjpeg|medgemma_visualizer\.data\.(dicom|_voi)")
                logger = logging.getLogger("pydicom")
                logger.addFilter(_drop)
                self.undo.callback(logger.removeFilter, _drop)

    def end(self) -> None:
        with self.lock:
            self.readers -= 1
            if self.readers == 0:
                self.undo.close()


_HUSH = _Hush()


@contextmanager
def _hushed() -> Iterator[None]:
    """pydicom warns of odd values and repeats them, on standard error and in logs; inside the block it does not."""
    _HUSH.begin()
    try:
        yield
    finally:
        _HUSH.end()
