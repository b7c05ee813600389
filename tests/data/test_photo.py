"""Every way a picture can come in, and every way it can be unusable."""

from __future__ import annotations

import io
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medgemma_visualizer.data.photo import grayscale, open_image, picture, rendered
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.records import Case
from medgemma_visualizer.settings import INPUT_LIMITS

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # (3, 4), 0 to 220
COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
NOISE = np.random.default_rng(1).integers(0, 256, (40, 60), dtype=np.uint8)


def saved(folder: Path, name: str, image: Image.Image, **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def pixels(source: object) -> np.ndarray:
    """(H, W, 3) uint8 of what `open_image` makes of a source."""
    image = open_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


def gray_pixels(source: object) -> np.ndarray:
    """(H, W) uint8 of a picture that has to come out without colour."""
    rgb = pixels(source)
    assert (rgb == rgb[:, :, :1]).all()
    return rgb[:, :, 0]


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for the kinds that PIL cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_16_bit_colour(levels: np.ndarray) -> bytes:
    """(H, W, 3) uint16 as a PNG."""
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in levels)
    return png(levels.shape[1], levels.shape[0], 16, 2, rows)


# --- what works ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["film.png", "film.bmp", "film.tif"])
def test_lossless_gray_keeps_its_levels(tmp_path: Path, name: str) -> None:
    assert (gray_pixels(saved(tmp_path, name, Image.fromarray(RAMP))) == RAMP).all()


@pytest.mark.parametrize("name", ["film.png", "film.bmp", "film.tif"])
def test_lossless_colour_keeps_its_levels(tmp_path: Path, name: str) -> None:
    assert (pixels(saved(tmp_path, name, Image.fromarray(COLOURS))) == COLOURS).all()


def test_lossless_webp_keeps_its_levels(tmp_path: Path) -> None:
    path = saved(tmp_path, "film.webp", Image.fromarray(COLOURS), lossless=True, exact=True)
    assert (pixels(path) == COLOURS).all()


def test_jpeg_stays_within_its_own_loss(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    found = gray_pixels(saved(tmp_path, "film.jpg", Image.fromarray(smooth), quality=95))
    assert np.abs(found.astype(int) - smooth).max() <= 4


def test_a_path_may_be_text(tmp_path: Path) -> None:
    assert (gray_pixels(str(saved(tmp_path, "film.png", Image.fromarray(RAMP)))) == RAMP).all()


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    saved(tmp_path, "film.png", Image.fromarray(RAMP)).rename(tmp_path / "film.dcm")
    assert (gray_pixels(tmp_path / "film.dcm") == RAMP).all()


@pytest.mark.parametrize("name", ["film.png", "film.tif"])
def test_twelve_bits_in_a_16_bit_file_fill_the_whole_range(tmp_path: Path, name: str) -> None:
    twelve_bits = np.array([[0, 1024], [2048, 4095]], np.uint16)
    found = gray_pixels(saved(tmp_path, name, Image.fromarray(twelve_bits)))
    assert found.tolist() == [[0, 64], [128, 255]]  # 1024 / 4095 × 255 = 63.8, 2048 / 4095 × 255 = 127.5


def test_16_bits_are_stretched_from_their_own_minimum(tmp_path: Path) -> None:
    levels = np.array([[1000, 2000, 3000]], np.uint16)
    assert gray_pixels(saved(tmp_path, "film.png", Image.fromarray(levels))).tolist() == [[0, 128, 255]]


def test_a_constant_16_bit_picture_is_black(tmp_path: Path) -> None:
    path = saved(tmp_path, "film.png", Image.fromarray(np.full((2, 2), 900, np.uint16)))
    assert gray_pixels(path).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.array([[0, 1024, 4095]], np.uint16), [[255, 191, 0]]),  # 1024 / 4095 × 255 = 63.8
        (np.array([[0, 64, 255]], np.uint8), [[255, 191, 0]]),
        (np.array([[0.0, 0.2, 1.0]], np.float32), [[255, 204, 0]]),
    ],
)
def test_a_tiff_whose_zero_is_white_is_turned_the_right_way(
    tmp_path: Path, levels: np.ndarray, expected: list[list[int]]
) -> None:
    path = saved(tmp_path, "film.tif", Image.fromarray(levels))
    content = bytearray(path.read_bytes())
    entry = content.index(struct.pack("<HHI", 262, 3, 1))  # PhotometricInterpretation, one short
    content[entry + 8 : entry + 10] = struct.pack("<H", 0)
    path.write_bytes(content)
    assert gray_pixels(path).tolist() == expected


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    assert pixels(saved(tmp_path, "film.png", image)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_palette_with_a_transparent_entry_shows_black_there(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    assert pixels(saved(tmp_path, "film.png", image, transparency=0)).tolist() == [[[0, 0, 0], [200, 100, 50]]]


def test_transparency_shows_black_beneath(tmp_path: Path) -> None:
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 51], [200, 100, 50, 0]]], np.uint8)
    found = pixels(saved(tmp_path, "film.png", Image.fromarray(rgba)))
    assert found.tolist() == [[[200, 100, 50], [40, 20, 10], [0, 0, 0]]]  # 51 / 255 = one fifth


