"""`app` refuses what cannot be opened before any weights are loaded. The page itself: tests/app and tests/browser."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medgemma_visualizer import verbs
from medgemma_visualizer.app import serve
from medgemma_visualizer.models import devices
from medgemma_visualizer.models.devices import Gpu
from tests.cli.conftest import Call


def loaded(name: str = "demo", device: str = "cpu", revision: str = "0123", **_: Any) -> Any:
    """What is shown of a model before the page is opened."""
    return SimpleNamespace(name=name, device=torch.device(device), dtype=torch.bfloat16, revision=revision)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--host", "0.0.0.0"), "Add --auth FILE"),
        (("--host", "192.0.2.7"), "lets other machines in"),
        (("--auth", "no-such-file"), "no-such-file"),
        (("--gpu", "1", "--device", "cpu"), "contradict"),
        (("--device", "cpu,cuda:77"), "'cuda:77' is not on this machine"),
        (("--cases", "no-such-set"), "no-such-set"),
        (("--port", "70000"), "65535"),
    ],
)
def test_what_cannot_be_opened_is_refused_before_a_model_is_loaded(
    call: Call, unloadable: None, options: tuple[str, ...], complaint: str
) -> None:
    done = call("app", *options)
    assert done.code == 2
    assert complaint in done.err
    assert done.err.count("\n") == 1


def test_the_page_gets_model_cases_and_who_may_enter(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {}
    model = loaded()
    monkeypatch.setattr(verbs, "load_model", lambda name, **how: given.update(name=name, **how) or model)
    monkeypatch.setattr(serve, "serve", lambda *told, cases, others, say: given.update(told=told, cases=cases))
    file = tmp_path / "let-in"
    file.write_text("ann:secret\n", encoding="utf-8")
    done = call("app", "--host", "0.0.0.0", "--auth", str(file), "--port", "0", "--gpu", "2", "--min-memory", "15")
    assert done.code == 0, done.err
    assert given["told"] == (model, "0.0.0.0", 0, [("ann", "secret")])
    assert (given["name"], given["device"], given["min_free_gb"]) == ("demo", "cuda:2", 15)
    assert len(given["cases"]) > 100


def test_a_file_of_passwords_that_others_can_read_is_warned_of_and_the_page_opens(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verbs, "load_model", lambda name, **how: loaded())
    monkeypatch.setattr(serve, "serve", lambda *told, **rest: None)
    file = tmp_path / "let-in"
    file.write_text("ann:secret\n", encoding="utf-8")
    file.chmod(0o644)
    told = call("app", "--auth", str(file))
    assert (told.code, told.out.startswith("Warning"), "secret" in told.out) == (0, True, False)
    file.chmod(0o600)
    assert "Warning" not in call("app", "--auth", str(file)).out


def test_a_model_is_loaded_on_each_device_and_the_page_says_where(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(verbs, "load_model", lambda name, **how: given.append(how["device"]) or loaded(name))
    monkeypatch.setattr(serve, "serve", lambda *told, others, say, **rest: say(f"Open: {1 + len(others)}"))
    for device, places in (("cpu,cpu", ["cpu", "cpu"]), ("auto", ["auto"]), ("cpu, cpu,cpu", ["cpu"] * 3)):
        given.clear()
        done = call("app", "--device", device)
        assert done.code == 0, done.err
        assert given == places
        where = ", ".join(["cpu"] * len(places))
        assert done.out.splitlines() == [f"Model     demo, bfloat16, on {where}", f"Open: {len(places)}"]


def test_all_takes_the_cards_that_hold_what_is_asked_for(
    call: Call, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = "google/medgemma-4b-it"
    monkeypatch.setattr(devices, "gpus", lambda: [Gpu(n, "a card", free, 80) for n, free in enumerate((14.6, 70, 7))])
    monkeypatch.setattr(verbs, "load_model", lambda name, **how: loaded(name, how["device"], "01+8bit"))
    monkeypatch.setattr(serve, "serve", lambda *told, **rest: None)
    done = call("app", "--model", name, "--device", "all")
    assert done.out == f"Model     {name}, bfloat16 with weights in 8bit, on cuda:1\n"
    assert sum("it is left out" in line for line in caplog.messages) == 2
    done = call("app", "--model", name, "--device", "all", "--max-memory", "14")
    assert done.out.endswith(" on cuda:0, cuda:1\n")
    done = call("app", "--model", name, "--device", "all", "--quantize", "8bit")
    assert done.out.endswith(" on cuda:0, cuda:1, cuda:2\n")
