"""The command as a whole: help, lists, exit codes, streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medgemma_visualizer import verbs
from medgemma_visualizer.cli.output import printable
from medgemma_visualizer.heatmaps import METHODS
from medgemma_visualizer.models import devices
from tests.cli.conftest import Call

COMMANDS = ("analyze", "check", "trust", "methods", "models", "info")
COMMAND = (sys.executable, "-m", "medgemma_visualizer")


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_help_lists_the_commands(words: tuple[str, ...], call: Call) -> None:
    done = call(*words)
    assert (done.code, done.err) == (0, "")
    for command in COMMANDS:
        assert command in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, call: Call) -> None:
    done = call(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert command in done.out
    assert "--json" in done.out


def test_methods_are_listed_by_their_whole_names_in_eighty_columns(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = call("methods").out.splitlines()
    assert [line.split()[0] for line in lines if line.split()[0] in METHODS] == list(METHODS)
    assert "…" not in "".join(lines)
    told = " ".join(" ".join(lines).split())
    for entry in METHODS.values():
        assert f"{entry.label}: {entry.cost.split()[0]}" in told
    assert max(map(len, lines[:-1])) <= 80


def test_methods_as_json_say_all_that_a_method_declares(call: Call) -> None:
    listed = json.loads(call("methods", "--json").out)["methods"]
    assert [entry["name"] for entry in listed] == list(METHODS)
    keys = {"name", "label", "needs", "cost", "text_dependent", "signed", "paper", "options"}
    assert all(set(entry) == keys for entry in listed)


def test_models_and_info_tell_people_and_programs_the_same(call: Call) -> None:
    models = json.loads(call("models", "--json").out)
    assert {"demo", "google/medgemma-4b-it"} <= {model["name"] for model in models["models"]}
    assert models["architectures"] == ["Gemma3ForConditionalGeneration"]
    told = call("models").out
    assert all(model["name"] in told and model["needs"].split(";")[0] in told for model in models["models"])
    assert "51 GiB on a GPU in bfloat16, 27 in 8bit, 16 in 4bit" in told
    assert "none is split over several" in told
    info = json.loads(call("info", "--json").out)
    assert "cpu" in info["devices"]
    assert list(info["cuda"]) == ["CUDA", "triton", "bitsandbytes", "NVML"]
    told = call("info").out
    assert all(name in told for name in info["cuda"])
    assert all(name in told and number in told for name, number in info["versions"].items())


def test_info_says_what_each_card_is_and_has(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: [devices.Gpu(0, "RTX 4080", 14.62, 15.58, "8.9")])
    told = " ".join(call("info").out.split())
    assert "cuda:0 RTX 4080, 14.6 of 15.6 GiB free, compute capability 8.9" in told
    (card,) = json.loads(call("info", "--json").out)["gpus"]
    assert card == {"index": 0, "name": "RTX 4080", "free_gb": 14.62, "total_gb": 15.58, "capability": "8.9"}


def break_analyze(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(verbs, "analyze", fail)


@pytest.mark.usefixtures("answering")
def test_an_unexpected_error_is_one_line_and_exit_code_1(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    break_analyze(monkeypatch, RuntimeError("first line\nsecond \x1b[31mline"))
    done = call("analyze", "--out", "results")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(
        "Error: Unexpected error (RuntimeError: first line second \\x1b[31mline). Run again with"
    )
    assert done.err.count("\n") == 1


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize("words", [("--debug", "analyze"), ("analyze", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from medgemma_visualizer import cli

    break_analyze(monkeypatch, RuntimeError("the cause"))
    with pytest.raises(RuntimeError, match="the cause"):
        cli.main(list(words))


@pytest.mark.usefixtures("answering")
def test_stopping_is_said_in_one_word(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    break_analyze(monkeypatch, KeyboardInterrupt())
    done = call("analyze", "--out", "results")
    assert (done.code, done.out, done.err) == (130, "", "Stopped.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal for one process")
def test_the_interrupt_key_stops_the_command(tmp_path: Path) -> None:
    words = ("analyze", "--method", "rise", "--out", "results")
    with subprocess.Popen((*COMMAND, *words), cwd=tmp_path, stdout=-1, stderr=-1, text=True) as process:
        deadline = time.monotonic() + 60
        while not mapped(process.pid, "libtorch") and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "Stopped.\n")
    assert list(tmp_path.iterdir()) == []


def mapped(pid: int, library: str) -> bool:
    """Whether a process has loaded a library; where there is no such file, two seconds are enough."""
    maps = Path(f"/proc/{pid}/maps")
    if not maps.exists():
        time.sleep(2)
        return True
    return library in maps.read_text()


def test_a_reader_that_has_gone_gets_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run((*COMMAND, "models"), stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_output_that_cannot_be_written_is_told() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run((*COMMAND, "models"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: Standard output cannot be written to (No space left on device). Send it elsewhere.\n"


def test_a_terminal_that_knows_ascii_only_gets_valid_json_and_text(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    words = ("analyze", "-q", "Есть 🫁?", "--out", "results")
    told = subprocess.run((*COMMAND, *words), env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert told.stderr == b""  # no progress bar, no warning
    assert b"\\u0415\\u0441\\u0442\\u044c \\U0001fac1?" in told.stdout
    document = subprocess.run(
        (*COMMAND, *words, "--json"), env=environment, cwd=tmp_path, capture_output=True, check=True
    )
    assert json.loads(document.stdout)["case"]["question"] == "Есть 🫁?"
    assert document.stderr == b""


def library_noise() -> tuple[bool, bool, int]:
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging

    return logging.is_progress_bar_enabled(), are_progress_bars_disabled(), logging.get_verbosity()


def set_library_noise(bars: bool, hub_silent: bool, level: int) -> None:
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils import logging

    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
    if hub_silent:
        disable_progress_bars()
    logging.set_verbosity(level)


@pytest.mark.parametrize("noise", [(True, False, 30), (True, True, 20), (False, True, 40)])
def test_the_embedded_model_loads_in_silence_and_leaves_the_libraries_as_they_were(
    noise: tuple[bool, bool, int], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    before = library_noise()
    set_library_noise(*noise)
    try:
        verbs.load_model("demo", device="cpu")
        assert library_noise() == noise
    finally:
        set_library_noise(*before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("terminal", [True, False])
def test_other_models_show_their_progress_on_a_terminal_only(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from medgemma_visualizer.models.loading import demo_folder

    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    verbs.load_model(str(demo_folder()), device="cpu")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("Loading weights" in captured.err) is terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode, 🫁\n\tand lines", "plain, ünïcode, 🫁\n\tand lines"),
        ("👩‍⚕️ נוזל", "👩‍⚕️ נוזל"),
        ("\x1b[31m\x00\x7f\x9b\r", "\\x1b[31m\\x00\\x7f\\x9b\\r"),
        ("\u202eabc\u2066\ud800", "\\u202eabc\\u2066\\ud800"),
    ],
)
def test_only_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