def test_gray_with_transparency(tmp_path: Path) -> None:
    levels, alpha = (Image.fromarray(np.array([row], np.uint8)) for row in ([200, 200], [255, 51]))
    assert gray_pixels(saved(tmp_path, "film.png", Image.merge("LA", (levels, alpha)))).tolist() == [[200, 40]]


def test_one_bit(tmp_path: Path) -> None:
    bits = np.array([[True, False, True]])
    assert gray_pixels(saved(tmp_path, "film.png", Image.fromarray(bits))).tolist() == [[255, 0, 255]]


@pytest.mark.parametrize("name", ["film.tif", "film.jpg"])
def test_cmyk(tmp_path: Path, name: str) -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow make red
    found = pixels(saved(tmp_path, name, ink)).astype(int)
    assert np.abs(found - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("name", ["film.png", "film.jpg", "film.tif", "film.webp"])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.T),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a.T, 2)),
        (8, np.rot90),
    ],
)
def test_pictures_stand_upright(tmp_path: Path, name: str, orientation: int, turn: object) -> None:
    blocks = np.kron(np.array([[0, 50, 100], [150, 200, 250]], np.uint8), np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if name.endswith("jpg") else {"lossless": True} if name.endswith("webp") else {}
    found = gray_pixels(saved(tmp_path, name, Image.fromarray(blocks), exif=exif, **options))
    expected = turn(blocks)  # type: ignore[operator]
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_16_bit_pictures_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, "film.png", Image.fromarray(np.array([[0, 300]], np.uint16)), exif=exif)
    assert gray_pixels(path).tolist() == [[0], [255]]


def test_16_bit_colour_of_full_range(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(png_16_bit_colour(COLOURS.astype(np.uint16) * 257))
    assert (pixels(tmp_path / "film.png") == COLOURS).all()


def test_float_tiff_within_0_and_1_holds_fractions(tmp_path: Path) -> None:
    path = saved(tmp_path, "film.tif", Image.fromarray(np.array([[0.2, 0.4]], np.float32)))
    assert gray_pixels(path).tolist() == [[51, 102]]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RAMP, RAMP),
        (RAMP[:, :, None], RAMP),
        (np.array([[True, False]]), [[255, 0]]),
        (np.array([[0.0, 0.2, 1.0]]), [[0, 51, 255]]),
        (np.array([[0.0, 0.2, 1.0]], np.float16), [[0, 51, 255]]),
        (np.array([[-1.0, 0.0, 1.0]]), [[0, 128, 255]]),
        (np.array([[-1000, 0, 1000]], np.int16), [[0, 128, 255]]),
        (np.array([[-1.7e308, 1.7e308]]), [[0, 255]]),
        (np.array([[7.5, 7.5]]), [[0, 0]]),
        (RAMP[::-1, ::-1], RAMP[::-1, ::-1]),
    ],
)
def test_arrays(array: np.ndarray, expected: object) -> None:
    assert gray_pixels(array).tolist() == np.asarray(expected).tolist()


