"""A DICOM film looks as highdicom says it should, is refused for one clear reason, and carries nobody's name."""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import re
import shutil
import struct
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

import cv2
import highdicom
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from tests.radiographs import CR, lookup, radiograph, ramp, saved

from medgemma_visualizer.data import dicom, load_cases, open_image, picture
from medgemma_visualizer.data._voi import windowed
from medgemma_visualizer.data.dicom import RENDERINGS, Spacing, read_dicom, read_header
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case
from medgemma_visualizer.settings import DEFAULT_RENDERING, INPUT_LIMITS

CANARY = "ZZCANARY"


def levels(path: Path, rendering: str | None = None, **options: Any) -> np.ndarray:
    return np.asarray(read_dicom(path, rendering, **options).picture).astype(int)


def oracle(dataset: FileDataset, path: Path, which: int | str = 0) -> np.ndarray:
    """highdicom's rendering in [0, 1]. It takes LUTs of 8 and 16 bits only, and stretches what their entries fill.

    Args:
        dataset: The film.
        path: Where it may be written to.
        which: Of its VOI transformations, from 0 or by the file's explanation; of the windows only without a LUT.
    """
    taken = copy.deepcopy(dataset)
    for table in taken.get("VOILUTSequence", ()):
        table.LUTDescriptor[2] = 8 if table.LUTDescriptor[2] == 8 else 16
    saved(taken, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = highdicom.imread(path)
        how = {"apply_voi_transform": True, "voi_transform_selector": which, "apply_presentation_lut": True}
        return image.get_frame(1, **how, dtype=np.float64)


def assert_as_the_oracle(dataset: FileDataset, path: Path) -> None:
    ours = levels(saved(dataset, path))
    assert ours.min() < ours.max()
    assert np.abs(ours / 255 - oracle(dataset, path)).max() <= 1 / 255


def refusal(path: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        read_dicom(path, **options)
    message = str(refused.value)
    assert message.startswith(repr(str(path)))
    assert message.endswith(".")
    assert "\n" not in message
    return message.removeprefix(repr(str(path)))


# --- the rendering ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_windows_are_those_of_highdicom_at_every_depth_slope_and_inversion(tmp_path, bits, function):
    # highdicom puts the window onto stored values, so that the half value in LINEAR is scaled, too: 1 % of narrow ones.
    # It turns windows inside out where the slope is negative; those are checked by hand below.
    narrow = bits == 8 and function in ("LINEAR", None)
    for slope, intercept in ((1, 0), (1, -77)) if narrow else ((1, 0), (2, -100), (0.5, 3.25)):
        for photometric, shape in INVERSIONS:
            middle = slope * 2 ** (bits - 1) + intercept
            values = {"WindowCenter": middle * 0.9, "WindowWidth": slope * 2**bits * 0.6 + 2}
            values |= {"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": "US"}
            facts = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
            film = radiograph(ramp(bits, 16), bits, **values, **facts, VOILUTFunction=function)
            assert_as_the_oracle(film, tmp_path / "film.dcm")


INVERSIONS = [(m, s) for m in ("MONOCHROME1", "MONOCHROME2") for s in (None, "IDENTITY", "INVERSE")]


@pytest.mark.parametrize("bits_out", [8, 10, 12, 16])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_voi_luts_are_those_of_highdicom_at_every_depth_in_and_out(tmp_path, bits, bits_out):
    count = min(2**bits, 2**12)
    entries = np.round((np.linspace(0, 1, count) ** 2) * (2**bits_out - 1)).astype(int)
    for first, (photometric, shape) in zip((0, 40, 0, 7, 0, 100), INVERSIONS, strict=True):
        table = lookup(entries, first, bits_out)
        facts = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
        film = radiograph(ramp(bits, 16), bits, VOILUTSequence=[table], **facts)
        assert_as_the_oracle(film, tmp_path / "film.dcm")


def test_a_lut_of_rescaled_signed_values_is_that_of_highdicom(tmp_path):
    entries = np.linspace(0, 4095, 1000).round().astype(int)
    film = radiograph(ramp(10) - 512, 10, VOILUTSequence=[lookup(entries, -500, 12)])
    film.RescaleSlope, film.RescaleIntercept, film.RescaleType = 1, -30, "US"
    assert_as_the_oracle(film, tmp_path / "film.dcm")


def test_a_modality_lut_comes_before_the_window(tmp_path):
    table = lookup(np.arange(1024)[::-1] // 2, 0, 16)
    table.ModalityLUTType = "US"
    film = radiograph(ramp(10), 10, ModalityLUTSequence=[table], WindowCenter=200, WindowWidth=300)
    assert_as_the_oracle(film, tmp_path / "film.dcm")


def test_the_window_is_the_formula_of_the_standard():
    values = np.array([-1.0, 0, 1, 2, 3, 4, 5])
    np.testing.assert_allclose(windowed(values, 2.5, 4), [0, 0, 1 / 6, 1 / 2, 5 / 6, 1, 1])
    np.testing.assert_allclose(windowed(values, 2, 4, "LINEAR_EXACT"), [0, 0, 0.25, 0.5, 0.75, 1, 1])
    np.testing.assert_allclose(windowed(values, 2, 4, "SIGMOID")[3], 0.5)
    np.testing.assert_allclose(windowed(values, 2.5, 1), [0, 0, 0, 0, 1, 1, 1])  # a width of 1 is a threshold
    assert windowed(np.array([1e9]), 0, 1e-3, "SIGMOID") == 1  # no overflow


def test_a_negative_slope_turns_white_to_black_by_itself(tmp_path):
    film = radiograph(ramp(8), 8, RescaleSlope=-10, RescaleIntercept=0, WindowCenter=-1274.5, WindowWidth=2551)
    assert (levels(saved(film, tmp_path / "film.dcm")) == 255 - ramp(8)).all()


def test_without_a_window_the_values_are_stretched_and_the_film_says_so(tmp_path):
    film = saved(radiograph(ramp(8) // 2 + 30, 12), tmp_path / "film.dcm")
    assert (levels(film).min(), levels(film).max()) == (0, 255)
    assert read_dicom(film).voi == "none given: stretched from minimum to maximum"


def test_the_first_of_several_is_taken_and_told_luts_before_windows(tmp_path):
    dark = radiograph(ramp(8), 8, WindowCenter=[200, 50, 100], WindowWidth=[50, 50, 256])
    alone = radiograph(ramp(8), 8, WindowCenter=200, WindowWidth=50)
    film = read_dicom(saved(dark, tmp_path / "several.dcm"))
    assert film.voi == "window 1 of 3 (LINEAR)"
    assert (np.asarray(film.picture) == levels(saved(alone, tmp_path / "one.dcm"))).all()
    dark.VOILUTSequence = [lookup(np.arange(256)[::-1], 0, 8), lookup(np.arange(256), 0, 8)]
    film = read_dicom(saved(dark, tmp_path / "both.dcm"))
    assert film.voi == "VOI LUT 1 of 2"
    assert (np.asarray(film.picture) == 255 - ramp(8)).all()


SEVERAL = {"WindowCenter": [2000, 1500, 2600], "WindowWidth": [4000, 900, 300]}
EXPLAINED = SEVERAL | {"WindowCenterWidthExplanation": ["NORMAL", "HARDER", "SOFT TISSUE 2"]}


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
def test_another_window_is_taken_where_it_is_named_and_is_that_of_highdicom(tmp_path, function):
    film = radiograph(ramp(12), 12, **EXPLAINED, VOILUTFunction=function, PhotometricInterpretation="MONOCHROME1")
    path, spare = saved(film, tmp_path / "film.dcm"), tmp_path / "oracle.dcm"
    made = [read_dicom(path, f"dicom-voi:{number}") for number in (1, 2, 3)]
    for k, one in enumerate(made):
        for which in (k, EXPLAINED["WindowCenterWidthExplanation"][k]):
            assert np.abs(np.asarray(one.picture) / 255 - oracle(film, spare, which)).max() <= 1 / 255
        assert one.rendering == f"dicom-voi:{k + 1}"
        assert one.voi == one.choices[k]
    assert len({one.picture.tobytes() for one in made}) == 3
    assert (levels(path) == np.asarray(made[0].picture)).all()
    kind = function or "LINEAR"
    wanted = (
        f"window 1 of 3 ({kind}, NORMAL)",
        f"window 2 of 3 ({kind}, HARDER)",
        f"window 3 of 3 ({kind}, SOFT TISSUE 2)",
    )
    assert read_dicom(path).choices == wanted


def test_luts_are_numbered_before_windows_and_each_is_that_of_highdicom(tmp_path):
    tables = [lookup(np.round(np.linspace(0, 1, 4096) ** power * 65535)) for power in (1, 2, 0.5)]
    tables[1].LUTExplanation = "HARD"
    film = radiograph(ramp(12), 12, VOILUTSequence=tables, **SEVERAL)
    path, spare = saved(film, tmp_path / "film.dcm"), tmp_path / "oracle.dcm"
    for k in range(3):
        found = read_dicom(path, f"dicom-voi:{k + 1}")
        assert np.abs(np.asarray(found.picture) / 255 - oracle(film, spare, k)).max() <= 1 / 255
        assert found.voi == f"VOI LUT {k + 1} of 3" + (" (HARD)" if k == 1 else "")
    del film.VOILUTSequence  # highdicom has no word for a window where there is a LUT
    for k in range(3):
        found = read_dicom(path, f"dicom-voi:{k + 4}")
        assert np.abs(np.asarray(found.picture) / 255 - oracle(film, spare, k)).max() <= 1 / 255
        assert found.voi == f"window {k + 1} of 3 (LINEAR)"


@pytest.mark.parametrize(
    ("rendering", "words"),
    [
        ("dicom-voi:4", "offers no VOI transformation number 4; choose among 1: window 1 of 3 (LINEAR, NORMAL), 2: "),
        ("dicom-voi:0", "write a number from 1, as in 'dicom-voi:2'"),
        ("dicom-voi:", "write a number from 1"),
        ("dicom-voi:-1", "write a number from 1"),
        ("dicom-voi:²", "write a number from 1"),
        ("dicom-voi:HARDER", "write a number from 1"),
        ("mimic-jpg:2", "uses no window and no LUT of the file; leave ':2' out"),
        ("dicom:2", "Unknown rendering 'dicom'"),
    ],
)
def test_a_window_that_is_not_there_is_refused(tmp_path, rendering, words):
    path = saved(radiograph(ramp(12), 12, **EXPLAINED), tmp_path / "film.dcm")
    with pytest.raises(InputError, match=re.escape(words)):
        read_dicom(path, rendering)


def test_a_number_is_refused_of_a_file_without_any_window(tmp_path):
    assert "there is no number 1" in refusal(
        saved(radiograph(ramp(12)), tmp_path / "film.dcm"), rendering="dicom-voi:1"
    )


def test_a_broken_window_matters_only_to_whoever_asks_for_it(tmp_path):
    film = radiograph(ramp(8), 8, WindowCenter=[128, 5], WindowWidth=[256, 0])
    path = saved(film, tmp_path / "film.dcm")
    assert (levels(path) == ramp(8)).all()
    assert "window whose width" in refusal(path, rendering="dicom-voi:2")
    beside = radiograph(ramp(8), 8, VOILUTSequence=[lookup(np.arange(256), 0, 8)], WindowCenter=5)
    path = saved(beside, tmp_path / "beside.dcm")
    assert (levels(path) == ramp(8)).all()
    assert read_dicom(path).choices == ()
    assert "half a window" in refusal(path, rendering="dicom-voi:2")


def test_what_a_window_is_called_is_told_in_known_words_only(tmp_path):
    told = {"harder ": "HARDER", "WINDOW1": "WINDOW1", "USER_DEF 12": "USER_DEF 12", "": "", " ": "", "Mr Doe": None}
    told |= {"NORMAL DOE": None, "1234": None, "NORMAL 19650101": None, "NORMAL^2": None}
    film = radiograph(ramp(8), 8, WindowCenter=[128] * len(told), WindowWidth=[256] * len(told))
    film.WindowCenterWidthExplanation = list(told)
    found = read_dicom(saved(film, tmp_path / "film.dcm")).choices
    for choice, words in zip(found, told.values(), strict=True):
        wanted = "explained in other words" if words is None else words
        assert choice.endswith(f"(LINEAR, {wanted})" if wanted else "(LINEAR)")
    film.WindowCenterWidthExplanation = "SOFT"  # fewer than windows
    assert [choice[-6:] for choice in read_dicom(saved(film, tmp_path / "one.dcm")).choices[:2]] == [" SOFT)", "INEAR)"]


def test_a_case_carries_its_window_to_its_picture(tmp_path):
    path = saved(radiograph(ramp(12), 12, **EXPLAINED), tmp_path / "film.dcm")
    case = Case(id="x", image=path, question="?", rendering="dicom-voi:3")
    assert (np.asarray(picture(case))[:, :, 0] == levels(path, "dicom-voi:3")).all()


@pytest.mark.parametrize("packed", [True, False])
def test_eight_bit_luts_in_words_are_read_packed_or_not(tmp_path, packed):
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [256, 0, 8])
    entries = np.arange(256)[::-1]
    table.add_new("LUTData", "OW", entries.astype("u1" if packed else "<u2").tobytes())
    film = saved(radiograph(ramp(8), 8, VOILUTSequence=[table]), tmp_path / "film.dcm")
    assert (levels(film) == 255 - ramp(8)).all()


def test_a_lut_that_lies_about_its_bits_is_read_by_its_entries_and_told(tmp_path):
    table = lookup(np.linspace(0, 4095, 256).round(), 0, 16)  # says 16 bits and fills 12
    film = read_dicom(saved(radiograph(ramp(8), 8, VOILUTSequence=[table]), tmp_path / "film.dcm"))
    assert np.abs(np.asarray(film.picture).astype(int) - ramp(8)).max() <= 1
    assert "has 16 bits, its entries fill 12" in film.notices[0]


def test_a_contradiction_of_photometric_and_shape_is_told(tmp_path):
    for photometric, shape in INVERSIONS:
        facts = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
        film = read_dicom(saved(radiograph(ramp(8), 8, **facts), tmp_path / "film.dcm"))
        assert bool(film.notices) == ((photometric, shape) in (INVERSIONS[1], INVERSIONS[5]))


def test_bits_that_hold_no_pixels_are_left_out(tmp_path):
    overlaid = radiograph(ramp(8) | 0x1000, 16, BitsStored=8, HighBit=7)
    assert (levels(saved(overlaid, tmp_path / "film.dcm")) == ramp(8)).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_mimic_jpg_is_the_published_recipe_blind_to_window_and_rescaling(tmp_path, photometric):
    pixels = np.random.default_rng(0).gamma(3, 300, (40, 50)).astype(int) % 4096
    odd = {"RescaleSlope": -3, "RescaleIntercept": 7, "WindowCenter": 5, "WindowWidth": 0}
    film = saved(radiograph(pixels, PhotometricInterpretation=photometric, **odd), tmp_path / "film.dcm")
    eight = ((pixels - pixels.min()) / (pixels.max() - pixels.min()) * 255).astype(np.uint8)
    eight = cv2.bitwise_not(eight) if photometric == "MONOCHROME1" else eight
    assert (levels(film, "mimic-jpg") == cv2.equalizeHist(eight)).all()
    assert read_dicom(film, "mimic-jpg").voi == "not used"


def test_every_rendering_gives_a_gray_film_of_the_files_size_that_carries_nothing(tmp_path):
    film = saved(radiograph(ramp(12)), tmp_path / "film.dcm")
    assert DEFAULT_RENDERING in RENDERINGS
    for name in RENDERINGS:
        made = read_dicom(film, name)
        assert (made.picture.mode, made.picture.size, made.rendering) == ("L", (64, 64), name)
        assert made.picture.info == {}
    with pytest.raises(InputError, match="Did you mean 'dicom-voi'"):
        read_dicom(film, "dicom-vio")


# --- encodings -------------------------------------------------------------------------------------------------------

LOSSLESS = (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
def test_lossless_files_show_the_very_film(tmp_path, syntax, bits):
    film = radiograph(np.tile(ramp(bits), (1, 16)), bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)
    plain = levels(saved(film, tmp_path / "plain.dcm"))
    film.compress(syntax, generate_instance_uid=False)
    assert (levels(saved(film, tmp_path / "packed.dcm")) == plain).all()


@pytest.mark.parametrize("syntax", [uid.JPEGLSNearLossless, uid.JPEG2000], ids=lambda syntax: syntax.name)
def test_lossy_files_show_nearly_that_film(tmp_path, syntax):
    film = radiograph(ramp(12), 12, WindowCenter=2048, WindowWidth=4096)
    plain = levels(saved(film, tmp_path / "plain.dcm"))
    how = {"jls_error": 4} if syntax == uid.JPEGLSNearLossless else {"j2k_cr": [2]}
    film.compress(syntax, generate_instance_uid=False, **how)
    assert np.abs(levels(saved(film, tmp_path / "packed.dcm")) - plain).max() <= 2


def packed(film: FileDataset, syntax: uid.UID, content: bytes) -> FileDataset:
    film.file_meta.TransferSyntaxUID = syntax
    film.PixelData = encapsulate([content])
    film["PixelData"].is_undefined_length = True
    return film


def lossless_jpeg(pixels: np.ndarray, bits: int) -> bytes:
    """ITU-T T.81 process 14: each sample minus its left neighbour (that above, in the first column)."""
    rows, columns = pixels.shape
    before = np.hstack([np.vstack([[1 << (bits - 1)], pixels[:-1, :1]]), pixels[:, :-1]])
    stream = ""
    for difference in (pixels - before).ravel().tolist():
        size = abs(difference).bit_length()
        extra = difference if difference > 0 else difference + (1 << size) - 1
        stream += f"{size:05b}" + (f"{extra:0{size}b}" if 0 < size < 16 else "")  # codes of 5 bits for all sizes
    stream += "1" * (-len(stream) % 8)
    body = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")
    table = b"\x00" + bytes([0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))
    frame = struct.pack(">BHHBBBB", bits, rows, columns, 1, 1, 0x11, 0)
    parts = ((0xC3, frame), (0xC4, table), (0xDA, bytes([1, 1, 0, 1, 0, 0])))
    marked = b"".join(struct.pack(">BBH", 0xFF, marker, len(part) + 2) + part for marker, part in parts)
    return b"\xff\xd8" + marked + body + b"\xff\xd9"


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", [uid.JPEGLossless, uid.JPEGLosslessSV1], ids=["57", "70"])
def test_lossless_jpeg_as_detectors_write_it_shows_the_very_film(tmp_path, syntax, bits):
    window = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
    plain = levels(saved(radiograph(ramp(bits), bits, **window), tmp_path / "plain.dcm"))
    film = packed(radiograph(ramp(bits), bits, **window), syntax, lossless_jpeg(ramp(bits), bits))
    assert (levels(saved(film, tmp_path / "packed.dcm")) == plain).all()


def test_baseline_jpeg_shows_nearly_that_film(tmp_path):
    file = io.BytesIO()
    Image.fromarray(ramp(8, 16).astype(np.uint8)).save(file, "JPEG", quality=100)
    film = packed(radiograph(ramp(8, 16), 8), uid.JPEGBaseline8Bit, file.getvalue())
    assert np.abs(levels(saved(film, tmp_path / "packed.dcm")) - ramp(8, 16)).max() <= 2


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "J2K_pixelrep_mismatch.dcm", "image_dfl.dcm", "MR_small_expb.dcm"])
def test_pydicoms_odd_files_that_hold_a_picture_show_it(tmp_path, name):
    dataset = pydicom.dcmread(get_testdata_file(name))
    dataset.Modality = "DX"
    path = saved(dataset, tmp_path / "film.dcm")
    found = levels(path)
    stored = dataset.pixel_array.astype(float)
    assert found.shape == stored.shape
    assert np.corrcoef(found.ravel(), np.clip(stored, *np.percentile(stored, (1, 99))).ravel())[0, 1] > 0.6


@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.HTJ2K, uid.JPEGExtended12Bit], ids=lambda one: one.name)
def test_a_decoder_is_there_for_what_no_encoder_here_writes(syntax):
    assert get_decoder(syntax).is_available


def test_a_missing_decoder_is_named_with_its_extra(tmp_path, monkeypatch):
    film = packed(radiograph(ramp(12)), uid.JPEGLosslessSV1, lossless_jpeg(ramp(12), 12))
    path = saved(film, tmp_path / "film.dcm")
    find = importlib.util.find_spec
    monkeypatch.setattr(get_decoder(uid.JPEGLosslessSV1), "_available", {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "libjpeg" else find(name))
    assert "pip install 'medgemma-visualizer[dicom-jpeg]'" in refusal(path)


# --- refusals --------------------------------------------------------------------------------------------------------

ODD = {
    "frames": ({"NumberOfFrames": 2}, "has 2 frames"),
    "colour": ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}, "colour"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
    "photometric": ({"PhotometricInterpretation": None}, "whether 0 is black or white"),
    "CT": ({"Modality": "CT"}, "of the modality CT"),
    "unknown": ({"Modality": CANARY}, "of an unknown modality"),
    "no modality": ({"Modality": None, "SOPClassUID": "1.2.3"}, "of an unknown modality"),
    "lateral": ({"ViewPosition": "LATERAL"}, "lateral view"),
    "left lateral": ({"ViewPosition": "LL"}, "lateral view"),
    "no pixels": ({"PixelData": None}, "without pixels"),
    "short": ({"PixelData": bytes(500)}, "500 of 8,192 bytes"),
    "high bit": ({"HighBit": 15}, "order that is not read"),
    "32 bits": ({"BitsAllocated": 32}, "12 bits of 32"),
    "no rows": ({"Rows": None}, "damaged, cut short or unusual"),
    "window 0": ({"WindowCenter": 5, "WindowWidth": 0}, "window whose width"),
    "half a window": ({"WindowCenter": 5}, "half a window"),
    "function": ({"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": CANARY}, "of a kind that DICOM does not know"),
    "slope": ({"RescaleSlope": 0, "RescaleIntercept": 0}, "slope or intercept"),
    "shape": ({"PresentationLUTShape": "LIN OD"}, "neither IDENTITY nor INVERSE"),
    "short LUT": ({"VOILUTSequence": [lookup(np.arange(9))]}, ""),
    "blank": ({"WindowCenter": 9000, "WindowWidth": 2}, "single level"),
}


@pytest.mark.parametrize(("elements", "words"), ODD.values(), ids=ODD)
def test_what_is_no_single_gray_frontal_radiograph_is_refused_in_one_sentence(tmp_path, elements, words):
    film = radiograph(ramp(12), **elements)
    if "VOILUTSequence" in film:
        film.VOILUTSequence[0].LUTDescriptor, words = [4096, 0, 16], "9 of 4096 entries"
    message = refusal(saved(film, tmp_path / "film.dcm"))
    assert words in message
    assert CANARY not in message


BAD = {
    **dict.fromkeys(("MR_truncated.dcm", "JPEG-lossy.dcm", "badVR.dcm", "rtdose.dcm"), "of the modality"),
    **dict.fromkeys(("examples_ybr_color.dcm", "examples_palette.dcm", "liver_1frame.dcm"), "of the modality"),
    **dict.fromkeys(("rtplan.dcm", "waveform_ecg.dcm", "reportsi.dcm", "DICOMDIR"), "without pixels"),
    **dict.fromkeys(("no_meta.dcm", "ExplVR_BigEndNoMeta.dcm", "README.txt"), "no DICOM file"),
    "meta_missing_tsyntax.dcm": "no transfer syntax",
}


@pytest.mark.parametrize(("name", "words"), BAD.items(), ids=BAD)
def test_each_of_pydicoms_bad_files_gives_one_sentence(name, words):
    assert words in refusal(get_testdata_file(name))


def test_bad_pixels_of_radiographs_give_one_sentence_too(tmp_path):
    wanted = {
        "MR_truncated.dcm": "cut short",
        "JPEG-lossy.dcm": "damaged, cut short or unusual",
        "badVR.dcm": "damaged, cut short or unusual",
    }
    for name, words in wanted.items():
        content = Path(get_testdata_file(name)).read_bytes()
        modality = {"MR_truncated.dcm": b"MR", "JPEG-lossy.dcm": b"NM", "badVR.dcm": b"RTDOSE"}[name]
        old = b"\x08\x00\x60\x00CS" + struct.pack("<H", len(modality)) + modality
        assert content.count(old) == 1
        path = tmp_path / name
        path.write_bytes(content.replace(old, old[: -len(modality)] + b"DX".ljust(len(modality))))
        assert words in refusal(path), name


def test_a_file_cut_anywhere_gives_one_sentence_or_its_film(tmp_path):
    whole = saved(radiograph(ramp(12), WindowCenter=2048, WindowWidth=4096), tmp_path / "film.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    for end in (1, 127, 131, 140, 200, 400, 600, 700, 800, len(whole) - 8192, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert refusal(path)


def test_a_large_film_is_refused_before_it_is_decoded(tmp_path):
    film = saved(radiograph(ramp(12), Rows=60000, Columns=60000), tmp_path / "film.dcm")
    assert "over the limit" in refusal(film)
    assert "over the limit of 100" in refusal(saved(radiograph(ramp(12)), tmp_path / "b.dcm"), max_pixels=100)


def test_places_that_are_no_files_are_named(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.dcm")
    assert "is a folder" in refusal(tmp_path)


# --- the facts -------------------------------------------------------------------------------------------------------

SPACINGS = {
    "detector": ({"ImagerPixelSpacing": [0.1, 0.2]}, Spacing(0.1, 0.2, "ImagerPixelSpacing", "detector")),
    "both alike": ({"ImagerPixelSpacing": [0.1, 0.1], "PixelSpacing": [0.1, 0.1]}, "ImagerPixelSpacing"),
    "differ": ({"ImagerPixelSpacing": [0.1, 0.1], "PixelSpacing": [0.08, 0.08]}, "PixelSpacing"),
    "typed": (
        {"ImagerPixelSpacing": None, "PixelSpacing": [0.3, 0.3], "PixelSpacingCalibrationType": "GEOMETRY"},
        Spacing(0.3, 0.3, "PixelSpacing", "calibrated"),
    ),
    "alone": (
        {"ImagerPixelSpacing": None, "PixelSpacing": [0.3, 0.3]},
        Spacing(0.3, 0.3, "PixelSpacing", "not said"),
    ),
    "zero": ({"ImagerPixelSpacing": [0, 0.1]}, None),
    "none": ({"ImagerPixelSpacing": None}, None),
}


@pytest.mark.parametrize(("elements", "wanted"), SPACINGS.values(), ids=SPACINGS)
def test_pixel_spacing_says_which_element_it_is_of_and_in_which_plane(tmp_path, elements, wanted):
    spacing = read_header(saved(radiograph(ramp(8), 8, **elements), tmp_path / "film.dcm")).spacing
    if isinstance(wanted, str):
        assert spacing is not None
        assert (spacing.tag, spacing.plane) == (wanted, "calibrated" if wanted == "PixelSpacing" else "detector")
    else:
        assert spacing == wanted


def test_view_intent_and_burnt_in_text_are_told(tmp_path):
    film = radiograph(ramp(8), 8, PresentationIntentType="FOR PROCESSING", BurnedInAnnotation="YES", ViewPosition="AP")
    read = read_dicom(saved(film, tmp_path / "film.dcm"))
    assert (read.view, read.intent, read.burnt_in) == ("AP", "FOR PROCESSING", True)
    assert read.notices == (dicom.FOR_PROCESSING, dicom.BURNT_IN)
    plain = read_dicom(saved(radiograph(ramp(8), 8, ViewPosition=CANARY), tmp_path / "b.dcm"))
    assert (plain.view, plain.intent, plain.burnt_in, plain.notices) == (None, "FOR PRESENTATION", None, ())


def test_the_view_is_read_from_its_code_where_it_has_no_name(tmp_path):
    for code, view in (("R-10206", "AP"), ("R-10214", "PA"), ("399173006", "LL"), ("1", None)):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SRT", CANARY
        film = saved(radiograph(ramp(8), 8, ViewPosition=None, ViewCodeSequence=[item]), tmp_path / "film.dcm")
        assert read_header(film, allow_lateral=True).view == view


def test_a_cr_file_without_modality_is_known_by_its_class(tmp_path):
    film = radiograph(ramp(8), 8, Modality=None, SOPClassUID=CR, PresentationIntentType=None)
    assert read_header(saved(film, tmp_path / "film.dcm")).intent == ""


# --- nobody's name ---------------------------------------------------------------------------------------------------

TEXT = ("LO", "SH", "PN", "LT", "ST", "UT", "UC", "CS", "AE", "UR")
MEANT = {*dicom._HEADER, "SpecificCharacterSet"}


def full_of_names(**elements: Any) -> FileDataset:
    """A film with a name in every element of text that DICOM knows, and in private ones, sequences and odd numbers."""
    film = radiograph(ramp(12), WindowCenter=2048, WindowWidth=4096, **elements)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, (vr, many, _, retired, keyword) in pydicom.datadict.DicomDictionary.items():
            if vr in TEXT and keyword and keyword not in MEANT and not retired and tag > 0x00080005 and many:
                film.add_new(tag, vr, CANARY)
        nested = Dataset()
        nested.PatientName = f"{CANARY}^NESTED"
        film.RequestAttributesSequence = [nested]
        film.private_block(0x0011, CANARY, create=True).add_new(1, "LO", CANARY)
        film.file_meta.SourceApplicationEntityTitle = CANARY
        film.preamble = CANARY.encode() * 16
    return film


#: Elements that are read, each with a name in place of its value.
HIDDEN: dict[str, tuple[str, Any]] = {
    "Modality": ("CS", CANARY),
    "ViewPosition": ("CS", CANARY),
    "PhotometricInterpretation": ("CS", CANARY),
    "NumberOfFrames": ("IS", CANARY),
    "WindowCenter": ("DS", CANARY),
    "RescaleSlope": ("DS", CANARY),
    "PixelSpacing": ("DS", CANARY),
    "VOILUTFunction": ("CS", CANARY),
    "WindowCenterWidthExplanation": ("LO", CANARY),
    "PresentationLUTShape": ("CS", CANARY),
    "PresentationIntentType": ("CS", CANARY),
    "BurnedInAnnotation": ("CS", CANARY),
    "PixelSpacingCalibrationType": ("CS", CANARY),
    "SpecificCharacterSet": ("CS", CANARY),
    "PixelData": ("OW", CANARY.encode()),
}


def with_text_in(film: FileDataset, keyword: str) -> FileDataset:
    vr, value = HIDDEN[keyword]
    raw = value if isinstance(value, bytes) else value.encode()
    tag = pydicom.tag.Tag(keyword)
    film[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(raw), raw, 0, False, True)
    return film


@pytest.mark.parametrize("keyword", [None, *HIDDEN])
def test_no_text_of_the_file_leaves_the_reader(tmp_path, caplog, capfd, keyword):
    film = full_of_names()
    path = tmp_path / "film.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved(film if keyword is None else with_text_in(film, keyword), path)
    assert path.read_bytes().count(CANARY.encode()) > 500
    caplog.clear()  # pydicom, while it wrote that
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        told = [_all_that_is_told(path, rendering) for rendering in RENDERINGS]
        cases = [str(case) for case in _cases(path)]
    out = capfd.readouterr()
    everything = "\n".join([*told, *cases, caplog.text, out.out, out.err, *(str(each.message) for each in warned)])
    assert CANARY not in everything.replace(str(path), "")
    assert not warned


def _all_that_is_told(path: Path, rendering: str) -> str:
    try:
        film = read_dicom(path, rendering)
        return f"{film!r} {film.picture.info} {film.picture.getexif()!r} {vars(film.picture).get('filename')}"
    except InputError as error:
        return "".join(traceback.format_exception(error)) + repr(error.__cause__) + repr(error.__context__)


def _cases(path: Path) -> list[Any]:
    try:
        return list(load_cases(path, "Is there a pleural effusion?"))
    except InputError as error:
        return [error]


def test_many_threads_warn_of_nothing(tmp_path):
    path = tmp_path / "film.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved(with_text_in(radiograph(ramp(12)), "PixelSpacing"), path)
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        readers = [threading.Thread(target=_all_that_is_told, args=(path, DEFAULT_RENDERING)) for _ in range(8)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert not warned
    assert list(warnings.filters) == before
    assert logging.getLogger("pydicom").filters == []


# --- films among other pictures --------------------------------------------------------------------------------------


def test_whoever_asks_for_a_picture_need_not_know_dicom(tmp_path):
    path = saved(radiograph(ramp(8), 8), tmp_path / "1.2.840.99")  # no suffix tells it
    case = Case(id="x", image=path, question="?")
    assert picture(case).mode == "RGB"
    assert (np.asarray(picture(case))[:, :, 1] == ramp(8)).all()
    other = Case(id="x", image=path, question="?", rendering="mimic-jpg")
    assert (np.asarray(picture(other))[:, :, 0] == levels(path, "mimic-jpg")).all()
    assert (np.asarray(open_image(path, rendering="mimic-jpg")) == np.asarray(picture(other))).all()


def test_a_lateral_film_is_a_picture_only_for_a_case_that_says_so(tmp_path):
    path = saved(radiograph(ramp(8), 8, ViewPosition="LL"), tmp_path / "film.dcm")
    with pytest.raises(InputError, match="lateral view"):
        picture(Case(id="x", image=path, question="?", view="PA"))
    assert picture(Case(id="x", image=path, question="?", view="LATERAL")).size == (4, 64)


def test_a_tiff_header_before_the_mark_makes_no_tiff_of_it(tmp_path):
    film = radiograph(ramp(8), 8)
    film.preamble = b"II*\x00".ljust(128, b"\x00")
    assert (np.asarray(open_image(saved(film, tmp_path / "film.tif")))[:, :, 0] == ramp(8)).all()


def test_a_dicom_file_becomes_a_case_with_its_view_and_without_its_name(tmp_path):
    film = radiograph(ramp(8), 8, ViewPosition="AP", PresentationIntentType="FOR PROCESSING")
    path = saved(film, tmp_path / f"{CANARY}.dcm")
    (case,) = load_cases(path, "Is there a nodule?")
    assert (case.view, case.rendering, case.notice) == ("AP", "dicom-voi", dicom.FOR_PROCESSING)
    assert re.fullmatch("film-[0-9a-f]{12}", case.id)


def test_a_folder_keeps_its_frontal_films_and_counts_the_others(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    saved(radiograph(ramp(8), 8), folder / "a.dcm")
    saved(radiograph(ramp(8), 8), folder / "IM0001")
    saved(radiograph(ramp(8), 8, ViewPosition="LL"), folder / "side.dcm")
    shutil.copy(get_testdata_file("MR_small_RLE.dcm"), folder / "mr.dcm")
    Image.fromarray(ramp(8).astype(np.uint8)).save(folder / "c.png")
    (folder / "notes.txt").write_text("nothing", encoding="utf-8")
    found = load_cases(folder, "Is there a nodule?")
    assert sorted(Path(str(case.image)).name for case in found) == ["IM0001", "a.dcm", "c.png"]
    assert len(found.reasons) == 2
    assert not any("dcm" in reason for reason in found.reasons)
    for name in ("a.dcm", "IM0001", "c.png"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"no picture that can be used: is of the modality MR.*lateral view"):
        load_cases(folder, "Is there a nodule?")


def test_a_question_file_finds_dicom_films_by_their_identifier(tmp_path):
    saved(radiograph(ramp(8), 8), tmp_path / "abc.dcm")
    table = tmp_path / "questions.csv"
    table.write_text("dicom_id,question\nabc,Is there a nodule?\n", encoding="utf-8")
    (case,) = load_cases(table)
    assert (case.rendering, picture(case).size) == ("dicom-voi", (4, 64))


def test_the_limit_on_pixels_holds_for_dicom_too(tmp_path, monkeypatch):
    path = saved(radiograph(ramp(8), 8), tmp_path / "film.dcm")
    monkeypatch.setitem(INPUT_LIMITS, "image_pixels", 10)
    with pytest.raises(InputError, match="over the limit of 10"):
        open_image(path)
