"""What cannot be used is refused in one message, before a model is loaded, and nothing is left behind."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgemma_visualizer.models.loading import demo_folder
from tests.cli.conftest import QUESTION, Call, Done, everything_in


def assert_refused(done: Done, *said: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error that says all this."""
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: ")
    assert done.err.rstrip("\n").endswith((".", "?"))
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    for words in said:
        assert words in done.err


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    noise().save(buffer, kind, **options)
    return buffer.getvalue()


def animated(kind: str) -> bytes:
    frames = [Image.new("L", (8, 8), level).convert("RGB") for level in (0, 120, 250)]
    return encoded_frames(frames, kind)


def encoded_frames(frames: list[Image.Image], kind: str) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it holds 30,000 × 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(30_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


IMAGES: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "zero_bytes.png": (lambda: b"", ("0 bytes", "export or download it again")),
    "truncated.png": (lambda: encoded("PNG")[:-400], ("cut short", "export it again")),
    "truncated.jpg": (lambda: encoded("JPEG")[:-400], ("cut short", "export it again")),
    "text.png": (lambda: b"Findings: none.\n", ("text, not a picture", "export the picture as PNG")),
    "bomb.png": (bomb, ("30000 × 30000", "over the limit", "shrink it")),
    "animated.png": (lambda: animated("PNG"), ("animated or has several pages (3)", "save the one")),
    "animated.webp": (lambda: animated("WEBP"), ("animated or has several pages (3)", "save the one")),
    "pages.tif": (lambda: animated("TIFF"), ("animated or has several pages (3)", "save the one")),
    "animated.gif": (lambda: animated("GIF"), ("GIF", "export the picture as PNG")),
}


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize("name", IMAGES)
def test_a_file_that_is_no_whole_single_picture_is_refused(name: str, call: Call, tmp_path: Path) -> None:
    content, said = IMAGES[name]
    (tmp_path / name).write_bytes(content())
    before = everything_in(tmp_path)
    assert_refused(call("analyze", name, "-q", QUESTION, "--out", "results"), repr(name), *said)
    assert everything_in(tmp_path) == before


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere.png", "does not exist; check the path"), (".", "is a folder; name one picture")],
)
def test_a_path_without_a_picture_is_refused(name: str, said: str, call: Call, tmp_path: Path) -> None:
    assert_refused(call("analyze", name, "-q", QUESTION, "--out", "results"), said)
    assert everything_in(tmp_path) == {}


@pytest.mark.usefixtures("unloadable")
def test_the_largest_picture_is_a_matter_of_choice(call: Call, tmp_path: Path) -> None:
    noise().save(tmp_path / "film.png")
    done = call("analyze", "film.png", "-q", QUESTION, "--max-pixels", "4095", "--out", "results")
    assert_refused(done, "'film.png'", "64 × 64", "limit of 4,095")


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-q", ""], ["The question is empty; type one"]),
        (["-q", " \n\t "], ["The question is empty; type one"]),
        (["-q", "\u200b\u2060"], ["The question is empty; type one"]),
        (["-q", "x" * 1001], ["The question has 1,001 characters", "limit of 1,000", "shorten it"]),
        (["-q", "Is \x1b[31mit\x1b[0m red?"], ["control character U+001B", "remove it"]),
        (["--target", "one two three four five six"], ["'one two three four five six'", "6 words", "limit of 5"]),
        (["--target", " "], ["The target is empty; type one"]),
        (["--method", "cross_atention"], ["'cross_atention'", "Did you mean 'cross_attention'?"]),
        (["--model", "demmo"], ["'demmo'", "Did you mean 'demo'?"]),
        (["--model", ""], ["Unknown model ''", "Known: demo"]),
        (["--model", "./nowhere"], ["'./nowhere' does not exist", "Check the path"]),
        (["--device", "cpuu"], ["'cpuu'", "Did you mean 'cpu'?"]),
        (["--device", "cuda:99"], ["'cuda:99' is not on this machine", "Use one of: auto"]),
        (["--dtype", "bfloat61"], ["'bfloat61'", "Did you mean 'bfloat16'?"]),
        (["--dtype", "float16"], ["float16 is refused", "Use 'bfloat16' or 'float32'"]),
        (["--colormap", "infreno"], ["'infreno'", "Did you mean 'inferno'?"]),
        (["--layers", "first"], ["--layers 'first'", "such as '0,2'"]),
        (["--heads", "0,,1"], ["--heads '0,,1'", "such as '0,2'"]),
        (["--case", "99999"], ["no embedded case 99999", "0 to "]),
        (["--case", "nonsense"], ["'nonsense'", "from 0 to"]),
        (["--max-pixels", "many"], ["--max-pixels", "See `medgemma-visualizer analyze --help`"]),
        (["--max-new-tokens", "0"], ["--max-new-tokens", "See `medgemma-visualizer analyze --help`"]),
        (["--methd", "rise"], ["--methd", "--method", "See `medgemma-visualizer analyze --help`"]),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_unusable_words_are_refused_with_the_next_step(
    options: list[str], said: list[str], call: Call, tmp_path: Path
) -> None:
    assert_refused(call("analyze", *options, "--out", "results"), *said)
    assert everything_in(tmp_path) == {}