def test_colour_arrays_keep_the_balance_of_their_channels() -> None:
    deep = np.array([[[0, 1000, 2000]]], np.uint16)
    assert pixels(deep).tolist() == [[[0, 128, 255]]]
    assert (pixels(COLOURS) == COLOURS).all()


def test_torch_tensors_have_their_channels_first() -> None:
    torch = pytest.importorskip("torch")
    assert (pixels(torch.from_numpy(COLOURS).permute(2, 0, 1)) == COLOURS).all()
    assert gray_pixels(torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16)).tolist() == [[0, 255]]


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=20))
def test_stretching_keeps_the_order_of_levels(levels: list[int]) -> None:
    found = gray_pixels(np.array([levels], np.uint16))[0].astype(int)
    order = np.argsort(levels, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    if min(levels) < max(levels):
        assert (found.min(), found.max()) == (0, 255)


def test_nothing_but_pixels_leaves(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    path = saved(tmp_path, "jane-doe.jpg", Image.fromarray(RAMP), exif=exif, comment=b"Jane Doe", dpi=(72, 72))
    for source in (path, Image.open(path)):
        image = open_image(source)
        assert image.info == {}
        assert not image.getexif()
        assert type(image) is Image.Image
        rewritten = io.BytesIO()
        image.save(rewritten, "PNG")
        assert b"Jane" not in rewritten.getvalue()


def test_a_given_image_is_left_as_it_was() -> None:
    image = Image.fromarray(COLOURS)
    image.info["note"] = "kept"
    opened = open_image(image)
    opened.putpixel((0, 0), (1, 2, 3))
    assert (np.asarray(image) == COLOURS).all()
    assert image.info == {"note": "kept"}


def test_gray_of_a_gray_picture_is_exact() -> None:
    assert (grayscale(open_image(NOISE)) == NOISE).all()
    assert grayscale(Image.fromarray(np.array([[0, 4095]], np.uint16))).tolist() == [[0, 255]]


def test_gray_weighs_colours_as_the_eye_does() -> None:
    assert grayscale(Image.new("RGB", (1, 1), (255, 0, 0))).tolist() == [[76]]  # .299 × 255 = 76.2


def test_the_picture_of_a_case(tmp_path: Path) -> None:
    path = saved(tmp_path, "film.png", Image.fromarray(COLOURS))
    for source in (path, str(path), Image.fromarray(COLOURS)):
        assert (np.asarray(picture(Case(id="x", image=source, question="?"))) == COLOURS).all()


def tiff_with(tag: int, kind: int, count: int, value: int) -> bytes:
    """A gray TIFF with one tag's entry overwritten."""
    content = bytearray(encoded("TIFF"))
    start = struct.unpack("<I", content[4:8])[0]
    entries = range(start + 2, len(content) - 12, 12)
    at = next(entry for entry in entries if struct.unpack("<H", content[entry : entry + 2])[0] == tag)
    content[at : at + 12] = struct.pack("<HHII", tag, kind, count, value)
    return bytes(content)


def test_a_warning_of_the_decoder_that_costs_no_pixels_is_not_passed_on(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    planar_given_twice = tiff_with(284, 3, 2, 1 | 1 << 16)
    assert (gray_pixels(written(tmp_path, "film.tif", planar_given_twice)) == NOISE).all()
    assert not recwarn.list


def test_a_fact_that_lies_beyond_the_end_of_the_file_is_damage(tmp_path: Path) -> None:
    photometric_elsewhere = tiff_with(262, 3, 4, 1 << 20)
    assert "damaged" in refusal(written(tmp_path, "film.tif", photometric_elsewhere))


# --- what is refused -------------------------------------------------------------------------------------------------


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def refusal(source: object, **options: int) -> str:
    """The one sentence with which a source is refused."""
    with pytest.raises(InputError) as caught:
        open_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    assert message.endswith(".")
    if isinstance(source, str | Path):
        assert repr(str(source)) in message
    return message


def test_a_missing_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "film.png")
    assert "does not exist" in refusal(written(tmp_path, "film.png", b"x") / "below")


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000 + ".png"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    assert "does not exist" in refusal(name)


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_an_empty_name_is_no_folder() -> None:
    assert "No picture is named" in refusal_of_blank("")
    assert "No picture is named" in refusal_of_blank("  ")


def refusal_of_blank(name: str) -> str:
    with pytest.raises(InputError) as caught:
        open_image(name)
    return str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "film.png")
    assert "not a regular file" in refusal(tmp_path / "film.png")


def test_zero_bytes(tmp_path: Path) -> None:
    assert "empty (0 bytes)" in refusal(written(tmp_path, "film.png", b""))


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "film.png", b"x")

    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", locked)
    assert "permissions" in refusal(path)
    monkeypatch.setattr(Path, "stat", locked)
    assert "may not enter" in refusal(path)


def test_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "film.png", b"x")

    def failing(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", failing)
    assert "Input/output error" in refusal(path)


@pytest.mark.parametrize("address", ["https://example.org/film.png", "file:///film.png", "s3://bucket/film.png"])
def test_network_addresses_are_never_opened(address: str) -> None:
    assert "never opened" in refusal(address)


def encoded(kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(NOISE).save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_files(tmp_path: Path, kind: str, kept: float) -> None:
    content = encoded(kind)
    message = refusal(written(tmp_path, "film", content[: int(len(content) * kept)]))
    assert f"cut short or unusual {kind}" in message


WHOLE = {
    "PNG": encoded("PNG"),
    "JPEG": encoded("JPEG"),
    "JPEG in passes": encoded("JPEG", progressive=True),
    "TIFF": encoded("TIFF"),
    "TIFF, packed": encoded("TIFF", compression="tiff_lzw"),
    "BMP": encoded("BMP"),
    "WEBP": encoded("WEBP"),
}


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_file_is_refused_or_read_whole(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = WHOLE[kind]
    end = data.draw(st.integers(1, len(content)))
    whole = pixels(written(tmp_path, "whole", content))
    try:
        found = pixels(written(tmp_path, "cut", content[:end]))
    except InputError:
        return
    assert (found == whole).all()


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_never_raise_anything_but_an_input_error(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InputError):
        assert open_image(written(tmp_path, "film", bytes(content)), max_pixels=100_000).mode == "RGB"


def test_a_png_with_one_flipped_bit_is_refused(tmp_path: Path) -> None:
    content = bytearray(encoded("PNG"))
    content[len(content) // 2] ^= 1
    assert "damaged" in refusal(written(tmp_path, "film.png", bytes(content)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("film.png", b"This is a report.", "text, not a picture"),
        ("film.png", "Größe".encode() * 400, "text, not a picture"),
        ("film.svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG drawing"),
        ("film.png", b"GIF89a" + bytes(40), "GIF"),
        ("film.png", b"%PDF-1.7\n", "PDF"),
        ("film.jp2", b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
        ("film.heic", b"\x00\x00\x00\x18ftypheic", "HEIC"),
        ("film.png", b"PK\x03\x04" + bytes(40), "ZIP"),
        ("film.png", bytes(200), "no picture in a known format"),
        ("film", bytes(128) + b"DICM" + bytes(40), "no transfer syntax"),
        ("film.dcm", b"\x08\x00\x05\x00CS\x0a\x00\xff", "named like a DICOM file but is none"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    message = refusal(written(tmp_path, name, content))
    assert words in message
    assert "as PNG" in message


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    bomb = png(50_000, 50_000, 8, 0, b"")
    message = refusal(written(tmp_path, "film.png", bomb))
    assert "50000 × 50000" in message
    assert "64,000,000" in message
    assert "INPUT_LIMITS['image_pixels']" in message


def test_the_limit_of_pixels_is_inclusive_and_configurable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, "film.png", Image.fromarray(RAMP))
    assert open_image(path, max_pixels=12).size == (4, 3)
    for source in (path, Image.fromarray(RAMP), RAMP):
        assert "limit of 11" in refusal(source, max_pixels=11)
    monkeypatch.setitem(INPUT_LIMITS, "image_pixels", 11)
    assert "limit of 11" in refusal(path)


def test_a_raised_limit_is_not_undone_by_the_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, "film.png", Image.fromarray(RAMP))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    assert (gray_pixels(path) == RAMP).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_several_pictures_in_one_file(tmp_path: Path, kind: str) -> None:
    pages = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE), Image.fromarray(NOISE // 2)]
    content = io.BytesIO()
    pages[0].save(content, kind, save_all=True, append_images=pages[1:])
    message = refusal(written(tmp_path, "film", content.getvalue()))
    assert "animated or has several pages (3)" in message


def test_several_pictures_in_one_image_object() -> None:
    content = io.BytesIO()
    Image.fromarray(NOISE).save(content, "GIF", save_all=True, append_images=[Image.fromarray(255 - NOISE)])
    assert "several pages (2)" in refusal(Image.open(content))


def test_a_lazy_image_object_of_a_cut_file() -> None:
    content = encoded("PNG")
    assert "The image is a damaged" in refusal(Image.open(io.BytesIO(content[: len(content) // 2])))


def test_almost_black_16_bit_colour(tmp_path: Path) -> None:
    twelve_bits = np.random.default_rng(0).integers(0, 4096, (4, 4, 3)).astype(np.uint16)
    assert "16-bit" in refusal(written(tmp_path, "film.png", png_16_bit_colour(twelve_bits)))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[0.0, np.nan]]), "not finite"),
        (np.array([[0.0, np.inf]], np.float32), "not finite"),
        (np.array([[1j]]), "complex128"),
        (np.array([["a"]]), "<U1"),
        (np.zeros(5, np.uint8), r"shape (5,)"),
        (np.zeros((2, 2, 5), np.uint8), "shape (2, 2, 5)"),
        (np.zeros((1, 2, 2, 3), np.uint8), "shape (1, 2, 2, 3)"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros((2, 2, 4), np.uint16), "transparency in uint16"),
    ],
)
def test_arrays_that_are_no_picture(array: np.ndarray, words: str) -> None:
    assert words in refusal(array)


def test_a_float_tiff_with_nan(tmp_path: Path) -> None:
    path = saved(tmp_path, "film.tif", Image.fromarray(np.array([[0.5, np.nan]], np.float32)))
    assert "not finite" in refusal(path)


@pytest.mark.parametrize("thing", [None, 3, b"bytes", [1, 2]])
def test_other_things(thing: object) -> None:
    assert type(thing).__name__ in refusal(thing)


def test_only_dicom_files_take_another_rendering_by_what_they_hold_and_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    saved(tmp_path, "two.png", Image.fromarray(RAMP))
    made = Image.fromarray(RAMP)  # of a DICOM file, so that it stays as it was made
    cases = [
        Case("0", tmp_path / "IM0001", "?"),
        Case("1", tmp_path / "two.png", "?"),
        Case("2", tmp_path / "gone.dcm", "?", rendering="dicom-voi"),
        Case("3", tmp_path / "gone.png", "?"),
        Case("4", made, "?", rendering="dicom-voi"),
    ]
    found = rendered(cases, "mimic-jpg")
    assert [case.rendering for case in found] == ["mimic-jpg", None, "mimic-jpg", None, "dicom-voi"]
    assert rendered(cases, None) is cases
    for none in (cases[1:2], cases[3:]):
        with pytest.raises(InputError, match="none of these films is one"):
            rendered(none, "mimic-jpg")