@pytest.mark.usefixtures("unloadable")
def test_a_picture_without_a_question_and_a_picture_beside_a_case_are_refused(call: Call, film: str) -> None:
    assert_refused(call("analyze", film, "--out", "results"), repr(film), "Add --question")
    assert_refused(call("analyze", film, "-q", QUESTION, "--case", "1"), "image or --case, not both")


def test_an_unknown_command_is_refused(call: Call) -> None:
    assert_refused(call("analyse"), "'analyse'", "See `medgemma-visualizer --help`")


def _file(folder: Path) -> str:
    (folder / "taken").write_text("mine")
    return "taken"


def _below_a_file(folder: Path) -> str:
    return f"{_file(folder)}/results"


def _link_to_nowhere(folder: Path) -> str:
    (folder / "link").symlink_to(folder / "nowhere")
    return "link"


def _file_name_taken_by_a_folder(folder: Path) -> str:
    (folder / "results" / "result.json").mkdir(parents=True)
    return "results"


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize(
    "make",
    [_file, _below_a_file, _link_to_nowhere, _file_name_taken_by_a_folder, lambda _: "x" * 300],
    ids=["a file", "below a file", "a link to nowhere", "a folder where a result goes", "a name too long"],
)
def test_an_out_that_cannot_hold_results_is_refused(make: Callable[[Path], str], call: Call, tmp_path: Path) -> None:
    out = make(tmp_path)
    before = everything_in(tmp_path)
    assert_refused(call("analyze", "--out", out), f"--out {out!r}", "Give a")
    assert everything_in(tmp_path) == before


@pytest.mark.usefixtures("unloadable")
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="only Linux has a folder that nobody can write to")
@pytest.mark.parametrize("out", ["/proc/results", "/proc/self/results/deeper"])
def test_an_out_on_a_read_only_place_is_refused_even_for_root(out: str, call: Call) -> None:
    assert_refused(call("analyze", "--out", out), f"--out {out!r} cannot be written to", "Give another folder")


@pytest.mark.usefixtures("unloadable")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_an_out_without_permission_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert_refused(call("analyze", "--out", "locked"), "'locked' cannot be written to", "Give another folder")


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _with_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _of_another_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlavaForConditionalGeneration"]}))


def _with_a_broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without_weights, ["holds no *.safetensors", "Download its weights"]),
        (_with_a_pickle, ["pickled weights (pytorch_model.bin)", "Convert them to safetensors"]),
        (_of_another_architecture, ["LlavaForConditionalGeneration", "Supported: Gemma3ForConditionalGeneration"]),
        (_with_a_broken_config, ["config.json' is not valid JSON", "Download or save the model again"]),
    ],
)
def test_a_folder_that_is_no_safe_model_is_refused(
    spoil: Callable[[Path], None], said: list[str], call: Call, tmp_path: Path
) -> None:
    shutil.copytree(demo_folder(), tmp_path / "model")
    spoil(tmp_path / "model")
    before = everything_in(tmp_path)
    assert_refused(call("analyze", "--model", "./model", "--out", "results"), "model", *said)
    assert everything_in(tmp_path) == before


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "cross_attention", "--layers", "99"], "99"),
        (["--method", "cross_attention", "--heads", "99"], "99"),
        (["--target", "word:giraffe"], "giraffe"),
        (["--method", "rise", "--layers", "0"], "layers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_only_the_model_can_refuse_is_refused_as_clearly(
    options: list[str], said: str, call: Call, tmp_path: Path
) -> None:
    assert_refused(call("analyze", *options, "--out", "results"), said)
    assert everything_in(tmp_path) == {}


def test_the_installed_command_refuses_in_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no film")
    words = ["analyze", "text.png", "-q", QUESTION, "--out", "results", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "medgemma_visualizer", *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert_refused(Done(done.returncode, done.stdout, done.stderr), "'text.png'", "text, not a picture")
    assert list(everything_in(tmp_path)) == ["text.png"]
